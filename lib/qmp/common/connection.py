# SPDX-License-Identifier: BSD-2-Clause
"""What every connection has, whether threads wait on it or tasks: its options, its state, its words for what happens.

Nothing here waits, reads or sends.
"""

from __future__ import annotations

import os
import socket
import threading
import typing
from collections import deque
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, Final, Generic, Self, TypeVar

from hvkit.errors import ProgrammerError
from hvkit.qmp import log
from hvkit.qmp.base import Command, Event
from hvkit.qmp.converter import structure, unstructure
from hvkit.qmp.deadlines import PACES, QUICK, Deadline
from hvkit.qmp.errors import ConnectError, ConnectionLost, DataError
from hvkit.qmp.events import EventQueue, to_event
from hvkit.qmp.message import Greeting, QemuVersion, QmpMessage
from hvkit.qmp.protocol import ENDED, MAX_MESSAGE_BYTES, READY, Exchange, Protocol, State, Trace
from hvkit.qmp.sync.transport import Address, address_text
from hvkit.qmp.transcript import Transcript

#: Source: scm(7), SCM_MAX_FD of the kernel.
_FDS_AT_ONCE: Final = 253
#: How many events that no subscription wanted are kept.
_UNCLAIMED_EVENTS: Final = 1000
#: What has not come where a negotiation stays in a state.
_MISSING: Final = {State.GREETING: "greeting", State.NEGOTIATING: "answer to qmp_capabilities"}


def negotiation_silence(state: State, deadline: Deadline) -> str:
    """Say that a negotiation did not go on before the deadline."""
    return f"no {_MISSING[state]} within {deadline.timeout_s:g} s: busy with another client, or stopped"


class Conversation:
    """What is known in the course of one life of a connection, from the connected socket to its end.

    Attributes:
        address: what it is connected to, as text.
        peer_pid: the process that began to listen there; None where that cannot be known.
    """

    def __init__(self, address: str, protocol: Protocol, peer_pid: int | None) -> None:
        self.address = address
        self.peer_pid = peer_pid
        self._protocol = protocol
        self._subscriptions: list[EventQueue[Any]] = []
        self._unclaimed: deque[dict[str, Any]] = deque(maxlen=_UNCLAIMED_EVENTS)

    @property
    def greeting(self) -> Greeting | None:
        """What the peer said first."""
        return self._protocol.greeting

    @property
    def state(self) -> State:
        """Where the conversation is."""
        return self._protocol.state

    def _note_end(self, reason: str) -> None:
        """Have everything in flight fail with this reason, unless the conversation has ended before."""
        if self._protocol.state is not ENDED:
            self._protocol.receive_eof(ConnectionLost(self.address, reason, self._protocol.commands_in_flight))

    def _lost(self) -> ConnectionLost:
        """Return the error for a conversation that has ended."""
        failure = self._protocol.failure
        if isinstance(failure, ConnectionLost):
            return ConnectionLost(self.address, failure.reason, failure.commands)
        return ConnectionLost(self.address, f"the connection was given up: {failure}")

    def _never_ready(self) -> ConnectError:
        """Return the error for a conversation that ended before it was ready; to be raised from its failure."""
        failure = self._protocol.failure
        return ConnectError(self.address, failure.reason if isinstance(failure, ConnectionLost) else str(failure))

    def _silence(self, deadline: Deadline) -> str:
        return negotiation_silence(self._protocol.state, deadline)

    def _deliver(self, notice: dict[str, Any]) -> None:
        wanted = False
        for subscription in self._subscriptions:
            wanted |= subscription.offer(notice)
        if not wanted:
            self._unclaimed.append(notice)

    def _take_kept(self) -> list[Event]:
        """Take the events that no subscription wanted, up to the first that does not fit its class.

        Raises:
            DataError: the first does not; it is consumed.
        """
        events: list[Event] = []
        while self._unclaimed:
            try:
                events.append(to_event(self._unclaimed[0]))
            except DataError:
                if events:
                    return events
                self._unclaimed.popleft()
                raise
            self._unclaimed.popleft()
        return events

    def _warn_of_slowness(self, exchange: Exchange, deadline: Deadline) -> None:
        log.warning("%s: %s took %.1f s", self.address, exchange.command, deadline.elapsed_s())


class CommandCheck(typing.Protocol):
    """Knows what a peer has; see `hvkit.qmp.introspection.Introspection`."""

    def check(self, command: str, arguments: Mapping[str, Any] | None, /) -> None:
        """Raise NotInThisQemu where the peer lacks something that a command carries."""


C = TypeVar("C", bound=Conversation)


