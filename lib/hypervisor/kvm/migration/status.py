# SPDX-License-Identifier: BSD-2-Clause
"""The status of a migration as QEMU reports it."""

from typing import Final

from hvkit.hypervisor.kvm.instance.handle import QUERY_S
from hvkit.hypervisor.kvm.migration.session import migration_monitor
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import MigrationState
from hvkit.hypervisor.model.reports import MigrationStatus
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import MigrationInfo as Progress
from hvkit.qmp.schema import QueryMigrate

#: The meaning of each status of QEMU. A status that is newer than this table counts as ACTIVE.
#: Source: QAPI module `migration`, definition `MigrationStatus`.
_STATES: Final = {
    None: MigrationState.NONE,
    "none": MigrationState.NONE,
    "postcopy-active": MigrationState.POSTCOPY,
    "postcopy-device": MigrationState.POSTCOPY,
    "postcopy-recover-setup": MigrationState.POSTCOPY,
    "postcopy-recover": MigrationState.POSTCOPY,
    "postcopy-paused": MigrationState.PAUSED,
    "completed": MigrationState.COMPLETED,
    "failed": MigrationState.FAILED,
    "cancelled": MigrationState.CANCELLED,
}

#: The guest runs on the destination, and part of its memory is still on the source.
POSTCOPY_STATES: Final = (MigrationState.POSTCOPY, MigrationState.PAUSED)


class MigrationStatusVerbs(KvmSubject):
    """The verb of the capability MIGRATION that reports the status."""

    def get_migration_status(self, name: str) -> MigrationStatus:
        with migration_monitor(self._instances.require_managed(name), timeout_s=QUERY_S) as monitor:
            return query_migration(monitor)


def query_migration(monitor: QmpConnection, *, timeout_s: float | None = None) -> MigrationStatus:
    """Return the status of a migration.

    The first reply of QEMU after the end of a migration may lack its figures, so a completed one is queried twice.

    Args:
        monitor: the monitor.
        timeout_s: seconds that QEMU has to answer; None for the default of the command.

    Raises:
        QmpError: QEMU does not answer.
    """
    progress = monitor.execute(QueryMigrate(), timeout=timeout_s)
    if progress.status == "completed":
        progress = monitor.execute(QueryMigrate(), timeout=timeout_s)
    return _to_status(progress)


def _to_status(progress: Progress) -> MigrationStatus:
    ram = progress.ram
    return MigrationStatus(
        status=_STATES.get(progress.status, MigrationState.ACTIVE),
        phase=progress.status or "",
        transferred_bytes=None if ram is None else ram.transferred,
        remaining_bytes=None if ram is None else ram.remaining,
        total_bytes=None if ram is None else ram.total,
        total_time_ms=progress.total_time,
        downtime_ms=progress.downtime,
        expected_downtime_ms=progress.expected_downtime,
        reason=progress.error_desc or "",
    )
