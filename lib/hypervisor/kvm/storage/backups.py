# SPDX-License-Identifier: BSD-2-Clause
"""Back up the disks of a running instance: all of them as they were at one moment, whole or what changed since another.

QEMU writes each disk into a qcow2 file of its own, which has another name until it is whole. A checkpoint is a bitmap
on each disk, made at the moment of its backup, of what the guest has written to since. What is about to be made is
remembered first. Whoever dies over a backup leaves that note, and jobs and block nodes that are found by their names;
`abort` removes all of it.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final
from uuid import UUID, uuid4

import attrs

from hvkit.errors import HypervisorError
from hvkit.hypervisor.errors import BackupError, InstanceStateError
from hvkit.hypervisor.kvm.host.paths import remove_partial_files
from hvkit.hypervisor.kvm.host.runtime import BackupRecord, DeviceRecord, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.instance.state import find_process
from hvkit.hypervisor.kvm.qemu.block_nodes import BlockNodeNotFound, read_nodes, take_back_files
from hvkit.hypervisor.kvm.qemu.freezing import frozen
from hvkit.hypervisor.kvm.qemu.jobs import end_jobs, find_jobs
from hvkit.hypervisor.model import Backup
from hvkit.hypervisor.model.reports import BackupProgress, Checkpoint
from hvkit.qmp import CommandError, QmpConnection, QmpError
from hvkit.qmp.base import NULL
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.descriptors import fdset
from hvkit.qmp.jobs import run_job
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevBackup,
    BlockdevBackupWrapper,
    BlockdevCreate,
    BlockdevCreateOptionsQcow2,
    BlockdevDel,
    BlockDeviceInfo,
    BlockdevOptionsFile,
    BlockdevOptionsQcow2,
    BlockDirtyBitmapAdd,
    BlockDirtyBitmapAddWrapper,
    BlockDirtyBitmapRemove,
    JobDismiss,
    Transaction,
    TransactionAction,
)

ReportProgress = Callable[[BackupProgress], None]

#: What jobs and block nodes are called, before the device of the disk, and bitmaps, before the checkpoint.
_PREFIX: Final = "backup-"
_CHECKPOINT_PREFIX: Final = "hvkit-"
#: What a file is called until it is whole, after its name.
_PARTIAL: Final = ".partial"
#: Labels the descriptors of a backup.
_LABEL: Final = "hvkit-backup"
#: Seconds between two looks, and for jobs to end that were cancelled.
_LOOK_AGAIN_S: Final = 0.1
_CANCEL_S: Final = 30.0


@attrs.frozen
class _Target:
    """A disk that is backed up, and where to.

    Attributes:
        record: of the disk.
        path: of the file.
        can_keep_bitmaps: whether its format has room for them.
    """

    record: DeviceRecord
    path: str
    can_keep_bitmaps: bool

    @property
    def job(self) -> str:
        return _PREFIX + self.record.device

    @property
    def file_node(self) -> str:
        return f"{self.job}-f"

    @property
    def source(self) -> str:
        return self.record.backends[-1]

    @property
    def partial(self) -> str:
        return self.path + _PARTIAL


def back_up(
    handle: InstanceHandle,
    backup: Backup,
    *,
    on_progress: ReportProgress | None,
    timeout_s: float,
) -> None:
    """Back up disks, as `BaseHypervisor.backup_disks` says.

    The instance's lock is held while the backup begins, and while it is cleared away, not in between.

    Raises:
        BackupError: it failed, or was not over in time.
    """
    deadline = Deadline(timeout_s)
    with _translate_errors(handle), ExitStack() as stack:
        with handle.locked():
            handle.require_alive("its disks cannot be backed up")
            runtime = handle.load()
            monitor = stack.enter_context(handle.connected())
            targets = _choose(runtime, backup)
            if runtime.backup is not None:
                raise BackupError(handle.name, "its disks are being backed up already, or somebody died over that")
            _check_checkpoints(monitor, targets, backup, handle.name)
            partial_files = tuple(target.partial for target in targets)
            record = BackupRecord(uuid=uuid4(), checkpoint=backup.checkpoint, partial_files=partial_files)
            # What fails from here on leaves nothing behind.
            undoing = stack.enter_context(_Undoing(handle, monitor, targets, record))
            handle.persist(attrs.evolve(runtime, backup=record))
            for target in targets:
                _make_file(stack, monitor, target, backup, undoing.made)
            with frozen(handle.paths.agent_socket, freezes=backup.freezes):
                monitor.execute(_transaction(targets, backup))
        _follow(monitor, targets, deadline, on_progress, handle.name)
        with handle.locked():
            _close(monitor, targets)
            for target in targets:
                os.rename(target.partial, target.path)
                undoing.made.append(target.path)
            _forget(handle)


def abort(handle: InstanceHandle) -> None:
    """End a backup, and remove what it left, as `BaseHypervisor.abort_backup` says.

    Raises:
        BackupError: QEMU does not obey.
    """
    with _translate_errors(handle), handle.locked():
        runtime = handle.load()
        process = find_process(runtime, handle.paths)
        if process is not None:
            process.close()
            with handle.connected() as monitor:
                _clear_machine(monitor, runtime)
        if runtime.backup is not None:
            remove_partial_files(runtime.backup.partial_files)
            _forget(handle)


def _clear_machine(monitor: QmpConnection, runtime: Runtime) -> None:
    """Remove from a machine what is left of a backup."""
    end_jobs(monitor, _PREFIX)
    for node in read_nodes(monitor):
        if node.startswith(_PREFIX):
            _delete_node(monitor, node)
    take_back_files(monitor, lambda label: label == _LABEL)
    if runtime.backup is not None:
        sources = [record.backends[-1] for record in _disks(runtime)]
        _remove_checkpoint(monitor, sources, runtime.backup.checkpoint)


def _forget(handle: InstanceHandle) -> None:
    """Forget a backup that has left nothing; others may have changed meanwhile what is remembered beside it."""
    runtime = handle.load()
    if runtime.backup is not None:
        handle.persist(attrs.evolve(runtime, backup=None))


def read_checkpoints(handle: InstanceHandle) -> tuple[Checkpoint, ...]:
    """Return what an incremental backup can begin at, as `BaseHypervisor.get_checkpoints` says.

    Raises:
        BackupError: QEMU does not say.
    """
    with _translate_errors(handle):
        runtime = handle.load()
        with handle.connected() as monitor:
            nodes = read_nodes(monitor)
    found: dict[str, dict[UUID, int]] = {}
    broken: set[str] = set()
    for record in _disks(runtime):
        node = nodes.get(record.backends[-1])
        for bitmap in (node.dirty_bitmaps or []) if node is not None else []:
            name = bitmap.name or ""
            if name.startswith(_CHECKPOINT_PREFIX):
                checkpoint = name.removeprefix(_CHECKPOINT_PREFIX)
                found.setdefault(checkpoint, {})[record.uuid] = bitmap.count
                if bitmap.inconsistent:
                    broken.add(checkpoint)
    return tuple(
        Checkpoint(name=name, changed_bytes=disks, is_usable=name not in broken)
        for name, disks in sorted(found.items())
    )


def drop_checkpoint(handle: InstanceHandle, checkpoint: str) -> None:
    """Forget a checkpoint, as `BaseHypervisor.drop_checkpoint` says.

    Raises:
        BackupError: a backup is using it, or QEMU does not answer.
    """
    with _translate_errors(handle), handle.locked():
        runtime = handle.load()
        with handle.connected() as monitor:
            nodes = {record.backends[-1] for record in _disks(runtime)}
            with_it = {name for name, node in read_nodes(monitor).items() if _has_bitmap(node, checkpoint)}
            for node in nodes & with_it:
                monitor.execute(BlockDirtyBitmapRemove(node=node, name=_CHECKPOINT_PREFIX + checkpoint))


# ---- the steps of a backup


def _choose(runtime: Runtime, backup: Backup) -> list[_Target]:
    records = {record.uuid: record for record in _disks(runtime)}
    formats = {disk.uuid: disk.format for disk in runtime.instance.disks}
    targets = []
    for uuid, path in backup.files.items():
        if uuid not in records:
            raise BackupError(runtime.instance.name, f"it has no disk {uuid} to back up")
        for each in (path, path + _PARTIAL):
            if os.path.lexists(each):
                raise BackupError(runtime.instance.name, f"{each} exists")
        targets.append(_Target(records[uuid], path, formats[uuid] == "qcow2"))
    return targets


def _check_checkpoints(monitor: QmpConnection, targets: Sequence[_Target], backup: Backup, name: str) -> None:
    nodes = read_nodes(monitor)
    for target in targets:
        bitmaps = {bitmap.name: bitmap for bitmap in nodes[target.source].dirty_bitmaps or ()}
        if backup.checkpoint and _CHECKPOINT_PREFIX + backup.checkpoint in bitmaps:
            raise BackupError(name, f"disk {target.record.uuid} has a checkpoint {backup.checkpoint!r} already")
        if backup.since:
            bitmap = bitmaps.get(_CHECKPOINT_PREFIX + backup.since)
            problem = "no" if bitmap is None else "a damaged" if bitmap.inconsistent else ""
            if problem:
                raise BackupError(
                    name,
                    f"disk {target.record.uuid} has {problem} checkpoint {backup.since!r}: back it up as a whole first",
                )


def _make_file(stack: ExitStack, monitor: QmpConnection, target: _Target, backup: Backup, made: list[str]) -> None:
    """Make the file of a disk, of the disk's size, and open it in QEMU, which need not be able to do that itself."""
    size = read_nodes(monitor)[target.source].image.virtual_size
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(target.partial, flags, 0o600)
    made.append(target.partial)
    stack.callback(os.close, descriptor)
    reader = os.open(target.partial, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, reader)
    filename = stack.enter_context(fdset(monitor, reader, descriptor, opaque=_LABEL))
    monitor.execute(
        BlockdevAdd(BlockdevOptionsFile(driver="file", node_name=target.file_node, filename=filename, read_only=False))
    )
    base = backup.bases.get(target.record.uuid)
    options = BlockdevCreateOptionsQcow2(
        file=target.file_node, size=size, backing_file=base, backing_fmt="qcow2" if base else None
    )
    run_job(monitor, BlockdevCreate(job_id=target.job, options=options), timeout=_CANCEL_S)
    monitor.execute(
        BlockdevAdd(BlockdevOptionsQcow2(node_name=target.job, file=target.file_node, backing=NULL, discard="unmap"))
    )


