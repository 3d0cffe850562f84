# SPDX-License-Identifier: BSD-2-Clause
"""Invalid input, damaged state and interrupted operations: a clear error, and nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import pkgutil
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import attrs
import pytest

from hvkit.errors import HvkitError, ProgrammerError
from hvkit.hypervisor import (
    Backup,
    Disk,
    Instance,
    InstanceError,
    InstanceNotFound,
    InstanceStartError,
    InstanceState,
    InstanceStateError,
    Nic,
    ParameterError,
    RuntimeStateError,
)
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host import probe
from hvkit.hypervisor.kvm.host.locks import is_lock_held
from hvkit.hypervisor.kvm.host.network import has_interface
from hvkit.hypervisor.kvm.host.paths import InstancePaths
from hvkit.hypervisor.kvm.host.process import ProcessError
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.host.state_file import VERSION, write_runtime
from hvkit.qmp.program import find_program
from hvkit.qmp.program_cache import ProgramCache

MakeInstance = Callable[..., Instance]


@pytest.fixture
def make(make_simulated: Callable[..., MakeInstance]) -> MakeInstance:
    """Make instances that run on the simulated QEMU."""
    return make_simulated()


def assert_nothing_left(kvm: KvmHypervisor) -> None:
    assert kvm.list_instances() == []
    left = {str(path.relative_to(kvm.run_dir)) for path in kvm.run_dir.rglob("*")}
    assert {each for each in left if not each.startswith("cache/")} <= {
        "cache",
        "instances",
        "locks",
        "locks/.reserving",
        "sockets",
    }
    name = os.fsencode(kvm.run_dir)
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if name in line]


def wait_for_end(kvm: KvmHypervisor, name: str) -> None:
    deadline = time.monotonic() + 10
    while not kvm.get_instance_info(name).state.is_over:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refused(kvm: KvmHypervisor, instance: Instance) -> str:
    """Check that a start is rejected before any change, and return the text of the error."""
    with pytest.raises(ParameterError) as caught:
        kvm.start_instance(instance)
    assert not kvm.run_dir.exists(), "the start was rejected after a change"
    return str(caught.value)


def test_start_rejects_missing_disk(kvm: KvmHypervisor, make: MakeInstance) -> None:
    text = refused(kvm, make(disks=(Disk(path="/nonexistent/disk.raw"),)))
    assert text == "Disk.path: /nonexistent/disk.raw: No such file or directory"


def test_start_rejects_directory_as_disk(kvm: KvmHypervisor, make: MakeInstance, tmp_path: Path) -> None:
    text = refused(kvm, make(disks=(Disk(path=str(tmp_path)),)))
    assert text.endswith("is neither a file nor a block device")


@pytest.mark.parametrize(
    ("content", "disk_format", "problem"),
    [
        (b"QFI\xfb\0\0\0\3", "raw", "the instance specifies format raw, but it is a qcow2 image"),
        (b"\xeb\x63\x90\0", "qcow2", "the instance specifies format qcow2, but it is not a qcow2 image"),
        (b"", "qcow2", "the instance specifies format qcow2, but it is not a qcow2 image"),
    ],
)
def test_start_rejects_disk_of_another_format(
    kvm: KvmHypervisor, make: MakeInstance, tmp_path: Path, content: bytes, disk_format: Any, problem: str
) -> None:
    path = tmp_path / "disk"
    path.write_bytes(content)
    assert problem in refused(kvm, make(disks=(Disk(path=str(path), format=disk_format),)))


def test_start_rejects_unknown_parameter(kvm: KvmHypervisor, make: MakeInstance) -> None:
    text = refused(kvm, make(parameters={"disk_cash": "none"}))
    assert text.startswith("disk_cash: no such parameter; did you mean disk_cache")


def test_start_rejects_unknown_machine_type(kvm: KvmHypervisor, make: MakeInstance) -> None:
    with pytest.raises(ParameterError, match=r"has no machine type 'pc-q35-99\.9'"):
        kvm.start_instance(make(parameters={"machine_version": "pc-q35-99.9"}))
    assert_nothing_left(kvm)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("machine_version", "pc-q35-99.9"),
        ("cpu_type", "nonsense"),
        ("cpu_type", "nonsense,+x2apic"),
        ("cpu_mask", "9000"),
        ("cpu_mask", "all:9000"),
        ("io_thread_mask", "9000"),
    ],
)
def test_validation_rejects_parameters_unsupported_on_node(
    kvm: KvmHypervisor, make: MakeInstance, parameter: str, value: str
) -> None:
    parameters = {**make().parameters, parameter: value}
    kvm.check_parameter_syntax(parameters)
    with pytest.raises(ParameterError) as caught:
        kvm.validate_parameters(parameters)
    assert caught.value.name == parameter


def test_queries_write_nothing_to_run_dir(
    kvm: KvmHypervisor, make: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    kvm.run_dir.mkdir(mode=0o700)
    kvm.validate_parameters(make().parameters)
    kvm.get_node_info()
    kvm.verify()
    assert list(kvm.run_dir.iterdir()) == []
    monkeypatch.setattr(probe, "_cache", {})
    kvm.start_instance(make())
    assert (kvm.run_dir / "cache").is_dir()


def test_capability_cache_of_another_user_is_ignored(kvm: KvmHypervisor, make: MakeInstance, tmp_path: Path) -> None:
    parameters = make().parameters
    program = str(parameters["kvm_path"])
    capabilities = probe._probe(program, 10.0)
    forged = attrs.evolve(capabilities, machines=(attrs.evolve(capabilities.machines[0], name="pc-q35-66.6"),))
    other = KvmHypervisor(run_dir=tmp_path / "open")
    cache = ProgramCache(other.run_dir / "cache", "capabilities", 1)
    cache.write(find_program(program), json.dumps(forged.to_plain()).encode())
    other.run_dir.chmod(0o777)
    with pytest.raises(ParameterError):
        other.start_instance(make())
    with pytest.raises(ParameterError, match=r"no machine type 'pc-q35-66\.6'"):
        kvm.validate_parameters({**parameters, "machine_version": "pc-q35-66.6"})


@pytest.mark.parametrize("name", ["../x", "a/b", "", "-x"])
def test_invalid_instance_name_is_rejected(kvm: KvmHypervisor, make: MakeInstance, name: str) -> None:
    with pytest.raises(ParameterError, match="not a valid name for an instance"):
        make(name)
    with pytest.raises(ParameterError, match="not a valid name for an instance"):
        kvm.cleanup_instance(name)


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("#!/bin/sh\nexit 0\n", "does not answer like QEMU"),
        ("#!/bin/sh\necho not QEMU\n", "does not answer like QEMU"),
        ("no program\n", "cannot be run"),
    ],
)
def test_start_rejects_program_other_than_qemu(kvm: KvmHypervisor, tmp_path: Path, program: str, problem: str) -> None:
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


def test_start_rejects_missing_program(kvm: KvmHypervisor) -> None:
    assert "an executable file on this node" in refused(
        kvm, Instance(name="web1", memory_mib=32, parameters={"kvm_path": "/nonexistent/qemu"})
    )


def test_start_rejects_old_qemu(kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]) -> None:
    with pytest.raises(InstanceStartError, match=r"is QEMU 6\.2\.0; the oldest supported version is 7\.2"):
        kvm.start_instance(make_simulated(version=(6, 2, 0))())
    assert_nothing_left(kvm)


@pytest.mark.qemu
def test_start_fails_with_disk_of_another_instance(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    first = make_toy("web1")
    kvm.start_instance(first, start_paused=True)
    with pytest.raises(InstanceStartError) as caught:
        kvm.start_instance(make_toy("web2", disks=(attrs.evolve(first.disks[0]),)))
    assert "lock" in caught.value.log
    assert first.disks[0].path in caught.value.log
    assert kvm.list_instances() == ["web1"]


@pytest.mark.qemu
def test_start_fails_with_port_in_use(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        extra = f"-chardev socket,id=x,host=127.0.0.1,port={port},server=on,wait=off"
        with pytest.raises(InstanceStartError, match="Address already in use"):
            kvm.start_instance(make_toy(parameters={"kvm_extra": extra}))
    assert_nothing_left(kvm)


@pytest.fixture
def may_make_taps(unavailable: Callable[[str], NoReturn]) -> None:
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        unavailable("taps need root and /dev/net/tun, so they are NOT tested here")


@pytest.fixture
def may_change_account(unavailable: Callable[[str], NoReturn]) -> None:
    if os.geteuid() != 0:
        unavailable("only root can start QEMU as another user, so account pools are NOT tested here")


@pytest.mark.usefixtures("may_make_taps")
def test_start_fails_with_tap_name_in_use(kvm: KvmHypervisor, make: MakeInstance) -> None:
    with pytest.raises(InstanceStartError, match=r"network interface lo: .* an interface of that name exists"):
        kvm.start_instance(make(nics=(Nic(mac="52:54:00:00:00:01", ifname="lo"),)))
    assert_nothing_left(kvm)


@pytest.mark.usefixtures("may_make_taps")
@pytest.mark.parametrize(("bridge", "problem"), [("hvt-none", "does not exist"), ("lo", "is not a bridge")])
def test_start_fails_with_invalid_bridge(kvm: KvmHypervisor, make: MakeInstance, bridge: str, problem: str) -> None:
    good = Nic(mac="52:54:00:00:00:01", ifname="hvt-good")
    bad = Nic(mac="52:54:00:00:00:02", ifname="hvt-bad", link=bridge)
    with pytest.raises(InstanceStartError, match=f"cannot join bridge {bridge}, which {problem}"):
        kvm.start_instance(make(nics=(good, bad)))
    assert_nothing_left(kvm)
    assert not has_interface("hvt-good")
    assert not has_interface("hvt-bad")


@pytest.fixture
def crashed(kvm: KvmHypervisor, make: MakeInstance) -> Instance:
    """An instance whose QEMU was killed."""
    instance = make()
    kvm.start_instance(instance)
    pid = kvm.get_instance_info("web1").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for_end(kvm, "web1")
    return instance


@pytest.mark.parametrize(
    "changes",
    [
        {"vcpus": 100000},
        {"disks": (Disk(path="/nonexistent/disk.raw"),)},
        {"parameters": {"cpu_type": "nonsense"}},
        {"parameters": {"cpu_mask": "0:0:0"}},
        {"parameters": {"hotplug_ports": 136}, "nics": (Nic(mac="52:54:00:00:00:01", mode="user"),)},
    ],
)
def test_rejected_start_keeps_state_of_crashed_instance(
    kvm: KvmHypervisor, crashed: Instance, changes: dict[str, Any]
) -> None:
    before = kvm.get_instance_info("web1")
    parameters = {**crashed.parameters, **changes.get("parameters", {})}
    with pytest.raises(ParameterError):
        kvm.start_instance(attrs.evolve(crashed, **{**changes, "parameters": parameters}))
    assert kvm.get_instance_info("web1") == before


def test_start_rejected_for_empty_password_file_keeps_state_of_crashed_instance(
    kvm: KvmHypervisor, crashed: Instance, tmp_path: Path
) -> None:
    password_file = tmp_path / "password"
    password_file.write_text("\n")
    display = {"vnc_bind_address": "127.0.0.1", "vnc_password_file": str(password_file)}
    before = kvm.get_instance_info("web1")
    with pytest.raises(ParameterError, match="the first line must hold the password"):
        kvm.start_instance(attrs.evolve(crashed, parameters={**crashed.parameters, **display}))
    assert kvm.get_instance_info("web1") == before


@pytest.mark.usefixtures("may_change_account")
def test_start_rejected_for_exhausted_pool_keeps_state_of_crashed_instance(
    kvm: KvmHypervisor, crashed: Instance, make: MakeInstance
) -> None:
    pool = {"security_model": "pool", "security_pool": "60000"}
    kvm.start_instance(make("web2"))
    state = runtime_file(kvm, "web2")
    state.write_text(json.dumps({**json.loads(state.read_text()), "account": {"uid": 60000, "gid": 60000}}))
    before = kvm.get_instance_info("web1")
    with pytest.raises(ParameterError, match="all 1 accounts of the pool are in use"):
        kvm.start_instance(attrs.evolve(crashed, parameters={**crashed.parameters, **pool}))
    assert kvm.get_instance_info("web1") == before


def test_purge_deletes_state_while_lock_is_held(
    kvm: KvmHypervisor, crashed: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    def remove_state(paths: InstancePaths) -> None:
        held.append(is_lock_held(paths.name, paths.lock_file))

    monkeypatch.setattr(InstancePaths, "remove_state", remove_state)
    kvm.purge_instance("web1")
    assert held == [True]
    assert kvm.list_instances() == []


def runtime_file(kvm: KvmHypervisor, name: str = "web1") -> Path:
    return kvm.run_dir / "instances" / name / "runtime.json"


def test_start_succeeds_despite_stale_sockets_and_pid_file(kvm: KvmHypervisor, crashed: Instance) -> None:
    assert len(list((kvm.run_dir / "sockets").iterdir())) == 4
    assert (kvm.run_dir / "instances" / "web1" / "pid").exists()
    kvm.start_instance(crashed)
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING


def test_reused_pid_is_not_signalled(kvm: KvmHypervisor, crashed: Instance) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            data = json.loads(runtime_file(kvm).read_text())
            data["process"]["pid"] = other.pid
            runtime_file(kvm).write_text(json.dumps(data))
            (kvm.run_dir / "instances" / "web1" / "pid").write_text(f"{other.pid}\n")
            assert kvm.get_instance_info("web1").state is InstanceState.CRASHED
            kvm.stop_instance("web1", force=True)
            kvm.cleanup_instance("web1")
            assert other.poll() is None
        finally:
            other.kill()


def test_damaged_state_file_is_reported_beside_other_instances(
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


def test_running_instance_with_damaged_state_file_is_stopped(kvm: KvmHypervisor, make: MakeInstance) -> None:
    kvm.start_instance(make())
    pid = kvm.get_instance_info("web1").pid
    sound = runtime_file(kvm).read_text()
    runtime_file(kvm).write_text(json.dumps({**json.loads(sound), "version": VERSION + 1}))
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


def test_directory_with_invalid_name_is_reported_by_verify_only(kvm: KvmHypervisor, make: MakeInstance) -> None:
    kvm.start_instance(make())
    bad = kvm.run_dir / "instances" / ".bad"
    bad.mkdir()
    (bad / "runtime.json").touch()
    assert kvm.list_instances() == ["web1"]
    assert [info.name for info in kvm.get_all_instances_info()] == ["web1"]
    assert f"{bad}: not a valid name for an instance" in kvm.verify()
    shutil.rmtree(bad)


#: Calls a function with ever more free file descriptors, and prints each result.
WITH_FEW_FILES = """
import os, resource
from hvkit.errors import HypervisorError
from hvkit.hypervisor import Instance, get_hypervisor
kvm = get_hypervisor("kvm", run_dir={run_dir!r})
instance = Instance(name="web2", memory_mib=32, parameters={parameters!r})
def list_states():
    return [info.state.value for info in kvm.get_all_instances_info()]
