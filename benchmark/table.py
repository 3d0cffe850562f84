# SPDX-License-Identifier: BSD-2-Clause
"""Figures as a table: for people to look at, and in Markdown for docs/figures.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmark.harness import Figure, Spread

FIGURES_PAGE: Final = Path(__file__).parents[1] / "docs" / "figures.md"
_BEGIN: Final = "<!-- begin: python -m benchmark --write -->"
_END: Final = "<!-- end -->"
_HEADINGS: Final = ("what", "unit", "client", "median", "min", "max", "aim", "met")


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 20 else f"{value:.0f}"


def _rows(figure: Figure) -> list[list[str]]:
    rows: list[list[str]] = []
    for contestant, spread in figure.results.items():
        aim, met = "", ""
        if contestant in figure.aims:
            aim = f"{'>=' if figure.more_is_better else '<='} {figure.aims[contestant]:g}"
            met = "yes" if figure.is_met(contestant) else "NO"
        numbers = [_number(each) for each in (spread.median, spread.low, spread.high)]
        rows.append([figure.what if not rows else "", figure.unit if not rows else "", contestant, *numbers, aim, met])
    return rows


def as_text(figures: Sequence[Figure]) -> str:
    """Return a table in columns, a line for each contestant."""
    table = [list(_HEADINGS)]
    for figure in figures:
        table += _rows(figure)
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADINGS))]
    aligned = [
        "  ".join(
            cell.rjust(width) if column in (3, 4, 5) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join(aligned)


def as_markdown(figures: Sequence[Figure]) -> str:
    """Return a table in Markdown, a line for each figure and a column for each contestant."""
    contestants = list(dict.fromkeys(name for figure in figures for name in figure.results))
    lines = [
        "| " + " | ".join(["", *contestants, "aim", "met"]) + " |",
        "|" + "---|" * (len(contestants) + 3),
    ]
    for figure in figures:
        cells = [_cell(figure.results.get(name), is_aimed=name in figure.aims) for name in contestants]
        aims = ", ".join(
            f"{'>=' if figure.more_is_better else '<='} {aim:g}" for aim in dict.fromkeys(figure.aims.values())
        )
        met = ", ".join("yes" if figure.is_met(name) else "no" for name in figure.results if name in figure.aims)
        lines.append("| " + " | ".join([f"{figure.what}, {figure.unit}", *cells, aims, met]) + " |")
    notes = [f"* {figure.what}: {figure.note}." for figure in figures if figure.note]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _cell(spread: Spread | None, *, is_aimed: bool) -> str:
    if spread is None:
        return ""
    text = _number(spread.median)
    return f"{text} ({_number(spread.low)}-{_number(spread.high)})" if is_aimed else text


def machine() -> str:
    """Say in a sentence what all this was measured on."""
    return (
        f"Python {platform.python_version()}, Linux {platform.release()} on {platform.machine()}, "
        f"{len(os.sched_getaffinity(0))} processors, load {os.getloadavg()[0]:.1f} at the end."
    )


def write(figures: Sequence[Figure], lines: Sequence[str]) -> None:
    """Put the table into docs/figures.md, in the place of the one that is there.

    Args:
        figures: what to put there.
        lines: what to say above it.
    """
    page = FIGURES_PAGE.read_text(encoding="utf-8")
    before, rest = page.split(_BEGIN)
    _, after = rest.split(_END)
    made = "\n\n".join([" ".join(lines), as_markdown(figures)])
    FIGURES_PAGE.write_text(f"{before}{_BEGIN}\n\n{made}\n\n{_END}{after}", encoding="utf-8")
