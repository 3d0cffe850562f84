# SPDX-License-Identifier: BSD-2-Clause
"""Snapshots: of a whole machine inside its qcow2 disks, and of disks whose contents stay while new files take over.

The file that a disk writes to is part of the instance: what is remembered says so before QEMU changes over, and says
the old one again only after it changed back. Whoever dies between leaves something that starts with all its data, or
that says clearly which file is missing; never a disk that is older than it looks.
"""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import InstanceStateError, SnapshotError
from hvkit.hypervisor.kvm.instances import Instances
from hvkit.hypervisor.kvm.paths import InstancePaths
from hvkit.hypervisor.kvm.runtime import DeviceRecord, Runtime, write_runtime
from hvkit.hypervisor.model import Disk, InstanceState
from hvkit.hypervisor.reports import BackupProgress, Snapshot
from hvkit.qmp import NULL, CommandError, QmpConnection, QmpError
from hvkit.qmp.agent import AgentConnection
from hvkit.qmp.jobs import Job, JobError, run_job
from hvkit.qmp.schema import (
    BlockCommit,
    BlockdevAdd,
    BlockdevCreate,
    BlockdevCreateOptionsQcow2,
    BlockdevDel,
    BlockDeviceInfo,
    BlockdevOptionsFile,
    BlockdevOptionsQcow2,
    BlockdevSnapshot,
    BlockdevSnapshotWrapper,
    QueryNamedBlockNodes,
    SnapshotDelete,
    SnapshotLoad,
    SnapshotSave,
    Transaction,
)

_ALIVE: Final = (InstanceState.RUNNING, InstanceState.PAUSED)
_JOB: Final = "snapshot"
#: What an overlay is called while its contents go back into what it stands on.
_MERGING: Final = ".merging"
#: Seconds for QEMU to make an empty file, and for filesystems to be frozen.
_MAKE_S: Final = 30.0
_FREEZE_S: Final = 20.0


# ---- of the whole machine


def save(instances: Instances, paths: InstancePaths, tag: str, *, timeout_s: float) -> None:
    """Keep a machine as it is now, as `BaseHypervisor.save_snapshot` says.

    Raises:
        SnapshotError: it could not be kept.
    """
    with _working(instances, paths) as (runtime, monitor):
        nodes = _writable_nodes(runtime)
        if any(snapshot.name == tag for snapshot in _find(monitor, nodes)):
            raise SnapshotError(paths.name, f"there is a snapshot {tag!r} already")
        run_job(monitor, SnapshotSave(job_id=_JOB, tag=tag, vmstate=nodes[0], devices=nodes), timeout=timeout_s)


def load(instances: Instances, paths: InstancePaths, tag: str, *, timeout_s: float) -> None:
    """Make a machine what it was, as `BaseHypervisor.load_snapshot` says.

    Raises:
        SnapshotError: there is no such snapshot, or it could not be loaded.
    """
    with _working(instances, paths) as (runtime, monitor):
        nodes = _writable_nodes(runtime)
        _need(monitor, nodes, tag, paths.name)
        run_job(monitor, SnapshotLoad(job_id=_JOB, tag=tag, vmstate=nodes[0], devices=nodes), timeout=timeout_s)


def delete(instances: Instances, paths: InstancePaths, tag: str, *, timeout_s: float) -> None:
    """Forget what a machine was, as `BaseHypervisor.delete_snapshot` says.

    Raises:
        SnapshotError: there is no such snapshot, or it could not be deleted.
    """
    with _working(instances, paths) as (runtime, monitor):
        nodes = _writable_nodes(runtime)
        _need(monitor, nodes, tag, paths.name)
        run_job(monitor, SnapshotDelete(job_id=_JOB, tag=tag, devices=nodes), timeout=timeout_s)


