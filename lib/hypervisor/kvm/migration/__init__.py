# SPDX-License-Identifier: BSD-2-Clause
"""Outgoing and incoming migration, copies of disks, and postcopy."""

from hvkit.hypervisor.kvm.migration.abort import AbortVerbs
from hvkit.hypervisor.kvm.migration.description import MigrationInfoVerbs
from hvkit.hypervisor.kvm.migration.destination import MigrationDestinationVerbs
from hvkit.hypervisor.kvm.migration.disk_copies import DiskCopyVerbs
from hvkit.hypervisor.kvm.migration.follow import FollowVerbs
from hvkit.hypervisor.kvm.migration.postcopy import PostcopyVerbs
from hvkit.hypervisor.kvm.migration.preflight import MigrationObstacleVerbs
from hvkit.hypervisor.kvm.migration.source import MigrationSourceVerbs
from hvkit.hypervisor.kvm.migration.status import MigrationStatusVerbs
from hvkit.hypervisor.migration import MigrationMethods


class KvmMigration(
    MigrationInfoVerbs,
    MigrationObstacleVerbs,
    MigrationDestinationVerbs,
    DiskCopyVerbs,
    MigrationSourceVerbs,
    MigrationStatusVerbs,
    FollowVerbs,
    AbortVerbs,
    PostcopyVerbs,
    MigrationMethods,
):
    """All verbs that migrate instances between nodes."""
