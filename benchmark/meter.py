# SPDX-License-Identifier: BSD-2-Clause
"""Stopwatches for wall time, CPU time and instructions."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias

import attrs

from benchmark.counters import InstructionCounter


@attrs.frozen
class Sample:
    """The cost of the calls of one client in one round.

    Attributes:
        wall_s: wall time.
        cpu_s: CPU time of the client, in user space and in the kernel; 0 if it was not measured.
        instructions: instructions of the client in user space; None if they were not counted.
    """

    wall_s: float
    cpu_s: float = 0.0
    instructions: int | None = None

    def per_call(self, calls: int) -> Sample:
        """Return the cost of one of a number of calls."""
        instructions = None if self.instructions is None else round(self.instructions / calls)
        return Sample(self.wall_s / calls, self.cpu_s / calls, instructions)


class Meter:
    """A stopwatch that runs inside its `with` blocks and adds up what they take.

    Args:
        counter: counts instructions; None to count none.
    """

    def __init__(self, counter: InstructionCounter | None = None) -> None:
        self._counter = counter
        self._wall_s = self._cpu_s = 0.0
        self._instructions = 0
        self._start = (0.0, 0.0, 0)

    def __enter__(self) -> None:
        instructions = 0 if self._counter is None else self._counter.read()
        self._start = (time.perf_counter(), time.process_time(), instructions)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        start_wall_s, start_cpu_s, start_instructions = self._start
        self._wall_s += wall_s - start_wall_s
        self._cpu_s += cpu_s - start_cpu_s
        if self._counter is not None:
            self._instructions += self._counter.read() - start_instructions

    def add(self, wall_s: float, cpu_s: float = 0.0) -> None:
        """Add a cost that was measured in another way, for example in a child process."""
        self._wall_s += wall_s
        self._cpu_s += cpu_s

    def sample(self) -> Sample:
        """Return the sum of all blocks."""
        return Sample(self._wall_s, self._cpu_s, None if self._counter is None else self._instructions)


#: Performs a client's work a number of times. The meter runs during the measured part.
Turn: TypeAlias = Callable[[Meter, int], None]


def repeat(work: Callable[[], object]) -> Turn:
    """Return a turn that measures all of a function's calls together."""

    def turn(meter: Meter, calls: int) -> None:
        numbers = range(calls)
        with meter:
            for _ in numbers:
                work()

    return turn


def once(work: Callable[[], float]) -> Turn:
    """Return a turn of a function that measures itself and returns its wall time in seconds."""

    def turn(meter: Meter, calls: int) -> None:
        for _ in range(calls):
            meter.add(work())

    return turn