def read_snapshots(instances: Instances, paths: InstancePaths) -> tuple[Snapshot, ...]:
    """Return what a machine can be made again, as `BaseHypervisor.get_snapshots` says.

    Raises:
        SnapshotError: QEMU does not say.
    """
    with _explaining(paths):
        runtime = instances.recall(paths)
        with instances.connected(paths) as monitor:
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
    held = [node.image.snapshots or [] for node in _all_nodes(monitor) if node.node_name in nodes]
    common = set.intersection(*({snapshot.name for snapshot in each} for each in held)) if held else set()
    seen: dict[str, Snapshot] = {}
    for snapshot in (snapshot for each in held for snapshot in each if snapshot.name in common):
        state_bytes = max(snapshot.vm_state_size, seen[snapshot.name].state_bytes if snapshot.name in seen else 0)
        taken_at_s = snapshot.date_sec + snapshot.date_nsec / 1e9
        seen[snapshot.name] = Snapshot(name=snapshot.name, taken_at_s=taken_at_s, state_bytes=state_bytes)
    yield from sorted((each for each in seen.values() if each.state_bytes), key=lambda each: each.taken_at_s)


def _need(monitor: QmpConnection, nodes: Collection[str], tag: str, name: str) -> None:
    if not any(snapshot.name == tag for snapshot in _find(monitor, nodes)):
        raise SnapshotError(name, f"there is no snapshot {tag!r}")


# ---- of disks


def add_overlays(
    instances: Instances, paths: InstancePaths, overlays: Mapping[UUID, str], *, freezes: bool
) -> tuple[Disk, ...]:
    """Have disks write to new files, as `BaseHypervisor.add_overlays` says.

    Raises:
        SnapshotError: that cannot be; the disks write to where they did.
    """
    with _working(instances, paths) as (runtime, monitor):
        if not runtime.has_pid_file:
            problem = "its QEMU is confined to an account or a root directory, and could not open the files below"
            raise SnapshotError(paths.name, problem)
        changed = runtime
        for uuid, path in overlays.items():
            changed = _stack(changed, uuid, path)
        made: list[str] = []
        try:
            for uuid, path in overlays.items():
                _make_overlay(monitor, runtime, changed, uuid, path, made)
            write_runtime(paths.runtime_file, changed)
            actions = [
                BlockdevSnapshotWrapper(
                    data=BlockdevSnapshot(
                        node=_record(runtime, uuid).backends[-1], overlay=_record(changed, uuid).backends[-1]
                    )
                )
                for uuid in overlays
            ]
            with _frozen(paths, freezes=freezes):
                monitor.execute(Transaction(actions=list(actions)))
        except BaseException as error:
            _unmake(monitor, runtime, changed, paths, made, error)
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


def _make_overlay(
    monitor: QmpConnection, runtime: Runtime, changed: Runtime, uuid: UUID, path: str, made: list[str]
) -> None:
    (below,) = (disk for disk in runtime.instance.disks if disk.uuid == uuid)
    *_, file_node, node = _record(changed, uuid).backends
    source = _record(runtime, uuid).backends[-1]
    size = next(each.image.virtual_size for each in _all_nodes(monitor) if each.node_name == source)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    made.append(path)
    monitor.execute(BlockdevAdd(BlockdevOptionsFile(driver="file", node_name=file_node, filename=path)))
    options = BlockdevCreateOptionsQcow2(file=file_node, size=size, backing_file=below.path, backing_fmt=below.format)
    run_job(monitor, BlockdevCreate(job_id=_JOB, options=options), timeout=_MAKE_S)
    # blockdev-snapshot puts it on what is there.
    monitor.execute(BlockdevAdd(BlockdevOptionsQcow2(node_name=node, file=file_node, backing=NULL)))


