# SPDX-License-Identifier: BSD-2-Clause
"""Rounds in which all clients take turns on fixed processors."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from benchmark.counters import InstructionCounter
from benchmark.figure import BARE, Figure, results_of
from benchmark.meter import Meter, Sample, Turn

_CPUS: Final = sorted(os.sched_getaffinity(0))
#: The processor of the client, and of every server that shares it.
CPU: Final = _CPUS[0]

US_PER_S: Final = 1e6
MS_PER_S: Final = 1e3


@attrs.frozen
class Effort:
    """How much work to put into the figures.

    Attributes:
        share: the part of the rounds of a complete run to perform, between 0 and 1.
    """

    share: float = 1.0

    def of(self, whole: int, *, least: int = 1) -> int:
        """Return this share of a number, rounded, but at least `least`."""
        return max(least, round(whole * self.share))


def processor_of(number: int) -> int:
    """Return the processor of one of many servers: they are distributed evenly over all processors."""
    return _CPUS[number % len(_CPUS)]


@contextlib.contextmanager
def pinned(cpu: int = CPU) -> Iterator[None]:
    """Run this thread, and the threads and processes that it starts, on one processor inside a `with` block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_file_limit() -> None:
    """Raise the limit of open files of this process and its children to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure_rounds(turns: Mapping[str, Turn], rounds: int, calls: int = 1) -> dict[str, list[Sample]]:
    """Let every client perform its turn in every round, after one round that does not count.

    Args:
        turns: by client.
        rounds: the number of rounds that count.
        calls: how many calls a turn consists of.

    Returns:
        The cost of one call in each round, by client.
    """
    samples: dict[str, list[Sample]] = {client: [] for client in turns}
    counter = InstructionCounter.open()
    for turn in turns.values():
        turn(Meter(), calls)
    # Without this, the collector visits the objects of all clients in the turn of one of them.
    gc.collect()
    gc.freeze()
    try:
        for _ in range(rounds):
            for client, turn in turns.items():
                meter = Meter(counter)
                turn(meter, calls)
                samples[client].append(meter.sample().per_call(calls))
    finally:
        gc.unfreeze()
        if counter is not None:
            counter.close()
    return samples


def compare(
    title: str,
    text: str,
    turns: Mapping[str, Turn],
    *,
    rounds: int,
    calls: int,
    aims: Mapping[str, float],
    reference: str = BARE,
    unit: str = "us",
) -> Figure:
    """Measure clients against one of them.

    Args:
        title: of the figure.
        text: of the figure.
        turns: by client.
        rounds: the number of rounds that count.
        calls: how many calls a turn consists of.
        aims: the largest accepted ratio, by client.
        reference: the client that ratios are relative to.
        unit: of the times, `us` or `ms`.
    """
    samples = measure_rounds(turns, rounds, calls)
    results = results_of(samples, US_PER_S if unit == "us" else MS_PER_S, reference)
    return Figure(title, text, unit, results, reference, aims)
