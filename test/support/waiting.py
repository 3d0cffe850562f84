# SPDX-License-Identifier: BSD-2-Clause
"""Waiting for conditions that have no event."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from hvkit.hypervisor.kvm.host.polling import poll_until
from hvkit.qmp.deadlines import Deadline

T = TypeVar("T")


def wait_for(
    read: Callable[[], T], accepts: Callable[[T], object] = bool, *, timeout_s: float = 30.0, interval_s: float = 0.02
) -> T:
    """Call a function until it returns an accepted value; fail the test with the last value at the timeout.

    Args:
        read: returns a value. Its exceptions end the loop.
        accepts: tells whether a value is the expected one; by default, whether it is true.
        timeout_s: seconds until the test fails.
        interval_s: seconds between two calls.

    Returns:
        The accepted value.
    """
    last: list[T] = []

    def is_accepted() -> bool:
        last[:] = [read()]
        return bool(accepts(last[0]))

    if not poll_until(is_accepted, Deadline(timeout_s), interval_s=interval_s):
        pytest.fail(f"not reached within {timeout_s:g} s; the last value is {last[0]!r}")
    return last[0]
