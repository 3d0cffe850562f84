# SPDX-License-Identifier: BSD-2-Clause
"""A Linux guest with hot-added and removed devices that migrates with its memory."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from guest.console import GuestConsole
from guest.fixtures import MakeDiskImage, TinyGuest
from hvkit.hypervisor import Disk, Instance, InstanceState, Nic
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.model import MigrationState

pytestmark = pytest.mark.qemu

MAC = "52:54:00:12:34:56"
#: The size of random data that exists only in the memory of the guest.
KNOWN_MIB = 24


@attrs.define
class Moving:
    """An instance whose guest has booted, and the two nodes."""

    here: KvmHypervisor
    there: KvmHypervisor
    instance: Instance
    console: GuestConsole

    @property
    def name(self) -> str:
        return self.instance.name


def open_console(hypervisor: KvmHypervisor, name: str) -> GuestConsole:
    path = hypervisor.get_instance_console(name).path
    assert path is not None
    return GuestConsole(path)


@pytest.fixture(scope="module")
def moving(
    tiny_guest: TinyGuest, disk_image: MakeDiskImage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Moving]:
    directory = tmp_path_factory.mktemp("moving")
    here, there = (KvmHypervisor(run_dir=directory / name) for name in ("here", "there"))
    instance = Instance(
        name="web1",
        memory_mib=256,
        disks=(Disk(path=disk_image(size_mib=16, disk_format="qcow2"), format="qcow2"),),
        parameters=tiny_guest.parameters(migration_bandwidth=64, migration_downtime=300, migration_caps="postcopy-ram"),
    )
    here.start_instance(instance)
    console = open_console(here, instance.name)
    moving = Moving(here, there, instance, console)
    try:
        console.wait_until_ready()
        yield moving
    finally:
        moving.console.close()
        for hypervisor in (here, there):
            for name in hypervisor.list_instances():
                hypervisor.stop_instance(name, force=True)
                hypervisor.cleanup_instance(name)


def disks_of(moving: Moving) -> set[str]:
    return set(moving.console.run("ls /sys/block").split()) & {"vda", "vdb", "vdc"}


def wait_for(condition: Callable[[], bool], tries: int = 100) -> bool:
    return any(condition() for _ in range(tries))


def test_guest_sees_hot_added_and_removed_disk(moving: Moving, tmp_path: Path) -> None:
    (tmp_path / "more.img").write_bytes(bytes(1 << 20))
    disk = Disk(path=str(tmp_path / "more.img"))
    moving.here.hot_add_device(moving.name, disk)
    assert wait_for(lambda: disks_of(moving) == {"vda", "vdb"})
    moving.console.run("echo from the guest | dd of=/dev/vdb conv=fsync 2>/dev/null")
    moving.here.hot_del_device(moving.name, disk)
    assert disks_of(moving) == {"vda"}
    assert (tmp_path / "more.img").read_bytes().startswith(b"from the guest\n")


def test_guest_sees_hot_added_and_removed_nic(moving: Moving) -> None:
    nic = Nic(mac=MAC, mode="user")
    moving.here.hot_add_device(moving.name, nic)
    assert wait_for(lambda: MAC in moving.console.run("cat /sys/class/net/*/address"))
    moving.here.hot_del_device(moving.name, nic)
    assert MAC not in moving.console.run("cat /sys/class/net/*/address")


@pytest.mark.parametrize("is_postcopy", [False, True], ids=["precopy", "postcopy"])
def test_guest_migrates_with_its_memory(moving: Moving, is_postcopy: bool) -> None:
    moving.console.run(f"head -c {KNOWN_MIB << 20} /dev/urandom >/known")
    known = moving.console.run("md5sum </known")
    # The guest writes during the migration.
    moving.console.run("(while :; do date >>/written; sleep 0.1; done) >/dev/null 2>&1 & true")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{probe.getsockname()[1]}"
    info = moving.here.migration_info(moving.name)
    moving.there.accept_instance(moving.instance, info, target)
    moving.here.migrate_instance(moving.name, target)
    if is_postcopy:
        moving.here.start_postcopy(moving.name)
    status = moving.here.follow_migration(moving.name)
    assert status.status is MigrationState.COMPLETED, status
    assert status.transferred_bytes is not None
    assert status.transferred_bytes > KNOWN_MIB << 20
    assert status.downtime_ms is not None
    moving.there.finalize_migration_destination(moving.instance, info, success=True)
    moving.here.finalize_migration_source(moving.name, success=True, live=True)
    assert moving.here.list_instances() == []
    assert moving.there.get_instance_info(moving.name).state is InstanceState.RUNNING
    moving.console.close()
    moving.here, moving.there = moving.there, moving.here
    moving.console = open_console(moving.here, moving.name)
    assert moving.console.run("md5sum </known") == known
    written = int(moving.console.run("wc -l </written"))
    assert wait_for(lambda: int(moving.console.run("wc -l </written")) > written)


def test_migrated_guest_releases_disks_and_shuts_down(moving: Moving, tmp_path: Path) -> None:
    test_guest_sees_hot_added_and_removed_disk(moving, tmp_path)
    moving.here.stop_instance(moving.name, timeout=60)
    assert moving.here.get_instance_info(moving.name).reason == "guest shut down on request"
