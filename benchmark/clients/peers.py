# SPDX-License-Identifier: BSD-2-Clause
"""Clients of other projects: qmp, qemu.qmp and Ganeti's monitor client."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from benchmark.clients.base import FLOOD, Client
from benchmark.clients.tasks import TaskClient
from benchmark.meter import Meter

_GANETI: Final = Path(__file__).parents[2] / "build/ganeti"


class QmpPackage(Client):
    """The package `qmp`."""

    name = "qmp"
    _monitor: Any

    def __init__(self) -> None:
        self._class = importlib.import_module("qmp").QEMUMonitorProtocol

    def connect(self, path: Path) -> None:
        self._monitor = self._class(str(path))
        self._monitor.connect()

    def close(self) -> None:
        self._monitor.close()

    def query_status(self) -> object:
        return self._monitor.command("query-status")

    def execute(self, command: str, arguments: dict[str, Any]) -> object:
        return self._monitor.command(command, **arguments)

    def query_all(self, paths: Sequence[Path]) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(self._query_one, paths))

    def _query_one(self, path: Path) -> None:
        with self._class(str(path)) as monitor:
            monitor.connect()
            monitor.command("query-status")


class QemuQmp(TaskClient):
    """The package `qemu.qmp`, an asyncio client."""

    name = "qemu.qmp (asyncio)"
    event_share = 0.1

    def __init__(self) -> None:
        self._class = importlib.import_module("qemu.qmp").QMPClient
        super().__init__()

    async def open_connection(self, path: Path) -> Any:
        client = self._class()
        await client.connect(str(path))
        return client

    async def close_connection(self, connection: Any) -> None:
        await connection.disconnect()

    async def query_status_on(self, connection: Any) -> object:
        return await connection.execute("query-status")

    async def execute_on(self, connection: Any, command: str, arguments: dict[str, Any]) -> object:
        return await connection.execute(command, arguments or None)

    async def take_events_on(self, connection: Any, meter: Meter, count: int) -> None:
        with connection.listener("DEVICE_DELETED") as events, meter:
            await connection.execute(FLOOD, {"count": count})
            for _ in range(count):
                await events.get()


class Ganeti(Client):
    """The monitor client of Ganeti. It executes `query-commands` whenever it connects."""

    name = "Ganeti"
    _monitor: Any

    def __init__(self) -> None:
        # Last in the path, to hide no other module.
        sys.path += map(str, [*_GANETI.glob("usr/share/ganeti/*/"), _GANETI / "site"])
        self._class = importlib.import_module("ganeti.hypervisor.hv_kvm.monitor").QmpConnection

    def connect(self, path: Path) -> None:
        self._monitor = self._class(str(path))
        self._monitor.connect()

    def close(self) -> None:
        self._monitor.close()

    def query_status(self) -> object:
        return self._monitor.Execute("query-status")

    def execute(self, command: str, arguments: dict[str, Any]) -> object:
        return self._monitor.Execute(command, arguments)
