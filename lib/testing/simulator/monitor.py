# SPDX-License-Identifier: BSD-2-Clause
"""One client of a simulated monitor: bytes in, bytes out, without a socket."""

import enum
from collections.abc import Callable, Mapping
from typing import Any, Final

from hvkit.qmp.base import Event
from hvkit.qmp.converter import unstructure
from hvkit.testing.framing import Garbage, RequestReader, encode
from hvkit.testing.simulator.knobs import Behavior
from hvkit.testing.simulator.refusal import QmpRefusal

_MEMBERS: Final = frozenset({"execute", "exec-oob", "arguments", "id"})


class Outcome(enum.Enum):
    """What becomes of a client after a command."""

    GOES_ON = enum.auto()
    IS_CLOSED = enum.auto()
    HANGS = enum.auto()
    CRASHES = enum.auto()


def encode_event(event: Event, time_s: float) -> bytes:
    """Return an event as a monitor sends it."""
    data = unstructure(event)
    message: dict[str, Any] = {"timestamp": {"seconds": int(time_s), "microseconds": int(time_s % 1 * 1_000_000)}}
    message["event"] = event.wire_name
    return encode(message | ({"data": data} if data else {}))


class Session:
    """A client from its greeting to its end.

    Attributes:
        output: bytes that the client has to be sent; whoever sends them takes them out.
    """

    def __init__(self, knobs: Behavior, execute: Callable[[str, Any], Any]) -> None:
        """Greet a client.

        Args:
            knobs: how the monitor behaves.
            execute: runs a command by name, with plain arguments, and returns its plain reply or raises QmpRefusal.
                Events on the way have to be passed to `report` before it returns.
        """
        self.output = bytearray()
        self._knobs = knobs
        self._execute = execute
        self._reader = RequestReader()
        self._is_negotiated = False
        major, minor, micro = knobs.version
        version = {"qemu": {"micro": micro, "minor": minor, "major": major}, "package": knobs.package}
        self.output += encode({"QMP": {"version": version, "capabilities": ["oob"]}})

    def report(self, event: bytes) -> None:
        """Send an event, to a client that has negotiated."""
        if self._is_negotiated:
            self.output += event

    def feed(self, data: bytes) -> list[dict[str, Any] | Garbage]:
        """Return the requests that these bytes complete; they are answered one by one with `answer`."""
        return self._reader.feed(data)

    def answer(self, request: dict[str, Any] | Garbage) -> Outcome:
        """Run a request and put its reply into `output`."""
        if isinstance(request, Garbage):
            self.output += encode(_error(QmpRefusal(_why_garbage(request))))
            return Outcome.GOES_ON
        name = request.get("execute", request.get("exec-oob"))
        if self._knobs.crash_on and name == self._knobs.crash_on:
            return Outcome.CRASHES
        if self._knobs.hang_on and name == self._knobs.hang_on:
            return Outcome.HANGS
        reply: Mapping[str, Any]
        try:
            reply = {"return": self._run(request)}
        except QmpRefusal as refusal:
            reply = _error(refusal)
        if "id" in request:
            reply = {**reply, "id": request["id"]}
        message = encode(reply)
        if self._knobs.close_on and name == self._knobs.close_on:
            self.output += message[: len(message) // 2]
            return Outcome.IS_CLOSED
        self.output += message
        return Outcome.GOES_ON

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


def _why_garbage(garbage: Garbage) -> str:
    is_json = garbage.text.lstrip()[:1] in set('["-0123456789')
    return "QMP input must be a JSON object" if is_json else f"JSON parse error, invalid keyword '{garbage.text}'"


def _error(refusal: QmpRefusal) -> dict[str, Any]:
    return {"error": {"class": refusal.error_class, "desc": refusal.description}}
