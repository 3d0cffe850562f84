# SPDX-License-Identifier: BSD-2-Clause
"""The servers that are measured against: the instant stub, and QEMU machines that never run their guest."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from benchmark.harness import cpus, pinned

_HERE: Final = Path(__file__).parent
_START_TIMEOUT_S: Final = 30.0


@attrs.frozen
class Servers:
    """Where servers keep their sockets, and the program that is the instant stub.

    Attributes:
        directory: for sockets and images; somebody else removes it.
        stub_command: starts the stub, less its arguments.
    """

    directory: Path
    stub_command: Sequence[str]

    @classmethod
    def prepare(cls, directory: Path) -> Servers:
        """Compile the stub into the directory, if there is a compiler."""
        compiler, program = shutil.which("cc"), directory / "instant_stub"
        if compiler is None:
            return cls(directory, (sys.executable, "-m", "benchmark.instant_stub"))
        subprocess.run([compiler, "-O2", "-o", program, _HERE / "instant_stub.c"], check=True)
        return cls(directory, (str(program),))

    @contextlib.contextmanager
    def stub(self, *, is_silent: bool = False) -> Iterator[Path]:
        """Run an instant stub on the server's processor; yields where it listens.

        Args:
            is_silent: have it negotiate and then say no more.
        """
        path = self.directory / ("silent.sock" if is_silent else "stub.sock")
        command = [*self.stub_command, str(path), *(["silent"] if is_silent else [])]
        with pinned(cpus()[1]):
            process = subprocess.Popen(command, cwd=_HERE.parent)
        try:
            _wait_until(lambda: _can_connect(path), process)
            yield path
        finally:
            process.kill()
            process.wait()
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def machine(self, binary: str, monitors: int) -> Iterator[list[Path]]:
        """Run a paused machine on the server's processor.

        Args:
            binary: the QEMU.
            monitors: how many it has, one for each who wants to talk to it.

        Yields:
            Where each monitor listens.
        """
        paths = [self.directory / f"monitor-{number}.sock" for number in range(monitors)]
        with contextlib.ExitStack() as stack:
            with pinned(cpus()[1]):
                stack.enter_context(_running_machines(binary, ("-M", "q35,accel=tcg", "-m", "32"), [paths]))
            yield paths

    @contextlib.contextmanager
    def machines(self, binary: str, count: int) -> Iterator[list[Path]]:
        """Run many small machines that are paused, wherever the system puts them; yields where each listens."""
        paths = [self.directory / f"machine-{number}.sock" for number in range(count)]
        with _running_machines(binary, ("-M", "none", "-m", "1"), [[path] for path in paths]):
            yield paths


@contextlib.contextmanager
def _running_machines(
    binary: str, kind: Sequence[str], monitors: Sequence[Sequence[Path]]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run machines, and wait until they greet.

    Args:
        binary: the QEMU.
        kind: the options that tell what machine it is.
        monitors: for each machine, where its monitors listen.
    """
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for paths in monitors:
            command = [binary, "-S", *kind, "-nodefaults", "-no-user-config", "-display", "none"]
            with contextlib.ExitStack() as listeners:
                fds = [_listen(path, listeners) for path in paths]
                for fd in fds:
                    command += [
                        "-chardev",
                        f"socket,id=c{fd},fd={fd},server=on,wait=off",
                        "-mon",
                        f"c{fd},mode=control",
                    ]
                processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=fds))
        for paths in monitors:
            for path in paths:
                _await_greeting(path)
        yield processes
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
        for paths in monitors:
            for path in paths:
                path.unlink(missing_ok=True)


def _listen(path: Path, stack: contextlib.ExitStack) -> int:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(path))
    listener.listen(1)
    return listener.fileno()


def _await_greeting(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_START_TIMEOUT_S)
        probe.connect(str(path))
        if not probe.recv(65536):
            raise SystemExit("QEMU did not start")


def _can_connect(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _wait_until(is_so: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    give_up_s = time.monotonic() + _START_TIMEOUT_S
    while not is_so():
        if process.poll() is not None or time.monotonic() > give_up_s:
            raise SystemExit(f"{process.args!r} did not start")
        time.sleep(0.005)


def find_qemu() -> str | None:
    """Return the QEMU to measure: $HVKIT_QEMU, or qemu-system-x86_64 from the PATH; None where there is none."""
    return shutil.which(os.environ.get("HVKIT_QEMU") or "qemu-system-x86_64")
