# SPDX-License-Identifier: BSD-2-Clause
"""A process that executes one typed command: the cost of importing hvkit.

Two kinds of process connect to a monitor, execute `query-status`, print the status and exit. One uses hvkit. The other
uses json and a socket, and imports attrs and cattrs, which hvkit depends on.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmark.clients import Client
from benchmark.figure import OURS, Figure, results_of
from benchmark.harness import MS_PER_S, Effort, measure_rounds, pinned
from benchmark.meter import Meter, Turn
from benchmark.servers import Servers

_SCRIPT: Final = "socket + json"
#: Milliseconds that the process with hvkit may take longer.
_EXTRA_MS: Final = 12
_UNTYPED: Final = """
import json, socket, sys
import attrs, cattrs
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
stream = connection.makefile("rwb")
def ask(command):
    stream.write(json.dumps({"execute": command}).encode() + b"\\n")
    stream.flush()
    while "return" not in (message := json.loads(stream.readline())):
        pass
    return message["return"]
stream.readline()
ask("qmp_capabilities")
print(ask("query-status")["status"])
"""
_TYPED: Final = """
import sys
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import QueryStatus
with QmpConnection(sys.argv[1]) as connection:
    print(connection.execute(QueryStatus()).status)
"""


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _turn(script: Path, socket_path: Path) -> Turn:
    """Return a turn that runs a script once."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def turn(meter: Meter, _: int) -> None:
        start_s, start_cpu_s = time.perf_counter(), _children_cpu_s()
        done = subprocess.run(
            [sys.executable, script, socket_path], env=environment, capture_output=True, text=True, check=True
        )
        wall_s, cpu_s = time.perf_counter() - start_s, _children_cpu_s() - start_cpu_s
        if done.stdout != "running\n":
            raise SystemExit(f"{script.name} printed {done.stdout!r}")
        meter.add(wall_s, cpu_s)

    return turn


def process(servers: Servers, clients: Sequence[Client], effort: Effort) -> Figure:
    """Measure a process that executes one typed command against one that uses a socket."""
    del clients
    untyped, typed = servers.directory / "untyped.py", servers.directory / "typed.py"
    untyped.write_text(_UNTYPED)
    typed.write_text(_TYPED)
    with pinned(), servers.stub() as path:
        turns = {_SCRIPT: _turn(untyped, path), OURS: _turn(typed, path)}
        results = results_of(measure_rounds(turns, effort.of(40, least=3)), MS_PER_S)
    return Figure(
        "A process for one command, stub server",
        "Starting Python, importing, connecting, `query-status`, exiting. Both processes import attrs and cattrs. The "
        f"aim is {_EXTRA_MS} ms more than the process without hvkit.",
        "ms",
        results,
        aims={OURS: round(results[_SCRIPT].value.median + _EXTRA_MS, 1)},
    )
