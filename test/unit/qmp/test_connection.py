# SPDX-License-Identifier: BSD-2-Clause
"""The blocking connection against a stub: the odd cases, which a real QEMU does not show on demand."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvkit.errors import HypervisorError, ProgrammerError
from hvkit.qmp import (
    CommandError,
    CommandNotFound,
    CommandTimeout,
    ConnectError,
    ConnectionLost,
    DataError,
    DeviceNotFound,
    EventTimeout,
    GenericEvent,
    ProtocolError,
    QmpConnection,
    QmpError,
    QmpMessage,
)
from hvkit.qmp.converter import structure
from hvkit.qmp.schema import (
    DeviceDeletedEvent,
    ImageInfo,
    QueryStatus,
    ResumeEvent,
    ShutdownEvent,
    StatusInfo,
    Stop,
    StopEvent,
)
from hvkit.testing import CLOSE, SILENCE, CloseAfter, Delay, QmpStub, WaitFor

STATUS = {"status": "running", "running": True, "singlestep": False}
OK: dict[str, Any] = {"return": {}}
STOPPED = {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 0}}
RESUMED = {"event": "RESUME"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "qmp.sock"


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """An event for a script to wait for; set at the end, so that a failing test does not hold the stub."""
    event = threading.Event()
    yield event
    event.set()


# ---- connecting


def test_typed_and_untyped_commands(path: Path) -> None:
    script = [
        ({"execute": "query-status"}, {"return": STATUS}),
        ({"execute": "query-status"}, {"return": STATUS}),
        ({"execute": "eject", "arguments": {"id": "cd", "force": True}}, OK),
    ]
    with QmpStub(path, script), QmpConnection(path) as connection:
        assert connection.is_connected
        assert connection.version >= (7, 2)
        assert connection.execute(QueryStatus()) == StatusInfo(status="running", running=True, singlestep=False)
        assert connection.execute("query-status") == STATUS
        assert connection.execute("eject", {"id": "cd", "force": True}) == {}
    assert not connection.is_connected


def test_every_use_before_connect_is_the_callers_fault(path: Path) -> None:
    connection = QmpConnection(path)
    uses: list[Callable[[], object]] = [
        lambda: connection.execute(QueryStatus()),
        lambda: connection.execute("query-status"),
        lambda: connection.exchange(QmpMessage({"execute": "stop"})),
        lambda: connection.subscribe(),
        lambda: connection.take_events(),
        lambda: connection.version,
    ]
    for use in uses:
        with pytest.raises(ProgrammerError, match=r"before connect\(\)"):
            use()
    connection.close()


def test_connecting_twice_is_the_callers_fault_and_harmless(path: Path) -> None:
    with QmpStub(path, [(None, {"return": STATUS})]), QmpConnection(path) as connection:
        with pytest.raises(ProgrammerError, match="a connection that is open"):
            connection.connect()
        assert connection.execute("query-status") == STATUS


def test_the_same_object_connects_again(path: Path) -> None:
    with QmpStub(path, [(None, {"return": 1}), (None, {"return": 2})]):
        connection = QmpConnection(path)
        for expected in (1, 2):
            connection.connect()
            assert connection.execute("query-status") == expected
            connection.close()
            connection.close()


def test_a_missing_socket_is_named(path: Path) -> None:
    with pytest.raises(ConnectError, match=r"qmp\.sock: there is no such socket") as caught:
        QmpConnection(path).connect()
    assert caught.value.address == str(path)


def test_a_refusing_socket_is_named(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    with pytest.raises(ConnectError, match="no process listens"):
        QmpConnection(path).connect()


def test_a_path_too_long_for_a_socket_is_a_connect_error(tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match="too long"):
        QmpConnection(tmp_path / ("x" * 200)).connect()


def test_a_file_that_is_no_socket_is_a_connect_error(path: Path) -> None:
    path.write_text("")
    with pytest.raises(ConnectError):
        QmpConnection(path).connect()


@pytest.mark.parametrize("greeting", [{"hello": 1}, b"220 mail.example ESMTP\r\n", {"return": {}}, b"\xff\x00\n"])
def test_a_wrong_greeting_is_a_connect_error(path: Path, greeting: Any) -> None:
    with QmpStub(path, greeting=greeting), pytest.raises(ConnectError) as caught:
        QmpConnection(path).connect()
    assert "greeting" in caught.value.reason or "JSON" in caught.value.reason


def test_no_greeting_is_a_connect_error_at_the_deadline(path: Path) -> None:
    began = time.monotonic()
    with QmpStub(path, greeting=None), pytest.raises(ConnectError, match=r"no greeting within 0\.2 s: busy"):
        QmpConnection(path).connect(timeout=0.2)
    assert 0.15 < time.monotonic() - began < 2


def test_a_busy_monitor_is_a_connect_error_and_free_later(path: Path) -> None:
    with QmpStub(path, [(None, {"return": STATUS})]):
        with QmpConnection(path), pytest.raises(ConnectError, match="busy"):
            QmpConnection(path).connect(timeout=0.2)
        with QmpConnection(path) as connection:
            assert connection.execute(QueryStatus()).running


def test_a_full_backlog_is_a_connect_error_at_the_deadline(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(path))
            with pytest.raises(ConnectError, match=r"the backlog of the socket stayed full for 0\.2 s"):
                QmpConnection(path).connect(timeout=0.2)


def test_a_peer_that_closes_before_the_greeting_is_a_connect_error(path: Path) -> None:
    with QmpStub(path, greeting=CLOSE), pytest.raises(ConnectError, match="closed the connection"):
        QmpConnection(path).connect()


def test_a_refused_negotiation_is_a_connect_error(path: Path) -> None:
    refusal = {"error": {"class": "GenericError", "desc": "not you"}}
    with QmpStub(path, capabilities_reply=refusal), pytest.raises(ConnectError, match="not you"):
        QmpConnection(path).connect()


def test_an_unanswered_negotiation_is_a_connect_error(path: Path) -> None:
    with QmpStub(path, capabilities_reply=SILENCE), pytest.raises(ConnectError, match="no reply to qmp_capabilities"):
        QmpConnection(path).connect(timeout=0.2)


@pytest.mark.parametrize("version", [{}, {"qemu": {"major": 0, "minor": 12, "micro": 50}, "capabilities": []}])
@pytest.mark.parametrize("reply", [{"return": {}}, {"return": []}])
def test_old_servers_are_understood(path: Path, version: dict[str, Any], reply: dict[str, Any]) -> None:
    script = [(None, {"return": STATUS}), (None, {"error": {"class": "DeviceNotFound", "desc": "x", "data": {}}})]
    stub = QmpStub(path, script, greeting={"QMP": {"version": version}}, capabilities_reply=reply, echo_ids=False)
    with stub, QmpConnection(path) as connection:
        assert connection.execute(QueryStatus()).running
        with pytest.raises(DeviceNotFound):
            connection.execute("device_del", {"id": "x"})


def test_a_peer_that_reads_whole_lines_is_understood() -> None:
    ours, theirs = socket.socketpair()

    def peer() -> None:
        with theirs, theirs.makefile("rwb", buffering=0) as stream:
            stream.write(b'{"QMP": {"version": {}}}\n')
            for line in stream:
                stream.write(b'{"return": {}, "id": %d}\n' % json.loads(line)["id"])

    thread = threading.Thread(target=peer)
    thread.start()
    connection = QmpConnection.from_socket(ours)
    connection.connect()
    for _ in range(3):
        assert connection.execute("stop", timeout=5) == {}
    connection.close()
    thread.join()


@pytest.mark.parametrize("is_descriptor", [False, True])
def test_a_socket_that_is_connected_already_will_do(is_descriptor: bool) -> None:
    ours, theirs = socket.socketpair()
    if is_descriptor:
        ours = socket.socket(fileno=ours.detach())
    with QmpStub(theirs, [(None, {"return": STATUS})]):
        connection = QmpConnection.from_socket(ours)
        connection.connect()
        assert connection.execute(QueryStatus()).running
        connection.close()
        with pytest.raises(ProgrammerError, match="can be connected only once"):
            connection.connect()


# ---- commands


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 64])
def test_chunks_make_no_difference(path: Path, chunk_size: int) -> None:
    script = [(None, [STOPPED, {"return": STATUS}, RESUMED]), (None, {"return": [1, 2]})]
    with QmpStub(path, script, chunk_size=chunk_size), QmpConnection(path) as connection:
        assert connection.execute(QueryStatus()).running
        assert connection.execute("anything") == [1, 2]
        assert connection.take_events() == [StopEvent(), ResumeEvent()]


def test_error_replies_raise_with_their_facts(path: Path) -> None:
    script = [
        (None, {"error": {"class": "CommandNotFound", "desc": "The command x has not been found"}}),
        (None, {"error": {"class": "Unheard", "desc": "text of QEMU"}}),
    ]
    with QmpStub(path, script), QmpConnection(path) as connection:
        with pytest.raises(CommandNotFound, match="has not been found"):
            connection.execute("x")
        with pytest.raises(CommandError, match="stop: text of QEMU") as caught:
            connection.execute(Stop())
        assert type(caught.value) is CommandError
        assert caught.value.error_class == "Unheard"


def test_raw_messages_travel_as_they_are(path: Path) -> None:
    script = [
        ({"execute": "query-status", "id": "mine"}, {"return": STATUS}),
        ({"execute": "query-status"}, {"return": STATUS}),
        ({"execute": "x"}, {"error": {"class": "CommandNotFound", "desc": "no"}}),
    ]
    with QmpStub(path, script), QmpConnection(path) as connection:
        named = connection.exchange(QmpMessage({"execute": "query-status", "id": "mine"}))
        assert named == {"return": STATUS, "id": "mine"}
        assert connection.exchange(QmpMessage({"execute": "query-status"})) == {"return": STATUS}
        assert connection.exchange(QmpMessage({"execute": "x"}))["error"] == {"class": "CommandNotFound", "desc": "no"}


def test_what_cannot_be_encoded_is_the_callers_fault_and_costs_nothing(path: Path) -> None:
    with QmpStub(path, [(None, {"return": STATUS})]), QmpConnection(path) as connection:
        with pytest.raises(ProgrammerError):
            connection.execute("x", {"a": {1, 2}})
        with pytest.raises(ProgrammerError):
            connection.exchange(QmpMessage({"a": object()}))
        with pytest.raises(ProgrammerError, match="contains its arguments"):
            connection.execute(QueryStatus(), {"a": 1})  # type: ignore[call-overload]
        assert connection.execute(QueryStatus()).running


def test_a_reply_that_does_not_fit_names_the_place_and_the_connection_lives(path: Path) -> None:
    script = [(None, {"return": {**STATUS, "running": "yes"}}), (None, {"return": STATUS})]
    with QmpStub(path, script), QmpConnection(path) as connection:
        with pytest.raises(DataError) as caught:
            connection.execute(QueryStatus())
        assert caught.value.reason == "query-status.running: expected bool, got str"
        assert str(caught.value) == f"{path}: {caught.value.reason}"
        assert connection.execute(QueryStatus()).running


@pytest.mark.parametrize("garbage", [b"}{\r\n", b"\xff\xff\n", b"[]\n", b'{"QMP": {}}\n', b'{"id": 1}\n'])
def test_garbage_is_of_both_families_and_the_connection_lives(path: Path, garbage: bytes) -> None:
    with QmpStub(path, [(None, garbage), (None, {"return": STATUS})]), QmpConnection(path) as connection:
        with pytest.raises(HypervisorError) as caught:
            connection.execute(QueryStatus())
        assert isinstance(caught.value, DataError | ProtocolError)
        assert connection.execute(QueryStatus()).running


def test_garbage_of_a_peer_without_ids_ends_the_connection(path: Path) -> None:
    with QmpStub(path, [(None, b"}{\r\n")], echo_ids=False), QmpConnection(path) as connection:
        with pytest.raises(DataError):
            connection.execute(QueryStatus())
        with pytest.raises(ConnectionLost, match="hvkit closed the connection: not JSON"):
            connection.execute(QueryStatus())


@pytest.mark.parametrize("echo_ids", [True, False])
def test_after_a_timeout_the_late_reply_is_dropped(path: Path, echo_ids: bool, released: threading.Event) -> None:
    script = [(None, [WaitFor(released), {"return": "late"}]), (None, {"return": "right"})]
    with QmpStub(path, script, echo_ids=echo_ids), QmpConnection(path) as connection:
        with pytest.raises(CommandTimeout, match=r"slow: no reply within 0\.1 s") as caught:
            connection.execute("slow", timeout=0.1)
        assert (caught.value.command, caught.value.timeout_s) == ("slow", 0.1)
        released.set()
        assert connection.execute("next") == "right"


def test_the_connections_deadline_holds_where_a_call_has_none(path: Path, released: threading.Event) -> None:
    with QmpStub(path, [(None, [WaitFor(released), OK])], check_on_exit=False):
        connection = QmpConnection(path, timeout=0.1)
        connection.connect()
        with pytest.raises(CommandTimeout):
            connection.exchange(QmpMessage({"execute": "slow"}))
        connection.close()


def test_a_babbling_peer_does_not_move_the_deadline(path: Path) -> None:
    babble = [Delay(0.03), STOPPED] * 100
    began = time.monotonic()
    with QmpStub(path, [(None, babble)], check_on_exit=False), QmpConnection(path) as connection:
        with pytest.raises(CommandTimeout):
            connection.execute("slow", timeout=0.2)
        assert time.monotonic() - began < 1.5


def test_a_peer_that_closes_in_mid_reply_names_the_command(path: Path) -> None:
    script = [(None, [STOPPED, CloseAfter(12, {"return": STATUS})])]
    with QmpStub(path, script), QmpConnection(path) as connection:
        with pytest.raises(ConnectionLost, match="fate unknown: query-status") as caught:
            connection.execute(QueryStatus())
        assert caught.value.commands == ("query-status",)
        assert connection.take_events() == [StopEvent()]
        with pytest.raises(ConnectionLost):
            connection.take_events()
        with pytest.raises(ConnectionLost):
            connection.execute(QueryStatus())
        assert not connection.is_connected


def test_a_connection_that_was_lost_connects_again(path: Path) -> None:
    with QmpStub(path, [(None, CLOSE), (None, {"return": STATUS})]):
        connection = QmpConnection(path)
        connection.connect()
        with pytest.raises(ConnectionLost):
            connection.execute(QueryStatus())
        connection.connect()
        assert connection.execute(QueryStatus()).running
        connection.close()


def test_the_last_words_of_a_peer_that_left_are_heard(path: Path) -> None:
    """Between two commands QEMU said why it goes, and went: sending fails, its words are there."""
    last = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}}
    with QmpStub(path, [(None, [OK, last, CLOSE])]), QmpConnection(path) as connection:
        connection.execute("stop")
        peer_left = threading.Event()
        while not peer_left.is_set():  # until the stub has closed, the command goes into its socket
            try:
                connection.execute("query-status", timeout=0.05)
            except CommandTimeout:
                continue
            except ConnectionLost:
                peer_left.set()
        assert connection.take_events() == [ShutdownEvent(guest=True, reason="guest-shutdown")]


def test_a_peer_that_does_not_read_costs_a_timeout_not_the_stream() -> None:
    """A message that was sent in part is finished before the next one begins."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    begin = threading.Event()
    seen: list[bytes] = []

    def peer() -> None:
        theirs.sendall(b'{"QMP": {"version": {}}}\n')
        theirs.recv(4096)
        theirs.sendall(b'{"return": {}, "id": 1}\n')
        begin.wait(10)
        data = b""
        while not data.endswith(b'"id":3}'):
            data += theirs.recv(65536)
        seen.extend(data.split(b"}{"))
        theirs.sendall(b'{"return": "late", "id": 2}\n{"return": "right", "id": 3}\n')

    thread = threading.Thread(target=peer)
    thread.start()
    connection = QmpConnection.from_socket(ours)
    connection.connect()
    with pytest.raises(CommandTimeout):
        connection.execute("big", {"data": "x" * 1_000_000}, timeout=0.2)
    begin.set()
    assert connection.execute("small") == "right"
    thread.join()
    connection.close()
    theirs.close()
    assert len(seen[0]) > 1_000_000
    assert b'"small"' in seen[1]


