# SPDX-License-Identifier: BSD-2-Clause
"""How long each command may take, as data.

A deadline too long hangs a node's listing on one stopped machine; one too short kills healthy work. What a command does
decides, so commands are sorted into paces here, and a caller can override any of it: for a connection or for one call.
"""

from __future__ import annotations

import math
import time
from typing import Final, NamedTuple


class Pace(NamedTuple):
    """How long a command may take.

    Attributes:
        timeout_s: seconds until whoever waits for the reply gives up.
        slow_s: seconds after which a reply that did come is worth a warning in the log.
    """

    timeout_s: float
    slow_s: float


#: Commands that only look at or change what QEMU has in memory: all that are not named below.
QUICK: Final = Pace(5.0, 1.0)
#: Commands that wait for block devices, or start and stop them.
BLOCK: Final = Pace(60.0, 10.0)
#: Commands that work through a whole device, and answer when they are done.
HEAVY: Final = Pace(600.0, 60.0)
#: Commands that work through all of the guest's memory: nobody knows how long that takes but who asked for it.
ENDLESS: Final = Pace(math.inf, math.inf)

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
    "human-monitor-command",
    "screendump",
    "xen-load-devices-state",
    "xen-save-devices-state",
)
_ENDLESS = (
    "dump-guest-memory",
    "memsave",
    "pmemsave",
)

#: Commands of the guest agent that work with the guest's disks, or start programs there.
_AGENT_BLOCK = (
    "guest-exec",
    "guest-file-close",
    "guest-file-flush",
    "guest-file-open",
    "guest-file-read",
    "guest-file-seek",
    "guest-file-write",
    "guest-fsfreeze-thaw",
    "guest-get-disks",
    "guest-get-diskstats",
    "guest-get-fsinfo",
    "guest-set-memory-blocks",
    "guest-set-time",
    "guest-set-user-password",
    "guest-set-vcpus",
    "guest-ssh-add-authorized-keys",
    "guest-ssh-get-authorized-keys",
    "guest-ssh-remove-authorized-keys",
)
#: Commands of the guest agent that write out, or look through, whole filesystems.
_AGENT_HEAVY = (
    "guest-fsfreeze-freeze",
    "guest-fsfreeze-freeze-list",
    "guest-fstrim",
)

#: The commands that are not quick, those of the guest agent included.
PACES: Final[dict[str, Pace]] = {
    **dict.fromkeys(_BLOCK + _AGENT_BLOCK, BLOCK),
    **dict.fromkeys(_HEAVY + _AGENT_HEAVY, HEAVY),
    **dict.fromkeys(_ENDLESS, ENDLESS),
}


def pace_of(command: str) -> Pace:
    """Return how long a command may take, by its wire name."""
    return PACES.get(command, QUICK)


class Deadline:
    """A moment after which nobody waits any more.

    Args:
        timeout_s: seconds from now; `math.inf` for no end.
    """

    __slots__ = ("_start_s", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._start_s = time.monotonic()

    def sooner(self, timeout_s: float) -> Deadline:
        """Return a deadline that many seconds from now, but not after this one."""
        return Deadline(min(timeout_s, self.remaining_s()))

    def elapsed_s(self) -> float:
        """Return the seconds since it was set."""
        return time.monotonic() - self._start_s

    def remaining_s(self) -> float:
        """Return the seconds that are left; 0 or less where there are none."""
        return self.timeout_s - (time.monotonic() - self._start_s)
