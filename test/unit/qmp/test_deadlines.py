# SPDX-License-Identifier: BSD-2-Clause
"""Timeout classes, and the check of timeouts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import deadlines, schema


def test_timeout_classes_name_existing_commands() -> None:
    assert set(deadlines.TIMEOUT_CLASSES) <= {*schema.commands(), *schema.agent_commands()}
    assert deadlines.timeout_class_of("guest-ping") is deadlines.QUICK
    assert deadlines.timeout_class_of("guest-exec") is deadlines.BLOCK
    assert deadlines.timeout_class_of("guest-fstrim") is deadlines.HEAVY
    assert deadlines.timeout_class_of("query-status") is deadlines.QUICK
    assert deadlines.timeout_class_of("blockdev-add") is deadlines.BLOCK
    assert deadlines.timeout_class_of("dump-guest-memory") is deadlines.UNLIMITED
    assert deadlines.timeout_class_of("newer-than-we") is deadlines.QUICK


@pytest.mark.parametrize("timeout", [0, -1, 5, 0.5, math.inf])
def test_check_timeout_accepts_numbers(timeout: float) -> None:
    deadlines.check_timeout(timeout)


@pytest.mark.parametrize("timeout", ["5", b"5", True, None, [5], 1j, math.nan])
def test_check_timeout_rejects_anything_else(timeout: Any) -> None:
    with pytest.raises(ProgrammerError, match="timeout must be a number of seconds"):
        deadlines.check_timeout(timeout)


def test_check_timeout_rejects_int_beyond_range_of_float() -> None:
    with pytest.raises(ProgrammerError, match="timeout is too large"):
        deadlines.check_timeout(10**400)


@pytest.mark.parametrize("timeout_s", [2**31 / 1000, 1e9, 2**63, math.inf])
def test_timeout_longer_than_poll_accepts_becomes_no_limit(timeout_s: float) -> None:
    assert deadlines.to_poll_ms(timeout_s) is None


@pytest.mark.parametrize(("timeout_s", "poll_ms"), [(-1, 0), (0, 0), (0.0001, 1), (2, 2000), (2147483, 2147483000)])
def test_timeout_is_rounded_up_to_milliseconds(timeout_s: float, poll_ms: int) -> None:
    assert deadlines.to_poll_ms(timeout_s) == poll_ms
