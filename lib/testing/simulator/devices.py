# SPDX-License-Identifier: BSD-2-Clause
"""The devices of a simulated machine: which bus each sits on, and what it uses."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from hvkit.qmp.base import Event
from hvkit.qmp.schema import DeviceAdd, DeviceDeletedEvent
from hvkit.testing.simulator.blocks import BlockGraph
from hvkit.testing.simulator.refusal import QmpRefusal

#: Device models by the kind of bus they sit on; "" for none.
_MODELS: Final[Mapping[str, tuple[str, ...]]] = {
    "PCI": (
        *("virtio-balloon-pci", "virtio-blk-pci", "virtio-gpu-pci", "virtio-net-pci", "virtio-rng-pci"),
        *("virtio-scsi-pci", "virtio-serial-pci", "virtio-vga", "vhost-vsock-pci", "virtio-mem-pci"),
        *("VGA", "cirrus-vga", "qxl", "qxl-vga", "vmware-svga"),
        *("e1000", "e1000e", "i82551", "i82557b", "i82559er", "ne2k_pci", "pcnet", "rtl8139", "vmxnet3"),
        *("lsi53c895a", "megasas", "dc390", "ahci", "qemu-xhci", "usb-ehci", "piix3-usb-uhci"),
        *("pcie-root-port", "i6300esb", "pvpanic-pci", "intel-hda", "ich9-intel-hda"),
    ),
    "SCSI": ("scsi-hd", "scsi-cd", "scsi-block", "scsi-generic"),
    "IDE": ("ide-hd", "ide-cd"),
    "USB": ("usb-tablet", "usb-mouse", "usb-kbd", "usb-storage"),
    "ISA": ("isa-serial", "isa-debugcon", "pvpanic"),
    "virtio-serial-bus": ("virtserialport", "virtconsole"),
    "HDA": ("hda-duplex", "hda-micro"),
    "": ("intel-iommu", "vmgenid", "pc-dimm"),
}
_BUS_KINDS: Final = {driver: kind for kind, drivers in _MODELS.items() for driver in drivers}

#: Models that bring a bus: its kind. A root port's has the port's own id, all others add a number.
_CONTROLLERS: Final = {
    "pcie-root-port": "PCI",
    "virtio-scsi-pci": "SCSI",
    "lsi53c895a": "SCSI",
    "megasas": "SCSI",
    "dc390": "SCSI",
    "virtio-serial-pci": "virtio-serial-bus",
    "qemu-xhci": "USB",
    "usb-ehci": "USB",
    "piix3-usb-uhci": "USB",
    "intel-hda": "HDA",
    "ich9-intel-hda": "HDA",
}
#: Models whose medium comes and goes.
_DRIVES: Final = frozenset({"ide-cd", "scsi-cd"})
DEVICE_NAMES: Final = tuple(sorted(_BUS_KINDS))

_SLOTS: Final = 32
#: Slots of the board's own devices on the root bus.
_BOARD_SLOTS: Final = {"q35": (0, 31), "pc": (0, 1)}


@attrs.define(eq=False)
class Bus:
    """A bus.

    Attributes:
        name: by which devices ask for it.
        kind: what fits.
        is_hotpluggable: devices may come while the machine runs.
        has_one_slot: it is the link below a root port.
        places: what sits where; addresses of its own kind.
    """

    name: str
    kind: str
    is_hotpluggable: bool = True
    has_one_slot: bool = False
    places: dict[Any, str] = attrs.field(factory=dict)


@attrs.define(kw_only=True, eq=False)
class Device:
    """A device that was added.

    Attributes:
        id: its id; empty where it has none.
        place: slot and function on a PCI bus, what else on others.
        netdev: id of the network backend it uses; empty for none.
        is_leaving: it was asked to go and the guest has not let it.
        is_open: it is a drive whose tray is open.
    """

    id: str
    driver: str
    path: str
    bus: Bus | None
    place: Any
    netdev: str
    is_leaving: bool = False
    is_open: bool = False

    @property
    def is_drive(self) -> bool:
        """Whether its medium comes and goes."""
        return self.driver in _DRIVES

    @property
    def block_name(self) -> str:
        """What the block nodes' side calls it."""
        return _block_name(self.driver, self.id, self.path)

    @property
    def needs_guest_to_leave(self) -> bool:
        """Whether the guest has a say in its removal."""
        return self.bus is not None and self.bus.kind == "PCI"


