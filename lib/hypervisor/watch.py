# SPDX-License-Identifier: BSD-2-Clause
"""The watch: queries all instances repeatedly, and reports changes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from hvkit.errors import ProgrammerError
from hvkit.hypervisor.model import check_timeout
from hvkit.hypervisor.model.reports import InstanceChange, InstanceInfo

#: Seconds between two queries of `InstanceWatch.wait`, unless an event triggers one earlier.
INTERVAL_S: Final = 1.0


class InstanceWatch:
    """Queries all instances of a hypervisor repeatedly; made by `BaseHypervisor.watch`.

    Not thread-safe. Close it, or use it as a context manager; the instances are not affected.

    Args:
        query_all: returns the state of every instance.
    """

    def __init__(self, query_all: Callable[[], list[InstanceInfo]]) -> None:
        self._query_all = query_all
        self._is_closed = False
        #: The result of the last query, by instance.
        self._last: dict[str, InstanceInfo] = {}

    def query(self) -> list[InstanceInfo]:
        """Return the state of every instance, as `BaseHypervisor.get_all_instances_info` does.

        Raises:
            ProgrammerError: the watch is closed.
            HypervisorError: as for `get_all_instances_info`.
        """
        if self._is_closed:
            raise ProgrammerError("the watch is closed")
        infos = self._query_all()
        self._last = {info.name: info for info in infos}
        return infos

    def wait(self, timeout: float | None = None) -> list[InstanceChange]:
        """Wait until the state of an instance differs from the last query, and return the changes, sorted by name.

        The last query is the last call of `query` or `wait`. If there was none, `wait` returns at once if there is any
        instance. Two changes of one instance are reported as one; a change that was reverted is not reported.

        Args:
            timeout: seconds to wait; None: no limit.

        Returns:
            The changes; empty if the timeout passed.

        Raises:
            ParameterError: the timeout is negative.
            ProgrammerError: the watch is closed.
            HypervisorError: as for `get_all_instances_info`.
        """
        end_s = time.monotonic() + check_timeout(timeout, default_s=math.inf)
        while True:
            before = self._last
            self.query()
            changes = _compare(before, self._last)
            remaining_s = end_s - time.monotonic()
            if changes or remaining_s <= 0:
                return changes
            self._wait_for_event(min(remaining_s, INTERVAL_S))

    def _wait_for_event(self, timeout_s: float) -> None:
        """Wait until an instance may have changed, for at most `timeout_s` seconds."""
        time.sleep(timeout_s)

    def close(self) -> None:
        """Release all connections. A second call does nothing."""
        self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _compare(before: dict[str, InstanceInfo], after: dict[str, InstanceInfo]) -> list[InstanceChange]:
    return [
        InstanceChange(name=name, before=before.get(name), after=after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
