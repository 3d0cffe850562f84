# SPDX-License-Identifier: BSD-2-Clause
"""The common part of all asyncio clients: an event loop, and turns that run inside one coroutine."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.clients.base import EventClient
from benchmark.meter import Meter


class TaskClient(EventClient):
    """An asyncio client. Starting and stopping the event loop is not part of a measured call, except in `execute`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection: Any = None

    @abc.abstractmethod
    async def open_connection(self, path: Path) -> Any:
        """Connect and negotiate; return the connection."""

    @abc.abstractmethod
    async def close_connection(self, connection: Any) -> None:
        """Close a connection."""

    @abc.abstractmethod
    async def query_status_on(self, connection: Any) -> object:
        """Execute `query-status`."""

    @abc.abstractmethod
    async def execute_on(self, connection: Any, command: str, arguments: dict[str, Any]) -> object:
        """Execute any command."""

    @abc.abstractmethod
    async def take_events_on(self, connection: Any, meter: Meter, count: int) -> None:
        """Let the stub server send events, and take them one by one."""

    def connect(self, path: Path) -> None:
        self._connection = self._loop.run_until_complete(self.open_connection(path))

    def close(self) -> None:
        self._loop.run_until_complete(self.close_connection(self._connection))

    def query_status(self) -> object:
        return self._loop.run_until_complete(self.query_status_on(self._connection))

    def execute(self, command: str, arguments: dict[str, Any]) -> object:
        return self._loop.run_until_complete(self.execute_on(self._connection, command, arguments))

    def take_events(self, meter: Meter, count: int) -> None:
        self._loop.run_until_complete(self.take_events_on(self._connection, meter, count))

    def query_all(self, paths: Sequence[Path]) -> None:
        self.prepare()
        self._loop.run_until_complete(self._query_all(paths))

    async def _query_all(self, paths: Sequence[Path]) -> None:
        await asyncio.gather(*[self._query_one(path) for path in paths])

    async def _query_one(self, path: Path) -> None:
        connection = await self.open_connection(path)
        await self.query_status_on(connection)
        await self.close_connection(connection)

    def query_status_turn(self, meter: Meter, calls: int) -> None:
        self.prepare()
        self._loop.run_until_complete(self._query_status_turn(meter, calls))

    async def _query_status_turn(self, meter: Meter, calls: int) -> None:
        connection, numbers = self._connection, range(calls)
        with meter:
            for _ in numbers:
                await self.query_status_on(connection)

    def connect_turn(self, path: Path, meter: Meter, calls: int) -> None:
        self.prepare()
        self._loop.run_until_complete(self._connect_turn(path, meter, calls))

    async def _connect_turn(self, path: Path, meter: Meter, calls: int) -> None:
        for _ in range(calls):
            with meter:
                connection = await self.open_connection(path)
            await self.close_connection(connection)
