# SPDX-License-Identifier: BSD-2-Clause
"""Measure the figures of hvkit: all rows, or the selected ones."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import attrs

from benchmark import (
    commands,
    events,
    fleets,
    hot_add,
    listing,
    memory,
    migration,
    process,
    schema_reply,
    start,
    table,
)
from benchmark.clients import Client, find_clients
from benchmark.counters import InstructionCounter
from benchmark.figure import Figure, measure_until_stable
from benchmark.harness import Effort, raise_file_limit
from benchmark.servers import Servers

#: A complete run takes at most about this long. Rows are not repeated when it would take longer.
_BUDGET_S: Final = 660


@attrs.frozen
class _Row:
    """One measurement.

    Attributes:
        name: selects it on the command line.
        measure: performs it.
        duration_s: how long one attempt takes with full effort.
        needs_qemu: whether QEMU has to be installed.
    """

    name: str
    measure: Callable[[Servers, Sequence[Client], Effort], Figure]
    duration_s: float
    needs_qemu: bool = False


_ROWS: Final = (
    _Row("rtt", commands.round_trip, 10),
    _Row("connect", commands.connect, 10),
    _Row("events", events.events, 30),
    _Row("fleet", fleets.silent_fleet, 10),
    _Row("memory", memory.memory, 5),
    _Row("process", process.process, 10),
    _Row("schema", schema_reply.schema_reply, 5),
    _Row("rtt-qemu", commands.round_trip_qemu, 15, needs_qemu=True),
    _Row("blockdev-qemu", commands.blockdev_add_qemu, 20, needs_qemu=True),
    _Row("fleet-qemu", fleets.query_fleet, 40, needs_qemu=True),
    _Row("start-qemu", start.start, 30, needs_qemu=True),
    _Row("listing-qemu", listing.listing, 40, needs_qemu=True),
    _Row("hot-add-qemu", hot_add.hot_add, 15, needs_qemu=True),
    _Row("migration-qemu", migration.migration, 40, needs_qemu=True),
)


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class _Run:
    """A run of some rows.

    Args:
        rows: the rows to measure.
        effort: how much work to put into it.
    """

    def __init__(self, rows: Sequence[_Row], effort: Effort) -> None:
        self._rows = rows
        self._effort = effort
        self._start_s = time.monotonic()

    def measure(self, servers: Servers, clients: Sequence[Client]) -> dict[str, Figure]:
        """Measure the rows one after the other, and return the figures by the name of the row."""
        figures: dict[str, Figure] = {}
        for number, row in enumerate(self._rows):
            _progress(f"[{number + 1}/{len(self._rows)}] {row.name} ...")
            start_s = time.monotonic()
            figure = measure_until_stable(
                partial(row.measure, servers, clients, self._effort), partial(self._may_repeat, number)
            )
            figures[row.name] = figure
            unstable = f"; not stable: {'; '.join(figure.unstable)}" if figure.unstable else ""
            _progress(f"    {time.monotonic() - start_s:.0f} s{unstable}")
        return figures

    def _may_repeat(self, number: int) -> bool:
        """Return whether there is time for another attempt at a row, and for all rows that follow."""
        left_s = _BUDGET_S - (time.monotonic() - self._start_s)
        is_possible = sum(row.duration_s for row in self._rows[number:]) * self._effort.share <= left_s
        _progress("    not stable: again" if is_possible else "    not stable: no time for another attempt")
        return is_possible


def _parse_arguments() -> argparse.Namespace:
    names = [row.name for row in _ROWS]
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=names, metavar="ROW", help=f"measure only: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="perform a tenth of the rounds, to see that it works")
    parser.add_argument("--share", type=float, help="perform this share of the rounds, between 0 and 1")
    parser.add_argument("--write", action="store_true", help="write the tables to docs/figures.md")
    options = parser.parse_args()
    if options.write and (options.quick or options.share is not None):
        parser.error("--write needs all rounds: leave out --quick and --share")
    return options


def _facts(servers: Servers, missing: Sequence[str]) -> list[str]:
    """Return sentences about the machine and about the rows and clients that were not measured."""
    facts = [table.machine(servers.qemu)]
    counter = InstructionCounter.open()
    if counter is None:
        facts.append("Instructions were not counted: the machine offers no counter.")
    else:
        counter.close()
    if missing:
        facts.append(f"Not measured, because not installed: {', '.join(missing)}.")
    return facts


def main() -> None:
    """Measure and print; with --write, write the page too."""
    options = _parse_arguments()
    share = options.share if options.share is not None else 0.1 if options.quick else 1.0
    raise_file_limit()
    clients, missing = find_clients()
    with tempfile.TemporaryDirectory(prefix="hvkit-bench-") as directory:
        servers = Servers.prepare(Path(directory))
        chosen = [row for row in _ROWS if not options.only or row.name in options.only]
        rows = [row for row in chosen if servers.qemu or not row.needs_qemu]
        figures = _Run(rows, Effort(share)).measure(servers, clients)
    facts = _facts(servers, missing)
    print(*map(table.as_text, figures.values()), *facts, sep="\n\n")
    if options.write:
        table.write(figures, facts, is_complete=len(rows) == len(_ROWS))


if __name__ == "__main__":
    main()
