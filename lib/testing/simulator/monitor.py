# SPDX-License-Identifier: BSD-2-Clause
"""The QMP session of one client of a simulated monitor, without a socket."""

import enum
from collections.abc import Callable, Mapping
from typing import Any, Final

from hvkit.qmp.base import Event
from hvkit.qmp.converter import unstructure
from hvkit.testing.framing import Garbage, RequestReader, encode
from hvkit.testing.simulator.behavior import Behavior
from hvkit.testing.simulator.qmp_refusal import QmpRefusal

_MEMBERS: Final = frozenset({"execute", "exec-oob", "arguments", "id"})


class Outcome(enum.Enum):
    """The state of the client's connection after a request."""

    CONTINUE = enum.auto()
    CLOSE = enum.auto()
    HANG = enum.auto()
    CRASH = enum.auto()


def encode_event(event: Event, time_s: float) -> bytes:
    """Encode an event as a monitor sends it."""
    data = unstructure(event)
    message: dict[str, Any] = {"timestamp": {"seconds": int(time_s), "microseconds": int(time_s % 1 * 1_000_000)}}
    message["event"] = event.wire_name
    return encode(message | ({"data": data} if data else {}))


class Session:
    """The QMP session of one client.

    Attributes:
        output: bytes to send to the client. The caller removes the bytes that it has sent.
    """

    def __init__(self, behavior: Behavior, execute: Callable[[str, Any], Any]) -> None:
        """Start a session with the greeting.

        Args:
            behavior: the behavior of the monitor.
            execute: runs a command by name with plain arguments; returns a plain reply or raises QmpRefusal. It must
                pass events of the command to `report` before it returns.
        """
        self.output = bytearray()
        self._behavior = behavior
        self._execute = execute
        self._reader = RequestReader()
        self._is_negotiated = False
        major, minor, micro = behavior.version
        version = {"qemu": {"micro": micro, "minor": minor, "major": major}, "package": behavior.package}
        self.output += encode({"QMP": {"version": version, "capabilities": ["oob"]}})

    def report(self, event: bytes) -> None:
        """Send an event, if the client has negotiated capabilities."""
        if self._is_negotiated:
            self.output += event

    def feed(self, data: bytes) -> list[dict[str, Any] | Garbage]:
        """Return the requests that these bytes complete. Pass each to `answer`."""
        return self._reader.feed(data)

    def answer(self, request: dict[str, Any] | Garbage) -> Outcome:
        """Execute a request and append its reply to `output`."""
        if isinstance(request, Garbage):
            self.output += encode(_error(QmpRefusal(_describe_garbage(request))))
            return Outcome.CONTINUE
        name = request.get("execute", request.get("exec-oob"))
        if self._behavior.crash_on and name == self._behavior.crash_on:
            return Outcome.CRASH
        if self._behavior.hang_on and name == self._behavior.hang_on:
            return Outcome.HANG
        reply: Mapping[str, Any]
        try:
            reply = {"return": self._run(request)}
        except QmpRefusal as refusal:
            reply = _error(refusal)
        if "id" in request:
            reply = {**reply, "id": request["id"]}
        message = encode(reply)
        if self._behavior.close_on and name == self._behavior.close_on:
            self.output += message[: len(message) // 2]
            return Outcome.CLOSE
        self.output += message
        return Outcome.CONTINUE

    def _run(self, request: dict[str, Any]) -> Any:
        for member in request:
            if member not in _MEMBERS:
                raise QmpRefusal(f"QMP input member '{member}' is unexpected")
        name = request.get("execute", request.get("exec-oob"))
        if name is None:
            raise QmpRefusal("QMP input lacks member 'execute'")
        if not isinstance(name, str):
            raise QmpRefusal("QMP input member 'execute' must be a string")
        arguments = request.get("arguments", {})
        if not isinstance(arguments, dict):
            raise QmpRefusal("QMP input member 'arguments' must be an object")
        if name == "qmp_capabilities":
            if self._is_negotiated:
                raise QmpRefusal("Capabilities negotiation is already complete, command ignored", "CommandNotFound")
            self._is_negotiated = True
            return {}
        if not self._is_negotiated:
            raise QmpRefusal("Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound")
        return self._execute(name, arguments)


def _describe_garbage(garbage: Garbage) -> str:
    is_json = garbage.text.lstrip()[:1] in set('["-0123456789')
    return "QMP input must be a JSON object" if is_json else f"JSON parse error, invalid keyword '{garbage.text}'"


def _error(refusal: QmpRefusal) -> dict[str, Any]:
    return {"error": {"class": refusal.error_class, "desc": refusal.description}}
