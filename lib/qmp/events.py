# SPDX-License-Identifier: BSD-2-Clause
"""Bounded queues of events, the base of subscriptions.

A queue is registered with a connection before a command is sent, so that no event is missed. Events stay plain data
until they are taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from hvkit.errors import ProgrammerError
from hvkit.qmp import schema
from hvkit.qmp.base import Event, GenericEvent
from hvkit.qmp.errors import EventTimeout
from hvkit.qmp.message import structure_event

E = TypeVar("E", bound=Event)

#: How many events a subscription holds by default.
DEFAULT_MAXSIZE = 10_000


class EventQueue(Generic[E]):
    """Events of some types, in the order in which they arrived. No method waits.

    Attributes:
        names: wire names of the wanted events; None for all events.
        dropped: how many events were dropped because the queue was full; the oldest are dropped first.
    """

    def __init__(
        self, types: tuple[type[E], ...], *, match: Callable[[E], bool] | None = None, maxsize: int = DEFAULT_MAXSIZE
    ) -> None:
        if maxsize < 1:
            raise ProgrammerError(f"maxsize of a subscription must be at least 1, not {maxsize}")
        for each in types:
            _check_event_class(each)
        self.dropped = 0
        self.names = frozenset(each.wire_name for each in types) if types else None
        self._wants_unknown = GenericEvent in types
        self._match = match
        self._queue: deque[dict[str, Any]] = deque(maxlen=maxsize)

    @property
    def is_ready(self) -> bool:
        """Whether the queue has an event."""
        return bool(self._queue)

    def offer(self, message: dict[str, Any]) -> bool:
        """Add an event message if its type is wanted; called by the connection, with its lock held.

        Returns:
            Whether the type is wanted.
        """
        name = message["event"]
        if self.names is not None and name not in self.names and not (self._wants_unknown and not _is_known(name)):
            return False
        if len(self._queue) == self._queue.maxlen:
            self.dropped += 1
        self._queue.append(message)
        return True

    def take(self, predicate: Callable[[E], bool] | None = None) -> E | None:
        """Remove and return the first event that matches the predicate; events before it are dropped. Does not wait.

        Returns:
            The event; None if no event matched. The queue is then empty.

        Raises:
            DataError: the data of an event does not have the structure of its class; that event is removed.
        """
        while True:
            try:
                message = self._queue.popleft()
            except IndexError:
                return None
            event: Any = typed_event(message)
            if (self._match is None or self._match(event)) and (predicate is None or predicate(event)):
                taken: E = event
                return taken

    def _timeout_error(self, timeout_s: float) -> EventTimeout:
        return EventTimeout(tuple(sorted(self.names)) if self.names else (), timeout_s)


def _check_event_class(kind: Any) -> None:
    is_event = isinstance(kind, type) and issubclass(kind, Event)
    if not is_event or not (kind.wire_name or kind is GenericEvent):
        shown = kind.__name__ if isinstance(kind, type) else repr(kind)
        raise ProgrammerError(f"subscribe to event classes, not to {shown}")


def _is_known(name: str) -> bool:
    return schema.find_event(name) is not None


def typed_event(message: dict[str, Any]) -> Event:
    """Return the typed event of a message; a `GenericEvent` if the schema does not know it.

    Raises:
        DataError: the data of the event does not have the structure of its class.
    """
    return structure_event(message, schema.find_event(message["event"]))
