# SPDX-License-Identifier: BSD-2-Clause
"""The client's side of the protocol, without a socket, a clock or a lock.

Bytes go in (`receive_data`, `receive_eof`), bytes come out (`data_to_send`), and what happened can be looked at:
the state, the answers in their `Exchange`s, the notices of events.

The rules, which hold against any peer:

* A reply with an id answers the exchange of that id, and no other. One with an id that nobody waits for is dropped.
* A reply without an id comes from a peer that does not echo ids (old servers, test doubles): it answers the oldest
  exchange in flight, given up or not, since such a peer answers in order. From a peer that does echo ids it can only
  be a complaint about bytes it could not parse, and says nothing certain about any command.
* Giving up on an exchange keeps its place: the late reply finds it and is dropped.
* A line that makes no sense is consumed. It may have been the reply to any exchange in flight, so all of them fail with
  an unknown fate. Later exchanges are not affected where the peer echoes ids; where it does not, replies could no
  longer be told apart, and the conversation ends.
* Events may come at any time, before the greeting too.
* Besides that, three things end the conversation: the end of the stream, a wrong greeting, a message without end.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from hvkit.errors import ProgrammerError
from hvkit.qmp import log
from hvkit.qmp.errors import DataError, ProtocolError, QmpError, command_error
from hvkit.qmp.message import Greeting, decode, encode, encode_bare_request, encode_request, parse_greeting
from hvkit.qmp.redaction import redact, redact_reply

#: The longest message taken from a peer, in bytes. The largest honest replies are below 100 MB.
MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024

#: Seconds that a peer has to answer the negotiation, which is sent without a line end, before it is sent one. Proxies
#: and test doubles may read whole lines; QEMU does not.
LINE_END_GRACE_S: Final = 0.025

#: Takes the direction and the message.
Trace: TypeAlias = Callable[[str, Mapping[str, Any]], None]

_NO_ID: Final = object()
_ID_TYPES: Final = (int, str)
_LARGEST_DIGIT: Final = 9


class State(enum.Enum):
    """Where the conversation is."""

    GREETING = "waiting for the greeting"
    NEGOTIATING = "waiting for the answer to qmp_capabilities"
    READY = "ready"
    ENDED = "ended"

    # Enum's own is written in Python, and every message is looked up by the state it comes in.
    __hash__ = object.__hash__


#: What is asked for with every message: to look up a member on its enumeration takes longer than to call a function.
READY: Final = State.READY
ENDED: Final = State.ENDED

#: The members that tell what a message is; it has exactly one of them.
_KINDS: Final = ("return", "event", "error", "QMP")

#: Which messages make sense when. Anything else is a breach.
EXPECTED: Final[Mapping[State, frozenset[str]]] = {
    State.GREETING: frozenset({"QMP", "event"}),
    State.NEGOTIATING: frozenset({"return", "error", "event"}),
    State.READY: frozenset({"return", "error", "event"}),
    State.ENDED: frozenset(),
}


class Exchange:
    """A command on its way, and what became of it.

    Attributes:
        command: wire name of the command.
        request_id: the id that it travels with.
        reply: the whole reply message; None until it is there.
        error: why there will be no reply; None while there may be one.
        is_ready: there is a reply, or an error in its place.
        is_given_up: nobody waits for it any more.
        is_shown: the command was shown to those who watch, and the reply will be.
        on_ready: called when it becomes ready, for those who cannot look; None for nobody.
    """

    __slots__ = ("command", "error", "is_given_up", "is_ready", "is_shown", "on_ready", "reply", "request_id")

    def __init__(self, command: str, request_id: Any) -> None:
        self.command = command
        self.request_id = request_id
        self.reply: dict[str, Any] | None = None
        self.error: QmpError | None = None
        self.is_ready = False
        self.is_given_up = False
        self.is_shown = False
        self.on_ready: Callable[[], None] | None = None

    def succeed(self, reply: dict[str, Any]) -> None:
        """Note the reply; an error reply is one, too."""
        self.reply = reply
        self.is_ready = True
        if self.on_ready is not None:
            self.on_ready()

    def fail(self, error: QmpError) -> None:
        """Note why there will be no reply; of several reasons the first counts."""
        if not self.is_ready:
            self.error = error
            self.is_ready = True
            if self.on_ready is not None:
                self.on_ready()

    def raw_reply(self) -> dict[str, Any]:
        """Return the whole reply message, an error reply too.

        Raises:
            QmpError: there will be no reply; the error says why.
        """
        if self.reply is not None:
            return self.reply
        if self.error is None:
            raise ProgrammerError(f"{self.command}: asked for the reply of an exchange that is not ready")
        raise self.error

    def result(self) -> Any:
        """Return what the command returned, as plain data.

        Raises:
            CommandError: the peer refused it or it failed.
            QmpError: there will be no reply; the error says why.
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
    """One conversation with a monitor, from its first byte to its last.

    Args:
        expects_greeting: False for a peer that says nothing on its own account, such as the guest agent.
        wants_out_of_band: negotiate that commands may overtake others, if the peer offers it.
        max_message_bytes: longest message to take.
        trace: called with ``->`` or ``<-`` and each message that is sent or received, without its secrets.

    Attributes:
        state: where the conversation is.
        greeting: what the peer said first; None until it did.
        failure: why the conversation ended; None while it goes on.
        echoes_ids: whether the peer puts our ids on its replies.
        has_notices: whether events have come that nobody took yet.
        has_out_of_band: whether commands may overtake others.
    """

    def __init__(
        self,
        *,
        expects_greeting: bool = True,
        wants_out_of_band: bool = False,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        trace: Trace | None = None,
    ) -> None:
        self.state = State.GREETING if expects_greeting else State.READY
        self.greeting: Greeting | None = None
        self.failure: QmpError | None = None
        self.echoes_ids = False
        self.has_out_of_band = False
        self._wants_out_of_band = wants_out_of_band
        self._max_message_bytes = max_message_bytes
        self._trace = trace
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        #: By id, in the order they were sent.
        self._in_flight: dict[Any, Exchange] = {}
        self._last_id = 0
        #: Ends what we send. QEMU needs nothing there, and reads its monitor byte by byte: 5 us for each of them.
        self._line_end = b"" if expects_greeting else b"\n"
        self._outgoing = b""
        self._notices: list[dict[str, Any]] = []
        self.has_notices = False

    # ---- what we send

    def open_exchange(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, out_of_band: bool = False
    ) -> tuple[Exchange, bytes]:
        """Start an exchange and return its bytes, which the caller sends before those of any that start later.

        Raises:
            ProgrammerError: the conversation is not ready for commands, the arguments are no JSON, or commands out of
                band were not negotiated.
        """
        if self.state is not READY:
            raise ProgrammerError(f"{command}: the monitor is not ready for commands ({self.state.value})")
        if out_of_band and not self.has_out_of_band:
            raise ProgrammerError(f"{command}: commands out of band were not negotiated")
        return self.open_unchecked(command, arguments, out_of_band)

    def open_unchecked(
        self, command: str, arguments: Mapping[str, Any] | None, out_of_band: bool = False
    ) -> tuple[Exchange, bytes]:
        """Do what `open_exchange` does, where the caller knows that the conversation is ready for it.

        Raises:
            ProgrammerError: the arguments are no JSON.
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
            exchange.is_shown = True
            shown = {"exec-oob" if out_of_band else "execute": command, "arguments": arguments or {}, "id": request_id}
            self._show("->", shown)
        return exchange, data

    def open_raw_exchange(self, message: Mapping[str, Any]) -> tuple[Exchange, bytes]:
        """Start an exchange with a message as the caller made it; one without an id is given one.

        Raises:
            ProgrammerError: the conversation is not ready, the message is no JSON, or its id is in use or no plain
                string or integer.
        """
        command = str(message.get("execute", message.get("exec-oob", "")))
        if self.state is not READY:
            raise ProgrammerError(f"{command}: the monitor is not ready for commands ({self.state.value})")
        request_id = message.get("id", _NO_ID)
        if request_id is _NO_ID:
            request_id = self._last_id = self._free_id()
        elif type(request_id) not in _ID_TYPES:
            raise ProgrammerError(f"{command}: an id must be a string or an integer")
        elif request_id in self._in_flight:
            raise ProgrammerError(f"{command}: id {request_id!r} is in use")
        data = encode({**message, "id": request_id})
        exchange = self._in_flight[request_id] = Exchange(command, request_id)
        if self._trace is not None or log.is_debugging():
            exchange.is_shown = True
            self._show("->", message)
        return exchange, data + self._line_end

    def _show(self, direction: str, message: Mapping[str, Any]) -> None:
        """Let those who watch see a message, without its secrets."""
        try:
            public = redact(message)
        except RecursionError:
            public = {"nested": "too deeply to be shown"}
        if self._trace is not None:
            self._trace(direction, public)
        log.debug("%s %s", direction, public)

    def _show_received(self, message: Mapping[str, Any]) -> None:
        reply_id = message.get("id", _NO_ID)
        asked = (each.command for each in self._in_flight.values() if reply_id in (each.request_id, _NO_ID))
        self._show("<-", redact_reply(next(asked, None), message))

    def _free_id(self) -> int:
        """Return the next id that is not in flight: short, and not the one just used.

        A peer that answers twice then hits an id that nobody waits for, once `_last_id` is this one.
        """
        limit = _LARGEST_DIGIT
        while len(self._in_flight) >= limit:
            limit = limit * 10 + 9
        candidate = self._last_id % limit + 1
        while candidate in self._in_flight:
            candidate = candidate % limit + 1
        return candidate

    def data_to_send(self) -> bytes:
        """Take the bytes that the conversation wants sent."""
        data, self._outgoing = self._outgoing, b""
        return data

    def end_lines(self) -> None:
        """End what we send, and have sent, with a newline from now on: the peer reads whole lines.

        To be called where a peer leaves the negotiation unanswered for `LINE_END_GRACE_S`.
        """
        if not self._line_end:
            self._line_end = b"\n"
            self._outgoing += b"\n"

    def give_up(self, exchange: Exchange) -> None:
        """Stop waiting for an exchange; its late reply will be dropped."""
        exchange.is_given_up = True

    def forget(self, exchange: Exchange) -> None:
        """Drop an exchange that is known not to get a reply: not one byte of it was sent, or it never has one."""
        self._in_flight.pop(exchange.request_id, None)

    def replies_owed(self, exchange: Exchange) -> int:
        """Return how many replies must come before the one to an exchange can: none from a peer that echoes ids."""
        if self.echoes_ids:
            return 0
        older = itertools.takewhile(lambda each: each is not exchange, self._in_flight.values())
        return sum(1 for _ in older)

    @property
    def commands_in_flight(self) -> tuple[str, ...]:
        """Wire names of the commands that were sent and not answered, oldest first."""
        return tuple(exchange.command for exchange in self._in_flight.values())

    # ---- what we receive

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer, cut anywhere. Never raises for what they hold."""
        if not self._partial and data.find(b"\n") == len(data) - 1 and self.state is not ENDED:
            self._receive_line(data)  # one whole line, as mostly
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
                self._end(ProtocolError(f"the peer sent a message of more than {self._max_message_bytes} bytes"))

    def receive_eof(self, failure: QmpError) -> None:
        """Note that the stream has ended; what is in flight fails with this error."""
        self._end(failure)

    def take_notices(self) -> list[dict[str, Any]]:
        """Take the messages of the events that came, in order."""
        notices, self._notices, self.has_notices = self._notices, [], False
        return notices

    def _receive_line(self, line: bytes) -> None:
        try:
            message = decode(line)
        except DataError as error:
            if line.strip(b"\r\n"):
                self._breach(error)
            return
        if len(message) == 2 and "return" in message and self.state is READY:
            # Mostly this is the reply to a command that somebody waits for. No other functions: QEMU falls asleep
            # between a reply and the next command, and every microsecond until that comes costs another one.
            reply_id = message.get("id")
            exchange = self._in_flight.get(reply_id) if type(reply_id) is int else None
            if exchange is not None and not (exchange.is_shown or exchange.is_given_up or exchange.is_ready):
                del self._in_flight[reply_id]
                self.echoes_ids = True
                exchange.succeed(message)
                return
        if self._trace is not None or log.is_debugging():
            self._show_received(message)
        kind = None
        for name in _KINDS:
            if name in message:
                if kind is not None:
                    self._breach(ProtocolError(f"the peer sent a message that is both {kind} and {name}"))
                    return
                kind = name
        if kind not in EXPECTED[self.state]:
            self._breach(self._unexpected(message))
        elif kind == "event":
            self._receive_event(message)
        elif kind == "QMP":
            self._receive_greeting(message)
        else:
            self._receive_reply(message)

    def _unexpected(self, message: dict[str, Any]) -> ProtocolError:
        names = ", ".join(sorted(message)[:5]) or "no member at all"
        if self.state is State.GREETING:
            return ProtocolError(f"wrong greeting: a message with {names}")
        return ProtocolError(f"the peer sent an unexpected message, with {names}")

    def _receive_event(self, message: dict[str, Any]) -> None:
        if type(message["event"]) is str:
            self._notices.append(message)
            self.has_notices = True
        else:
            self._breach(DataError("event", "expected str"))

    def _receive_greeting(self, message: dict[str, Any]) -> None:
        try:
            self.greeting = parse_greeting(message)
        except ProtocolError as error:
            self._end(error)
            return
        self.state = State.NEGOTIATING
        self.has_out_of_band = self._wants_out_of_band and "oob" in self.greeting.capabilities
        arguments = {"enable": ["oob"]} if self.has_out_of_band else None
        _, data = self.open_unchecked("qmp_capabilities", arguments)
        self._outgoing += data

    def _receive_reply(self, message: dict[str, Any]) -> None:
        if "error" in message and type(message["error"]) is not dict:
            self._breach(DataError("error", "expected object"))
            return
        reply_id = message.get("id", _NO_ID)
        if reply_id is not _NO_ID:
            # True == 1, and a list cannot be looked up: an id is what we sent or it is nothing
            exchange = self._in_flight.get(reply_id) if type(reply_id) in _ID_TYPES else None
        elif self.echoes_ids:
            self._breach(ProtocolError(f"the peer complained without saying of what: {_complaint(message)}"))
            return
        else:
            exchange = next(iter(self._in_flight.values()), None)
        if exchange is None:
            log.warning("dropped a reply that nobody waits for")
            return
        del self._in_flight[exchange.request_id]
        if reply_id is not _NO_ID:
            self.echoes_ids = True
        if exchange.is_given_up or exchange.error is not None:
            log.info("dropped the late reply to %s", exchange.command)
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

    # ---- what goes wrong

    def _breach(self, error: QmpError) -> None:
        """The peer sent something senseless: whoever waits cannot know whether it was meant for them."""
        if self.state in (State.GREETING, State.NEGOTIATING):
            self._end(error)
            return
        log.warning("the peer broke the protocol: %s", error)
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
        """Fail every exchange in flight, each with an error of its own: different threads will raise them."""
        for exchange in self._in_flight.values():
            exchange.fail(type(error)(*error.args))


def _complaint(message: Mapping[str, Any]) -> str:
    error = message.get("error")
    text = error.get("desc") if isinstance(error, dict) else None
    return text if isinstance(text, str) else "a reply without an id"
