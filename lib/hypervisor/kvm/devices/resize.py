# SPDX-License-Identifier: BSD-2-Clause
"""Tell a guest that a disk of it has grown."""

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.devices.session import find_disk
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.qemu.block_nodes import read_nodes
from hvkit.hypervisor.model import Disk
from hvkit.qmp.schema import BlockResize


def resize(handle: InstanceHandle, disk: Disk, new_size_bytes: int) -> None:
    """Let a disk of a running machine grow, as `BaseHypervisor.resize_disk` says.

    An image is made larger by that; a block device has to have the size already.

    Raises:
        ParameterError: the instance has no such disk, or the disk is larger than that.
        InstanceStateError: it is neither RUNNING nor PAUSED.
        QmpError: QEMU refuses, or does not answer.
    """
    with handle.locked():
        handle.require_alive("its disks cannot be resized")
        node_name = find_disk(handle.load(), disk).backends[-1]
        with handle.connected() as monitor:
            nodes = read_nodes(monitor)
            if node_name not in nodes:
                raise ParameterError("Disk.uuid", str(disk.uuid), f"somebody took that disk from {handle.name}")
            size = nodes[node_name].image.virtual_size
            if new_size_bytes < size:
                problem = f"the disk has {size} bytes, and only grows"
                raise ParameterError("new_size_bytes", new_size_bytes, problem)
            monitor.execute(BlockResize(node_name=node_name, size=new_size_bytes))
