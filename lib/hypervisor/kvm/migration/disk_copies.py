# SPDX-License-Identifier: BSD-2-Clause
"""Copy disks to the node that their instance moves to, where both do not reach the same ones.

The destination offers its disks over NBD, the source mirrors its own to them while the guest goes on writing. When the
guest stands still for the switch, the mirrors are ended first: from then on both disks are the same. Which mirrors
there are is what QEMU says; nobody else remembers it.
"""

import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from hvkit.hypervisor.errors import MigrationError
from hvkit.hypervisor.kvm.host.runtime import DeviceRecord, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.migration.common import LOOK_AGAIN_S, SETTLE_S, check_target, monitor_session
from hvkit.hypervisor.kvm.migration.tls import CREDENTIALS_ID, set_credentials
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.kvm.qemu.block_nodes import read_nodes
from hvkit.hypervisor.kvm.qemu.jobs import find_jobs
from hvkit.hypervisor.model import DiskCopies
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

#: What jobs, block nodes and exports are called, before the device of the disk.
_PREFIX: Final = "copy-"
_MIB: Final = 1 << 20


# ---- on the destination


def offer_disks(monitor: QmpConnection, runtime: Runtime, copies: DiskCopies) -> None:
    """Let the source write to disks of a machine that waits for its guest. Credentials are set already.

    Raises:
        MigrationError: the instance has no such disk.
        CommandError: QEMU cannot offer them.
    """
    if copies.target.startswith("/"):
        address: SocketAddressLegacy = UnixSocketAddressWrapper(data=UnixSocketAddress(path=copies.target))
    else:
        host, _, port = copies.target.rpartition(":")
        address = InetSocketAddressWrapper(data=InetSocketAddress(host=host.strip("[]"), port=port))
    parameters = TABLE.fill(runtime.instance.parameters)
    disks = _to_copy(runtime, copies)
    monitor.execute(NbdServerStart(addr=address, tls_creds=CREDENTIALS_ID if parameters["migration_tls"] else None))
    for disk in disks:
        options = BlockExportOptionsNbd(
            id=_PREFIX + disk.device, node_name=disk.backends[-1], name=str(disk.uuid), writable=True
        )
        monitor.execute(BlockExportAdd(options))


# ---- on the source


def begin_copies(handle: InstanceHandle, copies: DiskCopies) -> None:
    """Begin to copy disks, as `BaseHypervisor.copy_disks` says.

    Raises:
        MigrationError: they cannot be copied; nothing is being copied then.
    """
    with handle.locked():
        handle.require_alive("its disks cannot be copied")
        runtime = handle.load()
        parameters = TABLE.fill(runtime.instance.parameters)
        check_target(handle.name, copies.target, parameters)
        disks = _to_copy(runtime, copies)
        with monitor_session(handle) as monitor:
            if find_jobs(monitor, _PREFIX):
                raise MigrationError(handle.name, "its disks are being copied already")
            try:
                set_credentials(monitor, parameters, "client")
                for disk in disks:
                    _begin_copy(monitor, disk, copies.target, parameters)
            except CommandError:
                drop_copies(monitor, handle)
                raise


def _begin_copy(monitor: QmpConnection, disk: DeviceRecord, target: str, parameters: Mapping[str, Any]) -> None:
    name = _PREFIX + disk.device
    if target.startswith("/"):
        server: SocketAddress = SocketAddressUnix(path=target)
    else:
        host, _, port = target.rpartition(":")
        server = SocketAddressInet(host=host.strip("[]"), port=port)
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
            # One that fails is there until somebody has seen why.
            auto_dismiss=False,
        )
    )


def read_copies(handle: InstanceHandle) -> tuple[DiskCopy, ...]:
    """Return how far copies are, as `BaseHypervisor.get_disk_copies` says.

    Raises:
        MigrationError: QEMU does not say.
    """
    runtime = handle.load()
    with monitor_session(handle) as monitor:
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


def are_ready(monitor: QmpConnection, handle: InstanceHandle) -> bool:
    """Tell whether disks are being copied, and what was there is.

    Raises:
        MigrationError: they are being copied, and part of what was there is missing.
    """
    jobs = find_jobs(monitor, _PREFIX)
    for job in jobs:
        if job.status != "ready":
            why = job.error or f"{job.current_progress} of {job.total_progress} bytes are"
            raise MigrationError(handle.name, f"its disks are not all on the other node: {job.id}: {why}")
    return bool(jobs)


def finish_copies(monitor: QmpConnection, handle: InstanceHandle) -> None:
    """End all copies once the guest stands still, so that both disks are the same. May be done again.

    Raises:
        MigrationError: one failed, or does not end.
    """
    _end(monitor, handle, are_dropped=False)


def drop_copies(monitor: QmpConnection, handle: InstanceHandle) -> None:
    """End all copies as they are; nobody is to use them. Nothing happens where there are none.

    Raises:
        MigrationError: one does not end.
    """
    _end(monitor, handle, are_dropped=True)


def _end(monitor: QmpConnection, handle: InstanceHandle, *, are_dropped: bool) -> None:
    for job in find_jobs(monitor, _PREFIX):
        if job.status == "concluded":
            continue
        if are_dropped:
            # Over a link that swallows everything, a copy waits for answers that never come.
            with contextlib.suppress(CommandError):  # its link has gone already
                monitor.execute(Yank(instances=[YankInstanceBlockNode(node_name=job.id)]))
        with contextlib.suppress(CommandError):  # it has ended by that
            monitor.execute(BlockJobCancel(device=job.id, force=are_dropped))
    jobs = _await_end(monitor, handle)
    failed = [f"{job.id}: {job.error}" for job in jobs if job.error]
    if failed and not are_dropped:
        raise MigrationError(handle.name, f"its disks were not copied: {'; '.join(failed)}")
    for job in jobs:
        monitor.execute(JobDismiss(id=job.id))
    for node in read_nodes(monitor):
        if node.startswith(_PREFIX):
            monitor.execute(BlockdevDel(node_name=node))


def _await_end(monitor: QmpConnection, handle: InstanceHandle) -> list[JobInfo]:
    deadline = Deadline(SETTLE_S)
    while True:
        jobs = find_jobs(monitor, _PREFIX)
        if all(job.status == "concluded" for job in jobs):
            return jobs
        if deadline.remaining_s() <= 0:
            raise MigrationError(handle.name, f"the copies of its disks were ended, and go on after {SETTLE_S:g} s")
        time.sleep(LOOK_AGAIN_S)


def _to_copy(runtime: Runtime, copies: DiskCopies) -> list[DeviceRecord]:
    """Return the records of the disks that are copied: those that are named, or all that the guest can write to."""
    disks = {disk.uuid: disk for disk in runtime.instance.disks}
    wanted: Iterable[UUID] = copies.disks or (uuid for uuid, disk in disks.items() if not disk.read_only)
    found = []
    for uuid in wanted:
        record = runtime.device(uuid)
        if record is None or uuid not in disks:
            raise MigrationError(runtime.instance.name, f"it has no disk {uuid} to copy")
        found.append(record)
    return found
