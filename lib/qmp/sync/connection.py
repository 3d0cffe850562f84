# SPDX-License-Identifier: BSD-2-Clause
"""The blocking connection to a monitor: typed commands, raw messages, events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from hvkit.errors import ProgrammerError
from hvkit.qmp.base import Command, Event
from hvkit.qmp.codec import raw_command_name, raw_reply, structure_reply, unstructure_command
from hvkit.qmp.common.connection import BaseConnection, BaseMonitorConnection
from hvkit.qmp.common.transport import check_fds
from hvkit.qmp.deadlines import Deadline, check_timeout
from hvkit.qmp.errors import QmpError
from hvkit.qmp.events import DEFAULT_MAXSIZE
from hvkit.qmp.message import QmpMessage
from hvkit.qmp.sync.session import Session
from hvkit.qmp.sync.subscription import Subscription
from hvkit.qmp.sync.transport import Transport, connect

R = TypeVar("R")
E = TypeVar("E", bound=Event)
S = TypeVar("S", bound=Session)


class SyncConnection(BaseConnection[S]):
    """A connection that threads share, to a monitor or a guest agent: connecting and closing."""

    def connect(self, *, timeout: float | None = None) -> None:
        """Connect; afterwards commands can be executed. After a failure nothing is left open.

        Args:
            timeout: seconds for connecting and negotiating; None: the timeout of the connection, or 5.

        Raises:
            ConnectError: connecting failed.
            ProgrammerError: the connection is connected, another thread is connecting it, it was made from a socket
                that was used already, or the timeout is not a number.
        """
        me = object()
        try:
            with self._guard:
                if self._connecting is not None:
                    raise ProgrammerError(f"{self._name}: connect() while another thread connects")
                deadline = self._begin_connecting(timeout)
                given = self._take_given()
                self._connecting = me
            transport = connect(self._address, deadline) if given is None else Transport(given, self._name)
            session = self._new_session(transport)
            with self._guard:
                if self._connecting is me:
                    self._session = session  # from now on close() ends it
                else:
                    session.end("the connection was closed")
            self._negotiate(session, deadline)
        finally:
            if self._connecting is me:
                self._connecting = None

    def _new_session(self, transport: Transport) -> S:
        """Return a new session over a transport, which it owns from now on."""
        raise NotImplementedError

    def _negotiate(self, session: S, deadline: Deadline) -> None:
        try:
            session.negotiate(deadline)
        except BaseException:
            if self._session is session:
                self._session = None
            raise

    def close(self) -> None:
        """Close the connection; threads that wait on it raise ConnectionLost. Does nothing if it is closed."""
        with self._guard:
            self._connecting = None
            session = self._detach()
        if session is not None:
            session.end("the connection was closed")

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class QmpConnection(BaseMonitorConnection[Session], SyncConnection[Session]):
    """A connection to the monitor of one QEMU.

    Any number of threads may use it at once. A connection that was closed or lost can be connected again;
    subscriptions end with the connection on which they were made.

    Args:
        address: address of the monitor: the path of a unix socket, ``@name`` for an abstract socket, or a TCP host and
            port.
        timeout: seconds for connecting and for every command; None: 5 for connecting, and for commands the defaults
            in `hvkit.qmp.deadlines`.
        deadlines: seconds by the wire name of a command; takes precedence over `timeout`.
        out_of_band: negotiate out-of-band execution, if the server offers it.
        transcript: a file to which every message is appended, with secrets redacted: one JSON object per line, with the
            members `time` (seconds since the epoch), `direction` (``->`` sent, ``<-`` received) and `message`.
        max_message_bytes: the longest message to accept; a longer one ends the connection.

    Raises:
        ProgrammerError: a timeout is not a number.
    """

    def connect(self, *, timeout: float | None = None) -> None:
        """Connect, check the greeting, and negotiate.

        Afterwards commands can be executed. After a failure nothing is left open.

        Args:
            timeout: seconds in total; None: the timeout of the connection, or 5.

        Raises:
            ConnectError: the address is invalid, there is no such socket, no process listens on it, QEMU is busy or
                stopped, or the server is not a monitor; see its `reason`.
            ProgrammerError: the connection is connected, another thread is connecting it, it was made from a socket
                that was used already, or the timeout is not a number.
        """
        super().connect(timeout=timeout)

    def _new_session(self, transport: Transport) -> Session:
        return Session(transport, self._new_protocol())

    @overload
    def execute(
        self,
        command: Command[R],
        /,
        *,
        timeout: float | None = None,
        fds: Sequence[int] = (),
        out_of_band: bool = False,
    ) -> R: ...
    @overload
    def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float | None = None,
        fds: Sequence[int] = (),
        out_of_band: bool = False,
    ) -> Any: ...
    def execute(
        self,
        command: Command[Any] | str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float | None = None,
        fds: Sequence[int] = (),
        out_of_band: bool = False,
    ) -> Any:
        """Execute a command and return its return value.

        Args:
            command: a typed command, or the wire name of a command.
            arguments: plain data or schema values by wire name, for a command that is given by its name.
            timeout: seconds to wait for the reply, `math.inf`: no limit; None: the timeout of the connection, or the
                default of the command in `hvkit.qmp.deadlines`.
            fds: descriptors to send with the command, for `getfd` and `add-fd`. QEMU receives duplicates; the caller
                still owns the descriptors.
            out_of_band: execute the command out of band, before earlier commands that are waiting. Only a few commands
                allow it, and the connection must have negotiated it.

        Returns:
            For a typed command a value of its `reply_type`; otherwise plain data.

        Raises:
            CommandError: QEMU rejected the command, or the command failed; the class depends on the QAPI error class.
            CommandTimeout: no reply in time. The outcome is unknown if `was_sent` is true; the connection stays usable.
            ConnectionLost: the connection ended; the outcome of the commands in `commands` is unknown.
            DataError: the reply does not have the structure of its type; or the server sent data that is not JSON while
                the command was in flight, and the outcome is unknown.
            ProtocolError: the server sent an invalid message while the command was in flight; its outcome is unknown.
            NotInThisQemu: QEMU lacks the command or an argument; only after `check_against`.
            ProgrammerError: the connection is not connected, the timeout is not a number, or the command or a
                descriptor cannot be sent.
        """
        session = self._session or self._open_session("execute()")
        name, plain, has_reply, reply_type = unstructure_command(command, arguments)
        if timeout is not None:
            check_timeout(timeout)
        try:
            if self._command_check is not None:
                self._command_check.check(name, plain)
            timeout_s = self.command_timeout_s(name, timeout)
            if has_reply and not fds and not out_of_band:
                simple_exchange = session.try_exchange(name, plain, timeout_s)
                if simple_exchange is not None:
                    return structure_reply(simple_exchange, reply_type)
            check_fds(fds)
            exchange = session.exchange(
                name,
                lambda protocol: protocol.open_exchange(name, plain, out_of_band=out_of_band),
                Deadline(timeout_s),
                has_reply=has_reply,
                fds=fds,
            )
            return structure_reply(exchange, reply_type) if has_reply else None
        except QmpError as error:
            error.set_monitor(self._name)
            raise

    def exchange(self, message: QmpMessage, *, timeout: float | None = None) -> QmpMessage:
        """Send a raw message and return the raw reply, which may be an error reply.

        A message without an id is sent with one, which is removed from the reply.

        Args:
            message: the message to send.
            timeout: seconds to wait for the reply; as for `execute`.

        Raises:
            CommandTimeout: no reply in time; the connection stays usable.
            ConnectionLost: the connection ended.
            DataError: the server sent data that is not JSON while the message was in flight.
            ProtocolError: the server sent an invalid message while the message was in flight.
            ProgrammerError: the connection is not connected, the timeout is not a number, or the message cannot be
                sent.
        """
        session = self._open_session("exchange()")
        if timeout is not None:
            check_timeout(timeout)
        name = raw_command_name(message)
        try:
            exchange = session.exchange(
                name, lambda protocol: protocol.open_raw_exchange(message.data), self._deadline(name, timeout)
            )
            return raw_reply(exchange, message)
        except QmpError as error:
            error.set_monitor(self._name)
            raise

    @overload
    def subscribe(self, *, maxsize: int = DEFAULT_MAXSIZE) -> Subscription[Event]: ...
    @overload
    def subscribe(
        self, *types: type[E], match: Callable[[E], bool] | None = None, maxsize: int = DEFAULT_MAXSIZE
    ) -> Subscription[E]: ...
    def subscribe(
        self, *types: type[Any], match: Callable[[Any], bool] | None = None, maxsize: int = DEFAULT_MAXSIZE
    ) -> Subscription[Any]:
        """Return a subscription to events of some types, from now on; use it in a `with` block.

        Subscribe before executing the command that causes the events.

        Args:
            types: event classes; none for all events. `GenericEvent` stands for all events that the schema does not
                know.
            match: called with an event of a wanted type; returns whether it is wanted.
            maxsize: the maximum number of events that wait to be taken. Beyond it, the oldest is dropped and counted in
                `dropped`.

        Raises:
            ConnectionLost: the connection has ended.
            ProgrammerError: the connection is not connected, a type is not an event class, or `maxsize` is less than 1.
        """
        session = self._open_session("subscribe()")
        subscription = Subscription(session, types, match=match, maxsize=maxsize)
        session.add_subscription(subscription)
        return subscription
