# SPDX-License-Identifier: BSD-2-Clause
"""Events that arrive as fast as the stub server can send them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmark.clients import Client, EventClient
from benchmark.figure import OURS, OURS_FAST, Figure, Quartiles, Result
from benchmark.harness import US_PER_S, Effort, measure_rounds, pinned
from benchmark.meter import Meter, Turn
from benchmark.servers import Servers

_COUNT: Final = 50_000


def _resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def _turn(client: EventClient, path: Path, count: int) -> Turn:
    """Return a turn of a client that receives events on a new connection."""

    def turn(meter: Meter, _: int) -> None:
        client.connect(path)
        try:
            client.take_events(meter, count)
        finally:
            client.close()

    return turn


def events(servers: Servers, clients: Sequence[Client], effort: Effort) -> Figure:
    """Measure how many events per second a subscription delivers."""
    whole = effort.of(_COUNT, least=2_000)
    takers = [each for each in clients if isinstance(each, EventClient)]
    counts = {each.name: round(whole * each.event_share) for each in takers}
    with pinned(), servers.stub() as path:
        turns = {each.name: _turn(each, path, counts[each.name]) for each in takers}
        turns[OURS](Meter(), 1)
        before_kib = _resident_kib()
        turns[OURS](Meter(), 1)
        growth_kib = _resident_kib() - before_kib
        samples = measure_rounds(turns, effort.of(15, least=2))
    results = {
        client: Result(
            Quartiles.of(counts[client] / 1000 / each.wall_s for each in rounds),
            cpu=Quartiles.of(each.cpu_s / counts[client] * US_PER_S for each in rounds),
        )
        for client, rounds in samples.items()
    }
    return Figure(
        "Events, stub server",
        f"{whole} `DEVICE_DELETED` events that the server sends as fast as it can, taken one by one. hvkit delivers "
        "typed events, the others plain data.",
        "thousand events/s",
        results,
        aims={OURS: 150, OURS_FAST: 250},
        more_is_better=True,
        note=f"The process of hvkit grew by {growth_kib} KiB when it received them a second time.",
    )
