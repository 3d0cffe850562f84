# SPDX-License-Identifier: BSD-2-Clause
"""The commands that report, on the fake hypervisor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from hvkit.cli import EXIT_INTERRUPTED
from hvkit.cli.commands.reports import describe_console
from hvkit.hypervisor import (
    Console,
    ConsoleKind,
    Instance,
    InstanceState,
    InstanceWatch,
    StopCause,
)
from hvkit.hypervisor.fake import FakeHypervisor
from hvkit.hypervisor.kvm.plan.parameters import TABLE

RunCommand = Callable[..., Any]
PlayMonitor = Callable[[list[Any]], None]


def change_instances_during_watch(fake: FakeHypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change an instance whenever the watch waits; raise KeyboardInterrupt at the end."""
    fake.start_instance(Instance(name="web1", memory_mib=64))
    changes: list[Callable[[], object]] = [
        lambda: fake.start_instance(Instance(name="web2", memory_mib=64), start_paused=True),
        lambda: fake.balloon_instance_memory("web1", 32),
        lambda: fake.fail_instance("web2", "test failure"),
        lambda: fake.cleanup_instance("web2"),
    ]

    def wait_for_event(_watch: InstanceWatch, _timeout_s: float) -> None:
        if not changes:
            raise KeyboardInterrupt
        changes.pop(0)()

    monkeypatch.setattr(InstanceWatch, "_wait_for_event", wait_for_event)


def test_watch_prints_changes(run_fake: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    change_instances_during_watch(FakeHypervisor(run_dir=tmp_path / "run"), monkeypatch)
    result = run_fake("watch")
    assert result.out.splitlines() == [
        "web1: running",
        "web2: paused",
        "web1: running, 64 -> 32 MiB",
        "web2: paused -> crashed (test failure)",
        "web2: cleaned up",
    ]
    assert result.code == EXIT_INTERRUPTED


def test_watch_json_prints_objects(run_fake: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    change_instances_during_watch(FakeHypervisor(run_dir=tmp_path / "run"), monkeypatch)
    lines = [json.loads(line) for line in run_fake("watch", "--json").out.splitlines()]
    assert [line["name"] for line in lines] == ["web1", "web2", "web1", "web2", "web2"]
    assert lines[0]["before"] is None
    assert lines[3]["after"]["state"] == "crashed"
    assert lines[4]["after"] is None


@pytest.mark.parametrize("command", [("list", "--json"), ("show", "web1"), ("show", "--json", "web1")])
def test_list_and_show_print_stop_cause(
    run_fake: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, ...]
) -> None:
    fake = FakeHypervisor(run_dir=tmp_path / "run")
    fake.start_instance(Instance(name="web1", memory_mib=64))
    info = attrs.evolve(fake.get_instance_info("web1"), state=InstanceState.SHUTDOWN, cause=StopCause.GUEST)
    monkeypatch.setattr(FakeHypervisor, "get_all_instances_info", lambda _: [info])
    monkeypatch.setattr(FakeHypervisor, "get_instance_info", lambda _, name: info)
    assert StopCause.GUEST.value in run_fake(*command).out


def test_show_prints_outline(run_fake: RunCommand, spec: Path) -> None:
    run_fake("start", spec)
    assert run_fake("show", "web1").out.splitlines()[:3] == [
        "name: web1",
        "uuid: 11111111-2222-3333-4444-555555555555",
        "state: running",
    ]


def test_json_output_of_list_and_show_agrees(run_fake: RunCommand, spec: Path) -> None:
    run_fake("start", spec)
    shown = json.loads(run_fake("show", "web1", "--json").out)
    assert (shown["state"], shown["pid"], shown["memory_mib"]) == ("running", None, 64)
    assert json.loads(run_fake("list", "--json").out) == [shown]


def test_console_prints_message(run_fake: RunCommand, spec: Path) -> None:
    run_fake("start", spec)
    assert run_fake("console", "web1").out == "a fake instance has no console\n"


@pytest.mark.parametrize(
    ("console", "text"),
    [
        (Console(instance="a", kind=ConsoleKind.SERIAL, path="/s", command=("socat", "a b")), "socat 'a b'"),
        (Console(instance="a", kind=ConsoleKind.VNC, host="::1", port=5900), "vnc ::1:5900"),
        (Console(instance="a", kind=ConsoleKind.SPICE, path="/run/spice"), "spice /run/spice"),
    ],
)
def test_describe_console_returns_command_or_address(console: Console, text: str) -> None:
    assert describe_console(console) == text


def test_parameters_prints_default_and_doc(run_command: RunCommand) -> None:
    lines = run_command("parameters", "fake").out.splitlines()
    assert lines[:2] == [
        'start_failure = ""',
        "    Reason of the error that a start raises. Empty: the start succeeds.",
    ]
    assert 'guest = "obedient"' in lines


def test_parameters_json_lists_kvm_table(run_command: RunCommand) -> None:
    listed = json.loads(run_command("parameters", "--json").out)
    assert [each["name"] for each in listed] == list(TABLE)
    assert {each["type"] for each in listed} <= {"bool", "int", "float", "str"}


def test_parameters_prints_conditions_that_hold_on_every_node(run_command: RunCommand) -> None:
    text = " ".join(run_command("parameters", "kvm").out.split())
    assert "On the node: true only if swtpm is installed." in text
    assert "swtpm is not installed" not in text
