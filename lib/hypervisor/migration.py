# SPDX-License-Identifier: BSD-2-Clause
"""What hypervisors may be able to do to bring an instance to another node: the source's half and the destination's.

`BaseHypervisor` has these methods; a plugin that declares MIGRATION overrides all of them.
"""

from __future__ import annotations

from collections.abc import Callable

from hvkit.hypervisor.convergence import MigrationPolicy
from hvkit.hypervisor.errors import MigrationObstacle
from hvkit.hypervisor.model import Capability, DiskCopies, Instance
from hvkit.hypervisor.model.reports import DiskCopy, MigrationInfo, MigrationStatus
from hvkit.hypervisor.optional import OptionalMethods


class MigrationMethods(OptionalMethods):
    """The part of `BaseHypervisor` that is about moves to another node."""

    def migration_info(self, name: str) -> MigrationInfo:
        """Return what the destination of a migration must know of an instance that runs here. Changes nothing.

        It holds until something is plugged into the instance, taken out, or put into a drive. What was accepted by an
        older word is another machine: do not migrate to it, but accept the instance anew.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
        """
        self._lacks(Capability.MIGRATION)

    def find_migration_obstacles(self, instance: Instance, info: MigrationInfo) -> tuple[MigrationObstacle, ...]:
        """Look for all that keeps an instance from coming to this node from another one. Changes nothing.

        Without obstacles `accept_instance` can be expected to succeed; with them it raises MigrationRefused.

        Args:
            instance: what would come.
            info: what `migration_info` said on the source.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            MigrationError: `info` is of another instance, or of another version of this hypervisor.
        """
        self._lacks(Capability.MIGRATION)

    def accept_instance(
        self, instance: Instance, info: MigrationInfo, target: str | int, copies: DiskCopies | None = None
    ) -> None:
        """Make ready on the destination for an instance that is to come.

        After success it is MIGRATING here and waits for its source. After failure it is unknown here.

        Args:
            instance: what is coming.
            info: what `migration_info` said on the source.
            target: the address of this node on which to wait: ``host:port``, or the path of a unix socket; or a socket
                of this process that is connected to the source, which stays the caller's to close.
            copies: disks of this node that the source will write to, which are there and as large as the source's; None
                where both nodes reach the same ones.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceStateError: an instance of that name is here already.
            MigrationRefused: this node cannot be what the instance is on its source; carries every reason.
            MigrationError: it cannot be accepted.
        """
        self._lacks(Capability.MIGRATION)

    def copy_disks(self, name: str, copies: DiskCopies) -> None:
        """Begin to copy disks of an instance to a node that has accepted it, and return at once.

        The instance goes on as before, and what it writes is copied, too. When `get_disk_copies` says that all is
        ready, `migrate_instance` may be called; then `follow_migration` has the guest leave only when nothing is
        missing. `abort_migration` ends copies at any moment before. After failure nothing is being copied.

        Args:
            name: the instance's name.
            copies: what `accept_instance` was told.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            MigrationError: the disks cannot be copied.
        """
        self._lacks(Capability.MIGRATION)

    def get_disk_copies(self, name: str) -> tuple[DiskCopy, ...]:
        """Return how far the copies of an instance's disks are; nothing where none is being copied. Changes nothing.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            MigrationError: the hypervisor does not say.
        """
        self._lacks(Capability.MIGRATION)

    def migrate_instance(self, name: str, target: str | int, live: bool = True) -> None:
        """Begin to send an instance from here to a node that has accepted it, and return at once.

        After success it is MIGRATING; follow it with `get_migration_status`. After failure it runs here as before.

        Args:
            name: the instance's name.
            target: the address on which the destination waits; or a socket of this process that is connected to it,
                which stays the caller's to close.
            live: keep the guest running while its memory is sent.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            InstanceStateError: it is neither RUNNING nor PAUSED.
            MigrationError: the migration could not be started; its disks are not all copied yet, or are backed up.
        """
        self._lacks(Capability.MIGRATION)

    def get_migration_status(self, name: str) -> MigrationStatus:
        """Return how far a migration from here is. Changes nothing.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
        """
        self._lacks(Capability.MIGRATION)

    def follow_migration(
        self,
        name: str,
        policy: MigrationPolicy | None = None,
        on_progress: Callable[[MigrationStatus], None] | None = None,
    ) -> MigrationStatus:
        """Watch a migration from here until it is over, and see to it that it does get over.

        One whose guest has left is watched until it is PAUSED, or nothing is sent any more, too; then it is as it was.

        May be called from its begin on; it is over at once if the migration is. Nothing is finalized by it. Whoever is
        interrupted over it leaves the migration going.

        Args:
            name: the instance's name.
            policy: when to let the guest stand still for longer, and when to give the migration up; None for the
                defaults of `ConvergencePolicy`.
            on_progress: called with the status several times a second, the last one included.

        Returns:
            How it ended; where it was given up or stands still, why.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            MigrationError: the hypervisor does not say how far it is, or what is to be done to it fails.
        """
        self._lacks(Capability.MIGRATION)

    def abort_migration(self, name: str) -> None:
        """End a migration from here before it is over. Both halves are finalized afterwards, as after a failure.

        May be called from a migration's begin to its end. After success it is CANCELLED, or FAILED already. After
        failure call it again, or see what `get_migration_status` says.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            MigrationError: the instance is on the other node already, or the migration does not end.
        """
        self._lacks(Capability.MIGRATION)

    def start_postcopy(self, name: str) -> None:
        """Let the guest of a migration from here leave now, and fetch the rest of its memory afterwards.

        After success the migration becomes POSTCOPY, and there is no way back: until it is COMPLETED the guest needs
        both nodes. After failure it goes on as before.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            MigrationError: the migration is not ACTIVE, or was not begun in a way that allows for this.
        """
        self._lacks(Capability.MIGRATION)

    def pause_migration(self, name: str) -> None:
        """Break the link of a POSTCOPY migration, which nothing comes over any more; first on its destination.

        Only the destination knows whether the guest is there by then, or would be lost. After its success do the same
        on the source, which may not see that the link broke. Then the migration is PAUSED, or COMPLETED just in time.
        After failure it is as before.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            MigrationError: it is not POSTCOPY, or the guest is still arriving.
        """
        self._lacks(Capability.MIGRATION)

    def resume_migration_destination(self, name: str, target: str | int) -> None:
        """Wait on the destination for the source of a PAUSED migration, before `resume_migration_source`.

        Args:
            name: the instance's name.
            target: the address of this node on which to wait, which may be another one than before.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            MigrationError: it is not PAUSED, which this node may see later than the other, or cannot wait there.
        """
        self._lacks(Capability.MIGRATION)

    def resume_migration_source(self, name: str, target: str | int) -> None:
        """Have a PAUSED migration from here go on. After success it is POSTCOPY, after failure still PAUSED.

        Args:
            name: the instance's name.
            target: the address on which the destination waits again.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            InstanceNotFound: no instance of that name is known here.
            MigrationError: it is not PAUSED, the hypervisor refuses, or the destination is not reached.
        """
        self._lacks(Capability.MIGRATION)

    def finalize_migration_source(self, name: str, success: bool, live: bool) -> None:
        """End a migration on its source.

        After a success of the migration the instance is unknown here; after its failure it runs here as before.

        Args:
            name: the instance's name.
            success: whether it runs on the destination now.
            live: what `migrate_instance` was told.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            MigrationError: it is not certain that no guest runs twice, or that one runs at all.
        """
        self._lacks(Capability.MIGRATION)

    def finalize_migration_destination(self, instance: Instance, info: MigrationInfo, success: bool) -> str:
        """End a migration on its destination.

        After a success of the migration the instance is RUNNING here, or PAUSED if it was paused on its source; after
        its failure it is unknown here. A success may be told again, by somebody who does not know that it was.

        Returns:
            After a failure, the last that the hypervisor said here, which may be why; otherwise nothing.

        Raises:
            NotSupported: this hypervisor does not declare MIGRATION.
            MigrationError: it is not certain that no guest runs twice, or that one runs at all.
        """
        self._lacks(Capability.MIGRATION)
