# SPDX-License-Identifier: BSD-2-Clause
"""Postcopy migrations of a guest that does not converge, with broken and resumed links."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import attrs
import pytest
from waiting import wait_for

from hvkit.hypervisor import Disk, Instance, InstanceState, MigrationInfo, MigrationState, MigrationStatus
from hvkit.hypervisor.convergence import ConvergencePolicy, Decision, Sample
from hvkit.hypervisor.errors import MigrationError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.qmp.schema import MigrateSetParameters
from hvkit.testing.toy_guest import write_disk

MakeInstance = Callable[..., Instance]

pytestmark = pytest.mark.qemu

#: Bytes per second at which the rest of the memory takes longer than any test.
SLOW = 16 << 10


@attrs.define
class Migration:
    """A migration of a guest that writes faster than its memory is transferred."""

    source: KvmHypervisor
    destination: KvmHypervisor
    instance: Instance
    info: MigrationInfo
    directory: Path

    def wait_for(self, *states: MigrationState, node: KvmHypervisor | None = None) -> MigrationStatus:
        end = node or self.source
        return wait_for(lambda: end.get_migration_status("web1"), lambda status: status.status in states)

    def set_bandwidth(self, bytes_per_s: int) -> None:
        with self.source.monitor("web1") as monitor:
            monitor.execute(MigrateSetParameters(max_postcopy_bandwidth=bytes_per_s))

    def start_postcopy(self) -> None:
        """Start postcopy, with a slow transfer afterwards."""
        self.set_bandwidth(SLOW)
        self.source.start_postcopy("web1")
        self.wait_for(MigrationState.POSTCOPY)

    def pause(self) -> None:
        """Break the link as soon as the switchover is complete."""
        self.wait_for(MigrationState.POSTCOPY, node=self.destination)
        wait_for(lambda: self.destination.get_instance_info("web1").state is InstanceState.RUNNING)
        self.destination.pause_migration("web1")
        self.wait_for(MigrationState.PAUSED)

    def resume(self) -> None:
        target = str(self.directory / "again.sock")
        self.wait_for(MigrationState.PAUSED, node=self.destination)
        self.destination.resume_migration_destination("web1", target)
        self.source.resume_migration_source("web1", target)

    def finish(self) -> None:
        self.destination.finalize_migration_destination(self.instance, self.info, success=True)
        self.source.finalize_migration_source("web1", success=True, live=True)
        assert self.source.list_instances() == []
        assert self.destination.get_instance_info("web1").state is InstanceState.RUNNING
        assert not list(self.directory.glob("*.sock"))


@pytest.fixture
def migration(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> Iterator[Migration]:
    """A migration that does not converge: the guest writes faster than its memory is transferred."""
    disk = Disk(path=str(write_disk(tmp_path / f"{uuid4()}.img", dirties_memory=True)))
    toy = make_toy(disks=(disk,), parameters={"migration_bandwidth": 1, "migration_caps": "postcopy-ram"})
    kvm.start_instance(toy)
    destination = KvmHypervisor(run_dir=tmp_path / "other", lock_timeout_s=5.0)
    info = kvm.migration_info("web1")
    target = str(tmp_path / "first.sock")
    destination.accept_instance(toy, info, target)
    kvm.migrate_instance("web1", target)
    yield Migration(kvm, destination, toy, info, tmp_path)
    for name in destination.list_instances():
        destination.stop_instance(name, force=True)
        destination.cleanup_instance(name)


def test_policy_starts_postcopy_without_convergence(migration: Migration) -> None:
    seen: list[MigrationStatus] = []
    status = migration.source.follow_migration("web1", ConvergencePolicy(patience_s=0.5), seen.append)
    assert status.status is MigrationState.COMPLETED, status
    assert any(each.status is MigrationState.ACTIVE for each in seen)
    migration.finish()


def test_start_postcopy_completes_migration(migration: Migration) -> None:
    migration.source.start_postcopy("web1")
    migration.wait_for(MigrationState.COMPLETED)
    migration.finish()


def test_postcopy_migration_cannot_be_cancelled(migration: Migration) -> None:
    migration.start_postcopy()
    with pytest.raises(MigrationError, match="fetches its memory from this node"):
        migration.source.abort_migration("web1")
    with pytest.raises(MigrationError, match="fetches its memory from this node"):
        migration.source.finalize_migration_source("web1", success=False, live=True)
    with pytest.raises(MigrationError, match="the switchover is complete: the guest may run on this node"):
        migration.destination.finalize_migration_destination(migration.instance, migration.info, success=False)
    assert migration.source.get_instance_info("web1").state is InstanceState.MIGRATING
    migration.set_bandwidth(0)
    migration.wait_for(MigrationState.COMPLETED)
    migration.finish()


def test_broken_postcopy_link_is_resumed(migration: Migration) -> None:
    migration.start_postcopy()
    migration.pause()
    assert migration.wait_for(MigrationState.PAUSED).phase == "postcopy-paused"
    with pytest.raises(MigrationError, match="fetches its memory from this node"):
        migration.source.finalize_migration_source("web1", success=False, live=True)
    assert migration.source.follow_migration("web1").status is MigrationState.PAUSED
    migration.set_bandwidth(0)
    migration.resume()
    assert migration.source.follow_migration("web1").status is MigrationState.COMPLETED
    migration.finish()


def test_stalled_postcopy_is_reported_and_continues(migration: Migration) -> None:
    migration.start_postcopy()
    status = migration.source.follow_migration("web1", StalledPolicy(stall_s=0.3))
    assert status.status is MigrationState.POSTCOPY
    assert status.reason.startswith("nothing was sent for")
    migration.set_bandwidth(0)
    migration.wait_for(MigrationState.COMPLETED)
    migration.finish()


class StalledPolicy(ConvergencePolicy):
    """A policy that sees no transferred bytes, as over a link that drops all packets."""

    def decide_postcopy(self, samples: Sequence[Sample], downtime_ms: int) -> Decision:
        stalled = [attrs.evolve(sample, transferred_bytes=0) for sample in samples]
        return super().decide_postcopy(stalled, downtime_ms)


def test_postcopy_verbs_reject_other_phases(migration: Migration) -> None:
    source, destination = migration.source, migration.destination
    target = str(migration.directory / "again.sock")
    with pytest.raises(MigrationError, match="the switchover is not complete: the guest would be lost"):
        destination.pause_migration("web1")
    with pytest.raises(MigrationError, match="there is no postcopy link to break"):
        source.pause_migration("web1")
    with pytest.raises(MigrationError, match="there is no broken link to resume"):
        source.resume_migration_source("web1", target)
    with pytest.raises(MigrationError, match="there is no broken link to resume"):
        destination.resume_migration_destination("web1", target)
    with pytest.raises(MigrationError, match="there is no outgoing migration"):
        destination.start_postcopy("web1")
    source.abort_migration("web1")
    with pytest.raises(MigrationError, match="cannot start postcopy"):
        source.start_postcopy("web1")
    source.finalize_migration_source("web1", success=False, live=True)
    destination.finalize_migration_destination(migration.instance, migration.info, success=False)
    assert source.get_instance_info("web1").state is InstanceState.RUNNING