class DeviceTree:
    """All devices of a machine.

    Args:
        chipset: q35 or pc; anything else has no buses.
        graph: the block nodes that disks use.
    """

    def __init__(self, chipset: str, graph: BlockGraph) -> None:
        self.netdevs: dict[str, str] = {}
        self._graph = graph
        self._devices: list[Device] = []
        self._buses: list[Bus] = []
        board = dict.fromkeys(((slot, 0) for slot in _BOARD_SLOTS.get(chipset, ())), "the board")
        if chipset == "q35":
            self._buses = [Bus("pcie.0", "PCI", is_hotpluggable=False, places=board)]
            self._buses += [Bus(f"ide.{index}", "IDE", is_hotpluggable=False) for index in range(6)]
        elif chipset == "pc":
            self._buses = [Bus("pci.0", "PCI", places=board)]
            self._buses += [Bus(f"ide.{index}", "IDE", is_hotpluggable=False) for index in range(2)]
        if self._buses:
            self._buses.append(Bus("isa.0", "ISA", is_hotpluggable=False))

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices)

    def find(self, device_id: str) -> Device:
        """Return a device.

        Raises:
            QmpRefusal: there is none of that id.
        """
        for device in self._devices:
            if device.id == device_id and device_id:
                return device
        raise QmpRefusal(f"Device '{device_id}' not found", "DeviceNotFound")

    def add(self, wanted: DeviceAdd, *, is_hotplug: bool) -> Device:
        """Add a device.

        Raises:
            QmpRefusal: there is no such model, bus, place or backend, or it is taken.
        """
        kind = _BUS_KINDS.get(wanted.driver)
        if kind is None:
            raise QmpRefusal(f"'{wanted.driver}' is not a valid device model name")
        device_id = wanted.id or ""
        bus = self._find_bus(kind, wanted.bus, wanted.driver, is_hotplug=is_hotplug) if kind else None
        if device_id and any(device.id == device_id for device in self._devices):
            raise QmpRefusal(f"Duplicate device ID '{device_id}'")
        anonymous = f"peripheral-anon/device[{len(self._devices)}]"
        path = f"/machine/{f'peripheral/{device_id}' if device_id else anonymous}"
        place = self._find_place(bus, wanted) if bus is not None else None
        netdev = str(wanted.properties.get("netdev", ""))
        if netdev:
            self._check_netdev(wanted.driver, netdev)
        drive = wanted.properties.get("drive")
        if drive is not None:
            self._graph.attach(
                str(drive),
                _block_name(wanted.driver, device_id, path),
                is_shared=bool(wanted.properties.get("share-rw")),
            )
        if bus is not None:
            bus.places[place] = f"{wanted.driver},id={device_id}"
        device = Device(id=device_id, driver=wanted.driver, path=path, bus=bus, place=place, netdev=netdev)
        self._devices.append(device)
        controlled = _CONTROLLERS.get(wanted.driver)
        if controlled is not None:
            is_port = wanted.driver == "pcie-root-port"
            self._buses.append(Bus(device_id if is_port else f"{device_id}.0", controlled, has_one_slot=is_port))
        return device

    def _find_bus(self, kind: str, name: str | None, driver: str, *, is_hotplug: bool) -> Bus:
        candidates = [bus for bus in self._buses if (bus.kind == kind if name is None else bus.name == name)]
        if name is None and kind == "IDE":
            candidates = [bus for bus in candidates if not bus.places]
        if not candidates:
            raise QmpRefusal(
                f"No '{kind}' bus found for device '{driver}'" if name is None else f"Bus '{name}' not found"
            )
        bus = candidates[0]
        if bus.kind != kind:
            raise QmpRefusal(f"Device '{driver}' can't go on {bus.kind} bus")
        if is_hotplug and not bus.is_hotpluggable:
            raise QmpRefusal(f"Bus '{bus.name}' does not support hotplugging")
        return bus

    def _find_place(self, bus: Bus, wanted: DeviceAdd) -> Any:
        properties = wanted.properties
        if bus.kind == "PCI":
            return _find_slot(bus, wanted.driver, properties.get("addr"))
        if bus.kind == "SCSI" and "scsi-id" in properties:
            place: Any = (properties.get("channel", 0), properties["scsi-id"], properties.get("lun", 0))
        elif bus.kind == "IDE" and "unit" in properties:
            place = properties["unit"]
        else:
            place = len(bus.places)
        if place in bus.places:
            raise QmpRefusal(f"place {place} of bus '{bus.name}' is in use by {bus.places[place]}")
        return place

    def _check_netdev(self, driver: str, netdev: str) -> None:
        model = driver.replace("-pci", "-device") if driver.startswith("virtio-") else driver
        if netdev not in self.netdevs:
            raise QmpRefusal(f"Property '{model}.netdev' can't find value '{netdev}'")
        if any(device.netdev == netdev for device in self._devices):
            raise QmpRefusal(f"Property '{model}.netdev' can't take value '{netdev}', it's in use")

    def remove(self, device: Device) -> list[Event]:
        """Take a device out, and return what is reported."""
        self._devices.remove(device)
        if device.bus is not None:
            del device.bus.places[device.place]
        backend = _backend(device.driver, device.path)
        self._graph.detach(device.block_name)
        events: list[Event] = []
        if backend != device.path:  # both report, the inner one first
            events.append(DeviceDeletedEvent(path=backend))
        events.append(DeviceDeletedEvent(device=device.id or None, path=device.path))
        return events

    def add_netdev(self, netdev_id: str, kind: str) -> None:
        """Add a network backend.

        Raises:
            QmpRefusal: its id is taken.
        """
        if netdev_id in self.netdevs:
            raise QmpRefusal(f"Duplicate ID '{netdev_id}'")
        self.netdevs[netdev_id] = kind

    def remove_netdev(self, netdev_id: str) -> None:
        """Remove a network backend; a NIC that uses it stays without.

        Raises:
            QmpRefusal: there is none.
        """
        if netdev_id not in self.netdevs:
            raise QmpRefusal(f"Device '{netdev_id}' not found", "DeviceNotFound")
        del self.netdevs[netdev_id]
        for device in self._devices:
            if device.netdev == netdev_id:
                device.netdev = ""


