# SPDX-License-Identifier: BSD-2-Clause
"""The blocking connection against a stub: cases that a real QEMU does not show on demand."""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
    QmpMessage,
    deadlines,
)
from hvkit.qmp.converter import structure
from hvkit.qmp.schema import (
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


def test_execute_takes_typed_commands_and_wire_names(path: Path) -> None:
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


def test_methods_before_connect_raise_programmer_error(path: Path) -> None:
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


def test_connect_twice_raises_programmer_error_and_keeps_the_connection(path: Path) -> None:
    with QmpStub(path, [(None, {"return": STATUS})]), QmpConnection(path) as connection:
        with pytest.raises(ProgrammerError, match="a connection that is open"):
            connection.connect()
        assert connection.execute("query-status") == STATUS


def test_connect_after_close_connects_again(path: Path) -> None:
    with QmpStub(path, [(None, {"return": 1}), (None, {"return": 2})]):
        connection = QmpConnection(path)
        for expected in (1, 2):
            connection.connect()
            assert connection.execute("query-status") == expected
            connection.close()
            connection.close()


def test_connect_to_missing_socket_names_it(path: Path) -> None:
    with pytest.raises(ConnectError, match=r"qmp\.sock: there is no such socket") as caught:
        QmpConnection(path).connect()
    assert caught.value.address == str(path)


def test_connect_to_socket_without_listener_names_it(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    with pytest.raises(ConnectError, match="no process listens"):
        QmpConnection(path).connect()


def test_connect_with_too_long_path_raises_connect_error(tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match="too long"):
        QmpConnection(tmp_path / ("x" * 200)).connect()


def test_connect_to_regular_file_raises_connect_error(path: Path) -> None:
    path.write_text("")
    with pytest.raises(ConnectError):
        QmpConnection(path).connect()


@pytest.mark.parametrize("greeting", [{"hello": 1}, b"220 mail.example ESMTP\r\n", {"return": {}}, b"\xff\x00\n"])
def test_connect_with_invalid_greeting_raises_connect_error(path: Path, greeting: Any) -> None:
    with QmpStub(path, greeting=greeting), pytest.raises(ConnectError) as caught:
        QmpConnection(path).connect()
    assert "greeting" in caught.value.reason or "JSON" in caught.value.reason


def test_connect_without_greeting_raises_connect_error_at_the_deadline(path: Path) -> None:
    began = time.monotonic()
    with QmpStub(path, greeting=None), pytest.raises(ConnectError, match=r"no greeting within 0\.2 s: busy"):
        QmpConnection(path).connect(timeout=0.2)
    assert 0.15 < time.monotonic() - began < 2


def test_connect_to_busy_monitor_fails_and_succeeds_later(path: Path) -> None:
    with QmpStub(path, [(None, {"return": STATUS})]):
        with QmpConnection(path), pytest.raises(ConnectError, match="busy"):
            QmpConnection(path).connect(timeout=0.2)
        with QmpConnection(path) as connection:
            assert connection.execute(QueryStatus()).running


def test_connect_with_full_backlog_raises_connect_error_at_the_deadline(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(path))
            with pytest.raises(ConnectError, match=r"the backlog of the socket stayed full for 0\.2 s"):
                QmpConnection(path).connect(timeout=0.2)


def test_connect_to_server_that_closes_raises_connect_error(path: Path) -> None:
    with QmpStub(path, greeting=CLOSE), pytest.raises(ConnectError, match="closed the connection"):
        QmpConnection(path).connect()


def test_connect_with_rejected_negotiation_raises_connect_error(path: Path) -> None:
    refusal = {"error": {"class": "GenericError", "desc": "not you"}}
    with QmpStub(path, capabilities_reply=refusal), pytest.raises(ConnectError, match="not you"):
        QmpConnection(path).connect()


def test_connect_with_unanswered_negotiation_raises_connect_error(path: Path) -> None:
    with QmpStub(path, capabilities_reply=SILENCE), pytest.raises(ConnectError, match="no reply to qmp_capabilities"):
        QmpConnection(path).connect(timeout=0.2)


@pytest.mark.parametrize("version", [{}, {"qemu": {"major": 0, "minor": 12, "micro": 50}, "capabilities": []}])
@pytest.mark.parametrize("reply", [{"return": {}}, {"return": []}])
def test_connect_accepts_old_servers(path: Path, version: dict[str, Any], reply: dict[str, Any]) -> None:
    script = [(None, {"return": STATUS}), (None, {"error": {"class": "DeviceNotFound", "desc": "x", "data": {}}})]
    stub = QmpStub(path, script, greeting={"QMP": {"version": version}}, capabilities_reply=reply, echo_ids=False)
    with stub, QmpConnection(path) as connection:
        assert connection.execute(QueryStatus()).running
        with pytest.raises(DeviceNotFound):
            connection.execute("device_del", {"id": "x"})


def test_connect_to_server_that_reads_lines_sends_a_newline() -> None:
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
def test_from_socket_connects_only_once(is_descriptor: bool) -> None:
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


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 64])
def test_execute_with_split_reply_returns_it(path: Path, chunk_size: int) -> None:
    script = [(None, [STOPPED, {"return": STATUS}, RESUMED]), (None, {"return": [1, 2]})]
    with QmpStub(path, script, chunk_size=chunk_size), QmpConnection(path) as connection:
        assert connection.execute(QueryStatus()).running
        assert connection.execute("anything") == [1, 2]
        assert connection.take_events() == [StopEvent(), ResumeEvent()]


