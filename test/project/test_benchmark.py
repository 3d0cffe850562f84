# SPDX-License-Identifier: BSD-2-Clause
"""The benchmarks run, and publish only stable figures. The measured values are not checked: the machine is busy."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmark import figure, table
from benchmark.counters import SOFTWARE_TASK_CLOCK, InstructionCounter
from benchmark.figure import BARE, MAX_ATTEMPTS, OURS, Figure, Quartiles, Result, measure_until_stable, results_of
from benchmark.harness import measure_rounds, pinned
from benchmark.meter import Meter, Sample, repeat

ROOT = Path(__file__).parents[2]
ONE = Quartiles(1, 1, 1)
STABLE = Quartiles(1.4, 1.5, 1.6)
UNSTABLE = Quartiles(1.4, 1.5, 1.62)
FACTS = ["Machine: one."]


def a_figure(ratio: Quartiles, title: str = "A thing") -> Figure:
    """Return a figure in which hvkit has this ratio to a bare socket."""
    results = {BARE: Result(Quartiles(10, 10, 10), ONE), OURS: Result(Quartiles(15, 15, 15), ratio, cpu=STABLE)}
    return Figure(title, "As it is.", "us", results, BARE, {OURS: 1.45}, note="So it is.")


def measured(*names: str) -> str:
    """Run rows with as few rounds as possible, and return the printed text."""
    command = [sys.executable, "-m", "benchmark", "--share", "0.001", "--only", *names]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of docs/figures.md that the benchmarks write to."""
    copy = tmp_path / "figures.md"
    copy.write_text(table.FIGURES_PAGE.read_text())
    monkeypatch.setattr(table, "FIGURES_PAGE", copy)
    return copy


def test_benchmark_without_qemu_measures_all_rows() -> None:
    printed = measured("rtt", "connect", "events", "fleet", "memory", "process", "schema")
    titles = ("`query-status`", "Connecting", "Events", "open connections", "Memory", "A process", "query-qmp-schema")
    for what in (*titles, "hvkit asyncio"):
        assert what in printed


# It starts a hundred QEMUs, which takes longer than the default timeout if other tests use the processors.
@pytest.mark.timeout(300)
@pytest.mark.qemu
def test_benchmark_with_qemu_measures_all_rows(qemu_binary: str) -> None:
    names = ("rtt-qemu", "blockdev-qemu", "fleet-qemu", "listing-qemu", "hot-add-qemu", "migration-qemu")
    printed = measured("start-qemu", *names)
    titles = ("`query-status`, QEMU", "`blockdev-add`", "QEMUs:", "watch", "Hot-adding", "Migrating", "Starting")
    for what in titles:
        assert what in printed


def test_figure_with_aim_is_met_or_missed() -> None:
    assert not a_figure(STABLE).is_met(OURS)
    results = {OURS: Result(STABLE)}
    assert Figure("Events", "", "1/s", results, aims={OURS: 1.4}, more_is_better=True).is_met(OURS)


@pytest.mark.parametrize(("high", "is_stable"), [(1.0, True), (1.15, True), (1.16, False), (3.0, False)])
def test_quartiles_more_than_15_percent_apart_are_not_stable(high: float, is_stable: bool) -> None:
    assert Quartiles(1.0, 1.0, high).is_stable is is_stable


def test_quartiles_of_values_ignore_order_and_outliers() -> None:
    assert Quartiles.of([100, 1, 2, 3, 4]) == Quartiles(2, 3, 4)
    assert Quartiles.of([7]) == Quartiles(7, 7, 7)


def test_results_with_reference_have_ratios_within_each_round() -> None:
    slow_machine = {BARE: [Sample(1, 0.5), Sample(10, 5)], OURS: [Sample(2, 1, 30), Sample(20, 10, 30)]}
    results = results_of(slow_machine, 1000, BARE)
    assert results[OURS].ratio == Quartiles(2, 2, 2)
    assert results[OURS].cpu == Quartiles.of([1000, 10_000])
    assert results[OURS].instructions == Quartiles(30, 30, 30)
    assert results[BARE].instructions is None


def test_measurement_with_unstable_row_is_repeated_until_stable() -> None:
    attempts = iter([a_figure(UNSTABLE), a_figure(STABLE, "The second"), a_figure(STABLE, "The third")])
    assert measure_until_stable(lambda: next(attempts), lambda: True).title == "The second"


