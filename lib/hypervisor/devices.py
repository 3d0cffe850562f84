# SPDX-License-Identifier: BSD-2-Clause
"""Optional methods of the hypervisor interface for the devices, memory and vCPUs of running instances."""

from __future__ import annotations

from hvkit.hypervisor.model import Capability, DeviceAction, DeviceKind, Disk, DiskLimits, HotplugDevice, MediaDrive
from hvkit.hypervisor.optional import OptionalMethods, optional


class DeviceMethods(OptionalMethods):
    """Changes of the hardware of running instances. All need an instance that is RUNNING or PAUSED."""

    @optional(Capability.VCPUS)
    def set_instance_vcpus(self, name: str, vcpus: int, *, timeout: float | None = None) -> int:
        """Set the number of vCPUs of an instance.

        Added vCPUs exist when this returns; the guest uses them once it detects them. Removed vCPUs exist until the
        guest releases them, which a paused guest cannot do.

        After success the instance has that many vCPUs, also after a reboot. After failure it has the number that
        `get_instance_info` returns; a guest that was asked to release a vCPU may still do so later.

        Args:
            name: the instance.
            vcpus: from the number at its start to its maximum.
            timeout: seconds for the guest to release vCPUs; None: the hypervisor's default.

        Returns:
            The number of vCPUs.

        Raises:
            NotSupported: the hypervisor does not have VCPUS.
            ParameterError: the number is out of range, or the timeout is negative.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            HotplugError: the number could not be reached.
        """
        raise NotImplementedError

    @optional(Capability.MEMORY)
    def set_instance_memory(self, name: str, memory_mib: int, *, timeout: float | None = None) -> int:
        """Set the size of the memory of an instance.

        This is the memory of the machine; the balloon is independent of it (see `balloon_instance_memory`).

        After success the instance has that much memory, also after a reboot. After failure it has what
        `get_instance_info` returns; a guest that was asked to accept or release memory may still do so later.

        Args:
            name: the instance.
            memory_mib: in MiB, from the size at its start to its maximum.
            timeout: seconds for the guest to accept or release memory; None: the hypervisor's default.

        Returns:
            The size, in MiB.

        Raises:
            NotSupported: the hypervisor does not have MEMORY.
            ParameterError: the size is out of range, or the timeout is negative.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            HotplugError: the size could not be reached.
        """
        raise NotImplementedError

    @optional(Capability.BALLOON)
    def balloon_instance_memory(self, name: str, memory_mib: int, *, timeout: float | None = None) -> int:
        """Set the balloon target: the part of its memory that the guest may use.

        After success the target is set. The guest approaches it as far as it can: a guest that needs its memory keeps
        it, and a paused guest does not react. Neither is an error. After `ParameterError` or `InstanceStateError` the
        target is unchanged.

        Args:
            name: the instance.
            memory_mib: in MiB, from 1 to the size of its memory.
            timeout: seconds to wait for the guest; None: do not wait.

        Returns:
            What the guest has, in MiB: `memory_mib`, unless the timeout passed first.

        Raises:
            NotSupported: the hypervisor does not have BALLOON.
            ParameterError: the size is out of range, or the timeout is negative.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            InstanceBusy: another operation holds its lock.
            HypervisorError: QEMU does not answer; whether the target was set is unknown.
        """
        raise NotImplementedError

    @optional(Capability.HOTPLUG)
    def verify_hotplug_support(self, name: str, action: DeviceAction, kind: DeviceKind) -> None:
        """Check that an operation on devices of a kind is possible on this instance now. Changes nothing.

        Raises:
            NotSupported: the hypervisor does not have HOTPLUG.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            HotplugError: the operation is not possible.
        """
        raise NotImplementedError

    @optional(Capability.HOTPLUG)
    def hot_add_device(self, name: str, device: HotplugDevice) -> None:
        """Add a disk or a NIC to an instance.

        After success the instance has the device, also after a reboot. After failure it does not, unless the error says
        so, and nothing made for the device is left.

        Raises:
            NotSupported: the hypervisor does not have HOTPLUG.
            ParameterError: the device cannot be used on this node, or conflicts with another device of the instance.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            HotplugError: the device could not be added.
        """
        raise NotImplementedError

    @optional(Capability.HOTPLUG)
    def hot_del_device(self, name: str, device: HotplugDevice) -> None:
        """Remove a disk or a NIC, identified by its uuid, from an instance.

        After success the guest has released the device and the instance does not have it. After failure the instance
        has it; a guest that was asked to release it may still do so later.

        Raises:
            NotSupported: the hypervisor does not have HOTPLUG.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            HotplugError: the instance has no such device, or the guest does not release it.
        """
        raise NotImplementedError

    @optional(Capability.HOTPLUG)
    def hot_mod_device(self, name: str, device: HotplugDevice) -> None:
        """Replace a device, identified by its uuid, by a changed one with the same uuid.

        After success the instance has the device as given. After failure it has the old one, or neither if the error
        says so.

        Raises:
            NotSupported: the hypervisor does not have HOTPLUG.
            ParameterError: the device cannot be used on this node, or conflicts with another device of the instance.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            HotplugError: the instance has no such device, or it could not be changed.
        """
        raise NotImplementedError

    @optional(Capability.RESIZE_DISK)
    def resize_disk(self, name: str, disk: Disk, new_size_bytes: int) -> None:
        """Grow a disk, identified by its uuid, and announce the new size to the guest.

        After success the guest sees the new size. After failure it sees the old one.

        Raises:
            NotSupported: the hypervisor does not have RESIZE_DISK.
            ParameterError: the instance has no such disk, or the size is invalid or smaller than the current one.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            HypervisorError: the disk could not be resized.
        """
        raise NotImplementedError

    @optional(Capability.LIMIT_DISK)
    def limit_disk(self, name: str, disk: Disk, limits: DiskLimits | None) -> None:
        """Set the throughput limits of a disk, identified by its uuid.

        After success the disk has these limits, also after a reboot. After failure it has the old ones; if the cause is
        UNKNOWN it has either, and the next operation on devices of the instance sets the new ones.

        Args:
            name: the instance.
            disk: the disk; its own `limits` are ignored.
            limits: the new limits; None: unlimited.

        Raises:
            NotSupported: the hypervisor does not have LIMIT_DISK.
            ParameterError: the instance has no such disk, or the disk cannot be limited.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            HotplugError: the limits could not be set.
        """
        raise NotImplementedError

    @optional(Capability.MEDIA)
    def change_medium(self, name: str, drive: MediaDrive, image: str) -> None:
        """Insert a medium into a drive, in place of the one it holds.

        If the guest has locked the drive, it is asked to open it. After success the drive holds the new medium and is
        closed, also after a reboot and on another node. After failure it holds what it held before; if the cause is
        UNKNOWN it holds either, and the next operation on media reconciles it.

        Args:
            name: the instance.
            drive: the drive.
            image: a file, or another value that the drive's parameter accepts.

        Raises:
            NotSupported: the hypervisor does not have MEDIA.
            ParameterError: there is no such image, or it cannot be used.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            HotplugError: the instance has no such drive, the guest does not open it, or QEMU refuses the image.
        """
        raise NotImplementedError

    @optional(Capability.MEDIA)
    def eject_medium(self, name: str, drive: MediaDrive, *, force: bool = False) -> None:
        """Eject the medium of a drive. An empty drive stays empty.

        If the guest has locked the drive, it is asked to open it. After success the drive is empty, also after a reboot
        and on another node. After failure it holds its medium; if the cause is UNKNOWN, the next operation on media
        reconciles it.

        Args:
            name: the instance.
            drive: the drive.
            force: open the drive even if the guest has locked it.

        Raises:
            NotSupported: the hypervisor does not have MEDIA.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            HotplugError: the instance has no such drive, or the guest does not open it.
        """
        raise NotImplementedError
