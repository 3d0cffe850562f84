# SPDX-License-Identifier: BSD-2-Clause
"""Subscriptions to events, for asyncio tasks."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from hvkit.qmp.aio.session import AsyncSession, wake
from hvkit.qmp.base import Event
from hvkit.qmp.deadlines import Deadline, check_timeout
from hvkit.qmp.errors import QmpError
from hvkit.qmp.events import EventQueue

E = TypeVar("E", bound=Event)


class AsyncSubscription(EventQueue[E]):
    """A `hvkit.qmp.Subscription` for the tasks of one event loop.

    It is iterated with ``async for``. A task that is cancelled while it waits takes no event.

    Attributes:
        dropped: how many events were dropped because the subscription was full; the oldest are dropped first.
    """

    def __init__(
        self, session: AsyncSession, types: tuple[type[E], ...], *, match: Callable[[E], bool] | None, maxsize: int
    ) -> None:
        super().__init__(types, match=match, maxsize=maxsize)
        self._session = session
        self._waiters: set[asyncio.Future[None]] = set()

    def offer(self, message: dict[str, Any]) -> bool:
        is_wanted = super().offer(message)
        if is_wanted:
            for waiter in self._waiters:
                wake(waiter)
        return is_wanted

    async def get(self, timeout: float | None = None) -> E:
        """Return the next event; see `hvkit.qmp.Subscription.get`.

        Raises:
            ProgrammerError: also if the subscription belongs to another event loop.
        """
        return await self._next(None, timeout)

    async def wait_for(self, predicate: Callable[[E], bool], timeout: float | None = None) -> E:
        """Return the first event that matches a predicate; see `hvkit.qmp.Subscription.wait_for`.

        Raises:
            ProgrammerError: also if the subscription belongs to another event loop.
        """
        return await self._next(predicate, timeout)

    async def _next(self, predicate: Callable[[E], bool] | None, timeout: float | None) -> E:
        if timeout is None:
            timeout = math.inf
        else:
            check_timeout(timeout)
        deadline = Deadline(timeout)
        is_last = False
        try:
            while (event := self.take(predicate)) is None:
                if is_last:
                    raise self._timeout_error(timeout)
                is_last = deadline.remaining_s() <= 0
                await self._session.wait_for_event(self._waiters, deadline)
        except QmpError as error:
            error.set_monitor(self._session.address)
            raise
        return event

    def __aiter__(self) -> AsyncIterator[E]:
        return self

    async def __anext__(self) -> E:
        return await self.get()

    def close(self) -> None:
        """Stop delivery; events that were not taken are dropped. Does nothing if it is closed."""
        self._session.unsubscribe(self)
        self._queue.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
