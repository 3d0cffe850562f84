# SPDX-License-Identifier: BSD-2-Clause
"""Subscriptions: events for those who asked before they acted.

A subscription is registered with a connection before anything is sent, so that nothing is missed; it holds a bounded
number of events and counts what it had to drop. Events stay plain data until somebody takes them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from hvkit.errors import ProgrammerError
from hvkit.qmp import schema
from hvkit.qmp.base import Event, GenericEvent
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.errors import EventTimeout
from hvkit.qmp.message import parse_event

E = TypeVar("E", bound=Event)

#: How many events a subscription holds unless it is told otherwise.
DEFAULT_MAXSIZE = 10_000


class EventQueue(Generic[E]):
    """Events of some types, in the order they came, until somebody takes them. Nothing here waits.

    Attributes:
        names: wire names of the wanted events; None where all are wanted.
        dropped: how many events were dropped since nobody took them in time; the oldest go first.
    """

    def __init__(
        self, types: tuple[type[E], ...], *, match: Callable[[E], bool] | None = None, maxsize: int = DEFAULT_MAXSIZE
    ) -> None:
        if maxsize < 1:
            raise ProgrammerError("a subscription must hold at least one event")
        for each in types:
            _check_event_class(each)
        self.dropped = 0
        self.names = frozenset(each.wire_name for each in types) if types else None
        self._wants_unknown = GenericEvent in types
        self._match = match
        self._queue: deque[dict[str, Any]] = deque(maxlen=maxsize)

    @property
    def is_ready(self) -> bool:
        """Whether an event is there to be taken."""
        return bool(self._queue)

    def offer(self, notice: dict[str, Any]) -> bool:
        """Take a notice if it is of a wanted type; called by the connection, under its lock."""
        name = notice["event"]
        if self.names is not None and name not in self.names and not (self._wants_unknown and not _is_known(name)):
            return False
        if len(self._queue) == self._queue.maxlen:
            self.dropped += 1
        self._queue.append(notice)
        return True

    def take(self, predicate: Callable[[E], bool] | None = None) -> E | None:
        """Take the first event that is there and satisfies a predicate, and drop those before it; does not wait.

        Returns:
            The event; None when there was none, and now there is no event at all.

        Raises:
            DataError: an event came whose data does not have the shape of its class; it is consumed.
        """
        while True:
            try:
                notice = self._queue.popleft()
            except IndexError:
                return None
            event: Any = to_event(notice)
            if (self._match is None or self._match(event)) and (predicate is None or predicate(event)):
                taken: E = event
                return taken

    def _too_late(self, deadline: Deadline) -> EventTimeout:
        return EventTimeout(tuple(sorted(self.names)) if self.names else (), deadline.timeout_s)


class EventSource(Protocol):
    """What a subscription needs of its connection."""

    def wait_for_event(self, subscription: Subscription[Any], deadline: Deadline) -> bool:
        """Wait until a subscription is ready; False when the deadline passed.

        Raises:
            ConnectionLost: the connection ended and it is not.
        """

    def unsubscribe(self, subscription: Subscription[Any]) -> None:
        """Stop delivering to a subscription."""


class Subscription(EventQueue[E]):
    """Events of some types, in the order they came, from the moment of subscribing.

    Iterating gives events until the connection ends, which raises ConnectionLost: silence is never mistaken for peace.

    Attributes:
        dropped: how many events were dropped since nobody took them in time; the oldest go first.
    """

    def __init__(
        self,
        source: EventSource,
        types: tuple[type[E], ...],
        *,
        match: Callable[[E], bool] | None = None,
        maxsize: int = DEFAULT_MAXSIZE,
    ) -> None:
        super().__init__(types, match=match, maxsize=maxsize)
        self._source = source

    def get(self, timeout: float | None = None) -> E:
        """Return the next event.

        Args:
            timeout: seconds to wait; None waits for ever.

        Raises:
            EventTimeout: none came in time.
            ConnectionLost: the connection ended, and no event is left.
            DataError: an event came whose data does not have the shape of its class; it is consumed.
        """
        return self._next(None, timeout)

    def wait_for(self, predicate: Callable[[E], bool], timeout: float | None = None) -> E:
        """Return the first event that satisfies a predicate; those before it are dropped.

        Args:
            predicate: called with each event.
            timeout: seconds for all of the waiting; None waits for ever.

        Raises:
            EventTimeout: no such event came in time.
            ConnectionLost: the connection ended, and no event is left.
            DataError: an event came whose data does not have the shape of its class; it is consumed.
        """
        return self._next(predicate, timeout)

    def _next(self, predicate: Callable[[E], bool] | None, timeout: float | None) -> E:
        event = self.take(predicate)
        if event is not None:
            return event
        deadline = Deadline(math.inf if timeout is None else timeout)
        while self._source.wait_for_event(self, deadline):
            event = self.take(predicate)
            if event is not None:
                return event
        raise self._too_late(deadline)

    def __iter__(self) -> Iterator[E]:
        while True:
            yield self.get()

    def close(self) -> None:
        """Stop listening; events not taken are dropped. Closing again does nothing."""
        self._source.unsubscribe(self)
        self._queue.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_event_class(kind: Any) -> None:
    is_event = isinstance(kind, type) and issubclass(kind, Event)
    if not is_event or not (kind.wire_name or kind is GenericEvent):
        shown = kind.__name__ if isinstance(kind, type) else repr(kind)
        raise ProgrammerError(f"a subscription is to classes that stand for one event each, not to {shown}")


def _is_known(name: str) -> bool:
    return schema.find_event(name) is not None


def to_event(notice: dict[str, Any]) -> Event:
    """Make a notice the typed event it stands for; one that the schema does not know becomes a `GenericEvent`.

    Raises:
        DataError: the event's data does not have the shape of its class.
    """
    return parse_event(notice, schema.find_event(notice["event"]))
