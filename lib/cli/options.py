# SPDX-License-Identifier: BSD-2-Clause
"""Option types that click does not provide."""

from __future__ import annotations

import math
from typing import Final

import click

#: About 30 years. Longer timeouts mean no limit, because operating systems reject them.
_NO_LIMIT_S: Final = 1e9


def parse_seconds(text: str) -> float:
    """Parse a timeout in seconds, at least 0; ``inf`` means no limit.

    Raises:
        click.BadParameter: the text is not a number, or is negative.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:  # also rejects nan
        raise click.BadParameter(f"expected 0 or more seconds, got {text!r}")
    return math.inf if seconds > _NO_LIMIT_S else seconds
