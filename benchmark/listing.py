# SPDX-License-Identifier: BSD-2-Clause
"""Listing many real instances, compared with querying their monitors one by one.

The reference connects to one monitor after the other, negotiates, executes `query-status` and closes, without JSON.
Ganeti's pattern is the same with three connections to each instance, one for each of three commands.
`get_all_instances_info` reads the state file of every instance, verifies its process, and queries its status and its
memory. A watch returns the same over connections that it keeps.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmark.clients import Client
from benchmark.figure import BARE, OURS, Figure
from benchmark.harness import Effort, compare, pinned, processor_of
from benchmark.hypervisors import shared_monitor
from benchmark.meter import repeat
from benchmark.servers import Servers
from hvkit.hypervisor import Instance, InstanceInfo, InstanceState
from hvkit.hypervisor.kvm import KvmHypervisor

_ONE_BY_ONE: Final = f"{BARE}, one by one"
_GANETI: Final = f"{BARE}, Ganeti's pattern"
_WATCH: Final = "hvkit watch"
#: Seconds after which a watch that received no event queries the status only.
_SETTLED_S: Final = 2.5
_STATUS: Final = ("query-status",)
_GANETI_COMMANDS: Final = ("query-version", "query-cpus-fast", "query-memory-size-summary")


def _query_one(path: Path, command: str) -> None:
    """Connect, negotiate, execute a command and close, without parsing anything but line ends."""
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(str(path))
        for line in ("", '{"execute":"qmp_capabilities"}\n', f'{{"execute":"{command}"}}\n'):
            monitor.sendall(line.encode())
            while not monitor.recv(65536).endswith(b"\n"):
                pass


def _query_all(paths: Sequence[Path], commands: Sequence[str]) -> None:
    for path in paths:
        for command in commands:
            _query_one(path, command)


def listing(servers: Servers, clients: Sequence[Client], effort: Effort) -> Figure:
    """Measure `get_all_instances_info` and a watch."""
    del clients
    count = effort.of(100, least=10)
    directory = servers.directory / "listing"
    hypervisor = KvmHypervisor(run_dir=directory)
    names = [f"bench{number}" for number in range(count)]
    parameters = {"kvm_path": servers.qemu, "kvm_flag": "disabled", "serial_console": False}

    def check(infos: Sequence[InstanceInfo]) -> None:
        states = [info.state for info in infos]
        if states != [InstanceState.PAUSED] * count:
            raise SystemExit(f"expected {count} paused instances, got {states}")

    try:
        with pinned():
            for number, name in enumerate(names):
                instance = Instance(name=name, memory_mib=16, parameters=parameters)
                with pinned(processor_of(number)):
                    hypervisor.start_instance(instance, start_paused=True)
            paths = [shared_monitor(directory, name) for name in names]
            with hypervisor.watch() as watch:
                check(watch.query())
                watch.wait(timeout=_SETTLED_S)
                return compare(
                    f"Listing {count} instances, QEMU",
                    "All guests are paused. The watch is measured after its first queries, as in a daemon. The QEMUs "
                    "are distributed over all processors.",
                    {
                        _ONE_BY_ONE: repeat(lambda: _query_all(paths, _STATUS)),
                        _GANETI: repeat(lambda: _query_all(paths, _GANETI_COMMANDS)),
                        OURS: repeat(lambda: check(hypervisor.get_all_instances_info())),
                        _WATCH: repeat(lambda: check(watch.query())),
                    },
                    rounds=effort.of(40, least=2),
                    calls=1,
                    aims={OURS: 1.0, _WATCH: 0.4},
                    reference=_ONE_BY_ONE,
                    unit="ms",
                )
    finally:
        for name in names:
            hypervisor.stop_instance(name, force=True)
            hypervisor.cleanup_instance(name)
        shutil.rmtree(directory)