class Endpoint(Generic[C]):
    """Our end of a connection, connected or not."""

    def __init__(
        self,
        address: Address,
        *,
        timeout: float | None = None,
        deadlines: Mapping[str, float] | None = None,
        transcript: str | os.PathLike[str] | None = None,
    ) -> None:
        self._address = address
        self._name = address_text(address)
        self._timeout = timeout
        self._deadlines = dict(deadlines or {})
        self._transcript = transcript
        self._session: C | None = None
        #: Guards which session is the connection's, and who is making it, where threads share it.
        self._guard = threading.RLock()
        #: The mark of the call of connect() that opens a socket; None where none does, or what it opens is not wanted.
        self._connecting: object | None = None
        self._given: socket.socket | None = None
        self._is_given = False
        self._command_check: CommandCheck | None = None

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

    def __repr__(self) -> str:
        state = self._session.state.value if self._session else "not connected"
        return f"<{type(self).__name__} {self._name!r} {state}>"

    @property
    def is_connected(self) -> bool:
        """Whether commands can be executed, as far as is known: a peer that died is noticed when it is talked to."""
        return self._session is not None and self._session.state is READY

    def check_against(self, peer: CommandCheck | None) -> None:
        """From now on, have `execute` refuse what the peer does not have, before anything is sent.

        It holds until the connection ends: another one may lead to another QEMU.

        Args:
            peer: what the peer has, an `hvkit.qmp.introspection.Introspection`; None: send everything again.

        Raises:
            ProgrammerError: there is no connection.
        """
        self._open_session("check_against()")
        self._command_check = peer

    def _open_session(self, what: str) -> C:
        session = self._session
        if session is None:
            raise ProgrammerError(f"{self._name}: {what} before connect()")
        return session

    def _begin_connecting(self, timeout: float | None) -> Deadline:
        """Return until when connecting may take.

        Raises:
            ProgrammerError: it is connected already.
        """
        if self._session is not None and self._session.state is not ENDED:
            raise ProgrammerError(f"{self._name}: connect() on a connection that is open")
        self._session = None
        self._command_check = None  # it was about the peer of before
        if timeout is None:
            timeout = QUICK.timeout_s if self._timeout is None else self._timeout
        return Deadline(timeout)

    def _trace(self) -> Trace | None:
        """Return what takes the messages for the transcript; None where there is none."""
        return None if self._transcript is None else Transcript(self._transcript).add

    def _take_given(self) -> socket.socket | None:
        """Return the socket that the connection was made of; None where it was made of an address.

        Raises:
            ProgrammerError: it has been used up.
        """
        given, self._given = self._given, None
        if given is None and self._is_given:
            raise ProgrammerError(f"{self._name}: a connection made of a socket connects once")
        return given

    def _detach(self) -> C | None:
        """Forget the session, for the caller to end, and close a socket that was never used."""
        session, self._session = self._session, None
        given, self._given = self._given, None
        if given is not None:
            given.close()
        return session

    def _deadline(self, command: str, timeout: float | None) -> Deadline:
        if timeout is None:
            timeout = self._deadlines.get(command, self._timeout)
            if timeout is None:
                timeout = PACES.get(command, QUICK).timeout_s
        return Deadline(timeout)


class MonitorEndpoint(Endpoint[C]):
    """Our end of a connection to a monitor, which greets and negotiates; options as described in `QmpConnection`."""

    def __init__(
        self,
        address: Address,
        *,
        timeout: float | None = None,
        deadlines: Mapping[str, float] | None = None,
        out_of_band: bool = False,
        transcript: str | os.PathLike[str] | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        super().__init__(address, timeout=timeout, deadlines=deadlines, transcript=transcript)
        self._wants_out_of_band = out_of_band
        self._max_message_bytes = max_message_bytes

    @property
    def version(self) -> QemuVersion:
        """The peer's version by its greeting; 0.0.0 where that does not say.

        Raises:
            ProgrammerError: there is no connection yet.
        """
        greeting = self._open_session("version").greeting
        return greeting.version if greeting else QemuVersion(0, 0, 0)

    @property
    def peer_pid(self) -> int | None:
        """The process that began to listen where we are connected to; None over TCP, and where it cannot be seen.

        It need not be the one that answers: sockets are passed on, and a process that has ended leaves its number. A
        QEMU that made its monitor itself is this one.

        Raises:
            ProgrammerError: there is no connection yet.
        """
        return self._open_session("peer_pid").peer_pid

    def _new_protocol(self) -> Protocol:
        return Protocol(
            wants_out_of_band=self._wants_out_of_band, max_message_bytes=self._max_message_bytes, trace=self._trace()
        )


# What a command is on the wire, and its reply off it. Functions, and a plain tuple: they are in every command's way.


def to_wire(command: Command[Any] | str, arguments: Mapping[str, Any] | None) -> tuple[str, Any, bool, Any]:
    """Return a command's wire name, its arguments as plain data, whether it has a reply, and the type of that.

    Raises:
        ProgrammerError: this is no command, or a typed one has arguments beside it, or they cannot be made plain.
    """
    if isinstance(command, str):
        return command, unstructure(arguments) if arguments else None, True, Any
    try:
        if arguments is not None:
            raise ProgrammerError(f"{command.wire_name}: a typed command carries its arguments itself")
        plain = unstructure(command) if command.__dict__ else None
        return command.wire_name, plain, command.has_reply, command.reply_type
    except AttributeError as error:
        if isinstance(command, Command):
            raise
        raise ProgrammerError(f"neither a command nor the name of one: {type(command).__name__}") from error


def check_fds(fds: Sequence[int]) -> None:
    """Make sure that descriptors can travel with a command, before anything of it is sent.

    Raises:
        ProgrammerError: there are more than the kernel takes at once, or one is not open.
    """
    if len(fds) > _FDS_AT_ONCE:
        raise ProgrammerError(f"{len(fds)} descriptors cannot travel with one command, at most {_FDS_AT_ONCE} can")
    for fd in fds:
        try:
            os.fstat(fd)
        except (OSError, TypeError, ValueError, OverflowError) as error:
            raise ProgrammerError(f"{fd!r} is no open descriptor") from error


def from_wire(exchange: Exchange, reply_type: Any) -> Any:
    """Return what a command returned, as a value of its type.

    Raises:
        QmpError: the command failed, there will be no reply, or the reply does not fit.
    """
    reply = exchange.reply
    returned = reply["return"] if reply is not None and "return" in reply else exchange.result()
    if reply_type is NoneType:
        return None
    return returned if reply_type is Any else structure(returned, reply_type, where=exchange.command)


def raw_from_wire(exchange: Exchange, message: QmpMessage) -> QmpMessage:
    """Return the raw reply to a raw message, without an id that is ours.

    Raises:
        QmpError: there will be no reply.
    """
    reply = exchange.raw_reply()
    if "id" not in message:
        reply.pop("id", None)
    return QmpMessage(reply)
