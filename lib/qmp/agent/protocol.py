# SPDX-License-Identifier: BSD-2-Clause
"""The client side of the guest agent's protocol: sans-I/O, without a socket, a clock or a lock.

The agent uses the JSON messages of QMP, but gives fewer guarantees than a monitor. The client follows these rules:

* One exchange at a time. The agent sends no events, and old agents refuse a command with an id, so only the order
  tells which command a reply belongs to.
* The channel outlives the agent and its clients. The reply to an earlier client's command goes to the next client,
  and a guest that is reset may stop in the middle of a line. The client therefore synchronizes first, and again
  whenever the order of replies is uncertain: after a timeout, an unexpected reply or a malformed message.
* To synchronize, the client sends the byte 0xff, which no JSON text contains, and `guest-sync-delimited` with an
  unused number. It drops every line until the reply arrives: 0xff followed by that number.

Source: QAPI module `qga/qapi-schema.json`, command `guest-sync-delimited`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hvkit.errors import ProgrammerError
from hvkit.qmp import log
from hvkit.qmp.errors import DataError, QmpError
from hvkit.qmp.message import decode, encode
from hvkit.qmp.protocol import ENDED, Exchange, Protocol, Trace

SYNC_COMMAND: Final = "guest-sync-delimited"
#: Timeout of one synchronization attempt, in seconds. A reset of the guest can lose an attempt.
_SYNC_ATTEMPT_S: Final = 2.0
#: The numbers in synchronizations are below this.
_SYNC_NUMBERS: Final = 1 << 31

#: The largest valid reply is that of a `guest-file-read` of 48 MiB, in base64. Guests are not trusted.
MAX_MESSAGE_BYTES: Final = 80 * 1024 * 1024

#: Resets the parser of the peer, and marks the reply.
_SENTINEL: Final = b"\xff"
#: Members with contents of files, and with the input, output and environment of programs. They are never logged.
_PAYLOAD_MEMBERS: Final = frozenset({"buf-b64", "input-data", "out-data", "err-data", "env"})


class AgentProtocol(Protocol):
    """The protocol state of one connection to a guest agent.

    Args:
        name: the name of the agent in log records and errors.
        trace: called with ``->`` or ``<-`` and each message sent or received, with secrets redacted.
        max_message_bytes: size limit for a message.

    Attributes:
        is_synchronized: whether the next reply is known to belong to the next command.
    """

    def __init__(
        self,
        name: str = "guest agent",
        *,
        trace: Trace | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        super().__init__(name, expects_greeting=False, max_message_bytes=max_message_bytes, trace=trace)
        self.is_synchronized = False
        self._sync: Exchange | None = None
        self._sync_number = 0

    def open_sync(self, number: int) -> tuple[Exchange, bytes]:
        """Start a synchronization and return its exchange and the bytes to send.

        Earlier exchanges get no reply any more.

        Args:
            number: a number that was not used before.
        """
        self.require_sync()
        exchange, data = self._open(SYNC_COMMAND, {"id": number})
        self._sync, self._sync_number = exchange, number
        return exchange, _SENTINEL + data

    def start_sync(self, number: int) -> None:
        """Start a synchronization as a negotiation, which is repeated on every timeout until it succeeds.

        Args:
            number: a number that was not used before; every further attempt uses the next number.
        """
        _, self._outgoing = self.open_sync(number)

    @property
    def is_negotiating(self) -> bool:
        return not self.is_synchronized and self.state is not ENDED

    def next_timer(self) -> float | None:
        return None if self._sync is None else _SYNC_ATTEMPT_S

    def handle_timer(self) -> None:
        if self._sync is not None:
            self.start_sync((self._sync_number + 1) % _SYNC_NUMBERS)

    def open_unchecked(
        self, command: str, arguments: Mapping[str, Any] | None, out_of_band: bool = False
    ) -> tuple[Exchange, bytes]:
        """Start an exchange and return it with the bytes to send.

        Raises:
            ProgrammerError: the agent is not synchronized, another exchange is in flight, or the arguments cannot be
                encoded as JSON.
        """
        if not self.is_synchronized:
            raise ProgrammerError(f"{command}: the guest agent is not synchronized")
        if self._in_flight:
            raise ProgrammerError(f"{command}: the guest agent executes one command at a time")
        return self._open(command, arguments)

    def _open(self, command: str, arguments: Mapping[str, Any] | None) -> tuple[Exchange, bytes]:
        message = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        data = encode(message)
        exchange = Exchange(command, object())  # a key of our own: the id is not sent
        self._in_flight[exchange.request_id] = exchange
        if self._trace is not None or log.is_debugging():
            self._show("->", message)
        return exchange, data + b"\n"

    def _show(self, direction: str, message: Mapping[str, Any]) -> None:
        super()._show(direction, {name: _without_payload(value) for name, value in message.items()})

    def abandon(self, exchange: Exchange) -> None:
        """Stop waiting for an exchange; everything received is dropped until the next synchronization."""
        super().abandon(exchange)
        self.require_sync()

    def discard(self, exchange: Exchange) -> None:
        """Drop an exchange. If it has no reply yet, the agent must be synchronized again."""
        if exchange.request_id in self._in_flight:
            self.require_sync()

    def require_sync(self) -> None:
        """Drop every line until the next synchronization; exchanges in flight get no reply any more."""
        self.is_synchronized = False
        self._sync = None
        self._in_flight.clear()

    def _receive_line(self, line: bytes) -> None:
        _, sentinel, rest = line.rpartition(_SENTINEL)
        if sentinel:
            self._receive_sync(rest)
        elif not self.is_synchronized:
            log.info(self.name, "dropped %d bytes before the synchronization", len(line))
        else:
            super()._receive_line(line)

    def _receive_sync(self, line: bytes) -> None:
        try:
            message = decode(line)
        except DataError:
            message = {}
        number = message.get("return")
        if self._sync is None or type(number) is not int or number != self._sync_number:
            log.info(self.name, "dropped a reply to an earlier %s", SYNC_COMMAND)
            return
        exchange, self._sync = self._sync, None
        del self._in_flight[exchange.request_id]
        self.is_synchronized = True
        if self._trace is not None or log.is_debugging():
            self._show("<-", message)
        exchange.succeed(message)

    def _receive_reply(self, message: dict[str, Any]) -> None:
        if not self._in_flight:
            log.warning(self.name, "dropped an unexpected reply")
            self.require_sync()
            return
        message.pop("id", None)  # the command had none
        super()._receive_reply(message)

    def _handle_violation(self, error: QmpError) -> None:
        """Fail the exchange in flight, whose outcome is unknown, after a malformed message."""
        log.warning(self.name, "the guest agent violated the protocol: %s", error.reason)
        self._fail_all(error)
        self.require_sync()


def _without_payload(value: Any) -> Any:
    """Return a message's arguments or return value with each payload replaced by its length."""
    if not isinstance(value, Mapping):
        return value
    return {
        name: f"<{len(each)} hidden>" if name in _PAYLOAD_MEMBERS and isinstance(each, (str, list)) else each
        for name, each in value.items()
    }
