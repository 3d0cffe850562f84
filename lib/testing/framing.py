# SPDX-License-Identifier: BSD-2-Clause
"""Parser and encoder of QMP messages on the server side, for the stub and the simulator."""

import codecs
import json
from typing import Any, Final

import attrs

#: A byte that is invalid in UTF-8. Clients of the guest agent send it to reset the parser.
_RESET: Final = b"\xff"

_decoder: Final = json.JSONDecoder()


@attrs.frozen
class Garbage:
    """A line that is not JSON, or JSON that is not an object."""

    text: str


class RequestReader:
    """Splits a byte stream into requests, with or without newlines between them.

    A line that is not JSON is returned as `Garbage`.
    """

    def __init__(self) -> None:
        self._text = ""
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> list[dict[str, Any] | Garbage]:
        """Return the requests that these bytes complete."""
        *discarded, data = data.split(_RESET)
        if discarded:
            self._text = ""
            self._utf8.reset()
        self._text += self._utf8.decode(data)
        requests: list[dict[str, Any] | Garbage] = []
        while (request := self._next()) is not None:
            requests.append(request)
        return requests

    def _next(self) -> dict[str, Any] | Garbage | None:
        self._text = self._text.lstrip()
        if not self._text:
            return None
        try:
            request, end = _decoder.raw_decode(self._text)
        except ValueError:
            line, newline, rest = self._text.partition("\n")
            if not newline:
                return None
            self._text = rest
            return Garbage(line)
        text, self._text = self._text[:end], self._text[end:]
        return request if isinstance(request, dict) else Garbage(text)


def encode(message: Any) -> bytes:
    """Encode a message as QEMU does: one line that ends with CRLF."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\r\n"