@pytest.mark.parametrize(("has_time", "expected"), [(True, MAX_ATTEMPTS), (False, 1)])
def test_measurement_that_stays_unstable_ends_after_bounded_attempts(has_time: bool, expected: int) -> None:
    attempts: list[Figure] = []

    def measure() -> Figure:
        attempts.append(a_figure(UNSTABLE))
        return attempts[-1]

    assert measure_until_stable(measure, lambda: has_time).unstable == [OURS]
    assert len(attempts) == expected


def test_unstable_row_is_shown_without_a_number(page: Path) -> None:
    table.write({"thing": a_figure(UNSTABLE)}, FACTS, is_complete=True)
    assert f"| {OURS} | {table.NO_FIGURE} |  |  | at most 1.45 |" in page.read_text().splitlines()
    printed = table.as_text(a_figure(UNSTABLE))
    assert f"{OURS}        {table.NO_FIGURE}" in printed
    assert "1.5" not in page.read_text().split("### A thing")[1].split("So it is")[0]
    assert "1.50" not in printed


def test_unstable_time_beside_stable_ratio_is_shown_without_a_number() -> None:
    results = {BARE: Result(UNSTABLE, ONE), OURS: Result(STABLE, STABLE, cpu=UNSTABLE)}
    text = table.as_markdown(Figure("A thing", "As it is.", "us", results, BARE))
    assert f"| {BARE} | not stable | 1 |  |" in text
    assert f"| {OURS} | 1.50 | 1.50 (1.40 to 1.60) | not stable |" in text


def test_page_is_written_between_its_marks(page: Path) -> None:
    before = page.read_text().split("<!-- begin")[0]
    for _ in range(2):
        table.write({"thing": a_figure(STABLE)}, FACTS, is_complete=True)
    written = page.read_text()
    assert written.startswith(before)
    assert written.count(f"| {OURS} | 15.00 | 1.50 (1.40 to 1.60) | 1.50 | at most 1.45: missed |") == 1
    assert "So it is." in written
    assert FACTS[0] in written


def test_page_keeps_other_sections_when_one_row_is_written(page: Path) -> None:
    figures = {"first": a_figure(STABLE, "The first"), "second": a_figure(STABLE, "The second")}
    table.write(figures, FACTS, is_complete=True)
    table.write({"second": a_figure(STABLE, "Measured again")}, FACTS, is_complete=False)
    titles = [line for line in page.read_text().splitlines() if line.startswith("### ")]
    assert titles == ["### The first", "### Measured again"]
    with pytest.raises(ValueError, match="from another run: write all of them"):
        table.write(figures, ["Machine: another."], is_complete=False)


def test_meter_measures_wall_time_and_cpu_time_of_its_blocks() -> None:
    meter = Meter()
    for _ in range(2):
        with meter:
            time.sleep(0.02)
    time.sleep(0.02)
    sample = meter.sample().per_call(2)
    assert 0.02 <= sample.wall_s < 0.03 + 0.5
    assert sample.cpu_s < sample.wall_s
    assert sample.instructions is None


def test_instruction_counter_counts_or_is_none() -> None:
    counter = InstructionCounter.open()
    if counter is not None:
        before = counter.read()
        assert counter.read() > before
        counter.close()


def test_counter_of_a_software_event_counts() -> None:
    counter = InstructionCounter.open(SOFTWARE_TASK_CLOCK)
    if counter is None:
        pytest.skip("perf_event_open is not available to this user")
    before = counter.read()
    sum(range(100_000))
    assert counter.read() > before
    counter.close()


def test_rounds_let_all_clients_take_turns() -> None:
    order: list[str] = []
    with pinned():
        samples = measure_rounds({name: repeat(lambda name=name: order.append(name)) for name in "ab"}, 3, 2)  # type: ignore[misc]
    assert order == ["a", "a", "b", "b"] * 4  # the first round does not count
    assert [len(each) for each in samples.values()] == [3, 3]


def test_write_with_few_rounds_is_rejected() -> None:
    command: Sequence[str] = [sys.executable, "-m", "benchmark", "--write", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--write needs all rounds" in done.stderr


def test_spread_limit_is_15_percent() -> None:
    assert figure.STABLE_SPREAD == 1.15
