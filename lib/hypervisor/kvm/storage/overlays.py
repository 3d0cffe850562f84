# SPDX-License-Identifier: BSD-2-Clause
"""Overlays (external snapshots): new qcow2 files on top of the images of running disks, and their commit."""

import math
import os
from collections.abc import Callable, Collection, Mapping
from typing import Final
from uuid import UUID

from hvkit.errors import HypervisorError, ProgrammerError
from hvkit.hypervisor.errors import SnapshotError
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.qemu.block_nodes import read_nodes
from hvkit.hypervisor.kvm.qemu.freezing import frozen
from hvkit.hypervisor.kvm.storage.chains import (
    BASE_NODES,
    COMMITTING,
    cut_chain,
    delete_nodes,
    overlay_nodes,
    require_disk,
    require_record,
    with_chain,
)
from hvkit.hypervisor.kvm.storage.session import JOB, SnapshotSession, reconcile_overlays, snapshot_session
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import Disk, check_kind, check_timeout
from hvkit.hypervisor.model.reports import BackupProgress
from hvkit.qmp import NULL
from hvkit.qmp.jobs import Job, JobError, run_job
from hvkit.qmp.schema import (
    BlockCommit,
    BlockdevAdd,
    BlockdevCreate,
    BlockdevCreateOptionsQcow2,
    BlockdevOptionsFile,
    BlockdevOptionsQcow2,
    BlockdevSnapshot,
    BlockdevSnapshotWrapper,
    Transaction,
)

#: Seconds that QEMU has to format an empty qcow2 file.
_CREATE_S: Final = 30.0


class OverlayVerbs(KvmSubject):
    """The verbs of the capability SNAPSHOT that are about overlays."""

    def add_overlays(self, name: str, overlays: Mapping[UUID, str], *, freezes: bool = False) -> tuple[Disk, ...]:
        """Create overlays. QEMU must be able to open the images below by name, so it must not be confined."""
        check_kind(overlays, Mapping)
        handle = self._instances.require_managed(name)
        with snapshot_session(handle, "cannot create overlays") as session:
            before = session.runtime
            if not before.opens_by_name:
                problem = "its QEMU is confined to an account or a root directory and cannot open the images below"
                raise session.error(problem)
            after = before
            for uuid, path in overlays.items():
                after = _with_overlay(after, uuid, path)
            session.persist(after)
            try:
                for uuid in overlays:
                    _create_overlay(session, require_disk(before, uuid))
                actions = [
                    BlockdevSnapshotWrapper(
                        data=BlockdevSnapshot(
                            node=require_record(before, uuid).backends[-1],
                            overlay=require_record(after, uuid).backends[-1],
                        )
                    )
                    for uuid in overlays
                ]
                with frozen(handle.paths.agent_socket, freezes=freezes):
                    session.monitor.execute(Transaction(actions=list(actions)))
            except BaseException as error:
                try:
                    reconcile_overlays(session)
                except (HypervisorError, ProgrammerError) as problem:  # the connection may be closed
                    error.add_note(f"the next snapshot operation reconciles the overlays: {problem}")
                raise
            return session.runtime.instance.disks

    def merge_overlays(
        self,
        name: str,
        disks: Collection[UUID],
        *,
        on_progress: Callable[[BackupProgress], None] | None = None,
        timeout: float | None = None,
    ) -> tuple[Disk, ...]:
        check_kind(disks, Collection)
        timeout_s = check_timeout(timeout, default_s=math.inf)
        handle = self._instances.require_managed(name)
        with snapshot_session(handle, "cannot commit overlays") as session:
            for uuid in disks:
                if len(require_record(session.runtime, uuid).backends) <= BASE_NODES:
                    raise session.error(f"disk {uuid} has no overlay")
            for uuid in disks:
                _commit_overlay(session, uuid, on_progress, timeout_s)
            return session.runtime.instance.disks


def _with_overlay(runtime: Runtime, uuid: UUID, path: str) -> Runtime:
    """Return the state with one more overlay on a disk."""
    record = require_record(runtime, uuid)
    if os.path.lexists(path):
        raise SnapshotError(runtime.instance.name, f"{path} already exists")
    return with_chain(runtime, uuid, (*record.backends, *overlay_nodes(record)), path, "qcow2")


def _create_overlay(session: SnapshotSession, below: Disk) -> None:
    """Create the file of a persisted overlay, and open it in QEMU.

    Args:
        session: the session of the instance, whose state names the overlay.
        below: the disk without the overlay.
    """
    monitor = session.monitor
    path = require_disk(session.runtime, below.uuid).path
    *_, source, file_node, node = require_record(session.runtime, below.uuid).backends
    size = read_nodes(monitor)[source].image.virtual_size
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    monitor.execute(BlockdevAdd(BlockdevOptionsFile(driver="file", node_name=file_node, filename=path)))
    options = BlockdevCreateOptionsQcow2(file=file_node, size=size, backing_file=below.path, backing_fmt=below.format)
    run_job(monitor, BlockdevCreate(job_id=JOB, options=options), timeout=_CREATE_S)
    # blockdev-snapshot sets the backing node.
    monitor.execute(BlockdevAdd(BlockdevOptionsQcow2(node_name=node, file=file_node, backing=NULL)))


def _commit_overlay(
    session: SnapshotSession,
    uuid: UUID,
    on_progress: Callable[[BackupProgress], None] | None,
    timeout_s: float,
) -> None:
    """Commit the topmost overlay of a disk into the image below, and delete it."""
    monitor = session.monitor
    path = require_disk(session.runtime, uuid).path
    *below, file_node, node = require_record(session.runtime, uuid).backends
    after = cut_chain(monitor, session.runtime, uuid, tuple(below))
    command = BlockCommit(job_id=JOB, device=node, base_node=below[-1], auto_dismiss=False)
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
        # After QEMU has switched, the overlay is older than the image below: no start may use it.
        os.rename(path, path + COMMITTING)
        try:
            job.complete()
            job.wait(timeout=timeout_s)
        except JobError:
            os.rename(path + COMMITTING, path)
            raise
        session.persist(after)
    os.unlink(path + COMMITTING)
    delete_nodes(monitor, (node, file_node))
