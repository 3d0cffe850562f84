# SPDX-License-Identifier: BSD-2-Clause
"""Where a monitor can be, and what can travel beside the bytes."""

from __future__ import annotations

import array
import json
import os
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import CommandTimeout, ConnectError, QmpConnection, deadlines
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import QueryStatus
from hvkit.qmp.sync.transport import Transport
from hvkit.testing import Delay, QmpStub

STATUS = {"return": {"status": "running", "running": True}}


def test_an_abstract_socket_is_named_with_an_at_sign() -> None:
    name = f"hvkit-test-{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{name}")
    listener.listen(1)
    with QmpStub(listener, [(None, STATUS)]), QmpConnection(f"@{name}") as connection:
        assert connection.execute(QueryStatus()).running
        assert connection.peer_pid == os.getpid()


def test_a_host_and_a_port_make_a_tcp_connection() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with QmpStub(listener, [(None, STATUS)]), QmpConnection(("127.0.0.1", port)) as connection:
        assert connection.execute(QueryStatus()).running
        assert connection.peer_pid is None
    with pytest.raises(ConnectError, match=f"127.0.0.1:{port}: no process listens"):
        QmpConnection(("127.0.0.1", port)).connect()


def test_who_is_at_the_other_end_is_known_while_there_is_one() -> None:
    connection = QmpConnection("/nonexistent/monitor")
    with pytest.raises(ProgrammerError, match=r"peer_pid before connect\(\)"):
        _ = connection.peer_pid


def test_an_unknown_host_is_a_connect_error() -> None:
    with pytest.raises(ConnectError, match="unknown host"):
        QmpConnection(("no-such-host.invalid", 4444)).connect()


def test_descriptors_travel_with_their_command_and_stay_the_callers(tmp_path: Path) -> None:
    """The peer sees the descriptor with the first byte of the command, and none before or after."""
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


def test_the_end_of_a_transport_may_come_twice() -> None:
    ours, theirs = socket.socketpair()
    transport = Transport(ours, "pair")
    transport.shut_down()
    transport.close()
    transport.shut_down()
    transport.close()
    theirs.close()


def test_no_deadline_at_all_waits(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with QmpStub(path, [(None, [Delay(0.1), STATUS])]), QmpConnection(path) as connection:
        assert connection.execute(QueryStatus(), timeout=float("inf")).running


def test_receiving_past_the_deadline_takes_what_is_there() -> None:
    ours, theirs = socket.socketpair()
    transport = Transport(ours, "pair")
    assert transport.receive(Deadline(0)) is None
    theirs.sendall(b"x")
    assert transport.receive(Deadline(0)) == b"x"
    theirs.close()
    assert transport.receive(Deadline(0)) == b""
    transport.close()


# ---- deadlines, warnings, transcripts


def test_a_connection_may_have_deadlines_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "s"
    connection = QmpConnection(path, timeout=30, deadlines={"query-status": 0.1})
    with QmpStub(path, [(None, [Delay(0.5), STATUS])], check_on_exit=False):
        connection.connect()
        with pytest.raises(CommandTimeout, match=r"within 0\.1 s"):
            connection.execute(QueryStatus())
        connection.close()


def test_a_slow_reply_is_a_warning_not_a_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    monkeypatch.setitem(deadlines.TIMEOUT_CLASSES, "query-status", deadlines.TimeoutClass(5.0, 0.05))
    with QmpStub(path, [(None, [Delay(0.1), STATUS])]), QmpConnection(path) as connection:
        assert connection.execute(QueryStatus()).running
    assert "query-status took 0.1 s" in caplog.text


def test_a_transcript_has_every_message_and_no_secret(tmp_path: Path) -> None:
    path, transcript = tmp_path / "s", tmp_path / "transcript"
    script = [(None, [{"event": "STOP"}, {"return": {}}])]
    with QmpStub(path, script), QmpConnection(path, transcript=transcript) as connection:
        connection.execute("change-vnc-password", {"password": "opensesame"})
    lines = [json.loads(line) for line in transcript.read_text().splitlines()]
    assert [line["direction"] for line in lines] == ["<-", "->", "<-", "->", "<-", "<-"]
    assert lines[3]["message"]["execute"] == "change-vnc-password"
    assert "opensesame" not in transcript.read_text()
    assert stat.S_IMODE(transcript.stat().st_mode) == 0o600


def test_out_of_band_has_to_be_negotiated(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with QmpStub(path, [({"exec-oob": "migrate-pause"}, {"return": {}})]):
        with QmpConnection(path) as connection, pytest.raises(ProgrammerError, match="not negotiated"):
            connection.execute("migrate-pause", out_of_band=True)
        with QmpConnection(path, out_of_band=True) as connection:
            connection.execute("migrate-pause", out_of_band=True)
