# SPDX-License-Identifier: BSD-2-Clause
"""The asyncio connection to a monitor: typed commands, raw messages, events, for any number of tasks.

A task may be cancelled wherever it waits: that concerns nobody but itself. This module is imported by those who want
it, for importing asyncio takes longer than all the rest.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from hvkit.errors import ProgrammerError
from hvkit.qmp.aio.session import AsyncSession, open_socket, wake
from hvkit.qmp.base import Command, Event
from hvkit.qmp.common.connection import MonitorEndpoint, check_fds, from_wire, raw_from_wire, to_wire
from hvkit.qmp.common.listener import ListeningSocket
from hvkit.qmp.deadlines import QUICK, Deadline
from hvkit.qmp.errors import ConnectError
from hvkit.qmp.events import DEFAULT_MAXSIZE, EventQueue
from hvkit.qmp.message import QmpMessage

__all__ = ["AsyncQmpConnection", "AsyncQmpListener", "AsyncSubscription"]

R = TypeVar("R")
E = TypeVar("E", bound=Event)


class AsyncSubscription(EventQueue[E]):
    """Events of some types, in the order they came, from the moment of subscribing.

    ``async for`` gives events until the connection ends, which raises ConnectionLost: silence is never mistaken for
    peace. A task that is cancelled while it waits takes no event away.

    Attributes:
        dropped: how many events were dropped since nobody took them in time; the oldest go first.
    """

    def __init__(
        self, session: AsyncSession, types: tuple[type[E], ...], *, match: Callable[[E], bool] | None, maxsize: int
    ) -> None:
        super().__init__(types, match=match, maxsize=maxsize)
        self._session = session
        self._waiters: set[asyncio.Future[None]] = set()

    def offer(self, notice: dict[str, Any]) -> bool:
        """Take a notice if it is of a wanted type, and wake those who wait for one."""
        is_wanted = super().offer(notice)
        if is_wanted:
            for waiter in self._waiters:
                wake(waiter)
        return is_wanted

    async def get(self, timeout: float | None = None) -> E:
        """Return the next event.

        Args:
            timeout: seconds to wait; None waits for ever.

        Raises:
            EventTimeout: none came in time.
            ConnectionLost: the connection ended, and no event is left.
            DataError: an event came whose data does not have the shape of its class; it is consumed.
        """
        return await self._next(None, timeout)

    async def wait_for(self, predicate: Callable[[E], bool], timeout: float | None = None) -> E:
        """Return the first event that satisfies a predicate; those before it are dropped.

        Args:
            predicate: called with each event.
            timeout: seconds for all of the waiting; None waits for ever.

        Raises:
            EventTimeout: no such event came in time.
            ConnectionLost: the connection ended, and no event is left.
            DataError: an event came whose data does not have the shape of its class; it is consumed.
        """
        return await self._next(predicate, timeout)

    async def _next(self, predicate: Callable[[E], bool] | None, timeout: float | None) -> E:
        deadline = Deadline(math.inf if timeout is None else timeout)
        is_last = False
        while (event := self.take(predicate)) is None:
            if is_last:
                raise self._too_late(deadline)
            is_last = deadline.remaining_s() <= 0
            await self._session.wait_for_event(self._waiters, deadline)
        return event

    def __aiter__(self) -> AsyncIterator[E]:
        return self

    async def __anext__(self) -> E:
        return await self.get()

    def close(self) -> None:
        """Stop listening; events not taken are dropped. Closing again does nothing."""
        self._session.unsubscribe(self)
        self._queue.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncQmpConnection(MonitorEndpoint[AsyncSession]):
    """A connection to the monitor of one QEMU, for any number of tasks of one event loop.

    It has the names of `QmpConnection`, and their meaning. It may be made where no event loop runs; `connect` ties it
    to the one it is called on. A connection that was closed or lost can be connected again; subscriptions end with the
    connection they were made on.

    Args:
        address: where the monitor listens: the path of a unix socket, ``@name`` for an abstract one, or a TCP host and
            port.
        timeout: seconds that connecting and every command may take; None: 5 for connecting, and for commands what
            `hvkit.qmp.deadlines` says.
        deadlines: seconds by the wire name of a command; goes before `timeout`.
        out_of_band: negotiate that commands may be executed out of band, if the peer offers it.
        transcript: a file to which every message is appended, without its secrets, as for `QmpConnection`.
        max_message_bytes: the longest message taken from the peer; a longer one ends the connection.
    """

    async def connect(self, *, timeout: float | None = None) -> None:
        """Connect, read and check the greeting, and leave negotiation behind.

        Afterwards commands can be executed. After a failure, or when the task is cancelled, nothing is left open.

        Args:
            timeout: seconds for all of it; None: the connection's own, or 5.

        Raises:
            ConnectError: there is no such socket, nobody listens, the monitor is busy or stopped, or this is no
                monitor, or the connection was closed meanwhile; its reason says which.
            ProgrammerError: it is connected already or is being connected, or was made of a socket that has been used
                up.
        """
        if self._connecting is not None:
            raise ProgrammerError(f"{self._name}: connect() on a connection that is being connected")
        deadline = self._begin_connecting(timeout)
        connected = self._take_given()
        if connected is None:
            mine = self._connecting = object()
            try:
                connected = await open_socket(self._address, deadline)
            finally:
                was_closed = self._connecting is not mine
                if not was_closed:
                    self._connecting = None
            if was_closed:
                connected.close()
                raise ConnectError(self._name, "the connection was closed")
        session = self._session = AsyncSession(connected, self._name, self._new_protocol())
        try:
            await session.negotiate(deadline)
        except BaseException:
            if self._session is session:  # somebody else may have closed it and connected again
                self._session = None
            raise

    async def close(self) -> None:
        """Close the connection; whoever waits on it gets ConnectionLost. Closing again does nothing."""
        self._connecting = None
        session = self._detach()
        if session is not None:
            session.end("the connection was closed")

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- commands

    @overload
    async def execute(
        self,
        command: Command[R],
        /,
        *,
        timeout: float | None = None,
        fds: Sequence[int] = (),
        out_of_band: bool = False,
    ) -> R: ...
    @overload
    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float | None = None,
        fds: Sequence[int] = (),
        out_of_band: bool = False,
    ) -> Any: ...
    async def execute(
        self,
        command: Command[Any] | str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float | None = None,
        fds: Sequence[int] = (),
        out_of_band: bool = False,
    ) -> Any:
        """Execute a command and return what it returns.

        When the task is cancelled the command may have been sent; then QEMU executes it, and its reply is dropped.

        Args:
            command: a typed command, or the wire name of one.
            arguments: plain data or schema values by wire name, for a command given by its name.
            timeout: seconds to wait for the reply, `math.inf` for ever; None: the connection's own, or what
                `hvkit.qmp.deadlines` has for the command.
            fds: descriptors that travel with the very bytes of the command, as `getfd` and `add-fd` want. They stay the
                caller's to close, whatever happens, once this returns or raises.
            out_of_band: have the peer execute it ahead of others; for the few commands that allow it, on a connection
                that has it negotiated.

        Returns:
            For a typed command a value of its `reply_type`; otherwise plain data.

        Raises:
            CommandError: QEMU refused the command, or it failed; the class tells the QAPI error class.
            CommandTimeout: no reply in time. The fate of the command is unknown; the connection stays usable.
            ConnectionLost: the connection ended; the fate of the commands it names is unknown.
            DataError: the reply does not have the shape of its type; or what came while the command was in flight
                is no JSON, and its fate is unknown.
            ProtocolError: something senseless came while the command was in flight; its fate is unknown.
            NotInThisQemu: the peer lacks something that the command carries; only after `check_against`.
            ProgrammerError: there is no connection, or it is another event loop's, or the arguments cannot be sent.
        """
        session = self._open_session("execute()")
        name, plain, has_reply, reply_type = to_wire(command, arguments)
        if self._command_check is not None:
            self._command_check.check(name, plain)
        if fds:
            check_fds(fds)
        exchange = await session.exchange(
            lambda protocol: protocol.open_exchange(name, plain, out_of_band=out_of_band),
            self._deadline(name, timeout),
            has_reply=has_reply,
            fds=fds,
        )
        return from_wire(exchange, reply_type) if has_reply else None

    async def exchange(self, message: QmpMessage, *, timeout: float | None = None) -> QmpMessage:
        """Send a raw message and return the raw reply to it, an error reply too.

        A message without an id travels with one of ours, which is taken off the reply again.

        Args:
            message: what to send.
            timeout: seconds to wait for the reply; None: as for `execute`.

        Raises:
            CommandTimeout: no reply in time; the connection stays usable.
            ConnectionLost: the connection ended.
            DataError: what came while the message was in flight is no JSON.
            ProtocolError: something senseless came while the message was in flight.
            ProgrammerError: there is no connection, or the message cannot be sent.
        """
        session = self._open_session("exchange()")
        name = str(message["execute"] or message["exec-oob"] or "")
        exchange = await session.exchange(
            lambda protocol: protocol.open_raw_exchange(message.data), self._deadline(name, timeout)
        )
        return raw_from_wire(exchange, message)

    # ---- events

    @overload
    def subscribe(self, *, maxsize: int = DEFAULT_MAXSIZE) -> AsyncSubscription[Event]: ...
    @overload
    def subscribe(
        self, *types: type[E], match: Callable[[E], bool] | None = None, maxsize: int = DEFAULT_MAXSIZE
    ) -> AsyncSubscription[E]: ...
    def subscribe(
        self, *types: type[Any], match: Callable[[Any], bool] | None = None, maxsize: int = DEFAULT_MAXSIZE
    ) -> AsyncSubscription[Any]:
        """Return a subscription to events of some types, from this moment on; use it in a `with` block.

        Subscribe before doing what the events will tell about.

        Args:
            types: event classes; all events where none is given. `GenericEvent` stands for those the schema does not
                know.
            match: takes an event and tells whether it is wanted, besides its type.
            maxsize: how many events are held for whoever takes them; then the oldest are dropped, and counted.

        Raises:
            ConnectionLost: the connection has ended.
            ProgrammerError: there is no connection.
        """
        session = self._open_session("subscribe()")
        subscription = AsyncSubscription(session, types, match=match, maxsize=maxsize)
        session.add_subscription(subscription)
        return subscription

    def take_events(self) -> list[Event]:
        """Take the events that came so far and that no subscription wanted, oldest first; does not wait.

        The last 1000 are kept, those before the greeting included. Where one does not fit its class those before it
        are returned, and the next call raises.

        Raises:
            ConnectionLost: the connection has ended and there are none.
            DataError: the oldest event's data does not have the shape of its class; it is consumed, and no other.
            ProgrammerError: there is no connection.
        """
        return self._open_session("take_events()").take_unclaimed()


class AsyncQmpListener(ListeningSocket):
    """A unix socket on which monitors call us. It listens from construction to `close`; use it in a plain `with`.

    It has the names of `hvkit.qmp.listener.QmpListener`, and their meaning. It may be made where no event loop runs.

    Args:
        path: where to listen.
        options: of the connections that are made, as for `AsyncQmpConnection`.

    Raises:
        ConnectError: it is not possible to listen there.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(path, **options)
        self._socket.setblocking(False)
        #: Of every task that waits for a call; they are tasks of one event loop.
        self._waiters: set[asyncio.Future[None]] = set()

    async def accept(self, *, timeout: float = QUICK.timeout_s) -> AsyncQmpConnection:
        """Wait for a monitor to call, and return the connection to it, ready for commands.

        A task that is cancelled while it waits takes no call away; one that negotiates already hangs up.

        Args:
            timeout: seconds to wait for the call, `math.inf` for no end; and as many again for the negotiation.

        Raises:
            ConnectError: nobody called in time, or what called is no monitor, or the listener was closed meanwhile.
            ProgrammerError: the listener is closed.
        """
        self._check_open()
        deadline = Deadline(timeout)
        while True:
            try:
                connected, _ = self._socket.accept()
            except BlockingIOError as error:
                if deadline.remaining_s() <= 0:
                    raise self._nobody(timeout) from error
            except OSError as error:
                raise self._no_accept(error) from error
            else:
                break
            await self._wait_for_call(deadline)
        connection = AsyncQmpConnection.from_socket(connected, **self._options)
        await connection.connect(timeout=timeout)
        return connection

    async def _wait_for_call(self, deadline: Deadline) -> None:
        """Wait until somebody may have called, the listener is closed, or the deadline has passed."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        timer = None
        if deadline.timeout_s != math.inf:
            timer = loop.call_later(max(deadline.remaining_s(), 0.0), wake, waiter)
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
        """Stop listening and remove the socket; connections that were made live on. Closing again does nothing.

        Whoever waits for a call gets ConnectError.
        """
        for waiter in self._waiters:
            waiter.get_loop().remove_reader(self._socket)
        self._wake_all()
        super().close()
