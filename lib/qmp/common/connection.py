# SPDX-License-Identifier: BSD-2-Clause
"""The part of a connection that performs no I/O: its options and its current session."""

from __future__ import annotations

import os
import socket
import threading
import typing
from collections.abc import Mapping
from typing import Any, Generic, Self, TypeVar

from hvkit.errors import ProgrammerError
from hvkit.qmp.base import Event
from hvkit.qmp.common.session import BaseSession
from hvkit.qmp.common.transport import Address, address_text
from hvkit.qmp.deadlines import QUICK, TIMEOUT_CLASSES, Deadline, check_timeout
from hvkit.qmp.errors import QmpError
from hvkit.qmp.message import QemuVersion
from hvkit.qmp.protocol import ENDED, MAX_MESSAGE_BYTES, READY, Protocol, Trace
from hvkit.qmp.transcript import Transcript

S = TypeVar("S", bound=BaseSession)


class CommandCheck(typing.Protocol):
    """A check of commands against one QEMU, such as `hvkit.qmp.introspection.Introspection`."""

    def check(self, command: str, arguments: Mapping[str, Any] | None, /) -> None:
        """Raise NotInThisQemu if this QEMU lacks the command or an argument."""


class BaseConnection(Generic[S]):
    """A connection to a monitor or a guest agent, connected or not.

    Args:
        address: address of the monitor.
        timeout: seconds for connecting and for every command; None: the defaults.
        deadlines: seconds by the wire name of a command; takes precedence over `timeout`.
        transcript: a file to which every message is appended; None for no transcript.

    Raises:
        ProgrammerError: a timeout is not a number.
    """

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
        if timeout is not None:
            check_timeout(timeout)
        self._timeout = timeout
        self._deadlines: dict[str, float] = {}
        if deadlines:
            for each in deadlines.values():
                check_timeout(each)
            self._deadlines.update(deadlines)
        self._transcript = transcript
        self._session: S | None = None
        #: Guards `_session` and `_connecting` where threads share the connection.
        self._guard = threading.RLock()
        #: Identifies the connect() call that is opening a socket; None if there is none, or close() has cancelled it.
        self._connecting: object | None = None
        #: The socket of `from_socket`, until it is used.
        self._given_socket: socket.socket | None = None
        self._is_from_socket = False
        self._command_check: CommandCheck | None = None

    @classmethod
    def from_socket(cls, connected: socket.socket, **options: Any) -> Self:
        """Return a connection over a stream socket that is connected to a monitor; call `connect` next.

        The connection owns the socket from now on. It can be connected only once.

        Args:
            connected: the socket.
            options: as for the constructor.
        """
        connection = cls(f"fd {connected.fileno()}", **options)
        connection._given_socket = connected
        connection._is_from_socket = True
        return connection

    def __repr__(self) -> str:
        state = self._session.state.value if self._session else "not connected"
        return f"<{type(self).__name__} {self._name!r} {state}>"

    @property
    def name(self) -> str:
        """Name of the monitor or agent in log records and errors: its address, as text."""
        return self._name

    @property
    def is_from_socket(self) -> bool:
        """Whether the connection was made by `from_socket`, and therefore cannot be connected again."""
        return self._is_from_socket

    @property
    def is_connected(self) -> bool:
        """Whether commands can be executed. A connection that broke counts as connected until it is used."""
        return self._session is not None and self._session.state is READY

    def check_against(self, peer: CommandCheck | None) -> None:
        """Make `execute` reject commands and arguments that this QEMU does not have, before anything is sent.

        The check ends with the connection, because the next connection may lead to another QEMU.

        Args:
            peer: the schema of this QEMU, an `hvkit.qmp.introspection.Introspection`; None to stop checking.

        Raises:
            ProgrammerError: the connection is not connected.
        """
        self._open_session("check_against()")
        self._command_check = peer

    def _open_session(self, what: str) -> S:
        session = self._session
        if session is None:
            raise ProgrammerError(f"{self._name}: {what} before connect()")
        return session

    def _begin_connecting(self, timeout: float | None) -> Deadline:
        """Return the deadline for connecting.

        Raises:
            ProgrammerError: the connection is connected, or the timeout is not a number.
        """
        if self._session is not None and self._session.state is not ENDED:
            raise ProgrammerError(f"{self._name}: connect() on a connection that is open")
        if timeout is None:
            timeout = QUICK.timeout_s if self._timeout is None else self._timeout
        else:
            check_timeout(timeout)
        self._session = None
        self._command_check = None  # describes the previous QEMU
        return Deadline(timeout)

    def _trace(self) -> Trace | None:
        """Return the function that writes the transcript; None for no transcript."""
        return None if self._transcript is None else Transcript(self._transcript).add

    def _take_given(self) -> socket.socket | None:
        """Return the socket of `from_socket`; None if the connection was made from an address.

        Raises:
            ProgrammerError: the socket was used already.
        """
        given, self._given_socket = self._given_socket, None
        if given is None and self._is_from_socket:
            raise ProgrammerError(f"{self._name}: a connection made from a socket can be connected only once")
        return given

    def _detach(self) -> S | None:
        """Remove and return the session, which the caller ends; close the socket of `from_socket` if it is unused."""
        session, self._session = self._session, None
        given, self._given_socket = self._given_socket, None
        if given is not None:
            given.close()
        return session

    def _deadline(self, command: str, timeout: float | None) -> Deadline:
        """Return the deadline for a command; the caller has checked the timeout."""
        return Deadline(self.command_timeout_s(command, timeout))

    def command_timeout_s(self, command: str, timeout: float | None = None) -> float:
        """Return the timeout that applies to a command: of the call, else of the connection, else the default.

        Args:
            command: wire name of the command.
            timeout: the timeout of the call, which the caller has checked; None if the call has none.
        """
        if timeout is None:
            timeout = self._deadlines.get(command, self._timeout)
            if timeout is None:
                timeout = TIMEOUT_CLASSES.get(command, QUICK).timeout_s
        return timeout


