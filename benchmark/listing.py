# SPDX-License-Identifier: BSD-2-Clause
"""What a listing of many real machines costs, over asking them one by one.

Raw is one thread that connects to one monitor after the other, negotiates, asks for the status and closes, without
JSON. Ganeti's way is the same with three connections to each machine, for its version, its processors and its memory.
A listing of ours reads what is remembered of every machine, makes sure that its process is the one of then, and asks
for its status and its memory. A watch of ours says the same, over connections that it keeps; it is measured once it is
settled, as a daemon's is.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmark.contestants import Contestant
from benchmark.harness import OURS, RAW, Effort, Figure, Spread, loop, seconds_by_round
from benchmark.servers import Servers
from hvkit.hypervisor import Instance, InstanceInfo, InstanceState
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.paths import RunDirectory

_GANETI: Final = "Ganeti's way, raw"
_WATCH: Final = "hvkit's watch"
#: Seconds after which a watch that heard nothing asks for the status alone.
_SETTLED_S: Final = 2.5
_STATUS: Final = ("query-status",)
_GANETI_ASKS: Final = ("query-version", "query-cpus-fast", "query-memory-size-summary")


def _ask_one(path: Path, command: str) -> None:
    """Connect, negotiate, ask, close; nothing is looked into but where a message ends."""
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(str(path))
        for line in ("", '{"execute":"qmp_capabilities"}\n', f'{{"execute":"{command}"}}\n'):
            monitor.sendall(line.encode())
            while not monitor.recv(65536).endswith(b"\n"):
                pass


def _ask_all(paths: Sequence[Path], commands: Sequence[str]) -> None:
    for path in paths:
        for command in commands:
            _ask_one(path, command)


def listing(servers: Servers, contestants: Sequence[Contestant], effort: Effort, *, qemu: str) -> Figure:
    """Measure a listing of many real machines over asking them raw, one by one."""
    del contestants
    count = effort.of(100, least=10)
    directory = servers.directory / "listing"
    hypervisor = KvmHypervisor(run_dir=directory)
    names = [f"bench{number}" for number in range(count)]
    try:
        for name in names:
            parameters = {"kvm_path": qemu, "kvm_flag": "disabled", "serial_console": False}
            hypervisor.start_instance(Instance(name=name, memory_mib=16, parameters=parameters), start_paused=True)
        paths = [RunDirectory(directory).instance(name).shared_socket for name in names]

        def check(infos: Sequence[InstanceInfo]) -> None:
            states = [info.state for info in infos]
            if states != [InstanceState.PAUSED] * count:
                raise SystemExit(f"a listing of {count} paused machines says {states}")

        with hypervisor.watch() as watch:
            check(watch.query())
            watch.wait(timeout=_SETTLED_S)
            turns = {
                RAW: loop(lambda: _ask_all(paths, _STATUS)),
                _GANETI: loop(lambda: _ask_all(paths, _GANETI_ASKS)),
                OURS: loop(lambda: check(hypervisor.get_all_instances_info())),
                _WATCH: loop(lambda: check(watch.query())),
            }
            seconds = seconds_by_round(turns, effort.of(20, least=2), 1)
    finally:
        for name in names:
            hypervisor.stop_instance(name, force=True)
            hypervisor.cleanup_instance(name)
        shutil.rmtree(directory)
    results = {
        name: Spread.of(mine / raw for mine, raw in zip(each, seconds[RAW], strict=True))
        for name, each in seconds.items()
    }
    return Figure(
        f"listing of {count} real machines",
        "x raw one by one",
        results,
        {OURS: 0.5, _WATCH: 0.5},
        note=f"raw takes {Spread.of(seconds[RAW]).median * 1000:.0f} ms",
    )
