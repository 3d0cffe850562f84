# SPDX-License-Identifier: BSD-2-Clause
"""The part of a session that performs no I/O: its state, its subscriptions, and the errors that it raises."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from hvkit.qmp import log
from hvkit.qmp.base import Event
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.errors import ConnectError, ConnectionLost, DataError
from hvkit.qmp.events import EventQueue, typed_event
from hvkit.qmp.message import Greeting
from hvkit.qmp.protocol import ENDED, Exchange, Protocol, State

#: How many events that match no subscription are kept.
_UNCLAIMED_EVENTS: Final = 1000
#: The message that each state of the negotiation waits for.
_MISSING: Final = {State.GREETING: "greeting", State.NEGOTIATING: "reply to qmp_capabilities"}


def negotiation_timeout(state: State, deadline: Deadline) -> str:
    """Return the reason of a failure to connect: the negotiation was not complete at the deadline."""
    return f"no {_MISSING[state]} within {deadline.timeout_s:g} s: QEMU is busy with another client, or stopped"


class BaseSession:
    """One conversation of a connection, from the connected socket to its end.

    Attributes:
        address: address of the monitor, as text.
    """

    def __init__(self, address: str, protocol: Protocol) -> None:
        self.address = address
        self._protocol = protocol
        self._subscriptions: list[EventQueue[Any]] = []
        self._unclaimed: deque[dict[str, Any]] = deque(maxlen=_UNCLAIMED_EVENTS)

    @property
    def greeting(self) -> Greeting | None:
        """The greeting of the server; None before it arrives."""
        return self._protocol.greeting

    @property
    def state(self) -> State:
        """State of the conversation."""
        return self._protocol.state

    @property
    def peer_pid(self) -> int | None:
        """The process that created the listening socket; None if unknown, or first read after the session ended."""
        raise NotImplementedError

    def take_unclaimed(self) -> list[Event]:
        """Read the available data, and remove and return the events that match no subscription. Does not wait.

        Raises:
            ConnectionLost: the session ended, and no event is left.
            DataError: the data of the oldest event does not have the structure of its class; that event is removed.
        """
        raise NotImplementedError

    def _end_protocol(self, reason: str) -> None:
        """End the conversation with this reason, unless it has ended already; exchanges in flight fail."""
        if self._protocol.state is not ENDED:
            self._protocol.receive_eof(ConnectionLost(self.address, reason, self._protocol.commands_in_flight))

    def _lost_error(self) -> ConnectionLost:
        """Return the error for using a session that has ended."""
        failure = self._protocol.failure
        if isinstance(failure, ConnectionLost):
            return ConnectionLost(self.address, failure.reason, failure.commands)
        return ConnectionLost(self.address, f"hvkit closed the connection: {'' if failure is None else failure.reason}")

    def _connect_error(self) -> ConnectError:
        """Return the error for a conversation that ended before it was ready; raise it from its failure."""
        failure = self._protocol.failure
        return ConnectError(self.address, "" if failure is None else failure.reason)

    def _negotiation_timeout(self, deadline: Deadline) -> str:
        return negotiation_timeout(self._protocol.state, deadline)

    def _dispatch(self, message: dict[str, Any]) -> None:
        """Pass an event to the subscriptions that want it; keep it if no subscription wants it."""
        is_wanted = False
        for subscription in self._subscriptions:
            is_wanted |= subscription.offer(message)
        if not is_wanted:
            self._unclaimed.append(message)

    def _pop_unclaimed(self) -> list[Event]:
        """Remove and return the events that match no subscription, up to the first invalid one.

        Raises:
            DataError: the first one is invalid; that event is removed.
        """
        events: list[Event] = []
        while self._unclaimed:
            try:
                events.append(typed_event(self._unclaimed[0]))
            except DataError:
                if events:
                    return events
                self._unclaimed.popleft()
                raise
            self._unclaimed.popleft()
        return events

    def _warn_slow(self, exchange: Exchange, deadline: Deadline) -> None:
        log.warning(self.address, "%s took %.1f s", exchange.command, deadline.elapsed_s())
