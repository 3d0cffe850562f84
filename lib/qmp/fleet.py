# SPDX-License-Identifier: BSD-2-Clause
"""One question to many machines at once: one thread, one deadline, and an answer or an error from each.

All monitors are asked before any is waited for, so a round takes as long as the slowest answer; a machine that is
silent, dead or babbling costs the others nothing. Host names are looked up before the first round: that can take as
long as the resolver likes.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

from hvkit.errors import ProgrammerError
from hvkit.qmp.base import Command
from hvkit.qmp.common.transport import Address
from hvkit.qmp.deadlines import QUICK, Deadline
from hvkit.qmp.errors import ConnectError
from hvkit.qmp.link import TICK_S, Link, Outcome, Question, problem_of

__all__ = ["Fleet", "Outcome", "ask"]

R = TypeVar("R", covariant=True)

#: How many sockets that are ready are served before the clock is looked at again.
_EVENTS_AT_ONCE: Final = 64


class Fleet:
    """Connections to the monitors of many machines, kept from one question to the next.

    A connection is made when its machine is first asked, and again after it was lost. For one thread at a time, of the
    process that made it: a child that is forked can do nothing with it but close it, which its parent does not notice.

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
            raise ConnectError("fleet", problem_of(error)) from error
        self._owner = os.getpid()
        self._links = {name: Link(address, self._poller) for name, address in addresses.items()}

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
        questions = (Question(command),)
        asked = self._ask(dict.fromkeys(self._links if names is None else names, questions), timeout)
        return {name: outcomes[0] for name, outcomes in asked.items()}

    def execute_each(
        self, commands: Mapping[str, Command[Any] | str], *, timeout: float = QUICK.timeout_s
    ) -> dict[str, Outcome[Any]]:
        """Execute a command of its own on each machine.

        Args:
            commands: by the machine's name.
            timeout: seconds for all of it, connecting included.

        Raises:
            ProgrammerError: as for `execute`.
        """
        asked = self._ask({name: (Question(command),) for name, command in commands.items()}, timeout)
        return {name: outcomes[0] for name, outcomes in asked.items()}

    def execute_several(
        self, commands: Mapping[str, Sequence[Command[Any] | str]], *, timeout: float = QUICK.timeout_s
    ) -> dict[str, tuple[Outcome[Any], ...]]:
        """Execute several commands of its own on each machine: sent together, and executed one after the other.

        One that fails does not keep the machine from the next.

        Args:
            commands: by the machine's name; at least one each.
            timeout: seconds for all of it, connecting included.

        Returns:
            For each machine an outcome of each of its commands, in their order. What came before the deadline counts,
            whatever became of the rest. `after_s` is that of the last.

        Raises:
            ProgrammerError: as for `execute`; or there is nothing to ask a machine.
        """
        made: dict[int, Question] = {}  # the same command is made ready once for all
        questions: dict[str, Sequence[Question]] = {}
        for name, several in commands.items():
            if not several:
                raise ProgrammerError(f"nothing to ask machine {name}")
            questions[name] = tuple(made.get(id(each)) or made.setdefault(id(each), Question(each)) for each in several)
        return self._ask(questions, timeout)

    def _ask(self, questions: Mapping[str, Sequence[Question]], timeout: float) -> dict[str, tuple[Outcome[Any], ...]]:
        self._check(questions)
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
        return {name: link.outcomes() for name, link in asked.items()}

    def _check(self, names: Iterable[str] = ()) -> None:
        if self._poller.closed:
            raise ProgrammerError("the fleet is closed")
        if os.getpid() != self._owner:
            raise ProgrammerError(f"the fleet is that of process {self._owner}, of which this one was forked")
        unknown = sorted(set(names) - set(self._links))
        if unknown:
            raise ProgrammerError(f"no machine of that name in the fleet: {', '.join(unknown)}")

    def _serve(self, unsettled: set[Link], deadline: Deadline) -> None:
        by_fd = {link.fd: link for link in self._links.values() if link.fd >= 0}
        on_their_way = {link for link in unsettled if link.needs_ticks}
        tick_at_s = time.monotonic() + TICK_S
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
                tick_at_s = now_s + TICK_S
                for link in on_their_way:
                    link.tick(now_s)
                    self._note(link, by_fd, unsettled, deadline)
                on_their_way = {link for link in on_their_way & unsettled if link.needs_ticks}

    @staticmethod
    def _note(link: Link, by_fd: dict[int, Link], unsettled: set[Link], deadline: Deadline) -> None:
        """Note what became of a link: it may have gone on to another socket, or be settled."""
        if link.is_settled:
            link.settled_after_s = deadline.elapsed_s()
            unsettled.discard(link)
        elif link.fd >= 0:
            by_fd[link.fd] = link

    # ---- machines that come and go, and what they say unasked

    @property
    def names(self) -> Set[str]:
        """The names of its machines, as they are at any moment."""
        return self._links.keys()

    def peer_pid(self, name: str) -> int | None:
        """Return the process that began to listen where a machine is connected, as `QmpConnection.peer_pid` does.

        None also where there is no connection.

        Raises:
            ProgrammerError: there is no machine of that name, or the fleet is closed.
        """
        self._check([name])
        return self._links[name].peer_pid

    def add(self, name: str, address: Address) -> None:
        """Take in a machine. It is connected when it is first asked.

        Args:
            name: the caller's for it; another machine of that name is removed.
            address: where its monitor listens. The name of a host is looked up here.

        Raises:
            ProgrammerError: the fleet is closed.
        """
        self._check()
        self.remove(name)
        self._links[name] = Link(address, self._poller)

    def remove(self, name: str) -> None:
        """Let go of a machine, and close its connection; nothing happens where there is none of that name.

        Raises:
            ProgrammerError: the fleet is closed.
        """
        self._check()
        link = self._links.pop(name, None)
        if link is not None:
            link.close()

    def fileno(self) -> int:
        """Return a descriptor that is readable where something came from a machine, for whoever waits for many things.

        It stays so until `receive`, or until any machine is asked.

        Raises:
            ProgrammerError: the fleet is closed.
        """
        self._check()
        return self._poller.fileno()

    def receive(self) -> None:
        """Take in what machines sent unasked or too late; waits for nothing.

        Raises:
            ProgrammerError: the fleet is closed.
        """
        self._check()
        by_fd = {link.fd: link for link in self._links.values() if link.fd >= 0}
        for fd, events in self._poller.poll(0, len(by_fd) or 1):
            by_fd[fd].serve(events)

    def take_changed(self) -> set[str]:
        """Return the machines that sent an event, or whose connection was lost, since this was last called.

        What is known from before that may not be so any more.
        """
        changed = {name for name, link in self._links.items() if link.has_changed}
        for name in changed:
            self._links[name].has_changed = False
        return changed

    def unanswered(self) -> set[str]:
        """Return the machines that were connected and did not greet, or took a question and did not answer it, in time.

        Those that have done so since, as far as `receive` or a round noticed, are not among them.
        """
        return {name for name, link in self._links.items() if link.is_unanswered}

    def close(self) -> None:
        """Close all connections. Closing again does nothing."""
        is_ours = os.getpid() == self._owner
        for link in self._links.values():
            if is_ours:
                link.close()
            else:
                link.detach()
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
