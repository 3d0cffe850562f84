# SPDX-License-Identifier: BSD-2-Clause
"""What one typed command costs a process that does nothing else.

Starts two kinds of process in turn, each of which connects to a monitor, executes `query-status`, prints the status and
exits: one through hvkit, one by hand with the standard library, importing attrs and cattrs since those are given. The
figure is the difference of the medians of their wall times, in milliseconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hvkit.testing import QmpStub

BY_HAND = """
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
TYPED = """
import sys
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import QueryStatus
with QmpConnection(sys.argv[1]) as connection:
    print(connection.execute(QueryStatus()).status)
"""
STATUS = {"return": {"status": "running", "running": True, "singlestep": False}}


def wall_ms(script: Path, socket_path: Path) -> float:
    """Run a script once and return its wall time in milliseconds."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, script, socket_path], env=environment, capture_output=True, text=True, check=True
    )
    elapsed_ms = (time.perf_counter() - began) * 1000
    if done.stdout != "running\n":
        sys.exit(f"{script.name} printed {done.stdout!r}")
    return elapsed_ms


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40, help="runs of each kind, after two that are not counted")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as directory:
        socket_path = Path(directory, "qmp.sock")
        scripts = {name: Path(directory, f"{name}.py") for name in ("by_hand", "typed")}
        scripts["by_hand"].write_text(BY_HAND)
        scripts["typed"].write_text(TYPED)
        times: dict[str, list[float]] = {name: [] for name in scripts}
        with QmpStub(socket_path, [({"execute": "query-status"}, STATUS)] * (2 * (runs + 2))):
            for number in range(runs + 2):
                for name, script in scripts.items():
                    elapsed_ms = wall_ms(script, socket_path)
                    if number >= 2:
                        times[name].append(elapsed_ms)
    medians = {name: statistics.median(each) for name, each in times.items()}
    for name, each in times.items():
        print(f"{name:10} median {medians[name]:6.1f} ms   min {min(each):6.1f}   max {max(each):6.1f}")
    print(f"extra      median {medians['typed'] - medians['by_hand']:6.1f} ms   aim <= 12")


if __name__ == "__main__":
    main()
