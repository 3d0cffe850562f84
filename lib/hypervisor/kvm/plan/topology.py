# SPDX-License-Identifier: BSD-2-Clause
"""Buses and bus addresses: PCI slots, PCI Express root ports, SCSI targets and IDE units.

Disks and NICs can be hot-added and hot-removed. On q35 each needs a root port, and root ports cannot be hot-added: a
machine starts with one for each of its disks and NICs and some spare ones. On pc, devices use the slots of the PCI bus.
The built-in devices (balloon, display adapter ...) have fixed slots below these, the same on both chipsets, so that an
additional built-in device never moves a disk.
"""

import enum
from collections.abc import Collection, Iterator
from typing import Any, Final

import attrs

from hvkit.hypervisor.errors import ParameterError


class Chipset(enum.Enum):
    """The two chipsets of a PC that QEMU models."""

    PC = "pc"
    Q35 = "q35"


class BusKind(enum.Enum):
    """The kinds of buses for disks and NICs."""

    PCI = "pci"
    SCSI = "scsi"
    IDE = "ide"


class FixedSlot(enum.IntEnum):
    """Slots of the root bus for built-in devices. The chipset uses 0 and 1, and on q35 also 0x1f.

    Source and destination of a migration have to agree on these numbers: add to them, never change them.
    """

    DISPLAY = 2
    BALLOON = 3
    SERIAL = 4
    SCSI = 5
    RNG = 6
    VSOCK = 7
    CDROM1 = 8
    CDROM2 = 9
    USB = 10
    SOUND = 11


#: The first slot of the root bus for root ports, or for disks and NICs where there are no root ports.
FIRST_SLOT: Final = 0x0C
#: The last slot of a pc machine's bus.
_LAST_PC_SLOT: Final = 0x1F
#: The functions of a slot. A root port takes one.
_FUNCTIONS: Final = 8
#: The first slot of the devices that q35 creates by default.
_FIRST_DEFAULT_SLOT_OF_Q35: Final = 0x1D
#: The largest number of root ports.
MAX_PORTS: Final = (_FIRST_DEFAULT_SLOT_OF_Q35 - FIRST_SLOT) * _FUNCTIONS
#: The largest value of kvm_pci_reservations.
MAX_RESERVED_SLOTS: Final = _FIRST_DEFAULT_SLOT_OF_Q35 - 1

SCSI_CONTROLLER_ID: Final = "scsi0"


@attrs.frozen
class Address:
    """The address of one device on a bus.

    Attributes:
        kind: the kind of the bus.
        bus: the name of the bus in QEMU.
        unit: the PCI slot, the SCSI target, or the unit of an IDE bus.
    """

    kind: BusKind
    bus: str
    unit: int

    @property
    def properties(self) -> dict[str, Any]:
        """The properties of the device for this address, beside `bus`."""
        match self.kind:
            case BusKind.PCI:
                return {"addr": f"{self.unit:#x}"}
            case BusKind.SCSI:
                return {"channel": 0, "scsi-id": self.unit, "lun": 0}
            case BusKind.IDE:
                return {"unit": self.unit}


@attrs.frozen
class RootPort:
    """A PCI Express root port: a bus with one hotpluggable slot.

    Attributes:
        index: its number, from 0.
        first_slot: the slot of the first root port.
    """

    index: int
    first_slot: int = FIRST_SLOT

    @property
    def id(self) -> str:
        """Its device id, which is also the name of the bus below it."""
        return f"port{self.index}"

    @property
    def properties(self) -> dict[str, Any]:
        """Its device properties. Eight root ports share a slot, because the root bus has only 32 slots."""
        slot, function = divmod(self.index, _FUNCTIONS)
        properties: dict[str, Any] = {
            "addr": f"{self.first_slot + slot:#x}.{function}",
            "chassis": self.index + 1,
            "port": self.index,
        }
        if function == 0:
            properties["multifunction"] = True
        return properties


@attrs.frozen(kw_only=True)
class Topology:
    """The buses of a machine. They do not change while it runs, nor when it migrates.

    Attributes:
        chipset: the chipset.
        port_count: the number of root ports; 0 on pc.
        scsi_targets: the number of targets of the SCSI controller; 0 without one.
        first_slot: the first slot of the root bus for root ports, or for disks and NICs on pc.
    """

    chipset: Chipset
    port_count: int = 0
    scsi_targets: int = 0
    first_slot: int = FIRST_SLOT

    def __attrs_post_init__(self) -> None:
        room = (_FIRST_DEFAULT_SLOT_OF_Q35 - self.first_slot) * _FUNCTIONS
        if self.port_count > room:
            raise ParameterError(
                "hotplug_ports",
                self.port_count,
                f"{self.port_count} root ports for devices and hotplug_ports are more than the {room} that fit",
            )

    @property
    def root_bus(self) -> str:
        """The name in QEMU of the bus of the built-in devices."""
        return "pcie.0" if self.chipset is Chipset.Q35 else "pci.0"

    @property
    def root_ports(self) -> tuple[RootPort, ...]:
        """The root ports, in order."""
        return tuple(RootPort(index, self.first_slot) for index in range(self.port_count))

    def fixed(self, slot: FixedSlot) -> Address:
        """Return the address of a built-in device."""
        return Address(BusKind.PCI, self.root_bus, slot.value)

    def places(self, kind: BusKind) -> Iterator[Address]:
        """Iterate over all addresses for disks and NICs on buses of a kind, in the order of their allocation."""
        match kind, self.chipset:
            case BusKind.PCI, Chipset.Q35:
                yield from (Address(kind, port.id, 0) for port in self.root_ports)
            case BusKind.PCI, Chipset.PC:
                yield from (Address(kind, self.root_bus, slot) for slot in range(self.first_slot, _LAST_PC_SLOT + 1))
            case BusKind.IDE, Chipset.Q35:  # six SATA ports, each a bus with one device
                yield from (Address(kind, f"ide.{bus}", 0) for bus in range(6))
            case BusKind.IDE, Chipset.PC:
                yield from (Address(kind, f"ide.{bus}", unit) for bus in range(2) for unit in range(2))
            case BusKind.SCSI, _:
                yield from (Address(kind, f"{SCSI_CONTROLLER_ID}.0", target) for target in range(self.scsi_targets))

    def allocate(self, kind: BusKind, used: Collection[Address]) -> Address:
        """Return the first free address on buses of a kind.

        Args:
            kind: the kind of bus.
            used: the addresses in use.

        Raises:
            ParameterError: there is none.
        """
        for address in self.places(kind):
            if address not in used:
                return address
        total = sum(1 for _ in self.places(kind))
        hint = "; increase hotplug_ports" if kind is BusKind.PCI and self.chipset is Chipset.Q35 else ""
        raise ParameterError(
            "device",
            kind.value,
            f"no free address: all {total} {kind.name} addresses of this {self.chipset.value} machine are in use{hint}",
        )
