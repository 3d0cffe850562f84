# SPDX-License-Identifier: BSD-2-Clause
"""Commands that take pictures and dumps, and that take machines over, on real QEMU."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hvkit.cli import EXIT_OK, EXIT_USAGE, EXIT_WORLD
from hvkit.qmp import ConnectError, QmpConnection

pytestmark = pytest.mark.qemu

TypeCommand = Callable[..., Any]


@pytest.fixture
def stranger(qemu_binary: str, short_dir: Path) -> Iterator[tuple[int, Path]]:
    """The process and the monitor of a QEMU that nobody here started."""
    monitor = short_dir / "qmp.sock"
    words = ("-machine", "q35,accel=tcg", "-m", "32", "-nodefaults", "-display", "none", "-vga", "std")
    with subprocess.Popen([qemu_binary, *words, "-qmp", f"unix:{monitor},server=on,wait=off"]) as process:
        try:
            while True:  # until it has begun to listen
                try:
                    with QmpConnection(monitor):
                        break
                except ConnectError:
                    assert process.poll() is None
            yield process.pid, monitor
        finally:
            process.kill()


@pytest.fixture
def type_kvm(type_command: TypeCommand, short_dir: Path) -> TypeCommand:
    return lambda *words: type_command("--run-dir", short_dir / "run", *words)


def test_machine_is_looked_at_and_taken_over(
    type_kvm: TypeCommand, stranger: tuple[int, Path], short_dir: Path
) -> None:
    pid, monitor = stranger
    shown = type_kvm("examine", monitor)
    assert (shown.code, shown.err) == (EXIT_OK, "")
    assert f"pid: {pid}" in shown.out.splitlines()
    facts = json.loads(type_kvm("examine", monitor, "--json").out)
    assert (facts["pid"], facts["uuid"], facts["memory_mib"]) == (pid, None, 32)

    assert type_kvm("adopt", monitor, "--name", "theirs").code == EXIT_USAGE, "who does not say which has not looked"
    refused = type_kvm("adopt", monitor, "--pid", str(os.getpid()), "--name", "theirs")
    assert (refused.code, refused.err) == (
        EXIT_WORLD,
        f"hvkit: {monitor}: process {pid} listens there, and not {os.getpid()}\n",
    )
    nameless = type_kvm("adopt", monitor, "--pid", str(pid))
    assert (nameless.code, "give it another one" in nameless.err) == (EXIT_WORLD, True)
    assert type_kvm("adopt", monitor, "--pid", str(pid), "--name", "theirs").out == "theirs: running\n"

    assert type_kvm("screenshot", "theirs", short_dir / "a.png").code == EXIT_OK
    assert (short_dir / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "No such file" in type_kvm("screenshot", "theirs", short_dir / "missing" / "a.png").err
    assert type_kvm("dump", "theirs", short_dir / "a.elf").code == EXIT_OK
    assert (short_dir / "a.elf").read_bytes().startswith(b"\x7fELF")
    again = type_kvm("dump", "theirs", short_dir / "a.elf", "--format", "kdump-zlib")
    assert (again.code, "a.elf exists" in again.err) == (EXIT_WORLD, True)

    assert json.loads(type_kvm("show", "theirs", "--json").out)["is_adopted"]
    assert type_kvm("stop", "--force", "theirs").out.startswith("theirs: shutdown")
    assert type_kvm("cleanup", "theirs").code == EXIT_OK