def test_a_command_of_which_nothing_was_sent_is_not_in_flight() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b'{"QMP": {"version": {}}}\n{"return": {}}\n')
    connection = QmpConnection.from_socket(ours)
    connection.connect()
    with pytest.raises(CommandTimeout):
        connection.execute("big", {"data": "x" * 10_000_000}, timeout=0.1)
    with pytest.raises(CommandTimeout):
        connection.execute("never-sent", timeout=0.1)
    theirs.close()
    with pytest.raises(ConnectionLost) as caught:
        connection.execute("x")
    assert "never-sent" not in caught.value.commands
    connection.close()


# ---- events


def test_events_in_between_are_kept_in_order(path: Path) -> None:
    greeting: list[Any] = [STOPPED, {"QMP": {"version": {}, "capabilities": []}}, RESUMED]
    newer = {"event": "NEWER_THAN_WE", "data": {"x": 1}}
    with QmpStub(path, [(None, [newer, OK])], greeting=greeting), QmpConnection(path) as connection:
        connection.execute("stop")
        events = connection.take_events()
        assert events == [StopEvent(), ResumeEvent(), GenericEvent(name="NEWER_THAN_WE", data={"x": 1})]
        assert events[0].timestamp == 1.0
        assert connection.take_events() == []


def test_an_event_that_does_not_fit_costs_no_other(path: Path) -> None:
    misfit = {"event": "DEVICE_DELETED", "data": {"path": 5}}
    with QmpStub(path, [(None, [STOPPED, misfit, RESUMED, misfit, OK])]), QmpConnection(path) as connection:
        connection.execute("one")
        assert connection.take_events() == [StopEvent()]
        with pytest.raises(DataError, match="DEVICE_DELETED"):
            connection.take_events()
        assert connection.take_events() == [ResumeEvent()]
        with pytest.raises(DataError, match="DEVICE_DELETED"):
            connection.take_events()
        assert connection.take_events() == []


