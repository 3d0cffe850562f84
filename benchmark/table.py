# SPDX-License-Identifier: BSD-2-Clause
"""Figures as text for the terminal, and as Markdown for docs/figures.md."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sysconfig
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmark.figure import Figure, Quartiles, Result

FIGURES_PAGE: Final = Path(__file__).parents[1] / "docs" / "figures.md"
NO_FIGURE: Final = "not stable: no figure"
_NOT_STABLE: Final = "not stable"
_BEGIN: Final = "<!-- begin: python -m benchmark --write -->"
_END: Final = "<!-- end -->"
#: Precedes the section of a figure in the page.
_SECTION: Final = "<!-- figure: {} -->"
_PAGE_COLUMNS: Final = 120
_SECTION_PATTERN: Final = re.compile(r"<!-- figure: (.*?) -->")


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 20 else f"{value:.2f}"


def _with_quartiles(quantity: Quartiles) -> str:
    return f"{_number(quantity.median)} ({_number(quantity.low)} to {_number(quantity.high)})"


def _optional(quantity: Quartiles | None) -> str:
    if quantity is None:
        return ""
    return _number(quantity.median) if quantity.is_stable else _NOT_STABLE


def _headings(figure: Figure) -> list[str]:
    results = figure.results.values()
    headings = ["client", figure.unit]
    if figure.reference is not None:
        headings.append(f"times {figure.reference}")
    if any(each.cpu for each in results):
        headings.append(f"CPU {'us/event' if figure.more_is_better else figure.unit}")
    if any(each.instructions for each in results):
        headings.append("instructions")
    return [*headings, "aim"] if figure.aims else headings


def _aim(figure: Figure, client: str) -> str:
    aim = figure.aims.get(client)
    if aim is None:
        return ""
    text = f"{'at least' if figure.more_is_better else 'at most'} {aim:g}"
    if client in figure.unstable:
        return text
    return f"{text}: {'met' if figure.is_met(client) else 'missed'}"


def _row(figure: Figure, client: str, result: Result) -> list[str]:
    """Return the cells of a client, in the order of the headings."""
    headings = _headings(figure)
    cells = dict.fromkeys(headings, "")
    cells["client"] = client
    if "aim" in cells:
        cells["aim"] = _aim(figure, client)
    if not result.main.is_stable:
        cells[headings[1]] = NO_FIGURE
        return list(cells.values())
    if result.ratio is None:
        cells[headings[1]] = _with_quartiles(result.value)
    else:
        cells[headings[1]] = _optional(result.value)
        cells[headings[2]] = "1" if client == figure.reference else _with_quartiles(result.ratio)
    for heading in headings:
        if heading.startswith("CPU"):
            cells[heading] = _optional(result.cpu)
    if "instructions" in cells:
        cells["instructions"] = _optional(result.instructions)
    return list(cells.values())


def _cells(figure: Figure) -> list[list[str]]:
    return [_headings(figure), *[_row(figure, client, result) for client, result in figure.results.items()]]


def as_text(figure: Figure) -> str:
    """Return a figure for the terminal, in aligned columns."""
    table = _cells(figure)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([figure.title, *[f"  {line}" for line in lines], *([f"  {figure.note}"] if figure.note else [])])


def as_markdown(figure: Figure) -> str:
    """Return a figure as a section of the page."""
    headings, *rows = _cells(figure)
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    note = [_wrapped(figure.note)] if figure.note else []
    return "\n\n".join([f"### {figure.title}", _wrapped(figure.text), "\n".join(lines), *note])


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _PAGE_COLUMNS, break_long_words=False, break_on_hyphens=False)


def machine(qemu: str) -> str:
    """Describe the machine of a run: the processor, the system, and the versions of Python and QEMU.

    Args:
        qemu: the path of QEMU; an empty string if it is not installed.
    """
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    is_optimized = "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS"))
    facts = [
        f"{len(os.sched_getaffinity(0))} processors ({models[0].strip() if models else platform.machine()})",
        f"Linux {'.'.join(platform.release().split('.')[:2])}",
        f"Python {platform.python_version()} ({'with' if is_optimized else 'without'} profile-guided optimization)",
        "no QEMU",
    ]
    if qemu:
        printed = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=True).stdout
        facts[-1] = f"QEMU {printed.split('version ')[1].split()[0]}"
    return f"Machine: {', '.join(facts)}."


def write(figures: Mapping[str, Figure], facts: Sequence[str], *, is_complete: bool) -> None:
    """Write figures to docs/figures.md, in place of their older sections.

    Args:
        figures: by the name of the row.
        facts: sentences about the run, which precede the figures.
        is_complete: whether these are all figures. Otherwise the sections of the others stay.

    Raises:
        ValueError: others would stay, but they are from a run about which other facts are stated.
    """
    page = FIGURES_PAGE.read_text(encoding="utf-8")
    before, rest = page.split(_BEGIN)
    old, after = rest.split(_END)
    head, *parts = _SECTION_PATTERN.split(old)
    text = _wrapped(" ".join(facts))
    sections = {name: as_markdown(figure) for name, figure in figures.items()}
    if not is_complete:
        if head.strip() != text:
            raise ValueError(f"the figures in {FIGURES_PAGE.name} are from another run: write all of them")
        kept = {name: section.strip() for name, section in zip(parts[::2], parts[1::2], strict=True)}
        sections = {**kept, **sections}
    written = "\n\n".join([text, *[f"{_SECTION.format(name)}\n{section}" for name, section in sections.items()]])
    FIGURES_PAGE.write_text(f"{before}{_BEGIN}\n\n{written}\n\n{_END}{after}", encoding="utf-8")
