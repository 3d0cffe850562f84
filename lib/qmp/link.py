# SPDX-License-Identifier: BSD-2-Clause
"""The connection to one monitor of a fleet: non-blocking, driven by the poller of the fleet in a single thread."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

from hvkit.qmp.base import Command
from hvkit.qmp.codec import structure_reply, unstructure_command
from hvkit.qmp.common.session import negotiation_timeout
from hvkit.qmp.common.transport import (
    RECEIVE_BYTES,
    Address,
    Connector,
    address_text,
    connect_problem,
    read_peer_pid,
)
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.errors import CommandTimeout, ConnectError, ConnectionLost, QmpError
from hvkit.qmp.protocol import ENDED, READY, Exchange, Protocol

R = TypeVar("R", covariant=True)

#: Interval of the calls of `tick` while a link is not ready, in seconds.
TICK_S: Final = 0.025


class Outcome(Generic[R]):
    """The result of a command on one monitor.

    Attributes:
        error: why there is no valid reply; None if there is one.
        after_s: seconds from the start of the call until the result was known.
    """

    __slots__ = ("_value", "after_s", "error")

    def __init__(self, value: R | None, error: QmpError | None, after_s: float = 0.0) -> None:
        self._value = value
        self.error = error
        self.after_s = after_s

    @property
    def value(self) -> R:
        """The return value of the command.

        Raises:
            QmpError: there is none, for the reason in `error`.
        """
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]  # without an error it is an R, and R may be None

    def __repr__(self) -> str:
        if self.error is not None:
            return f"Outcome(error={self.error!r})"
        try:
            return f"Outcome(value={self._value!r})"
        except RecursionError:
            return f"Outcome(value=<{type(self._value).__name__}, nested too deeply to be shown>)"


class Request:
    """A command as plain data, ready to be sent to any number of monitors."""

    __slots__ = ("arguments", "name", "reply_type")

    def __init__(self, command: Command[Any] | str) -> None:
        self.name, self.arguments, _, self.reply_type = unstructure_command(command, None)

    def outcome(self, exchange: Exchange, after_s: float) -> Outcome[Any]:
        """Return the outcome of an exchange that is ready."""
        try:
            return Outcome(structure_reply(exchange, self.reply_type), None, after_s)
        except QmpError as error:
            return Outcome(None, error, after_s)


class Link:
    """The connection to one monitor; no method waits."""

    def __init__(self, address: Address, poller: select.epoll) -> None:
        self.name = address_text(address)
        self.requests: Sequence[Request] = ()
        #: The exchanges of the requests: one for each, or none before they are sent.
        self.exchanges: list[Exchange] = []
        self.error: QmpError | None = None
        #: Whether an event arrived or the connection was lost since the last `Fleet.take_changed`.
        self.has_changed = False
        #: Seconds from the start of the call until all outcomes were known.
        self.done_after_s = 0.0
        #: Whether the backlog of the socket is full; the kernel does not report when that changes.
        self.is_backlog_full = False
        self._connector = Connector(address)
        self._targets: list[tuple[socket.AddressFamily, Any]] = []
        self._no_targets = ""
        try:
            self._targets = self._connector.targets()
        except (OSError, ValueError, OverflowError) as error:
            self._no_targets = problem_of(error)
        #: The targets to which connecting has not failed.
        self._untried = list(self._targets)
        self._is_connecting = False
        self._poller = poller
        self._socket: socket.socket | None = None
        self._protocol = Protocol(self.name)
        self._unsent = b""
        self._waits_to_send = False
        #: When to call the timer of the protocol, by the monotonic clock; None for no timer.
        self._timer_at_s: float | None = None

    @property
    def fd(self) -> int:
        """The descriptor of the socket; -1 if there is none."""
        return -1 if self._socket is None else self._socket.fileno()

    @property
    def peer_pid(self) -> int | None:
        """The process that created the listening socket; None if unknown."""
        return None if self._socket is None else read_peer_pid(self._socket)

    @property
    def is_done(self) -> bool:
        """Whether the outcomes of all requests are known."""
        # last first: replies arrive in order, so the first test usually decides
        return self.error is not None or (
            bool(self.exchanges) and all(exchange.is_ready for exchange in reversed(self.exchanges))
        )

    @property
    def is_unanswered(self) -> bool:
        """Whether the greeting, or a reply to an abandoned request, has not arrived yet."""
        is_open = self._socket is not None and not self._is_connecting
        return is_open and (self._protocol.state is not READY or bool(self._protocol.commands_in_flight))

    def begin(self, requests: Sequence[Request]) -> None:
        """Send the requests; connect first if there is no connection."""
        self.requests, self.exchanges, self.error = requests, [], None
        self.done_after_s = 0.0
        if self._socket is None:
            self._protocol = Protocol(self.name)
            self._timer_at_s = None
            self._unsent = b""
            self._untried = list(self._targets)
            self._connect(self._no_targets)
        else:
            self._advance()

    def _connect(self, problem: str) -> None:
        """Start to connect to the next target that does not fail at once. If its backlog is full, `tick` tries again.

        Args:
            problem: why connecting to the previous target failed.
        """
        while self._untried:
            try:
                self._start_connecting(*self._untried[0])
            except (OSError, ValueError) as error:
                self.close()
                self.is_backlog_full = isinstance(error, OSError) and error.errno == errno.EAGAIN
                if self.is_backlog_full:
                    return
                problem = problem_of(error)
                self._untried.pop(0)
            else:
                return
        self.error = ConnectError(self.name, problem)

    def _start_connecting(self, family: socket.AddressFamily, target: Any) -> None:
        self.is_backlog_full = False
        self._socket = self._connector.new_socket(family)
        self._is_connecting = False
        try:
            self._socket.connect(target)
        except BlockingIOError as error:
            if error.errno != errno.EINPROGRESS:
                raise
            self._is_connecting = True
        self._waits_to_send = self._is_connecting
        self._poller.register(self._socket, select.EPOLLIN | (select.EPOLLOUT if self._waits_to_send else 0))

    def serve(self, events: int) -> None:
        """Read and write, as far as the events from the poller allow."""
        if self._socket is None:
            return
        try:
            if self._is_connecting:
                number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    self.close()
                    self._untried.pop(0)
                    self._connect(problem_of(OSError(number, os.strerror(number))))
                    return
                self._is_connecting = False
            if events & select.EPOLLOUT:
                self._flush()
            if events & ~select.EPOLLOUT:
                self._read(self._socket)
        except OSError as error:
            self._lose(f"the connection failed: {error.strerror}")
        except BaseException:
            self._lose("interrupted while reading")  # received data may be lost
            raise

    def _read(self, readable: socket.socket) -> None:
        try:
            data = readable.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._lose("the server closed the connection")
            return
        self._protocol.receive_data(data)
        self.has_changed |= bool(self._protocol.take_events())
        self._advance()

    def _advance(self) -> None:
        """Send the data of the negotiation, or the requests if the negotiation has ended."""
        protocol = self._protocol
        if protocol.state is ENDED:
            self._lose(str(protocol.failure))
            return
        if protocol.state is READY:
            if self.exchanges or not self.requests or self.error is not None:
                return
            data = b""
            for request in self.requests:
                exchange, encoded = protocol.open_exchange(request.name, request.arguments)
                self.exchanges.append(exchange)
                data += encoded
        else:
            data = protocol.data_to_send()
            if data:
                timer_s = protocol.next_timer()
                self._timer_at_s = None if timer_s is None else time.monotonic() + timer_s
        if data:
            self._unsent += data
            try:
                self._flush()
            except OSError as error:
                self._lose(f"cannot send: {error.strerror}")

    def _flush(self) -> None:
        assert self._socket is not None
        if self._unsent:
            with contextlib.suppress(BlockingIOError):
                self._unsent = self._unsent[self._socket.send(self._unsent, socket.MSG_NOSIGNAL) :]
        if self._waits_to_send is not bool(self._unsent):
            self._waits_to_send = bool(self._unsent)
            self._poller.modify(self._socket, select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0))

    def tick(self, now_s: float) -> None:
        """Try a full backlog again, and call the timer of the protocol if it is due."""
        if self.is_backlog_full:
            self._connect("")
        elif self._timer_at_s is not None and now_s >= self._timer_at_s:
            self._timer_at_s = None
            self._protocol.handle_timer()
            self._advance()

    @property
    def needs_ticks(self) -> bool:
        """Whether `tick` may have something to do, because the connection is not ready."""
        return self._protocol.state is not READY

    def expire(self, deadline: Deadline) -> None:
        """Abandon the requests that were not answered. The connection stays open, even without a greeting.

        A new connection would take another place in the backlog of the socket, which is small.
        """
        if self.exchanges:
            for exchange in self.exchanges:
                if not exchange.is_ready:
                    self._protocol.abandon(exchange)
                    owed = self._protocol.replies_owed(exchange)
                    exchange.fail(CommandTimeout(exchange.command, deadline.timeout_s, owed))
            return
        if self.is_backlog_full:
            problem = connect_problem(BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), deadline)
        elif self._is_connecting:
            problem = connect_problem(BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS)), deadline)
        else:
            self.error = ConnectError(self.name, negotiation_timeout(self._protocol.state, deadline))
            return
        self.close()
        self.error = ConnectError(self.name, problem)

    def interrupt(self) -> None:
        """Close the connection unless all outcomes are known, because the requests may have been sent in part."""
        if not self.is_done:
            self._lose("the round was interrupted")

    def outcomes(self) -> tuple[Outcome[Any], ...]:
        """Return the outcome of each request."""
        if self.error is not None:
            outcomes = tuple(Outcome[Any](None, self.error, self.done_after_s) for _ in self.requests)
        else:
            asked = zip(self.requests, self.exchanges, strict=True)
            outcomes = tuple(request.outcome(exchange, self.done_after_s) for request, exchange in asked)
        for outcome in outcomes:
            if outcome.error is not None:
                outcome.error.set_monitor(self.name)
        return outcomes

    def _lose(self, reason: str) -> None:
        self.has_changed = True
        was_usable = bool(self.exchanges)
        self._protocol.receive_eof(ConnectionLost(self.name, reason, self._protocol.commands_in_flight))
        if not was_usable:
            self.error = ConnectError(self.name, reason)
        self.close()

    def close(self) -> None:
        """Shut down the connection, also for forked children. The next request opens another one.

        Forked children have copies of the descriptor. If it were only closed in this process, the socket would stay in
        the poller, and the server would stay connected.
        """
        if self._socket is not None:
            with contextlib.suppress(FileNotFoundError):  # it is not registered yet
                self._poller.unregister(self._socket)
            with contextlib.suppress(OSError):  # it is not connected
                self._socket.shutdown(socket.SHUT_RDWR)
        self.detach()

    def detach(self) -> None:
        """Close the descriptor. The connection stays open in other processes that have a copy of it."""
        self.is_backlog_full = self._is_connecting = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def problem_of(error: OSError | ValueError | OverflowError) -> str:
    """Return the reason of a failure to connect, as text."""
    return connect_problem(ValueError(str(error)) if isinstance(error, OverflowError) else error, Deadline(0))
