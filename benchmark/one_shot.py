# SPDX-License-Identifier: BSD-2-Clause
"""What one typed command costs a process that does nothing else.

Starts two kinds of process in turn, each of which connects to a monitor, executes `query-status`, prints the status and
exits: one through hvkit, one by hand with the standard library, importing attrs and cattrs since those are given. The
figure is the difference of their wall times.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmark.contestants import Contestant
from benchmark.harness import OURS, Effort, Figure, Spread, seconds_by_round
from benchmark.servers import Servers

_BY_HAND: Final = """
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


def _wall_s(script: Path, socket_path: Path) -> float:
    """Run a script once and return its wall time in seconds."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, script, socket_path], env=environment, capture_output=True, text=True, check=True
    )
    elapsed_s = time.perf_counter() - began_s
    if done.stdout != "running\n":
        raise SystemExit(f"{script.name} printed {done.stdout!r}")
    return elapsed_s


def one_shot(servers: Servers, contestants: Sequence[Contestant], effort: Effort) -> Figure:
    """Measure a process that executes one typed command against one that does so by hand."""
    del contestants
    by_hand, typed = servers.directory / "by_hand.py", servers.directory / "typed.py"
    by_hand.write_text(_BY_HAND)
    typed.write_text(_TYPED)
    with servers.stub() as path:
        seconds = seconds_by_round(
            {"by hand": lambda _: _wall_s(by_hand, path), OURS: lambda _: _wall_s(typed, path)},
            effort.of(40, least=3),
            1,
        )
    extra_ms = [(ours - other) * 1000 for ours, other in zip(seconds[OURS], seconds["by hand"], strict=True)]
    return Figure(
        "a process for one typed command, over one by hand",
        "ms",
        {OURS: Spread.of(extra_ms)},
        {OURS: 12},
        note=f"by hand, with attrs and cattrs imported: {Spread.of(seconds['by hand']).median * 1000:.0f} ms",
    )
