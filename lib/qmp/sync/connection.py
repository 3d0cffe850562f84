# SPDX-License-Identifier: BSD-2-Clause
"""The blocking connection to a monitor: typed commands, raw messages, events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from hvkit.qmp.base import Command, Event
from hvkit.qmp.blocking import BlockingEndpoint
from hvkit.qmp.common.connection import MonitorEndpoint, check_fds, from_wire, raw_from_wire, to_wire
from hvkit.qmp.events import DEFAULT_MAXSIZE, Subscription
from hvkit.qmp.message import QmpMessage
from hvkit.qmp.sync.session import Session
from hvkit.qmp.sync.transport import Transport

R = TypeVar("R")
E = TypeVar("E", bound=Event)


class QmpConnection(MonitorEndpoint[Session], BlockingEndpoint[Session]):
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
        max_message_bytes: the longest message taken from the peer; a longer one ends the connection.
    """

    def connect(self, *, timeout: float | None = None) -> None:
        """Connect, read and check the greeting, and leave negotiation behind.

        Afterwards commands can be executed. After a failure nothing is left open.

        Args:
            timeout: seconds for all of it; None: the connection's own, or 5.

        Raises:
            ConnectError: there is no such socket, nobody listens, the monitor is busy or stopped, or this is no
                monitor; its reason says which.
            ProgrammerError: it is connected already or another thread is connecting it, or it was made of a socket
                that has been used up.
        """
        super().connect(timeout=timeout)

    def _new_session(self, transport: Transport) -> Session:
        return Session(transport, self._new_protocol())

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
            NotInThisQemu: the peer lacks something that the command carries; only after `check_against`.
            ProgrammerError: there is no connection, or the arguments or descriptors cannot be sent.
        """
        session = self._session or self._open_session("execute()")
        name, plain, has_reply, reply_type = to_wire(command, arguments)
        if self._command_check is not None:
            self._command_check.check(name, plain)
        is_plain = has_reply and not fds and not out_of_band
        exchange = session.send_at_once(name, plain) if is_plain else None
        # What can be done after sending is done then: the peer is at work meanwhile, and we would wait for it.
        deadline = self._deadline(name, timeout)
        if exchange is not None:
            session.wait_for_reply(exchange, deadline)
            return from_wire(exchange, reply_type)
        check_fds(fds)
        exchange = session.exchange(
            name,
            lambda protocol: protocol.open_exchange(name, plain, out_of_band=out_of_band),
            deadline,
            has_reply=has_reply,
            fds=fds,
        )
        return from_wire(exchange, reply_type) if has_reply else None

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
        return raw_from_wire(exchange, message)

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

        The last 1000 are kept, those before the greeting included. Where one does not fit its class those before it
        are returned, and the next call raises.

        Raises:
            ConnectionLost: the connection has ended and there are none.
            DataError: the oldest event's data does not have the shape of its class; it is consumed, and no other.
            ProgrammerError: there is no connection.
        """
        return self._open_session("take_events()").take_unclaimed()
