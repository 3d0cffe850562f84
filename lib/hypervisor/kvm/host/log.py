# SPDX-License-Identifier: BSD-2-Clause
"""The log of a QEMU: trimmed to a maximum size, and parsed for the cause of its end.

The command line enables a trace event that logs each shutdown request and its cause. So the cause is known after QEMU
has ended, even if no client received the event, and even if QEMU is confined and has no pid file.
"""

import contextlib
import fcntl
import os
import re
from pathlib import Path
from typing import Final, get_args

import attrs

from hvkit.hypervisor.kvm.plan.command_line import SHUTDOWN_TRACE
from hvkit.hypervisor.model import StopCause
from hvkit.qmp.schema import ShutdownCause

#: The size above which a log is trimmed, and the size that it is trimmed to, in bytes.
MAX_BYTES: Final = 1 << 20
KEPT_BYTES: Final = 64 << 10

_CAUSES: Final = get_args(ShutdownCause)
#: The cause of a stop for each `ShutdownCause` that stops QEMU. The other causes reset the machine.
_STOP_CAUSES: Final = {
    "host-error": StopCause.QEMU,
    "host-qmp-quit": StopCause.REQUEST,
    "host-signal": StopCause.REQUEST,
    "host-ui": StopCause.REQUEST,
    "guest-shutdown": StopCause.GUEST,
    "guest-panic": StopCause.PANIC,
}
_TRACED: Final = re.compile(rf"{SHUTDOWN_TRACE} reason=(\d+)$")
#: The message of QEMU for a signal that ends it, which is not traced.
_SIGNALLED: Final = "terminating on signal "


@attrs.frozen
class LogEnd:
    """The end of a log.

    Attributes:
        cause: the cause of the stop; the guest, if it powered off before another request. None if no stop was logged.
        message: the last line that is not about a stop; empty for none.
    """

    cause: StopCause | None = None
    message: str = ""


def read_log_end(log_file: Path) -> LogEnd:
    """Read the end of a log for the cause of the end of QEMU."""
    return parse_log_end(read_log_tail(log_file))


def parse_log_end(text: str) -> LogEnd:
    """Parse lines of a log for the cause of the end of QEMU."""
    cause = None
    message = ""
    for line in text.splitlines():
        traced = _TRACED.search(line)
        if traced is None and _SIGNALLED not in line:
            message = line
            continue
        # A newer QEMU may have causes that the schema does not list.
        number = int(traced[1]) if traced else _CAUSES.index("host-signal")
        found = _STOP_CAUSES.get(_CAUSES[number]) if number < len(_CAUSES) else StopCause.QEMU
        if found is not None and not (found is StopCause.REQUEST and cause in (StopCause.GUEST, StopCause.PANIC)):
            cause = found
    return LogEnd(cause, message)


def trim_log(log_file: Path) -> bool:
    """Trim a log that has grown too long to its last lines, and return whether that was done.

    QEMU has the file open for appending and continues after the kept lines. Output that it writes during the call may
    be lost. A log that cannot be trimmed, because it is missing or another process is trimming it, is left unchanged.
    """
    with contextlib.suppress(OSError):
        if os.lstat(log_file).st_size <= MAX_BYTES:
            return False
        descriptor = os.open(log_file, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = os.fstat(descriptor).st_size
            if size <= MAX_BYTES:
                return False
            tail = os.pread(descriptor, KEPT_BYTES, size - KEPT_BYTES)
            tail = tail.partition(b"\n")[2] or tail
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"({size - len(tail)} bytes were cut here)\n".encode() + tail)
            return True
        finally:
            os.close(descriptor)
    return False


def read_log_tail(log_file: Path, *, max_bytes: int = 4096) -> str:
    """Return the last whole lines of a log; empty if it does not exist."""
    try:
        with open(log_file, "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - max_bytes))
            tail = log.read(max_bytes)
    except OSError:
        return ""
    if size > max_bytes:
        tail = tail.partition(b"\n")[2] or tail
    return tail.decode("utf-8", errors="replace").strip()
