# SPDX-License-Identifier: BSD-2-Clause
"""Backups of the disks of running instances: full or incremental, all disks at the same point in time.

QEMU writes each disk into a qcow2 file of its own, which has another name until it is complete. A checkpoint is a dirty
bitmap on each disk: it records what the guest has written since a backup. Each backup is persisted before it begins. A
crash during a backup leaves that record, and jobs and block nodes that are found by their names; `abort_backup` removes
all of them.
"""

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

import attrs

from hvkit.errors import HypervisorError
from hvkit.hypervisor.errors import BackupError, translate_errors
from hvkit.hypervisor.kvm.host.paths import remove_partial_files
from hvkit.hypervisor.kvm.host.polling import poll_until
from hvkit.hypervisor.kvm.host.runtime import BackupRecord, DeviceRecord, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.instance.state import find_process
from hvkit.hypervisor.kvm.qemu.block_nodes import read_nodes, take_back_files
from hvkit.hypervisor.kvm.qemu.freezing import frozen
from hvkit.hypervisor.kvm.qemu.jobs import end_jobs, find_jobs
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import Backup, check_kind, check_timeout
from hvkit.hypervisor.model.reports import BackupProgress, Checkpoint
from hvkit.qmp import CommandError, QmpConnection
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

OnProgress = Callable[[BackupProgress], None]

#: Prefix of the ids of jobs and block nodes, followed by the id of the device.
_PREFIX: Final = "backup-"
#: Prefix of the names of bitmaps, followed by the name of the checkpoint.
_CHECKPOINT_PREFIX: Final = "hvkit-"
#: Suffix of an incomplete file.
_PARTIAL: Final = ".partial"
#: Label of the fd sets of a backup.
_LABEL: Final = "hvkit-backup"
#: Seconds between two queries of the jobs.
_POLL_S: Final = 0.1
#: Seconds that QEMU has to format an empty qcow2 file.
_CREATE_S: Final = 30.0


class BackupVerbs(KvmSubject):
    """The verbs of the capability BACKUP."""

    def backup_disks(
        self,
        name: str,
        backup: Backup,
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
    ) -> None:
        """Back up disks into files that are passed to QEMU as open descriptors.

        The lock of the instance is held while the backup begins and while it ends, not in between.
        """
        check_kind(backup, Backup)
        timeout_s = check_timeout(timeout, default_s=math.inf)
        handle = self._instances.require_managed(name)
        deadline = Deadline(timeout_s)
        with translate_errors(partial(BackupError, name)), ExitStack() as stack:
            with handle.locked():
                handle.require_alive("cannot back up disks")
                runtime = handle.load()
                monitor = stack.enter_context(handle.connected())
                targets = _choose_targets(runtime, backup)
                if runtime.backup is not None:
                    problem = "another backup is running or was interrupted: wait for it, or abort it"
                    raise BackupError(name, problem)
                _check_checkpoints(monitor, targets, backup, name)
                partial_files = tuple(target.partial_path for target in targets)
                record = BackupRecord(
                    uuid=uuid4(),
                    checkpoint=backup.checkpoint,
                    partial_files=partial_files,
                    disks=tuple(backup.files),
                )
                rollback = stack.enter_context(_Rollback(handle, monitor, targets, record))
                handle.persist(attrs.evolve(runtime, backup=record))
                for target in targets:
                    _create_file(stack, monitor, target, backup, rollback.created)
                with frozen(handle.paths.agent_socket, freezes=backup.freezes):
                    monitor.execute(_build_transaction(targets, backup))
            _follow(monitor, targets, deadline, on_progress, name)
            with handle.locked():
                _close_files(monitor, targets)
                for target in targets:
                    os.rename(target.partial_path, target.path)
                    rollback.created.append(target.path)
                _delete_record(handle)

    def abort_backup(self, name: str) -> None:
        handle = self._instances.require_managed(name)
        with translate_errors(partial(BackupError, name)), handle.locked():
            runtime = handle.load()
            process = find_process(runtime, handle.paths)
            if process is not None:
                process.close()
                with handle.connected() as monitor:
                    _clean_up(monitor, runtime)
            if runtime.backup is not None:
                remove_partial_files(runtime.backup.partial_files)
                _delete_record(handle)

    def get_checkpoints(self, name: str) -> tuple[Checkpoint, ...]:
        handle = self._instances.require_managed(name)
        with translate_errors(partial(BackupError, name)):
            runtime = handle.load()
            with handle.connected() as monitor:
                nodes = read_nodes(monitor)
        found: dict[str, dict[UUID, int]] = {}
        damaged: set[str] = set()
        for record in runtime.disk_records:
            node = nodes.get(record.backends[-1])
            for bitmap in (node.dirty_bitmaps or []) if node is not None else []:
                bitmap_name = bitmap.name or ""
                if bitmap_name.startswith(_CHECKPOINT_PREFIX):
                    checkpoint = bitmap_name.removeprefix(_CHECKPOINT_PREFIX)
                    found.setdefault(checkpoint, {})[record.uuid] = bitmap.count
                    if bitmap.inconsistent:
                        damaged.add(checkpoint)
        return tuple(
            Checkpoint(name=checkpoint, changed_bytes=disks, is_usable=checkpoint not in damaged)
            for checkpoint, disks in sorted(found.items())
        )

    def drop_checkpoint(self, name: str, checkpoint: str) -> None:
        handle = self._instances.require_managed(name)
        with translate_errors(partial(BackupError, name)), handle.locked():
            runtime = handle.load()
            handle.require_alive("cannot delete a checkpoint")
            with handle.connected() as monitor:
                nodes = read_nodes(monitor)
                for record in runtime.disk_records:
                    node = nodes.get(record.backends[-1])
                    if node is not None and _has_bitmap(node, checkpoint):
                        bitmap = _CHECKPOINT_PREFIX + checkpoint
                        monitor.execute(BlockDirtyBitmapRemove(node=record.backends[-1], name=bitmap))


