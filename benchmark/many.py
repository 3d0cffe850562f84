# SPDX-License-Identifier: BSD-2-Clause
"""Many machines asked at once: real ones, and a thousand stubs of which some are silent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from benchmark.contestants import Contestant
from benchmark.harness import OURS, OURS_FAST, Effort, Figure, Spread, compare, loop, seconds_by_round
from benchmark.servers import Servers
from hvkit.qmp import CommandTimeout
from hvkit.qmp.fleet import Fleet
from hvkit.qmp.schema import QueryStatus

_SILENT_SHARE: Final = 100
_TIMEOUT_S: Final = 0.5


def real_machines(servers: Servers, contestants: Sequence[Contestant], effort: Effort, qemu: str) -> Figure:
    """Measure connecting to, asking and leaving many real machines."""
    count = effort.of(100, least=10)
    with servers.machines(qemu, count) as paths:
        turns = {each.name: loop(lambda each=each: each.ask_all(paths)) for each in contestants}  # type: ignore[misc]
        return compare(
            f"{count} real machines: connect, query-status, close",
            turns,
            effort.of(20, least=2),
            1,
            {OURS: 0.45, OURS_FAST: 0.45},
            note="raw and the like one by one, qmp in 16 threads, qemu.qmp gathered, hvkit by fleet.ask",
        )


def silent_machines(servers: Servers, contestants: Sequence[Contestant], effort: Effort) -> Figure:
    """Measure what silent machines cost the others of a fleet whose connections are kept."""
    count = effort.of(1000, least=200)
    silent = count // _SILENT_SHARE
    ours = next(each for each in contestants if each.name == OURS)
    ours.prepare()
    with (
        servers.stub() as path,
        servers.stub(is_silent=True) as silent_path,
        Fleet({str(number): path for number in range(count)}) as talking,
        Fleet({str(number): silent_path if number < silent else path for number in range(count)}) as mixed,
    ):

        def all_answer(_: int) -> float:
            outcomes = talking.execute(QueryStatus(), timeout=60).values()
            return max(outcome.after_s for outcome in outcomes if outcome.value.running)

        def some_are_silent(_: int) -> float:
            outcomes = mixed.execute(QueryStatus(), timeout=_TIMEOUT_S).values()
            answered = [outcome.after_s for outcome in outcomes if outcome.error is None]
            expired = [outcome for outcome in outcomes if isinstance(outcome.error, CommandTimeout)]
            if (len(answered), len(expired)) != (count - silent, silent):
                raise SystemExit(f"{len(answered)} answered and {len(expired)} were silent, of {count}")
            return max(answered)

        began_s = time.perf_counter()
        some_are_silent(1)
        round_s = time.perf_counter() - began_s
        turns = {"none silent": all_answer, OURS: some_are_silent}
        seconds = seconds_by_round(turns, effort.of(15, least=2), 1)
    results = {OURS: Spread.of(b / a for a, b in zip(seconds["none silent"], seconds[OURS], strict=True))}
    whole_ms = Spread.of(seconds["none silent"]).median * 1000
    return Figure(
        f"{count} stub machines kept open: the last answer with {silent} silent",
        "x none silent",
        results,
        {OURS: 1.5},
        note=f"a round takes {whole_ms:.0f} ms; the silent ones were reported {round_s:.2f} s after a question "
        f"with a deadline of {_TIMEOUT_S} s",
    )
