# SPDX-License-Identifier: BSD-2-Clause
"""The chain of block nodes of a disk: its image, and the overlays above it.

Each image has two nodes, its file and its format. The last node of the chain is the one that the guest uses.
"""

import re
from collections.abc import Iterable
from typing import Final, Literal, cast
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import SnapshotError
from hvkit.hypervisor.kvm.host.runtime import DeviceRecord, Runtime
from hvkit.hypervisor.kvm.qemu.block_nodes import read_nodes
from hvkit.hypervisor.model import Disk
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import BlockdevDel

#: The number of nodes of a disk without overlays.
BASE_NODES: Final = 2
#: The suffix of an overlay's file while the overlay is being committed.
COMMITTING: Final = ".merging"


def require_record(runtime: Runtime, uuid: UUID) -> DeviceRecord:
    """Return the record of a disk.

    Raises:
        SnapshotError: the instance has no such disk.
    """
    record = runtime.disk_record(uuid)
    if record is None:
        raise SnapshotError(runtime.instance.name, f"the instance has no disk {uuid}")
    return record


def require_disk(runtime: Runtime, uuid: UUID) -> Disk:
    """Return a disk.

    Raises:
        SnapshotError: the instance has no such disk.
    """
    require_record(runtime, uuid)
    return next(disk for disk in runtime.instance.disks if disk.uuid == uuid)


def overlay_nodes(record: DeviceRecord) -> tuple[str, str]:
    """Return the names of the file node and the format node of the next overlay of a disk."""
    number = len(record.backends) // 2
    return f"{record.device}-o{number}f", f"{record.device}-o{number}"


def is_overlay_node(record: DeviceRecord, node: str) -> bool:
    """Return whether a node belongs to an overlay of a disk."""
    return re.fullmatch(rf"{re.escape(record.device)}-o\d+f?", node) is not None


def deletion_order(node: str) -> tuple[int, bool]:
    """Return the sort key that puts the nodes of overlays from the top to the bottom, each format before its file."""
    is_file = node.endswith("f")
    return -int(node.rstrip("f").rpartition("o")[2]), is_file


def with_chain(
    runtime: Runtime, uuid: UUID, backends: tuple[str, ...], path: str, disk_format: Literal["raw", "qcow2"]
) -> Runtime:
    """Return the state with another chain of one disk, and the image on top of it."""
    disks = tuple(
        attrs.evolve(disk, path=path, format=disk_format) if disk.uuid == uuid else disk
        for disk in runtime.instance.disks
    )
    devices = tuple(
        attrs.evolve(record, backends=backends) if record.uuid == uuid else record for record in runtime.devices
    )
    return attrs.evolve(runtime, instance=attrs.evolve(runtime.instance, disks=disks), devices=devices)


def cut_chain(monitor: QmpConnection, runtime: Runtime, uuid: UUID, backends: tuple[str, ...]) -> Runtime:
    """Return the state with the chain of one disk cut back to the given nodes.

    Raises:
        QmpError: QEMU does not answer.
        BlockNodeNotFound: QEMU does not have the last of these nodes.
    """
    nodes = read_nodes(monitor)
    disk_format = cast("Literal['raw', 'qcow2']", nodes[backends[-1]].drv)
    return with_chain(runtime, uuid, backends, nodes[backends[-2]].file, disk_format)


def delete_nodes(monitor: QmpConnection, names: Iterable[str]) -> None:
    """Delete block nodes, in the given order.

    Raises:
        QmpError: QEMU refused, or does not answer.
    """
    for name in names:
        monitor.execute(BlockdevDel(node_name=name))
