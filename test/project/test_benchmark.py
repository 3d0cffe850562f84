# SPDX-License-Identifier: BSD-2-Clause
"""The benchmarks run. Their results are not checked, because the tests load the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import table
from benchmark.harness import OURS, RAW, Figure, Spread

ROOT = Path(__file__).parents[2]
FIGURE = Figure("a thing", "x raw", {RAW: Spread(1, 1, 1), OURS: Spread(1.5, 1.25, 2)}, {OURS: 1.4}, note="so it is")


def run_benchmarks(*names: str) -> str:
    """Run benchmarks for a minimal time, and return their output."""
    command = [sys.executable, "-m", "benchmark", "--share", "0.001", *names]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_benchmarks_without_qemu_run() -> None:
    output = run_benchmarks("exchange", "connect", "events", "silent", "memory", "one-shot", "schema")
    for title in ("query-status", "connect and negotiate", "typed events", "silent", "memory", "a process", "schema"):
        assert title in output


@pytest.mark.qemu
def test_benchmarks_on_qemu_run(qemu_binary: str) -> None:
    names = ("exchange-qemu", "blockdev-qemu", "machines-qemu", "listing-qemu", "hot-add-qemu", "migration-qemu")
    output = run_benchmarks("start-qemu", *names)
    for title in ("query-status, QEMU", "blockdev-add", "real machines", "watch", "plugged in", "move of", "start of"):
        assert title in output


def test_figure_compares_result_with_aim() -> None:
    assert not FIGURE.is_met(OURS)
    assert Figure("events", "1/s", FIGURE.results, {OURS: 1.4}, more_is_better=True).is_met(OURS)


def test_table_is_written_between_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "figures.md"
    page.write_text(table.FIGURES_PAGE.read_text())
    monkeypatch.setattr(table, "FIGURES_PAGE", page)
    for _ in range(2):
        table.write([FIGURE], ["On a machine."])
    written = page.read_text()
    assert written.count("| a thing, x raw | 1.00 | 1.50 (1.25-2.00) | <= 1.4 | no |") == 1
    assert "* a thing: so it is." in written
    assert "On a machine." in written
