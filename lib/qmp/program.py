# SPDX-License-Identifier: BSD-2-Clause
"""Run a QEMU program without a machine, to question it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from hvkit.qmp.errors import ConnectError
from hvkit.qmp.program_cache import ProgramIdentity, read_identity
from hvkit.qmp.sync.connection import QmpConnection

#: How a program is run to be questioned: no machine, no devices, no configuration, its monitor on stdin and stdout.
_QUESTIONED: Final = ("-S", "-M", "none", "-nodefaults", "-no-user-config", "-display", "none", "-qmp", "stdio")
#: What a program gets of our environment. The rest may hold secrets of the daemon.
_ENVIRONMENT: Final = frozenset({"PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "QEMU_MODULE_DIR"})
#: How much of what a program said is quoted, in bytes.
_QUOTED_BYTES: Final = 2000
#: How long a killed process is waited for, in seconds.
_REAP_S: Final = 5.0


def find_program(binary: str) -> ProgramIdentity:
    """Return which file a program is.

    Args:
        binary: path of the program, or a name to look for in PATH.

    Raises:
        ConnectError: there is no such program, or it cannot be executed.
    """
    path = shutil.which(binary)
    if path is None:
        raise ConnectError(binary, _why_not_executable(binary))
    identity = read_identity(os.path.abspath(path))
    if identity is None:
        raise ConnectError(binary, "it was removed just now")
    return identity


def _why_not_executable(binary: str) -> str:
    if os.path.isdir(binary):
        return "it is a directory"
    return "it cannot be executed" if os.path.exists(binary) else "there is no such program"


def read_environment() -> dict[str, str]:
    """Return what a QEMU program needs of our environment, and nothing else of it."""
    return {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}


@contextlib.contextmanager
def run_program(binary: str, said: IO[bytes]) -> Iterator[QmpConnection]:
    """Run a program without a machine, its monitor on a socket of ours; kill it and its children at the end.

    It gets of our environment only what it needs.

    Args:
        binary: path of the program.
        said: file that gets what it writes to its standard error.

    Yields:
        A connection to its monitor; `connect` it next.

    Raises:
        OSError: it cannot be run.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = QmpConnection.from_socket(ours)
        process = None
        try:
            process = subprocess.Popen(
                [binary, *_QUESTIONED],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=said,
                env=read_environment(),
                start_new_session=True,
            )
            theirs.close()
            yield connection
        finally:
            connection.close()
            if process is None:
                _kill_holders(theirs)
            else:
                # The whole session: the program may be a script that runs QEMU.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_REAP_S)


def _kill_holders(end: socket.socket) -> None:
    """Kill the processes that got an end of a socket pair.

    An interrupt can come when a program runs and nobody was told its number yet; QEMU would stay, also without us.
    """
    # Again, because what is killed may have started others meanwhile.
    while holders := _find_holders(end):
        for pid in holders:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _find_holders(end: socket.socket) -> set[int]:
    """Find the processes that have a socket as their input or output, which what other threads just forked has not."""
    name = os.readlink(f"/proc/self/fd/{end.fileno()}")
    holders = set()
    for path in Path("/proc").glob("[0-9]*/fd/[01]"):
        with contextlib.suppress(OSError):  # it ended or was closed meanwhile, or is somebody else's
            if os.readlink(path) == name:
                holders.add(int(path.parts[2]))
    return holders - {os.getpid()}


def read_last_words(said: IO[bytes]) -> str:
    """Return the end of what a program wrote."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(size - _QUOTED_BYTES, 0))
    return said.read(_QUOTED_BYTES).decode(errors="replace").strip()
