# SPDX-License-Identifier: BSD-2-Clause
"""The clients that are measured, behind one small interface; each does its work as its makers would have it done."""

from __future__ import annotations

import abc
import importlib
import json
import socket
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Final

from benchmark.harness import OURS, OURS_FAST, RAW, loop
from hvkit.qmp import QmpConnection, fleet, message
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevCacheOptions,
    BlockdevDel,
    BlockdevOptionsFile,
    BlockdevOptionsQcow2,
    QueryStatus,
)

_RECEIVE_BYTES: Final = 65536
_NODE: Final = "disk0"
_GANETI: Final = Path(__file__).parents[1] / "build/ganeti"


def disk_options(image: Path) -> dict[str, Any]:
    """Return the arguments of a blockdev-add: an image in a file, read past the host's cache."""
    cache = {"direct": True, "no-flush": False}
    file = {"driver": "file", "filename": str(image), "cache": cache, "discard": "unmap"}
    return {"driver": "qcow2", "node-name": _NODE, "cache": cache, "discard": "unmap", "file": file}


class Contestant(abc.ABC):
    """A client with at most one connection."""

    name: ClassVar[str]

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Get ready for a turn."""

    @abc.abstractmethod
    def connect(self, path: Path) -> None:
        """Connect and negotiate."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @abc.abstractmethod
    def query_status(self) -> object:
        """Execute query-status and return what it returns, as this client gives it."""

    @abc.abstractmethod
    def execute(self, command: str, arguments: dict[str, Any]) -> object:
        """Execute any command."""

    def query_status_timed(self, times: int) -> float:
        """Return the seconds that a number of query-status takes."""
        self.prepare()
        return loop(self.query_status)(times)

    def connect_timed(self, path: Path, times: int) -> float:
        """Return the seconds that a number of connects takes; closing is not counted."""
        self.prepare()
        seconds = 0.0
        for _ in range(times):
            began_s = time.perf_counter()
            self.connect(path)
            seconds += time.perf_counter() - began_s
            self.close()
        return seconds

    def add_disk_timed(self, image: Path, times: int) -> float:
        """Return the seconds that adding an image takes a number of times; deleting it is not counted."""
        self.prepare()
        seconds = 0.0
        for _ in range(times):
            began_s = time.perf_counter()
            self.add_disk(image)
            seconds += time.perf_counter() - began_s
            self.delete_disk()
        return seconds

    def add_disk(self, image: Path) -> None:
        """Execute blockdev-add."""
        self.execute("blockdev-add", disk_options(image))

    def delete_disk(self) -> None:
        """Execute blockdev-del."""
        self.execute("blockdev-del", {"node-name": _NODE})

    def ask_all(self, paths: Sequence[Path]) -> None:
        """Connect to each of many machines, execute query-status and close, the quickest way there is."""
        self.prepare()
        for path in paths:
            self.connect(path)
            self.query_status()
            self.close()


