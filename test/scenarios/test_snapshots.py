# SPDX-License-Identifier: BSD-2-Clause
"""Internal snapshots and overlays of real QEMU instances, with crashes at every step."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from uuid import UUID

import attrs
import pytest

from faults import crash_at
from hvkit.hypervisor import BackupProgress, Disk, Instance, InstanceState, InstanceStateError, SnapshotError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.qmp.schema import HumanMonitorCommand, QueryJobs, QueryNamedBlockNodes
from hvkit.testing.toy_guest import write_disk

MakeInstance = Callable[..., Instance]

FIRST = UUID("d15c0000-0000-4000-8000-00000000000a")
SECOND = UUID("d15c0000-0000-4000-8000-00000000000b")
SIZE = 4 << 20


def qemu_io(kvm: KvmHypervisor, uuid: UUID, command: str) -> None:
    """Execute a qemu-io command on the device of a disk."""
    device = f"/machine/peripheral/disk-{uuid.hex[:8]}{uuid.hex[-8:]}/virtio-backend"
    with kvm.monitor("web1") as monitor:
        assert monitor.execute(HumanMonitorCommand(command_line=f'qemu-io -d {device} "{command}"')) == ""


@pytest.fixture
def qemu_img(unavailable: Callable[[str], NoReturn]) -> str:
    return shutil.which("qemu-img") or unavailable("qemu-img is not installed")


@pytest.fixture
def instance(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, qemu_img: str) -> Instance:
    """A running instance with two qcow2 disks."""
    for name in ("first", "second"):
        subprocess.run([qemu_img, "create", "-q", "-f", "qcow2", tmp_path / name, str(SIZE)], check=True)
    disks = (
        Disk(path=str(tmp_path / "first"), format="qcow2", uuid=FIRST),
        Disk(path=str(tmp_path / "second"), format="qcow2", uuid=SECOND),
    )
    made = make_toy(disks=disks)
    kvm.start_instance(made)
    return made


def content(qemu_img: str, path: str, format_: str) -> bytes:
    raw = Path(path).with_suffix(".raw")
    subprocess.run([qemu_img, "convert", "-f", format_, "-O", "raw", path, raw], check=True)
    try:
        return raw.read_bytes()
    finally:
        raw.unlink()


def first_bytes(kvm: KvmHypervisor, disk: Disk, qemu_img: str) -> bytes:
    """Stop the instance, and return the first two bytes of a disk."""
    kvm.stop_instance("web1", force=True)
    return content(qemu_img, disk.path, disk.format)[:2]


@pytest.mark.qemu
def test_revert_restores_disks_and_state(kvm: KvmHypervisor, instance: Instance, qemu_img: str) -> None:
    qemu_io(kvm, SECOND, "write -P 1 0 512")
    kvm.save_snapshot("web1", "before", timeout=60)
    (before,) = kvm.get_snapshots("web1")
    assert before.name == "before"
    assert before.state_bytes > 0
    qemu_io(kvm, SECOND, "write -P 2 0 512")
    kvm.save_snapshot("web1", "after", timeout=60)
    assert [each.name for each in kvm.get_snapshots("web1")] == ["before", "after"]
    kvm.load_snapshot("web1", "before", timeout=60)
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING
    kvm.delete_snapshot("web1", "after", timeout=60)
    assert [each.name for each in kvm.get_snapshots("web1")] == ["before"]
    assert first_bytes(kvm, instance.disks[1], qemu_img) == b"\1\1"


@pytest.mark.qemu
def test_snapshot_survives_restart(kvm: KvmHypervisor, instance: Instance, qemu_img: str) -> None:
    kvm.save_snapshot("web1", "kept")
    kvm.stop_instance("web1", force=True)
    kvm.start_instance(instance)
    qemu_io(kvm, FIRST, "write -P 9 0 512")
    kvm.load_snapshot("web1", "kept")
    assert first_bytes(kvm, instance.disks[0], qemu_img) == b"\0\0"


@pytest.mark.qemu
def test_invalid_snapshot_requests_are_rejected(kvm: KvmHypervisor, instance: Instance) -> None:
    kvm.save_snapshot("web1", "one")
    with pytest.raises(SnapshotError, match="there is already a snapshot 'one'"):
        kvm.save_snapshot("web1", "one")
    for act in (kvm.load_snapshot, kvm.delete_snapshot):
        with pytest.raises(SnapshotError, match="there is no snapshot 'two'"):
            act("web1", "two")
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING
    kvm.stop_instance("web1", force=True)
    stopped = (
        ("cannot create a snapshot", lambda: kvm.save_snapshot("web1", "one")),
        ("cannot revert to a snapshot", lambda: kvm.load_snapshot("web1", "one")),
        ("cannot delete a snapshot", lambda: kvm.delete_snapshot("web1", "one")),
        ("QEMU is not running", lambda: kvm.get_snapshots("web1")),
        ("cannot create overlays", lambda: kvm.add_overlays("web1", {FIRST: "/no/such/overlay"})),
        ("cannot commit overlays", lambda: kvm.merge_overlays("web1", [FIRST])),
    )
    for problem, verb in stopped:
        with pytest.raises(InstanceStateError, match=rf"^web1: {problem} \(it is shutdown\)$"):
            verb()


@pytest.mark.qemu
def test_snapshot_rejects_raw_disk(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy())
    with pytest.raises(SnapshotError, match="is raw, but only qcow2 can store snapshots"):
        kvm.save_snapshot("web1", "one")


@pytest.mark.qemu
def test_overlays_receive_writes_and_survive_restart(
    kvm: KvmHypervisor, instance: Instance, tmp_path: Path, qemu_img: str
) -> None:
    qemu_io(kvm, FIRST, "write -P 1 0 1")
    disks = kvm.add_overlays("web1", {FIRST: str(tmp_path / "over1"), SECOND: str(tmp_path / "over2")})
    assert [disk.path for disk in disks] == [str(tmp_path / "over1"), str(tmp_path / "over2")]
    qemu_io(kvm, FIRST, "write -P 2 1 1")
    disks = kvm.add_overlays("web1", {FIRST: str(tmp_path / "over3")})
    qemu_io(kvm, FIRST, "write -P 3 2 1")
    # The returned disks are those for the next start.
    kvm.stop_instance("web1", force=True)
    assert content(qemu_img, instance.disks[0].path, "qcow2")[:4] == b"\1\0\0\0"
    assert content(qemu_img, str(tmp_path / "over1"), "qcow2")[:4] == b"\1\2\0\0"
    kvm.start_instance(attrs.evolve(instance, disks=disks))
    qemu_io(kvm, FIRST, "write -P 4 3 1")
    # An instance that was started on an overlay cannot commit it.
    with pytest.raises(SnapshotError, match=f"disk {FIRST} has no overlay"):
        kvm.merge_overlays("web1", [FIRST])
    assert first_bytes(kvm, disks[0], qemu_img) == b"\1\2"


@pytest.mark.qemu
def test_overlays_are_committed_one_by_one(
    kvm: KvmHypervisor, instance: Instance, tmp_path: Path, qemu_img: str
) -> None:
    over = [str(tmp_path / f"over{number}") for number in range(2)]
    for number, path in enumerate(over):
        kvm.add_overlays("web1", {FIRST: path})
        qemu_io(kvm, FIRST, f"write -P {number + 1} {number} 1")
    seen: list[BackupProgress] = []
    disks = kvm.merge_overlays("web1", [FIRST], on_progress=seen.append, timeout=60)
    assert seen
    assert disks[0].path == over[0]
    assert not Path(over[1]).exists()
    qemu_io(kvm, FIRST, "write -P 3 2 1")
    disks = kvm.merge_overlays("web1", [FIRST], timeout=60)
    assert disks == instance.disks
    qemu_io(kvm, FIRST, "write -P 4 3 1")
    with kvm.monitor("web1") as monitor:
        assert monitor.execute(QueryJobs()) == []
        names = {node.node_name or "" for node in monitor.execute(QueryNamedBlockNodes(flat=True))}
    assert not [name for name in names if "-o" in name]
    kvm.stop_instance("web1", force=True)
    assert content(qemu_img, instance.disks[0].path, "qcow2")[:5] == b"\1\2\3\4\0"
    assert sorted(path.name for path in tmp_path.glob("over*")) == []


@pytest.mark.qemu
def test_disk_with_overlays_can_be_hot_removed(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> None:
    (tmp_path / "more").write_bytes(bytes(SIZE))
    boot, more = Disk(path=str(write_disk(tmp_path / "boot"))), Disk(path=str(tmp_path / "more"), uuid=SECOND)
    kvm.start_instance(make_toy(disks=(boot, more)))
    disks = kvm.add_overlays("web1", {SECOND: str(tmp_path / "over")})
    kvm.hot_del_device("web1", disks[1])
    with kvm.monitor("web1") as monitor:
        names = {node.node_name or "" for node in monitor.execute(QueryNamedBlockNodes(flat=True))}
    assert not [name for name in names if SECOND.hex[-8:] in name]


@pytest.mark.qemu
def test_commit_to_raw_disk_restores_its_path_and_format(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, qemu_img: str
) -> None:
    (tmp_path / "raw.img").write_bytes(bytes(SIZE))
    made = make_toy(disks=(Disk(path=str(tmp_path / "raw.img"), uuid=FIRST),))
    kvm.start_instance(made)
    kvm.add_overlays("web1", {FIRST: str(tmp_path / "over")})
    qemu_io(kvm, FIRST, "write -P 5 0 512")
    disks = kvm.merge_overlays("web1", [FIRST], timeout=60)
    assert (disks[0].path, disks[0].format) == (str(tmp_path / "raw.img"), "raw")
    kvm.stop_instance("web1", force=True)
    assert (tmp_path / "raw.img").read_bytes()[:2] == b"\5\5"


@pytest.mark.qemu
def test_failed_add_overlays_changes_nothing(kvm: KvmHypervisor, instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("precious")
    before = (kvm.run_dir / "instances" / "web1" / "runtime.json").read_bytes()
    stranger = UUID("d15c0000-0000-4000-8000-0000000000ff")
    for overlays in (
        {FIRST: str(tmp_path / "there")},
        {FIRST: str(tmp_path / "new"), SECOND: str(tmp_path / "no" / "such" / "place")},
        {stranger: str(tmp_path / "new")},
    ):
        with pytest.raises(SnapshotError):
            kvm.add_overlays("web1", overlays)
    with pytest.raises(SnapshotError):
        kvm.add_overlays("web1", {FIRST: str(tmp_path / "new")}, freezes=True)
    assert (kvm.run_dir / "instances" / "web1" / "runtime.json").read_bytes() == before
    assert (tmp_path / "there").read_text() == "precious"
    assert not os.path.lexists(tmp_path / "new")
    with kvm.monitor("web1") as monitor:
        names = {node.node_name or "" for node in monitor.execute(QueryNamedBlockNodes(flat=True))}
    assert not [name for name in names if "-o" in name]


@pytest.mark.qemu
def test_overlays_of_confined_instance_are_rejected(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> None:
    made = make_toy(parameters={"security_model": "pool", "security_pool": "60000"})
    kvm.start_instance(made)
    with pytest.raises(SnapshotError, match="confined"):
        kvm.add_overlays("web1", {made.disks[0].uuid: str(tmp_path / "over")})


def assert_nothing_is_left(kvm: KvmHypervisor, directory: Path) -> None:
    with kvm.monitor("web1") as monitor:
        assert monitor.execute(QueryJobs()) == []
        names = {node.node_name or "" for node in monitor.execute(QueryNamedBlockNodes(flat=True))}
    assert not [name for name in names if "-o" in name]
    assert sorted(path.name for path in directory.glob("over*")) == []


@pytest.mark.qemu
def test_crash_during_snapshot_does_not_prevent_next_snapshot(kvm: KvmHypervisor, instance: Instance) -> None:
    for number in itertools.count(1):
        if not crash_at(number, lambda: kvm.save_snapshot("web1", "lost")):
            break
        for tag in {"lost"} & {each.name for each in kvm.get_snapshots("web1")}:
            kvm.delete_snapshot("web1", tag)
        kvm.save_snapshot("web1", "kept")
        kvm.delete_snapshot("web1", "kept")
    assert number > 3
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING


@pytest.mark.qemu
def test_crash_during_add_overlays_leaves_all_or_none(
    kvm: KvmHypervisor, instance: Instance, tmp_path: Path, qemu_img: str
) -> None:
    overlays = {FIRST: str(tmp_path / "over1"), SECOND: str(tmp_path / "over2")}
    for number in itertools.count(1):
        has_crashed = crash_at(number, lambda: kvm.add_overlays("web1", overlays))
        qemu_io(kvm, FIRST, f"write -P {number} {number} 1")
        # After a crash at any step, the overlays can be created again.
        if has_crashed:
            assert [disk.path for disk in kvm.add_overlays("web1", overlays)] == list(overlays.values())
        qemu_io(kvm, FIRST, f"write -P {number} {number + 100} 1")
        assert kvm.merge_overlays("web1", [FIRST, SECOND], timeout=60) == instance.disks
        assert_nothing_is_left(kvm, tmp_path)
        if not has_crashed:
            break
    assert number > 10
    kvm.stop_instance("web1", force=True)
    written = bytes(range(1, number + 1))
    found = content(qemu_img, instance.disks[0].path, "qcow2")
    assert (found[1 : number + 1], found[101 : number + 101]) == (written, written)


@pytest.mark.qemu
def test_crash_during_commit_loses_no_data(
    kvm: KvmHypervisor, instance: Instance, tmp_path: Path, qemu_img: str
) -> None:
    for number in itertools.count(1):
        kvm.add_overlays("web1", {FIRST: str(tmp_path / "over")})
        qemu_io(kvm, FIRST, f"write -P {number} {number} 1")
        has_crashed = crash_at(number, lambda: kvm.merge_overlays("web1", [FIRST], timeout=60))
        qemu_io(kvm, FIRST, f"write -P {number} {number + 100} 1")
        # The next overlay is created on the image that the guest uses.
        kvm.add_overlays("web1", {FIRST: str(tmp_path / "over-next")})
        qemu_io(kvm, FIRST, f"write -P {number} {number + 200} 1")
        with contextlib.suppress(SnapshotError):  # the first overlay may already be committed
            kvm.merge_overlays("web1", [FIRST], timeout=60)
            kvm.merge_overlays("web1", [FIRST], timeout=60)
        assert_nothing_is_left(kvm, tmp_path)
        if not has_crashed:
            break
    assert number > 10
    kvm.stop_instance("web1", force=True)
    written = bytes(range(1, number + 1))
    found = content(qemu_img, instance.disks[0].path, "qcow2")
    for start in (1, 101, 201):
        assert found[start : start + number] == written
