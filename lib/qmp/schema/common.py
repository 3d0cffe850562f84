# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `common`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from hvkit.qmp.base import Null, Struct

#: Enumeration `GrabToggleKeys`, since 4.0.
GrabToggleKeys = Literal["ctrl-ctrl", "alt-alt", "shift-shift", "meta-meta", "scrolllock", "ctrl-scrolllock"]

#: Enumeration `HostMemPolicy`, since 2.1.
HostMemPolicy = Literal["default", "preferred", "bind", "interleave"]

#: Enumeration `IoOperationType`, since 2.1.
IoOperationType = Literal["read", "write"]

#: Enumeration `NetFilterDirection`, since 2.5.
NetFilterDirection = Literal["all", "rx", "tx"]

#: Enumeration `OnOffAuto`, since 2.2.
OnOffAuto = Literal["auto", "on", "off"]

#: Alternate `StrOrNull`, since 2.10.
StrOrNull: TypeAlias = "str | Null"


class HumanReadableText(Struct):
    """Struct `HumanReadableText`, since 6.2."""

    human_readable_text: str
