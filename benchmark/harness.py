# SPDX-License-Identifier: BSD-2-Clause
"""How to measure on a machine whose speed drifts: contestants in turn, many short rounds, ratios within a round."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import attrs

#: Whose time is 1 in a figure of ratios.
RAW: Final = "raw"
#: The contestants that aims are about.
OURS: Final = "hvkit"
OURS_FAST: Final = "hvkit[fast]"

_CPUS: Final = sorted(os.sched_getaffinity(0))

#: Does its work a number of times and returns the seconds that took.
Timed = Callable[[int], float]


@attrs.frozen
class Spread:
    """What many rounds gave.

    Attributes:
        median: of all rounds.
        low: the least of them.
        high: the greatest.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Make the spread of the values of some rounds."""
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))


@attrs.frozen
class Figure:
    """One row of the table.

    Attributes:
        what: what was measured.
        unit: what the numbers are; "x raw" for ratios.
        results: by contestant.
        aims: by contestant: what its median shall be at most; at least, where `more_is_better`.
        more_is_better: whether great numbers are good.
        note: what a reader has to know beside it.
    """

    what: str
    unit: str
    results: Mapping[str, Spread]
    aims: Mapping[str, float] = attrs.field(factory=dict)
    more_is_better: bool = False
    note: str = ""

    def is_met(self, contestant: str) -> bool:
        """Whether a contestant that has an aim reached it."""
        median, aim = self.results[contestant].median, self.aims[contestant]
        return median >= aim if self.more_is_better else median <= aim


@attrs.frozen
class Effort:
    """How much work to put into the figures.

    Attributes:
        share: of the rounds of a whole run, how many to do.
    """

    share: float = 1.0

    def of(self, whole: int, *, least: int = 1) -> int:
        """Return how much of something to do."""
        return max(least, round(whole * self.share))


def cpus() -> tuple[int, int]:
    """Return the processors for the client and for the server; the same one where there are no two."""
    return _CPUS[0], _CPUS[1 % len(_CPUS)]


@contextlib.contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Have this thread, and the processes that it starts, run on one processor for the length of a block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_many_files() -> None:
    """Let this process and its children open as many files as the system lets them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def loop(work: Callable[[], object]) -> Timed:
    """Return what times a number of calls."""

    def timed(times: int) -> float:
        numbers = range(times)
        began_s = time.perf_counter()
        for _ in numbers:
            work()
        return time.perf_counter() - began_s

    return timed


def seconds_by_round(contestants: Mapping[str, Timed], rounds: int, times: int) -> dict[str, list[float]]:
    """Have every contestant do its work in every round, after a round that does not count.

    Args:
        contestants: by name.
        rounds: how many rounds count.
        times: how often each does its work in a round.

    Returns:
        The seconds of each round, by contestant.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for timed in contestants.values():
        timed(times)
    # What one contestant keeps alive is not looked through in the time of another.
    gc.collect()
    gc.freeze()
    try:
        for _ in range(rounds):
            for name, timed in contestants.items():
                seconds[name].append(timed(times))
    finally:
        gc.unfreeze()
    return seconds


def compare(
    what: str,
    contestants: Mapping[str, Timed],
    rounds: int,
    times: int,
    aims: Mapping[str, float],
    *,
    to: str = RAW,
    note: str = "",
) -> Figure:
    """Measure how much longer each contestant takes than one of them does in the same round.

    Args:
        what: was measured.
        contestants: by name.
        rounds: how many rounds count.
        times: how often each does its work in a round.
        aims: by contestant.
        to: whose time is 1. What that is in microseconds is noted: ratios to a floor that had to wait for the machine
            look better than they are.
        note: what else a reader has to know.
    """
    seconds = seconds_by_round(contestants, rounds, times)
    results = {
        name: Spread.of(mine / floor for mine, floor in zip(each, seconds[to], strict=True))
        for name, each in seconds.items()
    }
    floor_us = Spread.of(each / times * 1e6 for each in seconds[to])
    floor = f"{to} takes {floor_us.median:.1f} us, {floor_us.low:.1f} at best"
    return Figure(what, f"x {to}", results, aims, note=f"{floor}; {note}" if note else floor)
