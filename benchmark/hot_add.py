# SPDX-License-Identifier: BSD-2-Clause
"""What it costs to have the hypervisor plug a disk and a NIC in, over sending the same commands by hand.

Both begin with the same paused machine, and connect once for each device. The hypervisor also makes sure of what
the machine is doing, and remembers on the disk what it is about to do and that it has done it.
"""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmark.contestants import Contestant
from benchmark.harness import OURS, Effort, Figure, Spread, seconds_by_round
from benchmark.servers import Servers
from hvkit.hypervisor import Disk, HotplugDevice, Instance, Nic
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.paths import RunDirectory
from hvkit.hypervisor.kvm.host.state_file import read_runtime
from hvkit.hypervisor.kvm.plan.devices import DiskSettings, build_disk, build_nic
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.qmp import Command
from hvkit.qmp.codec import unstructure_command
from hvkit.qmp.schema import BlockdevAdd, NetdevAdd

_BY_HAND: Final = "by hand"
_NAME: Final = "bench"


def _encode(command: Command[Any]) -> bytes:
    name, arguments, _, _ = unstructure_command(command, None)
    return json.dumps({"execute": name, "arguments": arguments}, separators=(",", ":")).encode()


class _Plugger:
    """Plugs a disk and a NIC into a paused machine, again and again into a new one."""

    def __init__(self, directory: Path, qemu: str) -> None:
        image = directory / "disk.img"
        image.write_bytes(bytes(1 << 20))
        self._disk, self._nic = Disk(path=str(image)), Nic(mac="52:54:00:00:00:01", mode="user")
        parameters = {"kvm_path": qemu, "kvm_flag": "disabled"}
        self._instance = Instance(name=_NAME, memory_mib=64, parameters=parameters)
        self._hypervisor = KvmHypervisor(run_dir=directory / "run")
        self._paths = RunDirectory(directory / "run").instance(_NAME)
        self._commands: list[list[bytes]] = []
        self.plug_s(self._plug_and_note)

    def plug_s(self, plug: Callable[[], None]) -> float:
        """Start a machine, plug in, end it, and return the seconds that plugging in took."""
        self._hypervisor.start_instance(self._instance, start_paused=True)
        try:
            began_s = time.perf_counter()
            plug()
            return time.perf_counter() - began_s
        finally:
            self._hypervisor.stop_instance(_NAME, force=True)
            self._hypervisor.cleanup_instance(_NAME)

    def plug(self) -> None:
        """Plug in through the hypervisor."""
        devices: tuple[HotplugDevice, ...] = (self._disk, self._nic)
        for device in devices:
            self._hypervisor.hot_add_device(_NAME, device)

    def _plug_and_note(self) -> None:
        """Plug in through the hypervisor, and note the commands that do it."""
        self.plug()
        runtime = read_runtime(self._paths.runtime_file, _NAME)
        assert runtime is not None
        parameters = TABLE.fill(runtime.instance.parameters)
        at_disk, at_nic = (record.address for record in runtime.devices)
        disk = build_disk(self._disk, DiskSettings.from_parameters(parameters), at_disk, is_block_device=False)
        nic = build_nic(self._nic, parameters["nic_type"], at_nic)
        self._commands = [
            [_encode(command) for command in (*map(BlockdevAdd, disk.nodes), disk.device)],
            [_encode(command) for command in (NetdevAdd(nic.netdev), nic.device)],
        ]

    def plug_by_hand(self) -> None:
        """Plug in over a socket, with nothing that could be left out."""
        for commands in self._commands:
            with socket.socket(socket.AF_UNIX) as monitor:
                monitor.connect(str(self._paths.shared_socket))
                with monitor.makefile("rwb") as stream:
                    stream.readline()
                    for command in (b'{"execute":"qmp_capabilities"}', *commands):
                        stream.write(command)
                        stream.flush()
                        reply = json.loads(stream.readline())
                        if "return" not in reply:
                            raise SystemExit(f"a device plugged in by hand: {reply}")


def hot_add(servers: Servers, contestants: Sequence[Contestant], effort: Effort, *, qemu: str) -> Figure:
    """Measure how long it takes to plug in a disk and a NIC, over sending the same commands by hand."""
    del contestants
    directory = servers.directory / "hot-add"
    directory.mkdir()
    try:
        plugger = _Plugger(directory, qemu)
        seconds = seconds_by_round(
            {
                _BY_HAND: lambda _: plugger.plug_s(plugger.plug_by_hand),
                OURS: lambda _: plugger.plug_s(plugger.plug),
            },
            effort.of(30, least=2),
            1,
        )
    finally:
        shutil.rmtree(directory)
    ratios = [ours / other for ours, other in zip(seconds[OURS], seconds[_BY_HAND], strict=True)]
    by_hand, ours = (Spread.of(seconds[name]).median * 1000 for name in (_BY_HAND, OURS))
    return Figure(
        "a disk and a NIC plugged in, over the same commands by hand",
        "ratio",
        {OURS: Spread.of(ratios)},
        note=f"by hand: {by_hand:.1f} ms, hvkit: {ours:.1f} ms, with two writes to the disk for each device",
    )