def test_a_subscription_gets_its_types_and_nothing_from_before(path: Path) -> None:
    deleted = {"event": "DEVICE_DELETED", "data": {"device": "d1", "path": "/machine/peripheral/d1"}}
    script = [(None, [deleted, OK]), (None, [OK, STOPPED, deleted])]
    with QmpStub(path, script), QmpConnection(path) as connection:
        connection.execute("one")
        with connection.subscribe(DeviceDeletedEvent) as events:
            connection.execute("two")
            event = events.get(timeout=5)
            assert (event.device, event.path) == ("d1", "/machine/peripheral/d1")
            with pytest.raises(EventTimeout, match="DEVICE_DELETED"):
                events.get(timeout=0.05)
        assert [type(each) for each in connection.take_events()] == [DeviceDeletedEvent, StopEvent]


def test_a_subscription_matches_and_waits_with_one_deadline(path: Path) -> None:
    script = [(None, [OK, *({"event": "STOP"} if n % 2 else {"event": "NEWER", "data": {"n": n}} for n in range(6))])]
    with QmpStub(path, script), QmpConnection(path) as connection:
        everything = connection.subscribe()
        newer = connection.subscribe(GenericEvent, match=lambda event: event.data["n"] > 0)
        connection.execute("go")
        assert newer.get(timeout=5).data == {"n": 2}
        stop = everything.wait_for(lambda event: isinstance(event, StopEvent), timeout=5)
        assert isinstance(stop, StopEvent)
        began = time.monotonic()
        with pytest.raises(EventTimeout):
            everything.wait_for(lambda event: False, timeout=0.2)
        assert time.monotonic() - began < 1


