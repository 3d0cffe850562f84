# SPDX-License-Identifier: BSD-2-Clause
"""Process identity and process handles: find a QEMU process again, signal it, wait for its end.

A process is identified by its pid together with its start time and the id of the boot, because the kernel reuses pids.
Signals go through a pidfd that was checked against all three, so that another process with the same pid is never
signalled.
"""

import functools
import os
import select
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs

from hvkit.errors import HypervisorError

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
#: The number of ended children whose exit status is kept.
_ENDED_KEPT: Final = 1024


class ProcessError(HypervisorError):
    """Raised when a process, or a socket for it, could not be created, found, signalled or changed."""


@attrs.frozen
class ProcessIdentity:
    """The identity of a process, unique on this node for all time.

    Attributes:
        pid: the process id.
        start_time: clock ticks from boot to its start. Source: proc(5), /proc/PID/stat, field 22.
        boot_id: the kernel's random id of the boot.
    """

    pid: int
    start_time: int
    boot_id: str


@functools.cache  # constant for the life of this process
def read_boot_id() -> str:
    """Return the kernel's random id of this boot.

    Raises:
        ProcessError: the kernel does not report it, for example because too many files are open.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ProcessError(f"{_BOOT_ID}: {error.strerror}") from error


@attrs.frozen
class _Stat:
    """State and start time of a process. Source: proc(5), /proc/PID/stat."""

    state: str
    start_time: int

    @property
    def has_ended(self) -> bool:
        """Whether the process is a zombie or dead."""
        return self.state in "ZX"


def _read_stat(pid: int) -> _Stat | None:
    path = f"/proc/{pid}/stat"
    try:
        with open(path, "rb", buffering=0) as file:
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        raise ProcessError(f"{path}: {error.strerror}") from error
    # The command name is in brackets and may itself contain brackets: the fields start after the last one.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return _Stat(state=fields[0].decode("ascii"), start_time=int(fields[19]))


def read_identity(pid: int) -> ProcessIdentity | None:
    """Return the identity of a process; None if there is no such process or it has ended.

    Raises:
        ProcessError: the kernel does not report it, for example because too many files are open.
    """
    stat = _read_stat(pid)
    return None if stat is None or stat.has_ended else ProcessIdentity(pid, stat.start_time, read_boot_id())


class Process:
    """A handle of one process, backed by a pidfd. It never refers to another process, even if the pid is reused.

    Created by `open_process` and `spawn`. Close it, or use it as a context manager.
    """

    def __init__(self, identity: ProcessIdentity, pidfd: int) -> None:
        self.identity = identity
        self._pidfd = pidfd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the process ends."""
        return self._pidfd

    def close(self) -> None:
        """Close the handle. The process keeps running."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    @property
    def is_stopped(self) -> bool:
        """Whether a signal or a debugger has stopped the process. Then not even its monitor responds.

        Raises:
            ProcessError: the kernel does not report it, for example because too many files are open.
        """
        stat = _read_stat(self.identity.pid)
        return stat is not None and stat.state in "Tt"

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; does nothing if the process has ended.

        Raises:
            ProcessError: the kernel does not permit it.
        """
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise ProcessError(f"process {self.identity.pid}: not permitted to send {number.name}") from error

    def wait(self, timeout_s: float) -> bool:
        """Wait until the process has ended, and reap it if it is a child of this process.

        Returns:
            Whether it has ended after at most `timeout_s` seconds.
        """
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        ended = bool(poll.poll(max(0.0, timeout_s) * 1000))
        if ended:
            children.reap(self.identity)
        return ended

    def end(self, steps: Sequence[tuple[signal.Signals, float]]) -> bool:
        """Send one signal after another until the process has ended.

        Args:
            steps: each signal, with the seconds to wait for the end of the process after it.

        Returns:
            Whether it has ended.

        Raises:
            ProcessError: the kernel does not permit a signal.
        """
        for number, timeout_s in steps:
            if self.wait(0):
                return True
            self.send_signal(number)
            if self.wait(timeout_s):
                return True
        return False


def open_process(identity: ProcessIdentity) -> Process | None:
    """Open a handle of a process; None if it has ended, even if another process has its pid now.

    Raises:
        ProcessError: the kernel refuses, for example because too many files are open.
    """
    children.reap(identity)
    if identity.boot_id != read_boot_id():
        return None
    try:
        pidfd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise ProcessError(f"process {identity.pid}: {error.strerror}") from error
    process = Process(identity, pidfd)
    try:
        # Read after the pidfd was opened: if the start time matches, the pidfd refers to the right process.
        stat = _read_stat(identity.pid)
        # Not decided by its state: the process is a zombie as soon as its main thread has ended, while other threads
        # may still hold its files. The pidfd becomes readable after the last thread.
        is_there = stat is not None and stat.start_time == identity.start_time and not process.wait(0)
    except BaseException:
        process.close()
        raise
    if not is_there:
        process.close()
        return None
    return process


class _Children:
    """The children of this process, reaped on demand, without a handler for SIGCHLD."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[ProcessIdentity] = set()
        self._ended: dict[ProcessIdentity, int] = {}

    def add(self, identity: ProcessIdentity) -> None:
        with self._lock:
            self._running.add(identity)

    def reap(self, *identities: ProcessIdentity) -> None:
        """Reap children that have ended, so that no zombies remain.

        Args:
            identities: processes to check, children or not; none: all children.
        """
        with self._lock:
            for identity in self._running.intersection(identities) if identities else tuple(self._running):
                try:
                    pid, status = os.waitpid(identity.pid, os.WNOHANG)
                except ChildProcessError:  # already reaped by other code in this process
                    self._running.discard(identity)
                    continue
                if pid:
                    self._running.discard(identity)
                    self._ended[identity] = os.waitstatus_to_exitcode(status)
            while len(self._ended) > _ENDED_KEPT:
                del self._ended[next(iter(self._ended))]

    def exit_status(self, identity: ProcessIdentity) -> int | None:
        """Return the exit status of a child, negative for a signal; None if it runs or the status is unknown."""
        self.reap(identity)
        with self._lock:
            return self._ended.get(identity)


children: Final = _Children()


def describe_exit(identity: ProcessIdentity, program: str = "QEMU") -> str:
    """Describe how a process ended, as far as that is known: only its parent gets the exit status.

    Args:
        identity: the process.
        program: the name of its program, for the text.
    """
    status = children.exit_status(identity)
    if status is None:
        return f"{program} has ended"
    if status >= 0:
        return f"{program} ended with exit code {status}"
    try:
        return f"{program} was ended by {signal.Signals(-status).name}"
    except ValueError:  # real-time signals have no names
        return f"{program} was ended by signal {-status}"


def hold_child(pid: int) -> Process:
    """Open a handle of a child of this process, and register it to be reaped.

    Raises:
        ProcessError: the kernel refuses, or it was reaped already.
    """
    # A child that has ended is a zombie and still has a start time, unless SIGCHLD is ignored.
    stat = _read_stat(pid)
    if stat is None:
        raise ProcessError(f"process {pid} ended at once")
    identity = ProcessIdentity(pid, stat.start_time, read_boot_id())
    try:
        process = Process(identity, os.pidfd_open(pid))
    except OSError as error:
        raise ProcessError(f"process {pid}: {error.strerror}") from error
    children.add(identity)
    return process
