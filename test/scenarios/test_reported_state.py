# SPDX-License-Identifier: BSD-2-Clause
"""Reported states and reasons of instances on real QEMU, with old and damaged state files."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from guest.console import GuestConsole
from guest.fixtures import TinyGuest
from hvkit.hypervisor import Disk, Instance, InstanceState, RuntimeStateError, StopCause
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.state_file import VERSION
from hvkit.qmp.schema import BlockIoErrorEvent, Cont, QueryBlock, Stop, StopEvent
from hvkit.testing.toy_guest import write_disk

pytestmark = pytest.mark.qemu

MakeInstance = Callable[..., Instance]
OpenConsole = Callable[[str], GuestConsole]

#: The members of a state file of version 1, by object.
MEMBERS_OF_VERSION_1: Final[dict[str, tuple[str, ...]]] = {
    "": (
        *("format", "version", "instance", "phase", "reason", "process", "binary", "qemu_version", "machine_type"),
        *("accelerator", "accelerator_reason", "has_acpi", "has_serial", "topology", "devices"),
    ),
    "instance": ("name", "memory_mib", "vcpus", "uuid", "disks", "nics", "parameters"),
    "topology": ("chipset", "port_count", "scsi_targets"),
    "devices": ("uuid", "device", "backends", "address", "ifname"),
}


def runtime_file(kvm: KvmHypervisor, name: str = "web1") -> Path:
    return kvm.run_dir / "instances" / name / "runtime.json"


def as_version_1(data: dict[str, Any]) -> dict[str, Any]:
    """Return the state in the format of version 1."""

    def cut(part: dict[str, Any], what: str) -> dict[str, Any]:
        return {name: part[name] for name in MEMBERS_OF_VERSION_1[what]}

    return {
        **cut(data, ""),
        "version": 1,
        "instance": cut(data["instance"], "instance"),
        "topology": cut(data["topology"], "topology"),
        "devices": [cut(device, "devices") for device in data["devices"]],
    }


#: A disk that reports ENSPC for the first write.
FULL_DISK: Final = {
    "driver": "blkdebug",
    "node-name": "full",
    "image": {"driver": "null-co", "size": 1 << 20, "read-zeroes": True},
    "inject-error": [{"event": "none", "iotype": "write", "errno": 28, "once": True}],
}


@pytest.fixture
def full(kvm: KvmHypervisor, tiny_guest: TinyGuest, guest_console: OpenConsole) -> GuestConsole:
    """The console of a guest with a full disk."""
    extra = ("-blockdev", json.dumps(FULL_DISK), "-device", "virtio-blk-pci,drive=full,bus=pcie.0,addr=0x1e")
    parameters = tiny_guest.parameters(kvm_extra=shlex.join(extra))
    kvm.start_instance(Instance(name="web1", memory_mib=128, parameters=parameters))
    path = kvm.get_instance_console("web1").path
    assert path is not None
    console = guest_console(path)
    console.wait_until_ready()
    return console


def test_instance_with_full_disk_is_paused_until_cont(kvm: KvmHypervisor, full: GuestConsole) -> None:
    with kvm.monitor("web1") as monitor, monitor.subscribe(BlockIoErrorEvent, StopEvent) as events:
        full.send("dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync && echo WRIT''TEN\n")
        failed = events.get(timeout=60)
        assert isinstance(failed, BlockIoErrorEvent)
        assert failed.nospace
        assert isinstance(events.get(timeout=60), StopEvent)
        for info in (kvm.get_instance_info("web1"), *kvm.get_all_instances_info()):
            assert (info.state, info.cause) == (InstanceState.PAUSED, StopCause.DISK)
            assert info.reason == "disk error or disk full"
        monitor.execute(Cont())
    full.wait_for("WRITTEN", 60)
    info = kvm.get_instance_info("web1")
    assert (info.state, info.reason, info.cause) == (InstanceState.RUNNING, "", None)


def test_states_and_reasons_are_reported_to_another_process(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    for name in ("killed", "new", "paused", "running", "stopped"):
        kvm.start_instance(make_toy(name), start_paused=name == "new")
    with kvm.monitor("paused") as monitor:
        monitor.execute(Stop())
    pids = {info.name: info.pid or 0 for info in kvm.get_all_instances_info()}
    os.kill(pids["killed"], signal.SIGKILL)
    os.kill(pids["stopped"], signal.SIGSTOP)
    with kvm.monitor("running") as monitor:  # the control monitor is in use
        assert monitor.is_connected
        infos = KvmHypervisor(run_dir=kvm.run_dir).get_all_instances_info()
    reported = {info.name: (info.state, info.reason, info.cause) for info in infos}
    state, reason, cause = reported.pop("killed")
    assert (state, cause) == (InstanceState.CRASHED, StopCause.QEMU)
    assert reason in ("QEMU has ended", "QEMU was ended by SIGKILL")
    assert reported == {
        "new": (InstanceState.PAUSED, "guest has not run yet", None),
        "paused": (InstanceState.PAUSED, "paused by request", StopCause.REQUEST),
        "running": (InstanceState.RUNNING, "", None),
        "stopped": (InstanceState.UNRESPONSIVE, "QEMU process stopped by a signal", None),
    }


def test_stop_signals_process_through_pidfd_only(
    kvm: KvmHypervisor, make_toy: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    kvm.start_instance(make_toy())
    pid = kvm.get_instance_info("web1").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    signalled: list[str] = []
    send = signal.pidfd_send_signal

    def record(pidfd: int, number: int) -> None:
        signalled.extend(line for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines() if "Pid:" in line)
        send(pidfd, number)

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("the pid may have been reused")

    monkeypatch.setattr(signal, "pidfd_send_signal", record)
    monkeypatch.setattr(os, "kill", refuse)
    kvm.stop_instance("web1", force=True)
    assert signalled == [f"Pid:\t{pid}"]
    assert kvm.get_instance_info("web1").state is InstanceState.SHUTDOWN


def test_state_file_of_version_1_is_upgraded_by_operation_not_by_query(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    kvm.start_instance(make_toy(parameters={"machine_version": "q35"}))
    before = kvm.get_instance_info("web1")
    runtime_file(kvm).write_text(json.dumps(as_version_1(json.loads(runtime_file(kvm).read_text()))))

    later = KvmHypervisor(run_dir=kvm.run_dir)
    assert later.get_instance_info("web1") == before
    assert later.get_all_instances_info() == [before]
    assert later.verify() == []
    assert json.loads(runtime_file(kvm).read_text())["version"] == 1, "a query changes nothing"
    disk = Disk(path=str(write_disk(tmp_path / "more.img")))
    later.hot_add_device("web1", disk)
    upgraded = json.loads(runtime_file(kvm).read_text())
    assert upgraded["version"] == VERSION
    assert len(upgraded["devices"]) == 2
    with later.monitor("web1") as monitor:
        assert len(monitor.execute(QueryBlock())) == 2
    later.stop_instance("web1", force=True)
    assert later.get_instance_info("web1").state is InstanceState.SHUTDOWN


def newer(text: str) -> str:
    return json.dumps({**json.loads(text), "version": VERSION + 1})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda _: "", "is damaged"),
        (lambda text: text.replace('"web1"', '"web2"'), "describes instance web2"),
        (newer, "was written by a newer hvkit"),
    ],
    ids=["cut", "empty", "another", "newer"],
)
def test_instance_with_damaged_state_file_is_listed_and_can_be_stopped(
    kvm: KvmHypervisor, make_toy: MakeInstance, damage: Callable[[str], str], reason: str
) -> None:
    for name in ("web0", "web1", "web2"):
        kvm.start_instance(make_toy(name))
    pid = kvm.get_instance_info("web1").pid
    assert pid is not None
    runtime_file(kvm).write_text(damage(runtime_file(kvm).read_text()))
    with pytest.raises(RuntimeStateError, match=reason):
        kvm.get_instance_info("web1")
    first, damaged, last = kvm.get_all_instances_info()
    assert (first.name, first.state) == ("web0", InstanceState.RUNNING)
    assert (damaged.name, damaged.state) == ("web1", InstanceState.UNRESPONSIVE)
    assert reason in damaged.reason
    assert (last.name, last.state) == ("web2", InstanceState.RUNNING)
    assert any(reason in problem for problem in kvm.verify())
    kvm.stop_instance("web1", force=True)
    assert not Path(f"/proc/{pid}").exists()
    kvm.cleanup_instance("web1")
    assert [info.state for info in kvm.get_all_instances_info()] == [InstanceState.RUNNING] * 2
