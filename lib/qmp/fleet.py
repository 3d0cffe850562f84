# SPDX-License-Identifier: BSD-2-Clause
"""Commands to many monitors at once: one thread, one deadline, and a reply or an error from each monitor.

The commands are sent to all monitors before the first wait for a reply, so a call takes as long as the slowest reply. A
monitor that is silent, dead or flooding does not delay the others. Host names are resolved before the first call; no
timeout limits that.
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
from hvkit.qmp.deadlines import LONGEST_POLL_S, QUICK, Deadline, check_timeout
from hvkit.qmp.errors import ConnectError
from hvkit.qmp.link import TICK_S, Link, Outcome, Request, problem_of

__all__ = ["Fleet", "Outcome", "ask"]

R = TypeVar("R", covariant=True)

#: Maximum number of ready sockets to serve between two checks of the deadline.
_MAX_EVENTS: Final = 64


class Fleet:
    """Connections to many monitors, kept open between calls.

    A connection is opened by the first command to its monitor, and again after it was lost. A fleet may be used by one
    thread at a time, in the process that made it. A forked child can only close its copy, which leaves the parent's
    connections open.

    The constructor resolves host names, one after the other and without a timeout; numeric addresses and paths need no
    resolution. A name that cannot be resolved gives a ConnectError for that monitor in every call.

    Args:
        addresses: the address of each monitor, by a name that the caller chooses.

    Raises:
        ConnectError: no file descriptor is left for the fleet itself; the address of the error is "fleet".
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
        self, command: Command[R], *, names: Iterable[str] | None = None, timeout: float | None = None
    ) -> dict[str, Outcome[R]]: ...
    @overload
    def execute(
        self, command: str, *, names: Iterable[str] | None = None, timeout: float | None = None
    ) -> dict[str, Outcome[Any]]: ...
    def execute(
        self, command: Command[Any] | str, *, names: Iterable[str] | None = None, timeout: float | None = None
    ) -> dict[str, Outcome[Any]]:
        """Execute one command on all monitors, or on some.

        Args:
            command: a typed command, or the wire name of a command without arguments.
            names: the monitors; None: all.
            timeout: seconds in total, connecting included; `math.inf` for no limit. None: the default, 5.

        Returns:
            An outcome for each monitor, by name. After a `CommandTimeout` the connection stays usable.

        Raises:
            ProgrammerError: the command cannot be sent, a name is unknown, the fleet is closed, or `timeout` is not a
                number.
        """
        requests = (Request(command),)
        asked = self._ask(dict.fromkeys(self._links if names is None else names, requests), timeout)
        return {name: outcomes[0] for name, outcomes in asked.items()}

    def execute_each(
        self, commands: Mapping[str, Command[Any] | str], *, timeout: float | None = None
    ) -> dict[str, Outcome[Any]]:
        """Execute a different command on each monitor.

        Args:
            commands: the command for each monitor, by name.
            timeout: as for `execute`.

        Raises:
            ProgrammerError: as for `execute`.
        """
        asked = self._ask({name: (Request(command),) for name, command in commands.items()}, timeout)
        return {name: outcomes[0] for name, outcomes in asked.items()}

    def execute_several(
        self, commands: Mapping[str, Sequence[Command[Any] | str]], *, timeout: float | None = None
    ) -> dict[str, tuple[Outcome[Any], ...]]:
        """Execute several commands on each monitor. They are sent together and executed in order.

        A command that fails does not stop the commands after it.

        Args:
            commands: the commands for each monitor, by name; at least one each.
            timeout: as for `execute`.

        Returns:
            For each monitor, by name, an outcome of each command, in order. Replies that arrived before the deadline
            count, even if others did not. `after_s` is that of the last reply.

        Raises:
            ProgrammerError: as for `execute`; or a monitor has no commands.
        """
        made: dict[int, Request] = {}  # the same command is encoded once
        requests: dict[str, Sequence[Request]] = {}
        for name, several in commands.items():
            if not several:
                raise ProgrammerError(f"{name}: no commands for this monitor")
            requests[name] = tuple(made.get(id(each)) or made.setdefault(id(each), Request(each)) for each in several)
        return self._ask(requests, timeout)

    def _ask(
        self, requests: Mapping[str, Sequence[Request]], timeout: float | None
    ) -> dict[str, tuple[Outcome[Any], ...]]:
        self._check(requests)
        if timeout is None:
            timeout = QUICK.timeout_s
        check_timeout(timeout)
        links = {name: self._links[name] for name in requests}
        deadline = Deadline(timeout)
        try:
            for name, link in links.items():
                link.begin(requests[name])
            self._serve({link for link in links.values() if not link.is_done}, deadline)
        except BaseException:
            for link in links.values():
                link.interrupt()
            raise
        for link in links.values():
            if not link.is_done:
                link.expire(deadline)
                link.done_after_s = deadline.elapsed_s()
        return {name: link.outcomes() for name, link in links.items()}

    def _check(self, names: Iterable[str] = ()) -> None:
        if self._poller.closed:
            raise ProgrammerError("the fleet is closed")
        if os.getpid() != self._owner:
            raise ProgrammerError(f"the fleet belongs to process {self._owner}, from which this one was forked")
        unknown = sorted(set(names) - set(self._links))
        if unknown:
            raise ProgrammerError(f"unknown monitors: {', '.join(unknown)}")

    def _serve(self, pending: set[Link], deadline: Deadline) -> None:
        by_fd = {link.fd: link for link in self._links.values() if link.fd >= 0}
        connecting = {link for link in pending if link.needs_ticks}
        tick_at_s = time.monotonic() + TICK_S
        while pending:
            remaining_s = deadline.remaining_s()
            if remaining_s <= 0:
                return
            wait_s = min(remaining_s, max(tick_at_s - time.monotonic(), 0)) if connecting else remaining_s
            for fd, events in self._poller.poll(None if wait_s > LONGEST_POLL_S else wait_s, _MAX_EVENTS):
                link = by_fd[fd]
                link.serve(events)
                self._update(link, by_fd, pending, deadline)
            if connecting and (now_s := time.monotonic()) >= tick_at_s:
                tick_at_s = now_s + TICK_S
                for link in connecting:
                    link.tick(now_s)
                    self._update(link, by_fd, pending, deadline)
                connecting = {link for link in connecting & pending if link.needs_ticks}

    @staticmethod
    def _update(link: Link, by_fd: dict[int, Link], pending: set[Link], deadline: Deadline) -> None:
        """Update the collections after a link was served: it may have a new socket, or be done."""
        if link.is_done:
            link.done_after_s = deadline.elapsed_s()
            pending.discard(link)
        elif link.fd >= 0:
            by_fd[link.fd] = link

    @property
    def names(self) -> Set[str]:
        """The names of the monitors; a live view."""
        return self._links.keys()

    def peer_pid(self, name: str) -> int | None:
        """Return the process id of a monitor's QEMU, as `QmpConnection.peer_pid` does; None without a connection.

        Raises:
            ProgrammerError: the name is unknown, or the fleet is closed.
        """
        self._check([name])
        return self._links[name].peer_pid

    def add(self, name: str, address: Address) -> None:
        """Add a monitor. The first command to it opens the connection.

        Args:
            name: a name that the caller chooses; a monitor with the same name is removed first.
            address: the address of the monitor. A host name is resolved here.

        Raises:
            ProgrammerError: the fleet is closed.
        """
        self._check()
        self.remove(name)
        self._links[name] = Link(address, self._poller)

    def remove(self, name: str) -> None:
        """Remove a monitor and close its connection. An unknown name is ignored.

        Raises:
            ProgrammerError: the fleet is closed.
        """
        self._check()
        link = self._links.pop(name, None)
        if link is not None:
            link.close()

    def fileno(self) -> int:
        """Return a descriptor for select and poll, which is readable when data arrived from a monitor.

        It stays readable until `receive`, or until the next command to any monitor.

        Raises:
            ProgrammerError: the fleet is closed.
        """
        self._check()
        return self._poller.fileno()

    def receive(self) -> None:
        """Process the events and late replies that have arrived, without waiting.

        Raises:
            ProgrammerError: the fleet is closed.
        """
        self._check()
        by_fd = {link.fd: link for link in self._links.values() if link.fd >= 0}
        for fd, events in self._poller.poll(0, len(by_fd) or 1):
            by_fd[fd].serve(events)

    def take_changed(self) -> set[str]:
        """Return the monitors that sent an event or lost their connection since the previous call.

        Earlier information about these monitors may be outdated.
        """
        changed = {name for name, link in self._links.items() if link.has_changed}
        for name in changed:
            self._links[name].has_changed = False
        return changed

    def unanswered(self) -> set[str]:
        """Return the connected monitors that did not send their greeting or a reply in time.

        A monitor is no longer included after `receive` or a command has processed the missing message.
        """
        return {name for name, link in self._links.items() if link.is_unanswered}

    def close(self) -> None:
        """Close all connections. Closing again does nothing."""
        is_owner = os.getpid() == self._owner
        for link in self._links.values():
            if is_owner:
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
def ask(
    addresses: Mapping[str, Address], command: Command[R], *, timeout: float | None = ...
) -> dict[str, Outcome[R]]: ...
@overload
def ask(addresses: Mapping[str, Address], command: str, *, timeout: float | None = ...) -> dict[str, Outcome[Any]]: ...
def ask(
    addresses: Mapping[str, Address], command: Command[Any] | str, *, timeout: float | None = None
) -> dict[str, Outcome[Any]]:
    """Connect to many monitors, execute one command on each, and close the connections.

    Args:
        addresses: the address of each monitor, by a name that the caller chooses.
        command: a typed command, or the wire name of a command without arguments.
        timeout: seconds in total, without resolving host names; `math.inf` for no limit. None: the default, 5.

    Raises:
        ConnectError: no file descriptor is left for the fleet itself; the address of the error is "fleet".
        ProgrammerError: the command cannot be sent, or `timeout` is not a number.
    """
    with Fleet(addresses) as fleet:
        return fleet.execute(command, timeout=timeout)