@attrs.frozen
class _Target:
    """A disk that is backed up, and the file for its backup.

    Attributes:
        record: the record of the disk.
        path: the final path of the file.
        can_persist_bitmaps: whether the format of the disk can store dirty bitmaps.
    """

    record: DeviceRecord
    path: str
    can_persist_bitmaps: bool

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
    def partial_path(self) -> str:
        return self.path + _PARTIAL


def _clean_up(monitor: QmpConnection, runtime: Runtime) -> None:
    """Remove from QEMU what an interrupted backup left."""
    end_jobs(monitor, _PREFIX)
    for node in read_nodes(monitor):
        if node.startswith(_PREFIX):
            _delete_node(monitor, node)
    take_back_files(monitor, lambda label: label == _LABEL)
    backup = runtime.backup
    if backup is not None:
        # Another disk may have an earlier checkpoint of the same name.
        disks = [record for record in runtime.disk_records if not backup.disks or record.uuid in backup.disks]
        _remove_checkpoint(monitor, [record.backends[-1] for record in disks], backup.checkpoint)


def _delete_record(handle: InstanceHandle) -> None:
    """Delete the record of a backup. Other operations may have changed the rest of the state since it was loaded."""
    runtime = handle.load()
    if runtime.backup is not None:
        handle.persist(attrs.evolve(runtime, backup=None))


def _choose_targets(runtime: Runtime, backup: Backup) -> list[_Target]:
    name = runtime.instance.name
    records = {record.uuid: record for record in runtime.disk_records}
    formats = {disk.uuid: disk.format for disk in runtime.instance.disks}
    targets = []
    for uuid, path in backup.files.items():
        if uuid not in records:
            raise BackupError(name, f"the instance has no disk {uuid}")
        for each in (path, path + _PARTIAL):
            if os.path.lexists(each):
                raise BackupError(name, f"{each} already exists")
        targets.append(_Target(records[uuid], path, formats[uuid] == "qcow2"))
    return targets


def _check_checkpoints(monitor: QmpConnection, targets: Sequence[_Target], backup: Backup, name: str) -> None:
    nodes = read_nodes(monitor)
    for target in targets:
        disk = f"disk {target.record.uuid}"
        bitmaps = {bitmap.name: bitmap for bitmap in nodes[target.source].dirty_bitmaps or ()}
        if backup.checkpoint and _CHECKPOINT_PREFIX + backup.checkpoint in bitmaps:
            raise BackupError(name, f"{disk} already has a checkpoint {backup.checkpoint!r}")
        if backup.since:
            bitmap = bitmaps.get(_CHECKPOINT_PREFIX + backup.since)
            problem = "no" if bitmap is None else "a damaged" if bitmap.inconsistent else ""
            if problem:
                raise BackupError(name, f"{disk} has {problem} checkpoint {backup.since!r}: make a full backup first")