def _unmake(
    monitor: QmpConnection, before: Runtime, after: Runtime, paths: InstancePaths, made: list[str], error: BaseException
) -> None:
    """Take back overlays that no disk writes to; those that one may write to stay, and stay remembered."""
    try:
        in_use = {node.image.filename for node in _all_nodes(monitor) if node.backing_file}
        if in_use & set(made):
            error.add_note("the disks may write to the new files: they are remembered")
            return
        write_runtime(paths.runtime_file, before)
        for record in after.devices:
            for node in reversed(record.backends[len(_record(before, record.uuid).backends) :]):
                with contextlib.suppress(CommandError):
                    monitor.execute(BlockdevDel(node_name=node))
    except QmpError as problem:
        error.add_note(f"whether the disks write to the new files is not known: they are remembered; {problem}")
        return
    for path in made:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


@contextlib.contextmanager
def _frozen(paths: InstancePaths, *, freezes: bool) -> Iterator[None]:
    if not freezes:
        yield
        return
    with AgentConnection(paths.agent_socket) as agent, agent.frozen(limit_s=_FREEZE_S):
        yield


def merge_overlays(
    instances: Instances,
    paths: InstancePaths,
    disks: Collection[UUID],
    *,
    report: Callable[[BackupProgress], None] | None,
    timeout_s: float,
) -> tuple[Disk, ...]:
    """Put the contents of overlays into what they stand on, as `BaseHypervisor.merge_overlays` says.

    Raises:
        SnapshotError: a disk has none, or it failed; then the disk writes to its overlay as before.
    """
    with _working(instances, paths) as (runtime, monitor):
        for uuid in disks:
            if len(_record(runtime, uuid).backends) <= _PLAIN_NODES:
                raise SnapshotError(paths.name, f"disk {uuid} has no overlay")
        for uuid in disks:
            runtime = _merge(monitor, runtime, paths, uuid, report, timeout_s)
        return runtime.instance.disks


#: How many nodes a disk has without overlays: its file and its format.
_PLAIN_NODES: Final = 2


def _merge(
    monitor: QmpConnection,
    runtime: Runtime,
    paths: InstancePaths,
    uuid: UUID,
    report: Callable[[BackupProgress], None] | None,
    timeout_s: float,
) -> Runtime:
    (disk,) = (disk for disk in runtime.instance.disks if disk.uuid == uuid)
    *below, file_node, node = _record(runtime, uuid).backends
    base = next(each for each in _all_nodes(monitor) if each.node_name == below[-1])
    before = _changed(runtime, uuid, tuple(below), base.image.filename, base.drv)
    command = BlockCommit(job_id=_JOB, device=node, base_node=below[-1], auto_dismiss=False)
    with Job.start(monitor, command) as job:
        try:
            for progress in job.progress():
                if report is not None:
                    report(BackupProgress(done_bytes=progress.done, total_bytes=progress.total))
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
        write_runtime(paths.runtime_file, before)
    for each in (node, file_node):
        monitor.execute(BlockdevDel(node_name=each))
    os.unlink(disk.path + _MERGING)
    return before


# ---- what both have in common


@contextlib.contextmanager
def _working(instances: Instances, paths: InstancePaths) -> Iterator[tuple[Runtime, QmpConnection]]:
    """Hold the lock of an instance that is alive, and give what is remembered and a monitor."""
    with _explaining(paths), instances.locked(paths):
        instances.need_state(paths, _ALIVE, "it has no snapshots to work with")
        with instances.connected(paths) as monitor:
            yield instances.recall(paths), monitor


@contextlib.contextmanager
def _explaining(paths: InstancePaths) -> Iterator[None]:
    try:
        yield
    except (QmpError, InstanceStateError, OSError) as error:
        raise SnapshotError(paths.name, str(error)) from error


def _record(runtime: Runtime, uuid: UUID) -> DeviceRecord:
    record = runtime.device(uuid)
    if record is None or uuid not in {disk.uuid for disk in runtime.instance.disks}:
        raise SnapshotError(runtime.instance.name, f"it has no disk {uuid}")
    return record


def _all_nodes(monitor: QmpConnection) -> list[BlockDeviceInfo]:
    return monitor.execute(QueryNamedBlockNodes(flat=False))
