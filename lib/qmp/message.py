# SPDX-License-Identifier: BSD-2-Clause
"""QMP messages: JSON objects, one per line; their encoding, decoding and contents.

Source: QEMU Machine Protocol Specification, section 2.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, NoReturn

from hvkit.errors import ProgrammerError
from hvkit.qmp.base import Event, GenericEvent
from hvkit.qmp.converter import structure
from hvkit.qmp.errors import DataError, ProtocolError
from hvkit.qmp.redaction import redact

#: How many lines are decoded before orjson is imported. The import takes as long as orjson saves in some thousand
#: lines, so a process that executes one command must not import it.
_FEW_LINES: Final = 64
_lines_read = itertools.count(1)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


#: The scanner of `json.JSONDecoder`, called directly: `JSONDecoder.decode` also matches two regular expressions for
#: white space, and `JSONDecoder.raw_decode` is an additional call.
_scan_once = json.JSONDecoder(parse_constant=_refuse_constant).scan_once  # type: ignore[attr-defined]  # not in typeshed
#: Compact, because QEMU reads from its monitor byte by byte.
_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def encode(data: Any) -> bytes:
    """Encode plain data as JSON on a single line, without a newline.

    Raises:
        ProgrammerError: the data cannot be encoded as JSON.
    """
    try:
        return _encoder.encode(data).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ProgrammerError(f"the data cannot be sent as JSON: {error}") from error


def decode(line: bytes) -> dict[str, Any]:
    """Decode one line.

    Raises:
        DataError: the line is not a JSON object in UTF-8.
    """
    try:
        message = loads(line)
    except ValueError:
        message = loads_standard(line)
    if type(message) is not dict:
        raise DataError("", f"expected a JSON object, got {type(message).__name__}")
    return message


def loads_standard(line: bytes) -> Any:
    """Decode a line with the standard library.

    Raises:
        DataError: the line is not JSON in UTF-8.
    """
    try:
        text = str(line.strip(), "utf-8")
        message, end = _scan_once(text, 0)
        if end != len(text):
            raise ValueError(f"extra data after {end} characters")
    except StopIteration as stop:
        raise DataError("", f"not JSON: no value at character {stop.value}") from None
    except (ValueError, RecursionError) as error:
        # The text of these errors contains a position and at most one byte, never the content.
        raise DataError("", f"not JSON: {str(error) or type(error).__name__}") from None
    return message


def _loads_first(line: bytes) -> Any:
    """Decode one of the first lines; after them, choose the decoder for the rest of the process."""
    global loads
    if next(_lines_read) > _FEW_LINES:
        try:
            from orjson import loads as loads_fast
        except ImportError:
            loads = loads_standard
        else:
            loads = loads_fast
    return loads_standard(line)


#: Decodes a line: with orjson after the first lines, if the extra `fast` is installed. Lines that orjson rejects with
#: ValueError are decoded by the standard library. orjson returns integers beyond 64 bits, which QAPI does not have, as
#: floats.
loads: Callable[[bytes], Any] = _loads_first


class QmpMessage:
    """A raw message: a JSON object that can be read and changed like a dict.

    Reading a missing member returns None. A message equals another message or a dict with the same data.

    Attributes:
        data: the object.

    Raises:
        TypeError: by the constructor, if the data is not a dict.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        if not isinstance(data, dict):
            raise TypeError(f"a message is made from a dict, not from {type(data).__name__}")
        self.data = data

    @classmethod
    def build_from_json_string(cls, text: str | bytes) -> QmpMessage:
        """Return a message from JSON text.

        Raises:
            DataError: the text is not a JSON object.
        """
        return cls(decode(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text))

    def to_bytes(self) -> bytes:
        """Return the message as JSON on a single line.

        Raises:
            ProgrammerError: the message cannot be encoded as JSON.
        """
        return encode(self.data)

    def __str__(self) -> str:
        return self.to_bytes().decode("ascii")

    def __repr__(self) -> str:
        return f"QmpMessage({redact(self.data)!r})"

    def __getitem__(self, name: str) -> Any:
        return self.data.get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.data[name] = value

    def __delitem__(self, name: str) -> None:
        del self.data[name]

    def __contains__(self, name: object) -> bool:
        return name in self.data

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, QmpMessage):
            return self.data == other.data
        if isinstance(other, dict):
            return self.data == other
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]


