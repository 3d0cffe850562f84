# SPDX-License-Identifier: BSD-2-Clause
"""What operators and accidents hand to the plugin: each is refused with a clear error, and leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import pkgutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from hvkit.hypervisor import (
    Disk,
    Instance,
    InstanceNotFound,
    InstanceStartError,
    InstanceState,
    InstanceStateError,
    Nic,
    ParameterError,
    RuntimeStateError,
)
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.network import has_interface
from hvkit.hypervisor.kvm.process import ProcessError
from hvkit.hypervisor.kvm.runtime import Runtime, write_runtime

MakeInstance = Callable[..., Instance]


@pytest.fixture
def make(make_simulated: Callable[..., MakeInstance]) -> MakeInstance:
    """Makes instances for what fails before it comes to QEMU."""
    return make_simulated()


def assert_nothing_left(kvm: KvmHypervisor) -> None:
    assert kvm.list_instances() == []
    left = {str(path.relative_to(kvm.run_dir)) for path in kvm.run_dir.rglob("*")}
    assert {each for each in left if not each.startswith("cache/")} <= {"cache", "instances", "locks", "sockets"}
    name = os.fsencode(kvm.run_dir)
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if name in line]


def wait_for_end(kvm: KvmHypervisor, name: str) -> None:
    deadline = time.monotonic() + 10
    while not kvm.get_instance_info(name).state.is_over:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---- before anything is made


def refused(kvm: KvmHypervisor, instance: Instance) -> str:
    """Have an instance refused, and return the text of the error."""
    with pytest.raises(ParameterError) as caught:
        kvm.start_instance(instance)
    assert not kvm.run_dir.exists(), "it was refused before anything was made"
    return str(caught.value)


def test_missing_disk(kvm: KvmHypervisor, make: MakeInstance) -> None:
    text = refused(kvm, make(disks=(Disk(path="/nonexistent/disk.raw"),)))
    assert text == "Disk.path: /nonexistent/disk.raw: No such file or directory"


def test_disk_that_is_no_disk(kvm: KvmHypervisor, make: MakeInstance, tmp_path: Path) -> None:
    text = refused(kvm, make(disks=(Disk(path=str(tmp_path)),)))
    assert text.endswith("is neither a file nor a block device")


@pytest.mark.parametrize(
    ("content", "disk_format", "problem"),
    [
        (b"QFI\xfb\0\0\0\3", "raw", "is said to be raw and is a qcow2 image"),
        (b"\xeb\x63\x90\0", "qcow2", "is said to be a qcow2 image and is none"),
        (b"", "qcow2", "is said to be a qcow2 image and is none"),
    ],
)
def test_disk_of_another_format(
    kvm: KvmHypervisor, make: MakeInstance, tmp_path: Path, content: bytes, disk_format: Any, problem: str
) -> None:
    path = tmp_path / "disk"
    path.write_bytes(content)
    assert problem in refused(kvm, make(disks=(Disk(path=str(path), format=disk_format),)))


def test_unknown_parameter(kvm: KvmHypervisor, make: MakeInstance) -> None:
    text = refused(kvm, make(parameters={"disk_cash": "none"}))
    assert text.startswith("disk_cash: no such parameter; did you mean disk_cache")


def test_machine_type_that_the_program_does_not_have(kvm: KvmHypervisor, make: MakeInstance) -> None:
    with pytest.raises(ParameterError, match=r"has no machine type 'pc-q35-99\.9'"):
        kvm.start_instance(make(parameters={"machine_version": "pc-q35-99.9"}))
    assert_nothing_left(kvm)


def test_parameters_that_the_program_cannot_honour_are_not_valid(kvm: KvmHypervisor, make: MakeInstance) -> None:
    parameters = {**make().parameters, "machine_version": "pc-q35-99.9"}
    kvm.check_parameter_syntax(parameters)
    with pytest.raises(ParameterError, match=r"pc-q35-99\.9"):
        kvm.validate_parameters(parameters)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "-x"])
def test_name_that_leads_elsewhere(kvm: KvmHypervisor, make: MakeInstance, name: str) -> None:
    with pytest.raises(ParameterError, match="not a name for an instance"):
        make(name)
    with pytest.raises(ParameterError, match="not a name for an instance"):
        kvm.cleanup_instance(name)


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("#!/bin/sh\nexit 0\n", "does not answer like QEMU"),
        ("#!/bin/sh\necho I am no QEMU\n", "does not answer like QEMU"),
        ("no program\n", "cannot be run"),
    ],
)
def test_binary_that_is_not_qemu(kvm: KvmHypervisor, tmp_path: Path, program: str, problem: str) -> None:
    path = tmp_path / "qemu"
    path.write_text(program)
    path.chmod(0o755)
    instance = Instance(name="web1", memory_mib=32, parameters={"kvm_path": str(path)})
    with pytest.raises(InstanceStartError, match=problem) as caught:
        kvm.start_instance(instance)
    assert caught.value.instance == "web1"
    assert_nothing_left(kvm)
    with pytest.raises(ParameterError, match=problem):
        kvm.validate_parameters(instance.parameters)


def test_binary_that_is_missing(kvm: KvmHypervisor) -> None:
    assert "a program of this node" in refused(
        kvm, Instance(name="web1", memory_mib=32, parameters={"kvm_path": "/nonexistent/qemu"})
    )


def test_binary_that_is_too_old(kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]) -> None:
    with pytest.raises(InstanceStartError, match=r"is QEMU 6\.2\.0, older than 7\.2"):
        kvm.start_instance(make_simulated(version=(6, 2, 0))())
    assert_nothing_left(kvm)


# ---- what is taken already


@pytest.mark.qemu
def test_disk_that_another_instance_uses(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    first = make_toy("web1")
    kvm.start_instance(first, start_paused=True)
    with pytest.raises(InstanceStartError) as caught:
        kvm.start_instance(make_toy("web2", disks=(attrs.evolve(first.disks[0]),)))
    assert "lock" in caught.value.log
    assert first.disks[0].path in caught.value.log
    assert kvm.list_instances() == ["web1"]


@pytest.mark.qemu
def test_port_that_somebody_listens_on(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        extra = f"-chardev socket,id=x,host=127.0.0.1,port={port},server=on,wait=off"
        with pytest.raises(InstanceStartError, match="Address already in use"):
            kvm.start_instance(make_toy(parameters={"kvm_extra": extra}))
    assert_nothing_left(kvm)


@pytest.fixture
def may_make_taps() -> None:
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("taps need root and /dev/net/tun, so they are NOT tested here")


@pytest.mark.usefixtures("may_make_taps")
def test_tap_whose_name_is_taken(kvm: KvmHypervisor, make: MakeInstance) -> None:
    with pytest.raises(
        InstanceStartError, match=r"network interface lo: .* there is an interface of that name already"
    ):
        kvm.start_instance(make(nics=(Nic(mac="52:54:00:00:00:01", ifname="lo"),)))
    assert_nothing_left(kvm)


@pytest.mark.usefixtures("may_make_taps")
@pytest.mark.parametrize(("bridge", "problem"), [("hvt-none", "does not exist"), ("lo", "is not a bridge")])
def test_bridge_that_is_none(kvm: KvmHypervisor, make: MakeInstance, bridge: str, problem: str) -> None:
    good = Nic(mac="52:54:00:00:00:01", ifname="hvt-good")
    bad = Nic(mac="52:54:00:00:00:02", ifname="hvt-bad", link=bridge)
    with pytest.raises(InstanceStartError, match=f"cannot join bridge {bridge}, which {problem}"):
        kvm.start_instance(make(nics=(good, bad)))
    assert_nothing_left(kvm)
    assert not has_interface("hvt-good")
    assert not has_interface("hvt-bad")


# ---- what an accident left


@pytest.fixture
def crashed(kvm: KvmHypervisor, make: MakeInstance) -> Instance:
    """An instance whose process was killed."""
    instance = make()
    kvm.start_instance(instance)
    pid = kvm.get_instance_info("web1").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for_end(kvm, "web1")
    return instance


def runtime_file(kvm: KvmHypervisor) -> Path:
    return kvm.run_dir / "instances" / "web1" / "runtime.json"


def test_stale_sockets_and_pid_file_do_not_keep_an_instance_from_starting(
    kvm: KvmHypervisor, crashed: Instance
) -> None:
    assert len(list((kvm.run_dir / "sockets").iterdir())) == 3
    assert (kvm.run_dir / "instances" / "web1" / "pid").exists()
    kvm.start_instance(crashed)
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING


def test_pid_that_belongs_to_a_stranger_now_is_not_signalled(kvm: KvmHypervisor, crashed: Instance) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            data = json.loads(runtime_file(kvm).read_text())
            data["process"]["pid"] = stranger.pid
            runtime_file(kvm).write_text(json.dumps(data))
            (kvm.run_dir / "instances" / "web1" / "pid").write_text(f"{stranger.pid}\n")
            assert kvm.get_instance_info("web1").state is InstanceState.CRASHED
            kvm.stop_instance("web1", force=True)
            kvm.cleanup_instance("web1")
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_damaged_runtime_file_is_reported_and_hides_no_other(
    kvm: KvmHypervisor, crashed: Instance, make: MakeInstance
) -> None:
    runtime_file(kvm).write_text('{"format": "hvkit kvm runtime", "version": 1, "phase"')
    kvm.start_instance(make("web2"))
    with pytest.raises(RuntimeStateError) as caught:
        kvm.get_instance_info("web1")
    assert caught.value.path == str(runtime_file(kvm))
    infos = {info.name: info for info in kvm.get_all_instances_info()}
    assert infos["web1"].state is InstanceState.CRASHED
    assert "is damaged" in infos["web1"].reason
    assert infos["web2"].state is InstanceState.RUNNING
    assert len(kvm.verify()) >= 1
    kvm.cleanup_instance("web1")
    assert kvm.list_instances() == ["web2"]


def test_running_instance_with_a_damaged_runtime_file_can_be_stopped(kvm: KvmHypervisor, make: MakeInstance) -> None:
    kvm.start_instance(make())
    pid = kvm.get_instance_info("web1").pid
    sound = runtime_file(kvm).read_text()
    runtime_file(kvm).write_text(sound.replace('"version": 1', '"version": 2'))
    (info,) = kvm.get_all_instances_info()
    assert info.state is InstanceState.UNRESPONSIVE
    assert "newer hvkit" in info.reason
    with pytest.raises(InstanceStateError):
        kvm.start_instance(make())
    with pytest.raises(InstanceStateError):
        kvm.cleanup_instance("web1")
    kvm.stop_instance("web1", force=True)
    assert not Path(f"/proc/{pid}").exists()
    kvm.cleanup_instance("web1")
    assert_nothing_left(kvm)


def test_node_that_was_restarted(kvm: KvmHypervisor, crashed: Instance) -> None:
    data = json.loads(runtime_file(kvm).read_text())
    data["process"]["boot_id"] = "an earlier one"
    runtime_file(kvm).write_text(json.dumps(data))
    info = kvm.get_instance_info("web1")
    assert (info.state, info.reason) == (InstanceState.CRASHED, "the node was restarted")


# ---- starts that are cut short


@pytest.mark.parametrize("number", [1, 2, 3])
def test_state_that_cannot_be_written_stops_the_start(
    kvm: KvmHypervisor, make: MakeInstance, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    written: list[Runtime] = []

    def fail_in_the_end(path: Path, runtime: Runtime) -> None:
        written.append(runtime)
        if len(written) == number:
            raise RuntimeStateError("web1", str(path), "cannot be written: No space left on device")
        write_runtime(path, runtime)

    monkeypatch.setattr("hvkit.hypervisor.kvm.start.write_runtime", fail_in_the_end)
    with pytest.raises(InstanceStartError, match="No space left on device"):
        kvm.start_instance(make())
    assert_nothing_left(kvm)


@pytest.mark.parametrize(
    ("function", "call"),
    [
        *(("start.write_runtime", call) for call in (1, 2, 3)),
        *((function, 1) for function in ("process.read_boot_id", "start.spawn", "start._launch", "start._let_run")),
    ],
)
def test_start_that_is_interrupted_leaves_nothing(
    kvm: KvmHypervisor, make: MakeInstance, monkeypatch: pytest.MonkeyPatch, function: str, call: int
) -> None:
    function = f"hvkit.hypervisor.kvm.{function}"
    original = pkgutil.resolve_name(function)
    calls = []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(original(*arguments, **options))
        if len(calls) == call:  # what it gave is lost, as when a signal comes at that moment
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(function, interrupted)
    with pytest.raises(KeyboardInterrupt):
        kvm.start_instance(make())
    assert_nothing_left(kvm)


def test_start_that_may_have_left_a_process_is_remembered(
    kvm: KvmHypervisor, make: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_unsure(*_: object) -> None:
        raise ProcessError("a program listens there that cannot be identified")

    with monkeypatch.context() as patch:
        patch.setattr("hvkit.hypervisor.kvm.start.spawn", be_unsure)
        patch.setattr("hvkit.hypervisor.kvm.start.find_listener", be_unsure)
        with pytest.raises(InstanceStateError, match="may be there"):
            kvm.start_instance(make())
    assert kvm.get_instance_info("web1").state is InstanceState.CRASHED
    kvm.cleanup_instance("web1")
    assert_nothing_left(kvm)


# ---- stops that are cut short


@pytest.mark.parametrize("force", [True, False])
def test_instance_can_be_stopped_when_nothing_can_be_written(
    kvm: KvmHypervisor, make: MakeInstance, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    kvm.start_instance(make())
    pid = kvm.get_instance_info("web1").pid

    def be_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        for function in ("fsync", "pwrite"):
            patch.setattr(os, function, be_full)
        kvm.stop_instance("web1", force=force, timeout=5)
    assert not Path(f"/proc/{pid}").exists()
    assert kvm.get_instance_info("web1").state is InstanceState.SHUTDOWN
    assert [path.name for path in runtime_file(kvm).parent.iterdir() if path.name != "log"] == ["runtime.json"]


def test_crash_after_an_interrupted_stop_is_a_crash(
    kvm: KvmHypervisor, make: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    kvm.start_instance(make())
    with monkeypatch.context() as patch:
        patch.setattr("hvkit.hypervisor.kvm.stop._talk", interrupt)
        with pytest.raises(KeyboardInterrupt):
            kvm.stop_instance("web1", timeout=60)
    info = kvm.get_instance_info("web1")
    assert info.state is InstanceState.RUNNING
    assert info.pid is not None
    os.kill(info.pid, signal.SIGKILL)
    wait_for_end(kvm, "web1")
    assert kvm.get_instance_info("web1").state is InstanceState.CRASHED


def test_crash_after_a_stop_that_somebody_died_over_is_a_crash(kvm: KvmHypervisor, crashed: Instance) -> None:
    sound = runtime_file(kvm).read_text()
    runtime_file(kvm).write_text(sound.replace('"phase": "running"', '"phase": "stopping"'))
    assert kvm.get_instance_info("web1").state is InstanceState.CRASHED


# ---- programs that misbehave


def test_qemu_that_dies_while_it_is_asked(kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]) -> None:
    with pytest.raises(InstanceStartError, match="QEMU was ended by SIG"):
        kvm.start_instance(make_simulated(crash_on="query-name")())
    assert_nothing_left(kvm)


def test_qemu_that_hangs_when_told_to_quit_is_killed(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]
) -> None:
    kvm.start_instance(make_simulated(hang_on="quit")())
    kvm.stop_instance("web1", force=True)
    assert kvm.get_instance_info("web1").reason == "QEMU was ended by a signal: it did not answer"


def test_monitor_that_breaks_off_while_the_guest_is_asked(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]
) -> None:
    kvm.start_instance(make_simulated(close_on="system_powerdown")())
    kvm.stop_instance("web1", timeout=5)
    assert kvm.get_instance_info("web1").state is InstanceState.SHUTDOWN


def test_instance_that_is_not_known(kvm: KvmHypervisor) -> None:
    for call in (kvm.get_instance_console, kvm.get_instance_info, kvm.reboot_instance, kvm.stop_instance):
        with pytest.raises(InstanceNotFound):
            call("web1")
    assert not kvm.run_dir.exists()