def test_a_full_subscription_drops_the_oldest_and_counts(path: Path) -> None:
    script = [(None, [*({"event": "N", "data": {"n": n}} for n in range(5)), OK])]
    with (
        QmpStub(path, script),
        QmpConnection(path) as connection,
        connection.subscribe(GenericEvent, maxsize=2) as events,
    ):
        connection.execute("go")
        assert events.dropped == 3
        assert [events.get(timeout=1).data["n"] for _ in range(2)] == [3, 4]


def test_the_end_of_the_connection_ends_the_wait_for_events(path: Path) -> None:
    with QmpStub(path, [(None, [OK, STOPPED, CLOSE])]), QmpConnection(path) as connection:
        heard = iter(connection.subscribe())
        connection.execute("go")
        assert next(heard) == StopEvent()
        with pytest.raises(ConnectionLost, match="closed the connection"):
            next(heard)


def test_an_event_that_does_not_fit_is_a_data_error_and_consumed(path: Path) -> None:
    bad = {"event": "SHUTDOWN", "data": {"guest": "perhaps"}}
    good = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}}
    with QmpStub(path, [(None, [bad, good, OK])]), QmpConnection(path) as connection:
        events = connection.subscribe(ShutdownEvent)
        connection.execute("go")
        with pytest.raises(DataError, match=r"SHUTDOWN\.guest: expected bool, got str"):
            events.get(timeout=1)
        assert events.get(timeout=1).guest


