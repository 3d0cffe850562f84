# SPDX-License-Identifier: BSD-2-Clause
"""The persisted state of an instance: what another process needs to manage it."""

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
    """The operation that an instance was in when its state was persisted.

    Attributes:
        STARTING: it is being started. If its lock is free, the start was interrupted.
        RUNNING: it was started.
        INCOMING: it waits for an incoming migration.
        OUTGOING: it is migrating to another node, or has migrated and the migration was not finalized.
        STOPPING: it is being stopped. If its lock is free, the stop was interrupted and the instance may be running.
        STOPPED: its process has ended, and hvkit cleaned up after it.
    """

    STARTING = "starting"
    RUNNING = "running"
    INCOMING = "incoming"
    OUTGOING = "outgoing"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Pending(enum.Enum):
    """An operation on a device that was started and not completed. If the lock is free, it was interrupted.

    Attributes:
        ADD: the device was being hot-added.
        REMOVE: the guest was asked to release the device and may do so at any time.
    """

    ADD = "add"
    REMOVE = "remove"


@attrs.frozen(kw_only=True)
class BackupRecord:
    """A backup in progress or interrupted.

    Attributes:
        uuid: identifies the backup.
        checkpoint: the checkpoint that it creates; empty for none.
        partial_files: the files that it writes, under their temporary names.
        disks: the uuids of its disks; empty if the file was written by an hvkit that did not persist them.
    """

    uuid: UUID
    checkpoint: str
    partial_files: tuple[str, ...]
    disks: tuple[UUID, ...] = ()


@attrs.frozen(kw_only=True)
class DeviceRecord:
    """The ids of a disk or NIC in QEMU, its bus address, and an interrupted operation on it.

    Attributes:
        uuid: of the disk or NIC.
        device: the id of the device.
        backends: for a disk the names of its block nodes, each before the nodes that use it; for a NIC the id of its
            netdev.
        address: the bus address.
        ifname: the tap of a NIC; empty for anything else.
        script: the network script to run after a NIC was removed; empty for none.
        pending: the operation that was started and not completed; None for none.
        successor: the NIC to add in place of this one after it was removed; None for none.
        fallback: the NIC to restore if this one cannot be added. With a fallback, an interrupted hot-add is retried by
            the next hotplug operation instead of being undone. None for none.
        awaits_limits: whether the I/O limits of a disk were about to be set, and may not be set yet.
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
    """A change of the medium in a drive. If the lock is free, it was interrupted.

    Attributes:
        drive: the id of the drive.
        parameter: the parameter with the image of the drive.
        image: the value of that parameter after the change.
        node: the block node of the new medium; empty if the drive becomes empty.
        old_node: the block node of the old medium; empty if the drive was empty.
    """

    drive: str
    parameter: str
    image: str
    node: str
    old_node: str


@attrs.frozen(kw_only=True)
class Adoption:
    """The monitors of an adopted QEMU, which hvkit did not start.

    Attributes:
        monitor: the path of its control monitor.
        shared_monitor: the path of its shared monitor; empty for none.
    """

    monitor: str
    shared_monitor: str = ""


@attrs.frozen(kw_only=True)
class ProcessorRecord:
    """A hot-added vCPU.

    Attributes:
        processor: the vCPU.
        pending: the operation that was started and not completed; None for none.
    """

    processor: Processor
    pending: Pending | None = None


@attrs.frozen(kw_only=True)
class DimmRecord:
    """A hot-added DIMM.

    Attributes:
        dimm: the DIMM. Its slot and address may be unknown while it is being added.
        pending: the operation that was started and not completed; None for none.
    """

    dimm: Dimm
    pending: Pending | None = None


@attrs.frozen(kw_only=True)
class Runtime:
    """The persisted state of one instance.

    The members of this class and of the classes in it are the format of the state file. A change to them needs a new
    `VERSION` and has to keep older files readable. Members that a version added have defaults that match older files.

    Attributes:
        instance: the instance, as requested.
        phase: the operation in progress.
        reason: for STOPPED, why it stopped; empty otherwise.
        stop_cause: for STOPPED, what stopped it; None if unknown.
        adoption: the monitors of an adopted QEMU; None for one that hvkit started.
        process: the QEMU process; None before it was started.
        binary: the QEMU program.
        qemu_version: its version.
        machine_type: the versioned machine type, even if an alias was requested.
        accelerator: the accelerator.
        accelerator_reason: why this accelerator was chosen.
        has_acpi: whether the guest has ACPI, and so a power button.
        has_serial: whether it has a serial console.
        topology: its buses.
        devices: its disks and NICs.
        account: the account that QEMU runs as; None for that of hvkit.
        was_running: for INCOMING and OUTGOING, whether the guest ran before the migration.
        has_pid_file: whether QEMU writes a pid file and removes it at a clean end.
        cpu_model: the CPU model with features, as QEMU writes it; empty if it was not persisted.
        incoming_socket: for INCOMING, the unix socket on which it waits for the migration; empty for none.
        is_postcopy: for OUTGOING, whether postcopy was started, so that the migration cannot be cancelled.
        is_copied: for OUTGOING, whether its disks are being copied and the copy jobs have to end before the switchover.
        backup: the backup in progress or interrupted; None for none.
        has_arrived: whether it came from another node by a migration that was finalized.
        copies_target: for INCOMING, the address that its disks are copied to; empty for none.
        medium_change: the change of a medium in progress or interrupted; None for none.
        processors: the hot-added vCPUs.
        processors_gone: the number of vCPUs that were hot-removed from this QEMU process.
        dimms: the hot-added DIMMs. The size of a virtio-mem device is not persisted; only QEMU knows it.
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
        """The number of vCPUs according to the persisted state."""
        return self.instance.vcpus + sum(each.pending is not Pending.ADD for each in self.processors)

    @property
    def memory_mib(self) -> int:
        """The memory in MiB according to the persisted state, without a virtio-mem device."""
        plugged = sum(each.dimm.size_mib for each in self.dimms if each.pending is not Pending.ADD)
        return self.instance.memory_mib + plugged

    @property
    def opens_by_name(self) -> bool:
        """Whether its QEMU can open files of the node by name.

        Derived from `has_pid_file`: a confined QEMU has no pid file, for the same reason.
        """
        return self.has_pid_file

    def device(self, uuid: UUID) -> DeviceRecord | None:
        """Return the record of a disk or NIC; None if the instance has no such device."""
        return next((device for device in self.devices if device.uuid == uuid), None)

    @property
    def disk_records(self) -> tuple[DeviceRecord, ...]:
        """The records of its disks, without those of NICs."""
        uuids = {disk.uuid for disk in self.instance.disks}
        return tuple(device for device in self.devices if device.uuid in uuids)

    def disk_record(self, uuid: UUID) -> DeviceRecord | None:
        """Return the record of a disk; None if the instance has no such disk."""
        return next((record for record in self.disk_records if record.uuid == uuid), None)
