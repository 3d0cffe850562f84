# SPDX-License-Identifier: BSD-2-Clause
"""Changes of media in the drives of real QEMU instances, with failures and crashes at every step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import attrs
import pytest

from faults import count_commands, crash_at, fail_at
from guest.console import ANSWER_TIMEOUT_S, GuestConsole
from guest.fixtures import TinyGuest
from hvkit.errors import ProgrammerError
from hvkit.hypervisor import (
    HotplugCause,
    HotplugError,
    Instance,
    InstanceState,
    InstanceStateError,
    MediaDrive,
    ParameterError,
)
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.state_file import read_runtime
from hvkit.qmp import CommandError, ConnectionLost, QmpConnection
from hvkit.qmp.schema import (
    BlockdevCloseTray,
    BlockdevInsertMedium,
    BlockdevRemoveMedium,
    Cont,
    DeviceTrayMovedEvent,
    QueryBlock,
    QueryFdsets,
    QueryNamedBlockNodes,
    Stop,
)

MakeInstance = Callable[..., Instance]

pytestmark = pytest.mark.qemu

IDS: Final = {MediaDrive.CDROM: "cdrom1", MediaDrive.CDROM2: "cdrom2", MediaDrive.FLOPPY: "floppy1"}
CONFINED: Final = {"security_model": "pool", "security_pool": "60000-60009", "use_chroot": True}
#: Media by their sizes in bytes.
OLD, NEW, OTHER = 4096, 8192, 16384


@pytest.fixture
def image(tmp_path: Path) -> Callable[[int], str]:
    """Return a function that makes a medium of the given size, and returns its path."""

    def make(size: int) -> str:
        path = tmp_path / f"{size}.iso"
        path.write_bytes(bytes([size % 251]) * size)
        path.chmod(0o600)
        return str(path)

    return make


def check_agreement(kvm: KvmHypervisor) -> dict[MediaDrive, int]:
    """Compare the media in the state file with QEMU, and return their sizes, 0 for an empty drive."""
    runtime = read_runtime(kvm.run_dir / "instances/web1/runtime.json", "web1")
    assert runtime is not None
    assert runtime.medium_change is None
    with kvm.monitor("web1") as monitor:
        blocks = {block.qdev: block for block in monitor.execute(QueryBlock())}
        nodes = {node.node_name for node in monitor.execute(QueryNamedBlockNodes(flat=True))}
        labels = {each.opaque for files in monitor.execute(QueryFdsets()) for each in files.fds}
    found, used = {}, set()
    for drive, drive_id in IDS.items():
        persisted = runtime.instance.parameters.get(f"{drive.value}_image_path", "")
        assert bool(persisted) is (drive_id in blocks)
        if not persisted:
            continue
        inserted = blocks[drive_id].inserted
        size = 0 if inserted is None else inserted.image.virtual_size
        assert size == (0 if persisted == "empty" else os.path.getsize(str(persisted)))
        if inserted is not None:
            used |= {inserted.node_name, str(inserted.node_name).replace("-medium", "-file")}
            assert blocks[drive_id].tray_open is not True
            assert inserted.ro
        found[drive] = size
    assert {node for node in nodes if str(node).startswith(("cdrom", "floppy"))} == used
    assert not {label for label in labels if "-medium" in str(label)}
    return found


def drives(image: Callable[[int], str], **others: object) -> dict[str, object]:
    return {
        "cdrom_disk_type": "ide",
        "scsi_controller_type": "virtio-scsi-pci",
        "cdrom_image_path": image(OLD),
        "cdrom2_image_path": image(OLD),
        "floppy_image_path": image(OLD),
        **others,
    }


@pytest.fixture
def toy(kvm: KvmHypervisor, make_toy: MakeInstance, image: Callable[[int], str]) -> Instance:
    toy = make_toy(parameters=drives(image, migration_bandwidth=0))
    kvm.start_instance(toy)
    return toy


@pytest.fixture
def other(tmp_path: Path) -> Iterator[KvmHypervisor]:
    hypervisor = KvmHypervisor(run_dir=tmp_path / "other")
    yield hypervisor
    for name in hypervisor.list_instances():
        hypervisor.stop_instance(name, force=True)
        hypervisor.cleanup_instance(name)


def migrate(kvm: KvmHypervisor, other: KvmHypervisor, instance: Instance, target: str) -> None:
    info = kvm.migration_info("web1")
    other.accept_instance(instance, info, target)
    kvm.migrate_instance("web1", target)
    kvm.follow_migration("web1")
    other.finalize_migration_destination(instance, info, True)
    kvm.finalize_migration_source("web1", True, True)
    assert other.get_instance_info("web1").state is InstanceState.RUNNING


@pytest.mark.parametrize("machine", ["q35", "pc"])
@pytest.mark.parametrize("kind", ["ide", "scsi-cd"])
@pytest.mark.parametrize("confinement", [{}, CONFINED], ids=["open", "confined"])
def test_medium_change_and_eject_update_drive_and_state_file(
    kvm: KvmHypervisor,
    make_toy: MakeInstance,
    image: Callable[[int], str],
    machine: str,
    kind: str,
    confinement: dict[str, object],
    unavailable: Callable[[str], NoReturn],
) -> None:
    if confinement and os.geteuid() != 0:
        unavailable("only root can start QEMU as another user, so confinement is NOT tested here")
    kvm.start_instance(make_toy(parameters=drives(image, machine_version=machine, cdrom_disk_type=kind, **confinement)))
    assert set(check_agreement(kvm).values()) == {OLD}
    for drive in MediaDrive:
        for size in (NEW, OTHER, OTHER, OLD, NEW):
            kvm.change_medium("web1", drive, image(size))
            assert check_agreement(kvm)[drive] == size
        kvm.eject_medium("web1", drive)
        assert check_agreement(kvm)[drive] == 0
        kvm.eject_medium("web1", drive)
        kvm.change_medium("web1", drive, image(OTHER))
        assert check_agreement(kvm)[drive] == OTHER
    kvm.reboot_instance("web1")
    assert set(check_agreement(kvm).values()) == {OTHER}


@pytest.mark.parametrize("machine", ["q35", "pc"])
@pytest.mark.parametrize("kind", ["ide", "scsi-cd"])
def test_medium_change_fills_drive_started_empty(
    kvm: KvmHypervisor, make_toy: MakeInstance, image: Callable[[int], str], machine: str, kind: str
) -> None:
    empty = {f"{drive.value}_image_path": "empty" for drive in MediaDrive}
    kvm.start_instance(make_toy(parameters=drives(image, machine_version=machine, cdrom_disk_type=kind, **empty)))
    assert check_agreement(kvm) == dict.fromkeys(MediaDrive, 0)
    for drive in MediaDrive:
        kvm.change_medium("web1", drive, image(NEW))
    assert check_agreement(kvm) == dict.fromkeys(MediaDrive, NEW)


def test_medium_change_works_on_controller_with_io_thread(
    kvm: KvmHypervisor, make_toy: MakeInstance, image: Callable[[int], str]
) -> None:
    kvm.start_instance(make_toy(parameters=drives(image, cdrom_disk_type="scsi-cd", disk_type="scsi-hd", io_threads=1)))
    kvm.change_medium("web1", MediaDrive.CDROM, image(NEW))
    kvm.eject_medium("web1", MediaDrive.CDROM2)
    kvm.change_medium("web1", MediaDrive.CDROM2, image(OTHER))
    assert check_agreement(kvm) == {MediaDrive.CDROM: NEW, MediaDrive.CDROM2: OTHER, MediaDrive.FLOPPY: OLD}


def test_migration_keeps_media_of_drives(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, image: Callable[[int], str], tmp_path: Path
) -> None:
    kvm.change_medium("web1", MediaDrive.CDROM, image(NEW))
    kvm.eject_medium("web1", MediaDrive.CDROM2)
    kvm.eject_medium("web1", MediaDrive.FLOPPY)
    migrate(kvm, other, toy, str(tmp_path / "there.sock"))  # with the instance as it was before the changes
    assert check_agreement(other) == {MediaDrive.CDROM: NEW, MediaDrive.CDROM2: 0, MediaDrive.FLOPPY: 0}
    other.change_medium("web1", MediaDrive.CDROM2, image(OTHER))
    other.eject_medium("web1", MediaDrive.CDROM)
    other.change_medium("web1", MediaDrive.FLOPPY, image(NEW))
    migrate(other, kvm, toy, str(tmp_path / "back.sock"))
    assert check_agreement(kvm) == {MediaDrive.CDROM: 0, MediaDrive.CDROM2: OTHER, MediaDrive.FLOPPY: NEW}


def test_eject_rejects_force_that_is_not_bool(kvm: KvmHypervisor, toy: Instance) -> None:
    before = check_agreement(kvm)
    with pytest.raises(ProgrammerError, match="expected bool, got 'yes'"):
        kvm.eject_medium("web1", MediaDrive.CDROM, force="yes")  # type: ignore[arg-type]
    assert check_agreement(kvm) == before


def test_medium_operations_reject_missing_or_paravirtual_drive(
    kvm: KvmHypervisor, make_toy: MakeInstance, image: Callable[[int], str]
) -> None:
    kvm.start_instance(make_toy(parameters={"cdrom_image_path": image(OLD)}))  # paravirtual, as the disks are
    problems = {
        MediaDrive.CDROM: "the medium of a paravirtual CD drive cannot be changed",
        MediaDrive.FLOPPY: "no such drive",
    }
    for drive, problem in problems.items():
        with pytest.raises(HotplugError, match=problem) as caught:
            kvm.change_medium("web1", drive, image(NEW))
        assert caught.value.cause is HotplugCause.UNFIT
        with pytest.raises(HotplugError, match=problem) as caught:
            kvm.eject_medium("web1", drive)
        assert caught.value.cause is HotplugCause.UNFIT


@pytest.mark.parametrize("bad", ["", "empty", "relative.iso", "ftp://mirror/cd.iso", "/no/such/image", "/", None, 5])
def test_change_medium_rejects_invalid_image(kvm: KvmHypervisor, toy: Instance, bad: Any) -> None:
    before = check_agreement(kvm)
    for drive in MediaDrive:
        with pytest.raises(ParameterError) as caught:
            kvm.change_medium("web1", drive, bad)
        assert caught.value.name == f"{drive.value}_image_path"
    assert check_agreement(kvm) == before


@pytest.mark.parametrize("is_empty", [False, True], ids=["full", "empty"])
def test_image_refused_by_qemu_leaves_old_medium(kvm: KvmHypervisor, toy: Instance, is_empty: bool) -> None:
    if is_empty:
        kvm.eject_medium("web1", MediaDrive.CDROM)
    before = check_agreement(kvm)
    with pytest.raises(HotplugError) as caught:  # nothing listens there, or this QEMU has no http driver
        kvm.change_medium("web1", MediaDrive.CDROM, "http://127.0.0.1:1/cd.iso")
    assert caught.value.cause is HotplugCause.REFUSED
    assert check_agreement(kvm) == before


def test_medium_operations_on_stopped_instance_raise_state_error(
    kvm: KvmHypervisor, toy: Instance, image: Callable[[int], str]
) -> None:
    kvm.stop_instance("web1", force=True)
    with pytest.raises(InstanceStateError, match="cannot change a medium"):
        kvm.change_medium("web1", MediaDrive.CDROM, image(NEW))
    with pytest.raises(InstanceStateError, match="cannot eject a medium"):
        kvm.eject_medium("web1", MediaDrive.CDROM)


@attrs.frozen
class Act:
    do: Callable[[], None]
    before: int
    after: int

    def prepare(self, kvm: KvmHypervisor, image: Callable[[int], str]) -> None:
        if self.before:
            kvm.change_medium("web1", MediaDrive.CDROM, image(self.before))
        else:
            kvm.eject_medium("web1", MediaDrive.CDROM)


@pytest.fixture(params=["change", "eject", "fill"])
def act(request: pytest.FixtureRequest, kvm: KvmHypervisor, image: Callable[[int], str]) -> Act:
    """An operation on the first drive, with its contents before and after."""
    if request.param == "eject":
        return Act(lambda: kvm.eject_medium("web1", MediaDrive.CDROM), OLD, 0)
    before = OLD if request.param == "change" else 0
    return Act(lambda: kvm.change_medium("web1", MediaDrive.CDROM, image(NEW)), before, NEW)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_failed_medium_command_leaves_old_or_new_medium(
    kvm: KvmHypervisor,
    toy: Instance,
    image: Callable[[int], str],
    act: Act,
    after: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    act.prepare(kvm, image)
    commands = count_commands(monkeypatch, act.do)
    found = set()
    for number in range(1, commands + 1):
        act.prepare(kvm, image)
        fail_at(monkeypatch, number, act.do, after=after)
        kvm.eject_medium("web1", MediaDrive.CDROM2)  # the next change of a medium reconciles it
        kvm.change_medium("web1", MediaDrive.CDROM2, image(OLD))
        found.add(check_agreement(kvm)[MediaDrive.CDROM])
        act.do()
        assert check_agreement(kvm)[MediaDrive.CDROM] == act.after
    assert found == {act.before, act.after}


def test_crash_during_medium_change_leaves_old_or_new_medium(
    kvm: KvmHypervisor, toy: Instance, image: Callable[[int], str], act: Act
) -> None:
    act.prepare(kvm, image)
    found, number = set(), 1
    while crash_at(number, act.do):
        number += 1
        described = kvm.migration_info("web1").data["media"]["cdrom_image_path"]
        assert described in ("empty", image(act.before or OTHER), image(act.after or OTHER))
        kvm.eject_medium("web1", MediaDrive.FLOPPY)
        found.add(check_agreement(kvm)[MediaDrive.CDROM])
        act.prepare(kvm, image)
    assert found == {act.before, act.after}


def test_medium_that_cannot_be_inserted_leaves_old_medium(
    kvm: KvmHypervisor, toy: Instance, image: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = QmpConnection.execute

    def refusing(self: QmpConnection, command: Any, *arguments: Any, **keywords: Any) -> Any:
        if isinstance(command, BlockdevInsertMedium) and command.node_name == "cdrom1-medium1":
            raise CommandError("blockdev-insert-medium", "GenericError", "for a test")
        return execute(self, command, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(QmpConnection, "execute", refusing)
        with pytest.raises(HotplugError, match="for a test") as caught:
            kvm.change_medium("web1", MediaDrive.CDROM, image(NEW))
    assert caught.value.cause is HotplugCause.REFUSED
    assert check_agreement(kvm)[MediaDrive.CDROM] == OLD


def test_drive_closed_by_guest_is_opened_again(
    kvm: KvmHypervisor, toy: Instance, image: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = QmpConnection.execute
    closed = set()

    def closing(self: QmpConnection, command: Any, *arguments: Any, **keywords: Any) -> Any:
        if isinstance(command, (BlockdevRemoveMedium, BlockdevInsertMedium)) and type(command) not in closed:
            closed.add(type(command))
            execute(self, BlockdevCloseTray(id=command.id))
        return execute(self, command, *arguments, **keywords)

    monkeypatch.setattr(QmpConnection, "execute", closing)
    kvm.change_medium("web1", MediaDrive.CDROM, image(NEW))
    assert closed == {BlockdevRemoveMedium, BlockdevInsertMedium}
    assert check_agreement(kvm)[MediaDrive.CDROM] == NEW


@pytest.mark.parametrize("is_executed", [False, True], ids=["command", "reply"])
def test_connection_lost_during_medium_removal_inserts_old_or_new_medium(
    kvm: KvmHypervisor, toy: Instance, image: Callable[[int], str], is_executed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = QmpConnection.execute

    def losing(self: QmpConnection, command: Any, *arguments: Any, **keywords: Any) -> Any:
        if isinstance(command, BlockdevRemoveMedium):
            if is_executed:
                execute(self, command, *arguments, **keywords)
            self.close()
            raise ConnectionLost("the machine", "for a test")
        return execute(self, command, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(QmpConnection, "execute", losing)
        if is_executed:
            kvm.change_medium("web1", MediaDrive.CDROM, image(NEW))
        else:
            with pytest.raises(HotplugError, match="for a test"):
                kvm.change_medium("web1", MediaDrive.CDROM, image(NEW))
    assert check_agreement(kvm)[MediaDrive.CDROM] == (NEW if is_executed else OLD)


def test_guest_with_locked_drive_is_asked_to_open_it(
    kvm: KvmHypervisor, tiny_guest: TinyGuest, image: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = tiny_guest.parameters(
        cdrom_image_path=image(OTHER), cdrom_disk_type="scsi-cd", scsi_controller_type="virtio-scsi-pci"
    )
    kvm.start_instance(Instance(name="web1", memory_mib=256, parameters=parameters))
    path = kvm.get_instance_console("web1").path
    assert path is not None

    def change(size: int) -> None:
        kvm.change_medium("web1", MediaDrive.CDROM, image(size))

    with GuestConsole(path) as console:
        console.wait_until_ready()
        sectors = "cat /sys/block/sr0/size"
        assert console.run(sectors) == str(OTHER // 512)
        console.run("exec 3</dev/sr0")  # this locks it
        monkeypatch.setattr("hvkit.hypervisor.kvm.devices.media._OPEN_S", 0.5)
        with pytest.raises(HotplugError, match="the guest has locked the drive") as caught:
            change(NEW)
        assert caught.value.cause is HotplugCause.GUEST_REFUSED
        with pytest.raises(HotplugError, match="the guest has locked the drive"):
            kvm.eject_medium("web1", MediaDrive.CDROM)
        assert check_agreement(kvm) == {MediaDrive.CDROM: OTHER}
        with kvm.monitor("web1") as monitor:
            monitor.execute(Stop())
        with pytest.raises(HotplugError, match="is paused") as caught:
            change(NEW)
        assert caught.value.cause is HotplugCause.GUEST_SILENT
        with kvm.monitor("web1") as monitor:
            monitor.execute(Cont())

        # A guest that handles eject requests, and kills the process that uses the medium.
        monkeypatch.setattr("hvkit.hypervisor.kvm.devices.media._OPEN_S", ANSWER_TIMEOUT_S)
        console.run("exec 3<&-; (sleep 1000 </dev/sr0 >/dev/null 2>&1 & echo $! >/run/user)")
        handler = '[ "$DISK_EJECT_REQUEST" ] && kill $(cat /run/user)'
        console.run(f"printf '%s\\n' '#!/bin/sh' '{handler}' >/run/eject; chmod 755 /run/eject")
        console.run("(uevent /run/eject >/dev/null 2>&1 &); echo 200 >/sys/block/sr0/events_poll_msecs")
        change(NEW)
        assert check_agreement(kvm) == {MediaDrive.CDROM: NEW}
        assert console.run(f"head -c 1 /dev/sr0 >/dev/null; {sectors}") == str(NEW // 512)

        console.run("exec 3</dev/sr0")
        with kvm.monitor("web1") as monitor, monitor.subscribe(DeviceTrayMovedEvent) as moves:
            kvm.eject_medium("web1", MediaDrive.CDROM, force=True)
            assert moves.get(timeout=ANSWER_TIMEOUT_S).tray_open
        assert check_agreement(kvm) == {MediaDrive.CDROM: 0}
