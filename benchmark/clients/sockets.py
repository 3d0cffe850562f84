# SPDX-License-Identifier: BSD-2-Clause
"""Minimal clients: a blocking socket, with and without a JSON library."""

from __future__ import annotations

import importlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmark.clients.base import FLOOD, RECEIVE_BYTES, Client, EventClient, disk_options
from benchmark.figure import BARE
from benchmark.meter import Meter


class _SocketClient(Client):
    """A blocking socket that negotiates."""

    _socket: socket.socket

    def connect(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._receive_line()
        self._socket.sendall(b'{"execute":"qmp_capabilities"}\n')
        self._receive_line()

    def close(self) -> None:
        self._socket.close()

    def _receive_line(self) -> bytes:
        data = self._socket.recv(RECEIVE_BYTES)
        while data[-1:] != b"\n":
            data += self._socket.recv(RECEIVE_BYTES)
        return data


class BareSocket(_SocketClient):
    """Sends constant bytes and reads the reply, without parsing or checking it."""

    name = BARE
    _QUERY_STATUS: Final = b'{"execute":"query-status"}\n'

    def query_status(self) -> object:
        self._socket.sendall(self._QUERY_STATUS)
        return self._socket.recv(RECEIVE_BYTES)

    def execute(self, command: str, arguments: dict[str, Any]) -> object:
        raise NotImplementedError(command)

    def add_disk_turn(self, image: Path, meter: Meter, calls: int) -> None:
        add = self._compact({"execute": "blockdev-add", "arguments": disk_options(image)})
        delete = self._compact({"execute": "blockdev-del", "arguments": {"node-name": "disk0"}})
        for _ in range(calls):
            with meter:
                self._socket.sendall(add)
                reply = self._receive_line()
            if reply != b'{"return": {}}\r\n':
                raise SystemExit(f"blockdev-add: {reply!r}")
            self._socket.sendall(delete)
            self._receive_line()

    @staticmethod
    def _compact(message: dict[str, Any]) -> bytes:
        return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class JsonSocket(_SocketClient, EventClient):
    """A socket, `json.dumps` and `json.loads`."""

    name = "socket + json"
    _loads: Callable[[bytes], Any] = staticmethod(json.loads)

    def query_status(self) -> object:
        return self.execute("query-status", {})

    def execute(self, command: str, arguments: dict[str, Any]) -> object:
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self._socket.sendall(self._dumps(request))
        return self._loads(self._receive_line())["return"]

    def _dumps(self, request: object) -> bytes:
        return json.dumps(request).encode()

    def take_events(self, meter: Meter, count: int) -> None:
        with meter:
            self._socket.sendall(self._dumps({"execute": FLOOD, "arguments": {"count": count}}))
            rest, taken = b"", -1  # the first line is the reply
            while taken < count:
                lines = (rest + self._socket.recv(RECEIVE_BYTES)).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    self._loads(line)
                taken += len(lines)


class OrjsonSocket(JsonSocket):
    """A socket and orjson."""

    name = "socket + orjson"

    def __init__(self) -> None:
        orjson = importlib.import_module("orjson")
        self._orjson_dumps: Callable[[object], bytes] = orjson.dumps
        self._loads = orjson.loads

    def _dumps(self, request: object) -> bytes:
        return self._orjson_dumps(request)