# ---- threads


def test_threads_get_their_own_answers(path: Path) -> None:
    """Eight threads, each asking for its own number; replies carry it, and events come in between."""
    rounds, workers = 100, 8

    def echo(request: dict[str, Any]) -> list[Any]:
        return [STOPPED, {"return": request["arguments"]["n"]}]

    wrong: list[Any] = []
    with QmpStub(path, [(None, echo)] * (rounds * workers)), QmpConnection(path) as connection:

        def work(worker: int) -> None:
            for number in range(rounds):
                asked = worker * rounds + number
                answer = connection.execute("echo", {"n": asked}, timeout=30)
                if answer != asked:
                    wrong.append((asked, answer))

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
        with connection.subscribe(StopEvent) as events:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [events.get(timeout=5) for _ in range(rounds * workers)] == [StopEvent()] * (rounds * workers)
    assert wrong == []


def test_closing_wakes_everybody(path: Path) -> None:
    outcomes: list[QmpError] = []
    with QmpStub(path, [(None, SILENCE)] * 3, check_on_exit=False) as stub:
        connection = QmpConnection(path)
        connection.connect()
        events = connection.subscribe()

        def wait(use: Any) -> None:
            try:
                use()
            except QmpError as error:
                outcomes.append(error)

        uses = [lambda: connection.execute("a", timeout=60)] * 2 + [lambda: events.get(timeout=60)] * 2
        threads = [threading.Thread(target=wait, args=(use,)) for use in uses]
        for thread in threads:
            thread.start()
        stub.wait_for_requests(3)
        connection.close()
        for thread in threads:
            thread.join(5)
    assert [type(outcome) for outcome in outcomes] == [ConnectionLost] * 4
    assert all("was closed" in str(outcome) for outcome in outcomes)


