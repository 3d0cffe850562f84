# SPDX-License-Identifier: BSD-2-Clause
"""What it costs to have the hypervisor send a machine, over sending the same one by hand.

Both begin with the same machine and with a destination that waits. Measured is the time from the wish to send it to the
knowledge that it was sent; by hand that is as few commands as do it, and then a look every few milliseconds.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmark.contestants import Contestant
from benchmark.harness import OURS, Effort, Figure, Spread, seconds_by_round
from benchmark.servers import Servers
from hvkit.hypervisor import Disk, Instance, MigrationState
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.paths import RunDirectory

_BY_HAND: Final = "by hand"
_NAME: Final = "bench"
#: What the guest has in its memory, and how much of that is sent in a second at most: a move takes one second and more.
_FILLED_MIB: Final = 192
_BANDWIDTH_MIB: Final = 128
_LOAD_ADDRESS: Final = 16 << 20
_LOOK_S: Final = 0.005


class _Nodes:
    """Two nodes, between which one instance is sent again and again."""

    def __init__(self, directory: Path, qemu: str) -> None:
        image, self._memory = directory / "disk.img", directory / "memory"
        image.write_bytes(bytes(1 << 20))
        with self._memory.open("wb") as file:
            for _ in range(_FILLED_MIB):
                file.write(os.urandom(1 << 20))
        self._target = str(directory / "link")
        self._source, self._destination = (KvmHypervisor(run_dir=directory / name) for name in ("here", "there"))
        self._control = RunDirectory(directory / "here").instance(_NAME).control_socket
        self._instance = Instance(
            name=_NAME,
            memory_mib=_FILLED_MIB + 64,
            disks=(Disk(path=str(image)),),
            parameters={
                "kvm_path": qemu,
                "kvm_flag": "disabled",
                "migration_bandwidth": _BANDWIDTH_MIB,
                "kvm_extra": f"-device loader,file={self._memory},addr={_LOAD_ADDRESS},force-raw=on",
            },
        )

    def move_s(self, send: Callable[[], None]) -> float:
        """Make ready on both nodes, send, end both, and return the seconds that sending took."""
        self._source.start_instance(self._instance, start_paused=True)
        try:
            self._destination.accept_instance(self._instance, self._source.migration_info(_NAME), self._target)
            began_s = time.perf_counter()
            send()
            return time.perf_counter() - began_s
        finally:
            for node in (self._source, self._destination):
                for name in node.list_instances():
                    node.stop_instance(name, force=True)
                    node.cleanup_instance(name)

    def send(self) -> None:
        """Send it through the hypervisor."""
        self._source.migrate_instance(_NAME, self._target)
        status = self._source.follow_migration(_NAME)
        if status.status is not MigrationState.COMPLETED:
            raise SystemExit(f"a migration ended so: {status}")

    def send_by_hand(self) -> None:
        """Send it over a socket, with nothing that could be left out."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._control))
            with monitor.makefile("rwb") as stream:
                stream.readline()

                def execute(command: str, **arguments: Any) -> Any:
                    stream.write(json.dumps({"execute": command, "arguments": arguments}).encode())
                    stream.flush()
                    while True:
                        reply = json.loads(stream.readline())
                        if "event" not in reply:
                            return reply["return"]

                execute("qmp_capabilities")
                capabilities = [{"capability": "return-path", "state": True}]
                execute("migrate-set-capabilities", capabilities=capabilities)
                execute("migrate-set-parameters", **{"max-bandwidth": _BANDWIDTH_MIB << 20, "downtime-limit": 30})
                execute("migrate", uri=f"unix:{self._target}")
                while (status := execute("query-migrate").get("status")) != "completed":
                    if status == "failed":
                        raise SystemExit("a migration by hand failed")
                    time.sleep(_LOOK_S)


def migration(servers: Servers, contestants: Sequence[Contestant], effort: Effort, *, qemu: str) -> Figure:
    """Measure how long it takes to send a machine, over sending it by hand."""
    del contestants
    directory = servers.directory / "migration"
    directory.mkdir()
    try:
        nodes = _Nodes(directory, qemu)
        seconds = seconds_by_round(
            {
                _BY_HAND: lambda _: nodes.move_s(nodes.send_by_hand),
                OURS: lambda _: nodes.move_s(nodes.send),
            },
            effort.of(7, least=1),
            1,
        )
    finally:
        shutil.rmtree(directory)
    ratios = [ours / other for ours, other in zip(seconds[OURS], seconds[_BY_HAND], strict=True)]
    return Figure(
        f"move of {_FILLED_MIB} MiB at {_BANDWIDTH_MIB} MiB/s, over the same QEMU by hand",
        "ratio",
        {OURS: Spread.of(ratios)},
        {OURS: 1.03},
        note=f"by hand: {Spread.of(seconds[_BY_HAND]).median * 1000:.0f} ms",
    )
