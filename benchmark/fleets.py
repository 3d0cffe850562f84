# SPDX-License-Identifier: BSD-2-Clause
"""Many monitors queried at once: those of real QEMUs, and a thousand of the stub server, some of which are silent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from benchmark.clients import Client
from benchmark.figure import OURS, OURS_FAST, Figure, results_of
from benchmark.harness import MS_PER_S, Effort, compare, measure_rounds, pinned
from benchmark.meter import once, repeat
from benchmark.servers import Servers
from hvkit.qmp import CommandTimeout
from hvkit.qmp.fleet import Fleet
from hvkit.qmp.schema import QueryStatus

_SILENT_SHARE: Final = 100
_TIMEOUT_S: Final = 0.5
_NONE_SILENT: Final = "none silent"
_SOME_SILENT: Final = "1 % silent"


def query_fleet(servers: Servers, clients: Sequence[Client], effort: Effort) -> Figure:
    """Measure connecting to many QEMUs, querying their status and closing."""
    count = effort.of(100, least=10)
    with pinned(), servers.machines(count) as paths:
        return compare(
            f"{count} QEMUs: connect, `query-status`, close",
            "Every client works in the fastest way it offers: hvkit with `fleet.ask`, asyncio clients with "
            "`asyncio.gather`, qmp in 16 threads, the others one after the other. The QEMUs are distributed over all "
            "processors.",
            {each.name: repeat(lambda each=each: each.query_all(paths)) for each in clients},  # type: ignore[misc]
            rounds=effort.of(40, least=2),
            calls=1,
            aims={OURS: 0.45, OURS_FAST: 0.45},
            unit="ms",
        )


def silent_fleet(servers: Servers, clients: Sequence[Client], effort: Effort) -> Figure:
    """Measure how silent monitors delay the replies of the others in a fleet with open connections."""
    count = effort.of(1000, least=200)
    silent = count // _SILENT_SHARE
    ours = next(each for each in clients if each.name == OURS)
    ours.prepare()
    with (
        pinned(),
        servers.stub() as path,
        servers.stub(is_silent=True) as silent_path,
        Fleet({str(number): path for number in range(count)}) as responsive,
        Fleet({str(number): silent_path if number < silent else path for number in range(count)}) as mixed,
    ):

        def all_reply() -> float:
            outcomes = responsive.execute(QueryStatus(), timeout=60).values()
            return max(outcome.after_s for outcome in outcomes if outcome.value.running)

        def some_are_silent() -> float:
            outcomes = mixed.execute(QueryStatus(), timeout=_TIMEOUT_S).values()
            replied = [outcome.after_s for outcome in outcomes if outcome.error is None]
            expired = [outcome for outcome in outcomes if isinstance(outcome.error, CommandTimeout)]
            if (len(replied), len(expired)) != (count - silent, silent):
                raise SystemExit(f"{len(replied)} of {count} monitors replied, {len(expired)} timed out")
            return max(replied)

        start_s = time.perf_counter()
        some_are_silent()
        round_s = time.perf_counter() - start_s
        turns = {_NONE_SILENT: once(all_reply), _SOME_SILENT: once(some_are_silent)}
        samples = measure_rounds(turns, effort.of(15, least=2))
    return Figure(
        f"{count} open connections of a fleet, stub server",
        f"The time until the last reply to `query-status`, with {silent} silent monitors and with none.",
        "ms",
        results_of(samples, MS_PER_S, _NONE_SILENT),
        _NONE_SILENT,
        {_SOME_SILENT: 1.5},
        note=f"With a timeout of {_TIMEOUT_S} s, the silent monitors were reported after {round_s:.2f} s.",
    )
