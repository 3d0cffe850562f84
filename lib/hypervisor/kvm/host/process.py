# SPDX-License-Identifier: BSD-2-Clause
"""QEMU processes: start one, find it again, signal it, see it end.

A process is known by its pid together with its start time and the boot it belongs to, because pids are used again.
Signals go through a pidfd that was checked against all three, so that a stranger with the same pid never gets one.

Monitors listen on sockets that are made here and inherited by QEMU. The kernel keeps such a socket listening for as
long as its QEMU lives, which tells whether there is one even if whoever started it died before noting its pid.
"""

import functools
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs

from hvkit.errors import HypervisorError
from hvkit.hypervisor.kvm.plan.confinement import Account
from hvkit.qmp.program import read_environment

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_SOCKETS: Final = Path("/proc/net/unix")
_BACKLOG: Final = 16
_ENDED_KEPT: Final = 1024

#: Seconds that a program may take to write its pid file, and between two looks at it.
_PID_FILE_S: Final = 5.0
_INTERVAL_S: Final = 0.02
#: The flag of a listening socket. Source: linux/net.h, __SO_ACCEPTCON.
_ACCEPTS: Final = 0x10000


class ProcessError(HypervisorError):
    """Raised when the kernel refuses to start, signal or place a process."""


@attrs.frozen
class ProcessIdentity:
    """What tells one process from every other one on this node, before and after.

    Attributes:
        pid: the process id.
        start_time: clock ticks from boot to its start. Source: proc(5), /proc/PID/stat, field 22.
        boot_id: the kernel's random id of this boot.
    """

    pid: int
    start_time: int
    boot_id: str


@functools.cache  # no process outlives a boot
def read_boot_id() -> str:
    """Return the kernel's random id of this boot.

    Raises:
        ProcessError: we have too many open files to find out.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ProcessError(f"{_BOOT_ID}: {error.strerror}") from error


@attrs.frozen
class _Stat:
    """What the kernel says of a process. Source: proc(5), /proc/PID/stat."""

    state: str
    start_time: int

    @property
    def has_ended(self) -> bool:
        """Whether it only waits to be reaped."""
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
    # The command's name is in brackets and may hold anything, brackets too: count from the last one.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return _Stat(state=fields[0].decode("ascii"), start_time=int(fields[19]))


def read_identity(pid: int) -> ProcessIdentity | None:
    """Return the identity of a process; None where there is none or it has ended.

    Raises:
        ProcessError: we have too many open files to find out.
    """
    stat = _read_stat(pid)
    return None if stat is None or stat.has_ended else ProcessIdentity(pid, stat.start_time, read_boot_id())


class Process:
    """A process that is held by a pidfd: what is done here is done to that process or to none.

    Make one with `open_process` or `spawn`; close it, or use it as a context manager.
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
        """Return a descriptor that is readable once the process has ended."""
        return self._pidfd

    def close(self) -> None:
        """Let go of the process; it runs on."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped by a signal or a debugger: nothing of it runs, not even its monitor.

        Raises:
            ProcessError: we have too many open files to find out.
        """
        stat = _read_stat(self.identity.pid)
        return stat is not None and stat.state in "Tt"

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens where the process has ended.

        Raises:
            ProcessError: we may not signal it.
        """
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise ProcessError(f"process {self.identity.pid}: not permitted to send {number.name}") from error

    def wait(self, timeout_s: float) -> bool:
        """Wait until the process has ended, ours or not, and reap it where it is our child.

        Returns:
            True where it has ended, False where it still runs after `timeout_s` seconds.
        """
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        ended = bool(poll.poll(max(0.0, timeout_s) * 1000))
        if ended:
            children.reap(self.identity)
        return ended

    def end(self, steps: Sequence[tuple[signal.Signals, float]]) -> bool:
        """Send one signal after the other until the process has ended.

        Args:
            steps: each signal with the seconds it is given.

        Returns:
            True where it has ended.

        Raises:
            ProcessError: we may not signal it.
        """
        for number, timeout_s in steps:
            if self.wait(0):
                return True
            self.send_signal(number)
            if self.wait(timeout_s):
                return True
        return False


def open_process(identity: ProcessIdentity) -> Process | None:
    """Get hold of a process; None where it has ended, also where its pid belongs to another one now.

    Raises:
        ProcessError: the process table or the table of open files is full.
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
        # Looked at after the pidfd was made: if this is the right start time, then the pidfd is of the right process.
        stat = _read_stat(identity.pid)
        # Not by its being a zombie: that is so when its first thread has ended, while others may still hold its files.
        is_there = stat is not None and stat.start_time == identity.start_time and not process.wait(0)
    except BaseException:
        process.close()
        raise
    if not is_there:
        process.close()
        return None
    return process


