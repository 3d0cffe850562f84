# SPDX-License-Identifier: BSD-2-Clause
"""Default timeouts of commands, and deadlines.

If a timeout is too long, one stopped QEMU blocks the listing of a whole node. If it is too short, it aborts healthy
work. The defaults therefore depend on the work of a command: each command belongs to a timeout class. A caller can
override them for a connection or for one call.

In the public API `None` as a timeout means the default, and `math.inf` means no limit.
"""

from __future__ import annotations

import math
import time
from typing import Any, Final, NamedTuple

from hvkit.errors import ProgrammerError


class TimeoutClass(NamedTuple):
    """The time limits of a group of commands.

    Attributes:
        timeout_s: seconds to wait for the reply.
        slow_s: seconds after which a reply is logged as slow, with level WARNING.
    """

    timeout_s: float
    slow_s: float


#: Commands that only read or change the memory of QEMU: all commands that are not named below.
QUICK: Final = TimeoutClass(5.0, 1.0)
#: Commands that wait for block devices, or start and stop them.
BLOCK: Final = TimeoutClass(60.0, 10.0)
#: Commands that process a whole device and reply at the end.
HEAVY: Final = TimeoutClass(600.0, 60.0)
#: Commands that process the whole memory of the guest: the duration depends on its size, so there is no default limit.
UNLIMITED: Final = TimeoutClass(math.inf, math.inf)

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
_UNLIMITED = (
    "dump-guest-memory",
    "memsave",
    "pmemsave",
)

#: Commands of the guest agent that access the disks of the guest or start programs there.
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
#: Commands of the guest agent that flush or scan whole filesystems.
_AGENT_HEAVY = (
    "guest-fsfreeze-freeze",
    "guest-fsfreeze-freeze-list",
    "guest-fstrim",
)

#: The longest timeout of poll(2) and epoll_wait(2) in seconds, about 25 days: they take an int of milliseconds.
LONGEST_POLL_S: Final = (2**31 - 1) // 1000

#: Timeout classes by wire name, for all commands that are not `QUICK`; includes commands of the guest agent.
TIMEOUT_CLASSES: Final[dict[str, TimeoutClass]] = {
    **dict.fromkeys(_BLOCK + _AGENT_BLOCK, BLOCK),
    **dict.fromkeys(_HEAVY + _AGENT_HEAVY, HEAVY),
    **dict.fromkeys(_UNLIMITED, UNLIMITED),
}


def timeout_class_of(command: str) -> TimeoutClass:
    """Return the timeout class of a command, by its wire name."""
    return TIMEOUT_CLASSES.get(command, QUICK)


def check_timeout(timeout: Any) -> None:
    """Check that a timeout is a number of seconds: 0 or less for not waiting, `math.inf` for no limit.

    Raises:
        ProgrammerError: it is not an int or a float, it is NaN, or it is an int beyond the range of a float.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise ProgrammerError(f"timeout must be a number of seconds, not {timeout!r}")
    try:
        is_nan = math.isnan(timeout)
    except OverflowError:
        raise ProgrammerError("timeout is too large; math.inf means no limit") from None
    if is_nan:
        raise ProgrammerError("timeout must be a number of seconds, not NaN")


def to_poll_ms(timeout_s: float) -> int | None:
    """Return a timeout in milliseconds for `select.poll`; None, for no limit, if it is longer than poll(2) accepts."""
    return None if timeout_s > LONGEST_POLL_S else max(math.ceil(timeout_s * 1000), 0)


class Deadline:
    """A point in time at which a wait ends.

    Args:
        timeout_s: seconds from now; `math.inf` for no limit.
    """

    __slots__ = ("_start_s", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._start_s = time.monotonic()

    def sooner(self, timeout_s: float) -> Deadline:
        """Return a deadline that many seconds from now, but not later than this one."""
        return Deadline(min(timeout_s, self.remaining_s()))

    def elapsed_s(self) -> float:
        """Return the seconds since the deadline was set."""
        return time.monotonic() - self._start_s

    def remaining_s(self) -> float:
        """Return the seconds that are left; 0 after the deadline."""
        left_s = self.timeout_s - (time.monotonic() - self._start_s)
        return left_s if left_s > 0.0 else 0.0  # faster than max()
