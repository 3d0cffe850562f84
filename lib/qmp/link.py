# SPDX-License-Identifier: BSD-2-Clause
"""The connection to one machine of a fleet: never waited for, asked and served by whoever has many of them."""

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
from hvkit.qmp.common.connection import from_wire, negotiation_silence, to_wire
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.errors import CommandTimeout, ConnectError, ConnectionLost, QmpError
from hvkit.qmp.protocol import ENDED, LINE_END_GRACE_S, READY, Exchange, Protocol, State
from hvkit.qmp.sync.transport import Address, Opening, address_text, connect_problem, read_peer_pid

R = TypeVar("R", covariant=True)

_RECEIVE_BYTES: Final = 65536


class Outcome(Generic[R]):
    """What became of the question to one machine.

    Attributes:
        error: why there is no answer; None where there is one.
        after_s: seconds from the question until this was known.
    """

    __slots__ = ("_value", "after_s", "error")

    def __init__(self, value: R | None, error: QmpError | None, after_s: float = 0.0) -> None:
        self._value = value
        self.error = error
        self.after_s = after_s

    @property
    def value(self) -> R:
        """The answer.

        Raises:
            QmpError: there is none; `error` says why.
        """
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]  # without an error it is an R, and R may be None

    def __repr__(self) -> str:
        if self.error is not None:
            return f"Outcome(error={self.error!r})"
        try:
            return f"Outcome(value={self._value!r})"
        except RecursionError:  # a peer may send what can be read and not be shown
            return f"Outcome(value=<{type(self._value).__name__}, nested too deeply to be shown>)"


class Question:
    """A command made ready to be sent to any number of machines."""

    __slots__ = ("arguments", "name", "reply_type")

    def __init__(self, command: Command[Any] | str) -> None:
        self.name, self.arguments, _, self.reply_type = to_wire(command, None)

    def outcome(self, exchange: Exchange, after_s: float) -> Outcome[Any]:
        """Make the outcome of an exchange that is ready."""
        try:
            return Outcome(from_wire(exchange, self.reply_type), None, after_s)
        except QmpError as error:
            return Outcome(None, error, after_s)


