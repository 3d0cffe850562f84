# SPDX-License-Identifier: BSD-2-Clause
"""The part of the KVM hypervisor that changes the hardware of running instances."""

from typing import Final

from hvkit.hypervisor.devices import DeviceMethods
from hvkit.hypervisor.errors import HotplugCause, HotplugError
from hvkit.hypervisor.kvm.devices.balloon import balloon
from hvkit.hypervisor.kvm.devices.hotplug import check_support, hot_add, hot_del, hot_mod
from hvkit.hypervisor.kvm.devices.limits import limit
from hvkit.hypervisor.kvm.devices.media import change_medium, eject_medium
from hvkit.hypervisor.kvm.devices.memory import set_memory
from hvkit.hypervisor.kvm.devices.processors import set_vcpus
from hvkit.hypervisor.kvm.devices.resize import resize
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import (
    DeviceAction,
    DeviceKind,
    Disk,
    DiskLimits,
    HotplugDevice,
    MediaDrive,
    Nic,
    check_integer,
    check_kind,
    check_timeout,
)

#: The largest disk that QEMU can be told of.
_MOST_BYTES: Final = (1 << 63) - 1
#: Seconds that a guest has to let go of a device.
_UNPLUG_S: Final = 30.0
#: Seconds that a guest has to open a drive that it has locked.
_OPEN_S: Final = 10.0


class KvmDevices(KvmSubject, DeviceMethods):
    """Changes the hardware of running instances."""

    def set_instance_vcpus(self, name: str, vcpus: int, *, timeout: float | None = None) -> int:
        """Plug processors in, or have the guest let go of some, as `BaseHypervisor.set_instance_vcpus` says.

        It can have as many as the parameter `vcpus_max` says. A guest has 30 seconds where the caller does not say.

        Raises:
            HotplugError: without KVM, too, where QEMU would not survive it: that a processor is taken out before
                version 10, and that more of them come, over time, than there can be at once.
        """
        timeout_s = check_timeout(timeout, default_s=_UNPLUG_S)
        return set_vcpus(
            self._instances.require_managed(name),
            vcpus,
            timeout_s=timeout_s,
        )

    def set_instance_memory(self, name: str, memory_mib: int, *, timeout: float | None = None) -> int:
        """Give an instance more memory, or have it give some back, as `BaseHypervisor.set_instance_memory` says.

        It can have as much as the parameter `memory_max_mib` says, by the means that `memory_hotplug` says. A guest has
        30 seconds where the caller does not say.
        """
        timeout_s = check_timeout(timeout, default_s=_UNPLUG_S)
        return set_memory(
            self._instances.require_managed(name),
            memory_mib,
            timeout_s=timeout_s,
        )

    def balloon_instance_memory(self, name: str, memory_mib: int, *, timeout: float | None = None) -> int:
        """Set the memory a guest is to make do with, as `BaseHypervisor.balloon_instance_memory` says."""
        timeout_s = check_timeout(timeout, default_s=0.0)
        return balloon(self._instances.require(name), memory_mib, timeout_s=timeout_s)

    def verify_hotplug_support(self, name: str, action: DeviceAction, kind: DeviceKind) -> None:
        """Return if devices can be plugged in this way, as `BaseHypervisor.verify_hotplug_support` says."""
        check_kind(action, DeviceAction)
        check_kind(kind, DeviceKind)
        handle = self._instances.require_managed(name)
        if kind is DeviceKind.DISK and action is DeviceAction.MODIFY:
            problem = "a disk cannot be changed; take it out and plug the new one in"
            raise HotplugError(name, kind.value, problem, HotplugCause.UNFIT)
        check_support(handle, kind, needs_room=action is DeviceAction.ADD)

    def hot_add_device(self, name: str, device: HotplugDevice) -> None:
        """Plug a disk or a NIC in, as `BaseHypervisor.hot_add_device` says.

        Limits of a disk are set a moment after it has come. Where that fails the disk is there all the same, and the
        error says so; they are set when the instance is next worked on.

        Raises:
            ParameterError: the disk is not there, or the instance has one like it.
        """
        check_kind(device, Disk, Nic)
        hot_add(self._instances.require_managed(name), device)

    def hot_del_device(self, name: str, device: HotplugDevice) -> None:
        """Take a disk or a NIC out, as `BaseHypervisor.hot_del_device` says.

        The guest is asked again every few seconds, because one that boots misses it. A guest whose processors stand
        still cannot let go of most devices. A device that the guest lets go of later is forgotten when the next one is
        plugged in or taken out.
        """
        check_kind(device, Disk, Nic)
        hot_del(self._instances.require_managed(name), device.uuid, timeout_s=_UNPLUG_S)

    def hot_mod_device(self, name: str, device: HotplugDevice) -> None:
        """Change a NIC, as `BaseHypervisor.hot_mod_device` says; a disk cannot be changed."""
        check_kind(device, Disk, Nic)
        handle = self._instances.require_managed(name)
        if isinstance(device, Disk):
            self.verify_hotplug_support(name, DeviceAction.MODIFY, DeviceKind.DISK)
        else:
            hot_mod(handle, device, timeout_s=_UNPLUG_S)

    def resize_disk(self, name: str, disk: Disk, new_size_bytes: int) -> None:
        """Tell a guest that a disk has grown, as `BaseHypervisor.resize_disk` says.

        An image is made larger by that; a block device has to have the size already.

        Raises:
            ParameterError: the instance has no such disk, or the disk is larger than that.
        """
        check_kind(disk, Disk)
        check_integer("new_size_bytes", new_size_bytes, 1, _MOST_BYTES)
        resize(self._instances.require_managed(name), disk, new_size_bytes)

    def limit_disk(self, name: str, disk: Disk, limits: DiskLimits | None) -> None:
        """Change how much a guest may do with a disk, as `BaseHypervisor.limit_disk` says."""
        check_kind(disk, Disk)
        check_kind(limits, DiskLimits, type(None))
        limit(self._instances.require_managed(name), disk, limits)

    def change_medium(self, name: str, drive: MediaDrive, image: str) -> None:
        """Put another medium into a drive, as `BaseHypervisor.change_medium` says.

        A paravirtual CD drive is a disk to its guest, whose medium cannot be changed. A guest has ten seconds to open
        a drive that it has locked; only one that runs can.
        """
        check_kind(drive, MediaDrive)
        change_medium(self._instances.require_managed(name), drive, image, timeout_s=_OPEN_S)

    def eject_medium(self, name: str, drive: MediaDrive, *, force: bool = False) -> None:
        """Take the medium out of a drive, as `BaseHypervisor.eject_medium` says; see `change_medium`."""
        check_kind(drive, MediaDrive)
        check_kind(force, bool)
        eject_medium(self._instances.require_managed(name), drive, force=force, timeout_s=_OPEN_S)