def test_execute_with_error_reply_raises_command_error_with_attributes(path: Path) -> None:
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


def test_exchange_sends_and_returns_raw_messages(path: Path) -> None:
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


def test_execute_of_invalid_command_raises_programmer_error_and_sends_nothing(path: Path) -> None:
    with QmpStub(path, [(None, {"return": STATUS})]), QmpConnection(path) as connection:
        with pytest.raises(ProgrammerError):
            connection.execute("x", {"a": {1, 2}})
        with pytest.raises(ProgrammerError):
            connection.exchange(QmpMessage({"a": object()}))
        with pytest.raises(ProgrammerError, match="contains its arguments"):
            connection.execute(QueryStatus(), {"a": 1})  # type: ignore[call-overload]
        assert connection.execute(QueryStatus()).running


def test_execute_with_invalid_reply_names_place_and_monitor(path: Path) -> None:
    script = [(None, {"return": {**STATUS, "running": "yes"}}), (None, {"return": STATUS})]
    with QmpStub(path, script), QmpConnection(path) as connection:
        with pytest.raises(DataError) as caught:
            connection.execute(QueryStatus())
        assert caught.value.reason == "query-status.running: expected bool, got str"
        assert str(caught.value) == f"{path}: {caught.value.reason}"
        assert connection.execute(QueryStatus()).running


@pytest.mark.parametrize("garbage", [b"}{\r\n", b"\xff\xff\n", b"[]\n", b'{"QMP": {}}\n', b'{"id": 1}\n'])
def test_execute_with_garbage_raises_and_keeps_the_connection(path: Path, garbage: bytes) -> None:
    with QmpStub(path, [(None, garbage), (None, {"return": STATUS})]), QmpConnection(path) as connection:
        with pytest.raises(HypervisorError) as caught:
            connection.execute(QueryStatus())
        assert isinstance(caught.value, DataError | ProtocolError)
        assert connection.execute(QueryStatus()).running


def test_execute_with_garbage_from_server_without_ids_ends_the_connection(path: Path) -> None:
    with QmpStub(path, [(None, b"}{\r\n")], echo_ids=False), QmpConnection(path) as connection:
        with pytest.raises(DataError):
            connection.execute(QueryStatus())
        with pytest.raises(ConnectionLost, match="hvkit closed the connection: not JSON"):
            connection.execute(QueryStatus())


@pytest.mark.parametrize("echo_ids", [True, False])
def test_execute_after_timeout_drops_the_late_reply(path: Path, echo_ids: bool, released: threading.Event) -> None:
    script = [(None, [WaitFor(released), {"return": "late"}]), (None, {"return": "right"})]
    with QmpStub(path, script, echo_ids=echo_ids), QmpConnection(path) as connection:
        with pytest.raises(CommandTimeout, match=r"slow: no reply within 0\.1 s") as caught:
            connection.execute("slow", timeout=0.1)
        assert (caught.value.command, caught.value.timeout_s) == ("slow", 0.1)
        released.set()
        assert connection.execute("next") == "right"


