# SPDX-License-Identifier: BSD-2-Clause
"""Snapshots: of a whole machine inside its qcow2 disks, and of disks whose contents stay while new files take over.

The file that a disk writes to is part of the instance: what is remembered says so before QEMU changes over, and says
the old one again only after it changed back. Whoever dies between leaves something that starts with all its data, or
that says clearly which file is missing; never a disk that is older than it looks. Whoever next works on snapshots of
the instance settles first what somebody died over: which files the guest writes to is what QEMU says.
"""

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.errors import HypervisorError, ProgrammerError
from hvkit.hypervisor.errors import InstanceStateError, SnapshotError
from hvkit.hypervisor.kvm.host.runtime import DeviceRecord, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.migration.common import reset_capabilities
from hvkit.hypervisor.kvm.qemu.block_nodes import BlockNodeNotFound, read_nodes
from hvkit.hypervisor.kvm.qemu.freezing import frozen
from hvkit.hypervisor.kvm.qemu.jobs import end_jobs
from hvkit.hypervisor.model import Disk
from hvkit.hypervisor.model.reports import BackupProgress, Snapshot
from hvkit.qmp import NULL, QmpConnection, QmpError
from hvkit.qmp.jobs import Job, JobError, run_job
from hvkit.qmp.schema import (
    BlockCommit,
    BlockdevAdd,
    BlockdevCreate,
    BlockdevCreateOptionsQcow2,
    BlockdevDel,
    BlockdevOptionsFile,
    BlockdevOptionsQcow2,
    BlockdevSnapshot,
    BlockdevSnapshotWrapper,
    QueryBlock,
    SnapshotDelete,
    SnapshotLoad,
    SnapshotSave,
    Transaction,
)

_JOB: Final = "snapshot"
#: What an overlay is called while its contents go back into what it stands on.
_MERGING: Final = ".merging"
#: Seconds for QEMU to make an empty file.
_MAKE_S: Final = 30.0


# ---- of the whole machine


def save(handle: InstanceHandle, tag: str, *, timeout_s: float) -> None:
    """Keep a machine as it is now, as `BaseHypervisor.save_snapshot` says.

    Raises:
        SnapshotError: it could not be kept.
    """
    with _working(handle) as (runtime, monitor):
        nodes = _writable_nodes(runtime)
        if any(snapshot.name == tag for snapshot in _find(monitor, nodes)):
            raise SnapshotError(handle.name, f"there is a snapshot {tag!r} already")
        reset_capabilities(monitor)
        run_job(monitor, SnapshotSave(job_id=_JOB, tag=tag, vmstate=nodes[0], devices=nodes), timeout=timeout_s)


def load(handle: InstanceHandle, tag: str, *, timeout_s: float) -> None:
    """Make a machine what it was, as `BaseHypervisor.load_snapshot` says.

    Raises:
        SnapshotError: there is no such snapshot, or it could not be loaded.
    """
    with _working(handle) as (runtime, monitor):
        nodes = _writable_nodes(runtime)
        _need(monitor, nodes, tag, handle.name)
        reset_capabilities(monitor)
        run_job(monitor, SnapshotLoad(job_id=_JOB, tag=tag, vmstate=nodes[0], devices=nodes), timeout=timeout_s)


def delete(handle: InstanceHandle, tag: str, *, timeout_s: float) -> None:
    """Forget what a machine was, as `BaseHypervisor.delete_snapshot` says.

    Raises:
        SnapshotError: there is no such snapshot, or it could not be deleted.
    """
    with _working(handle) as (runtime, monitor):
        nodes = _writable_nodes(runtime)
        _need(monitor, nodes, tag, handle.name)
        run_job(monitor, SnapshotDelete(job_id=_JOB, tag=tag, devices=nodes), timeout=timeout_s)


def read_snapshots(handle: InstanceHandle) -> tuple[Snapshot, ...]:
    """Return what a machine can be made again, as `BaseHypervisor.get_snapshots` says.

    Raises:
        SnapshotError: QEMU does not say.
    """
    with _translate_errors(handle):
        runtime = handle.load()
        with handle.connected() as monitor:
            return tuple(_find(monitor, _writable_nodes(runtime)))


