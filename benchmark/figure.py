# SPDX-License-Identifier: BSD-2-Clause
"""Measured quantities, and the rule that decides which of them are published."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import attrs

from benchmark.meter import Sample

#: The client that times are compared with, unless a figure says otherwise.
BARE: Final = "bare socket"
#: The clients that have aims.
OURS: Final = "hvkit"
OURS_FAST: Final = "hvkit[fast]"
OURS_ASYNC: Final = "hvkit asyncio"

#: A quantity is published if its third quartile is at most this many times its first quartile.
STABLE_SPREAD: Final = 1.15
#: Maximum number of measurements of a figure.
MAX_ATTEMPTS: Final = 3


@attrs.frozen
class Quartiles:
    """The distribution of a quantity over the rounds.

    Attributes:
        low: the first quartile.
        median: the second quartile.
        high: the third quartile.
    """

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Quartiles:
        """Return the quartiles of some values."""
        values = list(values)
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))

    @property
    def is_stable(self) -> bool:
        """Whether the quantity may be published: its quartiles are at most 15 % apart."""
        return self.high <= self.low * STABLE_SPREAD


@attrs.frozen
class Result:
    """The measured quantities of one client.

    Attributes:
        value: the wall time, or another quantity, in the unit of the figure.
        ratio: `value` relative to that of the reference client in the same round; None without a reference.
        cpu: CPU time of the client for one call, in the unit of the figure; None if it was not measured.
        instructions: user-space instructions of the client for one call; None if they were not counted.
    """

    value: Quartiles
    ratio: Quartiles | None = None
    cpu: Quartiles | None = None
    instructions: Quartiles | None = None

    @property
    def main(self) -> Quartiles:
        """The quantity that the aim is for: the ratio if there is one."""
        return self.value if self.ratio is None else self.ratio


@attrs.frozen
class Figure:
    """One measurement: a section of the page, with a row for each client.

    Attributes:
        title: the measured operation.
        text: how it was measured, in a sentence or two.
        unit: the unit of all values and CPU times.
        results: by client.
        reference: the client that ratios are relative to; None without ratios.
        aims: the largest accepted value of `Result.main` by client; the smallest with `more_is_better`.
        more_is_better: whether large values are good.
        note: further facts from the measurement.
    """

    title: str
    text: str
    unit: str
    results: Mapping[str, Result]
    reference: str | None = None
    aims: Mapping[str, float] = attrs.field(factory=dict)
    more_is_better: bool = False
    note: str = ""

    def is_met(self, client: str) -> bool:
        """Return whether a client with an aim reached it."""
        median, aim = self.results[client].main.median, self.aims[client]
        return median >= aim if self.more_is_better else median <= aim

    @property
    def unstable(self) -> list[str]:
        """The clients whose row is not published."""
        return [client for client, result in self.results.items() if not result.main.is_stable]


def measure_until_stable(measure: Callable[[], Figure], may_repeat: Callable[[], bool]) -> Figure:
    """Measure a figure, and repeat the measurement while a row is not stable.

    Args:
        measure: measures once.
        may_repeat: returns whether there is time for another attempt.

    Returns:
        The first attempt in which all rows are stable, or else the one with the most stable rows. A row that is still
        not stable is shown without a number.
    """
    best = measure()
    for _ in range(MAX_ATTEMPTS - 1):
        if not best.unstable or not may_repeat():
            break
        best = min(best, measure(), key=lambda each: len(each.unstable))
    return best


def results_of(
    samples: Mapping[str, Sequence[Sample]], units_per_s: float, reference: str | None = None
) -> dict[str, Result]:
    """Return the results of timed clients.

    Args:
        samples: the cost of a call in each round, by client.
        units_per_s: how many units of the figure a second has.
        reference: the client that ratios are relative to.
    """
    results: dict[str, Result] = {}
    for client, rounds in samples.items():
        ratio = cpu = instructions = None
        if reference is not None:
            pairs = zip(rounds, samples[reference], strict=True)
            ratio = Quartiles.of(mine.wall_s / other.wall_s for mine, other in pairs)
        if all(each.cpu_s for each in rounds):
            cpu = Quartiles.of(each.cpu_s * units_per_s for each in rounds)
        counts = [each.instructions for each in rounds if each.instructions is not None]
        if len(counts) == len(rounds):
            instructions = Quartiles.of(map(float, counts))
        results[client] = Result(Quartiles.of(each.wall_s * units_per_s for each in rounds), ratio, cpu, instructions)
    return results
