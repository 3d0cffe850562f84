# SPDX-License-Identifier: BSD-2-Clause
"""Capabilities and limits of migrations, measured by the counters of QEMU."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import attrs
import pytest
from waiting import wait_for

from curves import Curve
from guest.console import GuestConsole
from hvkit.hypervisor import Backup, BackupProgress, Disk, Instance, InstanceState, MigrationState
from hvkit.hypervisor.convergence import ConvergencePolicy
from hvkit.hypervisor.errors import MigrationError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.probe import probe_capabilities
from hvkit.hypervisor.kvm.migration.source import TCG_TRACKING_VERSION
from hvkit.hypervisor.model.reports import MigrationInfo
from hvkit.qmp.schema import (
    Cont,
    MigrateSetCapabilities,
    MigrationCapabilityStatus,
    Pmemsave,
    QueryMigrate,
    QueryMigrateCapabilities,
    Stop,
)
from hvkit.qmp.schema import MigrationInfo as Progress
from hvkit.testing.toy_guest import GREETING, write_disk

MakeInstance = Callable[..., Instance]

pytestmark = pytest.mark.qemu

MIB = 1 << 20


@attrs.frozen
class Migration:
    """A migration from one hypervisor to another."""

    source: KvmHypervisor
    destination: KvmHypervisor
    instance: Instance
    info: MigrationInfo

    def progress(self) -> Progress:
        with self.source.monitor("web1") as monitor:
            return monitor.execute(QueryMigrate())

    def wait_for(self, condition: Callable[[Progress], bool]) -> Progress:
        return wait_for(self.progress, condition, timeout_s=60, interval_s=0.05)

    def abort(self) -> None:
        self.source.abort_migration("web1")
        self.source.finalize_migration_source("web1", success=False, live=True)
        self.destination.finalize_migration_destination(self.instance, self.info, success=False)
        assert self.source.get_instance_info("web1").state is InstanceState.RUNNING

    def finalize(self) -> None:
        self.destination.finalize_migration_destination(self.instance, self.info, success=True)
        self.source.finalize_migration_source("web1", success=True, live=True)
        assert self.destination.get_instance_info("web1").state is InstanceState.RUNNING


def enabled_capabilities(hypervisor: KvmHypervisor) -> set[str]:
    with hypervisor.monitor("web1") as monitor:
        return {each.capability for each in monitor.execute(QueryMigrateCapabilities()) if each.state}


@pytest.fixture
def qemu_img(unavailable: Callable[[str], NoReturn]) -> str:
    return shutil.which("qemu-img") or unavailable("qemu-img is not installed")


@pytest.fixture
def begin(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> Iterator[Callable[..., Migration]]:
    """Return a function that begins a migration. A busy guest writes faster than a slow link transfers."""
    destination = KvmHypervisor(run_dir=tmp_path / "other", lock_timeout_s=5.0)

    def begin(*, is_busy: bool = False, live: bool = True, is_paused_there: bool = False, **more: object) -> Migration:
        disk = Disk(path=str(write_disk(tmp_path / f"{uuid4()}.img", dirties_memory=is_busy)))
        toy = make_toy(disks=(disk,), parameters=more)
        kvm.start_instance(toy, start_paused=True)
        console = kvm.get_instance_console("web1").path
        assert console is not None
        with GuestConsole(console) as guest:
            with kvm.monitor("web1") as monitor:
                monitor.execute(Cont())
            guest.wait_for(GREETING, 60)
        info = kvm.migration_info("web1")
        target = str(tmp_path / "migration.sock")
        destination.accept_instance(toy, info, target)
        if is_paused_there:
            with destination.monitor("web1") as monitor:
                monitor.execute(Stop())
        kvm.migrate_instance("web1", target, live=live)
        return Migration(kvm, destination, toy, info)

    yield begin
    for name in destination.list_instances():
        destination.stop_instance(name, force=True)
        destination.cleanup_instance(name)


def test_multifd_transfers_memory(begin: Callable[..., Migration]) -> None:
    migration = begin(migration_bandwidth=0, migration_caps="multifd")
    assert migration.source.follow_migration("web1").status is MigrationState.COMPLETED
    ram = migration.progress().ram
    assert ram is not None
    assert ram.multifd_bytes > 0
    migration.finalize()


@pytest.fixture
def tracks_writes(qemu_binary: str) -> None:
    """Skip the test if QEMU misses guest writes under TCG."""
    if probe_capabilities(qemu_binary).version < TCG_TRACKING_VERSION:
        pytest.skip("this QEMU misses guest writes under TCG, so every migration converges")


@pytest.mark.usefixtures("tracks_writes")
def test_auto_converge_throttles_guest(begin: Callable[..., Migration]) -> None:
    migration = begin(is_busy=True, migration_bandwidth=1, migration_downtime=1, migration_caps="auto-converge")
    migration.wait_for(lambda progress: bool(progress.cpu_throttle_percentage))
    migration.abort()


@pytest.mark.usefixtures("tracks_writes")
def test_migration_bandwidth_is_not_exceeded(begin: Callable[..., Migration]) -> None:
    migration = begin(is_busy=True, migration_bandwidth=2, migration_downtime=1)
    curve = Curve()

    def has_sent_enough(progress: Progress) -> bool:
        curve.add_sample(migration.source.get_migration_status("web1"))
        return progress.ram is not None and progress.ram.transferred > 6 * MIB

    progress = migration.wait_for(has_sent_enough)
    curve.record("busy")
    assert progress.ram is not None
    assert progress.total_time is not None
    # QEMU limits the bytes of each tenth of a second, and exceeds each limit a little.
    assert progress.ram.transferred <= 2 * (2 * MIB * progress.total_time / 1000)
    migration.abort()


@pytest.mark.usefixtures("tracks_writes")
def test_migration_waits_for_allowed_downtime(begin: Callable[..., Migration]) -> None:
    migration = begin(is_busy=True, migration_bandwidth=2, migration_downtime=1)
    progress = migration.wait_for(lambda progress: progress.ram is not None and progress.ram.dirty_sync_count > 5)
    assert progress.status == "active"
    # More than the limit: the migration continues until the limit is raised.
    assert progress.expected_downtime is not None
    assert progress.expected_downtime > 1
    status = migration.source.follow_migration("web1", ConvergencePolicy(patience_s=0.1, max_downtime_ms=60_000))
    assert status.status is MigrationState.COMPLETED
    assert status.downtime_ms is not None
    migration.finalize()


#: The addresses that a busy guest writes to.
WRITTEN = range(0x10000, 0x90000, 0x1000)


def differing_pages(migration: Migration, directory: Path) -> int:
    """Return the number of pages that differ between both ends, whose guests are paused."""
    found = []
    for number, hypervisor in enumerate((migration.source, migration.destination)):
        file = directory / f"memory-{number}"
        with hypervisor.monitor("web1") as monitor:
            monitor.execute(Pmemsave(val=WRITTEN.start, size=WRITTEN.stop - WRITTEN.start, filename=str(file)))
        found.append(file.read_bytes())
    one, other = found
    assert any(one)
    return sum(one[at : at + WRITTEN.step] != other[at : at + WRITTEN.step] for at in range(0, len(one), WRITTEN.step))


@pytest.mark.parametrize("caps", ["", "multifd", "xbzrle"])
@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
def test_migration_transfers_memory_unchanged(
    begin: Callable[..., Migration], tmp_path: Path, caplog: pytest.LogCaptureFixture, live: bool, caps: str
) -> None:
    migration = begin(
        is_busy=True,
        live=live,
        is_paused_there=True,
        migration_bandwidth=0,
        migration_downtime=2000,
        migration_caps=caps,
    )
    assert migration.source.follow_migration("web1").status is MigrationState.COMPLETED
    assert migration.destination.get_instance_info("web1").state is InstanceState.PAUSED
    if "may lose guest writes" in caplog.text:  # the loss is expected
        assert live
    else:
        assert differing_pages(migration, tmp_path) == 0


def test_lost_writes_warning_is_logged_only_for_old_tcg(
    begin: Callable[..., Migration], caplog: pytest.LogCaptureFixture, qemu_binary: str
) -> None:
    migration = begin(migration_bandwidth=0)
    assert migration.source.follow_migration("web1").status is MigrationState.COMPLETED
    is_lost = probe_capabilities(qemu_binary).version < TCG_TRACKING_VERSION
    assert ("may lose guest writes" in caplog.text) is is_lost
    migration.finalize()


@pytest.mark.parametrize("caps", ["multifd", "postcopy-ram:xbzrle"])
def test_finalized_migration_resets_capabilities(begin: Callable[..., Migration], caps: str) -> None:
    migration = begin(migration_bandwidth=0, migration_caps=caps)
    assert migration.source.follow_migration("web1").status is MigrationState.COMPLETED
    assert enabled_capabilities(migration.source) >= {*caps.split(":")}
    migration.finalize()
    assert enabled_capabilities(migration.destination) == set()


def test_snapshot_after_failed_multifd_migration_succeeds(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, qemu_img: str
) -> None:
    raw, disk = write_disk(tmp_path / "raw.img"), tmp_path / "disk.qcow2"
    subprocess.run([qemu_img, "convert", "-f", "raw", "-O", "qcow2", raw, disk], check=True)
    disks = (Disk(path=str(disk), format="qcow2"),)
    kvm.start_instance(make_toy(disks=disks, parameters={"migration_caps": "multifd"}))
    kvm.migrate_instance("web1", str(tmp_path / "missing.sock"))
    assert kvm.follow_migration("web1").status is MigrationState.FAILED
    kvm.finalize_migration_source("web1", success=False, live=True)
    assert enabled_capabilities(kvm) == set()
    with kvm.monitor("web1") as monitor:  # as an interrupted migration leaves it
        multifd = MigrationCapabilityStatus(capability="multifd", state=True)
        monitor.execute(MigrateSetCapabilities(capabilities=[multifd]))
    kvm.save_snapshot("web1", "one", timeout=60)
    kvm.load_snapshot("web1", "one", timeout=60)
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING


def test_migrate_rejects_instance_with_running_backup(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    toy = make_toy()
    kvm.start_instance(toy)
    refusals = []

    def send(_: BackupProgress) -> None:
        with pytest.raises(MigrationError, match="a backup of its disks is running") as caught:
            kvm.migrate_instance("web1", str(tmp_path / "missing.sock"))
        refusals.append(caught.value)

    kvm.backup_disks("web1", Backup(files={toy.disks[0].uuid: str(tmp_path / "backup")}), on_progress=send, timeout=60)
    assert refusals
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING


def test_migration_of_chrooted_instance_rejects_unix_socket_path(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> None:
    if os.geteuid() != 0:
        unavailable("only root can give QEMU another root directory")
    toy = make_toy(parameters={"security_model": "pool", "security_pool": "60000-60001", "use_chroot": True})
    kvm.start_instance(toy)
    other = KvmHypervisor(run_dir=tmp_path / "other")
    path = str(tmp_path / "migration.sock")
    with pytest.raises(MigrationError, match=r"another root directory \(use_chroot\) and cannot reach the socket"):
        other.accept_instance(toy, kvm.migration_info("web1"), path)
    with pytest.raises(MigrationError, match="use host:port or a connected socket"):
        kvm.migrate_instance("web1", path)
    assert other.list_instances() == []
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING
