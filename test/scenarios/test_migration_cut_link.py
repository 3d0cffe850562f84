# SPDX-License-Identifier: BSD-2-Clause
"""Migrations between two network namespaces over a link that is cut."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import attrs
import pytest
from waiting import wait_for

from cables import Cable, connected_namespace
from curves import Curve
from hvkit.hypervisor import (
    Disk,
    DiskCopies,
    Instance,
    InstanceNotFound,
    InstanceState,
    MigrationInfo,
    MigrationState,
    MigrationStatus,
)
from hvkit.hypervisor.convergence import ConvergencePolicy
from hvkit.hypervisor.errors import MigrationError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.qmp.schema import MigrateSetParameters
from hvkit.testing.toy_guest import write_disk

MakeInstance = Callable[..., Instance]

pytestmark = pytest.mark.qemu

#: Seconds without transferred bytes after which a migration counts as stalled.
STALL_S = 1.0


@pytest.fixture
def cable(unavailable: Callable[[str], NoReturn]) -> Iterator[Cable]:
    with connected_namespace(unavailable) as cable:
        yield cable


@attrs.frozen
class Migration:
    """A migration over the link, of a guest that writes faster than its memory is transferred."""

    source: KvmHypervisor
    destination: KvmHypervisor
    instance: Instance
    info: MigrationInfo

    def wait_for(self, node: KvmHypervisor, state: MigrationState) -> None:
        wait_for(lambda: node.get_migration_status("web1"), lambda status: status.status is state)

    def states(self) -> list[InstanceState | None]:
        found: list[InstanceState | None] = []
        for node in (self.source, self.destination):
            try:
                found.append(node.get_instance_info("web1").state)
            except InstanceNotFound:
                found.append(None)
        return found


@pytest.fixture
def migration(kvm: KvmHypervisor, make_toy: MakeInstance, cable: Cable, tmp_path: Path) -> Iterator[Migration]:
    disk = Disk(path=str(write_disk(tmp_path / f"{uuid4()}.img", dirties_memory=True)))
    # So slow that the migration does not complete by itself.
    toy = make_toy(disks=(disk,), parameters={"migration_bandwidth": 1, "migration_caps": "postcopy-ram"})
    kvm.start_instance(toy)
    info = kvm.migration_info("web1")
    destination = KvmHypervisor(run_dir=tmp_path / "other", lock_timeout_s=5.0)
    cable.run_inside(lambda: destination.accept_instance(toy, info, f"{cable.far}:4444"))
    kvm.migrate_instance("web1", f"{cable.far}:4444")
    yield Migration(kvm, destination, toy, info)
    for name in destination.list_instances():
        destination.stop_instance(name, force=True)
        destination.cleanup_instance(name)


def test_abort_ends_disk_copy_over_cut_link(
    kvm: KvmHypervisor, make_toy: MakeInstance, cable: Cable, tmp_path: Path
) -> None:
    # So slow that the copy does not complete before the cut.
    toy = make_toy(parameters={"migration_bandwidth": 1})
    with Path(toy.disks[0].path).open("r+b") as file:
        file.seek(1 << 20)
        file.write(os.urandom(64 << 20))
    there = attrs.evolve(toy, disks=(attrs.evolve(toy.disks[0], path=str(tmp_path / "there.img")),))
    with Path(there.disks[0].path).open("wb") as file:
        file.truncate(65 << 20)
    kvm.start_instance(toy)
    info = kvm.migration_info("web1")
    destination = KvmHypervisor(run_dir=tmp_path / "other", lock_timeout_s=5.0)
    copies = DiskCopies(target=f"{cable.far}:4446")
    cable.run_inside(lambda: destination.accept_instance(there, info, f"{cable.far}:4444", copies))
    try:
        kvm.copy_disks("web1", copies)
        cable.drop_packets()
        kvm.abort_migration("web1")
        assert kvm.get_disk_copies("web1") == ()
        assert kvm.get_instance_info("web1").state is InstanceState.RUNNING
    finally:
        destination.finalize_migration_destination(there, info, success=False)
    kvm.stop_instance("web1", timeout=30)
    assert kvm.get_instance_info("web1").reason == "guest shut down on request"


def test_follow_migration_gives_up_over_cut_link(
    migration: Migration, cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvkit.hypervisor.kvm.migration.follow.ANSWER_S", 5.0)
    sent = 0
    curve = Curve()

    def cut_when_active(status: MigrationStatus) -> None:
        nonlocal sent
        curve.add_sample(status)
        sent = status.transferred_bytes or 0
        if sent > 1 << 20:
            cable.drop_packets()

    status = migration.source.follow_migration(
        "web1", ConvergencePolicy(stall_s=STALL_S, patience_s=60), cut_when_active
    )
    assert sent > 1 << 20
    assert status.status in (MigrationState.CANCELLED, MigrationState.FAILED)
    # If the rest fits into the socket buffer, QEMU begins the switchover, and blocks in it.
    assert re.match("aborted: (nothing was sent for|QEMU did not answer)", status.reason)
    curve.record("cut link")
    migration.source.finalize_migration_source("web1", success=False, live=True)
    migration.destination.finalize_migration_destination(migration.instance, migration.info, success=False)
    assert migration.states() == [InstanceState.RUNNING, None]


def test_postcopy_over_cut_link_resumes_over_another_link(migration: Migration, cable: Cable) -> None:
    source, destination = migration.source, migration.destination
    with source.monitor("web1") as monitor:
        monitor.execute(MigrateSetParameters(max_postcopy_bandwidth=64 << 10))
    source.start_postcopy("web1")
    migration.wait_for(source, MigrationState.POSTCOPY)
    wait_for(
        lambda: (migration.states()[1], source.get_migration_status("web1").phase),
        lambda found: found == (InstanceState.RUNNING, "postcopy-active"),
    )
    cable.set_down()
    status = source.follow_migration("web1", ConvergencePolicy(stall_s=STALL_S))
    # QEMU may detect the cut immediately, depending on what it was sending.
    if status.status is MigrationState.POSTCOPY:
        assert status.reason.startswith("nothing was sent for")
    destination.pause_migration("web1")
    if source.get_migration_status("web1").status is MigrationState.POSTCOPY:
        with contextlib.suppress(MigrationError):  # it has detected the cut in the meantime
            source.pause_migration("web1")
    migration.wait_for(destination, MigrationState.PAUSED)
    if source.get_migration_status("web1").status is MigrationState.FAILED:
        # QEMU 11.1 cannot resume over a link that it broke itself. The guest is lost, and is not resumed on the source.
        with pytest.raises(MigrationError, match="the guest may run on the destination"):
            source.finalize_migration_source("web1", success=False, live=True)
        assert migration.states()[0] is not InstanceState.RUNNING
        return
    assert source.get_migration_status("web1").status is MigrationState.PAUSED
    cable.set_up()
    with source.monitor("web1") as monitor:
        monitor.execute(MigrateSetParameters(max_postcopy_bandwidth=0))
    cable.run_inside(lambda: destination.resume_migration_destination("web1", f"{cable.far}:4445"))
    source.resume_migration_source("web1", f"{cable.far}:4445")
    assert source.follow_migration("web1").status is MigrationState.COMPLETED
    destination.finalize_migration_destination(migration.instance, migration.info, success=True)
    source.finalize_migration_source("web1", success=True, live=True)
    assert migration.states() == [None, InstanceState.RUNNING]
