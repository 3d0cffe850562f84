# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `dump`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Event, Struct

#: Enumeration `DumpGuestMemoryFormat`, since 2.0.
DumpGuestMemoryFormat = Literal[
    "elf",
    "kdump-zlib",
    "kdump-lzo",
    "kdump-snappy",
    "kdump-raw-zlib",  # since 8.2
    "kdump-raw-lzo",  # since 8.2
    "kdump-raw-snappy",  # since 8.2
    "win-dmp",
]

#: Enumeration `DumpStatus`, since 2.6.
DumpStatus = Literal["none", "active", "completed", "failed"]


class DumpGuestMemoryCapability(Struct):
    """Struct `DumpGuestMemoryCapability`, since 2.0."""

    formats: list[DumpGuestMemoryFormat]


class DumpQueryResult(Struct):
    """Struct `DumpQueryResult`, since 2.6."""

    status: DumpStatus
    completed: int
    total: int


class DumpCompletedEvent(Event, wire_name="DUMP_COMPLETED"):
    """Event `DUMP_COMPLETED`, since 2.6."""

    result: DumpQueryResult
    error: str | None = None


class DumpGuestMemory(Command[None], wire_name="dump-guest-memory"):
    """Command `dump-guest-memory`, since 1.2."""

    paging: bool
    protocol: str
    detach: bool | None = None
    begin: int | None = None
    length: int | None = None
    format: DumpGuestMemoryFormat | None = None


class QueryDump(Command["DumpQueryResult"], wire_name="query-dump"):
    """Command `query-dump`, since 2.6. Returns `DumpQueryResult`."""


class QueryDumpGuestMemoryCapability(
    Command["DumpGuestMemoryCapability"],
    wire_name="query-dump-guest-memory-capability",
):
    """Command `query-dump-guest-memory-capability`, since 2.0. Returns `DumpGuestMemoryCapability`."""
