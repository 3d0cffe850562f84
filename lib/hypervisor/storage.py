# SPDX-License-Identifier: BSD-2-Clause
"""Optional methods of the hypervisor interface for snapshots, overlays and backups of running instances."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from uuid import UUID

from hvkit.hypervisor.model import Backup, Capability, Disk
from hvkit.hypervisor.model.reports import BackupProgress, Checkpoint, Snapshot
from hvkit.hypervisor.optional import OptionalMethods, optional


class StorageMethods(OptionalMethods):
    """Snapshots, overlays and backups. The instance must be RUNNING or PAUSED, unless a method says otherwise."""

    @optional(Capability.SNAPSHOT)
    def save_snapshot(self, name: str, tag: str, *, timeout: float | None = None) -> None:
        """Create an internal snapshot: the disks and the memory of an instance, stored in its disk images.

        The vCPUs are stopped meanwhile. After success `load_snapshot` can revert to it. After failure there is no such
        snapshot, and the instance continues.

        Args:
            name: the instance.
            tag: the name of the snapshot.
            timeout: seconds; None: no limit.

        Raises:
            NotSupported: the hypervisor does not have SNAPSHOT.
            ParameterError: the timeout is negative.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            SnapshotError: a disk cannot hold snapshots, the tag is in use, or it failed.
        """
        raise NotImplementedError

    @optional(Capability.SNAPSHOT)
    def load_snapshot(self, name: str, tag: str, *, timeout: float | None = None) -> None:
        """Revert an instance to an internal snapshot. Everything written since is lost.

        The instance must have the vCPUs, memory and devices that it had at the snapshot. This cannot be checked in
        advance: with fewer the call fails; with more it succeeds, and the guest does not detect the additional ones.

        After failure the instance is paused in an undefined condition: stop it.

        Args:
            name: the instance.
            tag: the name of the snapshot.
            timeout: seconds; None: no limit.

        Raises:
            NotSupported: the hypervisor does not have SNAPSHOT.
            ParameterError: the timeout is negative.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            SnapshotError: there is no such snapshot, or it failed.
        """
        raise NotImplementedError

    @optional(Capability.SNAPSHOT)
    def delete_snapshot(self, name: str, tag: str, *, timeout: float | None = None) -> None:
        """Delete an internal snapshot.

        Args:
            name: the instance.
            tag: the name of the snapshot.
            timeout: seconds; None: no limit.

        Raises:
            NotSupported: the hypervisor does not have SNAPSHOT.
            ParameterError: the timeout is negative.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            SnapshotError: there is no such snapshot, or it failed.
        """
        raise NotImplementedError

    @optional(Capability.SNAPSHOT)
    def get_snapshots(self, name: str) -> tuple[Snapshot, ...]:
        """List internal snapshots, oldest first. Changes nothing.

        Raises:
            NotSupported: the hypervisor does not have SNAPSHOT.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process, or was adopted.
            SnapshotError: QEMU does not answer.
        """
        raise NotImplementedError

    @optional(Capability.SNAPSHOT)
    def add_overlays(self, name: str, overlays: Mapping[UUID, str], *, freezes: bool = False) -> tuple[Disk, ...]:
        """Create an overlay on each of several disks, all at one moment. The files below are not written any more.

        After success the instance has the returned disks: start it with these the next time, here or on another node.
        After failure it has its old disks. If this process is killed, it has either, and the next operation on
        snapshots reconciles them.

        Args:
            name: the instance.
            overlays: for each disk, by uuid, the qcow2 file to create.
            freezes: whether to freeze the guest's filesystems at that moment; needs the guest agent.

        Returns:
            All disks of the instance.

        Raises:
            NotSupported: the hypervisor does not have SNAPSHOT.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            SnapshotError: the instance has no such disk, a file exists already, or it failed.
        """
        raise NotImplementedError

    @optional(Capability.SNAPSHOT)
    def merge_overlays(
        self,
        name: str,
        disks: Collection[UUID],
        *,
        on_progress: Callable[[BackupProgress], None] | None = None,
        timeout: float | None = None,
    ) -> tuple[Disk, ...]:
        """Commit the overlay of each of several disks into the file below, and delete the overlay.

        After success the disks write to the files below. After failure the disks before the failed one are merged; the
        failed one writes to its overlay as before.

        Args:
            name: the instance.
            disks: the uuids of the disks.
            on_progress: called with the progress of each disk.
            timeout: seconds for each disk; None: no limit.

        Returns:
            All disks of the instance.

        Raises:
            NotSupported: the hypervisor does not have SNAPSHOT.
            ParameterError: the timeout is negative.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            SnapshotError: the instance has no such disk, a disk has no overlay, or it failed.
        """
        raise NotImplementedError

    @optional(Capability.BACKUP)
    def backup_disks(
        self,
        name: str,
        backup: Backup,
        *,
        on_progress: Callable[[BackupProgress], None] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Back up disks with their contents at one moment, and wait until the backup is complete.

        After success the files are complete, and the requested checkpoint exists. After failure or an interruption
        (such as KeyboardInterrupt) there are neither files nor checkpoint, and earlier checkpoints are unchanged. If
        this process is killed, QEMU continues to write to partial files until `abort_backup`.

        Args:
            name: the instance.
            backup: the disks and their files.
            on_progress: called several times a second.
            timeout: seconds; None: no limit.

        Raises:
            NotSupported: the hypervisor does not have BACKUP.
            ParameterError: the timeout is negative.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            BackupError: the instance has no such disk, a file exists already, the timeout passed, another backup is
                running, or it failed.
        """
        raise NotImplementedError

    @optional(Capability.BACKUP)
    def abort_backup(self, name: str) -> None:
        """Cancel a backup of another process, or an interrupted one, and remove its files. Does nothing without one.

        May also be called on a stopped instance. A checkpoint that the backup has already stored in a disk is not
        deleted then, and exists after the next start.

        Raises:
            NotSupported: the hypervisor does not have BACKUP.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it was adopted.
            InstanceBusy: another operation holds its lock.
            BackupError: the backup could not be cancelled.
        """
        raise NotImplementedError

    @optional(Capability.BACKUP)
    def get_checkpoints(self, name: str) -> tuple[Checkpoint, ...]:
        """List checkpoints by name. Changes nothing.

        Checkpoints on qcow2 disks survive a stop of the instance; those on other disks do not.

        Raises:
            NotSupported: the hypervisor does not have BACKUP.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process, or was adopted.
            BackupError: QEMU does not answer.
        """
        raise NotImplementedError

    @optional(Capability.BACKUP)
    def drop_checkpoint(self, name: str, checkpoint: str) -> None:
        """Delete a checkpoint. Does nothing if there is none of that name.

        Raises:
            NotSupported: the hypervisor does not have BACKUP.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process, or was adopted.
            InstanceBusy: another operation holds its lock.
            BackupError: a backup uses it, or QEMU does not answer.
        """
        raise NotImplementedError
