# SPDX-License-Identifier: BSD-2-Clause
"""One life of an asyncio connection, shared by tasks: from the connected socket to its end.

The event loop reads, and writes what could not be sent at once. What it reads makes exchanges and subscriptions ready,
which wake the tasks that wait for them; everything happens in the loop's own thread.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import functools
import math
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from hvkit.errors import ProgrammerError
from hvkit.qmp.base import Event
from hvkit.qmp.common.connection import Conversation
from hvkit.qmp.deadlines import Deadline, pace_of
from hvkit.qmp.errors import CommandTimeout, ConnectError
from hvkit.qmp.events import EventQueue
from hvkit.qmp.protocol import ENDED, LINE_END_GRACE_S, Exchange, Protocol, State
from hvkit.qmp.sync.transport import Address, Opening, address_text, connect_problem, read_peer_pid

_RECEIVE_BYTES: Final = 65536
#: How many reads in a row one call may do: a peer that never stops talking must not stop the event loop.
_READS_AT_ONCE: Final = 64
#: Seconds between attempts to get a place in a backlog that is full: the kernel tells nobody when there is one.
_BACKLOG_PAUSE_S: Final = 0.02


def wake(waiter: asyncio.Future[None]) -> None:
    """Wake whoever waits for a future, if nobody did before."""
    if not waiter.done():
        waiter.set_result(None)


class _Outgoing:
    """A message on its way out.

    Attributes:
        sent: how many of its bytes are out; `fds` travel with the first.
        on_sent: called when all are; None for nobody.
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
        """Send what the socket takes.

        Raises:
            BlockingIOError: it does not take all.
            OSError: the connection broke.
        """
        if self.fds and not self.sent:
            self.sent = socket.send_fds(target, [self.data], self.fds, socket.MSG_NOSIGNAL)
        while not self.is_sent:
            self.sent += target.send(memoryview(self.data)[self.sent :], socket.MSG_NOSIGNAL)