def test_execute_without_timeout_uses_that_of_the_connection(path: Path, released: threading.Event) -> None:
    with QmpStub(path, [(None, [WaitFor(released), OK])], check_on_exit=False):
        connection = QmpConnection(path, timeout=0.1)
        connection.connect()
        with pytest.raises(CommandTimeout):
            connection.exchange(QmpMessage({"execute": "slow"}))
        connection.close()


def test_execute_with_endless_events_keeps_its_deadline(path: Path) -> None:
    babble = [Delay(0.03), STOPPED] * 100
    began = time.monotonic()
    with QmpStub(path, [(None, babble)], check_on_exit=False), QmpConnection(path) as connection:
        with pytest.raises(CommandTimeout):
            connection.execute("slow", timeout=0.2)
        assert time.monotonic() - began < 1.5


def test_execute_with_partial_reply_names_the_lost_command(path: Path) -> None:
    script = [(None, [STOPPED, CloseAfter(12, {"return": STATUS})])]
    with QmpStub(path, script), QmpConnection(path) as connection:
        with pytest.raises(ConnectionLost, match="unknown whether executed: query-status") as caught:
            connection.execute(QueryStatus())
        assert caught.value.commands == ("query-status",)
        assert connection.take_events() == [StopEvent()]
        with pytest.raises(ConnectionLost):
            connection.take_events()
        with pytest.raises(ConnectionLost):
            connection.execute(QueryStatus())
        assert not connection.is_connected


def test_connect_after_connection_lost_connects_again(path: Path) -> None:
    with QmpStub(path, [(None, CLOSE), (None, {"return": STATUS})]):
        connection = QmpConnection(path)
        connection.connect()
        with pytest.raises(ConnectionLost):
            connection.execute(QueryStatus())
        connection.connect()
        assert connection.execute(QueryStatus()).running
        connection.close()


def test_execute_after_server_closed_reads_its_last_messages(path: Path) -> None:
    """The server closes between two commands: sending fails, and its last messages are read."""
    last = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}}
    with QmpStub(path, [(None, [OK, last, CLOSE])]), QmpConnection(path) as connection:
        connection.execute("stop")
        peer_left = threading.Event()
        while not peer_left.is_set():  # before the stub has closed, its socket still takes the command
            try:
                connection.execute("query-status", timeout=0.05)
            except CommandTimeout:
                continue
            except ConnectionLost:
                peer_left.set()
        assert connection.take_events() == [ShutdownEvent(guest=True, reason="guest-shutdown")]


def test_take_events_returns_events_in_order(path: Path) -> None:
    greeting: list[Any] = [STOPPED, {"QMP": {"version": {}, "capabilities": []}}, RESUMED]
    newer = {"event": "NEWER_THAN_WE", "data": {"x": 1}}
    with QmpStub(path, [(None, [newer, OK])], greeting=greeting), QmpConnection(path) as connection:
        connection.execute("stop")
        events = connection.take_events()
        assert events == [StopEvent(), ResumeEvent(), GenericEvent(name="NEWER_THAN_WE", data={"x": 1})]
        assert events[0].timestamp == 1.0
        assert connection.take_events() == []


def test_take_events_with_invalid_event_drops_only_that(path: Path) -> None:
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


def test_large_reply_takes_linear_time(path: Path) -> None:
    """64 MB takes less time than a quadratic buffer needs for 8 MB, which is 20 s."""
    large = "x" * (64 * 1024 * 1024)
    with QmpStub(path, [(None, {"return": large})]), QmpConnection(path) as connection:
        assert connection.execute("large", timeout=60) == large


def test_signals_do_not_extend_deadline_of_connect(path: Path) -> None:
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


def test_connect_while_another_thread_connects_raises_and_close_ends_it(path: Path) -> None:
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


def test_structure_of_deeply_nested_data_raises_data_error() -> None:
    image: dict[str, Any] = {"filename": "f", "format": "raw", "virtual-size": 1}
    for _ in range(3000):
        image = {"filename": "f", "format": "qcow2", "virtual-size": 1, "backing-image": image}
    with pytest.raises(DataError, match="nested too deeply"):
        structure(image, ImageInfo)


def test_log_of_deeply_nested_message_says_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    deep = b'{"return": ' + b"[" * 900 + b"]" * 900 + b', "id": 2}\n'
    caplog.set_level("DEBUG", logger="hvkit.qmp")
    with QmpStub(path, [(None, deep)]), QmpConnection(path) as connection:
        connection.execute("query-status")
    assert "too deeply" in caplog.text


