# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `replay`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Struct

#: Enumeration `ReplayMode`, since 2.5.
ReplayMode = Literal["none", "record", "play"]


class ReplayInfo(Struct):
    """Struct `ReplayInfo`, since 5.2."""

    mode: ReplayMode
    filename: str | None = None
    icount: int


class QueryReplay(Command["ReplayInfo"], wire_name="query-replay"):
    """Command `query-replay`, since 5.2. Returns `ReplayInfo`."""


class ReplayBreak(Command[None], wire_name="replay-break"):
    """Command `replay-break`, since 5.2."""

    icount: int


class ReplayDeleteBreak(Command[None], wire_name="replay-delete-break"):
    """Command `replay-delete-break`, since 5.2."""


class ReplaySeek(Command[None], wire_name="replay-seek"):
    """Command `replay-seek`, since 5.2."""

    icount: int
