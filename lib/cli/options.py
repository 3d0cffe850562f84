# SPDX-License-Identifier: BSD-2-Clause
"""The types of options that click does not have."""

from __future__ import annotations

import math
from typing import Final

import click

#: Some thirty years. What waits for longer waits for ever; operating systems do not count that far.
_FOR_EVER_S: Final = 1e9


def parse_seconds(text: str) -> float:
    """Return a span of time: 0 or more seconds, which may be ``inf``.

    Raises:
        click.BadParameter: it is none.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:  # which nan is not either
        raise click.BadParameter(f"expected 0 or more seconds, got {text!r}")
    return math.inf if seconds > _FOR_EVER_S else seconds
