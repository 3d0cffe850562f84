# SPDX-License-Identifier: BSD-2-Clause
"""A stream socket whose every operation has a deadline.

What usually is to be had at once, or within a moment, costs one system call: a Python socket timeout would poll before
each read, half as long again as the read itself. Only what takes longer is polled for, with what is left of the time,
so that neither signals nor a peer that takes its time byte by byte move a deadline.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.errors import ConnectError

#: Where a monitor listens: a path, the name of an abstract socket with ``@`` before it, or a TCP host and port.
Address: TypeAlias = str | os.PathLike[str] | tuple[str, int]

#: More than this at once makes the allocator map and unmap memory for every read, which costs more than the read.
_RECEIVE_BYTES: Final = 65536
#: How long after its deadline a wait still takes what is there, in seconds.
_OVERTIME_S: Final = 0.5
#: Seconds that a read waits in the kernel before it is polled for. A signal handler starts them anew, which is why they
#: are few.
_FIRST_WAIT_S: Final = 0.005
#: The same as the kernel takes it: whole seconds and microseconds, a C long each.
_FIRST_WAIT: Final = b"".join(
    part.to_bytes(sys.maxsize.bit_length() // 8 + 1, sys.byteorder) for part in (0, round(_FIRST_WAIT_S * 1_000_000))
)
#: Seconds between attempts at a place in a backlog.
_BACKLOG_RETRY_S: Final = 0.01
#: struct ucred: pid, uid, gid. Source: unix(7).
_CREDENTIALS: Final = struct.Struct("iII")
_SEND_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Transport:
    """A connected stream socket.

    One thread may send while another receives. It owns the socket.

    Attributes:
        address: what it is connected to, as text.
    """

    def __init__(self, connected: socket.socket, address: str) -> None:
        connected.settimeout(None)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _FIRST_WAIT)
        self.address = address
        self._socket = connected

    @property
    def peer_pid(self) -> int | None:
        """The process that began to listen at the other end; None where that cannot be known."""
        return read_peer_pid(self._socket)

    def receive(self, deadline: Deadline) -> bytes | None:
        """Return what has come, waiting for something if nothing has.

        Returns:
            At least one byte; no bytes at the end of the stream; None when the deadline passed and nothing is there,
            or passed a while ago: a peer that never stops talking keeps nobody for ever.

        Raises:
            OSError: the connection broke.
        """
        remaining_s = deadline.remaining_s()
        if remaining_s <= -_OVERTIME_S:
            return None
        try:
            return self._socket.recv(_RECEIVE_BYTES, 0 if remaining_s > _FIRST_WAIT_S else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self._receive_later(deadline)

    def _receive_later(self, deadline: Deadline) -> bytes | None:
        while self._is_ready(select.POLLIN, deadline):
            with contextlib.suppress(BlockingIOError):
                return self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
        return None

    def _is_ready(self, events: int, deadline: Deadline) -> bool:
        """Wait until the socket can be read or written, or is at its end; whether that was before the deadline."""
        remaining_s = deadline.remaining_s()
        if remaining_s <= 0:
            return False
        poller = select.poll()
        poller.register(self._socket, events)
        return bool(poller.poll(None if remaining_s == math.inf else math.ceil(remaining_s * 1000)))

    def send_at_once(self, data: bytes) -> int:
        """Send what the kernel takes of some data, and wait for nothing; returns how many bytes that was.

        Raises:
            OSError: the connection broke.
        """
        try:
            return self._socket.send(data, _SEND_FLAGS)
        except BlockingIOError:
            return 0

    def send(self, data: bytes, deadline: Deadline, fds: Sequence[int] = ()) -> int:
        """Send data, waiting while the peer does not read.

        Args:
            data: what to send.
            deadline: when to stop.
            fds: descriptors that travel with the first byte. They stay the caller's: the peer gets copies.

        Returns:
            How many bytes were sent; fewer than given when the deadline passed.

        Raises:
            OSError: the connection broke; what was sent before is unknown.
        """
        sent = 0
        while sent < len(data):
            try:
                if fds and not sent:
                    sent = socket.send_fds(self._socket, [data], list(fds), _SEND_FLAGS)
                else:
                    sent += self._socket.send(memoryview(data)[sent:] if sent else data, _SEND_FLAGS)
            except BlockingIOError:
                if not self._is_ready(select.POLLOUT, deadline):
                    break
        return sent

    def shut_down(self) -> None:
        """End the connection: whoever sends or receives is woken. The descriptor stays, so that its number does.

        Doing so again, or after `close`, does nothing.
        """
        if self._socket.fileno() < 0:
            return
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise

    def close(self) -> None:
        """Free the descriptor; nobody may be using it."""
        self._socket.close()


def read_peer_pid(connected: socket.socket) -> int | None:
    """Return the process that began to listen where a socket is connected to; None where that cannot be known.

    Source: unix(7), SO_PEERCRED.
    """
    if connected.family != socket.AF_UNIX:
        return None
    pid, _, _ = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid or None  # 0: it is of another pid namespace


def address_text(address: Address) -> str:
    """Return an address as people write it."""
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else os.fspath(address)


class Opening:
    """The way to an address, looked up: families, and what the kernel wants to know.

    Args:
        address: where to connect.
    """

    def __init__(self, address: Address) -> None:
        self.is_tcp = isinstance(address, tuple)
        self._address = address

    def targets(self) -> list[tuple[socket.AddressFamily, Any]]:
        """Return the addresses to try, in order.

        Raises:
            OSError: the host is not known.
        """
        if isinstance(self._address, tuple):
            found = socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM)
            return [(family, target) for family, _, _, _, target in found]
        path = os.fspath(self._address)
        # '@' is how ss(8) and systemd write the zero byte of an abstract socket
        return [(socket.AF_UNIX, "\0" + path[1:] if path[:1] == "@" else path)]

    def start(self) -> socket.socket:
        """Return a non-blocking socket that is connected, or is connecting, to the first address.

        Raises:
            OSError: it cannot be; EAGAIN where a unix socket's backlog is full.
        """
        family, target = self.targets()[0]
        opened = self.new_socket(family)
        try:
            opened.setblocking(False)
            opened.connect(target)
        except BlockingIOError as error:
            if error.errno != errno.EINPROGRESS:
                opened.close()
                raise
        except BaseException:
            opened.close()
            raise
        return opened

    def finish(self, deadline: Deadline) -> socket.socket:
        """Return a socket that is connected to the first address that can be.

        Raises:
            OSError: none can be.
        """
        failure: OSError | None = None
        for family, target in self.targets():
            opened = self.new_socket(family)
            try:
                opened.setblocking(False)
                _connect_by(opened, target, deadline)
            except OSError as error:
                opened.close()
                failure = error
            except BaseException:
                opened.close()
                raise
            else:
                return opened
        raise failure or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

    def new_socket(self, family: socket.AddressFamily) -> socket.socket:
        """Return a blocking socket to connect to one of the addresses."""
        opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        if self.is_tcp:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened


def _connect_by(opened: socket.socket, target: Any, deadline: Deadline) -> None:
    """Connect a non-blocking socket before a deadline.

    Raises:
        OSError: it cannot be connected; EINPROGRESS or EAGAIN where only the time did not suffice.
    """
    while True:
        error = opened.connect_ex(target)
        remaining_s = deadline.remaining_s()
        if error == errno.EINPROGRESS:
            poller = select.poll()
            poller.register(opened, select.POLLOUT)
            if poller.poll(None if remaining_s == math.inf else max(math.ceil(remaining_s * 1000), 0)):
                error = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        elif error == errno.EAGAIN and remaining_s > 0:
            # The backlog of a unix socket is full. The kernel tells nobody when that changes.
            time.sleep(min(_BACKLOG_RETRY_S, remaining_s))
            continue
        if error:
            raise OSError(error, os.strerror(error))
        return


def connect(address: Address, deadline: Deadline) -> Transport:
    """Connect to a monitor's socket.

    Raises:
        ConnectError: there is no such socket, nobody listens on it, or its backlog stays full.
    """
    name = address_text(address)
    try:
        return Transport(Opening(address).finish(deadline), name)
    except (OSError, ValueError) as error:
        raise ConnectError(name, connect_problem(error, deadline)) from error


def connect_problem(error: OSError | ValueError, deadline: Deadline) -> str:
    """Say in words what keeps us from connecting."""
    match error:
        case FileNotFoundError():
            return "there is no such socket"
        case ConnectionRefusedError():
            return "nobody listens on this socket; it may be left over from a process that was killed"
        case BlockingIOError(errno=errno.EINPROGRESS):
            return f"no answer from the network within {deadline.timeout_s:g} s"
        case BlockingIOError():
            return f"no place in the socket's backlog within {deadline.timeout_s:g} s: QEMU is busy or stopped"
        case socket.gaierror():
            return f"the host is not known: {error.strerror}"
        case OSError(errno=int() as number):
            return os.strerror(number)
    return str(error)
