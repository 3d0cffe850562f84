# SPDX-License-Identifier: BSD-2-Clause
"""Optional methods of the hypervisor interface for migration: the halves of the source and of the destination.

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
        """Return what the destination of a migration must know about an instance of this node. Changes nothing.

        The result is valid until a device or a medium of the instance changes. A destination that accepted the instance
        by an outdated one has another machine: do not migrate to it, but accept the instance again.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process, or was adopted.
            MigrationError: QEMU does not answer.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def find_migration_obstacles(self, instance: Instance, info: MigrationInfo) -> tuple[MigrationObstacle, ...]:
        """List everything that prevents an instance from migrating to this node. Changes nothing.

        Without obstacles, `accept_instance` is expected to succeed. With obstacles it raises `MigrationRefused`.

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

        After success the instance is MIGRATING here and waits for its source. After failure there is no such instance
        here.

        Args:
            instance: the instance.
            info: the result of `migration_info` on the source.
            target: the address to listen on: ``host:port``, or the path of a unix socket; or the descriptor of a socket
                that is connected to the source, which the caller closes.
            copies: disks of this node that the source will write to; they exist, with the size of the source's. None:
                the nodes share storage.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            ParameterError: a parameter or a device cannot be used on this node.
            InstanceStateError: an instance of that name exists here, and is not stopped.
            InstanceBusy: another operation holds its lock.
            MigrationRefused: this node cannot provide the machine of the source; has every reason.
            MigrationError: the instance cannot be accepted.
        """
        raise NotImplementedError

    @optional(Capability.MIGRATION)
    def copy_disks(self, name: str, copies: DiskCopies) -> None:
        """Start to copy disks of an instance to a node that has accepted it, and return at once.

        The instance continues, and its writes are copied, too. When every copy in `get_disk_copies` is ready,
        `migrate_instance` may be called; `follow_migration` then completes the switchover only once both sides are
        identical. `abort_migration` cancels the copies at any time before. After failure nothing is copied.

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
        """Return the progress of the copies of an instance's disks; empty if none is copied. Changes nothing.

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

        In postcopy it also returns when the migration is PAUSED, or when no data is sent any more; the state is then
        unchanged.

        May be called at any time after `migrate_instance`, also after the end. It does not finalize the migration. An
        interruption does not affect the migration.

        Args:
            name: the instance.
            policy: when to allow more downtime, switch to postcopy, or cancel; None: `ConvergencePolicy` with its
                defaults.
            on_progress: called with the status several times a second, including the last one.

        Returns:
            The last status; if the migration was cancelled or stalled, with the reason.

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
        """Switch an outgoing migration to postcopy: the guest continues on the destination, and fetches the rest there.

        After success the migration becomes POSTCOPY, and cannot be cancelled: until it is COMPLETED the guest needs
        both nodes. After failure it continues as before.

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

        Call it on the destination first: only the destination knows whether the guest is there, or would be lost. After
        success call it on the source, which may not detect the broken connection. The migration is then PAUSED, or
        COMPLETED at the last moment. After failure it is unchanged.

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
            MigrationError: it is not PAUSED, which one node may detect later than the other, or QEMU cannot listen.
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
            success: whether the guest runs on the destination. If QEMU contradicts it, nothing is changed.
            live: the value that was given to `migrate_instance`. A hypervisor that persists whether the guest ran does
                not depend on it.

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
            success: whether the guest is here. If QEMU contradicts it, nothing is changed.

        Returns:
            After a failure, the last output of QEMU here, which may be the reason; otherwise empty.

        Raises:
            NotSupported: the hypervisor does not have MIGRATION.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it is stopped, or was adopted.
            InstanceBusy: another operation holds its lock.
            MigrationError: it is not certain that exactly one guest runs.
        """
        raise NotImplementedError
