# SPDX-License-Identifier: BSD-2-Clause
"""Optional methods of the hypervisor interface for migration, on the source and on the destination.

A migration runs in this order::

    source                      destination
    migration_info
                                find_migration_obstacles, accept_instance
    copy_disks (optional)
    migrate_instance
    follow_migration
                                finalize_migration_destination
    finalize_migration_source
"""

from __future__ import annotations

from collections.abc import Callable

from hvkit.hypervisor.convergence import MigrationPolicy
from hvkit.hypervisor.errors import MigrationObstacle
from hvkit.hypervisor.model import Capability, DiskCopies, Instance
from hvkit.hypervisor.model.reports import DiskCopy, MigrationInfo, MigrationStatus
from hvkit.hypervisor.optional import OptionalMethods, optional


class MigrationMethods(OptionalMethods):
    """Migration of instances between nodes."""

    @optional(Capability.MIGRATION)
    def migration_info(self, name: str) -> MigrationInfo:
        """Describe an instance of this node for the destination of a migration. Changes nothing.

        The result is valid until a device or a medium of the instance changes. If it became invalid after
        `accept_instance`, the machine on the destination differs: do not migrate to it, but accept the instance again.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process, or was adopted.
            MigrationError: QEMU does not answer.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def find_migration_obstacles(self, instance: Instance, info: MigrationInfo) -> tuple[MigrationObstacle, ...]:
        """List all reasons why an instance cannot migrate to this node. Changes nothing.

        If there are none, `accept_instance` is expected to succeed. Otherwise it raises `MigrationRefused`.

        Args:
            instance: the instance.
            info: the result of `migration_info` on the source.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            MigrationError: `info` is about another instance, or from an incompatible version of this hypervisor.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def accept_instance(
        self, instance: Instance, info: MigrationInfo, target: str | int, copies: DiskCopies | None = None
    ) -> None:
        """Prepare the destination for an incoming instance.

        A stopped instance of that name is cleaned up first. After success the instance is MIGRATING here and waits for
        its source. After failure nothing of it is left here, unless its process cannot be ended.

        Args:
            instance: the instance.
            info: the result of `migration_info` on the source.
            target: the address to listen on: ``host:port``, or the path of a unix socket; or the descriptor of a socket
                that is connected to the source, which the caller closes.
            copies: disks of this node that the source will write to; they exist, with the size of the source's. None:
                the nodes share storage.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            ParameterError: another instance has the same uuid, or a parameter or a device cannot be used on this node.
            InstanceStateError: an instance of that name exists here, and is not stopped; or QEMU did not start, and its
                process cannot be ended.
            InstanceBusy: another operation holds its lock.
            MigrationRefused: this node cannot provide the machine of the source.
            MigrationError: `info` is about another instance, or QEMU did not start or cannot listen on the target.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def copy_disks(self, name: str, copies: DiskCopies) -> None:
        """Start to copy disks of an instance to a node that has accepted it, and return at once.

        The instance continues, and its writes are copied as well. Call `migrate_instance` when every copy in
        `get_disk_copies` is ready; `follow_migration` completes the switchover when both sides are identical. Until
        then `abort_migration` cancels the copies. After failure nothing is copied.

        Args:
            name: the instance.
            copies: the value that was given to `accept_instance`.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            MigrationError: the disks cannot be copied.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def get_disk_copies(self, name: str) -> tuple[DiskCopy, ...]:
        """Return the progress of `copy_disks`, one for each disk; empty if there is none. Changes nothing.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process, or was adopted.
            MigrationError: QEMU does not answer.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def migrate_instance(self, name: str, target: str | int, live: bool = True) -> None:
        """Start the outgoing migration of an instance to a node that has accepted it, and return at once.

        After success it is MIGRATING; follow it with `follow_migration` or `get_migration_status`. After failure it
        continues here.

        Args:
            name: the instance.
            target: the address on which the destination listens; or the descriptor of a socket that is connected to it,
                which the caller closes.
            live: keep the guest running while its memory is sent.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is neither RUNNING nor PAUSED, or was adopted.
            InstanceBusy: another operation holds its lock.
            MigrationError: the migration could not be started, a copy of a disk is not ready, or a backup is running.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def get_migration_status(self, name: str) -> MigrationStatus:
        """Return the progress of an outgoing migration. Changes nothing.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process, or was adopted.
            MigrationError: QEMU does not answer.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def follow_migration(
        self,
        name: str,
        policy: MigrationPolicy | None = None,
        on_progress: Callable[[MigrationStatus], None] | None = None,
    ) -> MigrationStatus:
        """Wait for the end of an outgoing migration, and apply a policy that makes it converge.

        In postcopy it also returns when the migration is PAUSED, or when it has stalled: no data is sent any more, and
        its state is still POSTCOPY.

        May be called at any time after `migrate_instance`, also after the end. It does not finalize the migration. If
        the call is interrupted, the migration continues.

        Args:
            name: the instance.
            policy: when to allow more downtime, switch to postcopy, or cancel; None: `ConvergencePolicy` with its
                defaults.
            on_progress: called with the status several times a second, including the last one.

        Returns:
            The last status. It has a reason if the migration failed, was cancelled or stalled.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process, or was adopted.
            InstanceBusy: another operation holds its lock when a step of the policy needs it.
            MigrationError: QEMU does not answer, or refuses a step of the policy.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def abort_migration(self, name: str) -> None:
        """Cancel an outgoing migration. Both sides must be finalized afterwards, as after a failure.

        After success it is CANCELLED, or had FAILED already. After failure, retry or see `get_migration_status`.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process, or was adopted.
            InstanceBusy: another operation holds its lock.
            MigrationError: the guest is on the destination already, or the migration cannot be cancelled.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def start_postcopy(self, name: str) -> None:
        """Switch an outgoing migration to postcopy: run the guest on the destination, before all memory was sent.

        After success the migration becomes POSTCOPY. It cannot be cancelled then, and the guest needs both nodes until
        it is COMPLETED. After failure it continues as before.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process, or was adopted.
            InstanceBusy: another operation holds its lock.
            MigrationError: the migration is not ACTIVE, or was started without postcopy.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def pause_migration(self, name: str) -> None:
        """Disconnect a stalled POSTCOPY migration, so that it can be resumed over another connection.

        Call it on the destination first: only the destination can tell that the switchover is complete, and that the
        guest is not lost without the connection. After success call it on the source, which may not detect the broken
        connection itself. The migration is then PAUSED, or COMPLETED if the rest arrived in time. After failure it is
        unchanged.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process, or was adopted.
            InstanceBusy: another operation holds its lock.
            MigrationError: it is not POSTCOPY, or the switchover is not complete.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def resume_migration_destination(self, name: str, target: str | int) -> None:
        """Listen on the destination for the source of a PAUSED migration. Call it before `resume_migration_source`.

        Args:
            name: the instance.
            target: the address to listen on, which may differ from the previous one.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process, or was adopted.
            InstanceBusy: another operation holds its lock.
            MigrationError: it is not PAUSED, or QEMU cannot listen. One node may detect a broken connection later than
                the other: retry, or call `pause_migration`.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def resume_migration_source(self, name: str, target: str | int) -> None:
        """Resume a PAUSED outgoing migration. After success it is POSTCOPY, after failure still PAUSED.

        Args:
            name: the instance.
            target: the address on which the destination listens.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process, or was adopted.
            InstanceBusy: another operation holds its lock.
            MigrationError: it is not PAUSED, QEMU refuses, or the destination cannot be reached.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def finalize_migration_source(self, name: str, success: bool, live: bool) -> None:
        """Finish a migration on its source.

        After a successful migration there is no such instance here any more. After a failed one it continues here as
        before.

        Args:
            name: the instance.
            success: whether the guest runs on the destination. If QEMU reports the opposite, nothing is changed.
            live: the value that was given to `migrate_instance`. Hypervisors that persist it may ignore this one.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is stopped, or was adopted.
            InstanceBusy: another operation holds its lock.
            MigrationError: it is not certain that exactly one guest runs.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def finalize_migration_destination(self, instance: Instance, info: MigrationInfo, success: bool) -> str:
        """Finish a migration on its destination.

        After a successful migration the instance is RUNNING here, or PAUSED if it was paused on the source. After a
        failed one there is no such instance here. A success may be reported again.

        Args:
            instance: the instance.
            info: the result of `migration_info` on the source.
            success: whether the guest is here. If QEMU reports the opposite, nothing is changed.

        Returns:
            After a failed migration, the last output of QEMU here, which may contain the reason; otherwise empty.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is stopped, or was adopted.
            InstanceBusy: another operation holds its lock.
            MigrationError: it is not certain that exactly one guest runs.
        """
        raise NotImplementedError
