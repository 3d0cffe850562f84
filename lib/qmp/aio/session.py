# SPDX-License-Identifier: BSD-2-Clause
"""The session of an asyncio connection, which tasks share.

The event loop reads, and sends the data that could not be sent at once. Received data makes exchanges and subscriptions
ready, which wakes the tasks that wait for them. All code runs in the thread of the event loop.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import functools
import math
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from hvkit.errors import ProgrammerError
from hvkit.qmp.aio.transport import OutgoingMessage
from hvkit.qmp.base import Event
from hvkit.qmp.common.session import BaseSession
from hvkit.qmp.common.transport import RECEIVE_BYTES, read_peer_pid
from hvkit.qmp.deadlines import Deadline, timeout_class_of
from hvkit.qmp.errors import CommandTimeout
from hvkit.qmp.events import EventQueue
from hvkit.qmp.protocol import ENDED, Exchange, Protocol

#: How many reads one call may do: a server that never stops sending must not block the event loop.
_MAX_READS: Final = 64


def wake(waiter: asyncio.Future[None]) -> None:
    """Wake the task that waits for a future, unless it was woken already."""
    if not waiter.done():
        waiter.set_result(None)


class AsyncSession(BaseSession):
    """A conversation over a socket, which it owns, on one event loop."""

    def __init__(self, connected: socket.socket, address: str, protocol: Protocol) -> None:
        super().__init__(address, protocol)
        connected.setblocking(False)
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._outbox: deque[OutgoingMessage] = deque()
        self._has_writer = False
        #: A future for every task that waits for this session.
        self._waiters: set[asyncio.Future[None]] = set()
        self._peer_pid: int | None = None
        self._loop.add_reader(connected, self._read)

    @property
    def peer_pid(self) -> int | None:
        if self._peer_pid is None and self._socket.fileno() >= 0:
            self._peer_pid = read_peer_pid(self._socket)
        return self._peer_pid

    async def negotiate(self, deadline: Deadline) -> None:
        """Complete the greeting and the negotiation.

        Raises:
            ConnectError: the server sent an invalid message or no message; the session has ended.
        """
        protocol = self._protocol
        try:
            while protocol.is_negotiating or (protocol.has_data_to_send and protocol.state is not ENDED):
                if protocol.has_data_to_send:
                    self._post(protocol.data_to_send())
                elif not await self._wait_for_step(deadline):
                    break
        except BaseException:
            self.end("connecting was interrupted")
            raise
        if protocol.is_negotiating:
            self.end(self._negotiation_timeout(deadline))
        if protocol.state is ENDED:
            raise self._connect_error() from protocol.failure

    async def _wait_for_step(self, deadline: Deadline) -> bool:
        """Wait for a new state of the negotiation, or call the timer; return False if the deadline passed."""
        protocol = self._protocol
        before = protocol.state
        timer_s = protocol.next_timer()
        await self._wait(self._loop.create_future(), deadline if timer_s is None else deadline.sooner(timer_s))
        if protocol.state is before:
            if deadline.remaining_s() <= 0:
                return False
            protocol.handle_timer()
        return True

    def end(self, reason: str) -> None:
        """End the session; waiting tasks raise ConnectionLost with this reason. Does nothing if it has ended."""
        self._end_protocol(reason)
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        with contextlib.suppress(OSError):  # no longer connected
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._outbox.clear()
        self._wake_all()

    async def _wait(self, waiter: asyncio.Future[None], deadline: Deadline) -> None:
        """Wait until the waiter is woken, the session changes its state, or the deadline has passed."""
        timer = None
        if deadline.timeout_s != math.inf:
            timer = self._loop.call_later(deadline.remaining_s(), wake, waiter)
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()

    def _check_usable(self) -> None:
        if self.state is ENDED:
            raise self._lost_error()
        if asyncio.get_running_loop() is not self._loop:
            raise ProgrammerError(f"{self.address}: the connection belongs to another event loop")

    def _wake_all(self) -> None:
        for waiter in self._waiters:
            wake(waiter)

    async def exchange(
        self,
        start: Callable[[Protocol], tuple[Exchange, bytes]],
        deadline: Deadline,
        *,
        has_reply: bool = True,
        fds: Sequence[int] = (),
    ) -> Exchange:
        """Send a command and wait until its exchange is ready.

        When the task is cancelled or the deadline passes, a command of which no byte was sent is discarded; the late
        reply to any other command is dropped.

        Args:
            start: opens the exchange in the protocol; returns it and its bytes.
            deadline: for sending and waiting.
            has_reply: False to return after sending.
            fds: descriptors to send with the command.

        Raises:
            CommandTimeout: no reply in time.
            ConnectionLost: the session had ended before.
            ProgrammerError: the command cannot be sent, or the session belongs to another event loop.
        """
        self._check_usable()
        copied = array.array("i", fds)  # raises before the exchange is opened if a descriptor is not an int
        exchange, data = start(self._protocol)
        message = self._post(data, copied)
        waiter = self._loop.create_future()
        exchange.on_ready = functools.partial(wake, waiter)
        if not has_reply:
            message.on_sent = exchange.on_ready
        try:
            if not exchange.is_ready and (has_reply or not message.is_sent):
                await self._wait(waiter, deadline)
        finally:
            is_unsent = message.sent == 0
            self._drop(exchange, message, has_reply)
        if not has_reply and exchange.error is not None and not message.is_sent:
            raise exchange.error
        if exchange.is_ready:
            if deadline.elapsed_s() > timeout_class_of(exchange.command).slow_s:
                self._warn_slow(exchange, deadline)
        elif has_reply or is_unsent:
            owed = 0 if is_unsent else self._protocol.replies_owed(exchange)
            raise CommandTimeout(exchange.command, deadline.timeout_s, owed, was_sent=not is_unsent)
        return exchange

    def _drop(self, exchange: Exchange, message: OutgoingMessage, has_reply: bool) -> None:
        """Stop waiting for an exchange; a message that was sent in part is sent to its end."""
        exchange.on_ready = message.on_sent = None
        if message.sent == 0 and self.state is not ENDED:
            self._outbox.remove(message)  # the caller may close its descriptors from now on
            self._protocol.discard(exchange)
        elif not has_reply:
            self._protocol.discard(exchange)
        elif not exchange.is_ready:
            self._protocol.abandon(exchange)

    def _post(self, data: bytes, fds: array.array[int] | None = None) -> OutgoingMessage:
        """Queue a message, and send it at once if the queue was empty."""
        message = OutgoingMessage(data, fds)
        self._outbox.append(message)
        if len(self._outbox) == 1:
            self._flush()
        return message

    def _flush(self) -> None:
        try:
            while self._outbox:
                message = self._outbox[0]
                message.send(self._socket)
                self._outbox.popleft()
                if message.on_sent is not None:
                    message.on_sent()
        except (BlockingIOError, InterruptedError):
            if not self._has_writer:
                self._has_writer = True
                self._loop.add_writer(self._socket, self._flush)
        except OSError as error:
            self.read_all()
            self.end(f"cannot send: {error.strerror}")
        except BaseException:
            self.end("interrupted while sending")  # how many bytes were sent is unknown
            raise
        else:
            if self._has_writer:
                self._has_writer = False
                self._loop.remove_writer(self._socket)

    def _read(self) -> bool:
        """Read once, process the data, and wake the tasks that wait for it; return whether there was any."""
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.end(f"the connection failed: {error.strerror}")
            return False
        if not data:
            self.end("the server closed the connection")
            return False
        protocol = self._protocol
        before = protocol.state
        protocol.receive_data(data)
        for event in protocol.take_events():
            self._dispatch(event)
        if protocol.state is ENDED:
            self.end(str(protocol.failure))
        elif protocol.state is not before:
            self._wake_all()
        return True

    def read_all(self) -> None:
        """Read the available data, or a part of it if the server never stops sending."""
        for _ in range(_MAX_READS):
            if self.state is ENDED or not self._read():
                return

    def add_subscription(self, subscription: EventQueue[Any]) -> None:
        """Deliver events to a subscription from now on.

        Raises:
            ConnectionLost: the session has ended.
        """
        if self.state is ENDED:
            raise self._lost_error()
        self._subscriptions.append(subscription)

    def unsubscribe(self, subscription: EventQueue[Any]) -> None:
        """Stop delivering to a subscription."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    async def wait_for_event(self, waiters: set[asyncio.Future[None]], deadline: Deadline) -> None:
        """Wait until a subscription wakes its waiters, or the deadline has passed.

        Raises:
            ConnectionLost: the session had ended before.
            ProgrammerError: the session belongs to another event loop.
        """
        self._check_usable()
        waiter = self._loop.create_future()
        waiters.add(waiter)
        try:
            await self._wait(waiter, deadline)
        finally:
            waiters.discard(waiter)

    def take_unclaimed(self) -> list[Event]:
        self.read_all()
        if self.state is ENDED and not self._unclaimed:
            raise self._lost_error()
        return self._pop_unclaimed()
