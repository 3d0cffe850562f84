# SPDX-License-Identifier: BSD-2-Clause
"""How deep plain data is, found out without going down into it: Python's stack would end before some data does."""

from __future__ import annotations

from typing import Any, Final

TOO_DEEP: Final = "is nested too deeply"


def is_deeper(data: Any, levels: int) -> bool:
    """Whether plain data has more than so many levels; a scalar has none, a list of scalars one."""
    containers = [data]
    for _ in range(levels + 1):
        containers = [each for each in containers if isinstance(each, (dict, list))]
        if not containers:
            return False
        containers = [value for each in containers for value in (each.values() if isinstance(each, dict) else each)]
    return True
