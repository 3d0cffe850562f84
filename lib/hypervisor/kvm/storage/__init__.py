# SPDX-License-Identifier: BSD-2-Clause
"""Snapshots, overlays and backups of the disks of running instances."""

from hvkit.hypervisor.kvm.storage.backups import BackupVerbs
from hvkit.hypervisor.kvm.storage.overlays import OverlayVerbs
from hvkit.hypervisor.kvm.storage.snapshots import SnapshotVerbs
from hvkit.hypervisor.storage import StorageMethods


class KvmStorage(SnapshotVerbs, OverlayVerbs, BackupVerbs, StorageMethods):
    """All verbs that take snapshots and backups of running instances."""
