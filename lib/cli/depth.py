# SPDX-License-Identifier: BSD-2-Clause
"""Nesting depth of plain data, computed without recursion because deep data would exceed Python's stack."""

from __future__ import annotations

from typing import Any, Final

TOO_DEEP: Final = "is nested too deeply"


def is_deeper(data: Any, levels: int) -> bool:
    """Whether plain data is nested deeper than `levels`. A scalar has 0 levels, a list of scalars 1."""
    containers = [data]
    for _ in range(levels + 1):
        containers = [each for each in containers if isinstance(each, (dict, list))]
        if not containers:
            return False
        containers = [value for each in containers for value in (each.values() if isinstance(each, dict) else each)]
    return True
