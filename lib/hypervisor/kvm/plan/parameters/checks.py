# SPDX-License-Identifier: BSD-2-Clause
"""Checks for parameters of several topics."""

from typing import Any, Final

from hvkit.hypervisor.parameters import Check

PRINTABLE: Final = Check("printable text on one line", str.isprintable)
WORD: Final = Check("text without spaces", lambda value: value.isprintable() and " " not in value)


def passes(parse: Any) -> Any:
    """Return a check function that accepts the values that a parser accepts."""

    def accepts(value: str) -> bool:
        parse(value)
        return True

    return accepts
