# SPDX-License-Identifier: BSD-2-Clause
"""The blocking connection to a monitor: typed commands, raw messages, events."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, TracebackType
from typing import Any, Self, TypeVar, overload

from hvkit.errors import ProgrammerError
from hvkit.qmp.base import Command, Event
from hvkit.qmp.converter import structure, unstructure
from hvkit.qmp.deadlines import QUICK, Deadline, pace_of
from hvkit.qmp.events import DEFAULT_MAXSIZE, Subscription, to_event
from hvkit.qmp.message import QemuVersion, QmpMessage
from hvkit.qmp.protocol import Protocol, State
from hvkit.qmp.session import Session
from hvkit.qmp.transcript import Transcript
from hvkit.qmp.transport import Address, Transport, address_text, connect

R = TypeVar("R")
E = TypeVar("E", bound=Event)


class QmpConnection:
    """A connection to the monitor of one QEMU.

    Any number of threads may use it at once. A connection that was closed or lost can be connected again;
    subscriptions end with the connection they were made on.

    Args:
        address: where the monitor listens: the path of a unix socket, ``@name`` for an abstract one, or a TCP host and
            port.
        timeout: seconds that connecting and every command may take; None: 5 for connecting, and for commands what
            `hvkit.qmp.deadlines` says.
        deadlines: seconds by the wire name of a command; goes before `timeout`.
        out_of_band: negotiate that commands may be executed out of band, if the peer offers it.
        transcript: a file to which every message is appended, without its secrets: one JSON object a line, with the
            members `time` (seconds since the epoch), `direction` (``->`` sent, ``<-`` received) and `message`.
    """

    def __init__(
        self,
        address: Address,
        *,
        timeout: float | None = None,
        deadlines: Mapping[str, float] | None = None,
        out_of_band: bool = False,
        transcript: str | os.PathLike[str] | None = None,
    ) -> None:
        self._address = address
        self._name = address_text(address)
        self._timeout = timeout
        self._deadlines = dict(deadlines or {})
        self._wants_out_of_band = out_of_band
        self._transcript = transcript
        self._session: Session | None = None
        self._given: socket.socket | None = None
        self._is_given = False

    @classmethod
    def from_socket(cls, connected: socket.socket, **options: Any) -> Self:
        """Return a connection over a stream socket that leads to a monitor already; `connect` it next.

        The connection owns the socket from here on. It cannot be connected a second time.

        Args:
            connected: the socket.
            options: as for the constructor.
        """
        connection = cls(f"fd {connected.fileno()}", **options)
        connection._given = connected
        connection._is_given = True
        return connection

    def connect(self, *, timeout: float | None = None) -> None:
        """Connect, read and check the greeting, and leave negotiation behind.

        Afterwards commands can be executed. After a failure nothing is left open.

        Args:
            timeout: seconds for all of it; None: the connection's own, or 5.

        Raises:
            ConnectError: there is no such socket, nobody listens, the monitor is busy or stopped, or this is no
                monitor; its reason says which.
            ProgrammerError: it is connected already, or was made of a socket that has been used up.
        """
        if self._session is not None and self._session.state is not State.ENDED:
            raise ProgrammerError(f"{self._name}: connect() on a connection that is open")
        if timeout is None:
            timeout = QUICK.timeout_s if self._timeout is None else self._timeout
        deadline = Deadline(timeout)
        self._session = None
        trace = None if self._transcript is None else Transcript(self._transcript).add
        session = Session(self._open(deadline), Protocol(wants_out_of_band=self._wants_out_of_band, trace=trace))
        session.negotiate(deadline)
        self._session = session

    def _open(self, deadline: Deadline) -> Transport:
        if not self._is_given:
            return connect(self._address, deadline)
        given, self._given = self._given, None
        if given is None:
            raise ProgrammerError(f"{self._name}: a connection made of a socket connects once")
        return Transport(given, self._name)

    def close(self) -> None:
        """Close the connection; whoever waits on it gets ConnectionLost. Closing again does nothing."""
        session, self._session = self._session, None
        if session is not None:
            session.end("the connection was closed")
        given, self._given = self._given, None
        if given is not None:
            given.close()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<QmpConnection {self._name!r} {self._session.state.value if self._session else 'not connected'}>"

    @property
    def is_connected(self) -> bool:
        """Whether commands can be executed, as far as is known: a peer that died is noticed when it is talked to."""
        return self._session is not None and self._session.state is State.READY

    @property
    def version(self) -> QemuVersion:
        """The peer's version by its greeting; 0.0.0 where that does not say.

        Raises:
            ProgrammerError: there is no connection yet.
        """
        greeting = self._open_session("version").greeting
        return greeting.version if greeting else QemuVersion(0, 0, 0)

    def _open_session(self, what: str) -> Session:
        session = self._session
        if session is None:
            raise ProgrammerError(f"{self._name}: {what} before connect()")
        return session

    def _deadline(self, command: str, timeout: float | None) -> Deadline:
        if timeout is None:
            timeout = self._deadlines.get(command, self._timeout)
        return Deadline(pace_of(command).timeout_s if timeout is None else timeout)

    # ---- commands

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
        """Execute a command and return what it returns.

        Args:
            command: a typed command, or the wire name of one.
            arguments: plain data or schema values by wire name, for a command given by its name.
            timeout: seconds to wait for the reply, `math.inf` for ever; None: the connection's own, or what
                `hvkit.qmp.deadlines` has for the command.
            fds: descriptors that travel with the very bytes of the command, as `getfd` and `add-fd` want. They stay the
                caller's to close, whatever happens.
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
            ProgrammerError: there is no connection, or the arguments cannot be sent.
        """
        session = self._session or self._open_session("execute()")
        reply_type: Any
        if isinstance(command, str):
            name, has_reply, reply_type = command, True, Any
            plain = unstructure(arguments) if arguments else None
        else:
            if arguments is not None:
                raise ProgrammerError(f"{command.wire_name}: a typed command carries its arguments itself")
            name, has_reply, reply_type = command.wire_name, command.has_reply, command.reply_type
            plain = unstructure(command)
        exchange = session.exchange(
            name,
            lambda protocol: protocol.open_exchange(name, plain, out_of_band=out_of_band),
            self._deadline(name, timeout),
            has_reply=has_reply,
            fds=fds,
        )
        if not has_reply:
            return None
        returned = exchange.result()
        if reply_type is NoneType:
            return None
        return returned if reply_type is Any else structure(returned, reply_type, where=name)

    def exchange(self, message: QmpMessage, *, timeout: float | None = None) -> QmpMessage:
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
        exchange = session.exchange(
            name,
            lambda protocol: protocol.open_raw_exchange(message.data),
            self._deadline(name, timeout),
        )
        reply = exchange.raw_reply()
        if "id" not in message:
            reply.pop("id", None)
        return QmpMessage(reply)

    # ---- events

    @overload
    def subscribe(self, *, maxsize: int = DEFAULT_MAXSIZE) -> Subscription[Event]: ...
    @overload
    def subscribe(
        self, *types: type[E], match: Callable[[E], bool] | None = None, maxsize: int = DEFAULT_MAXSIZE
    ) -> Subscription[E]: ...
    def subscribe(
        self, *types: type[Any], match: Callable[[Any], bool] | None = None, maxsize: int = DEFAULT_MAXSIZE
    ) -> Subscription[Any]:
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
        subscription = Subscription(session, types, match=match, maxsize=maxsize)
        session.add_subscription(subscription)
        return subscription

    def take_events(self) -> list[Event]:
        """Take the events that came so far and that no subscription wanted, oldest first; does not wait.

        The last 1000 are kept, those before the greeting included.

        Raises:
            ConnectionLost: the connection has ended and there are none.
            DataError: an event's data does not have the shape of its class; all that were kept are consumed.
            ProgrammerError: there is no connection.
        """
        return [to_event(notice) for notice in self._open_session("take_events()").take_unclaimed()]
