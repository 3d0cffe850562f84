# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `acpi`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Event, Struct

#: Enumeration `ACPISlotType`.
ACPISlotType = Literal["DIMM", "CPU"]


class ACPIOSTInfo(Struct):
    """Struct `ACPIOSTInfo`, since 2.1."""

    device: str | None = None
    slot: str
    slot_type: ACPISlotType
    source: int
    status: int


class AcpiDeviceOstEvent(Event, wire_name="ACPI_DEVICE_OST"):
    """Event `ACPI_DEVICE_OST`, since 2.1."""

    info: ACPIOSTInfo


class QueryAcpiOspmStatus(Command["list[ACPIOSTInfo]"], wire_name="query-acpi-ospm-status"):
    """Command `query-acpi-ospm-status`, since 2.1. Returns a list of `ACPIOSTInfo`."""
