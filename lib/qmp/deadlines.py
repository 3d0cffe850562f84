# SPDX-License-Identifier: BSD-2-Clause
"""How long each command may take, as data.

A deadline too long hangs a node's listing on one stopped machine; one too short kills healthy work. What
a command does decides, so commands are sorted into classes here, and a caller can override any of it: for a connection
or for one call.
"""

from __future__ import annotations

import math
import time
from typing import Final

#: Seconds for commands that only look at or change what QEMU has in memory: all that are not named below.
QUICK_S: Final = 5.0
#: Seconds for commands that wait for block devices or start and stop them.
BLOCK_S: Final = 60.0
#: Seconds for commands that move memory or disks and answer when they are done.
HEAVY_S: Final = 600.0

_BLOCK = (
    "block-dirty-bitmap-add",
    "block-dirty-bitmap-merge",
    "block-dirty-bitmap-remove",
    "block-export-add",
    "block-export-del",
    "block-job-cancel",
    "block-job-complete",
    "block_resize",
    "blockdev-add",
    "blockdev-backup",
    "blockdev-change-medium",
    "blockdev-close-tray",
    "blockdev-del",
    "blockdev-insert-medium",
    "blockdev-mirror",
    "blockdev-open-tray",
    "blockdev-remove-medium",
    "blockdev-reopen",
    "blockdev-set-active",
    "blockdev-snapshot",
    "blockdev-snapshot-sync",
    "change-backing-file",
    "cont",
    "device_add",
    "drive-backup",
    "drive-mirror",
    "eject",
    "job-complete",
    "migrate-continue",
    "nbd-server-add",
    "nbd-server-remove",
    "nbd-server-stop",
    "object-add",
    "query-block",
    "query-blockstats",
    "query-named-block-nodes",
    "quit",
    "stop",
    "system_reset",
    "transaction",
)
_HEAVY = (
    "blockdev-snapshot-delete-internal-sync",
    "blockdev-snapshot-internal-sync",
    "dump-guest-memory",
    "human-monitor-command",
    "memsave",
    "pmemsave",
    "screendump",
    "xen-load-devices-state",
    "xen-save-devices-state",
)

#: Deadlines in seconds of the commands that are not quick.
DEADLINES: Final[dict[str, float]] = {**dict.fromkeys(_BLOCK, BLOCK_S), **dict.fromkeys(_HEAVY, HEAVY_S)}


def deadline_for(command: str) -> float:
    """Return how many seconds a command may take."""
    return DEADLINES.get(command, QUICK_S)


class Deadline:
    """A moment after which nobody waits any more.

    Args:
        timeout_s: seconds from now; `math.inf` for no end.
    """

    __slots__ = ("_end", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end = math.inf if timeout_s == math.inf else time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """Return the seconds that are left; 0 or less where there are none."""
        return self._end - time.monotonic()
