# SPDX-License-Identifier: BSD-2-Clause
"""Aborting outgoing migrations."""

from hvkit.hypervisor.errors import MigrationError, translate_errors
from hvkit.hypervisor.kvm.host.polling import poll_until
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.migration.disk_copies import cancel_copies
from hvkit.hypervisor.kvm.migration.session import ANSWER_S, CHANGE_S, POLL_S, unknown_outcome
from hvkit.hypervisor.kvm.migration.status import POSTCOPY_STATES, query_migration
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import MigrationState
from hvkit.hypervisor.model.reports import MigrationStatus
from hvkit.qmp import QmpConnection
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import MigrateCancel


class AbortVerbs(KvmSubject):
    """The verb of the capability MIGRATION that aborts a migration."""

    def abort_migration(self, name: str) -> None:
        handle = self._instances.require_managed(name)
        with (
            handle.locked(),
            translate_errors(unknown_outcome(name)),
            handle.connected(timeout_s=ANSWER_S) as monitor,
        ):
            if cancel_migration(monitor, handle.load(), handle).status is MigrationState.COMPLETED:
                raise MigrationError(name, "the migration has already completed")
            cancel_copies(monitor, handle)


def cancel_migration(monitor: QmpConnection, runtime: Runtime, handle: InstanceHandle) -> MigrationStatus:
    """Cancel an outgoing migration, and return how it ended; it may have completed. The caller holds the lock.

    QEMU would also cancel a migration in postcopy, and let the guest run on both nodes.

    Raises:
        MigrationError: it does not end, or it is in postcopy.
        QmpError: QEMU does not answer.
    """
    status = query_migration(monitor)
    if status.status in POSTCOPY_STATES or (runtime.is_postcopy and status.status is MigrationState.ACTIVE):
        problem = "the guest runs on the destination and still fetches its memory from this node"
        raise MigrationError(handle.name, problem)
    monitor.execute(MigrateCancel())

    def ended() -> MigrationStatus | None:
        status = query_migration(monitor)
        return None if status.status is MigrationState.ACTIVE else status

    final = poll_until(ended, Deadline(CHANGE_S), interval_s=POLL_S)
    if final is None:
        raise MigrationError(handle.name, f"it was cancelled but did not end within {CHANGE_S:g} s")
    return final