def _create_file(stack: ExitStack, monitor: QmpConnection, target: _Target, backup: Backup, created: list[str]) -> None:
    """Create the file for a disk, with the size of the disk, and pass it to QEMU, which may be confined."""
    size = read_nodes(monitor)[target.source].image.virtual_size
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(target.partial_path, flags, 0o600)
    created.append(target.partial_path)
    stack.callback(os.close, descriptor)
    reader = os.open(target.partial_path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, reader)
    filename = stack.enter_context(fdset(monitor, reader, descriptor, opaque=_LABEL))
    monitor.execute(
        BlockdevAdd(BlockdevOptionsFile(driver="file", node_name=target.file_node, filename=filename, read_only=False))
    )
    base = backup.bases.get(target.record.uuid)
    options = BlockdevCreateOptionsQcow2(
        file=target.file_node, size=size, backing_file=base, backing_fmt="qcow2" if base else None
    )
    run_job(monitor, BlockdevCreate(job_id=target.job, options=options), timeout=_CREATE_S)
    monitor.execute(
        BlockdevAdd(BlockdevOptionsQcow2(node_name=target.job, file=target.file_node, backing=NULL, discard="unmap"))
    )


def _build_transaction(targets: Sequence[_Target], backup: Backup) -> Transaction:
    actions: list[TransactionAction] = []
    for target in targets:
        if backup.checkpoint:
            bitmap = BlockDirtyBitmapAdd(
                node=target.source,
                name=_CHECKPOINT_PREFIX + backup.checkpoint,
                persistent=target.can_persist_bitmaps,
            )
            actions.append(BlockDirtyBitmapAddWrapper(data=bitmap))
        since: dict[str, Any] = {"sync": "full"}
        if backup.since:
            # mode never: the bitmap is not changed, so that a failed backup can be repeated.
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
    on_progress: OnProgress | None,
    name: str,
) -> None:
    """Wait until all jobs have succeeded, and report their progress.

    Raises:
        BackupError: a job failed, another process ended the backup, or the deadline passed.
    """

    def is_complete() -> bool:
        jobs = find_jobs(monitor, _PREFIX)
        if len(jobs) < len(targets):
            raise BackupError(name, "another process ended the backup")
        if on_progress is not None:
            done = sum(job.current_progress for job in jobs)
            on_progress(BackupProgress(done_bytes=done, total_bytes=sum(job.total_progress for job in jobs)))
        failed = [f"{job.id.removeprefix(_PREFIX)}: {job.error}" for job in jobs if job.error]
        if failed:
            raise BackupError(name, "; ".join(failed))
        return all(job.status == "concluded" for job in jobs)

    if not poll_until(is_complete, deadline, interval_s=_POLL_S):
        raise BackupError(name, f"not complete after {deadline.timeout_s:g} s")


def _close_files(monitor: QmpConnection, targets: Sequence[_Target]) -> None:
    """Close the complete files of a backup in QEMU."""
    for target in targets:
        monitor.execute(JobDismiss(id=target.job))
        for node in (target.job, target.file_node):
            monitor.execute(BlockdevDel(node_name=node))


class _Rollback(AbstractContextManager["_Rollback"]):
    """A context manager that removes everything that a backup has created if the block fails.

    Attributes:
        created: the files created so far.
    """

    def __init__(
        self,
        handle: InstanceHandle,
        monitor: QmpConnection,
        targets: Sequence[_Target],
        record: BackupRecord,
    ) -> None:
        self.created: list[str] = []
        self._handle = handle
        self._monitor = monitor
        self._targets = targets
        self._record = record

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        try:
            with self._handle.locked():
                # Another process may have aborted this backup, and begun another one.
                if self._handle.load().backup == self._record:
                    remove_partial_files(self.created)
                    self._clean_up()
                    _delete_record(self._handle)
        except HypervisorError as problem:
            error.add_note(f"the leftovers of the backup could not be removed: {problem}")

    def _clean_up(self) -> None:
        end_jobs(self._monitor, _PREFIX)
        for target in self._targets:
            for node in (target.job, target.file_node):
                _delete_node(self._monitor, node)
        _remove_checkpoint(self._monitor, [target.source for target in self._targets], self._record.checkpoint)


def _delete_node(monitor: QmpConnection, name: str) -> None:
    with contextlib.suppress(CommandError):  # it does not exist, or is the file of a node that is deleted next
        monitor.execute(BlockdevDel(node_name=name))


def _remove_checkpoint(monitor: QmpConnection, nodes: Sequence[str], checkpoint: str) -> None:
    if checkpoint:
        for node in nodes:
            with contextlib.suppress(CommandError):
                monitor.execute(BlockDirtyBitmapRemove(node=node, name=_CHECKPOINT_PREFIX + checkpoint))


def _has_bitmap(node: BlockDeviceInfo, checkpoint: str) -> bool:
    return any(bitmap.name == _CHECKPOINT_PREFIX + checkpoint for bitmap in node.dirty_bitmaps or ())
