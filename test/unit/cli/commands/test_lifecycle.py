# SPDX-License-Identifier: BSD-2-Clause
"""The commands that start, stop, reboot and clean up instances, on the fake hypervisor."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hvkit.cli import EXIT_FAILED, EXIT_OK
from hvkit.hypervisor.fake import FakeHypervisor
from hvkit.testing.simulator import write_executable

RunCommand = Callable[..., Any]
PlayMonitor = Callable[[list[Any]], None]


def test_lifecycle_commands_print_states(run_fake: RunCommand, spec: Path) -> None:
    assert run_fake("start", spec).out == "web1: running\n"
    assert run_fake("list").out.splitlines() == [
        "NAME  STATE    PID  MEMORY  VCPUS",
        "web1  running  -    64 MiB  1",
    ]
    assert run_fake("reboot", "web1").out == "web1: running\n"
    assert run_fake("stop", "web1", "--timeout", "5").out == "web1: shutdown (shut down by the guest)\n"
    assert run_fake("cleanup", "web1").out == "web1: cleaned up\n"
    assert run_fake("list").out == "NAME  STATE  PID  MEMORY  VCPUS\n"


def test_cleanup_of_unknown_instance_succeeds_and_says_so(run_fake: RunCommand) -> None:
    result = run_fake("cleanup", "web1")
    assert (result.code, result.err) == (EXIT_OK, "")
    assert result.out == "web1: no such instance on this node; nothing to clean up\n"


def test_start_paused_prints_paused(run_fake: RunCommand, spec: Path) -> None:
    assert run_fake("start", "--paused", spec).out == "web1: paused\n"


def test_stop_force_prints_reason(run_fake: RunCommand, spec: Path) -> None:
    run_fake("start", spec)
    assert run_fake("stop", "--force", "web1").out == "web1: shutdown (stopped by force)\n"


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("1.5", 1.5), ("inf", math.inf), ("1e300", math.inf)])
def test_stop_passes_timeout(
    run_fake: RunCommand, spec: Path, monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    timeouts: list[float | None] = []
    stop = FakeHypervisor.stop_instance

    def stop_and_record(self: FakeHypervisor, name: str, *, timeout: float | None, **others: bool) -> None:
        timeouts.append(timeout)
        stop(self, name, **others)

    monkeypatch.setattr(FakeHypervisor, "stop_instance", stop_and_record)
    run_fake("start", spec)
    assert run_fake("stop", "web1", "--timeout", text).code == EXIT_OK
    assert timeouts == [seconds]


def test_start_of_running_instance_fails(run_fake: RunCommand, spec: Path) -> None:
    run_fake("start", spec)
    result = run_fake("start", spec)
    assert (result.code, result.err) == (EXIT_FAILED, "hvkit: web1: cannot be started (it is running)\n")


def test_stop_succeeds_with_unreadable_state_file(run_command: RunCommand, spec: Path, short_dir: Path) -> None:
    kvm = ("--run-dir", short_dir / "run", "--qemu", write_executable(short_dir))
    assert run_command(*kvm, "start", spec).code == EXIT_OK
    (short_dir / "run/instances/web1/runtime.json").write_text("{")
    result = run_command(*kvm, "stop", "--force", "web1")
    assert (result.code, result.err) == (EXIT_OK, "")
    assert result.out.startswith("web1: stopped; cannot read its state: ")
    assert run_command(*kvm, "cleanup", "web1").code == EXIT_OK


def test_start_with_directory_as_spec_fails(run_fake: RunCommand, tmp_path: Path) -> None:
    result = run_fake("start", tmp_path)
    assert (result.code, result.err) == (EXIT_FAILED, f"hvkit: {tmp_path}: Is a directory\n")


def test_start_with_missing_disk_names_file_and_key(run_command: RunCommand, spec: Path, short_dir: Path) -> None:
    spec.write_text(spec.read_text() + '[[disk]]\npath = "/nonexistent/disk"\n')
    kvm = ("--run-dir", short_dir / "run", "--qemu", write_executable(short_dir))
    result = run_command(*kvm, "start", spec)
    assert result.code == EXIT_FAILED
    assert result.err == f"hvkit: {spec}: disk[0].path: /nonexistent/disk: No such file or directory\n"


def test_start_with_unknown_parameter_names_file_and_key(run_fake: RunCommand, spec: Path) -> None:
    spec.write_text(spec.read_text() + "[parameters]\nguets = 'deaf'\n")
    result = run_fake("start", spec)
    assert result.code == EXIT_FAILED
    assert result.err == f"hvkit: {spec}: parameters.guets: no such parameter; did you mean guest?\n"
