# SPDX-License-Identifier: BSD-2-Clause
"""The part of the KVM hypervisor that takes snapshots and backups."""

import math
from collections.abc import Callable, Collection, Mapping
from uuid import UUID

from hvkit.hypervisor.kvm.storage import snapshots
from hvkit.hypervisor.kvm.storage.backups import abort as abort_backup
from hvkit.hypervisor.kvm.storage.backups import back_up, drop_checkpoint, read_checkpoints
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import Backup, Disk, check_kind, check_timeout
from hvkit.hypervisor.model.reports import BackupProgress, Checkpoint, Snapshot
from hvkit.hypervisor.storage import StorageMethods


class KvmStorage(KvmSubject, StorageMethods):
    """Takes snapshots and backups of running instances."""

    # ---- snapshots

    def save_snapshot(self, name: str, tag: str, *, timeout: float | None = None) -> None:
        """Keep an instance as it is now, as `BaseHypervisor.save_snapshot` says. All its disks have to be qcow2."""
        snapshots.save(self._instances.require_managed(name), tag, timeout_s=check_timeout(timeout, default_s=math.inf))

    def load_snapshot(self, name: str, tag: str, *, timeout: float | None = None) -> None:
        """Make an instance what it was, as `BaseHypervisor.load_snapshot` says."""
        snapshots.load(self._instances.require_managed(name), tag, timeout_s=check_timeout(timeout, default_s=math.inf))

    def delete_snapshot(self, name: str, tag: str, *, timeout: float | None = None) -> None:
        """Forget what an instance was, as `BaseHypervisor.delete_snapshot` says."""
        snapshots.delete(
            self._instances.require_managed(name), tag, timeout_s=check_timeout(timeout, default_s=math.inf)
        )

    def get_snapshots(self, name: str) -> tuple[Snapshot, ...]:
        """Return what an instance can be made again, as `BaseHypervisor.get_snapshots` says."""
        return snapshots.read_snapshots(self._instances.require_managed(name))

    def add_overlays(self, name: str, overlays: Mapping[UUID, str], *, freezes: bool = False) -> tuple[Disk, ...]:
        """Have disks write to new files, as `BaseHypervisor.add_overlays` says. QEMU must not be confined."""
        return snapshots.add_overlays(self._instances.require_managed(name), overlays, freezes=freezes)

    def merge_overlays(
        self,
        name: str,
        disks: Collection[UUID],
        *,
        on_progress: Callable[[BackupProgress], None] | None = None,
        timeout: float | None = None,
    ) -> tuple[Disk, ...]:
        """Merge disks' topmost files into those below, as `BaseHypervisor.merge_overlays` says."""
        handle = self._instances.require_managed(name)
        return snapshots.merge_overlays(
            handle, disks, on_progress=on_progress, timeout_s=check_timeout(timeout, default_s=math.inf)
        )

    # ---- backups

    def backup_disks(
        self,
        name: str,
        backup: Backup,
        *,
        on_progress: Callable[[BackupProgress], None] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Back up disks, as `BaseHypervisor.backup_disks` says, into files that QEMU is given open."""
        check_kind(backup, Backup)
        back_up(
            self._instances.require_managed(name),
            backup,
            on_progress=on_progress,
            timeout_s=check_timeout(timeout, default_s=math.inf),
        )

    def abort_backup(self, name: str) -> None:
        """End a backup and remove what it left, as `BaseHypervisor.abort_backup` says."""
        abort_backup(self._instances.require_managed(name))

    def get_checkpoints(self, name: str) -> tuple[Checkpoint, ...]:
        """Return what incremental backups can begin at, as `BaseHypervisor.get_checkpoints` says."""
        return read_checkpoints(self._instances.require_managed(name))

    def drop_checkpoint(self, name: str, checkpoint: str) -> None:
        """Forget a checkpoint, as `BaseHypervisor.drop_checkpoint` says."""
        drop_checkpoint(self._instances.require_managed(name), checkpoint)
