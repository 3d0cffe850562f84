# SPDX-License-Identifier: BSD-2-Clause
"""Migrating an instance with hvkit, compared with sending the commands over a socket.

Both variants begin with the same instance and a destination that is ready. The measured time is from the request to the
confirmed end of the migration. The socket sends as few commands as possible, and polls every few milliseconds.
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

from benchmark.clients import Client
from benchmark.figure import OURS, Figure, results_of
from benchmark.harness import MS_PER_S, Effort, measure_rounds
from benchmark.hypervisors import control_monitor
from benchmark.meter import once
from benchmark.servers import Servers
from hvkit.hypervisor import Disk, Instance, MigrationState
from hvkit.hypervisor.kvm import KvmHypervisor

_SOCKET: Final = "socket + json"
_NAME: Final = "bench"
#: The filled part of the guest's memory, and the bandwidth limit: one migration takes more than a second.
_FILLED_MIB: Final = 192
_BANDWIDTH_MIB: Final = 128
_LOAD_ADDRESS: Final = 16 << 20
_POLL_S: Final = 0.005


class _Nodes:
    """Two run directories, which represent two nodes, and one instance."""

    def __init__(self, directory: Path, qemu: str) -> None:
        image, memory = directory / "disk.img", directory / "memory"
        image.write_bytes(bytes(1 << 20))
        with memory.open("wb") as file:
            for _ in range(_FILLED_MIB):
                file.write(os.urandom(1 << 20))
        self._target = str(directory / "link")
        self._source = KvmHypervisor(run_dir=directory / "source")
        self._destination = KvmHypervisor(run_dir=directory / "destination")
        self._monitor = control_monitor(directory / "source", _NAME)
        self._instance = Instance(
            name=_NAME,
            memory_mib=_FILLED_MIB + 64,
            disks=(Disk(path=str(image)),),
            parameters={
                "kvm_path": qemu,
                "kvm_flag": "disabled",
                "migration_bandwidth": _BANDWIDTH_MIB,
                "kvm_extra": f"-device loader,file={memory},addr={_LOAD_ADDRESS},force-raw=on",
            },
        )

    def migrate_s(self, migrate: Callable[[], None]) -> float:
        """Prepare both nodes, migrate, end both, and return the seconds that the migration took."""
        self._source.start_instance(self._instance, start_paused=True)
        try:
            self._destination.accept_instance(self._instance, self._source.migration_info(_NAME), self._target)
            start_s = time.perf_counter()
            migrate()
            return time.perf_counter() - start_s
        finally:
            for node in (self._source, self._destination):
                for name in node.list_instances():
                    node.stop_instance(name, force=True)
                    node.cleanup_instance(name)

    def migrate(self) -> None:
        """Migrate with hvkit."""
        self._source.migrate_instance(_NAME, self._target)
        status = self._source.follow_migration(_NAME)
        if status.status is not MigrationState.COMPLETED:
            raise SystemExit(f"the migration did not complete: {status}")

    def migrate_directly(self) -> None:
        """Migrate with commands over a socket."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._monitor))
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
                execute("migrate-set-capabilities", capabilities=[{"capability": "return-path", "state": True}])
                execute("migrate-set-parameters", **{"max-bandwidth": _BANDWIDTH_MIB << 20, "downtime-limit": 30})
                execute("migrate", uri=f"unix:{self._target}")
                while (status := execute("query-migrate").get("status")) != "completed":
                    if status == "failed":
                        raise SystemExit("a migration over a socket failed")
                    time.sleep(_POLL_S)


def migration(servers: Servers, clients: Sequence[Client], effort: Effort) -> Figure:
    """Measure migrating an instance."""
    del clients
    directory = servers.directory / "migration"
    directory.mkdir()
    try:
        nodes = _Nodes(directory, servers.qemu)
        turns = {
            _SOCKET: once(lambda: nodes.migrate_s(nodes.migrate_directly)),
            OURS: once(lambda: nodes.migrate_s(nodes.migrate)),
        }
        samples = measure_rounds(turns, effort.of(7))
    finally:
        shutil.rmtree(directory)
    return Figure(
        "Migrating an instance, QEMU",
        f"{_FILLED_MIB} MiB of memory at {_BANDWIDTH_MIB} MiB/s between two QEMUs on one machine. The three processes "
        "run on all processors.",
        "ms",
        results_of(samples, MS_PER_S, _SOCKET),
        _SOCKET,
        {OURS: 1.03},
    )
