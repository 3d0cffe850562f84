# SPDX-License-Identifier: BSD-2-Clause
"""The log of a QEMU: kept short, and read for why its QEMU ended.

QEMU is told (by `hvkit.hypervisor.kvm.plan.command_line`) to write down who asks for its end. That is there for whoever
looks, whether or not QEMU could reach its pid file, and after everybody who could have heard an event has gone.
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

#: The most that a log may have before it is cut, and what is left of it then, in bytes.
MAX_BYTES: Final = 1 << 20
KEPT_BYTES: Final = 64 << 10

_CAUSES: Final = get_args(ShutdownCause)
#: Who asks for an end, by QEMU's word for it. The others reset the machine.
_ASKED_BY: Final = {
    "host-error": StopCause.QEMU,
    "host-qmp-quit": StopCause.REQUEST,
    "host-signal": StopCause.REQUEST,
    "host-ui": StopCause.REQUEST,
    "guest-shutdown": StopCause.GUEST,
    "guest-panic": StopCause.PANIC,
}
_TRACED: Final = re.compile(rf"{SHUTDOWN_TRACE} reason=(\d+)$")
#: What QEMU says to a signal that it obeys, which it does not trace.
_SIGNALLED: Final = "terminating on signal "


@attrs.frozen
class LastWords:
    """What a log says at its end.

    Attributes:
        cause: who asked QEMU to end; the guest, if it had powered off before. None where nobody did.
        complaint: the last line that is about something else; empty where there is none.
    """

    cause: StopCause | None = None
    complaint: str = ""


def read_last_words(log_file: Path) -> LastWords:
    """Return what the end of a log says of the end of its QEMU."""
    return parse_last_words(read_log_tail(log_file))


def parse_last_words(text: str) -> LastWords:
    """Return what some lines of a log say of the end of its QEMU."""
    cause = None
    complaint = ""
    for line in text.splitlines():
        traced = _TRACED.search(line)
        if traced is None and _SIGNALLED not in line:
            complaint = line
            continue
        # A newer QEMU may have reasons that we have no word for.
        number = int(traced[1]) if traced else _CAUSES.index("host-signal")
        asked_by = _ASKED_BY.get(_CAUSES[number]) if number < len(_CAUSES) else StopCause.QEMU
        if asked_by is not None and not (asked_by is StopCause.REQUEST and cause in (StopCause.GUEST, StopCause.PANIC)):
            cause = asked_by
    return LastWords(cause, complaint)


def trim_log(log_file: Path) -> bool:
    """Cut a log that has grown too long down to its end, and tell whether that was done.

    QEMU, which has the file open for appending, goes on behind it. What it writes at that very moment may be lost. A
    log that cannot be cut, because somebody else is at it or it is not there, is left as it is.
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
    """Return the end of a log, whole lines where it is longer; empty where there is none."""
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