def _writable_nodes(runtime: Runtime) -> list[str]:
    """Return the nodes of all disks that the guest can write to; the first holds the memory."""
    nodes = []
    for disk in runtime.instance.disks:
        record = runtime.device(disk.uuid)
        if record is not None and not disk.read_only:
            if disk.format != "qcow2":
                problem = f"disk {disk.path} is {disk.format}, and only qcow2 can hold snapshots"
                raise SnapshotError(runtime.instance.name, problem)
            nodes.append(record.backends[-1])
    if not nodes:
        raise SnapshotError(runtime.instance.name, "it has no disk that could hold a snapshot")
    return nodes


def _find(monitor: QmpConnection, nodes: Collection[str]) -> Iterator[Snapshot]:
    """Find the snapshots that all of some nodes have, the oldest first."""
    lists = [node.image.snapshots or [] for name, node in read_nodes(monitor).items() if name in nodes]
    common = set.intersection(*({snapshot.name for snapshot in each} for each in lists)) if lists else set()
    seen: dict[str, Snapshot] = {}
    for snapshot in (snapshot for each in lists for snapshot in each if snapshot.name in common):
        state_bytes = max(snapshot.vm_state_size, seen[snapshot.name].state_bytes if snapshot.name in seen else 0)
        taken_at_s = snapshot.date_sec + snapshot.date_nsec / 1e9
        seen[snapshot.name] = Snapshot(name=snapshot.name, taken_at_s=taken_at_s, state_bytes=state_bytes)
    yield from sorted((each for each in seen.values() if each.state_bytes), key=lambda each: each.taken_at_s)


def _need(monitor: QmpConnection, nodes: Collection[str], tag: str, name: str) -> None:
    if not any(snapshot.name == tag for snapshot in _find(monitor, nodes)):
        raise SnapshotError(name, f"there is no snapshot {tag!r}")


# ---- of disks


def add_overlays(handle: InstanceHandle, overlays: Mapping[UUID, str], *, freezes: bool) -> tuple[Disk, ...]:
    """Have disks write to new files, as `BaseHypervisor.add_overlays` says.

    Raises:
        SnapshotError: that cannot be; the disks write to where they did.
    """
    with _working(handle) as (runtime, monitor):
        if not runtime.opens_by_name:
            problem = "its QEMU is confined to an account or a root directory, and could not open the files below"
            raise SnapshotError(handle.name, problem)
        changed = runtime
        for uuid, path in overlays.items():
            changed = _stack(changed, uuid, path)
        handle.persist(changed)
        try:
            for uuid, path in overlays.items():
                _make_overlay(monitor, runtime, changed, uuid, path)
            actions = [
                BlockdevSnapshotWrapper(
                    data=BlockdevSnapshot(
                        node=_record(runtime, uuid).backends[-1], overlay=_record(changed, uuid).backends[-1]
                    )
                )
                for uuid in overlays
            ]
            with frozen(handle.paths.agent_socket, freezes=freezes):
                monitor.execute(Transaction(actions=list(actions)))
        except BaseException as error:
            try:
                _settle(monitor, changed, handle)
            except (HypervisorError, ProgrammerError) as problem:  # the connection may be closed
                error.add_note(f"which files the disks write to is settled later: {problem}")
            raise
        return changed.instance.disks


def _stack(runtime: Runtime, uuid: UUID, path: str) -> Runtime:
    """Describe an instance one of whose disks has one file more."""
    record = _record(runtime, uuid)
    if os.path.lexists(path):
        raise SnapshotError(runtime.instance.name, f"{path} exists")
    number = len(record.backends) // 2
    backends = (*record.backends, f"{record.device}-o{number}f", f"{record.device}-o{number}")
    return _changed(runtime, uuid, backends, path, "qcow2")


