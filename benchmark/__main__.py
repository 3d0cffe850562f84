# SPDX-License-Identifier: BSD-2-Clause
"""Make the figures: all of them, or those that are named."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from benchmark import (
    contestants,
    events,
    exchange,
    hot_add,
    listing,
    many,
    memory,
    migration,
    one_shot,
    schema_reply,
    start,
    table,
)
from benchmark.harness import Effort, Figure, allow_many_files
from benchmark.servers import Servers, find_qemu

_STUBS: Final[Mapping[str, Callable[..., Figure]]] = {
    "exchange": exchange.query_status_stub,
    "connect": exchange.connect,
    "events": events.typed_events,
    "silent": many.silent_machines,
    "memory": memory.connection_memory,
    "one-shot": one_shot.one_shot,
    "schema": schema_reply.schema_reply,
}
_QEMUS: Final[Mapping[str, Callable[..., Figure]]] = {
    "exchange-qemu": exchange.query_status_qemu,
    "blockdev-qemu": exchange.blockdev_add,
    "machines-qemu": many.real_machines,
    "start-qemu": start.start,
    "listing-qemu": listing.listing,
    "hot-add-qemu": hot_add.hot_add,
    "migration-qemu": migration.migration,
}


def main() -> None:
    """Measure and print; with --write, write too."""
    names = [*_STUBS, *_QEMUS]
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*names, []], metavar="name", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds: to see whether it works")
    parser.add_argument("--share", type=float, help="the share of the rounds to do, where --quick is too much")
    parser.add_argument("--write", action="store_true", help="put the table into docs/figures.md")
    options = parser.parse_args()
    chosen = [name for name in names if name in options.names or not options.names]
    effort = Effort(options.share or (0.1 if options.quick else 1.0))
    allow_many_files()
    clients, lines = contestants.available()
    qemu = find_qemu()
    if qemu is None:
        lines.append("without QEMU: it is not installed")
    made: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory(prefix="hvkit-bench-") as directory:
        servers = Servers.prepare(Path(directory))
        for name in chosen:
            measure = _STUBS.get(name) or (None if qemu is None else partial(_QEMUS[name], qemu=qemu))
            if measure is None:
                continue
            began_s = time.monotonic()
            made[name] = measure(servers, clients, effort)
            print(f"{name}: measured in {time.monotonic() - began_s:.0f} s", file=sys.stderr)
    figures = list(made.values())
    lines.append(f"{_qemu_version(qemu)}{table.machine()}")
    print(table.as_text(figures), *[f"{figure.what}: {figure.note}" for figure in figures if figure.note], sep="\n")
    print(*lines, sep="\n")
    if options.write:
        table.write(figures, lines)


def _qemu_version(qemu: str | None) -> str:
    if qemu is None:
        return ""
    printed = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=True).stdout
    return f"{printed.splitlines()[0].split(' (')[0]}, "


if __name__ == "__main__":
    main()
