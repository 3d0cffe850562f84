# SPDX-License-Identifier: BSD-2-Clause
"""Growing the disks of running instances."""

from typing import Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.devices.session import require_disk_record, translate_hotplug_errors
from hvkit.hypervisor.kvm.qemu.block_nodes import read_nodes
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import Disk, check_integer, check_kind
from hvkit.qmp.schema import BlockResize

#: The largest size that QEMU accepts.
_MAX_BYTES: Final = (1 << 63) - 1


class ResizeVerbs(KvmSubject):
    """The verb of the capability RESIZE_DISK."""

    def resize_disk(self, name: str, disk: Disk, new_size_bytes: int) -> None:
        """Grow a disk of a running or paused instance, and notify the guest.

        An image file is grown by this call; a block device must already have the new size.

        Raises:
            ParameterError: the instance has no such disk, or the disk is larger than the new size.
        """
        check_kind(disk, Disk)
        check_integer("new_size_bytes", new_size_bytes, 1, _MAX_BYTES)
        handle = self._instances.require_managed(name)
        with handle.locked():
            handle.require_alive("cannot resize a disk")
            record = require_disk_record(handle.load(), disk)
            node_name = record.backends[-1]
            with translate_hotplug_errors(name, record.device), handle.connected() as monitor:
                nodes = read_nodes(monitor)
                if node_name not in nodes:
                    problem = f"{name} has no block node {node_name} for this disk: it was removed from outside hvkit"
                    raise ParameterError("Disk.uuid", str(disk.uuid), problem)
                size = nodes[node_name].image.virtual_size
                if new_size_bytes < size:
                    problem = f"the disk has {size} bytes and cannot shrink"
                    raise ParameterError("new_size_bytes", new_size_bytes, problem)
                monitor.execute(BlockResize(node_name=node_name, size=new_size_bytes))
