# SPDX-License-Identifier: BSD-2-Clause
"""What hypervisors may be able to do with the disks of running instances: snapshots and backups.

`BaseHypervisor` has these methods; a plugin that declares SNAPSHOT or BACKUP overrides all of that capability.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from uuid import UUID

from hvkit.hypervisor.model import Backup, Capability, Disk
from hvkit.hypervisor.model.reports import BackupProgress, Checkpoint, Snapshot
from hvkit.hypervisor.optional import OptionalMethods


class StorageMethods(OptionalMethods):
    """The part of `BaseHypervisor` that is about snapshots and backups."""

    # ---- snapshots

    def save_snapshot(self, name: str, tag: str, *, timeout: float = math.inf) -> None:
        """Keep an instance as it is now, with its memory, inside its disks. It stands still meanwhile.

        After success `load_snapshot` brings it back. After failure there is no such snapshot, and the instance goes on.

        Raises:
            ParameterError: nobody can wait for that long.
            SnapshotError: a disk cannot hold snapshots, there is one of this name, or it failed.
        """
        self._lacks(Capability.SNAPSHOT)

    def load_snapshot(self, name: str, tag: str, *, timeout: float = math.inf) -> None:
        """Make an instance what it was; what it wrote since is gone.

        It has to have the processors, the memory and the devices that it had. That cannot be found out before: where it
        has fewer it fails; where it has more, the guest is not told of them, and success says nothing of that.

        After failure it is paused, and what it would go on with is not known: stop it.

        Raises:
            ParameterError: nobody can wait for that long.
            SnapshotError: there is no such snapshot, or it failed.
        """
        self._lacks(Capability.SNAPSHOT)

    def delete_snapshot(self, name: str, tag: str, *, timeout: float = math.inf) -> None:
        """Forget what an instance was.

        Raises:
            ParameterError: nobody can wait for that long.
            SnapshotError: there is no such snapshot, or it failed.
        """
        self._lacks(Capability.SNAPSHOT)

    def get_snapshots(self, name: str) -> tuple[Snapshot, ...]:
        """Return what an instance can be made again, the oldest first. Changes nothing.

        Raises:
            SnapshotError: that cannot be found out.
        """
        self._lacks(Capability.SNAPSHOT)

    def add_overlays(self, name: str, overlays: Mapping[UUID, str], *, freezes: bool = False) -> tuple[Disk, ...]:
        """Have disks write to new files from one moment on; what they held stays as it is, below.

        After success the instance has these disks: they are what it is started with the next time, here or on another
        node. After failure it has the disks that it had. Where this process is killed, the next call about snapshots
        settles which of the two it is.

        Args:
            name: of the instance.
            overlays: for each disk, by its uuid, the qcow2 file to make.
            freezes: whether the guest's filesystems are frozen for the moment, which takes its agent.

        Returns:
            All disks of the instance.

        Raises:
            SnapshotError: it failed.
        """
        self._lacks(Capability.SNAPSHOT)

    def merge_overlays(
        self,
        name: str,
        disks: Collection[UUID],
        *,
        on_progress: Callable[[BackupProgress], None] | None = None,
        timeout: float = math.inf,
    ) -> tuple[Disk, ...]:
        """Write the contents of disks' topmost files into those below, which they write to from then on.

        After success the topmost files are gone. After failure the disks before the one that failed are merged, and it
        writes to its file as before.

        Args:
            name: of the instance.
            disks: their uuids.
            on_progress: is told how far it is, disk by disk.
            timeout: seconds for each disk.

        Returns:
            All disks of the instance.

        Raises:
            ParameterError: nobody can wait for that long.
            SnapshotError: a disk has nothing below, or it failed.
        """
        self._lacks(Capability.SNAPSHOT)

    # ---- backups

    def backup_disks(
        self,
        name: str,
        backup: Backup,
        *,
        on_progress: Callable[[BackupProgress], None] | None = None,
        timeout: float = math.inf,
    ) -> None:
        """Back up disks of a running instance, all of them as they are at one moment, and wait for that.

        After success the files are there, whole, and the checkpoint if one was asked for. After failure neither is, and
        every earlier checkpoint is as it was. So it is where this process is interrupted. Where it is killed, QEMU
        goes on writing into files of other names, until `abort_backup`.

        Args:
            name: of the instance.
            backup: what is backed up, and where to.
            on_progress: is told several times a second how far it is.
            timeout: seconds for all of it.

        Raises:
            ParameterError: nobody can wait for that long.
            BackupError: it failed, was not over in time, or there is another one.
            InstanceStateError: it is not running.
        """
        self._lacks(Capability.BACKUP)

    def abort_backup(self, name: str) -> None:
        """End a backup that somebody else began, or died over, and remove all that it left. Does nothing without one.

        May be called when the instance is over, too; a checkpoint that its disks have kept is there then when it is
        started again.

        Raises:
            BackupError: it does not end.
        """
        self._lacks(Capability.BACKUP)

    def get_checkpoints(self, name: str) -> tuple[Checkpoint, ...]:
        """Return the moments that an incremental backup can begin at, by name. Changes nothing.

        On disks of format qcow2 they outlive the instance; on others they end with it.

        Raises:
            BackupError: that cannot be found out.
        """
        self._lacks(Capability.BACKUP)

    def drop_checkpoint(self, name: str, checkpoint: str) -> None:
        """Forget a checkpoint: what is written is noted down no longer. It is no error if there is none.

        Raises:
            BackupError: a backup is using it.
        """
        self._lacks(Capability.BACKUP)
