# SPDX-License-Identifier: BSD-2-Clause
"""I/O limits of disks of real QEMU instances, with failures and crashes at every step."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from faults import count_commands, crash_at, fail_at
from guest.console import GuestConsole
from guest.fixtures import MakeDiskImage, TinyGuest
from hvkit.hypervisor import (
    Disk,
    DiskLimits,
    DiskRate,
    HotplugCause,
    HotplugError,
    Instance,
    InstanceStateError,
    ParameterError,
)
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.state_file import read_runtime
from hvkit.hypervisor.kvm.plan.devices import disk_id
from hvkit.qmp import ConnectionLost, QmpConnection
from hvkit.qmp.schema import BlockDeviceInfo, BlockSetIoThrottle, QueryBlock, QueryBlockstats, QueryStatus

MakeInstance = Callable[..., Instance]

pytestmark = pytest.mark.qemu

MIB = 1 << 20
SLOW = DiskLimits(write_bytes=DiskRate(MIB))
BUSY = DiskLimits(
    total_bytes=DiskRate(10 * MIB, burst_per_s=30 * MIB, burst_s=5),
    read_operations=DiskRate(100),
    write_operations=DiskRate(50, burst_per_s=50),
)


def _rate(info: BlockDeviceInfo, member: str) -> DiskRate | None:
    per_s = getattr(info, member)
    if not per_s:
        return None
    burst, burst_s = getattr(info, f"{member}_max"), getattr(info, f"{member}_max_length")
    return DiskRate(per_s, burst_per_s=burst or 0, burst_s=burst_s or 1)


def qemu_has(kvm: KvmHypervisor, disk: Disk) -> DiskLimits | None:
    """Return the limits of a disk in QEMU."""
    with kvm.monitor("web1") as monitor:
        blocks = monitor.execute(QueryBlock())
    (block,) = (each for each in blocks if each.qdev is not None and disk_id(disk.uuid) in each.qdev)
    assert block.inserted is not None
    info = block.inserted
    rates = {
        "total_bytes": _rate(info, "bps"),
        "read_bytes": _rate(info, "bps_rd"),
        "write_bytes": _rate(info, "bps_wr"),
        "total_operations": _rate(info, "iops"),
        "read_operations": _rate(info, "iops_rd"),
        "write_operations": _rate(info, "iops_wr"),
    }
    return DiskLimits(**rates) if any(rates.values()) else None


def check_agreement(kvm: KvmHypervisor, disk: Disk) -> DiskLimits | None:
    """Compare the limits of a disk in the state file with QEMU, and return them."""
    runtime = read_runtime(kvm.run_dir / "instances/web1/runtime.json", "web1")
    assert runtime is not None
    (persisted,) = (each for each in runtime.instance.disks if each.uuid == disk.uuid)
    assert not any(record.awaits_limits for record in runtime.devices)
    limits = qemu_has(kvm, disk)
    assert persisted.limits == limits
    return limits


@pytest.fixture
def more(tmp_path: Path) -> Disk:
    path = tmp_path / "more.img"
    path.write_bytes(b"")
    os.truncate(path, MIB)
    return Disk(path=str(path), limits=BUSY)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[KvmHypervisor]:
    hypervisor = KvmHypervisor(run_dir=tmp_path / "other")
    yield hypervisor
    for name in hypervisor.list_instances():
        hypervisor.stop_instance(name, force=True)
        hypervisor.cleanup_instance(name)


def limited(make_toy: MakeInstance, limits: DiskLimits | None, **members: Any) -> Instance:
    toy = make_toy(**members)
    return attrs.evolve(toy, disks=tuple(attrs.evolve(disk, limits=limits) for disk in toy.disks))


@pytest.fixture
def toy(kvm: KvmHypervisor, make_toy: MakeInstance) -> Instance:
    toy = limited(make_toy, SLOW)
    kvm.start_instance(toy)
    return toy


@pytest.mark.parametrize("machine", ["q35", "pc"])
@pytest.mark.parametrize("disk_type", ["paravirtual", "scsi-hd", "ide"])
@pytest.mark.parametrize("io_threads", [0, 1])
def test_disk_limits_hold_from_start_until_removed(
    kvm: KvmHypervisor, make_toy: MakeInstance, machine: str, disk_type: str, io_threads: int
) -> None:
    parameters: dict[str, object] = {"machine_version": machine, "disk_type": disk_type}
    parameters["scsi_controller_type"] = "virtio-scsi-pci"
    if disk_type != "ide":
        parameters["io_threads"] = io_threads
    toy = limited(make_toy, BUSY, parameters=parameters)
    kvm.start_instance(toy)
    assert check_agreement(kvm, toy.disks[0]) == BUSY
    kvm.limit_disk("web1", toy.disks[0], SLOW)
    assert check_agreement(kvm, toy.disks[0]) == SLOW
    kvm.reboot_instance("web1")
    assert check_agreement(kvm, toy.disks[0]) == SLOW
    kvm.limit_disk("web1", toy.disks[0], None)
    assert check_agreement(kvm, toy.disks[0]) is None


def test_hot_added_disk_has_its_limits(kvm: KvmHypervisor, toy: Instance, more: Disk) -> None:
    for _ in range(2):
        kvm.hot_add_device("web1", more)
        assert check_agreement(kvm, more) == BUSY
        kvm.limit_disk("web1", more, None)
        assert check_agreement(kvm, more) is None
        kvm.hot_del_device("web1", more)
    assert check_agreement(kvm, toy.disks[0]) == SLOW


def test_disk_limits_survive_migration(
    kvm: KvmHypervisor, other: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    toy = limited(make_toy, SLOW, parameters={"migration_bandwidth": 0})
    kvm.start_instance(toy)
    target = str(tmp_path / "migration.sock")
    kvm.limit_disk("web1", toy.disks[0], BUSY)
    moved = attrs.evolve(toy, disks=(attrs.evolve(toy.disks[0], limits=BUSY),))
    info = kvm.migration_info("web1")
    other.accept_instance(moved, info, target)
    kvm.migrate_instance("web1", target)
    kvm.follow_migration("web1")
    kvm.finalize_migration_source("web1", True, True)
    other.finalize_migration_destination(moved, info, True)
    with other.monitor("web1") as monitor:
        assert monitor.execute(QueryStatus()).running
    assert check_agreement(other, toy.disks[0]) == BUSY


def test_disk_limits_survive_overlays(kvm: KvmHypervisor, toy: Instance, tmp_path: Path) -> None:
    disk = toy.disks[0]
    (above,) = kvm.add_overlays("web1", {disk.uuid: str(tmp_path / "over.qcow2")})
    assert above.limits == check_agreement(kvm, disk) == SLOW
    kvm.limit_disk("web1", disk, BUSY)
    assert check_agreement(kvm, disk) == BUSY
    (below,) = kvm.merge_overlays("web1", [disk.uuid], timeout=60)
    assert below.limits == check_agreement(kvm, disk) == BUSY


def test_limit_and_resize_of_stopped_instance_raise_state_error(kvm: KvmHypervisor, toy: Instance) -> None:
    kvm.stop_instance("web1", force=True)
    with pytest.raises(InstanceStateError, match=r"^web1: cannot change the limits of a disk \(it is shutdown\)$"):
        kvm.limit_disk("web1", toy.disks[0], BUSY)
    with pytest.raises(InstanceStateError, match=r"^web1: cannot resize a disk \(it is shutdown\)$"):
        kvm.resize_disk("web1", toy.disks[0], 1 << 40)


def test_limit_disk_rejects_unknown_disk(kvm: KvmHypervisor, toy: Instance, more: Disk) -> None:
    with pytest.raises(ParameterError, match="has no disk with this uuid"):
        kvm.limit_disk("web1", more, BUSY)
    assert check_agreement(kvm, toy.disks[0]) == SLOW


def test_start_rejects_limits_on_passthrough_disk(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    with pytest.raises(ParameterError, match="scsi-block"):
        kvm.start_instance(limited(make_toy, SLOW, parameters={"disk_type": "scsi-block"}))


def test_limits_refused_by_qemu_leave_old_limits(
    kvm: KvmHypervisor, toy: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvkit.hypervisor.model.devices._MAX_RATE", 10**17)
    unspeakable = DiskLimits(write_bytes=DiskRate(10**16))
    with pytest.raises(HotplugError, match="must be within") as caught:
        kvm.limit_disk("web1", toy.disks[0], unspeakable)
    assert caught.value.cause is HotplugCause.REFUSED
    assert check_agreement(kvm, toy.disks[0]) == SLOW


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_failed_limit_command_is_reconciled_by_next_change(
    kvm: KvmHypervisor, toy: Instance, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = toy.disks[0]
    commands = count_commands(monkeypatch, lambda: kvm.limit_disk("web1", disk, BUSY))
    for number in range(1, commands + 1):
        kvm.limit_disk("web1", disk, SLOW)
        fail_at(monkeypatch, number, lambda: kvm.limit_disk("web1", disk, BUSY), after=after)
        assert qemu_has(kvm, disk) in (SLOW, BUSY)
        kvm.limit_disk("web1", disk, None)
        assert check_agreement(kvm, disk) is None


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_failed_hot_add_command_leaves_disk_with_its_limits_after_retry(
    kvm: KvmHypervisor, toy: Instance, more: Disk, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = count_commands(monkeypatch, lambda: kvm.hot_add_device("web1", more))
    for number in range(1, commands + 1):
        kvm.hot_del_device("web1", more)
        fail_at(monkeypatch, number, lambda: kvm.hot_add_device("web1", more), after=after)
        with contextlib.suppress(HotplugError):  # it was already added
            kvm.hot_add_device("web1", more)
        assert check_agreement(kvm, more) == BUSY


def test_crash_during_limit_change_is_reconciled_by_next_operation(
    kvm: KvmHypervisor, toy: Instance, more: Disk
) -> None:
    disk, found = toy.disks[0], set()
    number = 1
    while crash_at(number, lambda: kvm.limit_disk("web1", disk, BUSY)):
        number += 1
        kvm.hot_add_device("web1", more)
        kvm.hot_del_device("web1", more)
        found.add(check_agreement(kvm, disk))
        kvm.limit_disk("web1", disk, SLOW)
    assert number > 1
    assert found == {SLOW, BUSY}


def test_disk_limits_with_lost_reply_are_set(
    kvm: KvmHypervisor, toy: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = QmpConnection.execute

    def losing(self: QmpConnection, command: Any, *arguments: Any, **keywords: Any) -> Any:
        if isinstance(command, BlockSetIoThrottle) and not lost:
            lost.append(command)
            self.close()
            raise ConnectionLost("the machine", "for a test")
        return execute(self, command, *arguments, **keywords)

    lost: list[Any] = []
    monkeypatch.setattr(QmpConnection, "execute", losing)
    kvm.limit_disk("web1", toy.disks[0], BUSY)
    assert lost
    assert check_agreement(kvm, toy.disks[0]) == BUSY


def test_guest_writes_no_faster_than_limit(
    kvm: KvmHypervisor, tiny_guest: TinyGuest, disk_image: MakeDiskImage
) -> None:
    disk = Disk(path=disk_image(), limits=SLOW)
    kvm.start_instance(Instance(name="web1", memory_mib=256, disks=(disk,), parameters=tiny_guest.parameters()))
    path = kvm.get_instance_console("web1").path
    assert path is not None

    def written(monitor: QmpConnection) -> int:
        (stats,) = (each.stats for each in monitor.execute(QueryBlockstats()) if each.qdev)
        return stats.wr_bytes

    with GuestConsole(path) as console, kvm.monitor("web1") as monitor:
        console.wait_until_ready()
        before, began = written(monitor), time.monotonic()
        console.run("dd if=/dev/zero of=/dev/vda bs=64k count=64 conv=fsync 2>/dev/null")
        took_s, moved = time.monotonic() - began, written(monitor) - before
    assert moved == 4 * MIB
    # QEMU starts a request while any budget is left, so the last request can exceed the limit.
    assert moved <= MIB * (took_s + 1)
