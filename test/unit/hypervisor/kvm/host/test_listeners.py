# SPDX-License-Identifier: BSD-2-Clause
"""Listening unix sockets, and the processes that hold them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from spawner import KILL, Spawner

from hvkit.hypervisor.kvm.host.listeners import find_listener, holds_listener, is_listening, listen
from hvkit.hypervisor.kvm.host.process import ProcessError, open_process


def test_listen_creates_the_socket_with_mode_0600(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with listen(tmp_path / "s"):
            assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(old)


def test_socket_listens_until_the_process_that_inherited_it_ends(start: Spawner, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listen(path) as made:
        identity = start("/bin/sleep", "60", pass_fds=(made.fileno(),))
    assert is_listening(path)
    process = open_process(identity)
    assert process is not None
    with process:
        assert process.end(KILL)
    assert path.exists()
    assert not is_listening(path)


def test_listen_replaces_a_stale_socket(tmp_path: Path) -> None:
    listen(tmp_path / "s").close()
    assert not is_listening(tmp_path / "s")
    with listen(tmp_path / "s"):
        assert is_listening(tmp_path / "s")


def test_is_listening_is_true_for_a_full_backlog(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
            for waiting in (first, second):
                waiting.setblocking(False)
                try:
                    waiting.connect(path)
                except BlockingIOError:
                    break
            assert is_listening(tmp_path / "s")


def test_find_listener_uses_the_pid_file(start: Spawner, tmp_path: Path) -> None:
    with listen(tmp_path / "s") as made:
        identity = start("/bin/sleep", "60", pass_fds=(made.fileno(),))
    (tmp_path / "pid").write_text(f"{identity.pid}\n")
    assert find_listener(tmp_path / "s", tmp_path / "pid") == identity


def test_find_listener_rejects_the_pid_of_another_process(start: Spawner, tmp_path: Path) -> None:
    stranger = start("/bin/sleep", "60")
    (tmp_path / "pid").write_text(f"{stranger.pid}\n")
    with listen(tmp_path / "s"), pytest.raises(ProcessError, match="does not identify"):
        find_listener(tmp_path / "s", tmp_path / "pid", timeout_s=0.1)
    assert find_listener(tmp_path / "s", tmp_path / "pid", timeout_s=0.1) is None


def test_find_listener_without_pid_file_finds_the_session_leader(start: Spawner, tmp_path: Path) -> None:
    with listen(tmp_path / "s") as made:
        identity = start("/bin/sleep", "60", pass_fds=(made.fileno(),))
    assert find_listener(tmp_path / "s", tmp_path / "pid") == identity
    assert holds_listener(identity.pid, tmp_path / "s")
    assert not holds_listener(os.getpid(), tmp_path / "s")
