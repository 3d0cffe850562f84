# SPDX-License-Identifier: BSD-2-Clause
"""Addresses of monitors, and sockets with deadlines."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hvkit.qmp import ConnectError, QmpConnection
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import QueryStatus
from hvkit.qmp.sync.transport import Transport, connect
from hvkit.testing import QmpStub

STATUS = {"return": {"status": "running", "running": True}}


def test_connect_to_abstract_socket_uses_at_sign() -> None:
    name = f"hvkit-test-{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{name}")
    listener.listen(1)
    with QmpStub(listener, [(None, STATUS)]), QmpConnection(f"@{name}") as connection:
        assert connection.execute(QueryStatus()).running
        assert connection.peer_pid == os.getpid()


def test_connect_to_host_and_port_uses_tcp() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with QmpStub(listener, [(None, STATUS)]), QmpConnection(("127.0.0.1", port)) as connection:
        assert connection.execute(QueryStatus()).running
        assert connection.peer_pid is None
    with pytest.raises(ConnectError, match=f"127.0.0.1:{port}: no process listens"):
        QmpConnection(("127.0.0.1", port)).connect()


def test_connect_to_port_above_65535_raises_connect_error() -> None:
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1:65536: the port must be at most 65535"):
        connect(("127.0.0.1", 65536), Deadline(1))


def test_connect_to_path_with_null_byte_raises_connect_error(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(ConnectError, match="the path contains a null byte"):
            connect(f"{path}\0b", Deadline(1))


def test_connect_to_unknown_host_raises_connect_error() -> None:
    with pytest.raises(ConnectError, match="unknown host"):
        QmpConnection(("no-such-host.invalid", 4444)).connect()


def test_transport_shut_down_and_close_can_be_repeated() -> None:
    ours, theirs = socket.socketpair()
    transport = Transport(ours, "pair")
    transport.shut_down()
    transport.close()
    transport.shut_down()
    transport.close()
    theirs.close()


def test_receive_after_deadline_returns_available_data() -> None:
    ours, theirs = socket.socketpair()
    transport = Transport(ours, "pair")
    assert transport.receive(Deadline(0)) is None
    theirs.sendall(b"x")
    assert transport.receive(Deadline(0)) == b"x"
    theirs.close()
    assert transport.receive(Deadline(0)) == b""
    transport.close()
