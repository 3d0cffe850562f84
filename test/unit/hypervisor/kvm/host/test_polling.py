# SPDX-License-Identifier: BSD-2-Clause
"""`poll_until` with a recorded wait."""

import math
import time
from collections.abc import Callable

import pytest

from hvkit.hypervisor.kvm.host.polling import poll_until
from hvkit.qmp.deadlines import Deadline


def returning(*results: object) -> Callable[[], object]:
    """Make a predicate that returns these results, one at each call."""
    iterator = iter(results)
    return lambda: next(iterator)


def test_poll_until_returns_the_first_result_without_waiting() -> None:
    waits: list[float] = []
    assert poll_until(returning("found"), Deadline(10), interval_s=1, wait=waits.append) == "found"
    assert waits == []


@pytest.mark.parametrize("result", [0, "", (), True])
def test_poll_until_skips_only_none_and_false(result: object) -> None:
    waits: list[float] = []
    predicate = returning(None, False, result)
    assert poll_until(predicate, Deadline(math.inf), interval_s=0.5, wait=waits.append) is result
    assert waits == [0.5, 0.5]


def test_poll_until_calls_the_predicate_once_after_the_deadline() -> None:
    waits: list[float] = []
    assert poll_until(returning(None), Deadline(0), interval_s=1, wait=waits.append) is None
    assert waits == []
    assert poll_until(returning("found"), Deadline(-1), interval_s=1, wait=waits.append) == "found"


def test_poll_until_waits_until_the_deadline_and_calls_the_predicate_once_more() -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(seconds)

    assert poll_until(returning(None, "found"), Deadline(0.01), interval_s=60, wait=wait) == "found"
    assert len(waits) == 1
    assert waits[0] <= 0.01


def test_poll_until_passes_exceptions_of_predicate_and_wait() -> None:
    def fail(*_: object) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        poll_until(fail, Deadline(1), interval_s=0)
    with pytest.raises(KeyError):
        poll_until(returning(None), Deadline(1), interval_s=0, wait=fail)
