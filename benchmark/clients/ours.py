# SPDX-License-Identifier: BSD-2-Clause
"""The clients of hvkit: typed commands and typed replies."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmark.clients.base import FLOOD, NODE_NAME, EventClient
from benchmark.clients.tasks import TaskClient
from benchmark.figure import OURS, OURS_ASYNC, OURS_FAST
from benchmark.meter import Meter
from hvkit.qmp import QmpConnection, fleet, message
from hvkit.qmp.aio import AsyncQmpConnection
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevCacheOptions,
    BlockdevDel,
    BlockdevOptionsFile,
    BlockdevOptionsQcow2,
    DeviceDeletedEvent,
    QueryStatus,
)

_EVENT_TIMEOUT_S = 60


class Hvkit(EventClient):
    """The blocking connection, with the JSON decoder of the standard library."""

    name = OURS
    _loads: Callable[[bytes], Any] = staticmethod(message.loads_standard)
    _connection: QmpConnection

    def prepare(self) -> None:
        message.loads = self._loads

    def connect(self, path: Path) -> None:
        self.prepare()
        self._connection = QmpConnection(path)
        self._connection.connect()

    def close(self) -> None:
        self._connection.close()

    def query_status(self) -> object:
        return self._connection.execute(QueryStatus())

    def execute(self, command: str, arguments: dict[str, Any]) -> object:
        return self._connection.execute(command, arguments)

    def add_disk(self, image: Path) -> None:
        cache = BlockdevCacheOptions(direct=True, no_flush=False)
        file = BlockdevOptionsFile(driver="file", filename=str(image), cache=cache, discard="unmap")
        self._connection.execute(
            BlockdevAdd(BlockdevOptionsQcow2(node_name=NODE_NAME, cache=cache, discard="unmap", file=file))
        )

    def delete_disk(self) -> None:
        self._connection.execute(BlockdevDel(node_name=NODE_NAME))

    def take_events(self, meter: Meter, count: int) -> None:
        connection = self._connection
        with connection.subscribe(DeviceDeletedEvent) as events, meter:
            connection.execute(FLOOD, {"count": count})
            for _ in range(count):
                assert events.get(timeout=_EVENT_TIMEOUT_S).device == "disk0"
            assert not events.dropped

    def query_all(self, paths: Sequence[Path]) -> None:
        self.prepare()
        for outcome in fleet.ask({str(path): path for path in paths}, QueryStatus()).values():
            assert outcome.value.status


class HvkitFast(Hvkit):
    """The blocking connection with the extra `fast`, which decodes JSON with orjson."""

    name = OURS_FAST

    def __init__(self) -> None:
        self._loads = importlib.import_module("orjson").loads


class HvkitAsync(TaskClient):
    """The asyncio connection, with the JSON decoder of the standard library."""

    name = OURS_ASYNC

    def prepare(self) -> None:
        message.loads = message.loads_standard

    async def open_connection(self, path: Path) -> AsyncQmpConnection:
        connection = AsyncQmpConnection(path)
        await connection.connect()
        return connection

    async def close_connection(self, connection: AsyncQmpConnection) -> None:
        await connection.close()

    async def query_status_on(self, connection: AsyncQmpConnection) -> object:
        return await connection.execute(QueryStatus())

    async def execute_on(self, connection: AsyncQmpConnection, command: str, arguments: dict[str, Any]) -> object:
        return await connection.execute(command, arguments)

    async def take_events_on(self, connection: AsyncQmpConnection, meter: Meter, count: int) -> None:
        with connection.subscribe(DeviceDeletedEvent) as events, meter:
            await connection.execute(FLOOD, {"count": count})
            for _ in range(count):
                event = await events.get(timeout=_EVENT_TIMEOUT_S)
                assert event.device == "disk0"
            assert not events.dropped
