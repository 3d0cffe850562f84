# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `control`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Struct

#: Enumeration `QMPCapability`, since 2.12.
QMPCapability = Literal["oob"]


class CommandInfo(Struct):
    """Struct `CommandInfo`, since 0.14."""

    name: str


class VersionInfo(Struct):
    """Struct `VersionInfo`, since 0.14."""

    qemu: VersionTriple
    package: str


class VersionTriple(Struct):
    """Struct `VersionTriple`, since 2.4."""

    major: int
    minor: int
    micro: int


class QmpCapabilities(Command[None], wire_name="qmp_capabilities"):
    """Command `qmp_capabilities`, since 0.13. Allowed before the machine is made."""

    enable: list[QMPCapability] | None = None


class QueryCommands(Command["list[CommandInfo]"], wire_name="query-commands"):
    """Command `query-commands`, since 0.14. Returns a list of `CommandInfo`. Allowed before the machine is made."""


class QueryVersion(Command["VersionInfo"], wire_name="query-version"):
    """Command `query-version`, since 0.14. Returns `VersionInfo`. Allowed before the machine is made."""


class Quit(Command[None], wire_name="quit"):
    """Command `quit`, since 0.14. Allowed before the machine is made."""
