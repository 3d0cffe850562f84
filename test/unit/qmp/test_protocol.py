# SPDX-License-Identifier: BSD-2-Clause
"""The protocol core against a model of a server, without sockets or sleeps."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvkit.errors import ProgrammerError
from hvkit.qmp.errors import CommandError, CommandNotFound, ConnectionLost, DataError, ProtocolError, QmpError
from hvkit.qmp.protocol import Exchange, Protocol, State

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "x"}, "capabilities": []}}
EOF = ConnectionLost("peer", "the peer closed the connection")


def line(message: Any) -> bytes:
    return json.dumps(message).encode() + b"\r\n"


def sent(data: bytes) -> dict[str, Any]:
    assert b"\n" not in data
    request: dict[str, Any] = json.loads(data)
    return request


def ready(*, echoes_ids: bool = True) -> Protocol:
    protocol = Protocol()
    protocol.receive_data(line(GREETING))
    request = sent(protocol.data_to_send())
    assert request["execute"] == "qmp_capabilities"
    protocol.receive_data(line({"return": {}, **({"id": request["id"]} if echoes_ids else {})}))
    assert protocol.state is State.READY
    return protocol


def start(protocol: Protocol, command: str = "query-status", **arguments: Any) -> tuple[Exchange, dict[str, Any]]:
    exchange, data = protocol.open_exchange(command, arguments)
    return exchange, sent(data)


def test_negotiation_is_sent_by_the_protocol() -> None:
    protocol = Protocol()
    assert protocol.state is State.GREETING
    assert protocol.data_to_send() == b""
    protocol.receive_data(line(GREETING))
    assert protocol.state is State.NEGOTIATING
    assert protocol.greeting is not None
    assert protocol.greeting.version == (7, 2, 22, "x")


@pytest.mark.parametrize(
    "greeting",
    [
        {"QMP": {"version": {"qemu": {"major": 0, "minor": 9, "micro": 1}, "package": ""}}},
        {"QMP": {"version": {"qemu": {"major": 0, "minor": 9, "micro": 1}, "package": "", "capabilities": ["oob"]}}},
        {"QMP": {}},
        {"QMP": {"version": 3}},
    ],
)
def test_greeting_of_old_server_is_accepted(greeting: dict[str, Any]) -> None:
    protocol = Protocol()
    protocol.receive_data(line(greeting))
    assert protocol.state is State.NEGOTIATING


@pytest.mark.parametrize("first", [{"hello": 1}, {"QMP": []}, {"return": {}}, {"error": {}}, [], 3, {}])
def test_invalid_greeting_ends_the_conversation(first: Any) -> None:
    protocol = Protocol()
    protocol.receive_data(line(first))
    assert protocol.state is State.ENDED
    assert isinstance(protocol.failure, QmpError)


def test_rejected_negotiation_ends_the_conversation() -> None:
    protocol = Protocol()
    protocol.receive_data(line(GREETING))
    protocol.receive_data(line({"error": {"class": "GenericError", "desc": "no"}}))
    assert protocol.state is State.ENDED
    assert isinstance(protocol.failure, CommandError)


def test_empty_array_completes_the_negotiation() -> None:
    protocol = Protocol()
    protocol.receive_data(line(GREETING))
    protocol.receive_data(line({"return": []}))
    assert protocol.state is State.READY


def test_events_before_the_greeting_are_kept() -> None:
    protocol = Protocol()
    protocol.receive_data(line({"event": "STOP"}) + line(GREETING))
    assert [event["event"] for event in protocol.take_events()] == ["STOP"]
    assert protocol.state is State.NEGOTIATING


def test_open_exchange_before_ready_raises_programmer_error() -> None:
    with pytest.raises(ProgrammerError, match="not ready for commands"):
        Protocol().open_exchange("query-status")


def test_reply_with_id_answers_the_exchange_with_that_id() -> None:
    protocol = ready()
    first, first_request = start(protocol)
    second, second_request = start(protocol)
    protocol.receive_data(line({"return": "second", "id": second_request["id"]}))
    protocol.receive_data(line({"return": "first", "id": first_request["id"]}))
    assert first.result() == "first"
    assert second.result() == "second"


def test_replies_without_ids_answer_in_order() -> None:
    protocol = ready(echoes_ids=False)
    first, _ = start(protocol)
    second, _ = start(protocol)
    protocol.receive_data(line({"return": 1}) + line({"return": 2}))
    assert (first.result(), second.result()) == (1, 2)


def test_error_reply_raises_the_class_of_the_error() -> None:
    protocol = ready()
    exchange, request = start(protocol, "nonsense")
    protocol.receive_data(line({"error": {"class": "CommandNotFound", "desc": "no such"}, "id": request["id"]}))
    with pytest.raises(CommandNotFound, match="no such") as caught:
        exchange.result()
    assert (caught.value.command, caught.value.error_class, caught.value.description) == (
        "nonsense",
        "CommandNotFound",
        "no such",
    )


def test_error_reply_without_description_raises_command_error() -> None:
    protocol = ready()
    exchange, request = start(protocol)
    protocol.receive_data(line({"error": {}, "id": request["id"]}))
    with pytest.raises(CommandError, match="GenericError"):
        exchange.result()


@pytest.mark.parametrize("echoes_ids", [True, False])
def test_late_reply_is_dropped(echoes_ids: bool) -> None:
    protocol = ready(echoes_ids=echoes_ids)
    late, late_request = start(protocol)
    protocol.abandon(late)
    exchange, request = start(protocol)
    late_reply = {"return": "late", **({"id": late_request["id"]} if echoes_ids else {})}
    reply = {"return": "right", **({"id": request["id"]} if echoes_ids else {})}
    protocol.receive_data(line(late_reply))
    assert not exchange.is_ready
    protocol.receive_data(line(reply))
    assert exchange.result() == "right"


def test_next_id_differs_from_the_last() -> None:
    protocol = ready()
    exchange, request = start(protocol)
    protocol.receive_data(line({"return": 1, "id": request["id"]}))
    following, _ = start(protocol)
    protocol.receive_data(line({"return": "again", "id": request["id"]}))
    assert exchange.result() == 1
    assert not following.is_ready


def test_ids_are_short_and_unique_in_flight() -> None:
    protocol = ready()
    ids = [start(protocol)[1]["id"] for _ in range(120)]
    assert len(set(ids)) == 120
    assert max(ids) < 1000
    assert max(ids[:9]) < 10


@pytest.mark.parametrize("stray_id", [True, 1.0, "1", None, [1], {"a": 1}, 77, -1])
def test_reply_with_unknown_id_is_dropped(stray_id: Any) -> None:
    protocol = ready()
    exchange, request = start(protocol)
    while request["id"] != 1:  # in Python 1 equals True and 1.0, in JSON it does not
        protocol.receive_data(line({"return": {}, "id": request["id"]}))
        exchange, request = start(protocol)
    protocol.receive_data(line({"return": "wrong", "id": stray_id}))
    assert not exchange.is_ready
    protocol.receive_data(line({"return": "right", "id": 1}))
    assert exchange.result() == "right"


def test_error_without_id_from_server_with_ids_fails_all_exchanges() -> None:
    protocol = ready()
    exchange, request = start(protocol)
    protocol.receive_data(line({"error": {"class": "GenericError", "desc": "JSON parse error"}}))
    with pytest.raises(ProtocolError, match="JSON parse error"):
        exchange.result()
    following, following_request = start(protocol)
    protocol.receive_data(line({"return": "late", "id": request["id"]}))
    protocol.receive_data(line({"return": "right", "id": following_request["id"]}))
    assert following.result() == "right"


@pytest.mark.parametrize(
    "garbage",
    [
        b"}{\n",
        b"\xff\xfe\n",
        b"[1]\n",
        b"3\n",
        b"NaN\n",
        b"{}\n",
        b'{"return":1,"error":{}}\n',
        b'{"event":3}\n',
        b"[" * 100_000 + b"\n",
        b"1" * 5000 + b"\n",
        line(GREETING),
        line({"error": "text"}),
    ],
)
def test_garbage_fails_only_exchanges_in_flight(garbage: bytes) -> None:
    protocol = ready()
    exchange, request = start(protocol)
    protocol.receive_data(garbage)
    with pytest.raises((DataError, ProtocolError)):
        exchange.result()
    following, following_request = start(protocol)
    protocol.receive_data(line({"return": "late", "id": request["id"]}))
    assert not following.is_ready
    protocol.receive_data(line({"return": "right", "id": following_request["id"]}))
    assert following.result() == "right"


def test_garbage_from_server_without_ids_ends_the_conversation() -> None:
    protocol = ready(echoes_ids=False)
    exchange, _ = start(protocol)
    protocol.receive_data(b"}{\n" + line({"return": "whose?"}))
    assert protocol.state is State.ENDED
    with pytest.raises(DataError):
        exchange.result()


def test_garbage_with_nothing_in_flight_is_ignored() -> None:
    protocol = ready(echoes_ids=False)
    protocol.receive_data(b"}{\n")
    exchange, _ = start(protocol)
    protocol.receive_data(line({"return": 1}))
    assert exchange.result() == 1


@pytest.mark.parametrize("empty", [b"\n", b"\r\n", b"\n\r\n"])
@pytest.mark.parametrize("echoes_ids", [True, False])
def test_empty_line_is_ignored(empty: bytes, echoes_ids: bool) -> None:
    protocol = ready(echoes_ids=echoes_ids)
    exchange, request = start(protocol)
    protocol.receive_data(empty)
    assert not exchange.is_ready
    protocol.receive_data(line({"return": 1, **({"id": request["id"]} if echoes_ids else {})}))
    assert exchange.result() == 1


def test_endless_message_ends_the_conversation() -> None:
    protocol = Protocol(max_message_bytes=1000)
    for _ in range(11):
        protocol.receive_data(b"x" * 100)
    assert protocol.state is State.ENDED
    assert "1000 bytes" in str(protocol.failure)


def test_end_fails_every_exchange_with_its_own_error() -> None:
    protocol = ready()
    first, _ = start(protocol)
    second, _ = start(protocol)
    protocol.receive_eof(EOF)
    with pytest.raises(ConnectionLost) as first_error:
        first.result()
    with pytest.raises(ConnectionLost) as second_error:
        second.result()
    assert first_error.value is not second_error.value


def test_requests_are_compact() -> None:
    protocol = ready()
    assert (
        protocol.open_exchange("a", {"b": [1, {"c": None}]})[1]
        == b'{"execute":"a","arguments":{"b":[1,{"c":null}]},"id":2}'
    )
    assert protocol.open_exchange("query-status", {})[1] == b'{"execute":"query-status","id":3}'


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object(), b"x"])
def test_open_exchange_with_invalid_arguments_raises_programmer_error(value: Any) -> None:
    protocol = ready()
    with pytest.raises(ProgrammerError, match="cannot be sent as JSON"):
        protocol.open_exchange("a", {"b": value})
    assert protocol.commands_in_flight == ()


def test_out_of_band_is_negotiated_if_wanted_and_offered() -> None:
    offering = {"QMP": {**GREETING["QMP"], "capabilities": ["oob"]}}
    for greeting, is_offered in ((offering, True), (GREETING, False)):
        protocol = Protocol(wants_out_of_band=True)
        protocol.receive_data(line(greeting))
        request = sent(protocol.data_to_send())
        assert request.get("arguments") == ({"enable": ["oob"]} if is_offered else None)
        protocol.receive_data(line({"return": {}, "id": request["id"]}))
        assert protocol.has_out_of_band is is_offered
        if is_offered:
            assert sent(protocol.open_exchange("migrate-pause", out_of_band=True)[1])["exec-oob"] == "migrate-pause"
        else:
            with pytest.raises(ProgrammerError, match="not negotiated"):
                protocol.open_exchange("migrate-pause", out_of_band=True)


def test_replies_owed_counts_abandoned_exchanges_of_server_without_ids() -> None:
    protocol = ready(echoes_ids=False)
    lost, _ = start(protocol)
    protocol.abandon(lost)
    exchange, _ = start(protocol)
    assert protocol.replies_owed(exchange) == 1
    protocol.receive_data(line({"return": "late"}))
    assert protocol.replies_owed(exchange) == 0


def test_trace_gets_every_message_without_secrets() -> None:
    seen: list[Any] = []
    protocol = Protocol(trace=lambda direction, message: seen.append((direction, message)))
    protocol.receive_data(line(GREETING))
    protocol.receive_data(line({"return": {}, "id": 1}))
    start(protocol, "change-vnc-password", password="opensesame")
    assert [direction for direction, _ in seen] == ["<-", "->", "<-", "->"]
    assert "opensesame" not in repr(seen)


@pytest.mark.parametrize("bad_id", [True, [], 1.5, None])
def test_raw_message_with_invalid_id_raises_programmer_error(bad_id: Any) -> None:
    with pytest.raises(ProgrammerError, match="string or an integer"):
        ready().open_raw_exchange({"execute": "a", "id": bad_id})


def test_handle_timer_sends_newline_and_ends_later_requests_with_one() -> None:
    protocol = Protocol()
    protocol.receive_data(line(GREETING))
    assert protocol.data_to_send() == b'{"execute":"qmp_capabilities","id":1}'
    protocol.handle_timer()
    protocol.handle_timer()
    assert protocol.data_to_send() == b"\n"
    protocol.receive_data(line({"return": {}, "id": 1}))
    assert protocol.open_exchange("stop")[1] == b'{"execute":"stop","id":2}\n'
    assert protocol.open_raw_exchange({"execute": "stop"})[1] == b'{"execute":"stop","id":3}\n'


def test_next_timer_runs_only_while_the_negotiation_is_unanswered() -> None:
    protocol = Protocol()
    assert protocol.next_timer() is None
    protocol.receive_data(line(GREETING))
    timer_s = protocol.next_timer()
    assert timer_s is not None
    assert 0 < timer_s < 1
    protocol.handle_timer()
    assert protocol.next_timer() is None


def test_handle_timer_when_ready_does_nothing() -> None:
    protocol = ready()
    assert protocol.next_timer() is None
    protocol.handle_timer()
    assert not protocol.has_data_to_send
    assert protocol.open_exchange("stop")[1] == b'{"execute":"stop","id":2}'


def test_is_negotiating_ends_with_the_negotiation() -> None:
    protocol = Protocol()
    assert protocol.is_negotiating
    protocol.receive_data(line(GREETING))
    assert protocol.is_negotiating
    assert protocol.has_data_to_send
    protocol.receive_data(line({"return": {}, "id": 1}))
    assert not protocol.is_negotiating


def test_raw_message_with_id_in_use_raises_programmer_error() -> None:
    protocol = ready()
    protocol.open_raw_exchange({"execute": "a", "id": "mine"})
    with pytest.raises(ProgrammerError, match="'mine' is in use"):
        protocol.open_raw_exchange({"execute": "a", "id": "mine"})


#: So large that no changed digit makes an integer of more than 64 bits, which QEMU does not send.
_INTEGERS = st.integers(-(10**18), 10**18)

MESSAGES = st.lists(
    st.one_of(
        st.just({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}),
        st.fixed_dictionaries({"return": _INTEGERS | st.text(max_size=40), "id": st.integers(1, 12)}),
        st.fixed_dictionaries({"error": st.just({"class": "GenericError", "desc": "x"}), "id": st.integers(1, 12)}),
    ),
    max_size=12,
)


def outcome(protocol: Protocol, exchanges: list[Exchange]) -> list[Any]:
    return [
        [event["event"] for event in protocol.take_events()],
        [(exchange.reply, type(exchange.error)) for exchange in exchanges],
        protocol.state,
        type(protocol.failure),
    ]


@given(MESSAGES, st.lists(st.integers(1, 30), min_size=1, max_size=40))
def test_any_split_of_the_stream_gives_the_same_messages(messages: list[dict[str, Any]], sizes: list[int]) -> None:
    stream = b"".join(map(line, messages))
    whole, chopped = ready(), ready()
    whole_exchanges = [start(whole)[0] for _ in range(9)]
    chopped_exchanges = [start(chopped)[0] for _ in range(9)]
    whole.receive_data(stream)
    at = 0
    for size in [*sizes, len(stream)]:
        chopped.receive_data(stream[at : at + size])
        at += size
    assert outcome(chopped, chopped_exchanges) == outcome(whole, whole_exchanges)


@given(st.lists(st.binary(max_size=60), max_size=10), st.booleans())
def test_any_bytes_give_messages_or_qmp_errors(pieces: list[bytes], echoes_ids: bool) -> None:
    protocol = ready(echoes_ids=echoes_ids)
    exchange, _ = start(protocol)
    for piece in pieces:
        protocol.receive_data(piece)
        protocol.receive_data(b"\n")
    assert exchange.reply is None or isinstance(exchange.reply, dict)
    assert exchange.error is None or isinstance(exchange.error, QmpError)


@given(MESSAGES, st.data())
def test_corrupted_byte_never_gives_a_wrong_reply(messages: list[dict[str, Any]], data: st.DataObject) -> None:
    """With a corrupted byte an exchange gets the reply with its id as it was sent, or none."""
    protocol = ready()
    exchanges = [start(protocol)[0] for _ in range(12)]
    honest: dict[int, list[Any]] = {}
    lines = []
    for message in messages:
        if "id" in message:
            honest.setdefault(message["id"], []).append(message)
        lines.append(line(message))
    victim = data.draw(st.integers(0, max(len(lines) - 1, 0)))
    for number, each in enumerate(lines):
        if number == victim:
            position = data.draw(st.integers(0, len(each) - 3))
            each = each[:position] + b"\x00" + each[position + 1 :]
        protocol.receive_data(each)
    for exchange in exchanges:
        if exchange.reply is not None:
            assert exchange.reply in honest[exchange.request_id]


@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "reply", "give up", "event"]), st.integers(0, 9)),
        max_size=60,
    ),
    st.booleans(),
)
def test_any_order_of_replies_events_and_timeouts_matches_the_model(
    steps: list[tuple[str, int]], echoes_ids: bool
) -> None:
    """A server that answers each request once, with ids in any order; no event is lost."""
    protocol = ready(echoes_ids=echoes_ids)
    waiting: list[tuple[int, Exchange, dict[str, Any]]] = []
    number = events = 0
    for step, choice in steps:
        if step == "start":
            number += 1
            waiting.append((number, *start(protocol)))
        elif step == "event":
            protocol.receive_data(line({"event": "N", "data": {"n": events}}))
            events += 1
        elif waiting:
            chosen = choice % len(waiting)
            if step == "give up":
                protocol.abandon(waiting[chosen][1])
                continue
            asked, exchange, request = waiting.pop(chosen if echoes_ids else 0)
            protocol.receive_data(line({"return": asked, **({"id": request["id"]} if echoes_ids else {})}))
            assert exchange.is_ready is not exchange.is_abandoned
            assert exchange.is_abandoned or exchange.result() == asked
    assert not any(exchange.is_ready for _, exchange, _ in waiting)
    assert [event["data"]["n"] for event in protocol.take_events()] == list(range(events))


def test_debug_log_has_messages_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="hvkit.qmp"):
        protocol = ready()
        exchange, request = start(protocol, "change-vnc-password", password="opensesame")
        protocol.receive_data(line({"return": {"password": "opensesame"}, "id": request["id"]}))
    assert exchange.result() == {"password": "opensesame"}
    assert "change-vnc-password" in caplog.text
    assert "<hidden>" in caplog.text
    assert "opensesame" not in caplog.text


def test_disabled_log_formats_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        pytest.fail("formatted")

    monkeypatch.setattr("hvkit.qmp.protocol.redact", fail)
    monkeypatch.setattr("hvkit.qmp.protocol.redact_reply", fail)
    with caplog.at_level("INFO", logger="hvkit.qmp"):
        protocol = ready()
        exchange, request = start(protocol, "x", name="value")
        protocol.receive_data(line({"event": "STOP"}) + line({"return": 1, "id": request["id"]}))
    assert exchange.result() == 1


def test_late_reply_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    protocol = ready()
    exchange, request = start(protocol, "slow")
    protocol.abandon(exchange)
    with caplog.at_level("INFO", logger="hvkit.qmp"):
        protocol.receive_data(line({"return": {}, "id": request["id"]}))
    assert "late reply to slow" in caplog.text