def start():
    kvm.start_instance(instance)
    kvm.stop_instance("web2", force=True)
    kvm.cleanup_instance("web2")
    return ["started"]
{what}()
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for _ in range(16):
    try:
        print(*{what}())
    except HypervisorError as error:
        print(type(error).__name__)
    os.close(held.pop())
"""


@pytest.mark.parametrize(("what", "outcome"), [("list_states", "running"), ("start", "started")])
def test_exhausted_descriptors_raise_hypervisor_error(
    kvm: KvmHypervisor, make: MakeInstance, what: str, outcome: str
) -> None:
    instance = make()
    kvm.start_instance(instance)
    program = WITH_FEW_FILES.format(run_dir=str(kvm.run_dir), parameters=dict(instance.parameters), what=what)
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stderr == ""
    seen = run.stdout.splitlines()
    assert len(seen) == 16
    assert seen[-1] == outcome
    assert "crashed" not in seen
    assert kvm.list_instances() == ["web1"]


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (float("nan"), ParameterError),
        (-1, ParameterError),
        ("5", ProgrammerError),
        ([], ProgrammerError),
    ],
)
def test_invalid_timeout_is_rejected_before_any_change(
    kvm: KvmHypervisor, make: MakeInstance, timeout: Any, error: type[HvkitError]
) -> None:
    kvm.start_instance(make())
    before = runtime_file(kvm).read_bytes()
    calls: list[Callable[..., object]] = [
        partial(kvm.dump_instance_memory, "web1", kvm.run_dir / "dump"),
        partial(kvm.save_snapshot, "web1", "tag"),
        partial(kvm.load_snapshot, "web1", "tag"),
        partial(kvm.delete_snapshot, "web1", "tag"),
        partial(kvm.merge_overlays, "web1", [UUID(int=1)]),
        partial(kvm.backup_disks, "web1", Backup(files={UUID(int=1): str(kvm.run_dir / "copy")})),
    ]
    for call in calls:
        with pytest.raises(error, match="timeout: expected a number of seconds"):
            call(timeout=timeout)
    assert runtime_file(kvm).read_bytes() == before
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING


def test_argument_of_wrong_type_raises_programmer_error_before_any_change(
    kvm: KvmHypervisor, make: MakeInstance
) -> None:
    kvm.start_instance(make())
    before = runtime_file(kvm).read_bytes()
    wrong: Any = object()
    for call in (
        kvm.add_overlays,
        kvm.merge_overlays,
        kvm.backup_disks,
        kvm.copy_disks,
        kvm.migrate_instance,
        kvm.hot_add_device,
        kvm.dump_instance_memory,
    ):
        with pytest.raises(ProgrammerError):
            call("web1", wrong)
    for check in (kvm.check_parameter_syntax, kvm.validate_parameters, kvm.assess_parameters):
        with pytest.raises(ProgrammerError):
            check(wrong)
    assert runtime_file(kvm).read_bytes() == before
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING


def test_state_is_crashed_after_node_restart(kvm: KvmHypervisor, crashed: Instance) -> None:
    data = json.loads(runtime_file(kvm).read_text())
    data["process"]["boot_id"] = "an earlier one"
    runtime_file(kvm).write_text(json.dumps(data))
    info = kvm.get_instance_info("web1")
    assert (info.state, info.reason) == (InstanceState.CRASHED, "node was restarted")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_start_fails_if_state_cannot_be_written(
    kvm: KvmHypervisor, make: MakeInstance, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    written: list[Runtime] = []

    def fail_at_number(path: Path, runtime: Runtime) -> None:
        written.append(runtime)
        if len(written) == number:
            raise RuntimeStateError("web1", str(path), "cannot be written: No space left on device")
        write_runtime(path, runtime)

    monkeypatch.setattr("hvkit.hypervisor.kvm.instance.handle.write_runtime", fail_at_number)
    with pytest.raises(InstanceStartError, match="No space left on device"):
        kvm.start_instance(make())
    assert_nothing_left(kvm)


@pytest.mark.parametrize(
    ("function", "call"),
    [
        *(("instance.handle.write_runtime", call) for call in (1, 2, 3)),
        ("host.process.read_boot_id", 1),
        *((f"lifecycle.start.{function}", 1) for function in ("spawn", "_launch", "_run")),
    ],
)
def test_interrupted_start_leaves_nothing(
    kvm: KvmHypervisor, make: MakeInstance, monkeypatch: pytest.MonkeyPatch, function: str, call: int
) -> None:
    function = f"hvkit.hypervisor.kvm.{function}"
    original = pkgutil.resolve_name(function)
    calls = []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(original(*arguments, **options))
        if len(calls) == call:  # the result is lost, as with a signal at this moment
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(function, interrupted)
    with pytest.raises(KeyboardInterrupt):
        kvm.start_instance(make())
    assert_nothing_left(kvm)


def test_failed_start_keeps_state_if_process_may_exist(
    kvm: KvmHypervisor, make: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ProcessError("the listening process cannot be identified")

    with monkeypatch.context() as patch:

        def fail_to_spawn(*_: object, **_options: object) -> None:
            patch.setattr("hvkit.hypervisor.kvm.instance.state.find_listener", fail)
            raise ProcessError("the program cannot be started")

        patch.setattr("hvkit.hypervisor.kvm.lifecycle.start.spawn", fail_to_spawn)
        with pytest.raises(InstanceStateError, match=r"its QEMU may be running: .*cannot be identified"):
            kvm.start_instance(make())
    assert kvm.get_instance_info("web1").state is InstanceState.CRASHED
    kvm.cleanup_instance("web1")
    assert_nothing_left(kvm)


def test_unidentified_process_raises_instance_error_from_every_method(
    kvm: KvmHypervisor, make: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ProcessError("process 1: the kernel refuses")

    kvm.start_instance(make())
    with monkeypatch.context() as patch:
        patch.setattr("hvkit.hypervisor.kvm.instance.state.open_process", fail)
        for method in (
            kvm.get_instance_info,
            kvm.stop_instance,
            kvm.reboot_instance,
            kvm.pause_instance,
            kvm.cleanup_instance,
            kvm.get_instance_screenshot,
            kvm.abort_backup,
        ):
            with pytest.raises(InstanceError) as caught:
                method("web1")
            assert str(caught.value) == "web1: cannot identify its process: process 1: the kernel refuses"
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING


@pytest.mark.parametrize("force", [True, False])
def test_stop_succeeds_if_state_cannot_be_written(
    kvm: KvmHypervisor, make: MakeInstance, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    kvm.start_instance(make())
    pid = kvm.get_instance_info("web1").pid

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        for function in ("fsync", "pwrite"):
            patch.setattr(os, function, fail)
        kvm.stop_instance("web1", force=force, timeout=5)
    assert not Path(f"/proc/{pid}").exists()
    assert kvm.get_instance_info("web1").state is InstanceState.SHUTDOWN
    assert [path.name for path in runtime_file(kvm).parent.iterdir() if path.name != "log"] == ["runtime.json"]


def test_state_is_crashed_after_interrupted_stop_and_kill(
    kvm: KvmHypervisor, make: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    kvm.start_instance(make())
    with monkeypatch.context() as patch:
        patch.setattr("hvkit.hypervisor.kvm.instance.stop._shut_down_and_quit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            kvm.stop_instance("web1", timeout=60)
    info = kvm.get_instance_info("web1")
    assert info.state is InstanceState.RUNNING
    assert info.pid is not None
    os.kill(info.pid, signal.SIGKILL)
    wait_for_end(kvm, "web1")
    assert kvm.get_instance_info("web1").state is InstanceState.CRASHED


def test_state_is_crashed_after_killed_stop(kvm: KvmHypervisor, crashed: Instance) -> None:
    sound = runtime_file(kvm).read_text()
    runtime_file(kvm).write_text(sound.replace('"phase": "running"', '"phase": "stopping"'))
    assert kvm.get_instance_info("web1").state is InstanceState.CRASHED


@pytest.mark.parametrize("size", ["x", None, True, 1.5e6, 0, -1, 1 << 70])
def test_resize_disk_rejects_invalid_size(kvm: KvmHypervisor, make: MakeInstance, size: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        kvm.resize_disk("web1", Disk(path="/a"), size)
    assert caught.value.name == "new_size_bytes"


def test_resize_disk_rejects_nic(kvm: KvmHypervisor, make: MakeInstance) -> None:
    nic = Nic(mac="52:54:00:00:00:01", mode="user")
    kvm.start_instance(make(nics=(nic,)))
    with pytest.raises(ParameterError, match="has no disk with this uuid"):
        kvm.resize_disk("web1", Disk(path="/a", uuid=nic.uuid), 1 << 20)
    not_a_disk: Any = nic
    with pytest.raises(ProgrammerError):
        kvm.resize_disk("web1", not_a_disk, 1 << 20)


def test_start_rejects_uuid_of_another_instance(kvm: KvmHypervisor, make: MakeInstance) -> None:
    first = make("web1")
    kvm.start_instance(first)
    twin = make("web2", uuid=first.uuid)
    with pytest.raises(ParameterError, match="already used by instance web1, which is running") as caught:
        kvm.start_instance(twin)
    assert caught.value.name == "Instance(web2).uuid"
    assert kvm.list_instances() == ["web1"]
    kvm.stop_instance("web1", force=True)
    kvm.start_instance(twin)


def test_start_fails_if_qemu_crashes_during_query(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]
) -> None:
    with pytest.raises(InstanceStartError, match="QEMU was ended by SIG"):
        kvm.start_instance(make_simulated(crash_on="query-name")())
    assert_nothing_left(kvm)


def test_stop_kills_qemu_that_hangs_on_quit(kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]) -> None:
    kvm.start_instance(make_simulated(hang_on="quit")())
    kvm.stop_instance("web1", force=True)
    assert kvm.get_instance_info("web1").reason == "QEMU did not answer and was ended by a signal"


def test_stop_succeeds_if_monitor_closes_during_shutdown(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]
) -> None:
    kvm.start_instance(make_simulated(close_on="system_powerdown")())
    kvm.stop_instance("web1", timeout=5)
    assert kvm.get_instance_info("web1").state is InstanceState.SHUTDOWN


def test_unknown_instance_raises_not_found(kvm: KvmHypervisor) -> None:
    for call in (kvm.get_instance_console, kvm.get_instance_info, kvm.reboot_instance, kvm.stop_instance):
        with pytest.raises(InstanceNotFound):
            call("web1")
    assert not kvm.run_dir.exists()
