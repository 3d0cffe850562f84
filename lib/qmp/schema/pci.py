# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `pci`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from hvkit.qmp.base import Command, Struct, wire


class PciBridgeInfo(Struct):
    """Struct `PciBridgeInfo`, since 0.14."""

    bus: PciBusInfo
    devices: list[PciDeviceInfo] | None = None


class PciBusInfo(Struct):
    """Struct `PciBusInfo`, since 2.4."""

    number: int
    secondary: int
    subordinate: int
    io_range: PciMemoryRange = wire("io_range")
    memory_range: PciMemoryRange = wire("memory_range")
    prefetchable_range: PciMemoryRange = wire("prefetchable_range")


class PciDeviceClass(Struct):
    """Struct `PciDeviceClass`, since 2.4."""

    desc: str | None = None
    class_: int


class PciDeviceId(Struct):
    """Struct `PciDeviceId`, since 2.4."""

    device: int
    vendor: int
    subsystem: int | None = None
    subsystem_vendor: int | None = None


class PciDeviceInfo(Struct):
    """Struct `PciDeviceInfo`, since 0.14."""

    bus: int
    slot: int
    function: int
    class_info: PciDeviceClass = wire("class_info")
    id: PciDeviceId
    irq: int | None = None
    irq_pin: int = wire("irq_pin")
    qdev_id: str = wire("qdev_id")
    pci_bridge: PciBridgeInfo | None = wire("pci_bridge", default=None)
    regions: list[PciMemoryRegion]


class PciInfo(Struct):
    """Struct `PciInfo`, since 0.14."""

    bus: int
    devices: list[PciDeviceInfo]


class PciMemoryRange(Struct):
    """Struct `PciMemoryRange`, since 0.14."""

    base: int
    limit: int


class PciMemoryRegion(Struct):
    """Struct `PciMemoryRegion`, since 0.14."""

    bar: int
    type: str
    address: int
    size: int
    prefetch: bool | None = None
    mem_type_64: bool | None = wire("mem_type_64", default=None)


class QueryPci(Command["list[PciInfo]"], wire_name="query-pci"):
    """Command `query-pci`, since 0.14. Returns a list of `PciInfo`."""
