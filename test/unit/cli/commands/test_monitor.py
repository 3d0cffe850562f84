# SPDX-License-Identifier: BSD-2-Clause
"""The command ``qmp`` against a scripted monitor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hvkit.cli import EXIT_FAILURE, EXIT_OK, EXIT_USAGE
from hvkit.cli.settings import Settings
from hvkit.hypervisor.fake import FakeHypervisor
from hvkit.qmp import QmpConnection
from hvkit.testing import QmpStub

RunCommand = Callable[..., Any]
PlayMonitor = Callable[[list[Any]], None]


@pytest.fixture
def play_monitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayMonitor]:
    """Give every instance a scripted monitor."""
    stubs: list[QmpStub] = []

    class Monitored(FakeHypervisor):
        @contextmanager
        def monitor(self, name: str) -> Iterator[QmpConnection]:
            with QmpConnection(tmp_path / "monitor") as connection:
                yield connection

    def play(script: list[Any]) -> None:
        stub = QmpStub(tmp_path / "monitor", script)
        stub.__enter__()
        stubs.append(stub)

    monkeypatch.setattr(Settings, "open", lambda self: Monitored(run_dir=tmp_path / "run"))
    yield play
    for stub in stubs:
        stub.__exit__(None, None, None)


STATUS = {"status": "running", "running": True, "singlestep": False}


def test_qmp_prints_reply_as_outline(run_command: RunCommand, play_monitor: PlayMonitor) -> None:
    play_monitor([({"execute": "query-status"}, {"return": STATUS})])
    result = run_command("qmp", "web1", "query-status")
    assert result.code == EXIT_OK
    assert sorted(result.out.splitlines()) == ["running: true", "singlestep: false", "status: running"]


def test_qmp_json_prints_reply_as_received(run_command: RunCommand, play_monitor: PlayMonitor) -> None:
    play_monitor([({"execute": "query-status"}, {"return": {**STATUS, "new-member": [1]}})])
    assert json.loads(run_command("qmp", "web1", "query-status", "--json").out) == {**STATUS, "new-member": [1]}


def test_qmp_sends_typed_arguments(run_command: RunCommand, play_monitor: PlayMonitor) -> None:
    arguments = {"driver": "qcow2", "read-only": True, "file": {"driver": "file", "filename": "/a"}}
    play_monitor([({"execute": "blockdev-add", "arguments": arguments}, {"return": {}})])
    result = run_command(
        "qmp", "web1", "blockdev-add", "driver=qcow2", "read-only=on", "file.driver=file", "file.filename=/a"
    )
    assert (result.code, result.out) == (EXIT_OK, "")


def test_qmp_sends_command_unknown_to_schema(run_command: RunCommand, play_monitor: PlayMonitor) -> None:
    play_monitor([({"execute": "x-brand-new", "arguments": {"a": 1, "b": {"c": "d"}}}, {"return": {"x": 1}})])
    assert run_command("qmp", "web1", "x-brand-new", "a=1", "b.c=d").out == "x: 1\n"


def test_qmp_error_reply_fails(run_command: RunCommand, play_monitor: PlayMonitor) -> None:
    error = {"class": "DeviceNotFound", "desc": "Device 'x' not found"}
    play_monitor([({"execute": "device_del", "arguments": {"id": "x"}}, {"error": error})])
    result = run_command("qmp", "web1", "device_del", "id=x")
    assert (result.code, result.err) == (EXIT_FAILURE, "hvkit: web1: device_del: Device 'x' not found\n")


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("query-blok", EXIT_USAGE, "hvkit: query-blok: not found; did you mean query-block"),
        ("xyzzy", EXIT_FAILURE, "hvkit: web1: xyzzy: not found\n"),
        ("query-status", EXIT_FAILURE, "hvkit: web1: query-status: not found\n"),
    ],
)
def test_qmp_command_unknown_to_qemu_fails_with_suggestion(
    run_command: RunCommand, play_monitor: PlayMonitor, command: str, code: int, text: str
) -> None:
    play_monitor([({"execute": command}, {"error": {"class": "CommandNotFound", "desc": "not found"}})])
    result = run_command("qmp", "web1", command)
    assert result.code == code
    assert result.err.startswith(text)


def test_qmp_with_invalid_argument_sends_nothing(run_command: RunCommand, play_monitor: PlayMonitor) -> None:
    play_monitor([])
    result = run_command("qmp", "web1", "block_resize", "size=big")
    assert result.code == EXIT_USAGE
    assert "block_resize: size: expected an integer, got 'big'" in result.err


def test_qmp_with_invalid_reply_fails(run_command: RunCommand, play_monitor: PlayMonitor) -> None:
    play_monitor([({"execute": "query-status"}, {"return": {**STATUS, "running": "yes"}})])
    result = run_command("qmp", "web1", "query-status")
    assert result.code == EXIT_FAILURE
    assert result.err == "hvkit: web1: query-status.running: expected bool, got str\n"


@pytest.mark.parametrize("words", [("x=" + "[" * 9999,), ("a." * 5000 + "a=1",)])
def test_qmp_rejects_deep_argument(run_command: RunCommand, play_monitor: PlayMonitor, words: tuple[str, ...]) -> None:
    play_monitor([])
    result = run_command("qmp", "web1", "nosuch", *words)
    assert result.code == EXIT_USAGE
    assert result.has_one_error_line
    assert "is nested too deeply" in result.err


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_qmp_with_deep_reply_fails(run_command: RunCommand, play_monitor: PlayMonitor, words: tuple[str, ...]) -> None:
    reply: Any = 1
    for _ in range(300):
        reply = {"a": reply}
    play_monitor([({"execute": "x-deep"}, {"return": reply})])
    result = run_command("qmp", "web1", "x-deep", *words)
    assert (result.code, result.err) == (
        EXIT_FAILURE,
        "hvkit: x-deep: cannot print the reply: it is nested too deeply\n",
    )