def _transaction(targets: Sequence[_Target], backup: Backup) -> Transaction:
    actions: list[TransactionAction] = []
    for target in targets:
        if backup.checkpoint:
            bitmap = BlockDirtyBitmapAdd(
                node=target.source,
                name=_CHECKPOINT_PREFIX + backup.checkpoint,
                persistent=target.can_keep_bitmaps,
            )
            actions.append(BlockDirtyBitmapAddWrapper(data=bitmap))
        since: dict[str, Any] = {"sync": "full"}
        if backup.since:
            # The bitmap stays as it is: what failed can be done again.
            since = {"sync": "bitmap", "bitmap": _CHECKPOINT_PREFIX + backup.since, "bitmap_mode": "never"}
        job = BlockdevBackup(
            job_id=target.job,
            device=target.source,
            target=target.job,
            auto_dismiss=False,
            speed=backup.bytes_per_s,
            **since,
        )
        actions.append(BlockdevBackupWrapper(data=job))
    return Transaction(actions=actions)


def _follow(
    monitor: QmpConnection,
    targets: Sequence[_Target],
    deadline: Deadline,
    on_progress: ReportProgress | None,
    name: str,
) -> None:
    """Wait until all jobs are over, and tell how far they are.

    Raises:
        BackupError: one failed, or they are not over in time.
    """
    while True:
        jobs = find_jobs(monitor, _PREFIX)
        if len(jobs) < len(targets):
            raise BackupError(name, "somebody else ended it")
        if on_progress is not None:
            done, total = (sum(getattr(job, f"{what}_progress") for job in jobs) for what in ("current", "total"))
            on_progress(BackupProgress(done_bytes=done, total_bytes=total))
        failed = [f"{job.id.removeprefix(_PREFIX)}: {job.error}" for job in jobs if job.error]
        if failed:
            raise BackupError(name, "; ".join(failed))
        if all(job.status == "concluded" for job in jobs):
            return
        if deadline.remaining_s() <= 0:
            raise BackupError(name, f"it is not over after {deadline.timeout_s:g} s")
        time.sleep(min(_LOOK_AGAIN_S, max(deadline.remaining_s(), 0.0)))


