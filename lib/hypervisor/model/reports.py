# SPDX-License-Identifier: BSD-2-Clause
"""What hypervisors tell of instances, of moves and copies that are on their way, and of their node: values.

Everything here is frozen, compared by value and free of the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import attrs

from hvkit.hypervisor.model import ConsoleKind, InstanceState, MigrationState, StopCause


@attrs.frozen(kw_only=True)
class InstanceInfo:
    """What an instance is doing, at the moment it was asked.

    Attributes:
        name: what it is called here.
        uuid: what it is known by.
        state: where it is.
        reason: why it is there, in words; empty where that needs none.
        cause: what made it stop or ended it; None where it runs, where it never ran, and where nobody knows.
        is_user_shutdown: whether its user shut it down from within, and may do that: it is not to be started again
            unasked.
        pid: its process; None where there is none.
        is_adopted: whether somebody else started it, and it was adopted.
        memory_mib: the memory the guest has now, in MiB: what it was started with and was given since, less what the
            balloon took.
        vcpus: how many processors it has now.
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
    """What is other with an instance than it was when it was last looked at.

    Attributes:
        name: what it is called here.
        before: what it was doing; None where it was not known.
        after: what it is doing; None where it is not known any more.
    """

    name: str
    before: InstanceInfo | None
    after: InstanceInfo | None


@attrs.frozen(kw_only=True)
class NodeInfo:
    """What this node has.

    Attributes:
        memory_total_mib: all of it, in MiB.
        memory_free_mib: what can be given to an instance, caches counted as free.
        memory_used_mib: the rest: what the node and its instances use.
        cpu_total: processors that are online.
        cpu_sockets: packages that these are in.
        numa_nodes: memory nodes that have processors or memory.
        hypervisor_version: the version of what runs instances; None where that is not installed.
    """

    memory_total_mib: int
    memory_free_mib: int
    memory_used_mib: int
    cpu_total: int
    cpu_sockets: int
    numa_nodes: int
    hypervisor_version: tuple[int, ...] | None = None


@attrs.frozen(kw_only=True)
class Console:
    """How to reach an instance's console.

    Attributes:
        instance: its name.
        kind: how it is reached; what else is set depends on it.
        path: a unix socket of this node, for SERIAL and for VNC and SPICE that listen on one.
        host: where VNC or SPICE listens.
        port: the TCP port there.
        command: a command line that attaches a terminal, one word an element.
        message: what to tell the user instead, for MESSAGE.
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
    """What the source of a migration tells its destination, through the cluster manager.

    Attributes:
        instance: the name.
        hypervisor: which hypervisor says this.
        data: what it says: plain data, nothing but what JSON can carry, and no secrets.
    """

    instance: str
    hypervisor: str
    data: Mapping[str, Any] = attrs.field(factory=dict, hash=False)


@attrs.frozen(kw_only=True)
class MigrationStatus:
    """How far a migration is, as its source sees it.

    Attributes:
        status: where it stands.
        phase: where exactly, in the hypervisor's own word; empty for nowhere.
        transferred_bytes: what was sent so far; None before it is known.
        remaining_bytes: memory that is still to be sent, which grows while the guest writes; None before it is known.
        total_bytes: the guest's memory; None before it is known.
        total_time_ms: milliseconds since it began, or that it took; None before it is known.
        downtime_ms: milliseconds for which the guest stood still; None before it is over.
        expected_downtime_ms: milliseconds for which it would, if the rest were sent now; None before it is known.
        reason: why it failed; empty where it did not, or the hypervisor does not know.
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
    """How far a backup is, over all its disks.

    Attributes:
        done_bytes: how much was copied.
        total_bytes: how much there is to copy; it may grow while the guest writes.
    """

    done_bytes: int
    total_bytes: int


@attrs.frozen(kw_only=True)
class Checkpoint:
    """A moment that an incremental backup can begin at.

    Attributes:
        name: what it is called.
        changed_bytes: for each disk that has it, by uuid, how much was written to since.
        is_usable: whether that is known of all of them; it is not after a QEMU that was killed.
    """

    name: str
    changed_bytes: Mapping[UUID, int]
    is_usable: bool


@attrs.frozen(kw_only=True)
class DumpProgress:
    """How far a dump of an instance's memory is.

    Attributes:
        done_bytes: how much of the memory was written.
        total_bytes: how much there is.
    """

    done_bytes: int
    total_bytes: int


@attrs.frozen(kw_only=True)
class Snapshot:
    """What an instance was, kept inside its disks.

    Attributes:
        name: what it is called.
        taken_at_s: when, in seconds since the epoch.
        state_bytes: how much its memory and devices take.
    """

    name: str
    taken_at_s: float
    state_bytes: int


@attrs.frozen(kw_only=True)
class DiskCopy:
    """How far the copy of a disk is.

    Attributes:
        uuid: the disk's.
        copied_bytes: what was copied so far.
        total_bytes: what there is to copy, which grows while the guest writes.
        is_ready: whether everything that was there is copied, and what the guest writes goes to both.
        reason: why it failed; empty where it did not.
    """

    uuid: UUID
    copied_bytes: int
    total_bytes: int
    is_ready: bool
    reason: str = ""


@attrs.frozen(kw_only=True)
class ExternalBlockNode:
    """A block node of a machine that somebody else started.

    Attributes:
        name: of the node.
        driver: what kind of node it is, such as ``qcow2`` or ``file``.
        filename: what it opens, as the machine calls it.
        is_read_only: whether it is only read.
    """

    name: str
    driver: str
    filename: str
    is_read_only: bool


@attrs.frozen(kw_only=True)
class ExternalDevice:
    """A device that somebody gave to a machine.

    Attributes:
        id: what it is called; empty where it has no name.
        driver: what kind of device it is, such as ``virtio-blk-pci``.
    """

    id: str
    driver: str


@attrs.frozen(kw_only=True)
class ExternalNic:
    """A network card of a machine that somebody else started.

    Attributes:
        driver: what kind of card it is.
        mac: its address.
        netdev: what it is connected to, by its id; empty for nothing.
    """

    driver: str
    mac: str
    netdev: str


@attrs.frozen(kw_only=True)
class ExternalInstance:
    """What a machine is that somebody else started, as it told at the moment it was asked.

    Attributes:
        monitor: the path of the socket where it told.
        name: what it is called; empty for no name.
        uuid: what it is known by; None where it has no uuid.
        pid: its process.
        start_ticks: when that was started, in the kernel's clock ticks since the node was: pids are used again.
        uid: the user that its process runs as.
        gid: the group.
        binary: the program that runs it.
        version: that program's version.
        machine_type: which machine it is, with the version.
        has_kvm: whether KVM runs the guest's instructions.
        has_acpi: whether the guest has a power button.
        memory_mib: its memory, in MiB.
        vcpus: how many processors it has.
        status: what it is doing, in the hypervisor's own word.
        is_running: whether its processors run.
        block_nodes: what its disks and drives are made of.
        devices: what was given to it beside what every machine of the type has.
        nics: its network cards, those that every machine of the type has too.
        serial_console: the absolute path of the socket of its first serial port; empty where it has none.
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
    """Files that all nodes of a cluster must have in common for a hypervisor to work.

    Attributes:
        required: absolute paths of those that must exist.
        optional: absolute paths of those that are the same everywhere where they exist.
    """

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
