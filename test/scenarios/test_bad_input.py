# SPDX-License-Identifier: BSD-2-Clause
"""What operators and accidents hand to the plugin: each is refused with a clear error, and leaves nothing behind."""

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

from hvkit.errors import ProgrammerError
from hvkit.hypervisor import (
    Backup,
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
from hvkit.hypervisor.kvm.host import probe
from hvkit.hypervisor.kvm.host.network import has_interface
from hvkit.hypervisor.kvm.host.process import ProcessError
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.host.state_file import write_runtime
from hvkit.qmp.program import find_program
from hvkit.qmp.program_cache import ProgramCache

MakeInstance = Callable[..., Instance]


@pytest.fixture
def make(make_simulated: Callable[..., MakeInstance]) -> MakeInstance:
    """Makes instances for what fails before it comes to QEMU."""
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
        (b"QFI\xfb\0\0\0\3", "raw", "the instance specifies format raw, but it is a qcow2 image"),
        (b"\xeb\x63\x90\0", "qcow2", "the instance specifies format qcow2, but it is not a qcow2 image"),
        (b"", "qcow2", "the instance specifies format qcow2, but it is not a qcow2 image"),
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
def test_parameters_that_the_node_cannot_honour_are_not_valid(
    kvm: KvmHypervisor, make: MakeInstance, parameter: str, value: str
) -> None:
    parameters = {**make().parameters, parameter: value}
    kvm.check_parameter_syntax(parameters)
    with pytest.raises(ParameterError) as caught:
        kvm.validate_parameters(parameters)
    assert caught.value.name == parameter


def test_calls_that_change_nothing_keep_nothing(
    kvm: KvmHypervisor, make: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    kvm.run_dir.mkdir(mode=0o700)
    kvm.validate_parameters(make().parameters)
    kvm.get_node_info()
    kvm.verify()
    assert list(kvm.run_dir.iterdir()) == []
    monkeypatch.setattr(probe, "_known", {})
    kvm.start_instance(make())
    assert (kvm.run_dir / "cache").is_dir()


def test_what_a_stranger_says_of_a_program_is_not_believed(
    kvm: KvmHypervisor, make: MakeInstance, tmp_path: Path
) -> None:
    parameters = make().parameters
    program = str(parameters["kvm_path"])
    capabilities = probe._probe(program, 10.0)
    forged = attrs.evolve(capabilities, machines=(attrs.evolve(capabilities.machines[0], name="pc-q35-66.6"),))
    stranger = KvmHypervisor(run_dir=tmp_path / "open")
    cache = ProgramCache(stranger.run_dir / "cache", "capabilities", 1)
    cache.write(find_program(program), json.dumps(forged.to_plain()).encode())
    stranger.run_dir.chmod(0o777)
    with pytest.raises(ParameterError):
        stranger.start_instance(make())
    with pytest.raises(ParameterError, match=r"no machine type 'pc-q35-66\.6'"):
        kvm.validate_parameters({**parameters, "machine_version": "pc-q35-66.6"})


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
    with pytest.raises(InstanceStartError, match=r"is QEMU 6\.2\.0; the oldest supported version is 7\.2"):
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
def may_make_taps(unavailable: Callable[[str], NoReturn]) -> None:
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        unavailable("taps need root and /dev/net/tun, so they are NOT tested here")


@pytest.mark.usefixtures("may_make_taps")
def test_tap_whose_name_is_taken(kvm: KvmHypervisor, make: MakeInstance) -> None:
    with pytest.raises(InstanceStartError, match=r"network interface lo: .* an interface of that name exists"):
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
def test_refused_start_leaves_an_earlier_life_as_it_was(
    kvm: KvmHypervisor, crashed: Instance, changes: dict[str, Any]
) -> None:
    before = kvm.get_instance_info("web1")
    parameters = {**crashed.parameters, **changes.get("parameters", {})}
    with pytest.raises(ParameterError):
        kvm.start_instance(attrs.evolve(crashed, **{**changes, "parameters": parameters}))
    assert kvm.get_instance_info("web1") == before


def runtime_file(kvm: KvmHypervisor) -> Path:
    return kvm.run_dir / "instances" / "web1" / "runtime.json"


def test_stale_sockets_and_pid_file_do_not_keep_an_instance_from_starting(
    kvm: KvmHypervisor, crashed: Instance
) -> None:
    assert len(list((kvm.run_dir / "sockets").iterdir())) == 4
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
    runtime_file(kvm).write_text(sound.replace('"version": 2', '"version": 3'))
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


def test_directory_of_no_instance_is_reported_and_hides_none(kvm: KvmHypervisor, make: MakeInstance) -> None:
    kvm.start_instance(make())
    bad = kvm.run_dir / "instances" / ".bad"
    bad.mkdir()
    (bad / "runtime.json").touch()
    assert kvm.list_instances() == ["web1"]
    assert [info.name for info in kvm.get_all_instances_info()] == ["web1"]
    assert f"{bad}: no instance can have that name" in kvm.verify()
    shutil.rmtree(bad)


#: Does something with ever more files left to open, and prints what comes of it.
WITH_FEW_FILES = """
import os, resource
from hvkit.errors import HypervisorError
from hvkit.hypervisor import Instance, get_hypervisor
kvm = get_hypervisor("kvm", run_dir={run_dir!r})
instance = Instance(name="web2", memory_mib=32, parameters={parameters!r})
def look():
    return [info.state.value for info in kvm.get_all_instances_info()]
def start():
    kvm.start_instance(instance)
    kvm.stop_instance("web2", force=True)
    kvm.cleanup_instance("web2")
    return ["started"]
{what}()
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for _ in range(16):
    try:
        print(*{what}())
    except HypervisorError as error:
        print(type(error).__name__)
    os.close(taken.pop())
"""


@pytest.mark.parametrize(("what", "outcome"), [("look", "running"), ("start", "started")])
def test_too_many_open_files_are_the_worlds_fault(
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


@pytest.mark.parametrize("timeout", [float("nan"), -1, "5", None])
def test_span_that_nobody_can_wait_for_is_refused_before_anything_is_done(
    kvm: KvmHypervisor, make: MakeInstance, timeout: Any
) -> None:
    kvm.start_instance(make())
    before = runtime_file(kvm).read_bytes()
    acts: list[Callable[..., object]] = [
        partial(kvm.dump_instance_memory, "web1", kvm.run_dir / "dump"),
        partial(kvm.save_snapshot, "web1", "tag"),
        partial(kvm.load_snapshot, "web1", "tag"),
        partial(kvm.delete_snapshot, "web1", "tag"),
        partial(kvm.merge_overlays, "web1", [UUID(int=1)]),
        partial(kvm.backup_disks, "web1", Backup(files={UUID(int=1): str(kvm.run_dir / "copy")})),
    ]
    for act in acts:
        with pytest.raises(ParameterError, match="timeout: expected a number of seconds that is not negative"):
            act(timeout=timeout)
    assert runtime_file(kvm).read_bytes() == before
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING


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

    monkeypatch.setattr("hvkit.hypervisor.kvm.instance.handle.write_runtime", fail_in_the_end)
    with pytest.raises(InstanceStartError, match="No space left on device"):
        kvm.start_instance(make())
    assert_nothing_left(kvm)


@pytest.mark.parametrize(
    ("function", "call"),
    [
        *(("instance.handle.write_runtime", call) for call in (1, 2, 3)),
        ("host.process.read_boot_id", 1),
        *((f"lifecycle.start.{function}", 1) for function in ("spawn", "_launch", "_let_run")),
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
        patch.setattr("hvkit.hypervisor.kvm.lifecycle.start.spawn", be_unsure)
        patch.setattr("hvkit.hypervisor.kvm.lifecycle.start.find_listener", be_unsure)
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
        patch.setattr("hvkit.hypervisor.kvm.instance.stop._talk", interrupt)
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


# ---- what callers hand in by mistake


@pytest.mark.parametrize("size", ["x", None, True, 1.5e6, 0, -1, 1 << 70])
def test_size_that_no_disk_has(kvm: KvmHypervisor, make: MakeInstance, size: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        kvm.resize_disk("web1", Disk(path="/a"), size)
    assert caught.value.name == "new_size_bytes"


def test_nic_is_no_disk_to_resize(kvm: KvmHypervisor, make: MakeInstance) -> None:
    nic = Nic(mac="52:54:00:00:00:01", mode="user")
    kvm.start_instance(make(nics=(nic,)))
    with pytest.raises(ParameterError, match="has no disk of that uuid"):
        kvm.resize_disk("web1", Disk(path="/a", uuid=nic.uuid), 1 << 20)
    not_a_disk: Any = nic
    with pytest.raises(ProgrammerError):
        kvm.resize_disk("web1", not_a_disk, 1 << 20)


def test_uuid_that_another_instance_has(kvm: KvmHypervisor, make: MakeInstance) -> None:
    first = make("web1")
    kvm.start_instance(first)
    twin = make("web2", uuid=first.uuid)
    with pytest.raises(ParameterError, match="instance web1 has the same, and is running") as caught:
        kvm.start_instance(twin)
    assert caught.value.name == "Instance(web2).uuid"
    assert kvm.list_instances() == ["web1"]
    kvm.stop_instance("web1", force=True)
    kvm.start_instance(twin)


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
