# SPDX-License-Identifier: BSD-2-Clause
"""Starting an instance, compared with starting the same QEMU directly.

The direct start uses the command line of the instance, listens on its sockets before QEMU runs, and executes one
command as soon as QEMU answers. hvkit's start also persists the state of the instance and checks the monitor. The guest
stays paused. If libvirt is installed, it starts a similar machine, through its QEMU driver without a daemon.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmark.clients import Client
from benchmark.figure import OURS, Figure, results_of
from benchmark.harness import MS_PER_S, Effort, measure_rounds, pinned
from benchmark.hypervisors import command_line
from benchmark.meter import Turn, once
from benchmark.servers import Servers
from hvkit.hypervisor import Disk, Instance
from hvkit.hypervisor.kvm import KvmHypervisor

_DIRECT: Final = "QEMU directly"
_LIBVIRT: Final = "libvirt"
_NAME: Final = "bench"
#: The Python of the distribution, which has libvirt's binding if that is installed.
_PYTHON: Final = "/usr/bin/python3"
_PROGRAM: Final = Path(__file__).with_name("libvirt_start.py")
#: The descriptor of a listening socket in the command line. The first one is the control monitor.
_SOCKET_FD: Final = re.compile(r"(?<=,fd=)\d+(?=,server=on)")


class _DirectStart:
    """Starts QEMU with the command line of an instance, without hvkit.

    Args:
        argv: the command line of the running instance.
        directory: for sockets and the pid file.
    """

    def __init__(self, argv: Sequence[str], directory: Path) -> None:
        self._argv = list(argv)
        self._argv[self._argv.index("-pidfile") + 1] = str(directory / "pid")
        self._sockets = [directory / f"socket{number}" for number, each in enumerate(argv) if _SOCKET_FD.search(each)]

    def start_s(self) -> float:
        """Start QEMU, end it, and return the seconds until its first reply."""
        start_s = time.perf_counter()
        with contextlib.ExitStack() as stack:
            fds = [_listen(path, stack) for path in self._sockets]
            unused = iter(fds)
            argv = [_SOCKET_FD.sub(lambda _: str(next(unused)), each) for each in self._argv]
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=fds)
        with process, socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._sockets[0]))
            with monitor.makefile("rwb") as stream:
                stream.readline()
                for command in ("qmp_capabilities", "query-status"):
                    stream.write(json.dumps({"execute": command}).encode())
                    stream.flush()
                    reply = json.loads(stream.readline())
                elapsed_s = time.perf_counter() - start_s
                stream.write(b'{"execute":"quit"}')
                stream.flush()
                stream.read()
        if reply["return"]["status"] != "prelaunch":
            raise SystemExit(f"unexpected reply of a QEMU that was started directly: {reply}")
        return elapsed_s


def _listen(path: Path, stack: contextlib.ExitStack) -> int:
    path.unlink(missing_ok=True)
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(path))
    listener.listen(1)
    return listener.fileno()


class _Libvirt:
    """Starts machines through libvirt, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @classmethod
    @contextlib.contextmanager
    def if_installed(cls, directory: Path, qemu: str, image: Path) -> Iterator[_Libvirt | None]:
        """Yield an object inside a `with` block; None if libvirt is not installed or cannot start a machine here."""
        directory.mkdir()
        command = ["unshare", "--mount", _PYTHON, str(_PROGRAM), str(directory), qemu, str(image)]
        try:
            with (directory / "log").open("w") as log:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=directory
                )
        except OSError:
            yield None
            return
        with process:  # closes its input, which ends the process
            assert process.stdout is not None
            yield cls(process) if process.stdout.readline() == "ready\n" else None

    def start_s(self) -> float:
        """Start a machine, end it, and return the seconds that the start took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("start\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


class _Starter:
    """Starts an instance with hvkit."""

    def __init__(self, directory: Path, instance: Instance) -> None:
        self._hypervisor = KvmHypervisor(run_dir=directory)
        self._instance = instance

    def command_line(self) -> list[str]:
        """Start the instance, end it, and return the command line of its QEMU."""
        self._hypervisor.start_instance(self._instance, start_paused=True)
        try:
            pid = self._hypervisor.get_instance_info(_NAME).pid
            assert pid is not None
            return command_line(pid)
        finally:
            self._end()

    def start_s(self) -> float:
        """Start the instance, end it, and return the seconds that the start took."""
        start_s = time.perf_counter()
        self._hypervisor.start_instance(self._instance, start_paused=True)
        elapsed_s = time.perf_counter() - start_s
        self._end()
        return elapsed_s

    def _end(self) -> None:
        self._hypervisor.stop_instance(_NAME, force=True)
        self._hypervisor.cleanup_instance(_NAME)


def start(servers: Servers, clients: Sequence[Client], effort: Effort) -> Figure:
    """Measure starting an instance with a paused guest."""
    del clients
    directory = servers.directory / "start"
    directory.mkdir()
    image = directory / "disk.img"
    image.touch()
    image.open("r+b").truncate(1 << 20)
    parameters = {"kvm_path": servers.qemu, "kvm_flag": "disabled"}
    instance = Instance(name=_NAME, memory_mib=64, disks=(Disk(path=str(image)),), parameters=parameters)
    try:
        with pinned(), _Libvirt.if_installed(directory / "libvirt", servers.qemu, image) as libvirt:
            starter = _Starter(directory / "run", instance)
            direct = _DirectStart(starter.command_line(), directory)
            turns: dict[str, Turn] = {_DIRECT: once(direct.start_s), OURS: once(starter.start_s)}
            if libvirt is not None:
                turns[_LIBVIRT] = once(libvirt.start_s)
            samples = measure_rounds(turns, effort.of(30, least=3), calls=2)
    finally:
        shutil.rmtree(directory)
    return Figure(
        "Starting an instance, QEMU",
        "Until the monitor has answered and the guest could run. The direct start uses the same command line and "
        "executes one command.",
        "ms",
        results_of(samples, MS_PER_S, _DIRECT),
        _DIRECT,
        {OURS: 1.15},
        note=""
        if _LIBVIRT in samples
        else "libvirt was not measured: it is not installed or cannot start machines here.",
    )
