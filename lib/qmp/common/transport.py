# SPDX-License-Identifier: BSD-2-Clause
"""Addresses of monitors, and the sockets that connect to them. Nothing waits except the resolution of host names."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from hvkit.errors import ProgrammerError
from hvkit.qmp.deadlines import Deadline

#: Address of a monitor: a path, the name of an abstract socket with ``@`` before it, or a TCP host and port.
Address: TypeAlias = str | os.PathLike[str] | tuple[str, int]

#: Bytes to receive at once. With more, the allocator maps and unmaps memory for every read, which costs more than the
#: read.
RECEIVE_BYTES: Final = 65536
#: The most descriptors in one message. Source: scm(7), SCM_MAX_FD of the kernel.
_MAX_FDS: Final = 253
_MAX_PORT: Final = 65535
#: struct ucred: pid, uid, gid. Source: unix(7).
_CREDENTIALS: Final = struct.Struct("iII")


def address_text(address: Address) -> str:
    """Return an address as text, for messages."""
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else os.fspath(address)


def read_peer_pid(connected: socket.socket) -> int | None:
    """Return the process that created the listening socket that a socket is connected to; None if unknown.

    Source: unix(7), SO_PEERCRED.
    """
    if connected.family != socket.AF_UNIX:
        return None
    pid, _, _ = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid or None  # 0: the process is in another pid namespace


def check_fds(fds: Sequence[int]) -> None:
    """Check that descriptors can be sent with a command, before any byte of it is sent.

    Raises:
        ProgrammerError: there are too many for one message, or one is not open.
    """
    if len(fds) > _MAX_FDS:
        raise ProgrammerError(f"cannot send {len(fds)} descriptors with one command; the limit is {_MAX_FDS}")
    for fd in fds:
        try:
            os.fstat(fd)
        except (OSError, TypeError, ValueError, OverflowError) as error:
            raise ProgrammerError(f"{fd!r} is not an open descriptor") from error


def check_socket_path(path: str) -> None:
    """Check that the kernel does not cut a socket path: it ignores the path after a null byte.

    Raises:
        ValueError: the path contains a null byte, and is not the name of an abstract socket.
    """
    if "\0" in path and not path.startswith("@"):
        raise ValueError("the path contains a null byte")


class Connector:
    """Creates the sockets that connect to an address.

    Args:
        address: where to connect to.
    """

    def __init__(self, address: Address) -> None:
        self.is_tcp = isinstance(address, tuple)
        self._address = address

    def targets(self) -> list[tuple[socket.AddressFamily, Any]]:
        """Return the family and the kernel's form of each address to try, in order; looks up the name of a host.

        Raises:
            OSError: the host is unknown.
            ValueError: the port is greater than 65535, or the path contains a null byte.
        """
        if isinstance(self._address, tuple):
            host, port = self._address
            if type(port) is int and port > _MAX_PORT:  # the C library would use the lowest 16 bits
                raise ValueError(f"the port must be at most {_MAX_PORT}")
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return [(family, target) for family, _, _, _, target in found]
        path = os.fsdecode(self._address)
        check_socket_path(path)
        # '@' stands for the zero byte of an abstract socket, as in ss(8) and systemd
        return [(socket.AF_UNIX, "\0" + path[1:] if path[:1] == "@" else path)]

    def new_socket(self, family: socket.AddressFamily) -> socket.socket:
        """Return a new non-blocking socket for an address of this family."""
        opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        if self.is_tcp:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened


def connect_problem(error: OSError | ValueError, deadline: Deadline) -> str:
    """Return the reason of a failure to connect, as text."""
    match error:
        case FileNotFoundError():
            return "there is no such socket"
        case ConnectionRefusedError():
            return "no process listens on the socket; it is left over from a process that was killed, or not a socket"
        case BlockingIOError(errno=errno.EINPROGRESS):
            return f"no answer from the network within {deadline.timeout_s:g} s"
        case BlockingIOError():
            return f"the backlog of the socket stayed full for {deadline.timeout_s:.3g} s: QEMU is busy or stopped"
        case socket.gaierror():
            return f"unknown host: {error.strerror}"
        case OSError(errno=int() as number):
            return os.strerror(number)
    return str(error)
