# SPDX-License-Identifier: BSD-2-Clause
from __future__ import annotations

import math
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import ConnectError
from hvkit.qmp.listener import QmpListener
from hvkit.qmp.schema import QueryStatus
from hvkit.testing import QmpStub
from paused_machine import reconnecting_monitor


def test_accept_returns_connection_ready_for_commands(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with QmpListener(path) as listener:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        caller = socket.socket(socket.AF_UNIX)
        caller.connect(str(path))
        with QmpStub(caller, [(None, {"return": {"status": "running", "running": True}})]):
            connection = listener.accept(timeout=5)
            assert connection.execute(QueryStatus()).running
            connection.close()
    assert not path.exists()
    listener.close()


def test_accept_without_monitor_raises_connect_error_at_the_deadline(tmp_path: Path) -> None:
    with (
        QmpListener(tmp_path / "s") as listener,
        pytest.raises(ConnectError, match=r"no monitor connected within 0\.1 s"),
    ):
        listener.accept(timeout=0.1)


def test_accept_with_timeout_of_zero_does_not_wait(tmp_path: Path) -> None:
    with QmpListener(tmp_path / "s") as listener, pytest.raises(ConnectError, match="no monitor connected within 0 s"):
        listener.accept(timeout=0)


@pytest.mark.parametrize("timeout", [2**31, 2**63, math.inf])
def test_accept_with_long_or_infinite_timeout_waits(tmp_path: Path, timeout: float) -> None:
    path = tmp_path / "s"
    with QmpListener(path) as listener, socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))
        with QmpStub(caller, []):
            listener.accept(timeout=timeout).close()


def test_accept_after_close_raises_programmer_error(tmp_path: Path) -> None:
    listener = QmpListener(tmp_path / "s")
    listener.close()
    with pytest.raises(ProgrammerError, match="after close"):
        listener.accept(timeout=0.1)


def test_accept_of_other_client_raises_connect_error(tmp_path: Path) -> None:
    with QmpListener(tmp_path / "s") as listener, socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(tmp_path / "s"))
        caller.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(ConnectError):
            listener.accept(timeout=5)


def test_listener_on_path_in_use_raises_connect_error(tmp_path: Path) -> None:
    with QmpListener(tmp_path / "s"), pytest.raises(ConnectError, match="cannot listen: Address already in use"):
        QmpListener(tmp_path / "s")


def test_listener_on_path_with_null_byte_raises_connect_error(tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match="cannot listen: the path contains a null byte"):
        QmpListener(f"{tmp_path}/a\0b")
    assert list(tmp_path.iterdir()) == []


def test_close_ends_waiting_accept(tmp_path: Path) -> None:
    listener = QmpListener(tmp_path / "s")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(listener.accept, timeout=30)
        listener.close()
        with pytest.raises((ConnectError, ProgrammerError), match=r"closed|after close"):
            waiting.result(timeout=10)


@pytest.mark.qemu
def test_accept_of_real_qemu_works_repeatedly(qemu_binary: str, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with QmpListener(path) as listener, reconnecting_monitor(qemu_binary, path):
        for _ in range(2):
            connection = listener.accept(timeout=20)
            assert connection.execute(QueryStatus()).status == "prelaunch"
            connection.close()


def test_accept_with_timeout_that_is_not_a_number_raises_programmer_error(tmp_path: Path) -> None:
    bad: Any = "5"
    with QmpListener(tmp_path / "s") as listener, pytest.raises(ProgrammerError, match="timeout must be a number"):
        listener.accept(timeout=bad)