def test_execute_with_deeply_nested_arguments_raises_programmer_error(path: Path) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    with QmpStub(path, [(None, {"return": STATUS})], echo_ids=False), QmpConnection(path) as connection:
        with pytest.raises(ProgrammerError, match="nested too deeply"):
            connection.execute("x", {"a": deep})
        assert connection.execute(QueryStatus()).running


@pytest.mark.parametrize("fds", [["x"], [-1], [9999], [2**40], [0] * 300])
def test_execute_with_invalid_descriptor_raises_programmer_error_and_sends_nothing(path: Path, fds: Any) -> None:
    with QmpStub(path, [(None, {"return": STATUS})]), QmpConnection(path) as connection:
        with pytest.raises(ProgrammerError, match="descriptor"):
            connection.execute("getfd", {"fdname": "f"}, fds=fds)
        assert connection.execute(QueryStatus()).running


def test_max_message_bytes_ends_connection_at_longer_message(path: Path) -> None:
    with QmpStub(path, [(None, {"return": "x" * 300_000})]):
        connection = QmpConnection(path, max_message_bytes=100_000)
        connection.connect()
        with pytest.raises(ProtocolError, match="more than 100000 bytes"):
            connection.execute("large")
        connection.close()


def test_peer_pid_before_connect_raises_programmer_error() -> None:
    connection = QmpConnection("/nonexistent/monitor")
    with pytest.raises(ProgrammerError, match=r"peer_pid before connect\(\)"):
        _ = connection.peer_pid


@pytest.mark.parametrize("is_read_before", [True, False])
def test_peer_pid_after_connection_lost_is_that_read_before(path: Path, is_read_before: bool) -> None:
    with QmpStub(path, [(None, CLOSE)]), QmpConnection(path) as connection:
        if is_read_before:
            assert connection.peer_pid == os.getpid()
        with pytest.raises(ConnectionLost):
            connection.execute(QueryStatus())
        assert connection.peer_pid == (os.getpid() if is_read_before else None)


def test_execute_sends_descriptors_with_the_command_and_leaves_them_open(tmp_path: Path) -> None:
    """The server receives the descriptor with the first byte of the command, and none before or after."""
    ours, theirs = socket.socketpair()
    theirs.sendall(b'{"QMP": {"version": {}}}\n{"return": {}}\n')
    connection = QmpConnection.from_socket(ours)
    connection.connect()
    theirs.recv(4096)
    note = tmp_path / "note"
    note.write_text("hello")
    received: list[Any] = []

    def peer() -> None:
        for _ in range(2):
            data, ancillary, _, _ = theirs.recvmsg(4096, socket.CMSG_SPACE(array.array("i").itemsize))
            fds = array.array("i")
            for _, _, payload in ancillary:
                fds.frombytes(payload)
            received.append((json.loads(data), [os.read(fd, 10) for fd in fds]))
            for fd in fds:
                os.close(fd)
            theirs.sendall(b'{"return": {}}\n')

    thread = threading.Thread(target=peer)
    thread.start()
    with note.open("rb") as file:
        connection.execute("getfd", {"fdname": "note"}, fds=[file.fileno()])
        connection.execute("query-status")
        os.fstat(file.fileno())
    thread.join()
    connection.close()
    theirs.close()
    assert [(request["execute"], contents) for request, contents in received] == [
        ("getfd", [b"hello"]),
        ("query-status", []),
    ]


