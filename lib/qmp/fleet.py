# SPDX-License-Identifier: BSD-2-Clause
"""One question to many machines at once: one thread, one deadline, and an answer or an error from each.

All monitors are asked before any is waited for, so a round takes as long as the slowest answer; a machine that is
silent, dead or babbling costs the others nothing. Host names are looked up before the first round: that can take as
long as the resolver likes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, overload

from hvkit.errors import ProgrammerError
from hvkit.qmp.base import Command
from hvkit.qmp.deadlines import QUICK, Deadline
from hvkit.qmp.endpoint import from_wire, negotiation_silence, to_wire
from hvkit.qmp.errors import CommandTimeout, ConnectError, ConnectionLost, QmpError
from hvkit.qmp.protocol import LINE_END_GRACE_S, Exchange, Protocol, State
from hvkit.qmp.transport import Address, Opening, address_text, connect_problem

R = TypeVar("R", covariant=True)

_RECEIVE_BYTES: Final = 65536
#: How many sockets that are ready are served before the clock is looked at again.
_EVENTS_AT_ONCE: Final = 64


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


class _Question:
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


class _Link:
    """The connection to one machine, never waited for."""

    def __init__(self, address: Address, poller: select.epoll) -> None:
        self.name = address_text(address)
        self.question: _Question | None = None
        self.exchange: Exchange | None = None
        self.error: QmpError | None = None
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
            self._no_targets = _problem(error)
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
    def is_settled(self) -> bool:
        """Whether nothing more can come of the question."""
        return self.error is not None or (self.exchange is not None and self.exchange.is_ready)

    def begin(self, question: _Question) -> None:
        """Ask, connecting first where there is no connection."""
        self.question, self.exchange, self.error = question, None, None
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
                problem = _problem(error)
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
                    self._connect(_problem(OSError(number, os.strerror(number))))
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
        self._protocol.take_notices()
        self._advance()

    def _advance(self) -> None:
        """Send what the conversation wants sent, and the question as soon as it can be."""
        protocol = self._protocol
        if protocol.state is State.ENDED:
            self._lose(str(protocol.failure))
            return
        if protocol.state is State.READY:
            if self.exchange is not None or self.question is None:
                return
            self.exchange, data = protocol.open_exchange(self.question.name, self.question.arguments)
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
        return self._protocol.state is not State.READY

    def expire(self, deadline: Deadline) -> None:
        """Give up on the question; the connection stays if there is one that works."""
        if self.exchange is not None:
            self._protocol.give_up(self.exchange)
            owed = self._protocol.replies_owed(self.exchange)
            self.error = CommandTimeout(self.exchange.command, deadline.timeout_s, owed)
            return
        if self.is_refused_for_now:
            problem = connect_problem(BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), deadline)
        elif self._is_connecting:
            problem = connect_problem(BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS)), deadline)
        else:
            problem = negotiation_silence(self._protocol.state, deadline)
        self.close()
        self.error = ConnectError(self.name, problem)

    def interrupt(self) -> None:
        """Close the connection unless the question is settled: what of it was sent is not known."""
        if not self.is_settled:
            self._lose("the round was interrupted")

    def outcome(self) -> Outcome[Any]:
        """Return what became of the question."""
        if self.error is not None or self.exchange is None or self.question is None:
            return Outcome(None, self.error, self.settled_after_s)
        return self.question.outcome(self.exchange, self.settled_after_s)

    def _lose(self, reason: str) -> None:
        was_usable = self.exchange is not None
        self._protocol.receive_eof(ConnectionLost(self.name, reason, self._protocol.commands_in_flight))
        if not was_usable:
            self.error = ConnectError(self.name, reason)
        self.close()

    def close(self) -> None:
        """Close the connection; the next question opens another one."""
        self.is_refused_for_now = self._is_connecting = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _problem(error: OSError | ValueError | OverflowError) -> str:
    return connect_problem(ValueError(str(error)) if isinstance(error, OverflowError) else error, Deadline(0))


class Fleet:
    """Connections to the monitors of many machines, kept from one question to the next.

    A connection is made when its machine is first asked, and again after it was lost. For one thread at a time.

    The names of hosts are looked up here, once and one by one, and no timeout holds for that; numeric addresses and
    paths cost nothing. A name that is not known is a ConnectError of that machine in every round.

    Args:
        addresses: where each machine's monitor listens, by a name of the caller's.

    Raises:
        ConnectError: there is no descriptor left for the fleet itself; its address is "fleet".
    """

    def __init__(self, addresses: Mapping[str, Address]) -> None:
        try:
            self._poller = select.epoll()
        except OSError as error:
            raise ConnectError("fleet", _problem(error)) from error
        self._links = {name: _Link(address, self._poller) for name, address in addresses.items()}

    @overload
    def execute(
        self, command: Command[R], *, names: Iterable[str] | None = None, timeout: float = QUICK.timeout_s
    ) -> dict[str, Outcome[R]]: ...
    @overload
    def execute(
        self, command: str, *, names: Iterable[str] | None = None, timeout: float = QUICK.timeout_s
    ) -> dict[str, Outcome[Any]]: ...
    def execute(
        self, command: Command[Any] | str, *, names: Iterable[str] | None = None, timeout: float = QUICK.timeout_s
    ) -> dict[str, Outcome[Any]]:
        """Execute one command on all machines, or on some.

        Args:
            command: a typed command, or the wire name of one that needs no arguments.
            names: which machines; None for all.
            timeout: seconds for all of it, connecting included.

        Returns:
            An outcome for each machine. A `CommandTimeout` in one leaves that connection usable.

        Raises:
            ProgrammerError: the command cannot be sent, or there is no machine of a name, or the fleet is closed.
        """
        question = _Question(command)
        return self.execute_each(dict.fromkeys(self._links if names is None else names, question), timeout=timeout)

    def execute_each(
        self, commands: Mapping[str, Command[Any] | str | _Question], *, timeout: float = QUICK.timeout_s
    ) -> dict[str, Outcome[Any]]:
        """Execute a command of its own on each machine.

        Args:
            commands: by the machine's name.
            timeout: seconds for all of it, connecting included.

        Raises:
            ProgrammerError: as for `execute`.
        """
        if self._poller.closed:
            raise ProgrammerError("the fleet is closed")
        unknown = sorted(set(commands) - set(self._links))
        if unknown:
            raise ProgrammerError(f"no machine of that name in the fleet: {', '.join(unknown)}")
        questions = {
            name: command if isinstance(command, _Question) else _Question(command)
            for name, command in commands.items()
        }
        asked = {name: self._links[name] for name in questions}
        deadline = Deadline(timeout)
        try:
            for name, link in asked.items():
                link.begin(questions[name])
            self._serve({link for link in asked.values() if not link.is_settled}, deadline)
        except BaseException:
            for link in asked.values():
                link.interrupt()
            raise
        for link in asked.values():
            if not link.is_settled:
                link.expire(deadline)
                link.settled_after_s = deadline.elapsed_s()
        return {name: link.outcome() for name, link in asked.items()}

    def _serve(self, unsettled: set[_Link], deadline: Deadline) -> None:
        by_fd = {link.fd: link for link in self._links.values() if link.fd >= 0}
        on_their_way = {link for link in unsettled if link.is_on_its_way}
        tick_at_s = time.monotonic() + LINE_END_GRACE_S
        while unsettled:
            remaining_s = deadline.remaining_s()
            if remaining_s <= 0:
                return
            wait_s = min(remaining_s, max(tick_at_s - time.monotonic(), 0)) if on_their_way else remaining_s
            for fd, events in self._poller.poll(None if wait_s == float("inf") else wait_s, _EVENTS_AT_ONCE):
                link = by_fd[fd]
                link.serve(events)
                self._note(link, by_fd, unsettled, deadline)
            if on_their_way and (now_s := time.monotonic()) >= tick_at_s:
                tick_at_s = now_s + LINE_END_GRACE_S
                for link in on_their_way:
                    link.tick(now_s)
                    self._note(link, by_fd, unsettled, deadline)
                on_their_way = {link for link in on_their_way & unsettled if link.is_on_its_way}

    @staticmethod
    def _note(link: _Link, by_fd: dict[int, _Link], unsettled: set[_Link], deadline: Deadline) -> None:
        """Note what became of a link: it may have gone on to another socket, or be settled."""
        if link.is_settled:
            link.settled_after_s = deadline.elapsed_s()
            unsettled.discard(link)
        elif link.fd >= 0:
            by_fd[link.fd] = link

    def close(self) -> None:
        """Close all connections. Closing again does nothing."""
        for link in self._links.values():
            link.close()
        self._poller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@overload
def ask(addresses: Mapping[str, Address], command: Command[R], *, timeout: float = ...) -> dict[str, Outcome[R]]: ...
@overload
def ask(addresses: Mapping[str, Address], command: str, *, timeout: float = ...) -> dict[str, Outcome[Any]]: ...
def ask(
    addresses: Mapping[str, Address], command: Command[Any] | str, *, timeout: float = QUICK.timeout_s
) -> dict[str, Outcome[Any]]:
    """Connect to many monitors, execute one command on each, and close the connections.

    Args:
        addresses: where each machine's monitor listens, by a name of the caller's.
        command: a typed command, or the wire name of one that needs no arguments.
        timeout: seconds for all of it but looking up the names of hosts.

    Raises:
        ConnectError: there is no descriptor left for the asking itself; its address is "fleet".
        ProgrammerError: the command cannot be sent.
    """
    with Fleet(addresses) as fleet:
        return fleet.execute(command, timeout=timeout)