class Raw(Contestant):
    """The floor: bytes out, bytes in, not looked at more than it takes to see that they have ended."""

    name = RAW
    _socket: socket.socket
    _QUERY_STATUS: Final = b'{"execute":"query-status"}\n'

    def connect(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._answer()
        self._socket.sendall(b'{"execute":"qmp_capabilities"}\n')
        self._answer()

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send a request."""
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """Return what has come."""
        return self._socket.recv(_RECEIVE_BYTES)

    def _answer(self) -> bytes:
        data = self._socket.recv(_RECEIVE_BYTES)
        while data[-1:] != b"\n":
            data += self._socket.recv(_RECEIVE_BYTES)
        return data

    def query_status(self) -> object:
        self._socket.sendall(self._QUERY_STATUS)
        return self._socket.recv(_RECEIVE_BYTES)

    def execute(self, command: str, arguments: dict[str, Any]) -> object:
        raise NotImplementedError(command)

    def add_disk_timed(self, image: Path, times: int) -> float:
        add = self._compact({"execute": "blockdev-add", "arguments": disk_options(image)})
        delete = self._compact({"execute": "blockdev-del", "arguments": {"node-name": _NODE}})
        seconds = 0.0
        for _ in range(times):
            began_s = time.perf_counter()
            self._socket.sendall(add)
            answer = self._answer()
            seconds += time.perf_counter() - began_s
            if answer != b'{"return": {}}\r\n':
                raise SystemExit(f"blockdev-add: {answer!r}")
            self._socket.sendall(delete)
            self._answer()
        return seconds

    @staticmethod
    def _compact(message: dict[str, Any]) -> bytes:
        return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class RawJson(Raw):
    """A request made by json.dumps as it comes, and the answer read by json.loads."""

    name = "raw+json"

    def query_status(self) -> object:
        return self.execute("query-status", {})

    def execute(self, command: str, arguments: dict[str, Any]) -> object:
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self._socket.sendall(json.dumps(request).encode())
        return json.loads(self._answer())["return"]

    def add_disk_timed(self, image: Path, times: int) -> float:
        return Contestant.add_disk_timed(self, image, times)


class RawOrjson(RawJson):
    """The same with orjson."""

    name = "raw+orjson"

    def __init__(self) -> None:
        orjson = importlib.import_module("orjson")
        self._dumps: Callable[[object], bytes] = orjson.dumps
        self.loads: Callable[[bytes], Any] = orjson.loads

    def execute(self, command: str, arguments: dict[str, Any]) -> object:
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self._socket.sendall(self._dumps(request))
        return self.loads(self._answer())["return"]


class QmpPackage(Contestant):
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

    def ask_all(self, paths: Sequence[Path]) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(self._ask_one, paths))

    def _ask_one(self, path: Path) -> None:
        with self._class(str(path)) as monitor:
            monitor.connect()
            monitor.command("query-status")


class QemuQmp(Contestant):
    """The package `qemu.qmp`. What is repeated is repeated inside of one coroutine, as its users would."""

    name = "qemu.qmp"
    _client: Any

    def __init__(self) -> None:
        self._class = importlib.import_module("qemu.qmp").QMPClient
        self._asyncio = importlib.import_module("asyncio")
        self._loop = self._asyncio.new_event_loop()

    def connect(self, path: Path) -> None:
        self._client = self._class()
        self._loop.run_until_complete(self._client.connect(str(path)))

    def close(self) -> None:
        self._loop.run_until_complete(self._client.disconnect())

    def query_status(self) -> object:
        return self.execute("query-status", {})

    def execute(self, command: str, arguments: dict[str, Any]) -> object:
        return self._loop.run_until_complete(self._client.execute(command, arguments or None))

    def query_status_timed(self, times: int) -> float:
        seconds: float = self._loop.run_until_complete(self._repeat(times))
        return seconds

    async def _repeat(self, times: int) -> float:
        began_s = time.perf_counter()
        for _ in range(times):
            await self._client.execute("query-status")
        return time.perf_counter() - began_s

    def take_events(self, command: str, count: int) -> None:
        """Execute a command and take the events that come of it."""
        self._loop.run_until_complete(self._take_events(command, count))

    async def _take_events(self, command: str, count: int) -> None:
        with self._client.listener("DEVICE_DELETED") as events:
            await self._client.execute(command, {"count": count})
            for _ in range(count):
                await events.get()

    def ask_all(self, paths: Sequence[Path]) -> None:
        self._loop.run_until_complete(self._ask_all(paths))

    async def _ask_all(self, paths: Sequence[Path]) -> None:
        await self._asyncio.gather(*[self._ask_one(path) for path in paths])

    async def _ask_one(self, path: Path) -> None:
        client = self._class()
        await client.connect(str(path))
        await client.execute("query-status")
        await client.disconnect()


class Ganeti(Contestant):
    """Ganeti's own client, where tools/setup/ganeti.sh could unpack it. It asks for all commands when it connects."""

    name = "Ganeti"
    _monitor: Any

    def __init__(self) -> None:
        self._class = _ganeti_monitor().QmpConnection

    def connect(self, path: Path) -> None:
        self._monitor = self._class(str(path))
        self._monitor.connect()

    def close(self) -> None:
        self._monitor.close()

    def query_status(self) -> object:
        return self._monitor.Execute("query-status")

    def execute(self, command: str, arguments: dict[str, Any]) -> object:
        return self._monitor.Execute(command, arguments)


def _ganeti_monitor() -> Any:
    """Import Ganeti's module from where it was unpacked.

    Raises:
        ImportError: it is not there.
    """
    sys.path += map(str, [*_GANETI.glob("usr/share/ganeti/*/"), _GANETI / "site"])  # last: they hide nothing of ours
    return importlib.import_module("ganeti.hypervisor.hv_kvm.monitor")


class Hvkit(Contestant):
    """Ours: typed commands, typed replies, the JSON of the standard library."""

    name = OURS
    loads: Callable[[bytes], Any] = staticmethod(message.loads_standard)
    connection: QmpConnection

    def prepare(self) -> None:
        message.loads = self.loads

    def connect(self, path: Path) -> None:
        self.prepare()
        self.connection = QmpConnection(path)
        self.connection.connect()

    def close(self) -> None:
        self.connection.close()

    def query_status(self) -> object:
        return self.connection.execute(QueryStatus())

    def execute(self, command: str, arguments: dict[str, Any]) -> object:
        return self.connection.execute(command, arguments)

    def add_disk(self, image: Path) -> None:
        cache = BlockdevCacheOptions(direct=True, no_flush=False)
        file = BlockdevOptionsFile(driver="file", filename=str(image), cache=cache, discard="unmap")
        self.connection.execute(
            BlockdevAdd(BlockdevOptionsQcow2(node_name=_NODE, cache=cache, discard="unmap", file=file))
        )

    def delete_disk(self) -> None:
        self.connection.execute(BlockdevDel(node_name=_NODE))

    def ask_all(self, paths: Sequence[Path]) -> None:
        self.prepare()
        for outcome in fleet.ask({str(path): path for path in paths}, QueryStatus()).values():
            assert outcome.value.status


class HvkitFast(Hvkit):
    """Ours with the extra `fast`, which is orjson."""

    name = OURS_FAST

    def __init__(self) -> None:
        self.loads = importlib.import_module("orjson").loads


ALL: Final[tuple[type[Contestant], ...]] = (Raw, RawJson, RawOrjson, Hvkit, HvkitFast, QmpPackage, QemuQmp, Ganeti)


def available() -> tuple[list[Contestant], list[str]]:
    """Return the contestants that are installed, and a line about each that is not."""
    found, missing = [], []
    for each in ALL:
        try:
            found.append(each())
        except ImportError as error:
            missing.append(f"without {each.name}: {error}")
    return found, missing
