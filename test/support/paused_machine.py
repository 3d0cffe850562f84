# SPDX-License-Identifier: BSD-2-Clause
"""Real QEMU processes with a paused machine, for tests of QMP connections."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs


@attrs.frozen
class Machine:
    """A paused QEMU process and the path of its monitor."""

    process: subprocess.Popen[bytes]
    path: Path


@contextlib.contextmanager
def paused_machine(binary: str, path: Path) -> Iterator[Machine]:
    """Start QEMU with a monitor that listens on a path, and kill it after the block."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        process = subprocess.Popen(
            [
                binary,
                *("-S", "-M", "q35,accel=tcg", "-m", "32", "-nodefaults", "-no-user-config", "-display", "none"),
                *("-chardev", f"socket,id=qmp,fd={listener.fileno()},server=on,wait=off", "-mon", "qmp,mode=control"),
            ],
            pass_fds=[listener.fileno()],
        )
    try:
        yield Machine(process, path)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def reconnecting_monitor(binary: str, path: Path) -> Iterator[None]:
    """Start QEMU with a monitor that connects to a path and reconnects after one second; kill it after the block."""
    output = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    version = re.search(r"version (\d+)\.(\d+)", output)
    assert version is not None, output
    # QEMU 9.2 added reconnect-ms, QEMU 11.0 removed reconnect
    reconnect = "reconnect-ms=1000" if (int(version[1]), int(version[2])) >= (9, 2) else "reconnect=1"
    process = subprocess.Popen(
        [
            binary,
            *("-S", "-M", "none", "-nodefaults", "-display", "none"),
            *("-chardev", f"socket,id=qmp,path={path},{reconnect}", "-mon", "qmp,mode=control"),
        ]
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()