def test_one_threads_timeout_leaves_the_reading_to_the_others(path: Path, released: threading.Event) -> None:
    answers: list[Any] = []
    script = [(None, SILENCE), (None, [WaitFor(released), {"return": "right"}])]
    with QmpStub(path, script) as stub, QmpConnection(path) as connection:

        def impatient() -> None:
            with pytest.raises(CommandTimeout):
                connection.execute("impatient", timeout=0.2)
            released.set()

        reader = threading.Thread(target=impatient)
        reader.start()
        stub.wait_for_requests(2)
        other = threading.Thread(target=lambda: answers.append(connection.execute("patient", timeout=30)))
        other.start()
        reader.join()
        other.join()
    assert answers == ["right"]


class Interrupted(BaseException):
    """What a signal handler raises."""


def test_an_interrupt_while_waiting_leaves_the_connection_right_or_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        with QmpStub(
            path, [(None, [Delay(0.4), {"return": "late"}]), (None, {"return": "right"})], check_on_exit=False
        ):
            connection = QmpConnection(path)
            connection.connect()
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Interrupted):
                connection.execute("slow", timeout=10)
            with pytest.raises(ConnectionLost, match="interrupted"):
                connection.execute("next")
            connection.connect()
            assert connection.execute("next") == "right"
            connection.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


# ---- size