def _backend(driver: str, path: str) -> str:
    """Return the path of what does a device's work: virtio devices are behind a transport that has the id."""
    return f"{path}/virtio-backend" if driver.startswith("virtio-") else path


def _block_name(driver: str, device_id: str, path: str) -> str:
    """Return what the block nodes' side calls a device: its id, or the path of what does its work."""
    backend = _backend(driver, path)
    return device_id if device_id and backend == path else backend


def _find_slot(bus: Bus, driver: str, address: Any) -> tuple[int, int]:
    """Return the slot and function that an address names, the first free slot where there is none."""
    if address is None:
        slots = range(1) if bus.has_one_slot else range(_SLOTS)
        free = [(slot, 0) for slot in slots if (slot, 0) not in bus.places]
        if not free:
            raise QmpRefusal(f"PCI: no slot/function available for {driver}, all in use or reserved")
        return free[0]
    slot_text, _, function_text = str(address).partition(".")
    try:
        place = (int(slot_text, 0), int(function_text or "0", 0))
    except ValueError:
        raise QmpRefusal(f"Property '{driver}.addr' doesn't take value '{address}'") from None
    if bus.has_one_slot and place[0]:
        # QEMU 7.2 lets it pass, and no guest ever sees the device; later ones refuse.
        raise QmpRefusal(
            f"PCI: slot {place[0]} is not valid for {driver}, parent device only allows plugging into slot 0."
        )
    if place in bus.places:
        raise QmpRefusal(
            f"PCI: slot {place[0]} function {place[1]} not available for {driver}, in use by {bus.places[place]}"
        )
    return place
