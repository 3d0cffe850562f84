# SPDX-License-Identifier: BSD-2-Clause
"""Migrations without shared storage: the disks are copied while the guest writes to them."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import attrs
import pytest
from waiting import wait_for

from hvkit.hypervisor import (
    Disk,
    DiskCopies,
    Instance,
    InstanceState,
    MigrationError,
    MigrationInfo,
    MigrationState,
    MigrationStatus,
)
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.plan.devices import disk_id
from hvkit.qmp.schema import HumanMonitorCommand
from hvkit.testing.toy_guest import write_disk

MakeInstance = Callable[..., Instance]

pytestmark = pytest.mark.qemu

DISK_BYTES = 8 << 20


@attrs.define
class Migration:
    """A migration of an instance whose disks have different files on each node."""

    source: KvmHypervisor
    destination: KvmHypervisor
    here: Instance
    there: Instance
    target: str
    copies: DiskCopies
    info: MigrationInfo | None = None

    def begin_copies(self) -> None:
        self.info = self.source.migration_info("web1")
        self.destination.accept_instance(self.there, self.info, self.target, self.copies)
        self.source.copy_disks("web1", self.copies)

    def wait_for_copies(self) -> None:
        wait_for(lambda: self.source.get_disk_copies("web1"), lambda copies: all(copy.is_ready for copy in copies))

    def write(self, number: int, offset: int) -> bytes:
        """Write 64 KiB to a disk of the source through its device, and return the byte that was written."""
        written = os.urandom(1)
        device = f"/machine/peripheral/{disk_id(self.here.disks[number].uuid)}/virtio-backend"
        command = f'qemu-io -d {device} "write -P {written[0]} {offset} 64k"'
        with self.source.monitor("web1") as monitor:
            assert not monitor.execute(HumanMonitorCommand(command_line=command))  # qemu-io prints errors only
        return written

    def finish(self, status: MigrationStatus) -> None:
        assert self.info is not None
        success = status.status is MigrationState.COMPLETED
        self.destination.finalize_migration_destination(self.there, self.info, success)
        self.source.finalize_migration_source("web1", success, live=True)
        there, other = (self.destination, self.source) if success else (self.source, self.destination)
        assert there.get_instance_info("web1").state is InstanceState.RUNNING
        assert other.list_instances() == []

    def checksums(self, instance: Instance) -> list[str]:
        return [hashlib.sha256(Path(disk.path).read_bytes()).hexdigest() for disk in instance.disks]


@pytest.fixture
def migration(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> Iterator[Migration]:
    system = write_disk(tmp_path / "here-system.img", size_bytes=DISK_BYTES)
    data = tmp_path / "here-data.img"
    data.write_bytes(os.urandom(DISK_BYTES))
    here = make_toy(disks=(Disk(path=str(system)), Disk(path=str(data))), parameters={"migration_bandwidth": 0})
    disks = []
    for disk in here.disks:
        path = Path(disk.path.replace("here-", "there-"))
        with path.open("wb") as file:
            file.truncate(DISK_BYTES)
        disks.append(attrs.evolve(disk, path=str(path)))
    there = attrs.evolve(here, disks=tuple(disks))
    kvm.start_instance(here)
    destination = KvmHypervisor(run_dir=tmp_path / "other", lock_timeout_s=5.0)
    copies = DiskCopies(target=str(tmp_path / "copies.sock"))
    yield Migration(kvm, destination, here, there, str(tmp_path / "migration.sock"), copies)
    for name in destination.list_instances():
        destination.stop_instance(name, force=True)
        destination.cleanup_instance(name)
    assert list(tmp_path.glob("*.sock")) == []


def stop(hypervisor: KvmHypervisor) -> None:
    hypervisor.stop_instance("web1", force=True)


def test_disk_copies_include_writes_during_migration(migration: Migration) -> None:
    migration.begin_copies()
    migration.write(1, 1 << 20)
    migration.wait_for_copies()
    migration.write(1, 2 << 20)
    copies = migration.source.get_disk_copies("web1")
    assert {copy.uuid for copy in copies} == {disk.uuid for disk in migration.here.disks}
    assert all(copy.copied_bytes >= DISK_BYTES for copy in copies[1:])
    migration.source.migrate_instance("web1", migration.target)
    status = migration.source.follow_migration("web1")
    assert status.status is MigrationState.COMPLETED, status
    migration.finish(status)
    before = migration.checksums(migration.here)
    assert migration.checksums(migration.there) == before
    # From now on, the guest writes to the disks of the destination only.
    migration.source, migration.here = migration.destination, migration.there
    migration.write(1, 3 << 20)
    stop(migration.destination)
    assert migration.checksums(migration.there) != before


def test_disk_copies_are_encrypted(migration: Migration, tmp_path: Path) -> None:
    (tmp_path / "keys.psk").write_text(f"qemu:{secrets.token_hex(16)}\n")
    tls = {"migration_tls": "psk", "migration_tls_dir": str(tmp_path)}
    stop(migration.source)
    migration.here = attrs.evolve(migration.here, parameters={**migration.here.parameters, **tls})
    migration.there = attrs.evolve(migration.there, parameters=migration.here.parameters)
    migration.source.start_instance(migration.here)
    migration.info = migration.source.migration_info("web1")
    migration.destination.accept_instance(migration.there, migration.info, migration.target, migration.copies)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(migration.copies.target)
        # Greeting and flags, then a request for the list of exports. QEMU requires TLS first.
        assert client.recv(18, socket.MSG_WAITALL).startswith(b"NBDMAGIC")
        client.sendall(struct.pack(">I8sII", 1, b"IHAVEOPT", 3, 0))
        _, option, reply, _ = struct.unpack(">QIII", client.recv(20, socket.MSG_WAITALL))
        assert (option, reply) == (3, 0x80000005)  # NBD_REP_ERR_TLS_REQD
    migration.source.copy_disks("web1", migration.copies)
    migration.wait_for_copies()
    migration.source.migrate_instance("web1", migration.target)
    migration.finish(migration.source.follow_migration("web1"))
    stop(migration.destination)
    assert migration.checksums(migration.there)[1] == migration.checksums(migration.here)[1]


def test_disk_copies_are_limited_to_given_disks(migration: Migration) -> None:
    system, data = migration.here.disks
    migration.copies = attrs.evolve(migration.copies, disks=(data.uuid,))
    Path(migration.there.disks[0].path).write_bytes(Path(system.path).read_bytes())
    migration.begin_copies()
    assert [copy.uuid for copy in migration.source.get_disk_copies("web1")] == [data.uuid]
    migration.wait_for_copies()
    migration.source.migrate_instance("web1", migration.target)
    migration.finish(migration.source.follow_migration("web1"))
    stop(migration.destination)
    assert migration.checksums(migration.there)[1] == migration.checksums(migration.here)[1]


def test_migrate_rejects_incomplete_disk_copies(migration: Migration) -> None:
    slow = attrs.evolve(migration.here, parameters={**migration.here.parameters, "migration_bandwidth": 1})
    stop(migration.source)
    migration.source.start_instance(slow)
    migration.begin_copies()
    with pytest.raises(MigrationError, match="its disks are not completely copied"):
        migration.source.migrate_instance("web1", migration.target)
    with pytest.raises(MigrationError, match="already being copied"):
        migration.source.copy_disks("web1", migration.copies)
    assert migration.source.get_instance_info("web1").state is InstanceState.RUNNING
    migration.source.abort_migration("web1")
    assert migration.source.get_disk_copies("web1") == ()
    assert migration.info is not None
    migration.destination.finalize_migration_destination(migration.there, migration.info, success=False)


def test_aborted_migration_ends_copies_and_can_be_repeated(migration: Migration) -> None:
    migration.begin_copies()
    migration.wait_for_copies()
    migration.source.migrate_instance("web1", migration.target)
    migration.source.abort_migration("web1")
    migration.finish(migration.source.get_migration_status("web1"))
    assert migration.source.get_disk_copies("web1") == ()
    written = migration.write(1, 1 << 20)
    migration.begin_copies()
    migration.wait_for_copies()
    migration.source.migrate_instance("web1", migration.target)
    migration.finish(migration.source.follow_migration("web1"))
    stop(migration.destination)
    assert Path(migration.there.disks[1].path).read_bytes()[1 << 20 : (1 << 20) + 4096] == written * 4096


def test_another_process_completes_abandoned_disk_copies(migration: Migration) -> None:
    migration.begin_copies()
    migration.wait_for_copies()
    migration.source.migrate_instance("web1", migration.target)
    source = migration.source
    wait_for(lambda: source.get_migration_status("web1"), lambda status: status.phase == "pre-switchover")
    again = KvmHypervisor(run_dir=migration.source.run_dir)
    status = again.follow_migration("web1")
    assert status.status is MigrationState.COMPLETED
    migration.finish(status)


def test_disk_copy_to_smaller_disk_reports_reason(migration: Migration) -> None:
    with Path(migration.there.disks[1].path).open("r+b") as file:
        file.truncate(DISK_BYTES // 2)
    migration.begin_copies()
    source = migration.source
    wait_for(lambda: source.get_disk_copies("web1"), lambda copies: any(copy.reason for copy in copies))
    with pytest.raises(MigrationError, match="its disks are not completely copied"):
        migration.source.migrate_instance("web1", migration.target)
    assert migration.source.get_instance_info("web1").state is InstanceState.RUNNING
    migration.source.abort_migration("web1")
    assert migration.source.get_disk_copies("web1") == ()
    with pytest.raises(MigrationError, match="the instance has no disk"):
        migration.source.copy_disks("web1", DiskCopies(target=migration.copies.target, disks=(uuid4(),)))
