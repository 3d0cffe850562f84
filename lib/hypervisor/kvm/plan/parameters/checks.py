# SPDX-License-Identifier: BSD-2-Clause
"""Checks that parameters of several themes have in common."""

from typing import Any, Final

from hvkit.hypervisor.parameters import Check

PRINTABLE: Final = Check("printable text on one line", str.isprintable)
WORD: Final = Check("one word", lambda value: value.isprintable() and " " not in value)


def passes(parse: Any) -> Any:
    """Make a rule of a parser: text that it refuses is refused."""

    def accepts(value: str) -> bool:
        parse(value)
        return True

    return accepts
