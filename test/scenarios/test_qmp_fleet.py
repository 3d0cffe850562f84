# SPDX-License-Identifier: BSD-2-Clause
"""`ask` with real QEMUs of which some do not answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvkit.qmp.fleet import ask
from hvkit.qmp.schema import QueryName


@pytest.fixture
def machines(qemu_binary: str, tmp_path: Path) -> Iterator[dict[str, tuple[Path, subprocess.Popen[bytes]]]]:
    started: dict[str, tuple[Path, subprocess.Popen[bytes]]] = {}
    try:
        for number in range(6):
            name, path = f"vm{number}", tmp_path / f"vm{number}"
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
                listener.listen(1)
                fd = listener.fileno()
                command = [qemu_binary, "-S", "-M", "none", "-nodefaults", "-display", "none", "-name", name]
                command += ["-chardev", f"socket,id=qmp,fd={fd},server=on,wait=off", "-mon", "qmp,mode=control"]
                started[name] = (path, subprocess.Popen(command, pass_fds=[fd]))
        yield started
    finally:
        for _, process in started.values():
            process.kill()
            process.wait()


@pytest.mark.qemu
def test_ask_real_qemus_some_stopped_busy_or_dead_returns_all_outcomes(
    machines: dict[str, tuple[Path, subprocess.Popen[bytes]]],
) -> None:
    addresses = {name: path for name, (path, _) in machines.items()}
    for name, outcome in ask(addresses, QueryName(), timeout=20).items():
        assert outcome.value.name == name
    os.kill(machines["vm0"][1].pid, signal.SIGSTOP)
    machines["vm1"][1].kill()
    machines["vm1"][1].wait()
    with socket.socket(socket.AF_UNIX) as occupant:
        occupant.connect(str(addresses["vm2"]))
        occupant.recv(4096)
        outcomes = ask(addresses, QueryName(), timeout=1)
    assert [name for name, outcome in outcomes.items() if outcome.error is None] == ["vm3", "vm4", "vm5"]
    assert "no greeting" in str(outcomes["vm0"].error)
    assert "no process listens" in str(outcomes["vm1"].error)
    assert "no greeting" in str(outcomes["vm2"].error)
