# SPDX-License-Identifier: BSD-2-Clause
"""The demo runs all steps, and leaves nothing behind after a failure or a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from hvkit.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, demo
from hvkit.cli.settings import Settings
from hvkit.errors import HypervisorError

RunCommand = Callable[..., Any]

PROGRAM: Final = "import sys; from hvkit.cli import main; sys.exit(main())"

STEPS: Final = (
    "state=<InstanceState.PAUSED",
    "StatusInfo(running=False, status='prelaunch'",
    "ResumeEvent() at ",
    "<InstanceState.RUNNING",
    "[1048576]",
    "[8388608]",
    "ShutdownEvent(guest=True, reason='guest-shutdown') at ",
    "state=<InstanceState.SHUTDOWN",
    "The instance was removed",
)


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The parent of the demo's directory. Its path is short enough for sockets; it must be empty afterwards."""
    with tempfile.TemporaryDirectory(prefix="hv-") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        monkeypatch.setenv("TMPDIR", directory)
        yield Path(directory)
        assert list(Path(directory).iterdir()) == []


def assert_in_order(steps: tuple[str, ...], out: str) -> None:
    position = 0
    for part in steps:
        position = out.find(part, position)
        assert position >= 0, f"{part!r} is missing, or out of order: {out}"


def processes_in(directory: Path) -> list[str]:
    """Return the command lines of processes that contain a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command_line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in command_line:
            found.append(command_line)
    return found


def test_demo_simulated_runs_all_steps(run_command: RunCommand, scratch: Path) -> None:
    result = run_command("demo", "--simulated")
    assert result.code == EXIT_OK, result.err
    assert result.out.startswith("SIMULATED: ")
    assert_in_order(STEPS, result.out)
    assert processes_in(scratch) == []


def test_demo_without_qemu_is_simulated(
    run_command: RunCommand, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "find_qemu", lambda self: "")
    result = run_command("demo")
    assert result.code == EXIT_OK, result.err
    assert result.out.startswith(
        "SIMULATED: running on a simulated QEMU without a guest. Reason: QEMU is not installed; to install it: apt"
    )


@pytest.mark.qemu
def test_demo_on_qemu_runs_all_steps(run_command: RunCommand, scratch: Path, qemu_binary: str) -> None:
    result = run_command("--qemu", qemu_binary, "demo")
    assert result.code == EXIT_OK, result.err
    assert result.out.startswith(f"Running on {qemu_binary}.")
    assert_in_order((*STEPS[:3], "HVKIT-GUEST-READY", *STEPS[3:]), result.out)
    assert processes_in(scratch) == []


def test_demo_with_missing_chosen_qemu_fails(
    run_command: RunCommand, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVKIT_QEMU", "/nonexistent/qemu")
    result = run_command("demo")
    assert result.code == EXIT_FAILED
    assert result.err == "hvkit: kvm_path: expected an executable file on this node, got '/nonexistent/qemu'\n"


def test_demo_after_failed_step_leaves_nothing(
    run_command: RunCommand, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise HypervisorError("step failed")

    monkeypatch.setattr(demo, "_grow_disk", fail)
    result = run_command("demo", "--simulated")
    assert (result.code, result.err) == (EXIT_FAILED, "hvkit: step failed\n")
    assert processes_in(scratch) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, EXIT_INTERRUPTED), (signal.SIGTERM, 128 + 15), (signal.SIGHUP, 128 + 1)]
)
@pytest.mark.parametrize("moment", [">>> kvm.start_instance", ">>> qmp.version", ">>> kvm.stop_instance"])
def test_demo_after_signal_leaves_nothing(scratch: Path, number: signal.Signals, code: int, moment: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "demo", "--simulated"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stderr
        if not any(moment in line for line in process.stdout):
            pytest.fail(f"the demo did not reach {moment}: {process.stderr.read()}")
        process.send_signal(number)
        process.stdout.read()
        assert "Traceback" not in process.stderr.read()
        assert process.wait(timeout=30) == code
    assert processes_in(scratch) == []
