# SPDX-License-Identifier: BSD-2-Clause
"""Memory of an open connection: ``python -m benchmark.memory PATH COUNT`` prints it in KiB."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

from benchmark.clients import Client
from benchmark.figure import OURS, Figure, Quartiles, Result
from benchmark.harness import Effort
from benchmark.servers import Servers
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import QueryStatus


def memory(servers: Servers, clients: Sequence[Client], effort: Effort) -> Figure:
    """Measure the memory of each of many open connections, in separate processes."""
    del clients
    count = effort.of(500, least=50)
    with servers.stub() as path:
        command = [sys.executable, "-m", "benchmark.memory", str(path), str(count)]
        printed = [
            subprocess.run(command, capture_output=True, check=True, text=True, cwd=Path(__file__).parents[1]).stdout
            for _ in range(effort.of(3))
        ]
    traced, resident = (Quartiles.of(map(float, column)) for column in zip(*map(str.split, printed), strict=True))
    return Figure(
        "Memory of an open connection",
        f"Memory of each of {count} open connections, as tracemalloc counts it.",
        "KiB",
        {OURS: Result(traced)},
        aims={OURS: 4},
        note=f"The resident size of the process grew by {resident.median:.1f} KiB for each connection.",
    )


def _resident_kib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def main() -> None:
    """Open connections, and print the memory of each: as counted by tracemalloc, and as growth of the process."""
    path, count = sys.argv[1], int(sys.argv[2])
    _open(path)  # allocates the memory that all connections share
    before_kib = _resident_kib()
    kept = [_open(path) for _ in range(count)]
    gc.collect()
    resident_kib = (_resident_kib() - before_kib) / count
    tracemalloc.start()
    kept += [_open(path) for _ in range(count)]
    gc.collect()
    traced_kib = tracemalloc.get_traced_memory()[0] / count / 1024
    print(traced_kib, resident_kib)


def _open(path: str) -> QmpConnection:
    connection = QmpConnection(path)
    connection.connect()
    connection.execute(QueryStatus())
    return connection


if __name__ == "__main__":
    main()
