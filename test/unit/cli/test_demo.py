# SPDX-License-Identifier: BSD-2-Clause
"""The demo plays its story to the end, and leaves nothing behind when it does not."""

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

from hvkit.cli import EXIT_INTERRUPTED, EXIT_OK, EXIT_WORLD, demo, doctor
from hvkit.errors import HypervisorError

TypeCommand = Callable[..., Any]

PROGRAM: Final = "import sys; from hvkit.cli import main; sys.exit(main())"

STORY: Final = (
    "state=<InstanceState.PAUSED",
    "StatusInfo(running=False, status='prelaunch'",
    "ResumeEvent() at ",
    "<InstanceState.RUNNING",
    "[1048576]",
    "[8388608]",
    "ShutdownEvent(guest=True, reason='guest-shutdown') at ",
    "state=<InstanceState.SHUTDOWN",
    "Nothing is left of it",
)


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the demo makes its directory; short, because there will be sockets in it, and empty in the end."""
    with tempfile.TemporaryDirectory(prefix="hv-") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        monkeypatch.setenv("TMPDIR", directory)
        yield Path(directory)
        assert list(Path(directory).iterdir()) == []


def assert_told_in_order(story: tuple[str, ...], out: str) -> None:
    place = 0
    for part in story:
        place = out.find(part, place)
        assert place >= 0, f"{part!r} is missing, or in the wrong place: {out}"


def processes_in(directory: Path) -> list[str]:
    """Command lines that name a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command_line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in command_line:
            found.append(command_line)
    return found


def test_simulated_story(type_command: TypeCommand, scratch: Path) -> None:
    typed = type_command("demo", "--simulated")
    assert typed.code == EXIT_OK, typed.err
    assert typed.out.startswith("SIMULATED: ")
    assert_told_in_order(STORY, typed.out)
    assert processes_in(scratch) == []


def test_without_qemu_the_story_is_simulated(
    type_command: TypeCommand, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "find_qemu", lambda chosen: "")
    typed = type_command("demo")
    assert typed.code == EXIT_OK, typed.err
    assert typed.out.startswith(
        "SIMULATED: a program that only speaks like QEMU, because there is no QEMU; to have one: apt"
    )


@pytest.mark.qemu
def test_real_story(type_command: TypeCommand, scratch: Path, qemu_binary: str) -> None:
    typed = type_command("--qemu", qemu_binary, "demo")
    assert typed.code == EXIT_OK, typed.err
    assert typed.out.startswith(f"A real machine, run by {qemu_binary}.")
    assert_told_in_order((*STORY[:3], "HVKIT-GUEST-READY", *STORY[3:]), typed.out)
    assert processes_in(scratch) == []


def test_chosen_qemu_that_is_missing_is_not_replaced(
    type_command: TypeCommand, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVKIT_QEMU", "/nonexistent/qemu")
    typed = type_command("demo")
    assert typed.code == EXIT_WORLD
    assert typed.err == "hvkit: kvm_path: expected a program of this node, got '/nonexistent/qemu'\n"


def test_story_that_goes_wrong_leaves_nothing(
    type_command: TypeCommand, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise HypervisorError("the disk caught fire")

    monkeypatch.setattr(demo, "_grow_disk", fail)
    typed = type_command("demo", "--simulated")
    assert (typed.code, typed.err) == (EXIT_WORLD, "hvkit: the disk caught fire\n")
    assert processes_in(scratch) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, EXIT_INTERRUPTED), (signal.SIGTERM, 128 + 15), (signal.SIGHUP, 128 + 1)]
)
@pytest.mark.parametrize("moment", [">>> kvm.start_instance", ">>> qmp.version", ">>> kvm.stop_instance"])
def test_signal_leaves_nothing(scratch: Path, number: signal.Signals, code: int, moment: str) -> None:
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
            pytest.fail(f"the demo never came to {moment}: {process.stderr.read()}")
        process.send_signal(number)
        process.stdout.read()
        assert "Traceback" not in process.stderr.read()
        assert process.wait(timeout=30) == code
    assert processes_in(scratch) == []
