# SPDX-License-Identifier: BSD-2-Clause
"""What hypervisors may be able to change about the hardware of running instances.

`BaseHypervisor` has these methods; a plugin that declares a capability overrides all methods of that capability.
"""

from __future__ import annotations

from hvkit.hypervisor.model import Capability, DeviceAction, DeviceKind, Disk, DiskLimits, HotplugDevice, MediaDrive
from hvkit.hypervisor.optional import OptionalMethods


class DeviceMethods(OptionalMethods):
    """The part of `BaseHypervisor` that is about the hardware of instances."""

    # ---- processors and memory

    def set_instance_vcpus(self, name: str, vcpus: int, *, timeout: float | None = None) -> int:
        """Have an instance that is RUNNING or PAUSED have a number of processors: more come, or some go.

        Those that come are there when this returns; the guest uses them as soon as it sees them. Those that go are
        there until the guest lets go of them, which one whose processors stand still cannot.

        After success it has that many, also after a reboot. After failure it has those that have come, or have not gone
        so far, as `get_instance_info` says; the guest may have been asked to let go, and may do so later.

        Args:
            name: the instance's name.
            vcpus: how many it is to have: not fewer than it was started with, not more than it can have.
            timeout: seconds that the guest has to let go; None for the hypervisor's own idea of enough.

        Returns:
            How many it has.

        Raises:
            NotSupported: this hypervisor does not declare VCPUS.
            ParameterError: that number is out of range, or no whole number, or the timeout is negative.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            HotplugError: it does not have that many, and why.
        """
        self._lacks(Capability.VCPUS)

    def set_instance_memory(self, name: str, memory_mib: int, *, timeout: float | None = None) -> int:
        """Have an instance that is RUNNING or PAUSED have an amount of memory: more comes, or some goes.

        This is the memory of the machine. What a balloon took of it is another matter: see `balloon_instance_memory`.

        After success it has that much, also after a reboot. After failure it has what it has come to, as
        `get_instance_info` says; the guest may have been asked to take or to give memory, and may do so later.

        Args:
            name: the instance's name.
            memory_mib: what it is to have, in MiB: not less than it was started with, not more than it can have.
            timeout: seconds that the guest has to do its part; None for the hypervisor's own idea of enough.

        Returns:
            What it has, in MiB.

        Raises:
            NotSupported: this hypervisor does not declare MEMORY.
            ParameterError: that amount is out of range, or no whole number, or the timeout is negative.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            HotplugError: it does not have that much, and why.
        """
        self._lacks(Capability.MEMORY)

    def balloon_instance_memory(self, name: str, memory_mib: int, *, timeout: float = 0.0) -> int:
        """Ask a guest to make do with less memory than its machine has, or give it back.

        May be called when it is RUNNING or PAUSED.

        After success the target is set, and the guest moves there as far as it can, which it need not have done yet:
        one that needs its memory keeps it, one whose processors stand still does not move at all. That is no error.
        After a `ParameterError` or `InstanceStateError` the target is what it was.

        Args:
            name: the instance's name.
            memory_mib: what it is to have, in MiB: at least 1 and not more than its machine has.
            timeout: seconds to wait for the guest, finite and not negative; 0: not at all.

        Returns:
            What the guest has, in whole MiB: `memory_mib`, unless the time was over before it got there.

        Raises:
            NotSupported: this hypervisor does not declare BALLOON.
            ParameterError: the memory is out of range, or no whole number; or nobody can wait for that long.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            InstanceBusy: somebody else is working on it.
            HypervisorError: it does not answer; whether the target was set is not known.
        """
        self._lacks(Capability.BALLOON)

    # ---- disks and NICs

    def verify_hotplug_support(self, name: str, action: DeviceAction, kind: DeviceKind) -> None:
        """Return if devices of a kind can be plugged in this way, on this instance and now. Changes nothing.

        Raises:
            NotSupported: this hypervisor does not declare HOTPLUG.
            InstanceNotFound: no instance of that name is known here.
            HotplugError: they cannot, and why.
        """
        self._lacks(Capability.HOTPLUG)

    def hot_add_device(self, name: str, device: HotplugDevice) -> None:
        """Add a device to an instance that is RUNNING or PAUSED.

        After success the instance has the device, also after a reboot. After failure it does not, and nothing made
        for the device is left.

        Raises:
            NotSupported: this hypervisor does not declare HOTPLUG.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            HotplugError: the device could not be added.
        """
        self._lacks(Capability.HOTPLUG)

    def hot_del_device(self, name: str, device: HotplugDevice) -> None:
        """Take a device, known by its uuid, from an instance that is RUNNING or PAUSED.

        After success the guest has let go of it and the instance does not have it. After failure the instance has it;
        the guest may have been asked to let go, and may do so later.

        Raises:
            NotSupported: this hypervisor does not declare HOTPLUG.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            HotplugError: it has no such device, or the guest does not let go.
        """
        self._lacks(Capability.HOTPLUG)

    def hot_mod_device(self, name: str, device: HotplugDevice) -> None:
        """Change a device, known by its uuid, of an instance that is RUNNING or PAUSED to what is given.

        After success the instance has the device as given. After failure it has the old one, or none of the two where
        the error says so.

        Raises:
            NotSupported: this hypervisor does not declare HOTPLUG.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            HotplugError: it has no such device, or it could not be changed.
        """
        self._lacks(Capability.HOTPLUG)

    def resize_disk(self, name: str, disk: Disk, new_size_bytes: int) -> None:
        """Tell the guest of an instance that is RUNNING or PAUSED that a disk, known by its uuid, has grown.

        After success the guest sees the new size. After failure it sees the old one.

        Raises:
            NotSupported: this hypervisor does not declare RESIZE_DISK.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            ParameterError: it has no such disk, or that is no size.
            HypervisorError: the disk could not be resized.
        """
        self._lacks(Capability.RESIZE_DISK)

    def limit_disk(self, name: str, disk: Disk, limits: DiskLimits | None) -> None:
        """Change how much the guest of an instance that is RUNNING or PAUSED may do with a disk, known by its uuid.

        After success the disk has these limits, also after a reboot. After failure it has those that it had before;
        with the cause UNKNOWN it has one or the other, and gets the new ones when it is next worked on.

        Args:
            name: the instance's name.
            disk: the disk; its own `limits` have no say.
            limits: what it is limited to; None: nothing.

        Raises:
            NotSupported: this hypervisor does not declare LIMIT_DISK.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            InstanceBusy: somebody else is working on it.
            ParameterError: it has no such disk.
            HotplugError: the limits could not be set.
        """
        self._lacks(Capability.LIMIT_DISK)

    # ---- media

    def change_medium(self, name: str, drive: MediaDrive, image: str) -> None:
        """Put another medium into a drive of an instance that is RUNNING or PAUSED, or one into an empty drive.

        A guest that has locked the drive is asked to open it, and waited for. After success the new medium is in the
        drive, which is closed; it is there after a reboot and on another node too. After failure the old one is, or
        the drive is empty as before; with the cause UNKNOWN one or the other, which is settled when a medium is next
        worked on.

        Args:
            name: the instance's name.
            drive: which of its drives.
            image: what to put into it: a file, or what else the parameters of the hypervisor take for one.

        Raises:
            NotSupported: this hypervisor does not declare MEDIA.
            ParameterError: there is no such image, or it cannot be used.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            InstanceBusy: somebody else is working on it.
            HotplugError: it has no such drive, the guest does not open it, or the image is refused.
        """
        self._lacks(Capability.MEDIA)

    def eject_medium(self, name: str, drive: MediaDrive, *, force: bool = False) -> None:
        """Take the medium out of a drive of an instance that is RUNNING or PAUSED. An empty drive stays empty.

        A guest that has locked the drive is asked to open it, and waited for. After success the drive is empty, also
        after a reboot and on another node. After failure the medium is in it; with the cause UNKNOWN that is settled
        when a medium is next worked on.

        Args:
            name: the instance's name.
            drive: which of its drives.
            force: open the drive whether or not the guest has locked it.

        Raises:
            NotSupported: this hypervisor does not declare MEDIA.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            InstanceBusy: somebody else is working on it.
            HotplugError: it has no such drive, or the guest does not open it.
        """
        self._lacks(Capability.MEDIA)