class _Children:
    """The processes that are children of ours: reaped when somebody looks, without a handler for SIGCHLD."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[ProcessIdentity] = set()
        self._ended: dict[ProcessIdentity, int] = {}

    def add(self, identity: ProcessIdentity) -> None:
        with self._lock:
            self._running.add(identity)

    def reap(self, *identities: ProcessIdentity) -> None:
        """Collect the children that have ended, so that none stays behind as a zombie.

        Args:
            identities: which to look at, ours or not; none for all.
        """
        with self._lock:
            for identity in self._running.intersection(identities) if identities else tuple(self._running):
                try:
                    pid, status = os.waitpid(identity.pid, os.WNOHANG)
                except ChildProcessError:  # somebody else in this process has reaped it, and knows how it ended
                    self._running.discard(identity)
                    continue
                if pid:
                    self._running.discard(identity)
                    self._ended[identity] = os.waitstatus_to_exitcode(status)
            while len(self._ended) > _ENDED_KEPT:
                del self._ended[next(iter(self._ended))]

    def exit_status(self, identity: ProcessIdentity) -> int | None:
        """Return how a child ended, negative for a signal; None where it runs or that is not known."""
        self.reap(identity)
        with self._lock:
            return self._ended.get(identity)


children: Final = _Children()


def describe_exit(identity: ProcessIdentity) -> str:
    """Say how a process ended, as far as this process can know."""
    status = children.exit_status(identity)
    if status is None:
        return "QEMU is gone"
    if status >= 0:
        return f"QEMU ended with exit code {status}"
    try:
        return f"QEMU was ended by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal has no name of its own
        return f"QEMU was ended by signal {-status}"


def spawn(
    argv: Sequence[str],
    *,
    log_file: Path,
    pass_fds: Collection[int] = (),
    directory: str = "/",
    account: Account | None = None,
    groups: Collection[int] = (),
) -> Process:
    """Start a program that outlives us.

    It is the leader of a session of its own; its umask is 077, its standard input ``/dev/null``.
    It has no open file of ours but those named, and of our environment only what it needs. What it writes goes to the
    log file, which is made anew with mode 0600.

    Args:
        argv: the program's absolute path and its arguments.
        log_file: where its output and errors go.
        pass_fds: files it inherits, under the same numbers.
        directory: where it works; the account need not have a way there.
        account: who it runs as; None for who we are.
        groups: those that it is in beside the group of its account.

    Returns:
        The process, which may have ended already.

    Raises:
        ProcessError: it could not be started, or not be got hold of, or the log file not be made. Nothing is left
            running.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    children.reap()
    try:
        log = os.open(log_file, flags, 0o600)
    except OSError as error:
        raise ProcessError(f"{log_file}: {error.strerror}") from error
    try:
        popen = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            env=read_environment(),
            umask=0o077,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else tuple(groups),
        )
    except OSError as error:
        raise ProcessError(f"{argv[0]} cannot be started: {error.strerror}") from error
    finally:
        os.close(log)
    # It is reaped by `children`; a Popen that thinks otherwise complains when it goes.
    popen.returncode = 0
    try:
        return _adopt(popen.pid)
    except BaseException:
        # Nobody has reaped it, so that the pid is still its own.
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(popen.pid, signal.SIGKILL)
            os.waitpid(popen.pid, 0)
        raise


def _adopt(pid: int) -> Process:
    """Get hold of a child of ours, and see to it that it is reaped."""
    # A child that ended at once is a zombie, which still has its start time, unless the kernel was told to reap it.
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


def listen(path: Path) -> socket.socket:
    """Make a listening unix socket of mode 0600 for a program to inherit.

    A client can connect from now on and is answered once the program runs; when the program ends, so does the
    connection. Nobody has to look again and again whether the socket is there yet. A socket file that an ended program
    left behind is replaced.

    Raises:
        ProcessError: the socket could not be made.
    """
    try:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise ProcessError(f"{path}: {error.strerror}") from error
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
        # The socket file gets the mode of the unbound socket: it is never wider, and no process-wide umask is needed.
        os.fchmod(made.fileno(), 0o600)
        made.bind(os.fspath(path))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise ProcessError(f"{path}: {error.strerror or error}") from error
    return made


