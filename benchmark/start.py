# SPDX-License-Identifier: BSD-2-Clause
"""What it costs to start a machine through the hypervisor, over starting the same QEMU by hand.

By hand is as good as it gets: the very command line, a socket that listens before QEMU does, one command as soon as
it answers. The hypervisor's start ends when the machine could run: with what is remembered on the disk, and the machine
that answers checked. Machines stay paused: what a guest does is no cost of ours.

Where libvirt is installed, it starts much the same machine, by its driver for QEMU without the daemon around it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmark.contestants import Contestant
from benchmark.harness import OURS, Effort, Figure, Spread, Timed, seconds_by_round
from benchmark.servers import Servers
from hvkit.hypervisor import Disk, Instance
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.lifecycle.preparation import prepare
from hvkit.hypervisor.kvm.plan.command_line import build_argv
from hvkit.hypervisor.kvm.plan.resources import HostResources, MachineSockets

_BY_HAND: Final = "by hand"
_LIBVIRT: Final = "libvirt"
_NAME: Final = "bench"
#: The Python that has libvirt's binding, if any has.
_PYTHON: Final = "/usr/bin/python3"
_PROGRAM: Final = Path(__file__).with_name("libvirt_start.py")


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen(1)
    return made


class _ByHand:
    """Starts an instance's QEMU without the hypervisor."""

    def __init__(self, instance: Instance, directory: Path) -> None:
        self._preparation = prepare(instance, cache_dir=None)
        self._control = directory / "control"
        self._others = [directory / name for name in ("shared", "watch", "serial")]
        self._pid_file = directory / "pid"

    def start_s(self) -> float:
        """Start it, end it, and return the seconds from the beginning to its first answer."""
        began_s = time.perf_counter()
        with contextlib.ExitStack() as stack:
            listeners = [stack.enter_context(_listen(path)) for path in (self._control, *self._others)]
            control, shared, watch, serial = descriptors = tuple(each.fileno() for each in listeners)
            sockets = MachineSockets(
                control=control, shared=shared, watch=watch, serial=serial, pid_file=str(self._pid_file)
            )
            argv = build_argv(
                self._preparation.plan(HostResources(sockets=sockets, confinement=self._preparation.confine(None)))
            )
            # It tells on stderr why it ends, as hvkit has every QEMU do.
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=descriptors)
        with process, socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._control))
            with monitor.makefile("rwb") as stream:
                stream.readline()
                for command in ("qmp_capabilities", "query-status"):
                    stream.write(json.dumps({"execute": command}).encode())
                    stream.flush()
                    reply = json.loads(stream.readline())
                elapsed_s = time.perf_counter() - began_s
                stream.write(b'{"execute":"quit"}')
                stream.flush()
                stream.read()
        if reply["return"]["status"] != "prelaunch":
            raise SystemExit(f"a machine started by hand says {reply}")
        return elapsed_s


class _Libvirt:
    """Starts machines through libvirt, in a process that can do so again and again."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @classmethod
    @contextlib.contextmanager
    def if_there(cls, directory: Path, qemu: str, image: Path) -> Iterator[_Libvirt | None]:
        """Give one for the length of a block; None where libvirt is not installed, or cannot start anything here."""
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
        with process:  # which ends when its input does
            assert process.stdout is not None
            yield cls(process) if process.stdout.readline() == "ready\n" else None

    def start_s(self) -> float:
        """Start a machine, end it, and return the seconds that the start took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("start\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def _start_s(hypervisor: KvmHypervisor, instance: Instance) -> float:
    """Start an instance, end it, and return the seconds that the start took."""
    began_s = time.perf_counter()
    hypervisor.start_instance(instance, start_paused=True)
    elapsed_s = time.perf_counter() - began_s
    hypervisor.stop_instance(_NAME, force=True)
    hypervisor.cleanup_instance(_NAME)
    return elapsed_s


def start(servers: Servers, contestants: Sequence[Contestant], effort: Effort, *, qemu: str) -> Figure:
    """Measure a start to the moment the machine could run, over QEMU started by hand to its first answer."""
    del contestants
    directory = servers.directory / "start"
    directory.mkdir()
    image = directory / "disk.img"
    image.write_bytes(b"")
    image.open("r+b").truncate(1 << 20)
    instance = Instance(
        name=_NAME, memory_mib=64, disks=(Disk(path=str(image)),), parameters={"kvm_path": qemu, "kvm_flag": "disabled"}
    )
    hypervisor = KvmHypervisor(run_dir=directory / "run")
    by_hand = _ByHand(instance, directory)
    _start_s(hypervisor, instance)  # from now on it is known what the program can do
    turns: dict[str, Timed] = {
        _BY_HAND: lambda _: by_hand.start_s(),
        OURS: lambda _: _start_s(hypervisor, instance),
    }
    try:
        with _Libvirt.if_there(directory / "libvirt", qemu, image) as libvirt:
            if libvirt is not None:
                turns[_LIBVIRT] = lambda _: libvirt.start_s()
            seconds = seconds_by_round(turns, effort.of(40, least=3), 1)
    finally:
        shutil.rmtree(directory)
    results = {
        name: Spread.of(mine / other for mine, other in zip(each, seconds[_BY_HAND], strict=True))
        for name, each in seconds.items()
        if name != _BY_HAND
    }
    return Figure(
        "start of a paused machine, over the same QEMU by hand to its first answer",
        "ratio",
        results,
        {OURS: 1.15},
        note=f"by hand: {Spread.of(seconds[_BY_HAND]).median * 1000:.0f} ms"
        + ("" if _LIBVIRT in results else "; without libvirt, which is not installed or cannot work here"),
    )
