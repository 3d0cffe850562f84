# SPDX-License-Identifier: BSD-2-Clause
"""The migration capabilities of a QEMU process: switched on for a migration, and off afterwards."""

from collections.abc import Collection

from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import (
    MigrateSetCapabilities,
    MigrationCapability,
    MigrationCapabilityStatus,
    QueryMigrateCapabilities,
)


def set_migration_capabilities(monitor: QmpConnection, wanted: Collection[MigrationCapability]) -> None:
    """Switch on the given capabilities, and all others off.

    Raises:
        CommandError: QEMU refused, for example because a migration is running.
        QmpError: QEMU does not answer.
    """
    states = {each.capability: each.state for each in monitor.execute(QueryMigrateCapabilities())}
    changes = [
        MigrationCapabilityStatus(capability=each, state=each in wanted)
        for each in sorted({*states, *wanted})
        if states.get(each) is not (each in wanted)
    ]
    if changes:
        monitor.execute(MigrateSetCapabilities(capabilities=changes))


def reset_migration_capabilities(monitor: QmpConnection) -> None:
    """Switch all capabilities off.

    They also affect internal snapshots: QEMU 7.2 and 10.0 crash if a snapshot is created or loaded with "multifd" on.

    Raises:
        CommandError: QEMU refused, for example because a migration is running.
        QmpError: QEMU does not answer.
    """
    set_migration_capabilities(monitor, ())
