# SPDX-License-Identifier: BSD-2-Clause
"""Where devices sit: PCI slots, PCI Express root ports, SCSI targets and IDE units.

Disks and NICs may come and go while the machine runs. A q35 machine can only be hotplugged through root ports that it
was started with, one device each, so it gets one for every device it starts with and some to spare; a pc machine has
the slots of its PCI bus. Devices of the machine itself (balloon, display adapter ...) have slots of their own below
those, the same on both, so that adding one never moves a disk.
"""

import enum
from collections.abc import Collection, Iterator
from typing import Any, Final

import attrs

from hvkit.hypervisor.errors import ParameterError


class Chipset(enum.Enum):
    """The two boards of a PC that QEMU models."""

    PC = "pc"
    Q35 = "q35"


class BusKind(enum.Enum):
    """The kinds of buses that disks and NICs sit on."""

    PCI = "pci"
    SCSI = "scsi"
    IDE = "ide"


class FixedSlot(enum.IntEnum):
    """Slots of the root bus for the machine's own devices. 0 and 1 are the board's, q35 has more of its own at 0x1f.

    Numbers are part of what a migration's destination has to get right: they may be added to, never changed.
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
#: A slot has eight functions; a root port needs one.
_FUNCTIONS: Final = 8
#: q35's own devices begin at this slot.
_FIRST_OWN_SLOT_OF_Q35: Final = 0x1D
#: The most root ports there can be.
MAX_PORTS: Final = (_FIRST_OWN_SLOT_OF_Q35 - FIRST_SLOT) * _FUNCTIONS
#: The most slots that can be kept from disks and NICs.
MAX_RESERVED_SLOTS: Final = _FIRST_OWN_SLOT_OF_Q35 - 1

SCSI_CONTROLLER_ID: Final = "scsi0"


@attrs.frozen
class Address:
    """A place for one device.

    Attributes:
        kind: what kind of bus it is on.
        bus: QEMU's name of the bus.
        unit: PCI slot, SCSI target, or unit of an IDE bus.
    """

    kind: BusKind
    bus: str
    unit: int

    @property
    def properties(self) -> dict[str, Any]:
        """The device properties that say so, beside `bus`."""
        match self.kind:
            case BusKind.PCI:
                return {"addr": f"{self.unit:#x}"}
            case BusKind.SCSI:
                return {"channel": 0, "scsi-id": self.unit, "lun": 0}
            case BusKind.IDE:
                return {"unit": self.unit}


@attrs.frozen
class RootPort:
    """A PCI Express root port: a bus with one slot, which can be hotplugged.

    Attributes:
        index: its number, counted from 0.
        first_slot: where the first of all ports sits.
    """

    index: int

    first_slot: int = FIRST_SLOT

    @property
    def id(self) -> str:
        """Its device id, which is also the name of the bus below it."""
        return f"port{self.index}"

    @property
    def properties(self) -> dict[str, Any]:
        """Its device properties. Eight ports share a slot, so that a bus of 32 slots has room for many."""
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
    """The buses of a machine, as it was started. They stay as they are for as long as it runs, migrations included.

    Attributes:
        chipset: the board.
        port_count: how many root ports it has; 0 where the chipset has none.
        scsi_targets: how many targets its SCSI controller serves; 0 where it has no such controller.
        first_slot: the first slot of the root bus for root ports, or for disks and NICs where there are none.
    """

    chipset: Chipset
    port_count: int = 0
    scsi_targets: int = 0
    first_slot: int = FIRST_SLOT

    def __attrs_post_init__(self) -> None:
        room = (_FIRST_OWN_SLOT_OF_Q35 - self.first_slot) * _FUNCTIONS
        if self.port_count > room:
            raise ParameterError(
                "hotplug_ports",
                self.port_count,
                f"{self.port_count} devices and ports to spare are more than the {room} that fit",
            )

    @property
    def root_bus(self) -> str:
        """QEMU's name of the bus that the machine's own devices sit on."""
        return "pcie.0" if self.chipset is Chipset.Q35 else "pci.0"

    @property
    def root_ports(self) -> tuple[RootPort, ...]:
        """The root ports, in order."""
        return tuple(RootPort(index, self.first_slot) for index in range(self.port_count))

    def fixed(self, slot: FixedSlot) -> Address:
        """Return the place of a device of the machine itself."""
        return Address(BusKind.PCI, self.root_bus, slot.value)

    def places(self, kind: BusKind) -> Iterator[Address]:
        """Go through all places for disks and NICs on buses of a kind, in the order in which they are given out."""
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
        """Return the first free place on buses of a kind.

        Args:
            kind: the kind of bus that the device needs.
            used: the places that are taken.

        Raises:
            ParameterError: there is none.
        """
        for address in self.places(kind):
            if address not in used:
                return address
        total = sum(1 for _ in self.places(kind))
        hint = "; hotplug_ports makes more" if kind is BusKind.PCI and self.chipset is Chipset.Q35 else ""
        raise ParameterError(
            "device",
            kind.value,
            f"no free place: all {total} {kind.name} places of this {self.chipset.value} are taken{hint}",
        )
