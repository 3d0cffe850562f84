# SPDX-License-Identifier: BSD-2-Clause
"""Listening unix sockets, and the processes that hold them.

hvkit creates the sockets of the monitors and QEMU inherits them. The kernel keeps such a socket listening for as long
as its QEMU lives. So a QEMU is found by its socket even if hvkit crashed before it persisted the pid.
"""

import os
import socket
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from hvkit.hypervisor.kvm.host.polling import poll_until
from hvkit.hypervisor.kvm.host.process import ProcessError, ProcessIdentity, read_identity
from hvkit.qmp.deadlines import Deadline

_SOCKETS: Final = Path("/proc/net/unix")
_BACKLOG: Final = 16
#: Seconds that a program may take to write its pid file, and between two reads of it.
_PID_FILE_S: Final = 5.0
_INTERVAL_S: Final = 0.02
#: The flag of a listening socket. Source: linux/net.h, __SO_ACCEPTCON.
_ACCEPTS: Final = 0x10000


def listen(path: Path) -> socket.socket:
    """Create a listening unix socket of mode 0600 for a program to inherit.

    Clients can connect at once and get answers as soon as the program runs, so they need not poll for the socket. The
    end of the program ends their connections. An existing socket file is replaced.

    Raises:
        ProcessError: the socket could not be created.
    """
    try:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise ProcessError(f"{path}: {error.strerror}") from error
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
        # bind() takes the mode from the unbound socket, so the file is never more open and no umask is needed.
        os.fchmod(made.fileno(), 0o600)
        made.bind(os.fspath(path))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise ProcessError(f"{path}: {error.strerror or error}") from error
    return made


def is_listening(path: Path) -> bool:
    """Return whether a program listens on a unix socket, even a stopped or busy one.

    Raises:
        ProcessError: the kernel refuses a socket, for example because too many files are open.
    """
    try:
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise ProcessError(f"{path}: cannot create a socket to connect to it: {error.strerror}") from error
    with probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:  # the backlog is full
            return True
        except OSError:
            return False
    return True


def find_listener(path: Path, pid_file: Path, *, timeout_s: float = _PID_FILE_S) -> ProcessIdentity | None:
    """Find the process that listens on a unix socket; None if no process listens.

    The pid file identifies it, provided that this process holds the socket: a stale pid file has no effect. Without a
    pid file, the process is searched among all session leaders, because `spawn` starts programs as such.

    Args:
        path: the socket.
        pid_file: the file that the program writes its pid to when it starts.
        timeout_s: seconds that it may take to do so.

    Raises:
        ProcessError: a process listens and cannot be identified.
    """
    seen: ProcessIdentity | None = None

    def find() -> tuple[ProcessIdentity | None] | None:
        nonlocal seen
        if not is_listening(path):
            return (None,)
        sockets = _listening_sockets(path)
        with suppress(OSError, ValueError):
            identity = read_identity(int(pid_file.read_text(encoding="ascii")))
            if identity is not None and sockets & _sockets_of(identity.pid):
                return (identity,)
        # Accepted when found twice: a child that another thread is about to start holds our descriptors until exec.
        before, seen = seen, _find_leader(sockets)
        return (seen,) if seen is not None and seen == before else None

    found = poll_until(find, Deadline(timeout_s), interval_s=_INTERVAL_S)
    if found is None:
        raise ProcessError(f"{path}: a process listens on it that {pid_file} does not identify")
    return found[0]


def _find_leader(sockets: Collection[str]) -> ProcessIdentity | None:
    """Return a session leader other than this process that holds one of the sockets."""
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
    """Return whether a process holds a socket that listens at a path.

    Raises:
        ProcessError: the kernel does not permit access to the descriptors of the process.
    """
    try:
        return not _listening_sockets(path).isdisjoint(_sockets_of(pid))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ProcessError(f"process {pid}: {error.strerror}") from error


def _listening_sockets(path: Path) -> set[str]:
    """Return the sockets that listen at a path, in the form of /proc/PID/fd links. Source: proc(5), /proc/net/unix.

    The path may contain symlinks. A socket that was bound with a relative path is listed with that path, and its
    directory is unknown. So an entry that is only a file name matches if it is the file name of `path`.
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
    """Return the targets of the /proc/PID/fd links of a process."""
    files = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            files.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    return files
