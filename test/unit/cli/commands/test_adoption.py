# SPDX-License-Identifier: BSD-2-Clause
"""The commands ``examine``, ``adopt``, ``screenshot`` and ``dump`` on real QEMU."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hvkit.cli import EXIT_FAILURE, EXIT_OK, EXIT_USAGE
from hvkit.qmp import ConnectError, QmpConnection

pytestmark = pytest.mark.qemu

RunCommand = Callable[..., Any]


@pytest.fixture
def external(qemu_binary: str, short_dir: Path) -> Iterator[tuple[int, Path]]:
    """The pid and the monitor of a QEMU process that hvkit did not start."""
    monitor = short_dir / "qmp.sock"
    words = ("-machine", "q35,accel=tcg", "-m", "32", "-nodefaults", "-display", "none", "-vga", "std")
    with subprocess.Popen([qemu_binary, *words, "-qmp", f"unix:{monitor},server=on,wait=off"]) as process:
        try:
            while True:  # until QEMU listens
                try:
                    with QmpConnection(monitor):
                        break
                except ConnectError:
                    assert process.poll() is None
            yield process.pid, monitor
        finally:
            process.kill()


@pytest.fixture
def run_kvm(run_command: RunCommand, short_dir: Path) -> RunCommand:
    return lambda *words: run_command("--run-dir", short_dir / "run", *words)


def test_external_instance_is_examined_adopted_and_captured(
    run_kvm: RunCommand, external: tuple[int, Path], short_dir: Path
) -> None:
    pid, monitor = external
    shown = run_kvm("examine", monitor)
    assert (shown.code, shown.err) == (EXIT_OK, "")
    assert f"pid: {pid}" in shown.out.splitlines()
    facts = json.loads(run_kvm("examine", monitor, "--json").out)
    assert (facts["pid"], facts["uuid"], facts["memory_mib"]) == (pid, None, 32)

    assert run_kvm("adopt", monitor, "--name", "theirs").code == EXIT_USAGE
    refused = run_kvm("adopt", monitor, "--pid", str(os.getpid()), "--name", "theirs")
    assert (refused.code, refused.err) == (
        EXIT_FAILURE,
        f"hvkit: {monitor}: the monitor belongs to process {pid}, not to {os.getpid()}\n",
    )
    nameless = run_kvm("adopt", monitor, "--pid", str(pid))
    assert (nameless.code, "pass another name" in nameless.err) == (EXIT_FAILURE, True)
    assert run_kvm("adopt", monitor, "--pid", str(pid), "--name", "theirs").out == "theirs: running\n"

    assert run_kvm("screenshot", "theirs", short_dir / "a.png").code == EXIT_OK
    assert (short_dir / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "No such file" in run_kvm("screenshot", "theirs", short_dir / "missing" / "a.png").err
    assert run_kvm("dump", "theirs", short_dir / "a.elf").code == EXIT_OK
    assert (short_dir / "a.elf").read_bytes().startswith(b"\x7fELF")
    again = run_kvm("dump", "theirs", short_dir / "a.elf", "--format", "kdump-zlib")
    assert (again.code, "a.elf: File exists" in again.err) == (EXIT_FAILURE, True), again.err

    assert json.loads(run_kvm("show", "theirs", "--json").out)["is_adopted"]
    assert run_kvm("stop", "--force", "theirs").out.startswith("theirs: shutdown")
    assert run_kvm("cleanup", "theirs").code == EXIT_OK
