# SPDX-License-Identifier: BSD-2-Clause
"""Events as fast as a peer can send them, taken one by one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmark.contestants import Contestant, Hvkit, QemuQmp, Raw, RawJson, RawOrjson
from benchmark.harness import OURS, OURS_FAST, Effort, Figure, Spread, cpus, pinned, seconds_by_round
from benchmark.servers import Servers
from hvkit.qmp.schema import DeviceDeletedEvent

#: How many events; a contestant that needs minutes for them gets a tenth.
_COUNT: Final = 200_000
_FLOOD: Final = "x-flood"


def _by_hand(contestant: Raw, loads: Callable[[bytes], Any], count: int) -> None:
    """Take events with as little as it takes."""
    contestant.send(json.dumps({"execute": _FLOOD, "arguments": {"count": count}}).encode())
    rest, taken = b"", -1  # the first line is the answer
    while taken < count:
        lines = (rest + contestant.receive()).split(b"\n")
        rest = lines.pop()
        for line in lines:
            loads(line)
        taken += len(lines)


def _subscribed(contestant: Hvkit, count: int) -> None:
    connection = contestant.connection
    with connection.subscribe(DeviceDeletedEvent) as events:
        connection.execute(_FLOOD, {"count": count})
        for _ in range(count):
            assert events.get(timeout=60).device == "disk0"
        assert not events.dropped


def _turn(contestant: Contestant, path: Path, count: int) -> Callable[[int], float]:
    """Return what times how a contestant takes its events, on a connection of its own."""

    def turn(_: int) -> float:
        contestant.connect(path)
        try:
            began_s = time.perf_counter()
            match contestant:
                case Hvkit():
                    _subscribed(contestant, count)
                case QemuQmp():
                    contestant.take_events(_FLOOD, count)
                case RawOrjson():
                    _by_hand(contestant, contestant.loads, count)
                case RawJson():
                    _by_hand(contestant, json.loads, count)
            return time.perf_counter() - began_s
        finally:
            contestant.close()

    return turn


def _resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def typed_events(servers: Servers, contestants: Sequence[Contestant], effort: Effort) -> Figure:
    """Measure how many typed events a second a subscription delivers."""
    count = effort.of(_COUNT, least=2_000)
    takers = [each for each in contestants if isinstance(each, (RawJson, Hvkit, QemuQmp))]
    counts = {each.name: count // 10 if isinstance(each, QemuQmp) else count for each in takers}
    with servers.stub() as path, pinned(cpus()[0]):
        turns = {each.name: _turn(each, path, counts[each.name]) for each in takers}
        ours = turns[OURS]
        ours(1)
        before_kib = _resident_kib()
        ours(1)
        growth_kib = _resident_kib() - before_kib
        seconds = seconds_by_round(turns, effort.of(5), 1)
    return Figure(
        f"typed events, {count} at once",
        "thousand/s",
        {name: Spread.of(counts[name] / 1000 / each for each in of) for name, of in seconds.items()},
        {OURS: 150, OURS_FAST: 250},
        more_is_better=True,
        note=f"hvkit's process grew by {growth_kib} KiB in a second flood; untyped but for hvkit",
    )
