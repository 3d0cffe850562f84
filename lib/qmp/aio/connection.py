# SPDX-License-Identifier: BSD-2-Clause
"""The asyncio connection to a monitor: typed commands, raw messages, events.

The methods have the names, arguments and errors of `hvkit.qmp.QmpConnection`, which documents them. The docstrings here
describe only the differences. The code is not generated from the blocking connection, because little more than the
signatures is the same: the blocking `execute` has a fast path, and the waiting is in the sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from hvkit.errors import ProgrammerError
from hvkit.qmp.aio.session import AsyncSession
from hvkit.qmp.aio.subscription import AsyncSubscription
from hvkit.qmp.aio.transport import open_socket
from hvkit.qmp.base import Command, Event
from hvkit.qmp.codec import raw_command_name, raw_reply, structure_reply, unstructure_command
from hvkit.qmp.common.connection import BaseMonitorConnection
from hvkit.qmp.common.transport import check_fds
from hvkit.qmp.deadlines import check_timeout
from hvkit.qmp.errors import ConnectError, QmpError
from hvkit.qmp.events import DEFAULT_MAXSIZE
from hvkit.qmp.message import QmpMessage

R = TypeVar("R")
E = TypeVar("E", bound=Event)


class AsyncQmpConnection(BaseMonitorConnection[AsyncSession]):
    """A `hvkit.qmp.QmpConnection` for the tasks of one event loop; takes the same arguments.

    It can be created without an event loop; `connect` binds it to the running one. A task that is cancelled while it
    waits does not affect other tasks.
    """

    async def connect(self, *, timeout: float | None = None) -> None:
        """Connect, check the greeting, and negotiate; see `hvkit.qmp.QmpConnection.connect`.

        Nothing is left open when the task is cancelled.

        Raises:
            ConnectError: also if another task closes the connection meanwhile.
        """
        if self._connecting is not None:
            raise ProgrammerError(f"{self._name}: connect() while another task connects")
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
            if self._session is session:  # another task may have closed it and connected again
                self._session = None
            raise

    async def close(self) -> None:
        """Close the connection; tasks that wait on it raise ConnectionLost. Does nothing if it is closed."""
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
        """Execute a command and return its return value; see `hvkit.qmp.QmpConnection.execute`.

        When the task is cancelled, QEMU still executes a command of which any byte was sent, and its reply is dropped.
        Descriptors in `fds` may be closed as soon as this returns or raises.

        Raises:
            ProgrammerError: also if the connection belongs to another event loop.
        """
        session = self._open_session("execute()")
        name, plain, has_reply, reply_type = unstructure_command(command, arguments)
        if timeout is not None:
            check_timeout(timeout)
        if fds:
            check_fds(fds)
        try:
            if self._command_check is not None:
                self._command_check.check(name, plain)
            exchange = await session.exchange(
                lambda protocol: protocol.open_exchange(name, plain, out_of_band=out_of_band),
                self._deadline(name, timeout),
                has_reply=has_reply,
                fds=fds,
            )
            return structure_reply(exchange, reply_type) if has_reply else None
        except QmpError as error:
            error.set_monitor(self._name)
            raise

    async def exchange(self, message: QmpMessage, *, timeout: float | None = None) -> QmpMessage:
        """Send a raw message and return the raw reply; see `hvkit.qmp.QmpConnection.exchange`.

        Cancellation has the same effect as for `execute`.

        Raises:
            ProgrammerError: also if the connection belongs to another event loop.
        """
        session = self._open_session("exchange()")
        if timeout is not None:
            check_timeout(timeout)
        name = raw_command_name(message)
        try:
            exchange = await session.exchange(
                lambda protocol: protocol.open_raw_exchange(message.data), self._deadline(name, timeout)
            )
            return raw_reply(exchange, message)
        except QmpError as error:
            error.set_monitor(self._name)
            raise

    @overload
    def subscribe(self, *, maxsize: int = DEFAULT_MAXSIZE) -> AsyncSubscription[Event]: ...
    @overload
    def subscribe(
        self, *types: type[E], match: Callable[[E], bool] | None = None, maxsize: int = DEFAULT_MAXSIZE
    ) -> AsyncSubscription[E]: ...
    def subscribe(
        self, *types: type[Any], match: Callable[[Any], bool] | None = None, maxsize: int = DEFAULT_MAXSIZE
    ) -> AsyncSubscription[Any]:
        """Return a subscription to events of some types, from now on; see `hvkit.qmp.QmpConnection.subscribe`.

        Does not wait; use it in a plain `with` block.
        """
        session = self._open_session("subscribe()")
        subscription = AsyncSubscription(session, types, match=match, maxsize=maxsize)
        session.add_subscription(subscription)
        return subscription
