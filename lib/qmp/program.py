# SPDX-License-Identifier: BSD-2-Clause
"""Running a QEMU program without a machine, to query it over QMP."""

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

#: Options for a query: no machine, no devices, no configuration, the monitor on stdin and stdout.
_OPTIONS: Final = ("-S", "-M", "none", "-nodefaults", "-no-user-config", "-display", "none", "-qmp", "stdio")
#: The environment variables that a program inherits. The others may contain secrets of the daemon.
_ENVIRONMENT: Final = frozenset({"PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "QEMU_MODULE_DIR"})
#: How much of a program's output an error quotes, in bytes.
_TAIL_BYTES: Final = 2000
#: How long to wait for a killed process, in seconds.
_REAP_S: Final = 5.0


def find_program(binary: str) -> ProgramIdentity:
    """Find a program and return the identity of its file.

    Args:
        binary: path of the program, or a name to search in PATH.

    Raises:
        ConnectError: the program does not exist, or is not executable.
    """
    path = shutil.which(binary)
    if path is None:
        raise ConnectError(binary, _why_not_executable(binary))
    identity = read_identity(os.path.abspath(path))
    if identity is None:
        raise ConnectError(binary, "the program was removed")
    return identity


def _why_not_executable(binary: str) -> str:
    if os.path.isdir(binary):
        return "is a directory, not a program"
    return "is not executable" if os.path.exists(binary) else "there is no such program"


def read_environment() -> dict[str, str]:
    """Return the environment variables of this process that a QEMU program needs, and no others."""
    return {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}


@contextlib.contextmanager
def run_program(binary: str, stderr: IO[bytes]) -> Iterator[QmpConnection]:
    """Run a program without a machine for the length of a block, then kill it and its children.

    The program inherits only the environment variables that it needs.

    Args:
        binary: path of the program.
        stderr: the file for its standard error.

    Yields:
        A connection to its monitor. Call `connect` on it next.

    Raises:
        OSError: the program cannot be run.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = QmpConnection.from_socket(ours)
        process = None
        try:
            process = subprocess.Popen(
                [binary, *_OPTIONS],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=stderr,
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
                # The whole process group: the program may be a script that runs QEMU.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_REAP_S)


def _kill_holders(end: socket.socket) -> None:
    """Kill the processes that have one end of a socket pair as stdin or stdout.

    An interrupt can arrive after the program has started and before `Popen` returns its process id. QEMU would keep
    running, even after this process has ended.
    """
    # Repeated, because a killed process may have started others meanwhile.
    while holders := _find_holders(end):
        for pid in holders:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _find_holders(end: socket.socket) -> set[int]:
    """Return the processes with a socket as stdin or stdout; children that other threads just forked do not count."""
    name = os.readlink(f"/proc/self/fd/{end.fileno()}")
    holders = set()
    for path in Path("/proc").glob("[0-9]*/fd/[01]"):
        with contextlib.suppress(OSError):  # the process has ended, closed the descriptor, or belongs to another user
            if os.readlink(path) == name:
                holders.add(int(path.parts[2]))
    return holders - {os.getpid()}


def read_output_tail(output: IO[bytes]) -> str:
    """Return the last part of a program's output as text."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(size - _TAIL_BYTES, 0))
    return output.read(_TAIL_BYTES).decode(errors="replace").strip()
