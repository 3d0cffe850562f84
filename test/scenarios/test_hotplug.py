# SPDX-License-Identifier: BSD-2-Clause
"""Hotplug of disks and NICs of real QEMU instances, with failures and crashes at every step."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from faults import count_commands, crash_at, fail_at
from hvkit.hypervisor import (
    Backup,
    BackupError,
    BackupProgress,
    Disk,
    HotplugCause,
    HotplugError,
    Instance,
    InstanceState,
    InstanceStateError,
    Nic,
    ParameterError,
)
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.network import has_interface
from hvkit.hypervisor.kvm.host.runtime import Pending
from hvkit.hypervisor.kvm.host.state_file import read_runtime
from hvkit.hypervisor.kvm.plan.devices import tap_name
from hvkit.hypervisor.model import DeviceAction, DeviceKind, HotplugDevice
from hvkit.qmp import ConnectionLost, QmpConnection
from hvkit.qmp.base import Command
from hvkit.qmp.schema import (
    Cont,
    DeviceAdd,
    DeviceDel,
    DeviceDeletedEvent,
    HumanMonitorCommand,
    QomList,
    QueryFdsets,
    QueryNamedBlockNodes,
)

MakeInstance = Callable[..., Instance]

pytestmark = pytest.mark.qemu

MAC = "52:54:00:12:34:56"


@pytest.fixture
def make_disk(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Callable[..., Disk]:
    def make(name: str = "more", kind: Any = "raw", **members: Any) -> Disk:
        path = tmp_path / f"{name}.{kind}"
        if kind == "qcow2":
            qemu_img = shutil.which("qemu-img") or unavailable("qemu-img is not installed")
            subprocess.run([qemu_img, "create", "-q", "-f", "qcow2", path, "1M"], check=True)
        else:
            path.write_bytes(b"")
            os.truncate(path, 1 << 20)
        return Disk(path=str(path), format=kind, **members)

    return make


def check_agreement(kvm: KvmHypervisor, name: str = "web1") -> set[str]:
    """Compare the state file of an instance with QEMU, and return the ids of its disks and NICs."""
    runtime = read_runtime(kvm.run_dir / "instances" / name / "runtime.json", name)
    assert runtime is not None
    with kvm.monitor(name) as monitor:
        devices = {child.name for child in monitor.execute(QomList(path="/machine/peripheral"))}
        devices = {each for each in devices if each.startswith(("disk-", "nic-"))}
        nodes = {node.node_name for node in monitor.execute(QueryNamedBlockNodes(flat=True))}
        networks = monitor.execute(HumanMonitorCommand(command_line="info network"))
    assert devices == {record.device for record in runtime.devices}
    assert [record.pending for record in runtime.devices] == [None] * len(runtime.devices)
    disks = {disk.uuid for disk in runtime.instance.disks}
    assert nodes == {node for record in runtime.devices if record.uuid in disks for node in record.backends}
    assert disks | {nic.uuid for nic in runtime.instance.nics} == {record.uuid for record in runtime.devices}
    nics = [record for record in runtime.devices if record.uuid not in disks]
    assert set(re.findall(r"[\w-]+-net(?=:)", networks)) == {backend for record in nics for backend in record.backends}
    return devices


@pytest.fixture
def toy(kvm: KvmHypervisor, make_toy: MakeInstance) -> Instance:
    toy = make_toy()
    kvm.start_instance(toy)
    return toy


@pytest.mark.parametrize("machine", ["q35", "pc"])
@pytest.mark.parametrize(("disk_type", "kind"), [("paravirtual", "raw"), ("paravirtual", "qcow2"), ("scsi-hd", "raw")])
def test_disk_hot_add_and_remove_leave_no_trace(
    kvm: KvmHypervisor,
    make_toy: MakeInstance,
    make_disk: Callable[..., Disk],
    machine: str,
    disk_type: str,
    kind: str,
) -> None:
    parameters = {"machine_version": machine, "disk_type": disk_type, "scsi_controller_type": "virtio-scsi-pci"}
    kvm.start_instance(make_toy(parameters=parameters))
    disk = make_disk(kind=kind)
    before = check_agreement(kvm)
    for _ in range(2):
        kvm.hot_add_device("web1", disk)
        assert len(check_agreement(kvm) - before) == 1
        kvm.hot_del_device("web1", disk)
        assert check_agreement(kvm) == before


def test_hot_added_device_survives_reset(kvm: KvmHypervisor, toy: Instance, make_disk: Callable[..., Disk]) -> None:
    kvm.hot_add_device("web1", make_disk())
    kvm.reboot_instance("web1")
    assert len(check_agreement(kvm)) == 2


def test_block_device_hot_add_and_remove_succeed(
    kvm: KvmHypervisor, toy: Instance, make_disk: Callable[..., Disk], unavailable: Callable[[str], NoReturn]
) -> None:
    made = subprocess.run(["losetup", "--find", "--show", make_disk().path], capture_output=True, text=True)
    if made.returncode:
        unavailable(f"no loop device, so no test of a block device: {made.stderr.strip()}")
    try:
        disk = Disk(path=made.stdout.strip())
        kvm.hot_add_device("web1", disk)
        assert len(check_agreement(kvm)) == 2
        kvm.hot_del_device("web1", disk)
    finally:
        subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


def test_user_nic_hot_add_and_remove_succeed(kvm: KvmHypervisor, toy: Instance) -> None:
    nic = Nic(mac=MAC, mode="user")
    kvm.hot_add_device("web1", nic)
    assert len(check_agreement(kvm)) == 2
    kvm.hot_del_device("web1", nic)
    assert len(check_agreement(kvm)) == 1


@pytest.fixture
def may_make_taps(unavailable: Callable[[str], NoReturn]) -> None:
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        unavailable("taps need root and /dev/net/tun, so they are NOT tested here")


@pytest.fixture
def bridge(may_make_taps: None) -> Iterator[str]:
    name = f"hvb{os.getpid() % 10**8}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", name], check=True)


@pytest.mark.parametrize("queues", [1, 2])
def test_tap_nic_hot_add_and_remove_create_and_delete_interface(
    kvm: KvmHypervisor, make_toy: MakeInstance, bridge: str, queues: int
) -> None:
    kvm.start_instance(make_toy(parameters={"virtio_net_queues": queues}))
    nic = Nic(mac=MAC, link=bridge)
    kvm.hot_add_device("web1", nic)
    assert os.listdir(f"/sys/class/net/{bridge}/brif") == [tap_name(nic)]
    assert len(check_agreement(kvm)) == 2
    kvm.hot_del_device("web1", nic)
    assert not has_interface(tap_name(nic))
    assert len(check_agreement(kvm)) == 1


def test_nic_modification_replaces_backend(kvm: KvmHypervisor, toy: Instance, bridge: str) -> None:
    nic = Nic(mac=MAC, mode="user")
    kvm.hot_add_device("web1", nic)
    changed = Nic(mac=MAC, link=bridge, uuid=nic.uuid)
    kvm.hot_mod_device("web1", changed)
    assert os.listdir(f"/sys/class/net/{bridge}/brif") == [tap_name(changed)]
    kvm.hot_mod_device("web1", changed)
    assert len(check_agreement(kvm)) == 2


def test_nic_modification_with_missing_bridge_changes_nothing(
    kvm: KvmHypervisor, toy: Instance, may_make_taps: None
) -> None:
    nic = Nic(mac=MAC, mode="user")
    kvm.hot_add_device("web1", nic)
    with pytest.raises(HotplugError, match="cannot join bridge hvnone, which does not exist; the NIC was not modified"):
        kvm.hot_mod_device("web1", Nic(mac=MAC, link="hvnone", uuid=nic.uuid))
    assert len(check_agreement(kvm)) == 2


def test_confined_instance_receives_disk_as_open_file(
    kvm: KvmHypervisor,
    make_toy: MakeInstance,
    make_disk: Callable[..., Disk],
    unavailable: Callable[[str], NoReturn],
) -> None:
    if os.geteuid() != 0:
        unavailable("only root can start QEMU as another user, so confinement is NOT tested here")
    toy = make_toy(parameters={"security_model": "pool", "security_pool": "60000-60009", "use_chroot": True})
    kvm.start_instance(toy)
    disk = make_disk(kind="qcow2")
    os.chmod(disk.path, 0o600)
    kvm.hot_add_device("web1", disk)
    assert len(check_agreement(kvm)) == 2
    kvm.hot_del_device("web1", disk)
    kvm.hot_del_device("web1", toy.disks[0])
    assert check_agreement(kvm) == set()
    with kvm.monitor("web1") as monitor:
        assert monitor.execute(QueryFdsets()) == []


def test_refused_hotplug_changes_nothing(kvm: KvmHypervisor, toy: Instance, make_disk: Callable[..., Disk]) -> None:
    before = check_agreement(kvm)
    with pytest.raises(HotplugError, match="the instance already has this device"):
        kvm.hot_add_device("web1", toy.disks[0])
    with pytest.raises(ParameterError, match="same path"):
        kvm.hot_add_device("web1", Disk(path=toy.disks[0].path))
    with pytest.raises(ParameterError, match="No such file"):
        kvm.hot_add_device("web1", Disk(path="/no/such/disk"))
    with pytest.raises(HotplugError, match="has no such device"):
        kvm.hot_del_device("web1", make_disk())
    with pytest.raises(HotplugError, match="has no such NIC"):
        kvm.hot_mod_device("web1", Nic(mac=MAC))
    with pytest.raises(HotplugError, match="a disk cannot be modified"):
        kvm.hot_mod_device("web1", toy.disks[0])
    assert check_agreement(kvm) == before


def test_hot_add_rejects_disk_locked_by_another_instance(
    kvm: KvmHypervisor, toy: Instance, make_toy: MakeInstance, make_disk: Callable[..., Disk]
) -> None:
    other = make_toy("web2")
    kvm.start_instance(other)
    with pytest.raises(HotplugError, match='Failed to get "write" lock'):
        kvm.hot_add_device("web1", Disk(path=other.disks[0].path))
    assert len(check_agreement(kvm)) == 1


def test_hot_add_without_free_pci_slot_is_rejected(
    kvm: KvmHypervisor, make_toy: MakeInstance, make_disk: Callable[..., Disk]
) -> None:
    kvm.start_instance(make_toy(parameters={"hotplug_ports": 1}))
    kvm.verify_hotplug_support("web1", DeviceAction.ADD, DeviceKind.DISK)
    kvm.hot_add_device("web1", make_disk("one"))
    with pytest.raises(HotplugError, match="no free address: all 2 PCI addresses of this q35 machine are in use"):
        kvm.hot_add_device("web1", make_disk("two"))
    with pytest.raises(HotplugError, match="no free address"):
        kvm.verify_hotplug_support("web1", DeviceAction.ADD, DeviceKind.NIC)
    kvm.verify_hotplug_support("web1", DeviceAction.REMOVE, DeviceKind.DISK)
    assert len(check_agreement(kvm)) == 2


def test_hotplug_rejects_ide_disks(kvm: KvmHypervisor, make_toy: MakeInstance, make_disk: Callable[..., Disk]) -> None:
    kvm.start_instance(make_toy(parameters={"disk_type": "ide"}))
    with pytest.raises(HotplugError, match="IDE disks cannot be hot-added or hot-removed"):
        kvm.hot_add_device("web1", make_disk())
    with pytest.raises(HotplugError, match="IDE disks cannot be hot-added or hot-removed"):
        kvm.verify_hotplug_support("web1", DeviceAction.REMOVE, DeviceKind.DISK)


def test_hotplug_on_stopped_instance_raises_state_error(
    kvm: KvmHypervisor, toy: Instance, make_disk: Callable[..., Disk]
) -> None:
    kvm.stop_instance("web1", force=True)
    with pytest.raises(InstanceStateError, match="cannot hot-add a device"):
        kvm.hot_add_device("web1", make_disk())
    with pytest.raises(InstanceStateError, match="cannot hot-remove a device"):
        kvm.hot_del_device("web1", toy.disks[0])
    with pytest.raises(InstanceStateError, match="cannot modify a device"):
        kvm.hot_mod_device("web1", Nic(mac=MAC))
    for action in DeviceAction:
        for kind in DeviceKind:
            with pytest.raises(InstanceStateError, match=r"web1: cannot change devices \(it is shutdown\)"):
                kvm.verify_hotplug_support("web1", action, kind)


def test_cd_drives_reduce_free_scsi_places(
    kvm: KvmHypervisor, make_toy: MakeInstance, make_disk: Callable[..., Disk]
) -> None:
    drives = {"cdrom_image_path": "empty", "cdrom2_image_path": "empty"}
    kvm.start_instance(make_toy(parameters={"disk_type": "scsi-hd", "scsi_controller_type": "lsi", **drives}))
    for number in range(4):  # in addition to the first disk and the two drives
        kvm.hot_add_device("web1", make_disk(str(number)))
    with pytest.raises(HotplugError, match="no free address: all 7 SCSI addresses") as caught:
        kvm.verify_hotplug_support("web1", DeviceAction.ADD, DeviceKind.DISK)
    assert caught.value.cause is HotplugCause.UNFIT
    with pytest.raises(HotplugError, match="no free address: all 7 SCSI addresses"):
        kvm.hot_add_device("web1", make_disk("more"))
    assert len(check_agreement(kvm)) == 5


def test_hot_remove_after_late_release_succeeds(
    kvm: KvmHypervisor, toy: Instance, make_disk: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvkit.hypervisor.kvm.devices.hotplug.RELEASE_S", 0.2)
    disk = make_disk()
    kvm.hot_add_device("web1", disk)
    with kvm.monitor("web1") as monitor:
        monitor.execute("stop")
    with pytest.raises(HotplugError, match="did not release"):
        kvm.hot_del_device("web1", disk)
    with kvm.monitor("web1") as monitor, monitor.subscribe(DeviceDeletedEvent) as events:
        monitor.execute(Cont())
        events.get(timeout=30)
    kvm.hot_del_device("web1", disk)
    assert len(check_agreement(kvm)) == 1
    with pytest.raises(HotplugError, match="has no such device"):
        kvm.hot_del_device("web1", disk)


def test_hot_remove_rejects_disk_used_by_backup(
    kvm: KvmHypervisor, make_toy: MakeInstance, make_disk: Callable[..., Disk], tmp_path: Path
) -> None:
    # A SCSI disk is removed without asking the guest.
    kvm.start_instance(make_toy(parameters={"disk_type": "scsi-hd", "scsi_controller_type": "virtio-scsi-pci"}))
    disk = make_disk()
    Path(disk.path).write_bytes(os.urandom(8 << 20))  # QEMU copies the first part immediately
    kvm.hot_add_device("web1", disk)

    def remove(_: BackupProgress) -> None:
        with pytest.raises(HotplugError, match="used by jobs that must finish or be aborted first") as caught:
            kvm.hot_del_device("web1", disk)
        assert caught.value.cause is HotplugCause.UNFIT
        kvm.abort_backup("web1")

    with pytest.raises(BackupError, match="another process ended the backup"):
        kvm.backup_disks(
            "web1", Backup(files={disk.uuid: str(tmp_path / "backup.qcow2")}, bytes_per_s=1 << 16), on_progress=remove
        )
    assert len(check_agreement(kvm)) == 2
    kvm.hot_del_device("web1", disk)
    assert len(check_agreement(kvm)) == 1


def test_hot_remove_timeout_keeps_disk_until_guest_releases_it(
    kvm: KvmHypervisor, toy: Instance, make_disk: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvkit.hypervisor.kvm.devices.hotplug.RELEASE_S", 0.2)
    disk = make_disk()
    kvm.hot_add_device("web1", disk)
    with kvm.monitor("web1") as monitor:
        monitor.execute("stop")
    with pytest.raises(HotplugError, match=r"the guest did not release it within 0\.2 s") as caught:
        kvm.hot_del_device("web1", disk)
    assert caught.value.cause is HotplugCause.GUEST_SILENT
    runtime = read_runtime(kvm.run_dir / "instances/web1/runtime.json", "web1")
    assert runtime is not None
    assert [record.pending for record in runtime.devices if record.uuid == disk.uuid] == [Pending.REMOVE]
    with kvm.monitor("web1") as monitor:
        monitor.execute(Cont())
    monkeypatch.setattr("hvkit.hypervisor.kvm.devices.hotplug.RELEASE_S", 30.0)
    kvm.hot_del_device("web1", disk)
    assert len(check_agreement(kvm)) == 1


def _unless(refusal: str, act: Callable[[], object]) -> bool:
    """Call a function, and return whether it was refused for the given reason."""
    try:
        act()
    except HotplugError as error:
        if refusal not in error.reason:
            raise
        return True
    return False


@pytest.fixture
def device(request: pytest.FixtureRequest, make_disk: Callable[..., Disk]) -> HotplugDevice:
    return make_disk(kind="qcow2") if request.param == "disk" else Nic(mac=MAC, mode="user")


@pytest.mark.parametrize("device", ["disk", "nic"], indirect=True)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_failed_hot_add_command_is_reconciled_by_next_hot_add(
    kvm: KvmHypervisor, toy: Instance, device: HotplugDevice, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = check_agreement(kvm)
    commands = count_commands(monkeypatch, lambda: kvm.hot_add_device("web1", device))
    assert commands >= 4
    for number in range(1, commands + 1):
        kvm.hot_del_device("web1", device)
        assert check_agreement(kvm) == before
        fail_at(monkeypatch, number, lambda: kvm.hot_add_device("web1", device), after=after)
        was_added = _unless("the instance already has this device", lambda: kvm.hot_add_device("web1", device))
        assert after or not was_added
        assert len(check_agreement(kvm) - before) == 1


@pytest.mark.parametrize("device", ["disk", "nic"], indirect=True)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_failed_hot_remove_command_is_reconciled_by_next_hot_remove(
    kvm: KvmHypervisor, toy: Instance, device: HotplugDevice, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = check_agreement(kvm)
    kvm.hot_add_device("web1", device)
    commands = count_commands(monkeypatch, lambda: kvm.hot_del_device("web1", device))
    assert commands >= 4
    for number in range(1, commands + 1):
        kvm.hot_add_device("web1", device)
        fail_at(monkeypatch, number, lambda: kvm.hot_del_device("web1", device), after=after)
        kvm.hot_del_device("web1", device)
        assert check_agreement(kvm) == before


def test_crash_during_hot_add_is_reconciled_by_next_operation(
    kvm: KvmHypervisor, toy: Instance, make_disk: Callable[..., Disk]
) -> None:
    before = check_agreement(kvm)
    disk = make_disk(kind="qcow2")
    for number in itertools.count(1):
        has_crashed = crash_at(number, lambda: kvm.hot_add_device("web1", disk))
        _unless("the instance already has this device", lambda: kvm.hot_add_device("web1", disk))
        assert len(check_agreement(kvm) - before) == 1
        kvm.hot_del_device("web1", disk)
        assert check_agreement(kvm) == before
        if not has_crashed:
            break
    assert number > 5


def test_crash_during_hot_remove_is_reconciled_by_next_operation(
    kvm: KvmHypervisor, toy: Instance, make_disk: Callable[..., Disk]
) -> None:
    before = check_agreement(kvm)
    disk = make_disk(kind="qcow2")
    for number in itertools.count(1):
        kvm.hot_add_device("web1", disk)
        has_crashed = crash_at(number, lambda: kvm.hot_del_device("web1", disk))
        _unless("the instance has no such device", lambda: kvm.hot_del_device("web1", disk))
        assert check_agreement(kvm) == before
        if not has_crashed:
            break
    assert number > 5


def test_hot_remove_of_device_deleted_externally_deletes_its_record(
    kvm: KvmHypervisor, toy: Instance, make_disk: Callable[..., Disk]
) -> None:
    disk = make_disk()
    kvm.hot_add_device("web1", disk)
    runtime = read_runtime(kvm.run_dir / "instances/web1/runtime.json", "web1")
    assert runtime is not None
    record = runtime.device(disk.uuid)
    assert record is not None
    with kvm.monitor("web1") as monitor, monitor.subscribe() as events:
        monitor.execute(DeviceDel(id=record.device))
        events.wait_for(lambda event: getattr(event, "device", None) == record.device, timeout=30)
    kvm.hot_del_device("web1", disk)
    assert len(check_agreement(kvm)) == 1


@pytest.mark.parametrize("device", ["disk", "nic"], indirect=True)
def test_hot_add_with_lost_reply_succeeds(
    kvm: KvmHypervisor, toy: Instance, device: HotplugDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = QmpConnection.execute

    def losing(self: QmpConnection, command: Command[Any] | str, *arguments: Any, **keywords: Any) -> Any:
        reply = execute(self, command, *arguments, **keywords)
        if isinstance(command, DeviceAdd):
            self.close()
            raise ConnectionLost("the machine", "for a test")
        return reply

    before = check_agreement(kvm)
    with monkeypatch.context() as patch:
        patch.setattr(QmpConnection, "execute", losing)
        kvm.hot_add_device("web1", device)
    assert len(check_agreement(kvm) - before) == 1


@pytest.mark.parametrize("device", ["disk", "nic"], indirect=True)
def test_hot_add_with_lost_command_changes_nothing(
    kvm: KvmHypervisor, toy: Instance, device: HotplugDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = QmpConnection.execute

    def losing(self: QmpConnection, command: Command[Any] | str, *arguments: Any, **keywords: Any) -> Any:
        if isinstance(command, DeviceAdd):
            self.close()
            raise ConnectionLost("the machine", "for a test")
        return execute(self, command, *arguments, **keywords)

    before = check_agreement(kvm)
    with monkeypatch.context() as patch:
        patch.setattr(QmpConnection, "execute", losing)
        with pytest.raises(HotplugError, match="for a test"):
            kvm.hot_add_device("web1", device)
    assert check_agreement(kvm) == before


@pytest.mark.parametrize("device", ["disk", "nic"], indirect=True)
def test_hot_add_to_instance_killed_meanwhile_raises_state_error(
    kvm: KvmHypervisor, toy: Instance, device: HotplugDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = QmpConnection.execute
    pid = kvm.get_instance_info("web1").pid
    assert pid is not None

    def killing(self: QmpConnection, command: Command[Any] | str, *arguments: Any, **keywords: Any) -> Any:
        if isinstance(command, DeviceAdd):
            os.kill(pid, signal.SIGKILL)
            while kvm.get_instance_info("web1").state is not InstanceState.CRASHED:
                pass
        return execute(self, command, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(QmpConnection, "execute", killing)
        with pytest.raises(InstanceStateError, match=r"^web1: QEMU is not running") as caught:
            kvm.hot_add_device("web1", device)
    assert caught.value.state == "crashed"
    kvm.start_instance(toy)
    assert len(check_agreement(kvm)) == 1


def test_crash_during_nic_modification_leaves_old_or_new_nic(
    kvm: KvmHypervisor, toy: Instance, make_disk: Callable[..., Disk], bridge: str
) -> None:
    old = Nic(mac=MAC, mode="user")
    new = Nic(mac=MAC, link=bridge, uuid=old.uuid)
    kvm.hot_add_device("web1", old)
    other_disk = make_disk()
    outcomes = set()
    for number in itertools.count(1):
        has_crashed = crash_at(number, lambda: kvm.hot_mod_device("web1", new))
        # The next operation reconciles the NIC; one that is pending removal may still be released.
        kvm.hot_add_device("web1", other_disk)
        kvm.hot_del_device("web1", other_disk)
        runtime = read_runtime(kvm.run_dir / "instances/web1/runtime.json", "web1")
        assert runtime is not None
        (nic,) = runtime.instance.nics
        assert nic in (old, new)
        outcomes.add(nic)
        kvm.hot_mod_device("web1", old)
        assert len(check_agreement(kvm)) == 2
        assert not has_interface(tap_name(new))
        if not has_crashed:
            break
    assert number > 10
    assert outcomes == {old, new}


def test_hotplug_error_of_invalid_request_has_cause_unfit(
    kvm: KvmHypervisor, toy: Instance, make_disk: Callable[..., Disk]
) -> None:
    with pytest.raises(HotplugError) as caught:
        kvm.hot_del_device("web1", make_disk())
    assert caught.value.cause is HotplugCause.UNFIT
    with pytest.raises(HotplugError) as caught:
        kvm.hot_add_device("web1", toy.disks[0])
    assert caught.value.cause is HotplugCause.UNFIT