@functools.lru_cache(maxsize=1024)
def _request_head(name: str, out_of_band: bool) -> bytes:
    return b'{"%s":%s' % (b"exec-oob" if out_of_band else b"execute", encode(name))


@functools.lru_cache(maxsize=1024)
def encode_bare_request(name: str, request_id: int, out_of_band: bool, line_end: bytes) -> bytes:
    """Encode a command without arguments; recent results are cached."""
    return b'%s,"id":%d}%s' % (_request_head(name, out_of_band), request_id, line_end)


def encode_request(
    name: str, arguments: Mapping[str, Any], request_id: int, out_of_band: bool, line_end: bytes
) -> bytes:
    """Encode a command with arguments.

    Raises:
        ProgrammerError: the arguments cannot be encoded as JSON.
    """
    head = _request_head(name, out_of_band)
    return b'%s,"arguments":%s,"id":%d}%s' % (head, encode(arguments), request_id, line_end)


class QemuVersion(NamedTuple):
    """The version of a QEMU; compares with tuples: ``version >= (8, 1)``."""

    major: int
    minor: int
    micro: int
    package: str = ""

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.micro}"


class Greeting(NamedTuple):
    """The first message of a server.

    Attributes:
        version: version of the server; 0.0.0 if the greeting does not contain it.
        capabilities: protocol capabilities that the server offers.
    """

    version: QemuVersion
    capabilities: tuple[str, ...]


def check_greeting(message: Mapping[str, Any]) -> None:
    """Check that a message is a greeting.

    Raises:
        ProtocolError: it is not the greeting of a QMP server.
    """
    if not isinstance(message.get("QMP"), dict):
        raise ProtocolError(f"invalid greeting: {', '.join(sorted(map(str, message))[:5]) or 'no members'}")


def parse_greeting(message: Mapping[str, Any]) -> Greeting:
    """Parse a greeting. Members may be missing; old servers send the capabilities inside `version`.

    Raises:
        ProtocolError: the message is not the greeting of a QMP server.
    """
    check_greeting(message)
    body = message["QMP"]
    version = body.get("version")
    version = version if isinstance(version, dict) else {}
    numbers = version.get("qemu")
    numbers = numbers if isinstance(numbers, dict) else {}
    package = version.get("package")
    offered = body.get("capabilities", version.get("capabilities"))
    return Greeting(
        QemuVersion(
            _as_int(numbers.get("major")),
            _as_int(numbers.get("minor")),
            _as_int(numbers.get("micro")),
            package if isinstance(package, str) else "",
        ),
        tuple([each for each in offered if isinstance(each, str)]) if isinstance(offered, list) else (),
    )


def _as_int(value: Any) -> int:
    return value if type(value) is int else 0


def structure_event(message: Mapping[str, Any], kind: type[Event] | None) -> Event:
    """Return the typed event of a message.

    Args:
        message: the message, which has the member `event`.
        kind: class of the event; None for a `GenericEvent`.

    Raises:
        DataError: the data of the event does not have the structure of its class.
    """
    name = message["event"]
    data = message.get("data", {})
    event: Event = GenericEvent(name=name, data=data) if kind is None else structure(data, kind, where=name)
    event.__dict__["_timestamp"] = _parse_timestamp(message.get("timestamp"))  # `stamped` would make a copy
    return event


def _parse_timestamp(stamp: Any) -> float | None:
    """Return seconds since the epoch; None if missing, malformed or -1, which QEMU sends if its clock failed."""
    if not isinstance(stamp, dict):
        return None
    seconds, microseconds = stamp.get("seconds"), stamp.get("microseconds", 0)
    if type(seconds) is not int or type(microseconds) is not int or seconds < 0 or microseconds < 0:
        return None
    try:
        return seconds + microseconds / 1_000_000
    except OverflowError:
        return None
