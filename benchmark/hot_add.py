# SPDX-License-Identifier: BSD-2-Clause
"""Hot-adding a disk and a NIC, compared with sending the same commands over a socket.

Both variants connect once for each device. hvkit also checks the state of the instance, and persists each step.
"""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmark.clients import Client
from benchmark.figure import OURS, Figure, results_of
from benchmark.harness import MS_PER_S, Effort, measure_rounds, pinned
from benchmark.hypervisors import recorded_commands, shared_monitor
from benchmark.meter import once
from benchmark.servers import Servers
from hvkit.hypervisor import Disk, HotplugDevice, Instance, Nic
from hvkit.hypervisor.kvm import KvmHypervisor

_SOCKET: Final = "socket + json"
_NAME: Final = "bench"
_ADDING: Final = ("blockdev-add", "netdev_add", "device_add")


class _HotAdd:
    """Adds a disk and a NIC to an instance that is started for each measurement."""

    def __init__(self, directory: Path, qemu: str) -> None:
        image = directory / "disk.img"
        image.write_bytes(bytes(1 << 20))
        self._devices: tuple[HotplugDevice, ...] = (
            Disk(path=str(image)),
            Nic(mac="52:54:00:00:00:01", mode="user"),
        )
        parameters = {"kvm_path": qemu, "kvm_flag": "disabled"}
        self._instance = Instance(name=_NAME, memory_mib=64, parameters=parameters)
        self._hypervisor = KvmHypervisor(run_dir=directory / "run")
        self._monitor = shared_monitor(directory / "run", _NAME)
        self._commands: list[list[dict[str, Any]]] = []
        self.add_s(self._add_and_record)

    def add_s(self, add: Callable[[], None]) -> float:
        """Start the instance, add the devices, end it, and return the seconds that adding took."""
        self._hypervisor.start_instance(self._instance, start_paused=True)
        try:
            start_s = time.perf_counter()
            add()
            return time.perf_counter() - start_s
        finally:
            self._hypervisor.stop_instance(_NAME, force=True)
            self._hypervisor.cleanup_instance(_NAME)

    def add(self) -> None:
        """Add the devices with hvkit."""
        for device in self._devices:
            self._hypervisor.hot_add_device(_NAME, device)

    def _add_and_record(self) -> None:
        """Add the devices with hvkit, and record the commands that add them."""
        for device in self._devices:
            with recorded_commands() as commands:
                self._hypervisor.hot_add_device(_NAME, device)
            self._commands.append([each for each in commands if each["execute"] in _ADDING])

    def add_directly(self) -> None:
        """Add the devices with the recorded commands over a socket."""
        for commands in self._commands:
            with socket.socket(socket.AF_UNIX) as monitor:
                monitor.connect(str(self._monitor))
                with monitor.makefile("rwb") as stream:
                    stream.readline()
                    for command in ({"execute": "qmp_capabilities"}, *commands):
                        stream.write(json.dumps(command, separators=(",", ":")).encode())
                        stream.flush()
                        reply = json.loads(stream.readline())
                        if "return" not in reply:
                            raise SystemExit(f"cannot add a device over a socket: {reply}")


def hot_add(servers: Servers, clients: Sequence[Client], effort: Effort) -> Figure:
    """Measure hot-adding a disk and a NIC."""
    del clients
    directory = servers.directory / "hot-add"
    directory.mkdir()
    try:
        with pinned():
            adding = _HotAdd(directory, servers.qemu)
            turns = {
                _SOCKET: once(lambda: adding.add_s(adding.add_directly)),
                OURS: once(lambda: adding.add_s(adding.add)),
            }
            samples = measure_rounds(turns, effort.of(20, least=2), calls=2)
    finally:
        shutil.rmtree(directory)
    return Figure(
        "Hot-adding a disk and a NIC, QEMU",
        "The socket sends the same commands. hvkit also checks the state of the instance, and writes its state file "
        "before and after each device.",
        "ms",
        results_of(samples, MS_PER_S, _SOCKET),
        _SOCKET,
    )
