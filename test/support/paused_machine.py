# SPDX-License-Identifier: BSD-2-Clause
"""A real QEMU that does not run its guest, for tests of what talks to its monitor."""

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
    """A paused QEMU and where its monitor listens."""

    process: subprocess.Popen[bytes]
    path: Path


@contextlib.contextmanager
def paused_machine(binary: str, path: Path) -> Iterator[Machine]:
    """Start a QEMU whose monitor listens on a path; it is killed at the end of the block."""
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
def calling(binary: str, path: Path) -> Iterator[None]:
    """A QEMU without a machine whose monitor calls a path, again a second after a hang-up; killed at the end."""
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    version = re.search(r"version (\d+)\.(\d+)", told)
    assert version is not None, told
    # 9.2 has the one, 11.0 has the other no more
    again = "reconnect-ms=1000" if (int(version[1]), int(version[2])) >= (9, 2) else "reconnect=1"
    process = subprocess.Popen(
        [
            binary,
            *("-S", "-M", "none", "-nodefaults", "-display", "none"),
            *("-chardev", f"socket,id=qmp,path={path},{again}", "-mon", "qmp,mode=control"),
        ]
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()