def test_a_large_reply_takes_linear_time(path: Path) -> None:
    """64 MB in well under what a quadratic buffer needs for 8 MB, which is 20 s."""
    large = "x" * (64 * 1024 * 1024)
    with QmpStub(path, [(None, {"return": large})]), QmpConnection(path) as connection:
        assert connection.execute("large", timeout=60) == large


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_from_a_peer_are_survived(pieces: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b'{"QMP": {"version": {}}}\n{"return": {}, "id": 1}\n')
    connection = QmpConnection.from_socket(ours)
    connection.connect()
    theirs.sendall(b"".join(pieces))
    theirs.close()
    with pytest.raises(QmpError):
        connection.execute(QueryStatus(), timeout=5)
    connection.close()


def test_a_flood_of_events_nobody_takes_is_bounded() -> None:
    """200,000 events: the newest 1,000 are kept for `take_events`, a subscription holds what it was told to."""
    ours, theirs = socket.socketpair()
    theirs.sendall(b'{"QMP": {"version": {}}}\n{"return": {}, "id": 1}\n')
    connection = QmpConnection.from_socket(ours)
    connection.connect()

    def flood(request_id: int) -> None:
        events = b"".join(b'{"event": "N", "data": {"n": %d}}\r\n' % number for number in range(200_000))
        theirs.sendall(events + b'{"return": {}, "id": %d}\n' % request_id)

    with connection.subscribe(StopEvent) as none, connection.subscribe(GenericEvent, maxsize=10) as few:
        flooding = threading.Thread(target=flood, args=(2,))
        flooding.start()
        connection.execute("query-status", timeout=60)
        flooding.join()
        assert few.dropped == 199_990
        assert [few.get(timeout=1).data["n"] for _ in range(10)] == list(range(199_990, 200_000))
        assert (none.dropped, none.is_ready) == (0, False)
    flooding = threading.Thread(target=flood, args=(3,))
    flooding.start()
    connection.execute("query-status", timeout=60)
    flooding.join()
    kept = connection.take_events()
    assert kept[0] == GenericEvent(name="N", data={"n": 199_000})
    assert len(kept) == 1000
    connection.close()
    theirs.close()


# ---- what interrupts and threads do


def test_signals_do_not_move_a_deadline(path: Path, released: threading.Event) -> None:
    """A handler that returns has Python call the kernel again; the time that is left must not begin anew."""
    previous = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        with QmpStub(path, [(None, [WaitFor(released), OK])], check_on_exit=False), QmpConnection(path) as connection:
            signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
            began = time.monotonic()
            with pytest.raises(CommandTimeout):
                connection.execute("slow", timeout=0.4)
            assert time.monotonic() - began < 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_signals_do_not_move_the_deadline_of_connecting(path: Path) -> None:
    previous = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
            listener.bind(str(path))
            listener.listen(0)
            first.connect(str(path))
            signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
            began = time.monotonic()
            with pytest.raises(ConnectError, match="the backlog of the socket stayed full"):
                QmpConnection(path).connect(timeout=0.4)
            assert time.monotonic() - began < 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_a_peer_that_reads_slowly_does_not_move_a_deadline() -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    theirs.sendall(b'{"QMP": {"version": {}}}\n{"return": {}, "id": 1}\n')
    connection = QmpConnection.from_socket(ours)
    connection.connect()
    is_over = threading.Event()

    def read_slowly() -> None:
        while not is_over.wait(0.01):
            with contextlib.suppress(BlockingIOError):  # the command is not encoded yet
                theirs.recv(1000, socket.MSG_DONTWAIT)

    reader = threading.Thread(target=read_slowly)
    reader.start()
    began = time.monotonic()
    with pytest.raises(CommandTimeout):
        connection.execute("big", {"data": "x" * 4_000_000}, timeout=0.3)
    assert time.monotonic() - began < 2
    is_over.set()
    reader.join()
    connection.close()
    theirs.close()


