# SPDX-License-Identifier: BSD-2-Clause
"""Bytes of a client in, requests out: what the stub and the simulator read with."""

import codecs
import json
from typing import Any, Final

import attrs

#: A byte that no UTF-8 text has; clients of the guest agent send it to have the parser start over.
_RESET: Final = b"\xff"

_decoder: Final = json.JSONDecoder()


@attrs.frozen
class Garbage:
    """A line that is no JSON, or JSON that is no object."""

    text: str


class RequestReader:
    """Cuts a stream into requests, whether or not a newline follows each.

    A line that is not JSON is reported once and skipped.
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
    """Return a message as QEMU ends its own: one line, CRLF behind it."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\r\n"
