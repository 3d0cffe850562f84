# SPDX-License-Identifier: BSD-2-Clause
"""The stub server of instant_stub.c in Python, for machines without a C compiler.

It is slower, which makes the ratios between clients smaller.

Usage: ``python -m benchmark.instant_stub PATH [silent]``.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from typing import Any, Final

GREETING: Final = {
    "QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}
}
STATUS: Final = {"status": "running", "singlestep": False, "running": True}
EVENT: Final = {
    "timestamp": {"seconds": 1700000000, "microseconds": 123456},
    "event": "DEVICE_DELETED",
    "data": {"device": "disk0", "path": "/machine/peripheral/disk0"},
}
COMMANDS: Final = [{"name": "query-commands"}, {"name": "query-status"}, {"name": "x-flood"}]
_EVENTS_AT_ONCE: Final = 400


def line(message: Any) -> bytes:
    """Encode a message as QEMU does."""
    return json.dumps(message).encode() + b"\r\n"


def answer(client: socket.socket, request: dict[str, Any], is_silent: bool) -> None:
    """Send the reply to one request, if it has one."""
    command = request["execute"]
    is_negotiation = command == "qmp_capabilities"
    if is_silent and not is_negotiation:
        return
    returned = {"qmp_capabilities": {}, "query-commands": COMMANDS}.get(command, STATUS)
    reply: dict[str, Any] = {"return": returned}
    if "id" in request:
        reply["id"] = request["id"]
    client.sendall(line(reply))
    if command == "x-flood":
        count = request["arguments"]["count"]
        for sent in range(0, count, _EVENTS_AT_ONCE):
            client.sendall(line(EVENT) * min(_EVENTS_AT_ONCE, count - sent))


def serve(client: socket.socket, is_silent: bool) -> None:
    """Serve a client until it closes the connection."""
    decoder = json.JSONDecoder()
    text = ""
    client.sendall(line(GREETING))
    while data := client.recv(65536):
        text += data.decode()
        while text := text.lstrip():
            try:
                request, end = decoder.raw_decode(text)
            except json.JSONDecodeError:  # incomplete
                break
            text = text[end:]
            answer(client, request, is_silent)
    client.close()


def main() -> None:
    """Serve until the process is killed."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(4096)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client, "silent" in sys.argv[2:]), daemon=True).start()


if __name__ == "__main__":
    main()
