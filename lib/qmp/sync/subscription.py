# SPDX-License-Identifier: BSD-2-Clause
"""Subscriptions to events, for threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from hvkit.qmp.base import Event
from hvkit.qmp.deadlines import Deadline, check_timeout
from hvkit.qmp.errors import QmpError
from hvkit.qmp.events import DEFAULT_MAXSIZE, EventQueue

E = TypeVar("E", bound=Event)


class EventSource(Protocol):
    """The session of a subscription."""

    address: str

    def wait_for_event(self, subscription: Subscription[Any], deadline: Deadline) -> bool:
        """Wait until a subscription has an event; return False if the deadline passed.

        Raises:
            ConnectionLost: the connection ended, and no event is left.
        """

    def unsubscribe(self, subscription: Subscription[Any]) -> None:
        """Stop delivering to a subscription."""


class Subscription(EventQueue[E]):
    """Events of some types that arrived since the subscription began, in order of arrival.

    Iterating returns events until the connection ends and then raises ConnectionLost.

    Attributes:
        dropped: how many events were dropped because the subscription was full; the oldest are dropped first.
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
            timeout: seconds to wait; None: the default, which is no limit (`math.inf`).

        Raises:
            EventTimeout: no event arrived in time.
            ConnectionLost: the connection ended, and no event is left.
            DataError: the data of an event does not have the structure of its class; that event is removed.
            ProgrammerError: the timeout is not a number.
        """
        return self._next(None, timeout)

    def wait_for(self, predicate: Callable[[E], bool], timeout: float | None = None) -> E:
        """Return the first event that matches a predicate; events before it are dropped.

        Args:
            predicate: called with each event.
            timeout: seconds to wait in total; None: the default, which is no limit (`math.inf`).

        Raises:
            EventTimeout: no such event arrived in time.
            ConnectionLost: the connection ended, and no event is left.
            DataError: the data of an event does not have the structure of its class; that event is removed.
            ProgrammerError: the timeout is not a number.
        """
        return self._next(predicate, timeout)

    def _next(self, predicate: Callable[[E], bool] | None, timeout: float | None) -> E:
        if timeout is None:
            timeout = math.inf
        else:
            check_timeout(timeout)
        try:
            event = self.take(predicate)
            if event is not None:
                return event
            deadline = Deadline(timeout)
            while self._source.wait_for_event(self, deadline):
                event = self.take(predicate)
                if event is not None:
                    return event
            raise self._timeout_error(timeout)
        except QmpError as error:
            error.set_monitor(self._source.address)
            raise

    def __iter__(self) -> Iterator[E]:
        while True:
            yield self.get()

    def close(self) -> None:
        """Stop delivery; events that were not taken are dropped. Does nothing if it is closed."""
        self._source.unsubscribe(self)
        self._queue.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
