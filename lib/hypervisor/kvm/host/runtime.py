# SPDX-License-Identifier: BSD-2-Clause
"""What is remembered of a running instance, so that any process can take it up again.

It is a description, never a command line: options come and go between versions of QEMU, and what a machine is does
not. The file is replaced as a whole, after its bytes are on the disk; whoever dies in between leaves the old or the new
one. It is read strictly, because nobody but hvkit writes it.
"""

import enum
from typing import Literal, Self
from uuid import UUID

import attrs

from hvkit.hypervisor.kvm.host.process import ProcessIdentity
from hvkit.hypervisor.kvm.plan.confinement import Account
from hvkit.hypervisor.kvm.plan.devices import DiskDevice, disk_id, netdev_id, nic_id, tap_name
from hvkit.hypervisor.kvm.plan.plugged import Dimm, Processor
from hvkit.hypervisor.kvm.plan.topology import Address, Topology
from hvkit.hypervisor.model import Instance, Nic, StopCause


class Phase(enum.Enum):
    """How far we were with the instance when this was written.

    Attributes:
        STARTING: it is being brought up. Where nobody holds its lock, whoever did that has died over it.
        RUNNING: it was brought up and is on its own.
        INCOMING: it waits for its guest, which comes from another node.
        OUTGOING: it is being sent to another node, or was and nobody has said yet how that ended.
        STOPPING: it is being stopped. Where nobody holds its lock, whoever did that has died over it, and it may well
            go on.
        STOPPED: its process has ended and we saw to it.
    """

    STARTING = "starting"
    RUNNING = "running"
    INCOMING = "incoming"
    OUTGOING = "outgoing"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Pending(enum.Enum):
    """What somebody was about to do to a device. Where nobody holds the lock, whoever did that has died over it.

    Attributes:
        ADD: it was being plugged in.
        REMOVE: the guest was asked to let go of it, which it may do later.
    """

    ADD = "add"
    REMOVE = "remove"


@attrs.frozen(kw_only=True)
class BackupRecord:
    """A backup that somebody began.

    Attributes:
        uuid: tells it from every other one.
        checkpoint: what is made with it; empty for none.
        partial_files: what it writes into, until each has its own name.
    """

    uuid: UUID
    checkpoint: str
    partial_files: tuple[str, ...]


@attrs.frozen(kw_only=True)
class DeviceRecord:
    """By which names QEMU knows a disk or a NIC, and where it sits.

    Attributes:
        uuid: the disk's or the NIC's.
        device: id of the device.
        backends: node names of the disk, each before the one that stands on it; or the id of the NIC's netdev.
        address: its place.
        ifname: the NIC's tap; empty for everything else.
        script: what is to be run when the NIC has gone; empty for nothing.
        pending: what was about to be done to it; None where nothing was.
        successor: what is to come in the NIC's place once it has gone; None for nothing.
        fallback: what is to be there where the NIC, which is being plugged in, cannot be. One that has a fallback is
            not given up: whoever next plugs on the instance tries again. None for nothing.
        awaits_limits: whether the disk may not have its limits yet: somebody was about to set them.
    """

    uuid: UUID
    device: str
    backends: tuple[str, ...]
    address: Address
    ifname: str = ""
    script: str = ""
    pending: Pending | None = None
    successor: Nic | None = None
    fallback: Nic | None = None
    awaits_limits: bool = False

    @classmethod
    def of_disk(cls, planned: DiskDevice, *, pending: Pending | None = None, awaits_limits: bool = False) -> Self:
        """Return the record of a planned disk.

        Args:
            planned: the disk, as planned.
            pending: the operation that is about to start; None for a disk that the machine boots with.
            awaits_limits: whether the I/O limits of the disk are set after it was added.
        """
        return cls(
            uuid=planned.uuid,
            device=disk_id(planned.uuid),
            backends=planned.node_names,
            address=planned.address,
            pending=pending,
            awaits_limits=awaits_limits,
        )

    @classmethod
    def of_nic(
        cls, nic: Nic, address: Address, *, script: str, pending: Pending | None = None, fallback: Nic | None = None
    ) -> Self:
        """Return the record of a NIC.

        It can be persisted before the tap of the NIC exists, and so before the NIC can be planned.

        Args:
            nic: the NIC.
            address: its bus address.
            script: the network script of the instance; empty for none.
            pending: the operation that is about to start; None for a NIC that the machine boots with.
            fallback: the NIC to restore if this one cannot be added; None for none.
        """
        return cls(
            uuid=nic.uuid,
            device=nic_id(nic.uuid),
            backends=(netdev_id(nic.uuid),),
            address=address,
            ifname=tap_name(nic),
            script=script if nic.has_tap else "",
            pending=pending,
            fallback=fallback,
        )


