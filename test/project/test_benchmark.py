# SPDX-License-Identifier: BSD-2-Clause
"""The benchmarks run. What they measure is nobody's business here: the machine is busy with tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import table
from benchmark.harness import OURS, RAW, Figure, Spread

ROOT = Path(__file__).parents[2]
FIGURE = Figure("a thing", "x raw", {RAW: Spread(1, 1, 1), OURS: Spread(1.5, 1.25, 2)}, {OURS: 1.4}, note="so it is")


def measured(*names: str) -> str:
    """Run benchmarks for as short as can be, and return what they print."""
    command = [sys.executable, "-m", "benchmark", "--share", "0.001", *names]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_what_needs_no_qemu_runs() -> None:
    printed = measured("exchange", "connect", "events", "silent", "memory", "one-shot", "schema")
    for what in ("query-status", "connect and negotiate", "typed events", "silent", "memory", "a process", "schema"):
        assert what in printed


@pytest.mark.qemu
def test_what_needs_qemu_runs(qemu_binary: str) -> None:
    names = ("exchange-qemu", "blockdev-qemu", "machines-qemu", "listing-qemu", "hot-add-qemu", "migration-qemu")
    printed = measured("start-qemu", *names)
    for what in ("query-status, QEMU", "blockdev-add", "real machines", "watch", "plugged in", "move of", "start of"):
        assert what in printed


def test_an_aim_is_met_or_not() -> None:
    assert not FIGURE.is_met(OURS)
    assert Figure("events", "1/s", FIGURE.results, {OURS: 1.4}, more_is_better=True).is_met(OURS)


def test_the_table_is_written_between_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "figures.md"
    page.write_text(table.FIGURES_PAGE.read_text())
    monkeypatch.setattr(table, "FIGURES_PAGE", page)
    for _ in range(2):
        table.write([FIGURE], ["On a machine."])
    written = page.read_text()
    assert written.count("| a thing, x raw | 1.00 | 1.50 (1.25-2.00) | <= 1.4 | no |") == 1
    assert "* a thing: so it is." in written
    assert "On a machine." in written
