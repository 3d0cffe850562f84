# SPDX-License-Identifier: BSD-2-Clause
"""The polling loop for conditions that have no event to wait for."""

import time
from collections.abc import Callable
from typing import TypeVar

from hvkit.qmp.deadlines import Deadline

T = TypeVar("T")


def poll_until(
    predicate: Callable[[], T | None],
    deadline: Deadline,
    *,
    interval_s: float,
    wait: Callable[[float], object] = time.sleep,
) -> T | None:
    """Call a predicate until it returns a result.

    The predicate is called at least once, and once more after the last wait, so that a result that arrives during that
    wait is found.

    Args:
        predicate: returns the result; None or False while there is none. Its exceptions end the loop.
        deadline: when to give up.
        interval_s: seconds between two calls.
        wait: waits for a number of seconds; it may return early. An exception that it raises ends the loop.

    Returns:
        The first result that is neither None nor False; None if there is none at the deadline.
    """
    while True:
        result = predicate()
        if result is not None and result is not False:
            return result
        remaining_s = deadline.remaining_s()
        if remaining_s <= 0:
            return None
        wait(min(interval_s, remaining_s))
