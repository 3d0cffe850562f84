# SPDX-License-Identifier: BSD-2-Clause
"""A guest that never stops writing leaves before its memory does, and gets the rest over whatever link there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import attrs
import pytest

from hvkit.hypervisor import Disk, Instance, InstanceState, MigrationInfo, MigrationState, MigrationStatus
from hvkit.hypervisor.convergence import ConvergencePolicy, Decision, Sample
from hvkit.hypervisor.errors import MigrationError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.qmp.schema import MigrateSetParameters
from hvkit.testing.toy_guest import write_disk

MakeInstance = Callable[..., Instance]

pytestmark = pytest.mark.qemu

#: Bytes a second over which what is left takes longer than any test.
CRAWL = 16 << 10


@attrs.define
class Journey:
    """A guest that writes faster than it is sent, and its two nodes."""

    source: KvmHypervisor
    destination: KvmHypervisor
    instance: Instance
    info: MigrationInfo
    directory: Path

    def wait_for(self, *states: MigrationState, node: KvmHypervisor | None = None) -> MigrationStatus:
        deadline_s = time.monotonic() + 30
        while (status := (node or self.source).get_migration_status("web1")).status not in states:
            assert time.monotonic() < deadline_s, status
            time.sleep(0.02)
        return status

    def set_bandwidth(self, bytes_per_s: int) -> None:
        with self.source.monitor("web1") as monitor:
            monitor.execute(MigrateSetParameters(max_postcopy_bandwidth=bytes_per_s))

    def leave(self) -> None:
        """Let the guest leave, and crawl after that."""
        self.set_bandwidth(CRAWL)
        self.source.start_postcopy("web1")
        self.wait_for(MigrationState.POSTCOPY)

    def pause(self) -> None:
        """Break the link as soon as that does not lose the guest."""
        self.wait_for(MigrationState.POSTCOPY, node=self.destination)
        deadline_s = time.monotonic() + 30
        while self.destination.get_instance_info("web1").state is not InstanceState.RUNNING:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
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
def journey(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> Iterator[Journey]:
    """A guest that is on its way and never arrives: its memory is written faster than it is sent."""
    disk = Disk(path=str(write_disk(tmp_path / f"{uuid4()}.img", dirties_memory=True)))
    toy = make_toy(disks=(disk,), parameters={"migration_bandwidth": 1, "migration_caps": "postcopy-ram"})
    kvm.start_instance(toy)
    destination = KvmHypervisor(run_dir=tmp_path / "other", lock_timeout_s=5.0)
    info = kvm.migration_info("web1")
    target = str(tmp_path / "first.sock")
    destination.accept_instance(toy, info, target)
    kvm.migrate_instance("web1", target)
    yield Journey(kvm, destination, toy, info, tmp_path)
    for name in destination.list_instances():
        destination.stop_instance(name, force=True)
        destination.cleanup_instance(name)


def test_guest_that_does_not_converge_leaves_by_the_policy(journey: Journey) -> None:
    seen: list[MigrationStatus] = []
    status = journey.source.follow_migration("web1", ConvergencePolicy(patience_s=0.5), seen.append)
    assert status.status is MigrationState.COMPLETED, status
    assert any(each.status is MigrationState.ACTIVE for each in seen)
    journey.finish()


def test_guest_leaves_when_told_to(journey: Journey) -> None:
    journey.source.start_postcopy("web1")
    journey.wait_for(MigrationState.COMPLETED)
    journey.finish()


def test_guest_that_has_left_is_not_called_back(journey: Journey) -> None:
    journey.leave()
    with pytest.raises(MigrationError, match="fetches its memory from here"):
        journey.source.abort_migration("web1")
    with pytest.raises(MigrationError, match="fetches its memory from here"):
        journey.source.finalize_migration_source("web1", success=False, live=True)
    with pytest.raises(MigrationError, match="it has come, and may run here"):
        journey.destination.finalize_migration_destination(journey.instance, journey.info, success=False)
    assert journey.source.get_instance_info("web1").state is InstanceState.MIGRATING
    journey.set_bandwidth(0)
    journey.wait_for(MigrationState.COMPLETED)
    journey.finish()


def test_broken_link_is_mended(journey: Journey) -> None:
    journey.leave()
    journey.pause()
    assert journey.wait_for(MigrationState.PAUSED).phase == "postcopy-paused"
    with pytest.raises(MigrationError, match="fetches its memory from here"):
        journey.source.finalize_migration_source("web1", success=False, live=True)
    assert journey.source.follow_migration("web1").status is MigrationState.PAUSED
    journey.set_bandwidth(0)
    journey.resume()
    assert journey.source.follow_migration("web1").status is MigrationState.COMPLETED
    journey.finish()


def test_guest_that_fetches_nothing_any_more_is_reported_and_left_alone(journey: Journey) -> None:
    journey.leave()
    status = journey.source.follow_migration("web1", Deaf(stall_s=0.3))
    assert status.status is MigrationState.POSTCOPY
    assert status.reason.startswith("nothing was sent for")
    journey.set_bandwidth(0)
    journey.wait_for(MigrationState.COMPLETED)
    journey.finish()


class Deaf(ConvergencePolicy):
    """Takes what is sent for nothing, as over a link that swallows everything."""

    def decide_postcopy(self, samples: Sequence[Sample], downtime_ms: int) -> Decision:
        deaf = [attrs.evolve(sample, transferred_bytes=0) for sample in samples]
        return super().decide_postcopy(deaf, downtime_ms)


def test_only_what_fits_is_done(journey: Journey) -> None:
    source, destination = journey.source, journey.destination
    target = str(journey.directory / "again.sock")
    with pytest.raises(MigrationError, match="its guest is still arriving"):
        destination.pause_migration("web1")
    with pytest.raises(MigrationError, match="no link that it could be broken off from"):
        source.pause_migration("web1")
    with pytest.raises(MigrationError, match="there is nothing to mend"):
        source.resume_migration_source("web1", target)
    with pytest.raises(MigrationError, match="there is nothing to mend"):
        destination.resume_migration_destination("web1", target)
    with pytest.raises(MigrationError, match="not being sent from here"):
        destination.start_postcopy("web1")
    source.abort_migration("web1")
    with pytest.raises(MigrationError, match="its guest cannot leave now"):
        source.start_postcopy("web1")
    source.finalize_migration_source("web1", success=False, live=True)
    destination.finalize_migration_destination(journey.instance, journey.info, success=False)
    assert source.get_instance_info("web1").state is InstanceState.RUNNING
