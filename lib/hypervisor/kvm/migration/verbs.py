# SPDX-License-Identifier: BSD-2-Clause
"""The part of the KVM hypervisor that moves instances to other nodes."""

from collections.abc import Callable

from hvkit.hypervisor.convergence import ConvergencePolicy, MigrationPolicy
from hvkit.hypervisor.errors import MigrationObstacle
from hvkit.hypervisor.kvm.migration.common import read_status
from hvkit.hypervisor.kvm.migration.destination import accept, finalize_destination
from hvkit.hypervisor.kvm.migration.disk_copies import begin_copies, read_copies
from hvkit.hypervisor.kvm.migration.follow import follow
from hvkit.hypervisor.kvm.migration.postcopy import pause, resume_destination, resume_source, start_postcopy
from hvkit.hypervisor.kvm.migration.preflight import examine, prepare_destination
from hvkit.hypervisor.kvm.migration.source import abort, begin, finalize_source, read_info
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.migration import MigrationMethods
from hvkit.hypervisor.model import DiskCopies, Instance, check_kind
from hvkit.hypervisor.model.reports import DiskCopy, MigrationInfo, MigrationStatus


class KvmMigration(KvmSubject, MigrationMethods):
    """Moves instances to other nodes, and takes them in."""

    def migration_info(self, name: str) -> MigrationInfo:
        """Return what the destination must know of an instance, as `BaseHypervisor.migration_info` says."""
        return read_info(self._instances.require_managed(name), self.name)

    def find_migration_obstacles(self, instance: Instance, info: MigrationInfo) -> tuple[MigrationObstacle, ...]:
        """Return all that keeps an instance from coming here, as `BaseHypervisor.find_migration_obstacles` says."""
        check_kind(instance, Instance)
        check_kind(info, MigrationInfo)
        return examine(self._with_program(instance), info, self.name, cache_dir=self._instances.find_cache_dir())[1]

    def accept_instance(
        self, instance: Instance, info: MigrationInfo, target: str | int, copies: DiskCopies | None = None
    ) -> None:
        """Make ready for an instance that is to come, as `BaseHypervisor.accept_instance` says.

        The machine is the source's, down to the slot of each device; where this node cannot be that, it is refused.
        """
        check_kind(instance, Instance)
        check_kind(info, MigrationInfo)
        handle = self._instances.handle(instance.name)
        instance = self._with_program(instance)
        preparation = prepare_destination(instance, info, self.name, cache_dir=self._instances.find_cache_dir())
        self._instances.check_no_internal_paths(instance)
        self._instances.directory.make()
        with handle.locked():
            self._instances.check_uuid_unique(instance)
            handle.reap_stopped("cannot be accepted")
            accept(self._instances, preparation, handle, target, self.name, copies)

    def copy_disks(self, name: str, copies: DiskCopies) -> None:
        """Begin to copy disks to the node that their instance will move to, as `BaseHypervisor.copy_disks` says."""
        check_kind(copies, DiskCopies)
        begin_copies(self._instances.require_managed(name), copies)

    def get_disk_copies(self, name: str) -> tuple[DiskCopy, ...]:
        """Return how far copies of disks are, as `BaseHypervisor.get_disk_copies` says."""
        return read_copies(self._instances.require_managed(name))

    def migrate_instance(self, name: str, target: str | int, live: bool = True) -> None:
        """Begin to send an instance to a node that has accepted it, as `BaseHypervisor.migrate_instance` says."""
        begin(self._instances.require_managed(name), target, live=live)

    def get_migration_status(self, name: str) -> MigrationStatus:
        """Return how far a migration from here is, as `BaseHypervisor.get_migration_status` says.

        Raises:
            MigrationError: QEMU does not say.
        """
        return read_status(self._instances.require_managed(name))

    def follow_migration(
        self,
        name: str,
        policy: MigrationPolicy | None = None,
        on_progress: Callable[[MigrationStatus], None] | None = None,
    ) -> MigrationStatus:
        """Watch a migration from here until it is over, as `BaseHypervisor.follow_migration` says."""
        return follow(self._instances.require_managed(name), policy or ConvergencePolicy(), on_progress)

    def abort_migration(self, name: str) -> None:
        """End a migration from here before it is over, as `BaseHypervisor.abort_migration` says."""
        abort(self._instances.require_managed(name))

    def start_postcopy(self, name: str) -> None:
        """Let a guest leave before its memory does, as `BaseHypervisor.start_postcopy` says.

        Both ends have the capability `postcopy-ram` for that, from the parameter `migration_caps`.
        """
        start_postcopy(self._instances.require_managed(name))

    def pause_migration(self, name: str) -> None:
        """Break the link of a guest that has left, as `BaseHypervisor.pause_migration` says."""
        pause(self._instances.require_managed(name))

    def resume_migration_destination(self, name: str, target: str | int) -> None:
        """Wait for the source on another link, as `BaseHypervisor.resume_migration_destination` says."""
        resume_destination(self._instances.require_managed(name), target)

    def resume_migration_source(self, name: str, target: str | int) -> None:
        """Go on over another link, as `BaseHypervisor.resume_migration_source` says."""
        resume_source(self._instances.require_managed(name), target)

    def finalize_migration_source(self, name: str, success: bool, live: bool) -> None:
        """End a migration on its source, as `BaseHypervisor.finalize_migration_source` says.

        Whether the guest has left is what QEMU says; where that contradicts the caller, nothing is done.
        """
        del live  # what was running before is remembered
        finalize_source(self._instances.require_managed(name), success=success)

    def finalize_migration_destination(self, instance: Instance, info: MigrationInfo, success: bool) -> str:
        """End a migration on its destination, as `BaseHypervisor.finalize_migration_destination` says.

        Whether the guest has come is what QEMU says; where that contradicts the caller, nothing is done.
        """
        check_kind(instance, Instance)
        del info  # the machine was made by it
        return finalize_destination(self._instances.require_managed(instance.name), success=success)

    # ---- what the methods have in common
