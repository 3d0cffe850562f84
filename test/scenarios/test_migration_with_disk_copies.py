# SPDX-License-Identifier: BSD-2-Clause
"""An instance moves to a node that does not reach its disks, and these come along, while somebody writes to them."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import attrs
import pytest

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
class Journey:
    """An instance with disks of its own on each of two nodes."""

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
        deadline_s = time.monotonic() + 30
        while not all(copy.is_ready for copy in self.source.get_disk_copies("web1")):
            assert time.monotonic() < deadline_s, self.source.get_disk_copies("web1")
            time.sleep(0.02)

    def write(self, number: int, offset: int) -> bytes:
        """Write into a disk of the source as its guest would, and return what."""
        written = os.urandom(1)
        device = f"/machine/peripheral/{disk_id(self.here.disks[number].uuid)}/virtio-backend"
        command = f'qemu-io -d {device} "write -P {written[0]} {offset} 64k"'
        with self.source.monitor("web1") as monitor:
            assert not monitor.execute(HumanMonitorCommand(command_line=command))  # it complains, or says nothing
        return written

    def finish(self, status: MigrationStatus) -> None:
        assert self.info is not None
        success = status.status is MigrationState.COMPLETED
        self.destination.finalize_migration_destination(self.there, self.info, success)
        self.source.finalize_migration_source("web1", success, live=True)
        there, gone = (self.destination, self.source) if success else (self.source, self.destination)
        assert there.get_instance_info("web1").state is InstanceState.RUNNING
        assert gone.list_instances() == []

    def checksums(self, instance: Instance) -> list[str]:
        return [hashlib.sha256(Path(disk.path).read_bytes()).hexdigest() for disk in instance.disks]


@pytest.fixture
def journey(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> Iterator[Journey]:
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
    yield Journey(kvm, destination, here, there, str(tmp_path / "migration.sock"), copies)
    for name in destination.list_instances():
        destination.stop_instance(name, force=True)
        destination.cleanup_instance(name)
    assert list(tmp_path.glob("*.sock")) == []


def stop(hypervisor: KvmHypervisor) -> None:
    hypervisor.stop_instance("web1", force=True)


def test_disk_copies_include_writes_during_migration(journey: Journey) -> None:
    journey.begin_copies()
    journey.write(1, 1 << 20)
    journey.wait_for_copies()
    journey.write(1, 2 << 20)
    copies = journey.source.get_disk_copies("web1")
    assert {copy.uuid for copy in copies} == {disk.uuid for disk in journey.here.disks}
    assert all(copy.copied_bytes >= DISK_BYTES for copy in copies[1:])
    journey.source.migrate_instance("web1", journey.target)
    status = journey.source.follow_migration("web1")
    assert status.status is MigrationState.COMPLETED, status
    journey.finish(status)
    before = journey.checksums(journey.here)
    assert journey.checksums(journey.there) == before
    # From now on the guest writes there, and nobody else does.
    journey.source, journey.here = journey.destination, journey.there
    journey.write(1, 3 << 20)
    stop(journey.destination)
    assert journey.checksums(journey.there) != before


def test_disk_copies_are_encrypted(journey: Journey, tmp_path: Path) -> None:
    (tmp_path / "keys.psk").write_text(f"qemu:{secrets.token_hex(16)}\n")
    tls = {"migration_tls": "psk", "migration_tls_dir": str(tmp_path)}
    stop(journey.source)
    journey.here = attrs.evolve(journey.here, parameters={**journey.here.parameters, **tls})
    journey.there = attrs.evolve(journey.there, parameters=journey.here.parameters)
    journey.source.start_instance(journey.here)
    journey.info = journey.source.migration_info("web1")
    journey.destination.accept_instance(journey.there, journey.info, journey.target, journey.copies)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(10)
        stranger.connect(journey.copies.target)
        # Greeting, flags; then: list the exports. QEMU wants encryption first.
        assert stranger.recv(18, socket.MSG_WAITALL).startswith(b"NBDMAGIC")
        stranger.sendall(struct.pack(">I8sII", 1, b"IHAVEOPT", 3, 0))
        _, option, reply, _ = struct.unpack(">QIII", stranger.recv(20, socket.MSG_WAITALL))
        assert (option, reply) == (3, 0x80000005)  # NBD_REP_ERR_TLS_REQD
    journey.source.copy_disks("web1", journey.copies)
    journey.wait_for_copies()
    journey.source.migrate_instance("web1", journey.target)
    journey.finish(journey.source.follow_migration("web1"))
    stop(journey.destination)
    assert journey.checksums(journey.there)[1] == journey.checksums(journey.here)[1]


def test_disk_copies_are_limited_to_given_disks(journey: Journey) -> None:
    system, data = journey.here.disks
    journey.copies = attrs.evolve(journey.copies, disks=(data.uuid,))
    Path(journey.there.disks[0].path).write_bytes(Path(system.path).read_bytes())
    journey.begin_copies()
    assert [copy.uuid for copy in journey.source.get_disk_copies("web1")] == [data.uuid]
    journey.wait_for_copies()
    journey.source.migrate_instance("web1", journey.target)
    journey.finish(journey.source.follow_migration("web1"))
    stop(journey.destination)
    assert journey.checksums(journey.there)[1] == journey.checksums(journey.here)[1]


def test_migrate_rejects_incomplete_disk_copies(journey: Journey) -> None:
    slow = attrs.evolve(journey.here, parameters={**journey.here.parameters, "migration_bandwidth": 1})
    stop(journey.source)
    journey.source.start_instance(slow)
    journey.begin_copies()
    with pytest.raises(MigrationError, match="its disks are not completely copied"):
        journey.source.migrate_instance("web1", journey.target)
    with pytest.raises(MigrationError, match="already being copied"):
        journey.source.copy_disks("web1", journey.copies)
    assert journey.source.get_instance_info("web1").state is InstanceState.RUNNING
    journey.source.abort_migration("web1")
    assert journey.source.get_disk_copies("web1") == ()
    assert journey.info is not None
    journey.destination.finalize_migration_destination(journey.there, journey.info, success=False)


def test_aborted_migration_ends_copies_and_can_be_repeated(journey: Journey) -> None:
    journey.begin_copies()
    journey.wait_for_copies()
    journey.source.migrate_instance("web1", journey.target)
    journey.source.abort_migration("web1")
    journey.finish(journey.source.get_migration_status("web1"))
    assert journey.source.get_disk_copies("web1") == ()
    written = journey.write(1, 1 << 20)
    journey.begin_copies()
    journey.wait_for_copies()
    journey.source.migrate_instance("web1", journey.target)
    journey.finish(journey.source.follow_migration("web1"))
    stop(journey.destination)
    assert Path(journey.there.disks[1].path).read_bytes()[1 << 20 : (1 << 20) + 4096] == written * 4096


def test_another_process_completes_abandoned_disk_copies(journey: Journey) -> None:
    journey.begin_copies()
    journey.wait_for_copies()
    journey.source.migrate_instance("web1", journey.target)
    deadline_s = time.monotonic() + 30
    while journey.source.get_migration_status("web1").phase != "pre-switchover":
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    again = KvmHypervisor(run_dir=journey.source.run_dir)
    status = again.follow_migration("web1")
    assert status.status is MigrationState.COMPLETED
    journey.finish(status)


def test_disk_copy_to_smaller_disk_reports_reason(journey: Journey) -> None:
    with Path(journey.there.disks[1].path).open("r+b") as file:
        file.truncate(DISK_BYTES // 2)
    journey.begin_copies()
    deadline_s = time.monotonic() + 30
    while not any(copy.reason for copy in journey.source.get_disk_copies("web1")):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    with pytest.raises(MigrationError, match="its disks are not completely copied"):
        journey.source.migrate_instance("web1", journey.target)
    assert journey.source.get_instance_info("web1").state is InstanceState.RUNNING
    journey.source.abort_migration("web1")
    assert journey.source.get_disk_copies("web1") == ()
    with pytest.raises(MigrationError, match="the instance has no disk"):
        journey.source.copy_disks("web1", DiskCopies(target=journey.copies.target, disks=(uuid4(),)))
