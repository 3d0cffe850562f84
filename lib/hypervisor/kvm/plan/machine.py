# SPDX-License-Identifier: BSD-2-Clause
"""What a machine is, to the last detail that matters to its guest.

A plan is made of typed pieces, not of an option's text: how it is written on a command line is the business of
`hvkit.hypervisor.kvm.plan.command_line`. It says everything; two QEMUs given the same plan are the same machine.
"""

from collections.abc import Mapping
from typing import Final, Literal
from uuid import UUID

import attrs

from hvkit.hypervisor.kvm.plan.capabilities import Accelerator, MachineType
from hvkit.hypervisor.kvm.plan.confinement import Confinement
from hvkit.hypervisor.kvm.plan.devices import (
    DiskDevice,
    NicDevice,
)
from hvkit.hypervisor.kvm.plan.display import Display
from hvkit.hypervisor.kvm.plan.drives import Drive
from hvkit.hypervisor.kvm.plan.firmware import Flash
from hvkit.hypervisor.kvm.plan.memory import Memory
from hvkit.hypervisor.kvm.plan.parameters import (
    CpuSet,
)
from hvkit.hypervisor.kvm.plan.plugged import Dimm, Processor
from hvkit.hypervisor.kvm.plan.topology import Address, Topology
from hvkit.qmp.schema import (
    DeviceAdd,
    ObjectOptions,
)

CONTROL_MONITOR_ID: Final = "control"
SHARED_MONITOR_ID: Final = "shared"
WATCH_MONITOR_ID: Final = "watch"

#: Stands for the variables of its firmware among a machine's files.
VARIABLES: Final = "variables"

#: Where a unix socket listens: its path, or the number of a descriptor that QEMU inherits and that listens already.
Listener = str | int


@attrs.frozen(kw_only=True)
class MachineSockets:
    """The ends through which a machine is reached from outside.

    Attributes:
        control: the monitor of the hypervisor.
        shared: the shared monitor, for queries and short operations.
        watch: the watch monitor, to which one watch keeps a connection.
        serial: the serial console; None for an instance without one.
        serial_log: file that the console's output is appended to; empty for none.
        agent: the guest agent's port; None for an instance without one.
        tpm: descriptor of the end of its TPM; None for an instance without one.
        vsock: an open /dev/vhost-vsock; None for an instance without one.
        pid_file: file that QEMU writes its pid to; empty for none.
    """

    control: Listener
    shared: Listener
    watch: Listener
    serial: Listener | None = None
    serial_log: str = ""
    agent: Listener | None = None
    tpm: int | None = None
    vsock: int | None = None
    pid_file: str = ""


@attrs.frozen(kw_only=True)
class SocketChardev:
    """A character device on a unix socket.

    Attributes:
        id: its name.
        listener: where it listens, or the number of a descriptor that is connected.
        is_connected: whether it is connected, and does not listen.
        log_file: file that its output is appended to; empty for none.
    """

    id: str
    listener: Listener
    is_connected: bool = False
    log_file: str = ""


@attrs.frozen(kw_only=True)
class Monitor:
    """A QMP monitor.

    Attributes:
        chardev: where it is reached.
        qom: what makes it; None for a QEMU that has no such objects and makes it by an option of its own.
    """

    chardev: SocketChardev
    qom: ObjectOptions | None


@attrs.frozen(kw_only=True)
class FileSet:
    """Open files that QEMU inherits, and that it opens again as one file of the name that it has here.

    Attributes:
        number: of the set; no other has it.
        descriptors: one for each way in which it is opened.
        label: what it is, for people.
    """

    number: int
    descriptors: tuple[int, ...]
    label: str

    @property
    def filename(self) -> str:
        """The name by which QEMU opens it."""
        return f"/dev/fdset/{self.number}"


@attrs.frozen(kw_only=True)
class Placement:
    """Where the devices of a machine sit on another node, which this one has to be like.

    Attributes:
        topology: its buses.
        addresses: of its disks and NICs, by their uuids.
        was_running: whether its guest ran there, and is to run here.
        processors: those that were plugged in there.
        dimms: the DIMMs that were plugged in there.
    """

    topology: Topology
    addresses: Mapping[UUID, Address]
    was_running: bool
    processors: tuple[Processor, ...] = ()
    dimms: tuple[Dimm, ...] = ()


@attrs.frozen(kw_only=True)
class Processors:
    """The virtual processors.

    Attributes:
        count: how many there are, without those that were plugged in.
        maximum: how many there can be.
        plugged: those that were plugged in where the machine comes from.
        model: CPU model with features, as QEMU writes it.
        sockets: packages; 0: QEMU decides.
        cores: cores of a socket; 0: QEMU decides.
        threads: threads of a core; 0: QEMU decides.
        affinity: the host's processors that they may run on: one entry for the instance, or one for each of them that
            there can be.
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
    """A kernel that is loaded without the guest's own boot loader.

    Attributes:
        kernel: its file.
        initrd: file of the initial RAM disk; empty for none.
        arguments: its command line.
    """

    kernel: str
    initrd: str
    arguments: str


@attrs.frozen(kw_only=True)
class MachinePlan:
    """A machine, complete.

    Attributes:
        binary: the QEMU program.
        name: of the instance.
        uuid: of the instance.
        machine: its type, with the version. It is the instance's until it is started anew.
        accelerator: what runs the guest's instructions.
        processors: its virtual processors.
        memory_mib: the memory that it starts with, in MiB.
        memory: what holds that memory, and the NUMA nodes that it is divided into.
        memory_max_mib: the memory that it can have, in MiB.
        memory_slots: how many DIMMs it can have.
        dimms: those that were plugged in where the machine comes from, with their places.
        dimm_backends: what holds the memory of each of them, in the same order.
        has_acpi: whether the guest has ACPI.
        has_local_time: whether its clock starts with local time, not UTC.
        on_reboot: what QEMU does when the guest reboots. When the guest powers off, QEMU always stays, stopped, so that
            whoever looks later can tell that from a crash.
        linux: the kernel to boot; None for the guest's own boot loader.
        topology: its buses.
        monitors: the QMP monitors.
        chardevs: other character devices.
        firmware: UEFI firmware; None for QEMU's own BIOS.
        objects: what its devices need: IOThreads, and more memory to give to the guest.
        io_thread_affinity: for each IOThread the host's processors that it may run on.
        devices: devices of the machine itself, each after those it needs.
        display: how it is looked at.
        drives: its CD and floppy drives.
        disks: in the order of the instance.
        nics: in the order of the instance.
        pid_file: file that QEMU writes its pid to; empty for none.
        confinement: what QEMU is confined to.
        file_sets: files that it inherits.
        is_incoming: whether its guest comes from another machine, and not from its disks.
        extra: words to add to the command line.
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
        """The processors and DIMMs that were plugged in where it comes from."""
        return (
            *(processor.build() for processor in self.processors.plugged),
            *(dimm.build() for dimm in self.dimms),
        )

    @property
    def used_addresses(self) -> frozenset[Address]:
        """The places that its disks and NICs take."""
        return frozenset([disk.address for disk in self.disks] + [nic.address for nic in self.nics])