def _changed(runtime: Runtime, uuid: UUID, backends: tuple[str, ...], path: str, format_: Any) -> Runtime:
    disks = tuple(
        attrs.evolve(disk, path=path, format=format_) if disk.uuid == uuid else disk for disk in runtime.instance.disks
    )
    devices = tuple(
        attrs.evolve(record, backends=backends) if record.uuid == uuid else record for record in runtime.devices
    )
    return attrs.evolve(runtime, instance=attrs.evolve(runtime.instance, disks=disks), devices=devices)


def _make_overlay(monitor: QmpConnection, runtime: Runtime, changed: Runtime, uuid: UUID, path: str) -> None:
    (below,) = (disk for disk in runtime.instance.disks if disk.uuid == uuid)
    *_, file_node, node = _record(changed, uuid).backends
    source = _record(runtime, uuid).backends[-1]
    size = read_nodes(monitor)[source].image.virtual_size
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    monitor.execute(BlockdevAdd(BlockdevOptionsFile(driver="file", node_name=file_node, filename=path)))
    options = BlockdevCreateOptionsQcow2(file=file_node, size=size, backing_file=below.path, backing_fmt=below.format)
    run_job(monitor, BlockdevCreate(job_id=_JOB, options=options), timeout=_MAKE_S)
    # blockdev-snapshot puts it on what is there.
    monitor.execute(BlockdevAdd(BlockdevOptionsQcow2(node_name=node, file=file_node, backing=NULL)))


def merge_overlays(
    handle: InstanceHandle,
    disks: Collection[UUID],
    *,
    on_progress: Callable[[BackupProgress], None] | None,
    timeout_s: float,
) -> tuple[Disk, ...]:
    """Put the contents of overlays into what they stand on, as `BaseHypervisor.merge_overlays` says.

    Raises:
        SnapshotError: a disk has none, or it failed; then the disk writes to its overlay as before.
    """
    with _working(handle) as (runtime, monitor):
        for uuid in disks:
            if len(_record(runtime, uuid).backends) <= _PLAIN_NODES:
                raise SnapshotError(handle.name, f"disk {uuid} has no overlay")
        for uuid in disks:
            runtime = _merge(monitor, runtime, handle, uuid, on_progress, timeout_s)
        return runtime.instance.disks


#: How many nodes a disk has without overlays: its file and its format.
_PLAIN_NODES: Final = 2


def _merge(
    monitor: QmpConnection,
    runtime: Runtime,
    handle: InstanceHandle,
    uuid: UUID,
    on_progress: Callable[[BackupProgress], None] | None,
    timeout_s: float,
) -> Runtime:
    (disk,) = (disk for disk in runtime.instance.disks if disk.uuid == uuid)
    *below, file_node, node = _record(runtime, uuid).backends
    before = _cut_back(monitor, runtime, uuid, tuple(below))
    command = BlockCommit(job_id=_JOB, device=node, base_node=below[-1], auto_dismiss=False)
    with Job.start(monitor, command) as job:
        try:
            for progress in job.progress():
                if on_progress is not None:
                    on_progress(BackupProgress(done_bytes=progress.done, total_bytes=progress.total))
                if progress.status == "ready":
                    break
            job.wait_for("ready", timeout=timeout_s)
        except BaseException:
            job.cancel()
            raise
        # From the change-over on the overlay is older than the disk: nobody is to start from it.
        os.rename(disk.path, disk.path + _MERGING)
        try:
            job.complete()
            job.wait(timeout=timeout_s)
        except JobError:
            os.rename(disk.path + _MERGING, disk.path)
            raise
        handle.persist(before)
    os.unlink(disk.path + _MERGING)
    _delete_nodes(monitor, (node, file_node))
    return before


def _cut_back(monitor: QmpConnection, runtime: Runtime, uuid: UUID, backends: tuple[str, ...]) -> Runtime:
    """Describe an instance one of whose disks has these nodes, and what was above them no more."""
    nodes = read_nodes(monitor)
    return _changed(runtime, uuid, backends, nodes[backends[-2]].file, nodes[backends[-1]].drv)


# ---- what somebody died over