class AsyncSession(Conversation):
    """One life of a connection, on one event loop; owns the socket."""

    def __init__(self, connected: socket.socket, address: str, protocol: Protocol) -> None:
        super().__init__(address, protocol, read_peer_pid(connected))
        connected.setblocking(False)
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._outbox: deque[_Outgoing] = deque()
        self._is_watching_for_room = False
        #: Of every task that waits here.
        self._waiters: set[asyncio.Future[None]] = set()
        self._loop.add_reader(connected, self._read)

    # ---- the beginning and the end

    async def negotiate(self, deadline: Deadline) -> None:
        """Have the protocol get over greeting and negotiation.

        Raises:
            ConnectError: the peer did not say the right thing, or nothing; the session has ended.
        """
        try:
            if await self._leave(State.GREETING, deadline):
                self._post(self._protocol.data_to_send())
                if not await self._leave(State.NEGOTIATING, deadline.sooner(LINE_END_GRACE_S)):
                    self._protocol.end_lines()
                    self._post(self._protocol.data_to_send())
                await self._leave(State.NEGOTIATING, deadline)
        except BaseException:
            self.end("connecting was interrupted")
            raise
        if self.state in (State.GREETING, State.NEGOTIATING):
            self.end(self._silence(deadline))
        if self.state is ENDED:
            raise self._never_ready() from self._protocol.failure

    async def _leave(self, state: State, deadline: Deadline) -> bool:
        """Wait for the end of a state; False when the deadline passed."""
        if self.state is state:
            await self._wait(self._loop.create_future(), deadline)
        return self.state is not state

    def end(self, reason: str) -> None:
        """End the session; whoever waits on it gets ConnectionLost with this reason. Ending again does nothing."""
        self._note_end(reason)
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        with contextlib.suppress(OSError):  # the peer may be gone
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._outbox.clear()
        self._wake_all()

    # ---- waiting

    async def _wait(self, waiter: asyncio.Future[None], deadline: Deadline) -> None:
        """Wait until somebody wakes the waiter, the session changes its state, or the deadline has passed."""
        timer = None
        if deadline.timeout_s != math.inf:
            timer = self._loop.call_later(max(deadline.remaining_s(), 0.0), wake, waiter)
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()

    def _check_usable(self) -> None:
        if self.state is ENDED:
            raise self._lost()
        if asyncio.get_running_loop() is not self._loop:
            raise ProgrammerError(f"{self.address}: a connection is for the event loop that it was connected on")

    def _wake_all(self) -> None:
        for waiter in self._waiters:
            wake(waiter)

    # ---- exchanges

    async def exchange(
        self,
        start: Callable[[Protocol], tuple[Exchange, bytes]],
        deadline: Deadline,
        *,
        has_reply: bool = True,
        fds: Sequence[int] = (),
    ) -> Exchange:
        """Send a command and wait until its exchange is over.

        When the caller is cancelled, or the deadline passes, a command of which nothing was sent is not sent, and the
        late reply to any other is dropped.

        Args:
            start: opens the exchange in the protocol and returns it with its bytes.
            deadline: for all of it.
            has_reply: False to return once it is sent.
            fds: descriptors that travel with the command.

        Raises:
            CommandTimeout: no reply in time.
            ConnectionLost: the session had ended before.
            ProgrammerError: the command cannot be sent, or this is not the session's event loop.
        """
        self._check_usable()
        copied = array.array("i", fds)  # what are no descriptors fails here, with nothing begun
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
            if deadline.elapsed_s() > pace_of(exchange.command).slow_s:
                self._warn_of_slowness(exchange, deadline)
        elif has_reply or is_unsent:
            owed = 0 if is_unsent else self._protocol.replies_owed(exchange)
            raise CommandTimeout(exchange.command, deadline.timeout_s, owed, was_sent=not is_unsent)
        return exchange

    def _drop(self, exchange: Exchange, message: _Outgoing, has_reply: bool) -> None:
        """Stop waiting for an exchange; what was sent in part goes on being sent."""
        exchange.on_ready = message.on_sent = None
        if message.sent == 0 and self.state is not ENDED:
            self._outbox.remove(message)  # its descriptors may be closed from now on
            self._protocol.forget(exchange)
        elif not has_reply:
            self._protocol.forget(exchange)
        elif not exchange.is_ready:
            self._protocol.give_up(exchange)

    # ---- sending

    def _post(self, data: bytes, fds: array.array[int] | None = None) -> _Outgoing:
        """Send a message as soon as those before it are sent: at once, mostly."""
        message = _Outgoing(data, fds)
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
            if not self._is_watching_for_room:
                self._is_watching_for_room = True
                self._loop.add_writer(self._socket, self._flush)
        except OSError as error:
            self.read_all()
            self.end(f"the peer is gone: {error.strerror}")
        except BaseException:
            self.end("sending was interrupted")  # how much of the message is out, nobody knows
            raise
        else:
            if self._is_watching_for_room:
                self._is_watching_for_room = False
                self._loop.remove_writer(self._socket)

    # ---- receiving

    def _read(self) -> bool:
        """Take what has come, at most a read of it, and wake those concerned; whether there was anything."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.end(f"the connection broke: {error.strerror}")
            return False
        if not data:
            self.end("the peer closed the connection")
            return False
        protocol = self._protocol
        before = protocol.state
        protocol.receive_data(data)
        for notice in protocol.take_notices():
            self._deliver(notice)
        if protocol.state is ENDED:
            self.end(str(protocol.failure))
        elif protocol.state is not before:
            self._wake_all()
        return True

    def read_all(self) -> None:
        """Take what has come; of a peer that never stops talking, a part."""
        for _ in range(_READS_AT_ONCE):
            if self.state is ENDED or not self._read():
                return

    # ---- events

    def add_subscription(self, subscription: EventQueue[Any]) -> None:
        """Deliver events to a subscription from now on."""
        if self.state is ENDED:
            raise self._lost()
        self._subscriptions.append(subscription)

    def unsubscribe(self, subscription: EventQueue[Any]) -> None:
        """Stop delivering to a subscription."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    async def wait_for_event(self, waiters: set[asyncio.Future[None]], deadline: Deadline) -> None:
        """Wait until a subscription wakes its waiters, or the deadline has passed.

        Raises:
            ConnectionLost: the session had ended before.
            ProgrammerError: this is not the session's event loop.
        """
        self._check_usable()
        waiter = self._loop.create_future()
        waiters.add(waiter)
        try:
            await self._wait(waiter, deadline)
        finally:
            waiters.discard(waiter)

    def take_unclaimed(self) -> list[Event]:
        """Take the events that no subscription wanted, after reading what has come.

        Raises:
            ConnectionLost: the session ended and there are none.
            DataError: the oldest does not have the shape of its class; it is consumed.
        """
        self.read_all()
        if self.state is ENDED and not self._unclaimed:
            raise self._lost()
        return self._take_kept()


async def open_socket(address: Address, deadline: Deadline) -> socket.socket:
    """Return a non-blocking socket that is connected to a monitor's; a caller who is cancelled leaves none.

    Raises:
        ConnectError: there is no such socket, nobody listens on it, or its backlog stays full.
    """
    opening = Opening(address)
    try:
        return await (_open_tcp(opening, deadline) if opening.is_tcp else _open_unix(opening, deadline))
    except (OSError, ValueError) as error:
        raise ConnectError(address_text(address), connect_problem(error, deadline)) from error


async def _open_unix(opening: Opening, deadline: Deadline) -> socket.socket:
    while True:
        try:
            return opening.start()
        except BlockingIOError:
            remaining_s = deadline.remaining_s()
            if remaining_s <= 0:
                raise
            await asyncio.sleep(min(_BACKLOG_PAUSE_S, remaining_s))


async def _open_tcp(opening: Opening, deadline: Deadline) -> socket.socket:
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    try:
        async with asyncio.timeout(None if deadline.timeout_s == math.inf else deadline.remaining_s()) as limit:
            for family, target in await loop.run_in_executor(None, opening.targets):
                opened = opening.new_socket(family)
                try:
                    opened.setblocking(False)
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