@pytest.mark.parametrize("echo_ids", [True, False])
def test_an_interrupt_anywhere_leaves_the_connection_right_or_closed(path: Path, echo_ids: bool) -> None:
    """The handler raises at a random moment of many exchanges; each answer carries the number of its question."""

    def interrupt(*_: Any) -> None:
        raise Interrupted

    def echo(request: dict[str, Any]) -> list[Any]:
        return [STOPPED, {"return": request["arguments"]["n"]}]

    interrupted = timed_out = 0
    previous = signal.signal(signal.SIGALRM, interrupt)
    rng = random.Random(4711)
    try:
        with QmpStub(path, [(None, echo)] * 100_000, echo_ids=echo_ids, check_on_exit=False):
            connection = QmpConnection(path)
            for number in range(400):
                try:
                    if not connection.is_connected:
                        connection.connect()
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00001, 0.0008))
                    try:
                        assert connection.execute("echo", {"n": number}, timeout=2) == number
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except Interrupted:
                    interrupted += 1
                except ConnectionLost:
                    connection.close()
                except CommandTimeout:
                    timed_out += 1
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            connection.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert interrupted > 10
    assert timed_out == 0


def test_a_signal_handler_may_close_the_connection(path: Path, released: threading.Event) -> None:
    with QmpStub(path, [(None, [WaitFor(released), OK])], check_on_exit=False):
        connection = QmpConnection(path)
        connection.connect()
        previous = signal.signal(signal.SIGALRM, lambda *_: connection.close())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(ConnectionLost, match="was closed"):
                connection.execute("slow", timeout=10)
        finally:
            signal.signal(signal.SIGALRM, previous)


def test_a_connection_that_another_thread_opens_can_be_closed_but_not_opened(path: Path) -> None:
    outcomes: list[Exception] = []

    def connect() -> None:
        try:
            connection.connect(timeout=20)
        except ConnectError as error:
            outcomes.append(error)

    with QmpStub(path, greeting=None):
        connection = QmpConnection(path)
        thread = threading.Thread(target=connect)
        thread.start()
        refused = None
        while refused is None or ("another thread" not in refused and "is open" not in refused):
            try:
                connection.connect(timeout=0.01)
            except (ProgrammerError, ConnectError) as error:
                refused = str(error)
        connection.close()
        thread.join(10)
    assert not connection.is_connected
    assert "was closed" in str(outcomes[0])


# ---- depth, descriptors, limits


def test_data_nested_too_deeply_is_a_data_error() -> None:
    image: dict[str, Any] = {"filename": "f", "format": "raw", "virtual-size": 1}
    for _ in range(3000):
        image = {"filename": "f", "format": "qcow2", "virtual-size": 1, "backing-image": image}
    with pytest.raises(DataError, match="nested too deeply"):
        structure(image, ImageInfo)


def test_deep_messages_are_logged_as_such(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    deep = b'{"return": ' + b"[" * 900 + b"]" * 900 + b', "id": 2}\n'
    caplog.set_level("DEBUG", logger="hvkit.qmp")
    with QmpStub(path, [(None, deep)]), QmpConnection(path) as connection:
        connection.execute("query-status")
    assert "too deeply" in caplog.text


def test_arguments_nested_too_deeply_are_the_callers_fault(path: Path) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    with QmpStub(path, [(None, {"return": STATUS})], echo_ids=False), QmpConnection(path) as connection:
        with pytest.raises(ProgrammerError, match="nested too deeply"):
            connection.execute("x", {"a": deep})
        assert connection.execute(QueryStatus()).running


@pytest.mark.parametrize("fds", [["x"], [-1], [9999], [2**40], [0] * 300])
def test_what_is_no_descriptor_is_the_callers_fault_and_costs_nothing(path: Path, fds: Any) -> None:
    with QmpStub(path, [(None, {"return": STATUS})]), QmpConnection(path) as connection:
        with pytest.raises(ProgrammerError, match="descriptor"):
            connection.execute("getfd", {"fdname": "f"}, fds=fds)
        assert connection.execute(QueryStatus()).running


def test_the_longest_message_can_be_set(path: Path) -> None:
    with QmpStub(path, [(None, {"return": "x" * 300_000})]):
        connection = QmpConnection(path, max_message_bytes=100_000)
        connection.connect()
        with pytest.raises(ProtocolError, match="more than 100000 bytes"):
            connection.execute("large")
        connection.close()
