# SPDX-License-Identifier: BSD-2-Clause
"""The servers that clients are measured against: the stub server, and QEMU processes with a paused guest."""

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

from benchmark.harness import pinned, processor_of

_HERE: Final = Path(__file__).parent
_START_TIMEOUT_S: Final = 30.0


@attrs.frozen
class Servers:
    """Starts servers. A single server runs on the processor of the client.

    Attributes:
        directory: for sockets and images. The caller removes it.
        stub_command: the command line of the stub server, without its arguments.
        qemu: the path of QEMU; an empty string if it is not installed.
    """

    directory: Path
    stub_command: Sequence[str]
    qemu: str

    @classmethod
    def prepare(cls, directory: Path) -> Servers:
        """Find QEMU, and compile the stub server if there is a C compiler."""
        qemu = shutil.which(os.environ.get("HVKIT_QEMU") or "qemu-system-x86_64") or ""
        compiler, program = shutil.which("cc"), directory / "instant_stub"
        if compiler is None:
            return cls(directory, (sys.executable, "-m", "benchmark.instant_stub"), qemu)
        subprocess.run([compiler, "-O2", "-o", program, _HERE / "instant_stub.c"], check=True)
        return cls(directory, (str(program),), qemu)

    @contextlib.contextmanager
    def stub(self, *, is_silent: bool = False) -> Iterator[Path]:
        """Run a stub server, and yield the path of its socket.

        Args:
            is_silent: let it negotiate and then send no replies.
        """
        path = self.directory / ("silent.sock" if is_silent else "stub.sock")
        command = [*self.stub_command, str(path), *(["silent"] if is_silent else [])]
        with pinned():
            process = subprocess.Popen(command, cwd=_HERE.parent)
        try:
            _wait_until(lambda: _can_connect(path), process)
            yield path
        finally:
            process.kill()
            process.wait()
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def machine(self, monitors: int) -> Iterator[list[Path]]:
        """Run one QEMU with a q35 machine, and yield the paths of its monitors.

        Args:
            monitors: how many monitors it has. Each serves one client at a time.
        """
        paths = [self.directory / f"monitor-{number}.sock" for number in range(monitors)]
        with self._run_qemus(("-M", "q35,accel=tcg", "-m", "32"), [paths]):
            yield paths

    @contextlib.contextmanager
    def machines(self, count: int) -> Iterator[list[Path]]:
        """Run many QEMUs without devices, evenly on all processors, and yield the path of each one's monitor."""
        paths = [self.directory / f"machine-{number}.sock" for number in range(count)]
        with self._run_qemus(("-M", "none", "-m", "1"), [[path] for path in paths]):
            yield paths

    @contextlib.contextmanager
    def _run_qemus(self, options: Sequence[str], monitors: Sequence[Sequence[Path]]) -> Iterator[None]:
        """Run QEMUs inside a `with` block, which begins when all monitors have sent their greeting.

        Args:
            options: select the machine.
            monitors: for each QEMU, the paths of its monitors.
        """
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for number, paths in enumerate(monitors):
                command = [self.qemu, "-S", *options, "-nodefaults", "-no-user-config", "-display", "none"]
                with contextlib.ExitStack() as listeners, pinned(processor_of(number)):
                    fds = [_listen(path, listeners) for path in paths]
                    for fd in fds:
                        command += ["-chardev", f"socket,id=c{fd},fd={fd},server=on,wait=off"]
                        command += ["-mon", f"c{fd},mode=control"]
                    processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=fds))
            for paths in monitors:
                for path in paths:
                    _await_greeting(path)
            yield
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


def _wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + _START_TIMEOUT_S
    while not condition():
        if process.poll() is not None or time.monotonic() > end_s:
            raise SystemExit(f"{process.args!r} did not start")
        time.sleep(0.005)
