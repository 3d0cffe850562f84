# SPDX-License-Identifier: BSD-2-Clause
"""The client's side of the guest agent's protocol, without a socket, a clock or a lock.

The agent speaks QMP's JSON and keeps few of its promises, so the rules are others than a monitor's:

* It says nothing on its own account, and old ones refuse a command that has an id. Order is all that tells which
  command a reply belongs to: one exchange at a time.
* Its channel outlives it and its clients: what an earlier client asked is answered to the next one, and a guest that
  is reset may stop in the middle of a line. Before anything else, and whenever the order is in doubt (a reply did not
  come in time, or came and was not wanted, or made no sense), the two are synchronized: `guest-sync-delimited` with
  a number that was not used before, and a byte that no JSON has in front of it.
* Until the answer comes, which has that byte in front of it and that number in it, every line is dropped unread.

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
#: After so long, in seconds, synchronizing is tried anew: the guest may have been reset with our question in its hands.
_SYNC_ATTEMPT_S: Final = 2.0
#: The numbers of synchronizing are below this.
_SYNC_NUMBERS: Final = 1 << 31

#: The largest honest reply is that of a `guest-file-read` of 48 MiB, in base64. The peer is a guest: it is not trusted.
MAX_MESSAGE_BYTES: Final = 80 * 1024 * 1024

#: Starts the peer's parser over, whatever it was in the middle of; and marks the answer.
_SENTINEL: Final = b"\xff"
#: Members that hold files, what programs read and say, and what they are to know: nothing for a log.
_PAYLOADS: Final = frozenset({"buf-b64", "input-data", "out-data", "err-data", "env"})


class AgentProtocol(Protocol):
    """One conversation with a guest agent.

    Args:
        name: what log records and errors call the agent.
        trace: called with ``->`` or ``<-`` and each message that is sent or received, without its secrets.
        max_message_bytes: longest message to take.

    Attributes:
        is_synchronized: whether the next reply is certain to be that to the next command.
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

    # ---- what we send

    def open_sync(self, number: int) -> tuple[Exchange, bytes]:
        """Start to synchronize, and return the exchange with its bytes; what is in flight will never be answered.

        Args:
            number: one that was not used before.
        """
        self.doubt()
        exchange, data = self._send_out(SYNC_COMMAND, {"id": number})
        self._sync, self._sync_number = exchange, number
        return exchange, _SENTINEL + data

    def start_sync(self, number: int) -> None:
        """Synchronize until it succeeds, as a negotiation: bytes to send, and a timer that starts anew.

        Args:
            number: one that was not used before; every try uses the next one.
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
        """Start an exchange where the two are synchronized and none is in flight.

        Raises:
            ProgrammerError: they are not, or one is, or the arguments are no JSON.
        """
        if not self.is_synchronized or self._in_flight:
            raise ProgrammerError(f"{command}: a guest agent is synchronized, and given one command at a time")
        return self._send_out(command, arguments)

    def _send_out(self, command: str, arguments: Mapping[str, Any] | None) -> tuple[Exchange, bytes]:
        message = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        data = encode(message)
        exchange = Exchange(command, object())  # nothing that could travel
        self._in_flight[exchange.request_id] = exchange
        if self._trace is not None or log.is_debugging():
            self._show("->", message)
        return exchange, data + b"\n"

    def _show(self, direction: str, message: Mapping[str, Any]) -> None:
        super()._show(direction, {name: _without_payload(value) for name, value in message.items()})

    def abandon(self, exchange: Exchange) -> None:
        """Stop waiting for an exchange; what comes is dropped until the two are synchronized again."""
        super().abandon(exchange)
        self.doubt()

    def discard(self, exchange: Exchange) -> None:
        """Drop an exchange; unless its reply was there already, one may still come."""
        if exchange.request_id in self._in_flight:
            self.doubt()

    def doubt(self) -> None:
        """Take no line for a reply until the two are synchronized again; what is in flight will not be answered."""
        self.is_synchronized = False
        self._sync = None
        self._in_flight.clear()

    # ---- what we receive

    def _receive_line(self, line: bytes) -> None:
        _, sentinel, rest = line.rpartition(_SENTINEL)
        if sentinel:
            self._receive_sync(rest)
        elif not self.is_synchronized:
            log.info(self.name, "dropped %d bytes from a guest agent before it was synchronized", len(line))
        else:
            super()._receive_line(line)

    def _receive_sync(self, line: bytes) -> None:
        try:
            message = decode(line)
        except DataError:
            message = {}
        number = message.get("return")
        if self._sync is None or type(number) is not int or number != self._sync_number:
            log.info(self.name, "dropped a guest agent's answer to an earlier %s", SYNC_COMMAND)
            return
        exchange, self._sync = self._sync, None
        del self._in_flight[exchange.request_id]
        self.is_synchronized = True
        if self._trace is not None or log.is_debugging():
            self._show("<-", message)
        exchange.succeed(message)

    def _receive_reply(self, message: dict[str, Any]) -> None:
        if not self._in_flight:
            log.warning(self.name, "dropped a guest agent's reply that nobody waits for")
            self.doubt()
            return
        message.pop("id", None)  # we sent none
        super()._receive_reply(message)

    def _breach(self, error: QmpError) -> None:
        """The agent sent something senseless: whoever waits does not know what became of the command."""
        log.warning(self.name, "the guest agent broke the protocol: %s", error)
        self._fail_all(error)
        self.doubt()


def _without_payload(value: Any) -> Any:
    """Return a message's arguments, or what it returns, with the length of payloads in their place."""
    if not isinstance(value, Mapping):
        return value
    return {
        name: f"<{len(each)} hidden>" if name in _PAYLOADS and isinstance(each, (str, list)) else each
        for name, each in value.items()
    }