@attrs.frozen(kw_only=True)
class MediumChange:
    """What somebody was about to have in a drive. Where nobody holds the lock, whoever did that has died over it.

    Attributes:
        drive: the drive's id.
        parameter: the one that says what is in the drive.
        image: its value once that is so.
        node: the block node of that medium; empty where the drive is to be empty.
        old_node: the block node of the medium that was in it; empty where it was empty.
    """

    drive: str
    parameter: str
    image: str
    node: str
    old_node: str


@attrs.frozen(kw_only=True)
class Adoption:
    """Where a QEMU is reached that somebody else started.

    Attributes:
        monitor: the path of its monitor.
        shared_monitor: the path of its second monitor; empty for none.
    """

    monitor: str
    shared_monitor: str = ""


@attrs.frozen(kw_only=True)
class ProcessorRecord:
    """A processor that was plugged in.

    Attributes:
        processor: the processor.
        pending: what was about to be done to it; None where nothing was.
    """

    processor: Processor
    pending: Pending | None = None


@attrs.frozen(kw_only=True)
class DimmRecord:
    """A DIMM that was plugged in.

    Attributes:
        dimm: the DIMM; its place may be missing where it is being plugged in.
        pending: what was about to be done to it; None where nothing was.
    """

    dimm: Dimm
    pending: Pending | None = None


@attrs.frozen(kw_only=True)
class Runtime:
    """Everything remembered of one instance.

    Its members, and those of the classes in it, are the format of the file: whoever changes one raises `VERSION` and
    sees to it that older files are still understood. Version 2 has members more than 1, each with a default that says
    what was so before.

    Attributes:
        instance: what was asked for.
        phase: how far we were.
        reason: why it is over, for STOPPED; empty otherwise.
        stop_cause: for STOPPED, what ended it; None where nobody knows.
        adoption: where it is reached, for one that somebody else started; None for one of ours.
        process: QEMU's process; None before there was one.
        binary: the QEMU it runs in.
        qemu_version: that QEMU's version.
        machine_type: the versioned machine type, also where a family or nothing was asked for.
        accelerator: what runs the guest's instructions.
        accelerator_reason: why that and no other.
        has_acpi: whether the guest has a power button.
        has_serial: whether it has a serial console.
        topology: its buses.
        devices: its disks and NICs.
        account: who its process runs as; None for who started it.
        was_running: for INCOMING and OUTGOING, whether its processors ran before the migration.
        has_pid_file: whether QEMU writes a pid file, and removes it when it ends in good order.
        cpu_model: its CPU model with features, as QEMU writes it; empty where that was not remembered.
        incoming_socket: for INCOMING, the unix socket on which it waits for its guest; empty for none.
        is_postcopy: for OUTGOING, whether the guest was told to leave before its memory has: it cannot be called back.
        is_copied: for OUTGOING, whether copies of its disks have to be ended before the guest leaves.
        backup: the backup that is going on, or that somebody died over; None for none.
        has_arrived: whether it came from another node, and that is finalized.
        copies_target: for INCOMING, the address at which its disks are written to; empty for none.
        medium_change: what was about to be put into one of its drives, or taken out; None where nothing was.
        processors: those that were plugged in, beyond those that it was started with.
        processors_gone: how many processors this very QEMU had and has not any more.
        dimms: the memory that was plugged in as DIMMs, beyond what it was started with. What a virtio-mem device gives
            its guest is known to QEMU alone.
    """

    instance: Instance
    phase: Phase
    reason: str = ""
    process: ProcessIdentity | None = None
    binary: str
    qemu_version: tuple[int, int, int]
    machine_type: str
    accelerator: Literal["kvm", "tcg"]
    accelerator_reason: str
    has_acpi: bool
    has_serial: bool
    topology: Topology
    devices: tuple[DeviceRecord, ...] = ()
    account: Account | None = None
    was_running: bool = True
    has_pid_file: bool = True
    cpu_model: str = ""
    incoming_socket: str = ""
    is_postcopy: bool = False
    is_copied: bool = False
    backup: BackupRecord | None = None
    has_arrived: bool = False
    copies_target: str = ""
    stop_cause: StopCause | None = None
    medium_change: MediumChange | None = None
    adoption: Adoption | None = None
    processors: tuple[ProcessorRecord, ...] = ()
    processors_gone: int = 0
    dimms: tuple[DimmRecord, ...] = ()

    @property
    def vcpus(self) -> int:
        """How many processors it has, as far as that is remembered."""
        return self.instance.vcpus + sum(each.pending is not Pending.ADD for each in self.processors)

    @property
    def memory_mib(self) -> int:
        """Its memory in MiB, as far as that is remembered."""
        plugged = sum(each.dimm.size_mib for each in self.dimms if each.pending is not Pending.ADD)
        return self.instance.memory_mib + plugged

    @property
    def opens_by_name(self) -> bool:
        """Whether its QEMU, if it is one of ours, can open files of the node by their names.

        One that cannot did not reach a pid file either.
        """
        return self.has_pid_file

    def device(self, uuid: UUID) -> DeviceRecord | None:
        """Return the record of a disk or a NIC; None where the instance has no such one."""
        return next((device for device in self.devices if device.uuid == uuid), None)
