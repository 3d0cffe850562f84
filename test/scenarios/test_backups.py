# SPDX-License-Identifier: BSD-2-Clause
"""Backups of disks of real QEMU instances: the contents of the files, and the state after failures and crashes."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from uuid import UUID

import pytest
from waiting import wait_for

from faults import crash_at
from hvkit.hypervisor import (
    Backup,
    BackupError,
    BackupProgress,
    Disk,
    Instance,
    InstanceState,
    InstanceStateError,
    ParameterError,
)
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.state_file import read_runtime
from hvkit.qmp.schema import (
    BlockdevDel,
    DeviceDel,
    DeviceDeletedEvent,
    HumanMonitorCommand,
    QomList,
    QueryFdsets,
    QueryJobs,
    QueryNamedBlockNodes,
    Stop,
)

MakeInstance = Callable[..., Instance]

FIRST = UUID("d15c0000-0000-4000-8000-00000000000a")
SECOND = UUID("d15c0000-0000-4000-8000-00000000000b")
SIZE = 8 << 20
CONFINED = {"security_model": "pool", "security_pool": "60000-60001", "use_chroot": True, "sandbox": "enabled"}


class Lab:
    """An instance with a qcow2 disk and a raw one, and tools to write to them and read their backups."""

    def __init__(self, kvm: KvmHypervisor, instance: Instance, directory: Path, qemu_img: str) -> None:
        self.kvm = kvm
        self.instance = instance
        self.directory = directory
        self._qemu_img = qemu_img

    def write(self, uuid: UUID, offset: int, pattern: int) -> None:
        """Write 64 KiB to a disk through its device."""
        (record,) = [disk for disk in self.instance.disks if disk.uuid == uuid]
        device = f"/machine/peripheral/disk-{record.uuid.hex[:8]}{record.uuid.hex[-8:]}/virtio-backend"
        line = f'qemu-io -d {device} "write -P {pattern} {offset} 65536"'
        with self.kvm.monitor("web1") as monitor:
            said = monitor.execute(HumanMonitorCommand(command_line=line))
        assert said == ""  # the result goes to the log of QEMU

    def image(self, name: str) -> str:
        return str(self.directory / name)

    def content(self, name: str) -> bytes:
        """Return the whole disk that a backup and its bases contain."""
        raw = self.directory / f"{name}.raw"
        subprocess.run([self._qemu_img, "convert", "-O", "raw", self.image(name), raw], check=True)
        return raw.read_bytes()

    def leftovers(self) -> tuple[list[str], list[str], list[str], int]:
        """Return the jobs and block nodes of backups, their partial files, and the number of their fd sets."""
        with self.kvm.monitor("web1") as monitor:
            jobs = [job.id for job in monitor.execute(QueryJobs())]
            nodes = [node.node_name or "" for node in monitor.execute(QueryNamedBlockNodes(flat=True))]
            sets = monitor.execute(QueryFdsets())
        return (
            jobs,
            [node for node in nodes if node.startswith("backup-")],
            [path.name for path in self.directory.glob("*.partial")],
            len([each for each in sets if any("hvkit-backup" in (fd.opaque or "") for fd in each.fds)]),
        )


NOTHING: tuple[list[str], list[str], list[str], int] = ([], [], [], 0)


@pytest.fixture
def qemu_img(unavailable: Callable[[str], NoReturn]) -> str:
    return shutil.which("qemu-img") or unavailable("qemu-img is not installed")


@pytest.fixture(params=[{}, CONFINED], ids=["open", "confined"])
def lab(
    request: pytest.FixtureRequest, kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, qemu_img: str
) -> Lab:
    subprocess.run([qemu_img, "create", "-q", "-f", "qcow2", tmp_path / "first.qcow2", str(SIZE)], check=True)
    (tmp_path / "second.raw").write_bytes(bytes(SIZE))
    disks = (
        Disk(path=str(tmp_path / "first.qcow2"), format="qcow2", uuid=FIRST),
        Disk(path=str(tmp_path / "second.raw"), uuid=SECOND),
    )
    instance = make_toy(disks=disks, parameters=request.param)
    kvm.start_instance(instance)
    directory = tmp_path / "backups"
    directory.mkdir()
    return Lab(kvm, instance, directory, qemu_img)


def disk_with(*writes: tuple[int, int]) -> bytes:
    content = bytearray(SIZE)
    for offset, pattern in writes:
        content[offset : offset + 65536] = bytes([pattern]) * 65536
    return bytes(content)


@pytest.mark.qemu
def test_full_and_incremental_backups_add_up_to_disk(lab: Lab) -> None:
    lab.write(FIRST, 0, 1)
    lab.write(SECOND, 0, 2)
    seen: list[BackupProgress] = []
    lab.kvm.backup_disks(
        "web1",
        Backup(files={FIRST: lab.image("mon-1"), SECOND: lab.image("mon-2")}, checkpoint="monday"),
        on_progress=seen.append,
        timeout=60,
    )
    assert seen[-1].done_bytes == seen[-1].total_bytes > 0
    lab.write(FIRST, 1 << 20, 3)
    (monday,) = lab.kvm.get_checkpoints("web1")
    assert (monday.name, monday.is_usable) == ("monday", True)
    assert monday.changed_bytes == {FIRST: 65536, SECOND: 0}
    tuesday = Backup(
        files={FIRST: lab.image("tue-1"), SECOND: lab.image("tue-2")},
        since="monday",
        checkpoint="tuesday",
        bases={FIRST: lab.image("mon-1"), SECOND: lab.image("mon-2")},
    )
    lab.kvm.backup_disks("web1", tuesday, timeout=60)
    lab.write(FIRST, 2 << 20, 4)
    wednesday = Backup(files={FIRST: lab.image("wed-1")}, since="tuesday", bases={FIRST: lab.image("tue-1")})
    lab.kvm.backup_disks("web1", wednesday, timeout=60)

    assert lab.content("mon-1") == disk_with((0, 1))
    assert lab.content("mon-2") == disk_with((0, 2))
    assert lab.content("tue-1") == disk_with((0, 1), (1 << 20, 3))
    assert lab.content("tue-2") == disk_with((0, 2))
    assert lab.content("wed-1") == disk_with((0, 1), (1 << 20, 3), (2 << 20, 4))
    # An incremental backup stores changed clusters only.
    assert os.stat(lab.image("tue-1")).st_blocks * 512 < 2 << 20
    assert lab.leftovers() == NOTHING
    assert {path.stat().st_mode & 0o777 for path in lab.directory.glob("???-?")} == {0o600}
    assert lab.kvm.get_instance_info("web1").state is InstanceState.RUNNING


@pytest.mark.qemu
def test_checkpoint_of_qcow2_disk_survives_restart(lab: Lab) -> None:
    lab.kvm.backup_disks("web1", Backup(files={FIRST: lab.image("1"), SECOND: lab.image("2")}, checkpoint="base"))
    lab.write(FIRST, 0, 7)
    lab.kvm.stop_instance("web1", force=True)
    lab.kvm.start_instance(lab.instance)
    (base,) = lab.kvm.get_checkpoints("web1")
    assert base.changed_bytes == {FIRST: 65536}
    with pytest.raises(BackupError, match=f"disk {SECOND} has no checkpoint 'base': make a full backup first"):
        lab.kvm.backup_disks("web1", Backup(files={SECOND: lab.image("3")}, since="base"))
    lab.kvm.drop_checkpoint("web1", "base")
    lab.kvm.drop_checkpoint("web1", "base")
    assert lab.kvm.get_checkpoints("web1") == ()


@pytest.mark.qemu
def test_checkpoint_after_kill_is_reported_unusable(lab: Lab) -> None:
    lab.kvm.backup_disks("web1", Backup(files={FIRST: lab.image("1")}, checkpoint="base"))
    lab.kvm.stop_instance("web1", force=True)
    lab.kvm.start_instance(lab.instance)
    os.kill(process_of(lab), signal.SIGKILL)
    wait_for(lambda: lab.kvm.get_instance_info("web1").state is InstanceState.CRASHED, timeout_s=10)
    lab.kvm.start_instance(lab.instance)
    (base,) = lab.kvm.get_checkpoints("web1")
    assert not base.is_usable
    with pytest.raises(BackupError, match="has a damaged checkpoint 'base'"):
        lab.kvm.backup_disks("web1", Backup(files={FIRST: lab.image("2")}, since="base"))
    lab.kvm.drop_checkpoint("web1", "base")


def process_of(lab: Lab) -> int:
    text = (lab.kvm.run_dir / "instances" / "web1" / "runtime.json").read_text()
    return int(text.split('"pid":')[1].split(",")[0].split("}")[0])


SLOW = 1 << 20


@pytest.mark.qemu
def test_backup_timeout_leaves_nothing_and_keeps_checkpoints(lab: Lab) -> None:
    lab.kvm.backup_disks("web1", Backup(files={FIRST: lab.image("1"), SECOND: lab.image("2")}, checkpoint="base"))
    lab.write(FIRST, 0, 5)
    for offset in range(0, SIZE, 65536):
        lab.write(SECOND, offset, 6)
    before = lab.kvm.get_checkpoints("web1")
    slow = Backup(
        files={FIRST: lab.image("3"), SECOND: lab.image("4")}, since="base", checkpoint="next", bytes_per_s=SLOW
    )
    with pytest.raises(BackupError, match=r"not complete after 0\.5 s"):
        lab.kvm.backup_disks("web1", slow, timeout=0.5)
    assert lab.leftovers() == NOTHING
    assert lab.kvm.get_checkpoints("web1") == before
    assert sorted(path.name for path in lab.directory.iterdir()) == ["1", "2"]


@pytest.mark.qemu
def test_interrupted_backup_leaves_nothing(lab: Lab) -> None:
    class Enough(Exception):
        pass

    def stop(_: BackupProgress) -> None:
        raise Enough

    for offset in range(0, SIZE, 65536):
        lab.write(SECOND, offset, 6)
    with pytest.raises(Enough):
        lab.kvm.backup_disks(
            "web1", Backup(files={SECOND: lab.image("1")}, checkpoint="base", bytes_per_s=SLOW), on_progress=stop
        )
    assert lab.leftovers() == NOTHING
    assert lab.kvm.get_checkpoints("web1") == ()
    assert list(lab.directory.iterdir()) == []


@pytest.mark.qemu
def test_backup_of_killed_instance_leaves_no_file(lab: Lab) -> None:
    process_id = process_of(lab)

    def kill(_: BackupProgress) -> None:
        os.kill(process_id, signal.SIGKILL)

    for offset in range(0, SIZE, 65536):
        lab.write(SECOND, offset, 6)
    with pytest.raises(BackupError) as caught:
        lab.kvm.backup_disks("web1", Backup(files={SECOND: lab.image("1")}, bytes_per_s=SLOW), on_progress=kill)
    assert caught.value.instance == "web1"
    assert list(lab.directory.iterdir()) == []


_BACK_UP = """
import sys
from uuid import UUID
from hvkit.hypervisor import Backup
from hvkit.hypervisor.kvm import KvmHypervisor
kvm = KvmHypervisor(run_dir=sys.argv[1])
backup = Backup(files={UUID(sys.argv[2]): sys.argv[3]}, checkpoint="base", bytes_per_s=1 << 20)
kvm.backup_disks("web1", backup, on_progress=lambda progress: print("going", flush=True))
"""


def _kill_during_backup(lab: Lab) -> None:
    """Begin a backup of the second disk in another process, and kill that process."""
    argv = [sys.executable, "-c", _BACK_UP, str(lab.kvm.run_dir), str(SECOND), lab.image("1")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"going\n"
        process.kill()


@pytest.mark.qemu
def test_abort_backup_removes_leftovers_of_killed_process(lab: Lab) -> None:
    for offset in range(0, SIZE, 65536):
        lab.write(SECOND, offset, 6)
    _kill_during_backup(lab)
    with pytest.raises(BackupError, match="another backup is running or was interrupted"):
        lab.kvm.backup_disks("web1", Backup(files={SECOND: lab.image("2")}))
    lab.kvm.abort_backup("web1")
    assert lab.leftovers()[:3] == NOTHING[:3]
    assert lab.kvm.get_checkpoints("web1") == ()
    lab.kvm.abort_backup("web1")
    lab.kvm.backup_disks("web1", Backup(files={SECOND: lab.image("1")}), timeout=60)
    assert lab.content("1") == disk_with(*((offset, 6) for offset in range(0, SIZE, 65536)))


@pytest.mark.qemu
def test_crash_during_backup_can_be_aborted_and_repeated_at_every_step(lab: Lab) -> None:
    lab.kvm.backup_disks("web1", Backup(files={FIRST: lab.image("1"), SECOND: lab.image("2")}, checkpoint="base"))
    lab.write(FIRST, 0, 5)
    backup = Backup(files={FIRST: lab.image("3"), SECOND: lab.image("4")}, since="base", checkpoint="next")
    for number in itertools.count(1):
        if not crash_at(number, lambda: lab.kvm.backup_disks("web1", backup, timeout=60)):
            break
        runtime = read_runtime(lab.kvm.run_dir / "instances/web1/runtime.json", "web1")
        assert runtime is not None
        if runtime.backup is None and Path(lab.image("4")).exists():
            break  # the backup was complete but for the removal of its fd sets
        lab.kvm.abort_backup("web1")
        assert lab.leftovers()[:3] == NOTHING[:3]
        assert [each.name for each in lab.kvm.get_checkpoints("web1")] == ["base"]
        for name in ("3", "4"):
            Path(lab.image(name)).unlink(missing_ok=True)
    assert number > 20
    # Another abort does not affect a complete backup.
    lab.kvm.abort_backup("web1")
    assert [each.name for each in lab.kvm.get_checkpoints("web1")] == ["base", "next"]


@pytest.mark.qemu
def test_abort_backup_of_paused_instance_keeps_complete_backup(lab: Lab) -> None:
    with lab.kvm.monitor("web1") as monitor:
        monitor.execute(Stop())
        lab.kvm.backup_disks("web1", Backup(files={FIRST: lab.image("1")}, checkpoint="base"), timeout=60)
        lab.kvm.abort_backup("web1")
    assert [each.name for each in lab.kvm.get_checkpoints("web1")] == ["base"]


@pytest.mark.qemu
def test_backup_rejects_existing_partial_file(lab: Lab) -> None:
    Path(lab.image("2.partial")).write_text("of another backup")
    with pytest.raises(BackupError, match=r"2\.partial already exists"):
        lab.kvm.backup_disks("web1", Backup(files={FIRST: lab.image("1"), SECOND: lab.image("2")}))
    assert [path.name for path in lab.directory.iterdir()] == ["2.partial"]


@pytest.mark.qemu
@pytest.mark.parametrize("then", ["abort", "start"])
def test_leftovers_of_crashed_instance_are_removed(lab: Lab, then: str) -> None:
    for offset in range(0, SIZE, 65536):
        lab.write(SECOND, offset, 6)
    _kill_during_backup(lab)
    os.kill(process_of(lab), signal.SIGKILL)
    wait_for(lambda: lab.kvm.get_instance_info("web1").state is InstanceState.CRASHED, timeout_s=10)
    assert list(lab.directory.iterdir()) != []
    if then == "abort":
        lab.kvm.abort_backup("web1")
    else:
        lab.kvm.start_instance(lab.instance)
    assert list(lab.directory.iterdir()) == []


@pytest.mark.qemu
def test_backup_of_disk_deleted_externally_names_missing_node(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    toy = make_toy(parameters={"disk_type": "scsi-hd", "scsi_controller_type": "virtio-scsi-pci"})
    kvm.start_instance(toy, start_paused=True)
    (disk,) = toy.disks
    with kvm.monitor("web1") as monitor:
        (device,) = (each.name for each in monitor.execute(QomList(path="/machine/peripheral")) if "disk" in each.name)
        with monitor.subscribe(DeviceDeletedEvent) as events:
            monitor.execute(DeviceDel(id=device))
            events.wait_for(lambda event: event.device == device, timeout=30)
        for node in monitor.execute(QueryNamedBlockNodes(flat=True)):
            monitor.execute(BlockdevDel(node_name=str(node.node_name)))
    with pytest.raises(BackupError, match=r"no block node .* another client of the monitor has removed it"):
        kvm.backup_disks("web1", Backup(files={disk.uuid: str(tmp_path / "backup")}))
    assert not (tmp_path / "backup").exists()
    assert kvm.get_instance_info("web1").state is InstanceState.PAUSED


@pytest.mark.qemu
def test_backup_of_stopped_instance_raises_state_error(lab: Lab) -> None:
    lab.kvm.stop_instance("web1", force=True)
    stopped = (
        ("cannot back up disks", lambda: lab.kvm.backup_disks("web1", Backup(files={FIRST: lab.image("1")}))),
        ("QEMU is not running", lambda: lab.kvm.get_checkpoints("web1")),
        ("cannot delete a checkpoint", lambda: lab.kvm.drop_checkpoint("web1", "base")),
    )
    for problem, verb in stopped:
        with pytest.raises(InstanceStateError, match=rf"^web1: {problem} \(it is shutdown\)$"):
            verb()
    lab.kvm.abort_backup("web1")
    assert list(lab.directory.iterdir()) == []


@pytest.mark.qemu
def test_invalid_backup_requests_create_nothing(lab: Lab) -> None:
    (lab.directory / "there").write_text("precious")
    stranger = UUID("d15c0000-0000-4000-8000-0000000000ff")
    for files, problem in (
        ({stranger: lab.image("1")}, f"the instance has no disk {stranger}"),
        ({FIRST: lab.image("there")}, "there already exists"),
        ({FIRST: lab.image("no/such/place")}, "No such file or directory"),
    ):
        with pytest.raises(BackupError, match=problem):
            lab.kvm.backup_disks("web1", Backup(files=files))
    with pytest.raises(BackupError):
        lab.kvm.backup_disks("web1", Backup(files={FIRST: lab.image("1")}, freezes=True))
    assert (lab.directory / "there").read_text() == "precious"
    assert [path.name for path in lab.directory.iterdir()] == ["there"]
    assert lab.leftovers() == NOTHING


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"files": {}}, "must contain at least one disk"),
        ({"files": {FIRST: "relative"}}, "absolute path"),
        ({"files": {"first": "/srv/1"}}, "the uuid of a disk"),
        ({"files": {FIRST: "/srv/1", SECOND: "/srv/1"}}, "two disks have the same file"),
        ({"files": {FIRST: "/srv/1"}, "checkpoint": "a:b"}, "letters, digits"),
        ({"files": {FIRST: "/srv/1"}, "bases": {FIRST: "/srv/0"}}, "only used with since"),
    ],
)
def test_backup_rejects_inconsistent_members(members: dict[str, object], problem: str) -> None:
    with pytest.raises(ParameterError, match=problem):
        Backup(**members)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.qemu
def test_abort_backup_keeps_checkpoint_of_disk_outside_backup(lab: Lab) -> None:
    lab.kvm.backup_disks("web1", Backup(files={FIRST: lab.image("first")}, checkpoint="base"), timeout=60)
    for offset in range(0, SIZE, 65536):
        lab.write(SECOND, offset, 6)
    _kill_during_backup(lab)
    lab.kvm.abort_backup("web1")
    (checkpoint,) = lab.kvm.get_checkpoints("web1")
    assert (checkpoint.name, set(checkpoint.changed_bytes)) == ("base", {FIRST})
