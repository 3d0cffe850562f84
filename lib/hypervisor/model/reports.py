# SPDX-License-Identifier: BSD-2-Clause
"""Values that hypervisors return: state of instances, progress, consoles, facts of the node.

Everything here is frozen, compared by value, and does not touch the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

import attrs

from hvkit.hypervisor.model.states import ConsoleKind, InstanceState, MigrationState, StopCause


@attrs.frozen(kw_only=True)
class InstanceInfo:
    """The state of an instance at the time of the query.

    Attributes:
        name: its name.
        uuid: its identity.
        state: its state.
        reason: why it is in that state, as text; empty if there is no particular reason.
        cause: what paused or stopped it; None if it runs, has not run yet, or the cause is unknown.
        is_user_shutdown: whether the guest shut itself down, and its parameters allow that: it should not be restarted
            automatically.
        is_adopted: whether it was started by another program, and adopted.
        pid: its process; None if it has none.
        memory_mib: the current memory of the guest, in MiB: initial memory, plus added memory, minus the balloon.
        vcpus: the current number of vCPUs.
    """

    name: str
    uuid: UUID
    state: InstanceState
    reason: str = ""
    cause: StopCause | None = None
    is_user_shutdown: bool = False
    is_adopted: bool = False
    pid: int | None = None
    memory_mib: int
    vcpus: int


@attrs.frozen(kw_only=True)
class InstanceChange:
    """A change of an instance between two queries.

    Attributes:
        name: its name.
        before: its state at the earlier query; None if it did not exist.
        after: its state at the later query; None if it does not exist any more.
    """

    name: str
    before: InstanceInfo | None
    after: InstanceInfo | None


@attrs.frozen(kw_only=True)
class NodeInfo:
    """Resources of the node.

    Attributes:
        memory_total_mib: total memory, in MiB.
        memory_free_mib: memory available to instances, in MiB; caches count as free.
        memory_used_mib: the rest.
        cpu_total: number of online CPUs.
        cpu_sockets: number of their sockets.
        numa_nodes: number of NUMA nodes that have CPUs or memory.
        hypervisor_version: version of the program that runs instances; None if it is not installed.
    """

    memory_total_mib: int
    memory_free_mib: int
    memory_used_mib: int
    cpu_total: int
    cpu_sockets: int
    numa_nodes: int
    hypervisor_version: tuple[int, ...] | None = None


@attrs.frozen(kw_only=True)
class NodeCheck:
    """The result of one check of the node.

    Attributes:
        subject: the component that was checked.
        verdict: ``ok``; ``note`` for a limitation; ``bad`` if instances cannot run.
        text: the result.
        remedy: what to do about it; empty for nothing.
    """

    subject: str
    verdict: Literal["ok", "note", "bad"]
    text: str
    remedy: str = ""


@attrs.frozen(kw_only=True)
class Console:
    """How to connect to the console of an instance.

    Attributes:
        instance: the name of the instance.
        kind: how to connect; which other members are set depends on it.
        path: a unix socket, for SERIAL, and for VNC and SPICE that listen on one.
        host: the address on which VNC or SPICE listens.
        port: its TCP port.
        command: a command that attaches a terminal, one element per argument.
        message: for MESSAGE, a text to show instead.
    """

    instance: str
    kind: ConsoleKind
    path: str | None = None
    host: str | None = None
    port: int | None = None
    command: tuple[str, ...] = ()
    message: str = ""


@attrs.frozen(kw_only=True)
class MigrationInfo:
    """The description of an instance that the cluster manager passes from the source of a migration to the destination.

    Attributes:
        instance: the name of the instance.
        hypervisor: the name of the hypervisor.
        data: plain data that JSON can carry, without secrets.
    """

    instance: str
    hypervisor: str
    data: Mapping[str, Any] = attrs.field(factory=dict, hash=False)


@attrs.frozen(kw_only=True)
class MigrationStatus:
    """The progress of a migration, as its source reports it.

    Attributes:
        status: its state.
        phase: the hypervisor's own name of its phase; empty if there is none.
        transferred_bytes: bytes sent so far; None if not known yet.
        remaining_bytes: bytes of memory still to be sent, which grow as the guest writes; None if not known yet.
        total_bytes: size of the guest's memory; None if not known yet.
        total_time_ms: duration so far, or in total, in milliseconds; None if not known yet.
        downtime_ms: milliseconds for which the guest was stopped; None until it is over.
        expected_downtime_ms: downtime in milliseconds if the rest were sent now; None if not known yet.
        reason: why it failed, was cancelled or stalled; empty otherwise, or if the reason is unknown.
    """

    status: MigrationState
    phase: str = ""
    transferred_bytes: int | None = None
    remaining_bytes: int | None = None
    total_bytes: int | None = None
    total_time_ms: int | None = None
    downtime_ms: int | None = None
    expected_downtime_ms: int | None = None
    reason: str = ""


@attrs.frozen(kw_only=True)
class BackupProgress:
    """The progress of a backup or a commit, over all its disks.

    Attributes:
        done_bytes: bytes copied so far.
        total_bytes: bytes to copy in total, which may grow as the guest writes.
    """

    done_bytes: int
    total_bytes: int


@attrs.frozen(kw_only=True)
class Checkpoint:
    """A checkpoint: the base of incremental backups.

    Attributes:
        name: its name.
        changed_bytes: for each disk that has it, by uuid, bytes written since.
        is_usable: whether an incremental backup can use it as its base; False after QEMU was killed.
    """

    name: str
    changed_bytes: Mapping[UUID, int]
    is_usable: bool


@attrs.frozen(kw_only=True)
class DumpProgress:
    """The progress of a memory dump.

    Attributes:
        done_bytes: bytes of memory written so far.
        total_bytes: bytes of memory in total.
    """

    done_bytes: int
    total_bytes: int


@attrs.frozen(kw_only=True)
class Snapshot:
    """An internal snapshot of an instance: its disks and memory, stored in its disk images.

    Attributes:
        name: its name.
        taken_at_s: when it was created, in seconds since the epoch.
        state_bytes: size of the memory and device state.
    """

    name: str
    taken_at_s: float
    state_bytes: int


@attrs.frozen(kw_only=True)
class DiskCopy:
    """The progress of copying a disk to the destination of a migration.

    Attributes:
        uuid: the disk.
        copied_bytes: bytes copied so far.
        total_bytes: bytes to copy in total, which grow as the guest writes.
        is_ready: whether both sides are identical, and writes of the guest go to both.
        reason: why it failed; empty if it did not.
    """

    uuid: UUID
    copied_bytes: int
    total_bytes: int
    is_ready: bool
    reason: str = ""


@attrs.frozen(kw_only=True)
class ExternalBlockNode:
    """A block node of an external instance.

    Attributes:
        name: its node name.
        driver: its block driver, such as ``qcow2`` or ``file``.
        filename: the file it opens, as QEMU names it.
        is_read_only: whether it is opened read-only.
    """

    name: str
    driver: str
    filename: str
    is_read_only: bool


@attrs.frozen(kw_only=True)
class ExternalDevice:
    """A device of an external instance, other than the built-in ones of its machine type.

    Attributes:
        id: its id; empty if it has none.
        driver: its type, such as ``virtio-blk-pci``.
    """

    id: str
    driver: str


@attrs.frozen(kw_only=True)
class ExternalNic:
    """A NIC of an external instance.

    Attributes:
        driver: its type.
        mac: its MAC address.
        netdev: the id of its network backend; empty if it has none.
    """

    driver: str
    mac: str
    netdev: str


@attrs.frozen(kw_only=True)
class ExternalInstance:
    """A QEMU that another program started, as inspected through its monitor.

    Attributes:
        monitor: the path of its monitor.
        name: its name; empty if it has none.
        uuid: its uuid; None if it has none.
        pid: its process.
        start_ticks: start time of the process, in clock ticks since boot; identifies the process together with pid.
        uid: user id of the process.
        gid: group id of the process.
        binary: path of its program.
        version: version of QEMU.
        machine_type: the versioned machine type.
        has_kvm: whether it uses KVM.
        has_acpi: whether the guest has ACPI, and with it a power button.
        memory_mib: memory in MiB.
        vcpus: number of vCPUs.
        status: QEMU's run state.
        is_running: whether its vCPUs run.
        block_nodes: its block nodes.
        devices: its devices, other than the built-in ones of its machine type.
        nics: its NICs, built-in ones included.
        serial_console: the absolute path of the socket of its first serial port; empty if it has none.
    """

    monitor: str
    name: str
    uuid: UUID | None
    pid: int
    start_ticks: int
    uid: int
    gid: int
    binary: str
    version: tuple[int, ...]
    machine_type: str
    has_kvm: bool
    has_acpi: bool
    memory_mib: int
    vcpus: int
    status: str
    is_running: bool
    block_nodes: tuple[ExternalBlockNode, ...] = ()
    devices: tuple[ExternalDevice, ...] = ()
    nics: tuple[ExternalNic, ...] = ()
    serial_console: str = ""


@attrs.frozen(kw_only=True)
class AncillaryFiles:
    """Files that all nodes of a cluster must have in common for a hypervisor.

    Attributes:
        required: absolute paths of files that must exist.
        optional: absolute paths of files that must be identical where they exist.
    """

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
