# SPDX-License-Identifier: BSD-2-Clause
"""The devices and buses of a simulated machine."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from hvkit.qmp.base import Event
from hvkit.qmp.schema import DeviceAdd, DeviceDeletedEvent
from hvkit.testing.simulator.blocks import BlockGraph
from hvkit.testing.simulator.qmp_refusal import QmpRefusal

#: Device models by the kind of bus they attach to; "" for none.
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

#: The kind of bus that a controller model provides. A root port's bus has the port's id, all others add ".0" to it.
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
#: Models with a removable medium.
_DRIVES: Final = frozenset({"ide-cd", "scsi-cd"})
DEVICE_NAMES: Final = tuple(sorted(_BUS_KINDS))

_SLOTS: Final = 32
#: Slots on the root bus that built-in devices use.
_BOARD_SLOTS: Final = {"q35": (0, 31), "pc": (0, 1)}


@attrs.define(eq=False)
class Bus:
    """A bus.

    Attributes:
        name: the name that the ``bus`` property of a device refers to.
        kind: the kind of devices that attach to it.
        is_hotpluggable: devices can be added while the machine runs.
        has_one_slot: the bus is the link below a root port.
        occupants: the devices on the bus, by address.
    """

    name: str
    kind: str
    is_hotpluggable: bool = True
    has_one_slot: bool = False
    occupants: dict[Any, str] = attrs.field(factory=dict)


@attrs.define(kw_only=True, eq=False)
class Device:
    """A device.

    Attributes:
        id: the id; empty for none.
        address: the address on the bus; slot and function for PCI.
        netdev: id of the network backend; empty for none.
        is_unplug_pending: the guest was asked to release the device, and has not done so.
        is_open: the device is a drive with an open tray.
    """

    id: str
    driver: str
    path: str
    bus: Bus | None
    address: Any
    netdev: str
    is_unplug_pending: bool = False
    is_open: bool = False

    @property
    def is_drive(self) -> bool:
        """Whether the device has a removable medium."""
        return self.driver in _DRIVES

    @property
    def block_name(self) -> str:
        """The name of the device in block commands."""
        return _block_name(self.driver, self.id, self.path)

    @property
    def needs_guest_to_unplug(self) -> bool:
        """Whether the guest must release the device before it is removed."""
        return self.bus is not None and self.bus.kind == "PCI"


class DeviceTree:
    """All devices, buses and network backends of a machine.

    Args:
        chipset: q35 or pc; other machines have no buses.
        graph: the block graph whose nodes disks use.
    """

    def __init__(self, chipset: str, graph: BlockGraph) -> None:
        self.netdevs: dict[str, str] = {}
        self._graph = graph
        self._devices: list[Device] = []
        self._buses: list[Bus] = []
        board = dict.fromkeys(((slot, 0) for slot in _BOARD_SLOTS.get(chipset, ())), "a built-in device")
        if chipset == "q35":
            self._buses = [Bus("pcie.0", "PCI", is_hotpluggable=False, occupants=board)]
            self._buses += [Bus(f"ide.{index}", "IDE", is_hotpluggable=False) for index in range(6)]
        elif chipset == "pc":
            self._buses = [Bus("pci.0", "PCI", occupants=board)]
            self._buses += [Bus(f"ide.{index}", "IDE", is_hotpluggable=False) for index in range(2)]
        if self._buses:
            self._buses.append(Bus("isa.0", "ISA", is_hotpluggable=False))

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices)

    def find(self, device_id: str) -> Device:
        """Return the device with an id.

        Raises:
            QmpRefusal: no device has this id.
        """
        for device in self._devices:
            if device.id == device_id and device_id:
                return device
        raise QmpRefusal(f"Device '{device_id}' not found", "DeviceNotFound")

    def add(self, request: DeviceAdd, *, is_hotplug: bool) -> Device:
        """Add a device.

        Raises:
            QmpRefusal: the model, bus or backend does not exist, or the id, address or backend is in use.
        """
        kind = _BUS_KINDS.get(request.driver)
        if kind is None:
            raise QmpRefusal(f"'{request.driver}' is not a valid device model name")
        device_id = request.id or ""
        bus = self._find_bus(kind, request.bus, request.driver, is_hotplug=is_hotplug) if kind else None
        if device_id and any(device.id == device_id for device in self._devices):
            raise QmpRefusal(f"Duplicate device ID '{device_id}'")
        anonymous = f"peripheral-anon/device[{len(self._devices)}]"
        path = f"/machine/{f'peripheral/{device_id}' if device_id else anonymous}"
        address = self._find_address(bus, request) if bus is not None else None
        netdev = str(request.properties.get("netdev", ""))
        if netdev:
            self._check_netdev(request.driver, netdev)
        drive = request.properties.get("drive")
        if drive is not None:
            self._graph.attach(
                str(drive),
                _block_name(request.driver, device_id, path),
                is_shared=bool(request.properties.get("share-rw")),
            )
        if bus is not None:
            bus.occupants[address] = f"{request.driver},id={device_id}"
        device = Device(id=device_id, driver=request.driver, path=path, bus=bus, address=address, netdev=netdev)
        self._devices.append(device)
        controlled = _CONTROLLERS.get(request.driver)
        if controlled is not None:
            is_port = request.driver == "pcie-root-port"
            self._buses.append(Bus(device_id if is_port else f"{device_id}.0", controlled, has_one_slot=is_port))
        return device

    def _find_bus(self, kind: str, name: str | None, driver: str, *, is_hotplug: bool) -> Bus:
        candidates = [bus for bus in self._buses if (bus.kind == kind if name is None else bus.name == name)]
        if name is None and kind == "IDE":
            candidates = [bus for bus in candidates if not bus.occupants]
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

    def _find_address(self, bus: Bus, request: DeviceAdd) -> Any:
        properties = request.properties
        if bus.kind == "PCI":
            return _find_slot(bus, request.driver, properties.get("addr"))
        if bus.kind == "SCSI" and "scsi-id" in properties:
            address: Any = (properties.get("channel", 0), properties["scsi-id"], properties.get("lun", 0))
        elif bus.kind == "IDE" and "unit" in properties:
            address = properties["unit"]
        else:
            address = len(bus.occupants)
        if address in bus.occupants:
            raise QmpRefusal(f"address {address} of bus '{bus.name}' is in use by {bus.occupants[address]}")
        return address

    def _check_netdev(self, driver: str, netdev: str) -> None:
        model = driver.replace("-pci", "-device") if driver.startswith("virtio-") else driver
        if netdev not in self.netdevs:
            raise QmpRefusal(f"Property '{model}.netdev' can't find value '{netdev}'")
        if any(device.netdev == netdev for device in self._devices):
            raise QmpRefusal(f"Property '{model}.netdev' can't take value '{netdev}', it's in use")

    def remove(self, device: Device) -> list[Event]:
        """Remove a device, and return the events to send."""
        self._devices.remove(device)
        if device.bus is not None:
            del device.bus.occupants[device.address]
        backend = _backend(device.driver, device.path)
        self._graph.detach(device.block_name)
        events: list[Event] = []
        if backend != device.path:  # QEMU reports both, the backend first
            events.append(DeviceDeletedEvent(path=backend))
        events.append(DeviceDeletedEvent(device=device.id or None, path=device.path))
        return events

    def add_netdev(self, netdev_id: str, kind: str) -> None:
        """Add a network backend.

        Raises:
            QmpRefusal: the id is in use.
        """
        if netdev_id in self.netdevs:
            raise QmpRefusal(f"Duplicate ID '{netdev_id}'")
        self.netdevs[netdev_id] = kind

    def remove_netdev(self, netdev_id: str) -> None:
        """Remove a network backend. The NIC that used it has no backend then.

        Raises:
            QmpRefusal: no backend has this id.
        """
        if netdev_id not in self.netdevs:
            raise QmpRefusal(f"Device '{netdev_id}' not found", "DeviceNotFound")
        del self.netdevs[netdev_id]
        for device in self._devices:
            if device.netdev == netdev_id:
                device.netdev = ""


def _backend(driver: str, path: str) -> str:
    """Return the QOM path of a device's backend. A virtio device is a child of the transport that has the id."""
    return f"{path}/virtio-backend" if driver.startswith("virtio-") else path