def _settle(monitor: QmpConnection, runtime: Runtime, handle: InstanceHandle) -> Runtime:
    """Bring what is remembered of disks and the files that the guest writes to together, and return it.

    The lock is ours: whoever made what is in the way has gone.

    Raises:
        QmpError: QEMU does not answer, or refuses.
        HypervisorError: a job that nobody waits for does not end.
    """
    end_jobs(monitor, _JOB)
    in_use = {block.inserted.node_name for block in monitor.execute(QueryBlock()) if block.inserted is not None}
    files = {name: node.file for name, node in read_nodes(monitor).items()}
    for disk in runtime.instance.disks:
        record = runtime.device(disk.uuid)
        backends = () if record is None else record.backends
        while len(backends) > _PLAIN_NODES and backends[-1] not in in_use:
            backends = backends[:-2]
        if backends and backends[-1] in in_use:
            runtime = _settle_disk(monitor, runtime, handle, disk, backends, files)
    return runtime


def _settle_disk(
    monitor: QmpConnection,
    runtime: Runtime,
    handle: InstanceHandle,
    disk: Disk,
    backends: tuple[str, ...],
    files: Mapping[str, str],
) -> Runtime:
    """Settle what is remembered of one disk, in an order that lets whoever dies over it be followed by another one.

    Args:
        monitor: of the machine.
        runtime: what is remembered.
        handle: files of the instance.
        disk: the disk, as remembered.
        backends: its nodes up to the one that the guest uses.
        files: by the names of nodes, their files.
    """
    record = _record(runtime, disk.uuid)
    # Each overlay before its file, the topmost first.
    left = sorted((name for name in files if _is_overlay(record, name) and name not in backends), key=_height)
    merging = disk.path + _MERGING
    if backends == record.backends:
        if os.path.lexists(merging) and not os.path.lexists(disk.path):
            os.rename(merging, disk.path)  # its merging has not come to its end
        for name in left:  # one that was merged
            with contextlib.suppress(FileNotFoundError):
                os.unlink(files[name] + _MERGING)
        _delete_nodes(monitor, left)
        return runtime
    settled = _cut_back(monitor, runtime, disk.uuid, backends)
    if os.path.lexists(merging):  # it was merged, and that was not noted down
        handle.persist(settled)
        os.unlink(merging)
        _delete_nodes(monitor, left)
    else:  # it was about to be made, and the guest never wrote to it
        with contextlib.suppress(FileNotFoundError):
            if any(files[name] == disk.path for name in left) or not os.path.getsize(disk.path):
                os.unlink(disk.path)
        _delete_nodes(monitor, left)
        handle.persist(settled)
    return settled


def _is_overlay(record: DeviceRecord, node: str) -> bool:
    return re.fullmatch(rf"{re.escape(record.device)}-o\d+f?", node) is not None


def _height(node: str) -> tuple[int, bool]:
    """Return what sorts the nodes of overlays from the top to the bottom."""
    is_file = node.endswith("f")
    return -int(node.rstrip("f").rpartition("o")[2]), is_file


def _delete_nodes(monitor: QmpConnection, names: Iterable[str]) -> None:
    for name in names:
        monitor.execute(BlockdevDel(node_name=name))


# ---- what both have in common


@contextlib.contextmanager
def _working(handle: InstanceHandle) -> Iterator[tuple[Runtime, QmpConnection]]:
    """Hold the lock of an instance that is alive, and give what is remembered, now settled, and a monitor."""
    with _translate_errors(handle), handle.locked():
        handle.require_alive("it has no snapshots to work with")
        with handle.connected() as monitor:
            yield _settle(monitor, handle.load(), handle), monitor


@contextlib.contextmanager
def _translate_errors(handle: InstanceHandle) -> Iterator[None]:
    try:
        yield
    except (QmpError, InstanceStateError, BlockNodeNotFound, OSError) as error:
        raise SnapshotError(handle.name, str(error)) from error


def _record(runtime: Runtime, uuid: UUID) -> DeviceRecord:
    record = runtime.device(uuid)
    if record is None or uuid not in {disk.uuid for disk in runtime.instance.disks}:
        raise SnapshotError(runtime.instance.name, f"it has no disk {uuid}")
    return record
