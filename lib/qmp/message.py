# SPDX-License-Identifier: BSD-2-Clause
"""What travels on the wire: JSON objects, one a line.

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

#: How many lines are read before orjson is looked for: importing it takes as long as it saves in some thousand, and a
#: process that asks one thing shall not pay for that.
_FEW_LINES: Final = 64
_lines_read = itertools.count(1)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)
#: Compact: QEMU reads its monitor byte by byte, every byte sent costs.
_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def encode(data: Any) -> bytes:
    """Encode plain data as JSON on a single line, without a line end.

    Raises:
        ProgrammerError: something in the data is no JSON.
    """
    try:
        return _encoder.encode(data).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ProgrammerError(f"cannot be sent as JSON: {error}") from error


def decode(line: bytes) -> dict[str, Any]:
    """Decode one line of the wire.

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
    """Read a line with the standard library.

    Raises:
        DataError: the line is no JSON in UTF-8.
    """
    try:
        text = str(line.strip(), "utf-8")
        message, end = _decoder.raw_decode(text)  # decode() itself runs two regular expressions for the white space
        if end != len(text):
            raise ValueError(f"more after a value of {end} characters")
    except (ValueError, RecursionError) as error:
        # The text of these errors shows a position and at most a byte, never the content.
        raise DataError("", f"not JSON: {str(error) or type(error).__name__}") from None
    return message


def _loads_first(line: bytes) -> Any:
    """Read one of the first lines, and settle how those after them are read."""
    global loads
    if next(_lines_read) > _FEW_LINES:
        try:
            from orjson import loads as loads_fast
        except ImportError:
            loads = loads_standard
        else:
            loads = loads_fast
    return loads_standard(line)


#: Reads a line: orjson's, sooner or later, where the extra `fast` is installed. What that refuses with a ValueError the
#: standard library reads or refuses. Integers beyond 64 bits, which QAPI does not have, are floats to orjson.
loads: Callable[[bytes], Any] = _loads_first


class QmpMessage:
    """A raw message: a JSON object that can be read and changed like a dict.

    Reading a member that is not there gives None. Messages are equal when their data is, to plain dicts too.

    Attributes:
        data: the object.

    Raises:
        TypeError: by the constructor, when the data is not a dict.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        if not isinstance(data, dict):
            raise TypeError(f"a message is made from a dict, not from {type(data).__name__}")
        self.data = data

    @classmethod
    def build_from_json_string(cls, text: str | bytes) -> QmpMessage:
        """Build a message from its JSON.

        Raises:
            DataError: the text is not a JSON object.
        """
        return cls(decode(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text))

    def to_bytes(self) -> bytes:
        """Return the message as JSON on a single line.

        Raises:
            ProgrammerError: something in the message is no JSON.
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
    """Encode a command without arguments with its id; what was encoded of late is at hand."""
    return b'%s,"id":%d}%s' % (_request_head(name, out_of_band), request_id, line_end)


def encode_request(
    name: str, arguments: Mapping[str, Any], request_id: int, out_of_band: bool, line_end: bytes
) -> bytes:
    """Encode a command with its arguments and its id.

    Raises:
        ProgrammerError: something in the arguments is no JSON.
    """
    head = _request_head(name, out_of_band)
    return b'%s,"arguments":%s,"id":%d}%s' % (head, encode(arguments), request_id, line_end)


class QemuVersion(NamedTuple):
    """The version of a QEMU; compares with plain tuples: ``version >= (8, 1)``."""

    major: int
    minor: int
    micro: int
    package: str = ""

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.micro}"


class Greeting(NamedTuple):
    """What a peer says first.

    Attributes:
        version: of the peer; 0.0.0 where it does not say.
        capabilities: protocol capabilities that it offers.
    """

    version: QemuVersion
    capabilities: tuple[str, ...]


def parse_greeting(message: Mapping[str, Any]) -> Greeting:
    """Read a greeting; old servers and test doubles leave parts out or put the capabilities beside the version.

    Raises:
        ProtocolError: this is not the greeting of a QMP server.
    """
    body = message.get("QMP")
    if not isinstance(body, dict):
        raise ProtocolError(f"wrong greeting: {', '.join(sorted(map(str, message))[:5]) or 'an empty object'}")
    version = body.get("version")
    version = version if isinstance(version, dict) else {}
    numbers = version.get("qemu")
    numbers = numbers if isinstance(numbers, dict) else {}
    major, minor, micro = (_as_int(numbers.get(part)) for part in ("major", "minor", "micro"))
    package = version.get("package")
    offered = body.get("capabilities", version.get("capabilities"))
    return Greeting(
        QemuVersion(major, minor, micro, package if isinstance(package, str) else ""),
        tuple(each for each in offered if isinstance(each, str)) if isinstance(offered, list) else (),
    )


def _as_int(value: Any) -> int:
    return value if type(value) is int else 0


def parse_event(notice: Mapping[str, Any], kind: type[Event] | None) -> Event:
    """Make a typed event of a notice.

    Args:
        notice: the message, which has the member `event`.
        kind: the event's class; None gives a `GenericEvent`.

    Raises:
        DataError: the event's data does not have the shape of its class.
    """
    name = notice["event"]
    data = notice.get("data", {})
    event: Event = GenericEvent(name=name, data=data) if kind is None else structure(data, kind, where=name)
    event.__dict__["_timestamp"] = _parse_timestamp(notice.get("timestamp"))  # `stamped` would copy it
    return event


def _parse_timestamp(stamp: Any) -> float | None:
    """Return seconds since the epoch; QEMU sends -1 where its clock failed."""
    if not isinstance(stamp, dict):
        return None
    seconds, microseconds = stamp.get("seconds"), stamp.get("microseconds", 0)
    if type(seconds) is not int or type(microseconds) is not int or seconds < 0 or microseconds < 0:
        return None
    try:
        return seconds + microseconds / 1_000_000
    except OverflowError:
        return None