def _block_name(driver: str, device_id: str, path: str) -> str:
    """Return the name of a device in block commands: its id, or the QOM path of its backend."""
    backend = _backend(driver, path)
    return device_id if device_id and backend == path else backend


def _find_slot(bus: Bus, driver: str, addr: Any) -> tuple[int, int]:
    """Return the slot and function of the ``addr`` property, or of the first free slot without one."""
    if addr is None:
        slots = range(1) if bus.has_one_slot else range(_SLOTS)
        free = [(slot, 0) for slot in slots if (slot, 0) not in bus.occupants]
        if not free:
            raise QmpRefusal(f"PCI: no slot/function available for {driver}, all in use or reserved")
        return free[0]
    slot_text, _, function_text = str(addr).partition(".")
    try:
        address = (int(slot_text, 0), int(function_text or "0", 0))
    except ValueError:
        raise QmpRefusal(f"Property '{driver}.addr' doesn't take value '{addr}'") from None
    if bus.has_one_slot and address[0]:
        # QEMU 7.2 accepts this, but the guest never sees the device; later versions refuse it.
        raise QmpRefusal(
            f"PCI: slot {address[0]} is not valid for {driver}, parent device only allows plugging into slot 0."
        )
    if address in bus.occupants:
        slot, function = address
        occupant = bus.occupants[address]
        raise QmpRefusal(f"PCI: slot {slot} function {function} not available for {driver}, in use by {occupant}")
    return address
