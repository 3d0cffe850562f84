# SPDX-License-Identifier: BSD-2-Clause
"""CD and floppy drives, whose media can be changed."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities
from hvkit.hypervisor.kvm.plan.parameters import CDROM_DRIVERS, EMPTY, cdrom_type, is_url, plan_boot_index
from hvkit.hypervisor.kvm.plan.topology import Address, BusKind, Chipset, FixedSlot, Topology
from hvkit.qmp.schema import (
    BlockdevOptions,
    BlockdevOptionsCurlHttp,
    BlockdevOptionsCurlHttps,
    BlockdevOptionsFile,
    BlockdevOptionsRaw,
    DeviceAdd,
)

FLOPPY_ID: Final = "floppy1"
#: The parameter with the image of each drive, and the id of the drive, in the order of the drives.
IMAGE_PARAMETERS: Final[dict[str, str]] = {
    "cdrom_image_path": "cdrom1",
    "cdrom2_image_path": "cdrom2",
    "floppy_image_path": FLOPPY_ID,
}

_BUSES: Final = {"paravirtual": BusKind.PCI, "ide": BusKind.IDE, "scsi-cd": BusKind.SCSI}
_SLOTS: Final = {"cdrom1": FixedSlot.CDROM1, "cdrom2": FixedSlot.CDROM2}
_FLOPPY_CONTROLLER_ID: Final = "fdc"
#: A drive for 1.44 MB.
_FLOPPY_TYPE: Final = "144"


@attrs.frozen(kw_only=True)
class Drive:
    """A CD or floppy drive of a machine.

    Attributes:
        id: of the drive.
        address: its bus address; None for a floppy drive.
        nodes: the block nodes of the medium, each before the nodes that use it; none for an empty drive.
        devices: the device of the drive, preceded by its controller if the machine has none.
        floppy_boot_index: the boot index of a floppy drive, which is a property of its controller. None for a CD drive,
            and for a floppy drive that is not bootable.
    """

    id: str
    address: Address | None
    nodes: tuple[BlockdevOptions, ...]
    devices: tuple[DeviceAdd, ...]
    floppy_boot_index: int | None = None


def needs_scsi(parameters: Mapping[str, Any]) -> bool:
    """Return whether the CD drives need a SCSI controller."""
    return bool(parameters["cdrom_image_path"]) and cdrom_type(parameters) == "scsi-cd"


def plan_drives(
    parameters: Mapping[str, Any],
    capabilities: Capabilities,
    topology: Topology,
    filenames: Mapping[str, str],
) -> tuple[Drive, ...]:
    """Plan the CD and floppy drives.

    Args:
        parameters: of the instance, filled and checked.
        capabilities: of the program.
        topology: of the machine.
        filenames: by the id of a drive, the name by which QEMU opens its image; only for images that it cannot open by
            their own names.

    Raises:
        ParameterError: the program lacks a device, or there is no free address for a drive.
    """
    drives = []
    places = plan_drive_places(parameters, topology)
    for parameter, drive_id in IMAGE_PARAMETERS.items():
        image = parameters[parameter]
        if not image:
            continue
        nodes = () if image == EMPTY else medium_nodes(drive_id, image, filename=filenames.get(drive_id))
        if drive_id == FLOPPY_ID:
            drives.append(_floppy(topology, nodes, boot_index=plan_boot_index("floppy", parameters)))
            continue
        properties: dict[str, Any] = {"drive": nodes[-1].node_name} if nodes else {}
        boot_index = None if drives else plan_boot_index("cdrom", parameters)
        if boot_index is not None:
            properties["bootindex"] = boot_index
        kind = cdrom_type(parameters)
        capabilities.check_device(CDROM_DRIVERS[kind], "cdrom_disk_type", kind)
        address = places[drive_id]
        device = DeviceAdd(
            driver=CDROM_DRIVERS[kind],
            id=drive_id,
            bus=address.bus,
            properties={**address.properties, **properties},
        )
        drives.append(Drive(id=drive_id, address=address, nodes=nodes, devices=(device,)))
    return tuple(drives)


def plan_drive_places(parameters: Mapping[str, Any], topology: Topology) -> dict[str, Address]:
    """Return the bus addresses of the CD drives, by their ids. A floppy drive has none.

    On buses with disks they are allocated from the end, because disks are allocated from the start.

    Args:
        parameters: of the instance, filled and checked.
        topology: of the machine.

    Raises:
        ParameterError: there is no free address for a drive.
    """
    ids = [drive_id for parameter, drive_id in IMAGE_PARAMETERS.items() if drive_id in _SLOTS and parameters[parameter]]
    kind = cdrom_type(parameters)
    if kind == "paravirtual":
        return {drive_id: topology.fixed(_SLOTS[drive_id]) for drive_id in ids}
    places = list(topology.places(_BUSES[kind]))
    if len(ids) > len(places):
        raise ParameterError("cdrom_disk_type", kind, f"no free address for a drive on the {_BUSES[kind].name} buses")
    return dict(zip(ids, reversed(places), strict=False))


def _floppy(topology: Topology, nodes: tuple[BlockdevOptions, ...], *, boot_index: int | None) -> Drive:
    # Without a type, QEMU derives it from the medium, and an empty drive gets another one than a drive for 1.44 MB.
    own: dict[str, Any] = {"drive": nodes[-1].node_name} if nodes else {"drive-type": _FLOPPY_TYPE}
    drive = DeviceAdd(driver="floppy", id=FLOPPY_ID, properties=own)
    devices = [drive]
    if topology.chipset is Chipset.Q35:  # pc has a floppy controller by default
        devices = [
            DeviceAdd(driver="isa-fdc", id=_FLOPPY_CONTROLLER_ID),
            drive.evolve(bus=f"{_FLOPPY_CONTROLLER_ID}.0"),
        ]
    return Drive(id=FLOPPY_ID, address=None, nodes=nodes, devices=tuple(devices), floppy_boot_index=boot_index)


def medium_nodes(
    drive_id: str, image: str, *, filename: str | None = None, number: int = 0
) -> tuple[BlockdevOptions, ...]:
    """Describe the block nodes of a read-only medium.

    Args:
        drive_id: the id of its drive.
        image: an absolute path, or a URL of http or https.
        filename: the name by which QEMU opens it; None for its path.
        number: distinguishes successive media of the drive; 0 for the medium at boot.
    """
    protocol = f"{drive_id}-file{number or ''}"
    common: dict[str, Any] = {"node_name": protocol, "read_only": True}
    node: BlockdevOptions
    if not is_url(image):
        node = BlockdevOptionsFile(driver="file", filename=filename or image, **common)
    elif image.startswith("https:"):
        node = BlockdevOptionsCurlHttps(url=image, **common)
    else:
        node = BlockdevOptionsCurlHttp(driver="http", url=image, **common)
    return node, BlockdevOptionsRaw(node_name=f"{drive_id}-medium{number or ''}", file=protocol, read_only=True)