class BaseMonitorConnection(BaseConnection[S]):
    """A connection to a monitor, with greeting and negotiation; arguments as for `hvkit.qmp.QmpConnection`."""

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
        """Version of QEMU from the greeting; 0.0.0 if the greeting does not contain it.

        Raises:
            ProgrammerError: the connection is not connected.
        """
        greeting = self._open_session("version").greeting
        return greeting.version if greeting else QemuVersion(0, 0, 0)

    @property
    def peer_pid(self) -> int | None:
        """The process that created the listening socket.

        None over TCP, for a process of another pid namespace, and if it is read for the first time after the connection
        was lost.

        This is QEMU if QEMU created the socket itself. Another process may answer: a socket can be passed to another
        process, and the pid of a process that has ended can be reused.

        Raises:
            ProgrammerError: the connection is not connected.
        """
        return self._open_session("peer_pid").peer_pid

    def take_events(self) -> list[Event]:
        """Remove and return the received events that match no subscription, oldest first. Does not wait.

        The last 1000 are kept, including those before the greeting. If an event does not have the structure of its
        class, the list ends before it, and the next call raises DataError.

        Raises:
            ConnectionLost: the connection has ended, and no event is left.
            DataError: the data of the oldest event does not have the structure of its class; only that event is
                removed.
            ProgrammerError: the connection is not connected.
        """
        session = self._open_session("take_events()")
        try:
            return session.take_unclaimed()
        except QmpError as error:
            error.set_monitor(self._name)
            raise

    def _new_protocol(self) -> Protocol:
        return Protocol(
            self._name,
            wants_out_of_band=self._wants_out_of_band,
            max_message_bytes=self._max_message_bytes,
            trace=self._trace(),
        )
