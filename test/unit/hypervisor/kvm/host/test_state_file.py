# SPDX-License-Identifier: BSD-2-Clause
"""The state file: atomic replacement, strict reading, older versions and the cache."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import attrs
import pytest

from hvkit.hypervisor.errors import RuntimeStateError
from hvkit.hypervisor.kvm.host.process import ProcessIdentity
from hvkit.hypervisor.kvm.host.runtime import Adoption, BackupRecord, DeviceRecord, Phase, Runtime
from hvkit.hypervisor.kvm.host.state_file import RuntimeCache, read_runtime, write_runtime
from hvkit.hypervisor.kvm.plan.topology import Address, BusKind, Chipset, Topology
from hvkit.hypervisor.model import Disk, Instance, Nic

DISK = Disk(path="/srv/web1.qcow2", format="qcow2")
NIC = Nic(mac="52:54:00:00:00:01", link="br0")


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(
        instance=Instance(
            name="web1",
            memory_mib=256,
            vcpus=2,
            disks=(DISK,),
            nics=(NIC,),
            parameters={"machine_version": "pc", "acpi": True, "hotplug_ports": 3},
        ),
        phase=Phase.RUNNING,
        process=ProcessIdentity(pid=4711, start_time=2**40, boot_id="b007"),
        binary="/usr/bin/qemu-system-x86_64",
        qemu_version=(7, 2, 22),
        machine_type="pc-i440fx-7.2",
        accelerator="kvm",
        accelerator_reason="/dev/kvm works",
        has_acpi=True,
        has_serial=True,
        topology=Topology(chipset=Chipset.PC),
        devices=(
            DeviceRecord(
                uuid=DISK.uuid,
                device="disk-1",
                backends=("disk-1-file", "disk-1-format"),
                address=Address(BusKind.PCI, "pci.0", 12),
            ),
            DeviceRecord(
                uuid=NIC.uuid,
                device="nic-1",
                backends=("nic-1-net",),
                address=Address(BusKind.PCI, "pci.0", 13),
                ifname="hv1",
            ),
        ),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runtime.json"


def test_written_state_is_read_back(path: Path, runtime: Runtime) -> None:
    write_runtime(path, runtime)
    assert read_runtime(path, "web1") == runtime


#: A file as version 1 wrote it. It has to stay readable: running instances outlive an upgrade of hvkit.
VERSION_1: Final = """
{
 "format": "hvkit kvm runtime", "version": 1,
 "instance": {
  "name": "web1", "memory_mib": 64, "vcpus": 1, "uuid": "f44c5324-d796-4ba4-9500-9da1df128375",
  "disks": [{"path": "/srv/web1.img", "format": "raw", "read_only": false, "name": "",
   "uuid": "713ea9d5-713b-4eda-9c64-766487dac42f"}],
  "nics": [{"mac": "52:54:00:12:34:56", "mode": "tap", "link": "br0", "ifname": "",
   "uuid": "a127dd6d-d0c7-4b81-b7f8-54be338537c4"}],
  "parameters": {"machine_version": "q35"}
 },
 "phase": "running", "reason": "",
 "process": {"pid": 3083, "start_time": 287304, "boot_id": "9755e87b-3914-4ba9-9389-e7b528ff00f8"},
 "binary": "/usr/bin/qemu-system-x86_64", "qemu_version": [7, 2, 22], "machine_type": "pc-q35-7.2",
 "accelerator": "tcg", "accelerator_reason": "no KVM", "has_acpi": true, "has_serial": true,
 "topology": {"chipset": "q35", "port_count": 11, "scsi_targets": 0},
 "devices": [
  {"uuid": "713ea9d5-713b-4eda-9c64-766487dac42f", "device": "disk-713ea9d587dac42f",
   "backends": ["disk-713ea9d587dac42f-file", "disk-713ea9d587dac42f-format"],
   "address": {"kind": "pci", "bus": "port2", "unit": 0}, "ifname": ""},
  {"uuid": "a127dd6d-d0c7-4b81-b7f8-54be338537c4", "device": "nic-a127dd6d338537c4",
   "backends": ["nic-a127dd6d338537c4-net"],
   "address": {"kind": "pci", "bus": "port0", "unit": 0}, "ifname": "hva127dd6dd0c7"}
 ]
}
"""


def test_file_of_version_1_is_read(path: Path) -> None:
    path.write_text(VERSION_1)
    runtime = read_runtime(path, "web1")
    assert runtime is not None
    assert runtime.process == ProcessIdentity(3083, 287304, "9755e87b-3914-4ba9-9389-e7b528ff00f8")
    assert runtime.instance.nics[0].link == "br0"
    write_runtime(path, runtime)
    assert read_runtime(path, "web1") == runtime


def test_file_of_version_2_gets_the_shared_monitor(path: Path, runtime: Runtime) -> None:
    adopted = attrs.evolve(runtime, adoption=Adoption(monitor="/run/a", shared_monitor="/run/b"))
    write_runtime(path, adopted)
    text = path.read_text().replace('"version": 4', '"version": 2').replace("shared_monitor", "watch_monitor")
    path.write_text(text)
    assert read_runtime(path, "web1") == adopted


def test_file_of_version_3_with_a_backup_is_read(path: Path, runtime: Runtime) -> None:
    backup = BackupRecord(uuid=uuid4(), checkpoint="base", partial_files=("/srv/a.partial",))
    write_runtime(path, attrs.evolve(runtime, backup=backup))
    data = json.loads(path.read_text())
    del data["backup"]["disks"]
    path.write_text(json.dumps({**data, "version": 3}))
    assert read_runtime(path, "web1") == attrs.evolve(runtime, backup=backup)


def test_state_without_a_process_is_read_back(path: Path, runtime: Runtime) -> None:
    runtime = attrs.evolve(runtime, phase=Phase.STARTING, process=None)
    write_runtime(path, runtime)
    assert read_runtime(path, "web1") == runtime


def test_missing_file_is_none(path: Path) -> None:
    assert read_runtime(path, "web1") is None


def test_device_is_found_by_its_uuid(runtime: Runtime) -> None:
    record = runtime.device(NIC.uuid)
    assert record is not None
    assert record.device == "nic-1"
    assert runtime.device(UUID(int=0)) is None


def test_file_has_mode_0600(path: Path, runtime: Runtime) -> None:
    old = os.umask(0)
    try:
        write_runtime(path, runtime)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_file_contains_no_command_line(path: Path, runtime: Runtime) -> None:
    write_runtime(path, runtime)
    assert not [word for word in ("argv", "-device", "-blockdev", "-machine") if word in path.read_text()]


def test_reader_sees_the_old_or_the_new_state(path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    write_runtime(path, runtime)
    replace = os.replace
    seen = []

    def read_and_replace(source: Any, target: Any) -> None:
        seen.append(read_runtime(path, "web1"))
        replace(source, target)
        seen.append(read_runtime(path, "web1"))

    monkeypatch.setattr(os, "replace", read_and_replace)
    new = attrs.evolve(runtime, phase=Phase.STOPPING)
    write_runtime(path, new)
    assert seen == [runtime, new]


def test_file_of_an_interrupted_write_is_replaced(path: Path, runtime: Runtime) -> None:
    (path.parent / "runtime.json.new").write_text("{" * 10000)
    write_runtime(path, runtime)
    assert read_runtime(path, "web1") == runtime
    assert [each.name for each in path.parent.iterdir()] == ["runtime.json"]


def test_failed_write_leaves_the_old_state(path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    write_runtime(path, runtime)

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RuntimeStateError, match="cannot be written: No space left on device"):
        write_runtime(path, attrs.evolve(runtime, phase=Phase.STOPPING))
    assert read_runtime(path, "web1") == runtime


def _remove(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda data: data.pop(key)


def _set(value: Any, *steps: str | int) -> Callable[[dict[str, Any]], object]:
    def change(data: Any) -> None:
        for step in steps[:-1]:
            data = data[step]
        data[steps[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_remove("format"), "is damaged: it is not a state file of hvkit"),
        (_set(5, "version"), "has version 5 and was written by a newer hvkit; this hvkit reads up to version 4"),
        (_set(True, "version"), "is damaged: version: True"),
        (_remove("machine_type"), "is damaged: machine_type"),
        (_set("4711", "process", "pid"), "is damaged: process.pid: expected int, got str"),
        (_set(True, "process", "pid"), "is damaged: process.pid: expected int, got bool"),
        (_set(7, "devices", 1, "ifname"), r"is damaged: devices\[1\].ifname: expected str, got int"),
        (_set("resting", "phase"), "is damaged: phase: 'resting' is not a valid Phase"),
        (_set("no uuid", "instance", "uuid"), "is damaged: instance.uuid: "),
        (_set(0, "instance", "memory_mib"), "is damaged: instance: .*memory_mib: expected an integer number of MiB"),
        (_set("../x", "instance", "name"), "is damaged: instance: .*not a valid name for an instance"),
        (_set([1], "instance", "parameters", "acpi"), "is damaged: instance.parameters"),
        (_set([7, "2"], "qemu_version"), r"is damaged: qemu_version"),
        (_set("pc", "topology"), "is damaged: topology: expected object, got str"),
        (_set(1, "surplus"), "is damaged: .*surplus"),
        (_set("web2", "instance", "name"), "is damaged: it describes instance web2"),
    ],
)
def test_damage_is_reported_with_the_member_at_fault(
    path: Path, runtime: Runtime, change: Callable[[dict[str, Any]], object], problem: str
) -> None:
    write_runtime(path, runtime)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(RuntimeStateError, match=problem) as caught:
        read_runtime(path, "web1")
    assert (caught.value.instance, caught.value.path) == ("web1", str(path))


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff\xfe", b"[]", b"null", b'{"format":', b"[" * 100000])
def test_file_of_another_format_is_damaged(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(RuntimeStateError, match="is damaged"):
        read_runtime(path, "web1")


def test_file_that_cannot_be_read_reports_the_reason(path: Path) -> None:
    path.mkdir()
    with pytest.raises(RuntimeStateError, match="cannot be read: Is a directory"):
        read_runtime(path, "web1")


def test_cache_does_not_reread_an_unchanged_file(path: Path, runtime: Runtime) -> None:
    write_runtime(path, runtime)
    cache = RuntimeCache()
    first = cache.read(path, "web1")
    assert first == runtime
    assert cache.read(path, "web1") is first
    cache.keep(["web1"])
    assert cache.read(path, "web1") is first
    cache.keep([])
    assert cache.read(path, "web1") is not first


def test_cache_rereads_a_replaced_file(path: Path, runtime: Runtime) -> None:
    cache = RuntimeCache()
    assert cache.read(path, "web1") is None
    for phase in (Phase.RUNNING, Phase.STOPPING, Phase.STOPPED, Phase.RUNNING):
        written = attrs.evolve(runtime, phase=phase)
        write_runtime(path, written)
        assert cache.read(path, "web1") == written
    path.write_text("damaged")
    with pytest.raises(RuntimeStateError):
        cache.read(path, "web1")
    path.unlink()
    assert cache.read(path, "web1") is None
