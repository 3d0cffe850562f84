# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `misc-arm`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from hvkit.qmp.base import Command, Struct


class GICCapability(Struct):
    """Struct `GICCapability`, since 2.6."""

    version: int
    emulated: bool
    kernel: bool


class QueryGicCapabilities(Command["list[GICCapability]"], wire_name="query-gic-capabilities"):
    """Command `query-gic-capabilities`, since 2.6. Returns a list of `GICCapability`."""
