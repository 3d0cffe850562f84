# SPDX-License-Identifier: BSD-2-Clause
"""A real QEMU that does not run its guest, for tests of what talks to its monitor."""

from __future__ import annotations

import contextlib
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
