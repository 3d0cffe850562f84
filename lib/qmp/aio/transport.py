# SPDX-License-Identifier: BSD-2-Clause
"""Non-blocking sockets for the event loop: connecting, and messages that are sent in parts."""

from __future__ import annotations

import array
import asyncio
import errno
import math
import os
import socket
from collections.abc import Callable
from typing import Final

from hvkit.qmp.common.transport import Address, Connector, address_text, connect_problem
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.errors import ConnectError

#: Seconds between attempts to connect while the backlog is full: the kernel does not report when that changes.
_BACKLOG_RETRY_S: Final = 0.02


class OutgoingMessage:
    """A message that is being sent.

    Attributes:
        data: the bytes of the message.
        fds: descriptors to send with the first byte.
        sent: how many bytes have been sent.
        on_sent: called when all bytes have been sent; None for no call.
    """

    __slots__ = ("data", "fds", "on_sent", "sent")

    def __init__(self, data: bytes, fds: array.array[int] | None) -> None:
        self.data = data
        self.fds = fds
        self.sent = 0
        self.on_sent: Callable[[], None] | None = None

    @property
    def is_sent(self) -> bool:
        return self.sent == len(self.data)

    def send(self, target: socket.socket) -> None:
        """Send the rest of the message.

        Raises:
            BlockingIOError: the kernel did not take all of it.
            OSError: the connection failed.
        """
        if self.fds and not self.sent:
            self.sent = socket.send_fds(target, [self.data], self.fds, socket.MSG_NOSIGNAL)
        while not self.is_sent:
            self.sent += target.send(memoryview(self.data)[self.sent :], socket.MSG_NOSIGNAL)


async def open_socket(address: Address, deadline: Deadline) -> socket.socket:
    """Return a non-blocking socket that is connected to a monitor; nothing is left open when the task is cancelled.

    Raises:
        ConnectError: the address is invalid, the socket does not exist, no process listens on it, or its backlog stays
            full.
    """
    connector = Connector(address)
    try:
        return await (_open_tcp(connector, deadline) if connector.is_tcp else _open_unix(connector, deadline))
    except (OSError, ValueError) as error:
        raise ConnectError(address_text(address), connect_problem(error, deadline)) from error


async def _open_unix(connector: Connector, deadline: Deadline) -> socket.socket:
    while True:
        try:
            return _connect_unix(connector)
        except BlockingIOError:
            remaining_s = deadline.remaining_s()
            if remaining_s <= 0:
                raise
            await asyncio.sleep(min(_BACKLOG_RETRY_S, remaining_s))


def _connect_unix(connector: Connector) -> socket.socket:
    """Return a connected unix socket.

    Raises:
        OSError: connecting failed; BlockingIOError if the backlog is full.
    """
    ((family, target),) = connector.targets()
    opened = connector.new_socket(family)
    try:
        opened.connect(target)
    except BaseException:
        opened.close()
        raise
    return opened


async def _open_tcp(connector: Connector, deadline: Deadline) -> socket.socket:
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    try:
        async with asyncio.timeout(None if deadline.timeout_s == math.inf else deadline.remaining_s()) as limit:
            for family, target in await loop.run_in_executor(None, connector.targets):
                opened = connector.new_socket(family)
                try:
                    await loop.sock_connect(opened, target)
                except OSError as error:
                    opened.close()
                    failure = error
                except BaseException:
                    opened.close()
                    raise
                else:
                    return opened
    except TimeoutError as error:
        if limit.expired():
            raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS)) from error
        raise
    raise failure or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
