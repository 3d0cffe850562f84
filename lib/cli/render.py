# SPDX-License-Identifier: BSD-2-Clause
"""Formatting of plain data as tables, outlines and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def to_json(data: Any) -> str:
    """Format plain data as indented JSON."""
    return json.dumps(data, indent=2)


def to_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format rows as a table with aligned columns. None is shown as a dash."""
    cells = [list(headers), *([_scalar(value) if value is not None else "-" for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def to_outline(data: Any) -> str:
    """Format plain data as an outline: one member per line, nested data indented."""
    return "\n".join(_lines(data))


def _lines(data: Any) -> Iterator[str]:
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            if _is_nested(value):
                yield f"{key}:"
                yield from (f"  {line}" for line in _lines(value))
            else:
                yield f"{key}: {_scalar(value)}"
    elif isinstance(data, list) and data:
        for value in data:
            first, *rest = _lines(value)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _scalar(data)


def _is_nested(value: Any) -> bool:
    return isinstance(value, (Mapping, list)) and bool(value)


def _scalar(value: object) -> str:
    """Format a value on one line. Control characters are escaped to protect the terminal."""
    if isinstance(value, str):
        return value if value and value.isprintable() else json.dumps(value)
    return json.dumps(value)
