# SPDX-License-Identifier: BSD-2-Clause
"""Copies of disks to the destination of a migration, for nodes without shared storage.

The destination exports its disks over NBD, and the source mirrors its own disks to them while the guest keeps writing.
The mirrors are ended at the switchover, while the guest is stopped, so that the disks on both nodes are identical.
Nothing is persisted about the copies: their jobs are found in QEMU by their ids.
"""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from hvkit.hypervisor.errors import MigrationError
from hvkit.hypervisor.kvm.host.polling import poll_until
from hvkit.hypervisor.kvm.host.runtime import DeviceRecord, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.migration.addresses import check_target
from hvkit.hypervisor.kvm.migration.session import CHANGE_S, POLL_S, migration_monitor
from hvkit.hypervisor.kvm.migration.tls import CREDENTIALS_ID, set_credentials
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.kvm.qemu.block_nodes import read_nodes
from hvkit.hypervisor.kvm.qemu.jobs import find_jobs
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import DiskCopies, check_kind
from hvkit.hypervisor.model.reports import DiskCopy
from hvkit.qmp import CommandError, QmpConnection
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevDel,
    BlockdevMirror,
    BlockdevOptionsNbd,
    BlockExportAdd,
    BlockExportOptionsNbd,
    BlockJobCancel,
    InetSocketAddress,
    InetSocketAddressWrapper,
    JobDismiss,
    JobInfo,
    NbdServerStart,
    SocketAddress,
    SocketAddressInet,
    SocketAddressLegacy,
    SocketAddressUnix,
    UnixSocketAddress,
    UnixSocketAddressWrapper,
    Yank,
    YankInstanceBlockNode,
)

#: Prefix of the ids of jobs, block nodes and exports, followed by the id of the device.
_PREFIX: Final = "copy-"
_MIB: Final = 1 << 20


class DiskCopyVerbs(KvmSubject):
    """The verbs of the capability MIGRATION that copy disks."""

    def copy_disks(self, name: str, copies: DiskCopies) -> None:
        check_kind(copies, DiskCopies)
        handle = self._instances.require_managed(name)
        with handle.locked():
            handle.require_alive("cannot copy disks")
            runtime = handle.load()
            parameters = TABLE.fill(runtime.instance.parameters)
            check_target(name, copies.target, parameters)
            disks = _choose_disks(runtime, copies)
            with migration_monitor(handle) as monitor:
                if find_jobs(monitor, _PREFIX):
                    raise MigrationError(name, "its disks are already being copied")
                try:
                    set_credentials(monitor, parameters, "client")
                    for disk in disks:
                        _begin_copy(monitor, disk, copies.target, parameters)
                except CommandError:
                    cancel_copies(monitor, handle)
                    raise

    def get_disk_copies(self, name: str) -> tuple[DiskCopy, ...]:
        handle = self._instances.require_managed(name)
        runtime = handle.load()
        with migration_monitor(handle) as monitor:
            jobs = {job.id: job for job in find_jobs(monitor, _PREFIX)}
        return tuple(
            DiskCopy(
                uuid=record.uuid,
                copied_bytes=job.current_progress,
                total_bytes=job.total_progress,
                is_ready=job.status == "ready",
                reason=job.error or "",
            )
            for record in runtime.devices
            if (job := jobs.get(_PREFIX + record.device)) is not None
        )


def offer_disks(monitor: QmpConnection, runtime: Runtime, copies: DiskCopies) -> None:
    """Export disks of a destination over NBD. The credentials are already set.

    Raises:
        MigrationError: the instance has no such disk.
        CommandError: QEMU refused.
        QmpError: QEMU does not answer.
    """
    if copies.target.startswith("/"):
        address: SocketAddressLegacy = UnixSocketAddressWrapper(data=UnixSocketAddress(path=copies.target))
    else:
        host, port = _split_address(copies.target)
        address = InetSocketAddressWrapper(data=InetSocketAddress(host=host, port=port))
    parameters = TABLE.fill(runtime.instance.parameters)
    disks = _choose_disks(runtime, copies)
    monitor.execute(NbdServerStart(addr=address, tls_creds=CREDENTIALS_ID if parameters["migration_tls"] else None))
    for disk in disks:
        options = BlockExportOptionsNbd(
            id=_PREFIX + disk.device, node_name=disk.backends[-1], name=str(disk.uuid), writable=True
        )
        monitor.execute(BlockExportAdd(options))


def _split_address(target: str) -> tuple[str, str]:
    """Return host and port of ``host:port``, the host without the brackets of an IPv6 address."""
    host, _, port = target.rpartition(":")
    return host.strip("[]"), port


