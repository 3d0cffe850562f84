# SPDX-License-Identifier: BSD-2-Clause
"""A stream socket with a deadline for every operation.

A read that succeeds within 5 ms, and a write that succeeds at once, take one system call. With a Python socket timeout,
Python would poll before each read, which takes half as long as the read itself. Longer waits poll with the remaining
time. Neither signals nor a server that sends byte by byte extend a deadline.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from hvkit.qmp.common.transport import (
    RECEIVE_BYTES,
    Address,
    Connector,
    address_text,
    connect_problem,
    read_peer_pid,
)
from hvkit.qmp.deadlines import Deadline, to_poll_ms
from hvkit.qmp.errors import ConnectError

#: How long after its deadline a wait still returns received data, in seconds.
_OVERTIME_S: Final = 0.5
#: Seconds that a read waits in the kernel before it polls. A signal handler restarts this wait, so it is short.
_FIRST_WAIT_S: Final = 0.005
#: The same as struct timeval: seconds and microseconds, a C long each.
_FIRST_WAIT: Final = b"".join(
    part.to_bytes(sys.maxsize.bit_length() // 8 + 1, sys.byteorder) for part in (0, round(_FIRST_WAIT_S * 1_000_000))
)
#: Seconds between attempts to connect while the backlog is full: the kernel does not report when that changes.
_BACKLOG_RETRY_S: Final = 0.01
_SEND_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Transport:
    """A connected stream socket, which it owns.

    One thread may send while another receives.

    Attributes:
        address: address that the socket is connected to, as text.
    """

    def __init__(self, connected: socket.socket, address: str) -> None:
        connected.settimeout(None)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _FIRST_WAIT)
        self.address = address
        self._socket = connected

    @property
    def peer_pid(self) -> int | None:
        """The process that created the listening socket; None if unknown."""
        return read_peer_pid(self._socket)

    def receive(self, deadline: Deadline) -> bytes | None:
        """Return received bytes; wait for some if there are none.

        Returns:
            At least one byte; no bytes at the end of the stream; None if the deadline passed and no data is available.
            Half a second after the deadline, None even if data is available: a server may never stop sending.

        Raises:
            OSError: the connection failed.
        """
        remaining_s = deadline.remaining_s()
        if remaining_s <= -_OVERTIME_S:
            return None
        try:
            return self._socket.recv(RECEIVE_BYTES, 0 if remaining_s > _FIRST_WAIT_S else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self._poll_and_receive(deadline)

    def _poll_and_receive(self, deadline: Deadline) -> bytes | None:
        while self._is_ready(select.POLLIN, deadline):
            with contextlib.suppress(BlockingIOError):
                return self._socket.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        return None

    def _is_ready(self, events: int, deadline: Deadline) -> bool:
        """Wait until the socket is readable or writable, or at its end; return whether that was before the deadline."""
        remaining_s = deadline.remaining_s()
        if remaining_s <= 0:
            return False
        poller = select.poll()
        poller.register(self._socket, events)
        return bool(poller.poll(to_poll_ms(remaining_s)))

    def try_send(self, data: bytes) -> int:
        """Send as many bytes as the kernel takes without waiting, and return their number.

        Raises:
            OSError: the connection failed.
        """
        try:
            return self._socket.send(data, _SEND_FLAGS)
        except BlockingIOError:
            return 0

    def send(self, data: bytes, deadline: Deadline, fds: Sequence[int] = ()) -> int:
        """Send data; wait while the server does not read.

        Args:
            data: the bytes to send.
            deadline: when to stop.
            fds: descriptors to send with the first byte. The server receives duplicates; the caller still owns these.

        Returns:
            How many bytes were sent: not all if the deadline passed.

        Raises:
            OSError: the connection failed; how many bytes were sent is unknown.
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
        """End the connection, which wakes threads that send or receive. The descriptor stays open until `close`.

        Does nothing the second time, or after `close`.
        """
        if self._socket.fileno() < 0:
            return
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise

    def close(self) -> None:
        """Close the descriptor, which no thread may be using."""
        self._socket.close()


def connect(address: Address, deadline: Deadline) -> Transport:
    """Connect to the socket of a monitor.

    Raises:
        ConnectError: the address is invalid, the socket does not exist, no process listens on it, or its backlog stays
            full.
    """
    name = address_text(address)
    try:
        return Transport(_open_socket(Connector(address), deadline), name)
    except (OSError, ValueError) as error:
        raise ConnectError(name, connect_problem(error, deadline)) from error


def _open_socket(connector: Connector, deadline: Deadline) -> socket.socket:
    """Return a socket that is connected to the first address that accepts.

    Raises:
        OSError: no address accepts.
    """
    failure: OSError | None = None
    for family, target in connector.targets():
        opened = connector.new_socket(family)
        try:
            _connect_socket(opened, target, deadline)
        except OSError as error:
            opened.close()
            failure = error
        except BaseException:
            opened.close()
            raise
        else:
            return opened
    raise failure or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


def _connect_socket(opened: socket.socket, target: Any, deadline: Deadline) -> None:
    """Connect a non-blocking socket before a deadline.

    Raises:
        OSError: connecting failed; EINPROGRESS or EAGAIN if the deadline passed.
    """
    while True:
        error = opened.connect_ex(target)
        remaining_s = deadline.remaining_s()
        if error == errno.EINPROGRESS:
            poller = select.poll()
            poller.register(opened, select.POLLOUT)
            if poller.poll(to_poll_ms(remaining_s)):
                error = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        elif error == errno.EAGAIN and remaining_s > 0:
            # the backlog of a unix socket is full
            time.sleep(min(_BACKLOG_RETRY_S, remaining_s))
            continue
        if error:
            raise OSError(error, os.strerror(error))
        return