def test_execute_with_infinite_timeout_waits(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with QmpStub(path, [(None, [Delay(0.1), {"return": STATUS}])]), QmpConnection(path) as connection:
        assert connection.execute(QueryStatus(), timeout=float("inf")).running


def test_connection_deadlines_take_precedence_over_timeout(tmp_path: Path) -> None:
    path = tmp_path / "s"
    connection = QmpConnection(path, timeout=30, deadlines={"query-status": 0.1})
    with QmpStub(path, [(None, [Delay(0.5), {"return": STATUS}])], check_on_exit=False):
        connection.connect()
        with pytest.raises(CommandTimeout, match=r"within 0\.1 s"):
            connection.execute(QueryStatus())
        connection.close()


def test_execute_with_slow_reply_logs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    monkeypatch.setitem(deadlines.TIMEOUT_CLASSES, "query-status", deadlines.TimeoutClass(5.0, 0.05))
    with QmpStub(path, [(None, [Delay(0.1), {"return": STATUS}])]), QmpConnection(path) as connection:
        assert connection.execute(QueryStatus()).running
    assert "query-status took 0.1 s" in caplog.text


def test_transcript_has_every_message_and_no_secret(tmp_path: Path) -> None:
    path, transcript = tmp_path / "s", tmp_path / "transcript"
    script = [(None, [{"event": "STOP"}, {"return": {}}])]
    with QmpStub(path, script), QmpConnection(path, transcript=transcript) as connection:
        connection.execute("change-vnc-password", {"password": "opensesame"})
    lines = [json.loads(line) for line in transcript.read_text().splitlines()]
    assert [line["direction"] for line in lines] == ["<-", "->", "<-", "->", "<-", "<-"]
    assert lines[3]["message"]["execute"] == "change-vnc-password"
    assert "opensesame" not in transcript.read_text()
    assert stat.S_IMODE(transcript.stat().st_mode) == 0o600


def test_execute_out_of_band_without_negotiation_raises_programmer_error(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with QmpStub(path, [({"exec-oob": "migrate-pause"}, {"return": {}})]):
        with QmpConnection(path) as connection, pytest.raises(ProgrammerError, match="not negotiated"):
            connection.execute("migrate-pause", out_of_band=True)
        with QmpConnection(path, out_of_band=True) as connection:
            connection.execute("migrate-pause", out_of_band=True)


@pytest.mark.parametrize("timeout", ["5", True, float("nan")])
def test_timeout_that_is_not_a_number_raises_programmer_error_and_sends_nothing(path: Path, timeout: Any) -> None:
    with pytest.raises(ProgrammerError, match="timeout must be a number"):
        QmpConnection(path, timeout=timeout)
    with pytest.raises(ProgrammerError, match="timeout must be a number"):
        QmpConnection(path, deadlines={"stop": timeout})
    with QmpStub(path, [(None, {"return": STATUS})]) as stub:
        connection = QmpConnection(path)
        with pytest.raises(ProgrammerError, match="timeout must be a number"):
            connection.connect(timeout=timeout)
        connection.connect()
        with pytest.raises(ProgrammerError, match="timeout must be a number"):
            connection.execute(Stop(), timeout=timeout)
        with pytest.raises(ProgrammerError, match="timeout must be a number"):
            connection.exchange(QmpMessage({"execute": "stop"}), timeout=timeout)
        with connection.subscribe() as events, pytest.raises(ProgrammerError, match="timeout must be a number"):
            events.get(timeout=timeout)
        assert connection.execute(QueryStatus()).running
        connection.close()
    assert [request["execute"] for request in stub.requests if request["execute"] != "qmp_capabilities"] == [
        "query-status"
    ]


def test_errors_name_the_monitor(path: Path, released: threading.Event) -> None:
    script = [
        (None, {"error": {"class": "GenericError", "desc": "no"}}),
        (None, b"[]\n"),
        (None, {"error": {"class": "GenericError", "desc": "no"}}),
        (None, [WaitFor(released), OK]),
    ]
    with QmpStub(path, script, check_on_exit=False), QmpConnection(path) as connection:
        with pytest.raises(CommandError) as refused:
            connection.execute(Stop())
        with pytest.raises(DataError) as invalid:
            connection.execute(Stop())
        assert connection.exchange(QmpMessage({"execute": "stop"}))["error"] is not None
        with pytest.raises(CommandTimeout) as late:
            connection.execute(Stop(), timeout=0.1)
        with connection.subscribe(StopEvent) as events, pytest.raises(EventTimeout) as silent:
            events.get(timeout=0)
    for caught in (refused, invalid, late, silent):
        assert caught.value.monitor == str(path)
        assert str(caught.value) == f"{path}: {caught.value.reason}"


def test_debug_log_names_the_monitor_in_every_record(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "hvkit.qmp")
    script = [(None, [STOPPED, b"}{\n"]), (None, {"return": STATUS})]
    with QmpStub(path, script), QmpConnection(path) as connection:
        with pytest.raises(DataError):
            connection.execute(QueryStatus())
        connection.execute(QueryStatus())
    records = [record for record in caplog.records if record.name == "hvkit.qmp"]
    assert {record.levelname for record in records} == {"DEBUG", "WARNING"}
    assert all(record.getMessage().startswith(f"{path}: ") for record in records)
    assert {record.filename for record in records} == {"protocol.py"}