def is_listening(path: Path) -> bool:
    """Tell whether a program listens on a unix socket, be it stopped or busy.

    Raises:
        ProcessError: we have too many open files to find out.
    """
    try:
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise ProcessError(f"{path}: cannot be looked at: {error.strerror}") from error
    with probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:  # the queue of those who want to connect is full
            return True
        except OSError:
            return False
    return True


def find_listener(path: Path, pid_file: Path, *, timeout_s: float = _PID_FILE_S) -> ProcessIdentity | None:
    """Find the program that listens on a unix socket; None where nobody listens.

    The pid file that it writes tells, if that process holds the very socket: an old pid file misleads nobody. Where
    there is none, the process is looked for among all that lead a session, as those that `spawn` starts do.

    Args:
        path: the socket.
        pid_file: where the program writes its pid when it starts.
        timeout_s: seconds that it may take to do so.

    Raises:
        ProcessError: somebody listens, and cannot be identified.
    """
    deadline = time.monotonic() + timeout_s
    seen: ProcessIdentity | None = None
    while is_listening(path):
        sockets = _listening_sockets(path)
        with suppress(OSError, ValueError):
            identity = read_identity(int(pid_file.read_text(encoding="ascii")))
            if identity is not None and sockets & _sockets_of(identity.pid):
                return identity
        # Believed when seen twice: what another thread of ours is about to start holds our files for a moment.
        before, seen = seen, _find_leader(sockets)
        if seen is not None and seen == before:
            return seen
        if time.monotonic() >= deadline:
            raise ProcessError(f"{path}: a program listens there that cannot be identified by {pid_file}")
        time.sleep(_INTERVAL_S)
    return None


def _find_leader(sockets: Collection[str]) -> ProcessIdentity | None:
    """Return the leader of a session, not us, that holds one of some sockets."""
    try:
        names = os.listdir("/proc")
    except OSError as error:
        raise ProcessError(f"/proc: {error.strerror}") from error
    for pid in (int(name) for name in names if name.isdigit()):
        with suppress(OSError):
            if pid != os.getpid() and os.getsid(pid) == pid and not _sockets_of(pid).isdisjoint(sockets):
                return read_identity(pid)
    return None


def holds_listener(pid: int, path: Path) -> bool:
    """Tell whether a process holds a socket that listens under a path.

    Raises:
        ProcessError: we may not look at its files.
    """
    try:
        return not _listening_sockets(path).isdisjoint(_sockets_of(pid))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ProcessError(f"process {pid}: {error.strerror}") from error


def _listening_sockets(path: Path) -> set[str]:
    """Return the sockets that listen under a path, as links to them read. Source: proc(5), /proc/net/unix.

    The path may lead there by links. One that is relative there, to a directory that nobody knows any more, may be any
    of that name.
    """
    found = set()
    names = {os.fspath(path), os.path.realpath(path), os.path.basename(os.path.realpath(path))}
    try:
        table = _SOCKETS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ProcessError(f"{_SOCKETS}: {error.strerror}") from error
    for line in table.split("\n")[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] in names and int(fields[3], 16) & _ACCEPTS:
            found.add(f"socket:[{fields[6]}]")
    return found


def _sockets_of(pid: int) -> set[str]:
    """Return what the open files of a process are, as their links read."""
    files = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            files.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    return files


def set_affinity(thread_id: int, cpus: Collection[int]) -> None:
    """Bind one thread to some of the node's CPUs; threads that it makes later inherit that.

    Raises:
        ProcessError: it is gone, or none of the CPUs can be used.
    """
    try:
        os.sched_setaffinity(thread_id, cpus)
    except OSError as error:
        raise ProcessError(f"thread {thread_id}: cannot be bound to CPUs {sorted(cpus)}: {error.strerror}") from error


def set_process_affinity(pid: int, cpus: Collection[int]) -> None:
    """Bind all threads of a process to some of the node's CPUs.

    Raises:
        ProcessError: it is gone, or none of the CPUs can be used.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError as error:
        raise ProcessError(f"process {pid}: {error.strerror}") from error
    for thread in threads:
        set_affinity(int(thread), cpus)


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