def _begin_copy(monitor: QmpConnection, disk: DeviceRecord, target: str, parameters: Mapping[str, Any]) -> None:
    name = _PREFIX + disk.device
    if target.startswith("/"):
        server: SocketAddress = SocketAddressUnix(path=target)
    else:
        host, port = _split_address(target)
        server = SocketAddressInet(host=host, port=port)
    node = BlockdevOptionsNbd(
        node_name=name,
        server=server,
        export=str(disk.uuid),
        tls_creds=CREDENTIALS_ID if parameters["migration_tls"] else None,
        tls_hostname=parameters["migration_tls_hostname"] or None,
    )
    monitor.execute(BlockdevAdd(node))
    monitor.execute(
        BlockdevMirror(
            job_id=name,
            device=disk.backends[-1],
            target=name,
            sync="full",
            speed=parameters["migration_bandwidth"] * _MIB,
            # A failed job remains, so that its error can be read.
            auto_dismiss=False,
        )
    )


def are_ready(monitor: QmpConnection, handle: InstanceHandle) -> bool:
    """Return whether disks are being copied, and every copy has caught up with its disk.

    Raises:
        MigrationError: a copy has not caught up, or failed.
        QmpError: QEMU does not answer.
    """
    jobs = find_jobs(monitor, _PREFIX)
    for job in jobs:
        if job.status != "ready":
            why = job.error or f"{job.current_progress} of {job.total_progress} bytes"
            raise MigrationError(handle.name, f"its disks are not completely copied: {job.id}: {why}")
    return bool(jobs)


def complete_copies(monitor: QmpConnection, handle: InstanceHandle) -> None:
    """End all copies while the guest is stopped, so that both disks are identical. May be repeated.

    Raises:
        MigrationError: a copy failed, or does not end.
        QmpError: QEMU does not answer.
    """
    _end_copies(monitor, handle, is_cancelled=False)


def cancel_copies(monitor: QmpConnection, handle: InstanceHandle) -> None:
    """Cancel all copies. Does nothing if there are none. The copied data is then inconsistent.

    Raises:
        MigrationError: a copy does not end.
        QmpError: QEMU does not answer.
    """
    _end_copies(monitor, handle, is_cancelled=True)


def _end_copies(monitor: QmpConnection, handle: InstanceHandle, *, is_cancelled: bool) -> None:
    for job in find_jobs(monitor, _PREFIX):
        if job.status == "concluded":
            continue
        if is_cancelled:
            # Over a link that drops all packets, a copy waits for replies indefinitely.
            with contextlib.suppress(CommandError):  # the connection is already closed
                monitor.execute(Yank(instances=[YankInstanceBlockNode(node_name=job.id)]))
        with contextlib.suppress(CommandError):  # the yank has ended the job
            monitor.execute(BlockJobCancel(device=job.id, force=is_cancelled))
    jobs = _await_end(monitor, handle)
    failed = [f"{job.id}: {job.error}" for job in jobs if job.error]
    if failed and not is_cancelled:
        raise MigrationError(handle.name, f"copying its disks failed: {'; '.join(failed)}")
    for job in jobs:
        monitor.execute(JobDismiss(id=job.id))
    for node in read_nodes(monitor):
        if node.startswith(_PREFIX):
            monitor.execute(BlockdevDel(node_name=node))


def _await_end(monitor: QmpConnection, handle: InstanceHandle) -> list[JobInfo]:
    """Wait until all copies have ended, and return their jobs.

    Raises:
        MigrationError: a copy does not end.
        QmpError: QEMU does not answer.
    """

    def ended_jobs() -> list[JobInfo] | None:
        jobs = find_jobs(monitor, _PREFIX)
        return jobs if all(job.status == "concluded" for job in jobs) else None

    jobs = poll_until(ended_jobs, Deadline(CHANGE_S), interval_s=POLL_S)
    if jobs is None:
        raise MigrationError(handle.name, f"the copies of its disks did not end within {CHANGE_S:g} s")
    return jobs


def _choose_disks(runtime: Runtime, copies: DiskCopies) -> list[DeviceRecord]:
    """Return the records of the disks to copy: the given ones, or all that are writable.

    Raises:
        MigrationError: the instance has no such disk.
    """
    wanted: Iterable[UUID] = copies.disks or (disk.uuid for disk in runtime.instance.disks if not disk.read_only)
    found = []
    for uuid in wanted:
        record = runtime.disk_record(uuid)
        if record is None:
            raise MigrationError(runtime.instance.name, f"the instance has no disk {uuid}")
        found.append(record)
    return found
