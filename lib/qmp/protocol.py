# SPDX-License-Identifier: BSD-2-Clause
"""The client side of the protocol, without socket, clock or lock.

A driver passes in received bytes (`receive_data`, `receive_eof`), sends the bytes that `open_exchange` and
`data_to_send` return, and calls `handle_timer` when the time of `next_timer` has passed. The results are the state, the
replies in their `Exchange`s, and the events (`take_events`).

The rules apply to every server, including faulty ones:

* A reply with an id answers the exchange with that id and no other. A reply with an unknown id is dropped.
* A reply without an id comes from a server that does not echo ids (old servers, test doubles). It answers the oldest
  exchange in flight, abandoned or not, because such a server answers in order. A server that echoes ids sends such a
  reply only if it could not parse a request; the client cannot tell which one.
* An abandoned exchange stays in flight until its late reply arrives, which is dropped.
* An invalid line may have been the reply to any exchange in flight, so all of them fail, and their outcome is unknown.
  If the server echoes ids, later exchanges are not affected. Otherwise replies can no longer be matched, and the
  conversation ends.
* Events may arrive at any time, also before the greeting.
* The end of the stream, an invalid greeting, and a message above the size limit end the conversation.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from hvkit.errors import ProgrammerError
from hvkit.qmp import log
from hvkit.qmp.errors import DataError, ProtocolError, QmpError, command_error
from hvkit.qmp.message import (
    Greeting,
    check_greeting,
    decode,
    encode,
    encode_bare_request,
    encode_request,
    parse_greeting,
)
from hvkit.qmp.redaction import redact, redact_reply

#: The longest message accepted from a server, in bytes. The largest known replies are below 100 MB.
MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024

#: Seconds to wait for the reply to `qmp_capabilities` before a newline is sent. QEMU needs no newline after a command;
#: proxies and test doubles may read whole lines.
_NEWLINE_DELAY_S: Final = 0.025

#: Called with the direction, ``->`` or ``<-``, and the message.
Trace: TypeAlias = Callable[[str, Mapping[str, Any]], None]

_NO_ID: Final = object()
_ID_TYPES: Final = (int, str)
_LARGEST_DIGIT: Final = 9


class State(enum.Enum):
    """The state of a conversation."""

    GREETING = "waiting for the greeting"
    NEGOTIATING = "waiting for the reply to qmp_capabilities"
    READY = "ready"
    ENDED = "ended"

    # The method of Enum is written in Python, and the state is looked up for every message.
    __hash__ = object.__hash__


#: Used for every message: an attribute of an Enum class takes longer to look up than a function call.
READY: Final = State.READY
ENDED: Final = State.ENDED

#: The members that determine the kind of a message, which has exactly one of them.
_KINDS: Final = ("return", "event", "error", "QMP")

#: The kinds of messages that are valid in each state.
EXPECTED: Final[Mapping[State, frozenset[str]]] = {
    State.GREETING: frozenset({"QMP", "event"}),
    State.NEGOTIATING: frozenset({"return", "error", "event"}),
    State.READY: frozenset({"return", "error", "event"}),
    State.ENDED: frozenset(),
}


class Exchange:
    """A command in flight, and its reply.

    Attributes:
        command: wire name of the command.
        request_id: id of the request.
        reply: the whole reply message; None before it arrives.
        error: why there will be no reply; None while there may be one.
        is_ready: whether there is a reply, or an error in its place.
        is_abandoned: whether the reply is no longer wanted.
        is_traced: whether the request was logged or traced, so that the reply is too.
        is_simple: whether the reply can be set without further checks: not ready, not abandoned and not traced.
        on_ready: called when the exchange becomes ready; None for no call.
    """

    __slots__ = (
        "command",
        "error",
        "is_abandoned",
        "is_ready",
        "is_simple",
        "is_traced",
        "on_ready",
        "reply",
        "request_id",
    )

    def __init__(self, command: str, request_id: Any) -> None:
        self.command = command
        self.request_id = request_id
        self.reply: dict[str, Any] | None = None
        self.error: QmpError | None = None
        self.is_ready = False
        self.is_abandoned = False
        self.is_traced = False
        self.is_simple = True
        self.on_ready: Callable[[], None] | None = None

    def succeed(self, reply: dict[str, Any]) -> None:
        """Set the reply, which may be an error reply."""
        self.reply = reply
        self.is_ready = True
        if self.on_ready is not None:
            self.on_ready()

    def fail(self, error: QmpError) -> None:
        """Set the reason why there will be no reply, unless the exchange is ready already."""
        if not self.is_ready:
            self.error = error
            self.is_ready = True
            self.is_simple = False
            if self.on_ready is not None:
                self.on_ready()

    def raw_reply(self) -> dict[str, Any]:
        """Return the whole reply message, which may be an error reply.

        Raises:
            QmpError: there will be no reply, for the reason in `error`.
        """
        if self.reply is not None:
            return self.reply
        if self.error is None:
            raise ProgrammerError(f"{self.command}: the exchange is not ready")
        raise self.error

    def result(self) -> Any:
        """Return the return value of the command, as plain data.

        Raises:
            CommandError: the reply is an error.
            QmpError: there will be no reply, for the reason in `error`.
        """
        reply = self.reply or self.raw_reply()
        if "return" in reply:
            return reply["return"]
        error = reply["error"]
        name, description = error.get("class"), error.get("desc")
        raise command_error(
            self.command,
            name if isinstance(name, str) else "GenericError",
            description if isinstance(description, str) else "",
        )


class Protocol:
    """One conversation with a monitor, from the first byte to the last.

    Args:
        name: name of the monitor in log records and errors.
        expects_greeting: False for a server that does not send a greeting, such as the guest agent.
        wants_out_of_band: negotiate out-of-band execution, if the server offers it.
        max_message_bytes: longest message to accept.
        trace: called with ``->`` or ``<-`` and each message that is sent or received, with secrets redacted.

    Attributes:
        state: state of the conversation.
        failure: the error that ended the conversation; None before its end.
        echoes_ids: whether the replies of the server have the ids of the requests.
        has_events: whether there are events to take.
        has_out_of_band: whether out-of-band execution was negotiated.
    """

    def __init__(
        self,
        name: str = "monitor",
        *,
        expects_greeting: bool = True,
        wants_out_of_band: bool = False,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        trace: Trace | None = None,
    ) -> None:
        self.name = name
        self.state = State.GREETING if expects_greeting else State.READY
        self._greeting_message: dict[str, Any] | None = None
        self._greeting: Greeting | None = None
        self.failure: QmpError | None = None
        self.echoes_ids = False
        self.has_out_of_band = False
        self._wants_out_of_band = wants_out_of_band
        self._max_message_bytes = max_message_bytes
        self._trace = trace
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        #: By id, in the order of sending.
        self._in_flight: dict[Any, Exchange] = {}
        self._last_id = 0
        #: Appended to every request. QEMU needs no line end, and takes 5 us for each byte that it reads.
        self._line_end = b"" if expects_greeting else b"\n"
        self._outgoing = b""
        self._events: list[dict[str, Any]] = []
        self.has_events = False

    @property
    def greeting(self) -> Greeting | None:
        """The greeting of the server, parsed at the first use; None before it arrives."""
        if self._greeting is None and self._greeting_message is not None:
            self._greeting = parse_greeting(self._greeting_message)
        return self._greeting

    def open_exchange(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, out_of_band: bool = False
    ) -> tuple[Exchange, bytes]:
        """Start an exchange and return its bytes, which must be sent before those of later exchanges.

        Raises:
            ProgrammerError: the conversation is not ready for commands, the arguments cannot be encoded as JSON, or
                out-of-band execution was not negotiated.
        """
        self._check_ready(command)
        if out_of_band and not self.has_out_of_band:
            raise ProgrammerError(f"{self.name}: {command}: out-of-band execution was not negotiated")
        return self.open_unchecked(command, arguments, out_of_band)

    def open_unchecked(
        self, command: str, arguments: Mapping[str, Any] | None, out_of_band: bool = False
    ) -> tuple[Exchange, bytes]:
        """Start an exchange as `open_exchange` does, without checking the state.

        Raises:
            ProgrammerError: the arguments cannot be encoded as JSON.
        """
        request_id = self._last_id + 1
        if self._in_flight or request_id > _LARGEST_DIGIT:
            request_id = self._free_id()
        if arguments:
            data = encode_request(command, arguments, request_id, out_of_band, self._line_end)
        else:
            data = encode_bare_request(command, request_id, out_of_band, self._line_end)
        self._last_id = request_id
        exchange = self._in_flight[request_id] = Exchange(command, request_id)
        if self._trace is not None or log.is_debugging():
            exchange.is_traced = True
            exchange.is_simple = False
            verb = "exec-oob" if out_of_band else "execute"
            self._show("->", {verb: command, "arguments": arguments or {}, "id": request_id})
        return exchange, data

    def open_raw_exchange(self, message: Mapping[str, Any]) -> tuple[Exchange, bytes]:
        """Start an exchange with a raw message; it gets an id if it has none.

        Raises:
            ProgrammerError: the conversation is not ready, the message cannot be encoded as JSON, or its id is in use
                or neither a string nor an integer.
        """
        command = str(message.get("execute", message.get("exec-oob", "")))
        self._check_ready(command)
        request_id = message.get("id", _NO_ID)
        if request_id is _NO_ID:
            request_id = self._last_id = self._free_id()
        elif type(request_id) not in _ID_TYPES:
            raise ProgrammerError(f"{command}: the id must be a string or an integer")
        elif request_id in self._in_flight:
            raise ProgrammerError(f"{command}: id {request_id!r} is in use")
        data = encode({**message, "id": request_id})
        exchange = self._in_flight[request_id] = Exchange(command, request_id)
        if self._trace is not None or log.is_debugging():
            exchange.is_traced = True
            exchange.is_simple = False
            self._show("->", message)
        return exchange, data + self._line_end

    def _check_ready(self, command: str) -> None:
        if self.state is not READY:
            raise ProgrammerError(f"{self.name}: {command}: the monitor is not ready for commands: {self.state.value}")

    def _show(self, direction: str, message: Mapping[str, Any]) -> None:
        """Pass a message to the trace function and the log, with secrets redacted."""
        try:
            public = redact(message)
        except RecursionError:
            public = {"nested": "too deeply to be shown"}
        if self._trace is not None:
            self._trace(direction, public)
        log.debug(self.name, "%s %s", direction, public)

    def _show_received(self, message: Mapping[str, Any]) -> None:
        reply_id = message.get("id", _NO_ID)
        commands = (each.command for each in self._in_flight.values() if reply_id in (each.request_id, _NO_ID))
        self._show("<-", redact_reply(next(commands, None), message))

    def _free_id(self) -> int:
        """Return the next id that is not in flight: short, and different from the last one.

        A second reply to the last request then has an unknown id and is dropped.
        """
        limit = _LARGEST_DIGIT
        while len(self._in_flight) >= limit:
            limit = limit * 10 + 9
        candidate = self._last_id % limit + 1
        while candidate in self._in_flight:
            candidate = candidate % limit + 1
        return candidate

    @property
    def is_negotiating(self) -> bool:
        """Whether the greeting or the negotiation is not complete, so that the driver has to call the timer."""
        return self.state is State.GREETING or self.state is State.NEGOTIATING

    @property
    def has_data_to_send(self) -> bool:
        """Whether `data_to_send` returns any bytes."""
        return bool(self._outgoing)

    def data_to_send(self) -> bytes:
        """Remove and return the bytes that the driver has to send during the negotiation."""
        data, self._outgoing = self._outgoing, b""
        return data

    def next_timer(self) -> float | None:
        """Return after how many seconds the driver has to call `handle_timer`; None if no timer runs.

        The time starts when the driver has sent the bytes of `data_to_send`. The timer stops when the negotiation is
        complete.
        """
        return _NEWLINE_DELAY_S if self.state is State.NEGOTIATING and not self._line_end else None

    def handle_timer(self) -> None:
        """Send a newline, and end later requests with one: the server did not answer `qmp_capabilities` without it.

        Does nothing if no timer runs.
        """
        if self.state is State.NEGOTIATING and not self._line_end:
            self._line_end = b"\n"
            self._outgoing += b"\n"

    def abandon(self, exchange: Exchange) -> None:
        """Stop waiting for the reply to an exchange; a late reply will be dropped."""
        exchange.is_abandoned = True
        exchange.is_simple = False

    def discard(self, exchange: Exchange) -> None:
        """Remove an exchange that cannot get a reply: no byte of it was sent, or its command has no reply."""
        self._in_flight.pop(exchange.request_id, None)

    def replies_owed(self, exchange: Exchange) -> int:
        """Return how many replies must arrive before the reply to an exchange: 0 if the server echoes ids."""
        if self.echoes_ids:
            return 0
        older = itertools.takewhile(lambda each: each is not exchange, self._in_flight.values())
        return sum(1 for _ in older)

    @property
    def commands_in_flight(self) -> tuple[str, ...]:
        """Wire names of the commands that were sent and not answered, oldest first."""
        return tuple(exchange.command for exchange in self._in_flight.values())

    def receive_data(self, data: bytes) -> None:
        """Process received bytes, which may be split anywhere. Never raises because of their content."""
        if not self._partial and data.find(b"\n") == len(data) - 1 and self.state is not ENDED:
            self._receive_line(data)  # the usual case: one complete line
            return
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._partial:
            self._partial.append(lines[0])
            lines[0] = b"".join(self._partial)
            self._partial = []
            self._partial_bytes = 0
        for line in lines:
            if self.state is ENDED:
                return
            self._receive_line(line)
        if rest:
            self._partial.append(rest)
            self._partial_bytes += len(rest)
            if self._partial_bytes > self._max_message_bytes:
                self._partial = []
                self._end(ProtocolError(f"the server sent a message of more than {self._max_message_bytes} bytes"))

    def receive_eof(self, failure: QmpError) -> None:
        """Process the end of the stream; exchanges in flight fail with this error."""
        self._end(failure)

    def take_events(self) -> list[dict[str, Any]]:
        """Remove and return the messages of the received events, in order."""
        events, self._events, self.has_events = self._events, [], False
        return events

    def _receive_line(self, line: bytes) -> None:
        try:
            message = decode(line)
        except DataError as error:
            if line.strip(b"\r\n"):
                self._handle_violation(error)
            return
        if len(message) == 2 and "return" in message and self.state is READY:
            # The usual case: the reply to the command that the caller waits for. Inlined, because QEMU sleeps between
            # a reply and the next command, and takes longer to wake up the longer it sleeps.
            reply_id = message.get("id")
            exchange = self._in_flight.get(reply_id) if type(reply_id) is int else None
            if exchange is not None and exchange.is_simple:
                del self._in_flight[reply_id]
                self.echoes_ids = True
                exchange.reply = message
                exchange.is_ready = True
                if exchange.on_ready is not None:
                    exchange.on_ready()
                return
        if self._trace is not None or log.is_debugging():
            self._show_received(message)
        kind = None
        for name in _KINDS:
            if name in message:
                if kind is not None:
                    self._handle_violation(ProtocolError(f"the server sent a message with both {kind} and {name}"))
                    return
                kind = name
        if kind not in EXPECTED[self.state]:
            self._handle_violation(self._unexpected(message))
        elif kind == "event":
            self._receive_event(message)
        elif kind == "QMP":
            self._receive_greeting(message)
        else:
            self._receive_reply(message)

    def _unexpected(self, message: dict[str, Any]) -> ProtocolError:
        names = ", ".join(sorted(message)[:5]) or "no members"
        if self.state is State.GREETING:
            return ProtocolError(f"invalid greeting: a message with {names}")
        return ProtocolError(f"the server sent an unexpected message with {names}")

    def _receive_event(self, message: dict[str, Any]) -> None:
        if type(message["event"]) is str:
            self._events.append(message)
            self.has_events = True
        else:
            self._handle_violation(DataError("event", "expected str"))

    def _receive_greeting(self, message: dict[str, Any]) -> None:
        try:
            check_greeting(message)
        except ProtocolError as error:
            self._end(error)
            return
        self._greeting_message = message
        self.state = State.NEGOTIATING
        if self._wants_out_of_band:
            self.has_out_of_band = "oob" in parse_greeting(message).capabilities
        arguments = {"enable": ["oob"]} if self.has_out_of_band else None
        _, data = self.open_unchecked("qmp_capabilities", arguments)
        self._outgoing += data

    def _receive_reply(self, message: dict[str, Any]) -> None:
        if "error" in message and type(message["error"]) is not dict:
            self._handle_violation(DataError("error", "expected object"))
            return
        reply_id = message.get("id", _NO_ID)
        if reply_id is not _NO_ID:
            # compare types: True == 1, and a list is not hashable
            exchange = self._in_flight.get(reply_id) if type(reply_id) in _ID_TYPES else None
        elif self.echoes_ids:
            error = ProtocolError(f"the server sent an error for an unknown command: {_error_text(message)}")
            self._handle_violation(error)
            return
        else:
            exchange = next(iter(self._in_flight.values()), None)
        if exchange is None:
            log.warning(self.name, "dropped a reply with an unknown id")
            return
        del self._in_flight[exchange.request_id]
        if reply_id is not _NO_ID:
            self.echoes_ids = True
        if exchange.is_abandoned or exchange.error is not None:
            log.info(self.name, "dropped the late reply to %s", exchange.command)
            return
        exchange.succeed(message)
        if self.state is State.NEGOTIATING:
            self._end_negotiation(exchange)

    def _end_negotiation(self, exchange: Exchange) -> None:
        try:
            exchange.result()
        except QmpError as error:
            self._end(error)
        else:
            self.state = State.READY

    def _handle_violation(self, error: QmpError) -> None:
        """Handle an invalid message, which may have been the reply to any exchange in flight."""
        if self.is_negotiating:
            self._end(error)
            return
        log.warning(self.name, "the server violated the protocol: %s", error.reason)
        if self._in_flight and not self.echoes_ids:
            self._end(error)
            return
        self._fail_all(error)

    def _end(self, failure: QmpError) -> None:
        if self.state is ENDED:
            return
        self.state = State.ENDED
        self.failure = failure
        self._fail_all(failure)
        self._in_flight.clear()

    def _fail_all(self, error: QmpError) -> None:
        """Fail every exchange in flight, each with its own copy of the error: different threads raise them."""
        for exchange in self._in_flight.values():
            exchange.fail(type(error)(*error.args))


def _error_text(message: Mapping[str, Any]) -> str:
    error = message.get("error")
    text = error.get("desc") if isinstance(error, dict) else None
    return text if isinstance(text, str) else "a reply without an id"
