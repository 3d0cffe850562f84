# SPDX-License-Identifier: BSD-2-Clause
"""A listener for QEMU processes that connect to hvkit, for asyncio tasks."""

from __future__ import annotations

import asyncio
import math
import os
from typing import Any

from hvkit.qmp.aio.connection import AsyncQmpConnection
from hvkit.qmp.aio.session import wake
from hvkit.qmp.common.listener import BaseListener
from hvkit.qmp.deadlines import Deadline


class AsyncQmpListener(BaseListener):
    """A `hvkit.qmp.listener.QmpListener` for the tasks of one event loop; use it in a plain `with` block.

    It can be created without an event loop. Its options are those of `AsyncQmpConnection`.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(path, **options)
        self._socket.setblocking(False)
        #: A future for every task that waits in `accept`.
        self._waiters: set[asyncio.Future[None]] = set()

    async def accept(self, *, timeout: float | None = None) -> AsyncQmpConnection:
        """Wait for a monitor to connect, and return the connection to it; see `hvkit.qmp.listener.QmpListener.accept`.

        A task that is cancelled while it waits accepts no connection; one that is cancelled during the negotiation
        closes it.
        """
        timeout_s = self._begin_accept(timeout)
        deadline = Deadline(timeout_s)
        while True:
            try:
                connected, _ = self._socket.accept()
            except BlockingIOError as error:
                if deadline.remaining_s() <= 0:
                    raise self._timeout_error(timeout_s) from error
            except OSError as error:
                raise self._accept_error(error) from error
            else:
                break
            await self._wait_for_connection(deadline)
        connection = AsyncQmpConnection.from_socket(connected, **self._options)
        await connection.connect(timeout=timeout_s)
        return connection

    async def _wait_for_connection(self, deadline: Deadline) -> None:
        """Wait until a monitor may have connected, the listener is closed, or the deadline has passed."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        timer = None
        if deadline.timeout_s != math.inf:
            timer = loop.call_later(deadline.remaining_s(), wake, waiter)
        self._waiters.add(waiter)
        loop.add_reader(self._socket, self._wake_all)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()
            if not self._waiters and not self._is_closed:
                loop.remove_reader(self._socket)

    def _wake_all(self) -> None:
        for waiter in self._waiters:
            wake(waiter)

    def close(self) -> None:
        for waiter in self._waiters:
            waiter.get_loop().remove_reader(self._socket)
        self._wake_all()
        super().close()
