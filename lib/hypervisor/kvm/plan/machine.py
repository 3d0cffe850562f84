# SPDX-License-Identifier: BSD-2-Clause
"""The plan of a machine: every property that matters to its guest, as typed values.

A plan contains no option text: `hvkit.hypervisor.kvm.plan.command_line` renders it. It is complete: two QEMU processes
with the same plan provide the same machine.
"""

from typing import Final, Literal
from uuid import UUID

import attrs

from hvkit.hypervisor.kvm.plan.capabilities import Accelerator, MachineType
from hvkit.hypervisor.kvm.plan.confinement import Confinement
from hvkit.hypervisor.kvm.plan.devices import DiskDevice, NicDevice
from hvkit.hypervisor.kvm.plan.display import Display
from hvkit.hypervisor.kvm.plan.drives import Drive
from hvkit.hypervisor.kvm.plan.firmware import Flash
from hvkit.hypervisor.kvm.plan.memory import Memory
from hvkit.hypervisor.kvm.plan.parameters import CpuSet
from hvkit.hypervisor.kvm.plan.plugged import Dimm, Processor
from hvkit.hypervisor.kvm.plan.resources import FileSet, Listener
from hvkit.hypervisor.kvm.plan.topology import Topology
from hvkit.qmp.schema import DeviceAdd, ObjectOptions

CONTROL_MONITOR_ID: Final = "control"
SHARED_MONITOR_ID: Final = "shared"
WATCH_MONITOR_ID: Final = "watch"


@attrs.frozen(kw_only=True)
class SocketChardev:
    """A character device on a unix socket.

    Attributes:
        id: its id.
        listener: where it listens, or the number of a connected descriptor.
        is_connected: whether `listener` is a connected descriptor.
        log_file: the file that its output is appended to; empty for none.
    """

    id: str
    listener: Listener
    is_connected: bool = False
    log_file: str = ""


@attrs.frozen(kw_only=True)
class Monitor:
    """A QMP monitor.

    Attributes:
        chardev: its character device.
        qom: the object that creates it; None for a QEMU without such objects, which has an option instead.
    """

    chardev: SocketChardev
    qom: ObjectOptions | None


@attrs.frozen(kw_only=True)
class Processors:
    """The vCPUs.

    Attributes:
        count: the number at boot, without hot-added ones.
        maximum: the largest number while the instance runs.
        plugged: the vCPUs that were hot-added on the source of a migration.
        model: the CPU model with features, as QEMU writes it.
        sockets: the number of sockets; 0: QEMU decides.
        cores: cores in a socket; 0: QEMU decides.
        threads: threads in a core; 0: QEMU decides.
        affinity: the CPUs of the node to run on: one entry for the whole process, or one for each possible vCPU.
    """

    count: int
    maximum: int
    plugged: tuple[Processor, ...] = ()
    model: str
    sockets: int = 0
    cores: int = 0
    threads: int = 0
    affinity: tuple[CpuSet, ...] = (None,)


@attrs.frozen(kw_only=True)
class LinuxBoot:
    """A kernel that QEMU loads without the guest's own boot loader.

    Attributes:
        kernel: its file.
        initrd: the file of the initial RAM disk; empty for none.
        arguments: the kernel command line.
    """

    kernel: str
    initrd: str
    arguments: str


@attrs.frozen(kw_only=True)
class MachinePlan:
    """A complete machine.

    Attributes:
        binary: the QEMU program.
        name: of the instance.
        uuid: of the instance.
        machine: the versioned machine type. It does not change while the instance runs.
        accelerator: the accelerator.
        processors: the vCPUs.
        memory_mib: the memory at boot, in MiB.
        memory: the memory backends and the NUMA nodes of the guest.
        memory_max_mib: the largest amount of memory while the instance runs, in MiB.
        memory_slots: the number of DIMM slots.
        dimms: the DIMMs that were hot-added on the source of a migration, with their addresses.
        dimm_backends: the memory backend of each of them, in the same order.
        has_acpi: whether the guest has ACPI.
        has_local_time: whether the clock of the guest starts with local time, not UTC.
        on_reboot: the action of QEMU when the guest reboots. When the guest powers off, QEMU always pauses instead
            of ending, so that a power-off can be distinguished from a crash later.
        linux: the kernel to boot; None for the guest's own boot loader.
        topology: the buses.
        monitors: the QMP monitors.
        chardevs: the other character devices.
        firmware: the UEFI firmware; None for QEMU's own BIOS.
        objects: objects that devices refer to: IOThreads, and the backend of a virtio-mem device.
        io_thread_affinity: for each IOThread the CPUs of the node to run on.
        devices: the built-in devices, each after the devices that it refers to.
        display: VNC, SPICE, USB and sound.
        drives: the CD and floppy drives.
        disks: in the order of the instance.
        nics: in the order of the instance.
        pid_file: the file that QEMU writes its pid to; empty for none.
        confinement: the confinement of QEMU.
        file_sets: the fdsets that QEMU inherits.
        is_incoming: whether the machine waits for an incoming migration instead of booting.
        extra: additional arguments.
    """

    binary: str
    name: str
    uuid: UUID
    machine: MachineType
    accelerator: Accelerator
    processors: Processors
    memory_mib: int
    memory: Memory = attrs.field(factory=Memory)
    memory_max_mib: int
    memory_slots: int = 0
    dimms: tuple[Dimm, ...] = ()
    dimm_backends: tuple[ObjectOptions, ...] = ()
    has_acpi: bool = True
    has_local_time: bool = False
    on_reboot: Literal["reset", "shutdown"] = "reset"
    linux: LinuxBoot | None = None
    topology: Topology
    monitors: tuple[Monitor, ...]
    chardevs: tuple[SocketChardev, ...] = ()
    firmware: Flash | None = None
    objects: tuple[ObjectOptions, ...] = ()
    io_thread_affinity: tuple[CpuSet, ...] = ()
    devices: tuple[DeviceAdd, ...] = ()
    display: Display = attrs.field(factory=Display)
    drives: tuple[Drive, ...] = ()
    disks: tuple[DiskDevice, ...] = ()
    nics: tuple[NicDevice, ...] = ()
    pid_file: str = ""
    confinement: Confinement = attrs.field(factory=Confinement)
    file_sets: tuple[FileSet, ...] = ()
    is_incoming: bool = False
    extra: tuple[str, ...] = ()

    @property
    def plugged_devices(self) -> tuple[DeviceAdd, ...]:
        """The vCPUs and DIMMs that were hot-added on the source of a migration."""
        return (
            *(processor.build() for processor in self.processors.plugged),
            *(dimm.build() for dimm in self.dimms),
        )
