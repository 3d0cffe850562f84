# SPDX-License-Identifier: BSD-2-Clause
"""Look at all instances again and again, and see what changes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from hvkit.errors import ProgrammerError
from hvkit.hypervisor.model import check_timeout
from hvkit.hypervisor.model.reports import InstanceChange, InstanceInfo

#: Seconds between two looks of one who waits, where nothing tells earlier that there is something to see.
INTERVAL_S: Final = 1.0


class InstanceWatch:
    """Looks at all instances of a hypervisor, as often as asked; made by `BaseHypervisor.watching`.

    For one thread at a time. Close it, or use it as a context manager; the instances run on.

    Args:
        look: returns what every instance is doing.
    """

    def __init__(self, look: Callable[[], list[InstanceInfo]]) -> None:
        self._look = look
        self._is_closed = False
        #: What was returned of each instance last.
        self._seen: dict[str, InstanceInfo] = {}

    def look(self) -> list[InstanceInfo]:
        """Return what every instance is doing, as `BaseHypervisor.get_all_instances_info` does.

        Raises:
            ProgrammerError: the watch is closed.
            HypervisorError: as for `get_all_instances_info`.
        """
        if self._is_closed:
            raise ProgrammerError("the watch is closed")
        infos = self._look()
        self._seen = {info.name: info for info in infos}
        return infos

    def wait(self, timeout: float | None = None) -> list[InstanceChange]:
        """Wait until an instance is not what it was when last looked at, and return what changed, in order of names.

        What a look or a wait returned is known, and no change any more; so the first wait of a watch that has not
        looked returns at once where there is any instance. One that changed twice meanwhile has changed once, and one
        that is what it was has not.

        Args:
            timeout: seconds to wait, finite and not negative; None waits for ever.

        Returns:
            The changes; empty where none came in time.

        Raises:
            ParameterError: nobody can wait for that long.
            ProgrammerError: the watch is closed.
            HypervisorError: as for `get_all_instances_info`.
        """
        timeout = check_timeout(timeout)
        end_s = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            before = self._seen
            self.look()
            changes = _compare(before, self._seen)
            remaining_s = end_s - time.monotonic()
            if changes or remaining_s <= 0:
                return changes
            self._rest(min(remaining_s, INTERVAL_S))

    def _rest(self, timeout_s: float) -> None:
        """Wait until there may be something to see, at most for some seconds."""
        time.sleep(timeout_s)

    def close(self) -> None:
        """Let go of everything. Closing again does nothing."""
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