def _close(monitor: QmpConnection, targets: Sequence[_Target]) -> None:
    """Let QEMU let go of files that are whole."""
    for target in targets:
        monitor.execute(JobDismiss(id=target.job))
        for node in (target.job, target.file_node):
            monitor.execute(BlockdevDel(node_name=node))


# ---- the way back


class _Undoing(AbstractContextManager["_Undoing"]):
    """Removes what a backup that does not end well has made.

    Attributes:
        made: the files.
    """

    def __init__(
        self,
        handle: InstanceHandle,
        monitor: QmpConnection,
        targets: Sequence[_Target],
        record: BackupRecord,
    ) -> None:
        self.made: list[str] = []
        self._handle = handle
        self._monitor = monitor
        self._targets = targets
        self._record = record

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        try:
            with self._handle.locked():
                # Somebody else may have aborted it, and begun another one.
                if self._handle.load().backup == self._record:
                    remove_partial_files(self.made)
                    self._clear_machine()
                    _forget(self._handle)
        except (QmpError, HypervisorError) as problem:
            error.add_note(f"what is left of the backup could not be removed: {problem}")

    def _clear_machine(self) -> None:
        end_jobs(self._monitor, _PREFIX)
        for target in self._targets:
            for node in (target.job, target.file_node):
                _delete_node(self._monitor, node)
        _remove_checkpoint(self._monitor, [target.source for target in self._targets], self._record.checkpoint)


def _delete_node(monitor: QmpConnection, name: str) -> None:
    with contextlib.suppress(CommandError):  # it was not made, or stands under one that is deleted next
        monitor.execute(BlockdevDel(node_name=name))


def _remove_checkpoint(monitor: QmpConnection, nodes: Sequence[str], checkpoint: str) -> None:
    if checkpoint:
        for node in nodes:
            with contextlib.suppress(CommandError):
                monitor.execute(BlockDirtyBitmapRemove(node=node, name=_CHECKPOINT_PREFIX + checkpoint))


# ---- what QEMU has


@contextlib.contextmanager
def _translate_errors(handle: InstanceHandle) -> Iterator[None]:
    try:
        yield
    except (QmpError, InstanceStateError, BlockNodeNotFound, OSError) as error:
        raise BackupError(handle.name, str(error)) from error


def _disks(runtime: Runtime) -> list[DeviceRecord]:
    uuids = {disk.uuid for disk in runtime.instance.disks}
    return [record for record in runtime.devices if record.uuid in uuids]


def _has_bitmap(node: BlockDeviceInfo, checkpoint: str) -> bool:
    return any(bitmap.name == _CHECKPOINT_PREFIX + checkpoint for bitmap in node.dirty_bitmaps or ())