class Link:
    """The connection to one machine, never waited for."""

    def __init__(self, address: Address, poller: select.epoll) -> None:
        self.name = address_text(address)
        self.questions: Sequence[Question] = ()
        #: Those of the questions that were sent, which are all or none.
        self.exchanges: list[Exchange] = []
        self.error: QmpError | None = None
        #: Whether it said something unasked, or was lost, since `Fleet.take_stirred`.
        self.has_stirred = False
        #: When the question was settled, in seconds after it was asked.
        self.settled_after_s = 0.0
        #: Somebody else is being connected in our place in the backlog; the kernel tells nobody when that ends.
        self.is_refused_for_now = False
        self._opening = Opening(address)
        self._targets: list[tuple[socket.AddressFamily, Any]] = []
        self._no_targets = ""
        try:
            self._targets = self._opening.targets()
        except (OSError, ValueError, OverflowError) as error:
            self._no_targets = problem_of(error)
        #: Those of the targets that connecting has not failed with.
        self._untried = list(self._targets)
        self._is_connecting = False
        self._poller = poller
        self._socket: socket.socket | None = None
        self._protocol = Protocol()
        self._unsent = b""
        self._waits_to_send = False
        self._negotiating_since_s = 0.0

    @property
    def fd(self) -> int:
        """The descriptor of its socket; -1 where it has none."""
        return -1 if self._socket is None else self._socket.fileno()

    @property
    def peer_pid(self) -> int | None:
        """The process that began to listen at the other end; None where that cannot be known."""
        return None if self._socket is None else read_peer_pid(self._socket)

    @property
    def is_settled(self) -> bool:
        """Whether nothing more can come of the questions."""
        # Ready from last to first: replies come in order, so that one look mostly tells.
        return self.error is not None or (
            bool(self.exchanges) and all(exchange.is_ready for exchange in reversed(self.exchanges))
        )

    @property
    def is_owing(self) -> bool:
        """Whether a greeting or a reply is to come that nobody waits for any more."""
        is_open = self._socket is not None and not self._is_connecting
        return is_open and (self._protocol.state is not READY or bool(self._protocol.commands_in_flight))

    def begin(self, questions: Sequence[Question]) -> None:
        """Ask, connecting first where there is no connection."""
        self.questions, self.exchanges, self.error = questions, [], None
        self.settled_after_s = 0.0
        if self._socket is None:
            self._protocol = Protocol()
            self._unsent = b""
            self._untried = list(self._targets)
            self._connect(self._no_targets)
        else:
            self._advance()

    def _connect(self, problem: str) -> None:
        """Begin to connect to the next target that does not refuse at once; `tick` does so where a backlog is full.

        Args:
            problem: what was wrong with the one before.
        """
        while self._untried:
            try:
                self._begin_connecting(*self._untried[0])
            except (OSError, ValueError) as error:
                self.close()
                self.is_refused_for_now = isinstance(error, OSError) and error.errno == errno.EAGAIN
                if self.is_refused_for_now:
                    return
                problem = problem_of(error)
                self._untried.pop(0)
            else:
                return
        self.error = ConnectError(self.name, problem)

    def _begin_connecting(self, family: socket.AddressFamily, target: Any) -> None:
        self.is_refused_for_now = False
        self._socket = self._opening.new_socket(family)
        self._socket.setblocking(False)
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
        """Read and write what can be."""
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
            self._lose(f"the connection broke: {error.strerror}")
        except BaseException:
            self._lose("interrupted while reading")  # what was read may be lost
            raise

    def _read(self, readable: socket.socket) -> None:
        try:
            data = readable.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._lose("the peer closed the connection")
            return
        self._protocol.receive_data(data)
        self.has_stirred |= bool(self._protocol.take_notices())
        self._advance()

    def _advance(self) -> None:
        """Send what the conversation wants sent, and the questions as soon as they can be."""
        protocol = self._protocol
        if protocol.state is ENDED:
            self._lose(str(protocol.failure))
            return
        if protocol.state is READY:
            if self.exchanges or not self.questions or self.error is not None:
                return
            data = b""
            for question in self.questions:
                exchange, request = protocol.open_exchange(question.name, question.arguments)
                self.exchanges.append(exchange)
                data += request
        else:
            data = protocol.data_to_send()
            if data:
                self._negotiating_since_s = time.monotonic()
        if data:
            self._unsent += data
            try:
                self._flush()
            except OSError as error:
                self._lose(f"the peer is gone: {error.strerror}")

    def _flush(self) -> None:
        assert self._socket is not None
        if self._unsent:
            with contextlib.suppress(BlockingIOError):
                self._unsent = self._unsent[self._socket.send(self._unsent, socket.MSG_NOSIGNAL) :]
        if self._waits_to_send is not bool(self._unsent):
            self._waits_to_send = bool(self._unsent)
            self._poller.modify(self._socket, select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0))

    def tick(self, now_s: float) -> None:
        """Do what is due without anything having come."""
        if self.is_refused_for_now:
            self._connect("")
        elif self._protocol.state is State.NEGOTIATING and now_s - self._negotiating_since_s > LINE_END_GRACE_S:
            self._protocol.end_lines()
            self._advance()

    @property
    def is_on_its_way(self) -> bool:
        """Whether it is connecting still, so that `tick` may have something to do."""
        return self._protocol.state is not READY

    def expire(self, deadline: Deadline) -> None:
        """Give up on what was not answered; the connection stays if there is one, greeted or not.

        One that was not greeted waits on: in its place the next one would, and a backlog has few.
        """
        if self.exchanges:
            for exchange in self.exchanges:
                if not exchange.is_ready:
                    self._protocol.give_up(exchange)
                    owed = self._protocol.replies_owed(exchange)
                    exchange.fail(CommandTimeout(exchange.command, deadline.timeout_s, owed))
            return
        if self.is_refused_for_now:
            problem = connect_problem(BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), deadline)
        elif self._is_connecting:
            problem = connect_problem(BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS)), deadline)
        else:
            self.error = ConnectError(self.name, negotiation_silence(self._protocol.state, deadline))
            return
        self.close()
        self.error = ConnectError(self.name, problem)

    def interrupt(self) -> None:
        """Close the connection unless the question is settled: what of it was sent is not known."""
        if not self.is_settled:
            self._lose("the round was interrupted")

    def outcomes(self) -> tuple[Outcome[Any], ...]:
        """Return what became of each question."""
        if self.error is not None:
            return tuple(Outcome(None, self.error, self.settled_after_s) for _ in self.questions)
        asked = zip(self.questions, self.exchanges, strict=True)
        return tuple(question.outcome(exchange, self.settled_after_s) for question, exchange in asked)

    def _lose(self, reason: str) -> None:
        self.has_stirred = True
        was_usable = bool(self.exchanges)
        self._protocol.receive_eof(ConnectionLost(self.name, reason, self._protocol.commands_in_flight))
        if not was_usable:
            self.error = ConnectError(self.name, reason)
        self.close()

    def close(self) -> None:
        """Close the connection, also for children that were forked meanwhile; the next question opens another one.

        They have the socket, too: closing it alone would leave the poller telling of it, and the peer busy with nobody.
        """
        if self._socket is not None:
            with contextlib.suppress(FileNotFoundError):  # it did not even begin to connect
                self._poller.unregister(self._socket)
            with contextlib.suppress(OSError):  # it is not connected
                self._socket.shutdown(socket.SHUT_RDWR)
        self.let_go()

    def let_go(self) -> None:
        """Free the descriptor, and leave the connection to the processes that have it, too."""
        self.is_refused_for_now = self._is_connecting = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def problem_of(error: OSError | ValueError | OverflowError) -> str:
    return connect_problem(ValueError(str(error)) if isinstance(error, OverflowError) else error, Deadline(0))
