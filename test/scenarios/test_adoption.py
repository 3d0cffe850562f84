# SPDX-License-Identifier: BSD-2-Clause
"""QEMUs that somebody else started, looked at and taken over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import attrs
import pytest

from guest.console import GuestConsole
from hvkit.hypervisor import (
    AdoptionError,
    Capability,
    ExternalBlockNode,
    ExternalDevice,
    ExternalNic,
    Instance,
    InstanceState,
    InstanceStateError,
    ParameterError,
    StopCause,
)
from hvkit.hypervisor.base import OPTIONAL_METHODS
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.process import ProcessIdentity, open_process, read_identity
from hvkit.hypervisor.kvm.instance import handle
from hvkit.qmp import ConnectError, QmpConnection
from hvkit.qmp.schema import Cont, Quit, Stop
from hvkit.testing.conformance import call_optional_method
from hvkit.testing.toy_guest import FAREWELL, GREETING, write_disk

pytestmark = pytest.mark.qemu

MakeInstance = Callable[..., Instance]
OpenConsole = Callable[[str], GuestConsole]

UUID_1: Final = UUID("6a1e8a52-3c1f-4d8e-9b51-0f6f1b1d2c3e")


@attrs.frozen
class Stranger:
    """A QEMU that the test started by itself.

    Attributes:
        process: its process.
        monitor: where it listens.
    """

    process: ProcessIdentity
    monitor: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        process = open_process(self.process)
        if process is None:
            return False
        process.close()
        return True


def identity_of(pid: int) -> ProcessIdentity:
    identity = read_identity(pid)
    assert identity is not None
    return identity


#: Starts a stranger, with these words on its command line and its monitor there.
StartStranger = Callable[..., Stranger]


@pytest.fixture
def start_stranger(qemu_binary: str, tmp_path: Path) -> Iterator[StartStranger]:
    """Start QEMUs as people do; what is left of them at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []
    daemons: list[ProcessIdentity] = []

    def start(
        *words: str, monitor: Path | None = None, daemonizes: bool = False, is_relative: bool = False
    ) -> Stranger:
        path = monitor or tmp_path / f"{uuid4().hex[:8]}.qmp"
        argv = [qemu_binary, "-machine", "q35,accel=tcg", "-m", "32", "-nodefaults", "-display", "none", *words]
        argv += ["-qmp", f"unix:{path.name if is_relative else path},server=on,wait=off"]
        if daemonizes:
            pid_file = tmp_path / "stranger.pid"
            subprocess.run([*argv, "-daemonize", "-pidfile", str(pid_file)], check=True, timeout=60, cwd=tmp_path)
            daemon = identity_of(int(pid_file.read_text()))
            daemons.append(daemon)
            return Stranger(daemon, path)
        process = subprocess.Popen(argv, cwd=tmp_path)
        started.append(process)
        deadline = time.monotonic() + 60
        while True:  # until it is the one that listens there
            connection = QmpConnection(path)
            try:
                connection.connect()
                if connection.peer_pid == process.pid:
                    return Stranger(identity_of(process.pid), path)
            except ConnectError:
                assert process.poll() is None
            finally:
                connection.close()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    yield start
    for process in started:
        process.kill()
        process.wait()
    for daemon in daemons:
        if (opened := open_process(daemon)) is not None:
            with opened:
                assert opened.end([(signal.SIGKILL, 10)])


def wait_until(claim: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def state_of(kvm: KvmHypervisor, name: str = "theirs") -> InstanceState:
    return kvm.get_instance_info(name).state


NAMED: Final = ("-name", "theirs", "-uuid", str(UUID_1))


# ---- a look


def test_a_look_tells_what_the_machine_is(kvm: KvmHypervisor, start_stranger: StartStranger, tmp_path: Path) -> None:
    disk = write_disk(tmp_path / "disk.img")
    serial = tmp_path / "serial.sock"
    words = [
        *(*NAMED, "-smp", "2", "-serial", f"unix:{serial},server=on,wait=off"),
        *("-blockdev", f"driver=file,filename={disk},node-name=disk0,read-only=on"),
        *("-device", "virtio-blk-pci,drive=disk0,id=d0", "-device", "virtio-rng-pci"),
        *("-netdev", "user,id=net0", "-device", "virtio-net-pci,id=nic0,netdev=net0,mac=52:54:00:00:00:07"),
    ]
    stranger = start_stranger(*words)
    foreign = kvm.inspect_monitor(stranger.monitor)
    assert (foreign.monitor, foreign.name, foreign.uuid) == (str(stranger.monitor), "theirs", UUID_1)
    assert (foreign.pid, foreign.uid, foreign.gid) == (stranger.pid, os.geteuid(), os.getegid())
    assert foreign.binary == os.readlink(f"/proc/{stranger.pid}/exe")
    assert foreign.machine_type.startswith("pc-q35-")
    assert foreign.version >= (7, 2, 0)
    assert (foreign.has_kvm, foreign.has_acpi, foreign.memory_mib, foreign.vcpus) == (False, True, 32, 2)
    assert (foreign.status, foreign.is_running) == ("running", True)
    assert foreign.block_nodes == (
        ExternalBlockNode(name="disk0", driver="file", filename=str(disk), is_read_only=True),
    )
    assert set(foreign.devices) == {
        ExternalDevice(id="d0", driver="virtio-blk-pci"),
        ExternalDevice(id="nic0", driver="virtio-net-pci"),
        ExternalDevice(id="", driver="virtio-rng-pci"),
    }
    assert foreign.nics == (ExternalNic(driver="virtio-net-pci", mac="52:54:00:00:00:07", netdev="net0"),)
    assert foreign.serial_console == str(serial)
    assert kvm.inspect_monitor(stranger.monitor) == foreign
    assert not kvm.run_dir.exists(), "a look leaves nothing here"


def test_a_look_at_a_machine_of_few_words(kvm: KvmHypervisor, start_stranger: StartStranger) -> None:
    foreign = kvm.inspect_monitor(start_stranger("-S", "-machine", "pc,acpi=off").monitor)
    assert (foreign.name, foreign.uuid, foreign.serial_console, foreign.has_acpi) == ("", None, "", False)
    assert (foreign.status, foreign.is_running) == ("prelaunch", False)
    assert foreign.machine_type.startswith("pc-i440fx-")
    assert (foreign.block_nodes, foreign.devices, foreign.nics) == ((), (), ())


def test_one_of_our_instances_is_not_adopted(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> None:
    kvm.start_instance(make_toy(), start_paused=True)
    (control,) = (kvm.run_dir / "sockets").glob("*.c")
    (tmp_path / "link").symlink_to(control)
    for monitor in (control, tmp_path / "link"):
        foreign = kvm.inspect_monitor(monitor)
        assert foreign.pid == kvm.get_instance_info("web1").pid
        with pytest.raises(AdoptionError, match="cannot be adopted: it was started by hvkit"):
            kvm.adopt_instance(foreign, name="theirs")
    assert kvm.list_instances() == ["web1"]
    assert state_of(kvm, "web1") is InstanceState.PAUSED


def test_what_is_no_monitor_is_not_looked_at(kvm: KvmHypervisor, tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match="there is no such socket"):
        kvm.inspect_monitor(tmp_path / "missing")
    with pytest.raises(ParameterError, match="monitor: expected an absolute path"):
        kvm.inspect_monitor("qmp.sock")


# ---- a life after it


def test_adopted_machine_is_an_instance_to_everybody(
    kvm: KvmHypervisor, start_stranger: StartStranger, guest_console: OpenConsole, tmp_path: Path
) -> None:
    disk = write_disk(tmp_path / "disk.img")
    serial = tmp_path / "serial.sock"
    drive = ("-drive", f"file={disk},format=raw,if=virtio")
    stranger = start_stranger(*NAMED, "-S", "-serial", f"unix:{serial},server=on,wait=off", *drive)
    assert kvm.adopt_instance(kvm.inspect_monitor(stranger.monitor)) == "theirs"

    other = KvmHypervisor(run_dir=kvm.run_dir)
    assert other.list_instances() == ["theirs"]
    info = other.get_instance_info("theirs")
    assert (info.state, info.reason) == (InstanceState.PAUSED, "guest has not run yet")
    assert (info.uuid, info.pid, info.is_adopted) == (UUID_1, stranger.pid, True)
    assert (info.memory_mib, info.vcpus) == (32, 1)
    assert other.get_all_instances_info() == [info]
    assert other.verify() == []

    path = other.get_instance_console("theirs").path
    assert path is not None
    console = guest_console(path)
    with other.monitor("theirs") as monitor:
        monitor.execute(Cont())
    console.wait_for(GREETING, 60)
    other.stop_instance("theirs", timeout=60)
    console.wait_for(FAREWELL)
    info = kvm.get_instance_info("theirs")
    assert (info.state, info.reason, info.pid) == (InstanceState.SHUTDOWN, "guest shut down on request", None)
    assert not stranger.is_alive
    kvm.cleanup_instance("theirs")
    assert kvm.list_instances() == []


def test_adopted_machine_is_reset_even_if_reboots_would_end_it(
    kvm: KvmHypervisor, start_stranger: StartStranger
) -> None:
    first, second = (start_stranger("-name", name, "-no-reboot") for name in ("theirs", "others"))
    kvm.adopt_instance(kvm.inspect_monitor(first.monitor))
    kvm.reboot_instance("theirs")
    assert state_of(kvm) is InstanceState.RUNNING
    kvm.reboot_instance("theirs")
    assert state_of(kvm) is InstanceState.RUNNING
    assert first.is_alive
    assert second.is_alive


def test_adopted_machine_is_paused_ballooned_seen_and_dumped(
    kvm: KvmHypervisor, start_stranger: StartStranger, tmp_path: Path
) -> None:
    stranger = start_stranger(*NAMED, "-vga", "std", "-device", "virtio-balloon-pci")
    kvm.adopt_instance(kvm.inspect_monitor(stranger.monitor))
    with kvm.monitor("theirs") as monitor:
        monitor.execute(Stop())
    assert kvm.get_instance_info("theirs").cause is StopCause.REQUEST
    kvm.balloon_instance_memory("theirs", 16)
    assert kvm.get_instance_screenshot("theirs").startswith(b"\x89PNG")
    kvm.dump_instance_memory("theirs", tmp_path / "dump")
    assert (tmp_path / "dump").stat().st_size > 32 << 20


#: What works on an adopted instance, and what is about none that is here. All else takes knowing how it was made.
WORKS: Final = {
    *(Capability.ADOPT, Capability.BALLOON, Capability.CONSOLE, Capability.DUMP, Capability.MONITOR),
    Capability.SCREENSHOT,
}
OF_OTHERS: Final = {"accept_instance", "find_migration_obstacles", "finalize_migration_destination"}


def test_what_takes_more_than_it_tells_is_refused(kvm: KvmHypervisor, start_stranger: StartStranger) -> None:
    stranger = start_stranger(*NAMED)
    kvm.adopt_instance(kvm.inspect_monitor(stranger.monitor))
    methods = {method for capability in kvm.CAPABILITIES - WORKS for method in OPTIONAL_METHODS[capability]}
    assert {"hot_add_device", "resize_disk", "migrate_instance", "save_snapshot", "backup_disks"} <= methods
    for method in sorted(methods - OF_OTHERS):
        with pytest.raises(
            InstanceStateError,
            match=r"^theirs: not available for an adopted instance: the configuration of its machine is not known",
        ):
            call_optional_method(kvm, method, "theirs")
    assert state_of(kvm) is InstanceState.RUNNING


@pytest.mark.parametrize("is_relative", [False, True], ids=["by-path", "by-relative-path"])
def test_daemon_is_adopted(kvm: KvmHypervisor, start_stranger: StartStranger, is_relative: bool) -> None:
    stranger = start_stranger(*NAMED, daemonizes=True, is_relative=is_relative)
    foreign = kvm.inspect_monitor(stranger.monitor)
    assert foreign.pid == stranger.pid
    kvm.adopt_instance(foreign)
    assert kvm.get_instance_info("theirs").pid == stranger.pid
    kvm.stop_instance("theirs", force=True)
    assert not stranger.is_alive
    info = kvm.get_instance_info("theirs")
    assert (info.state, info.cause) == (InstanceState.SHUTDOWN, StopCause.REQUEST)


def test_adopted_machine_that_ends_has_crashed_and_its_name_is_free(
    kvm: KvmHypervisor, start_stranger: StartStranger, make_toy: MakeInstance
) -> None:
    stranger = start_stranger(*NAMED)
    kvm.adopt_instance(kvm.inspect_monitor(stranger.monitor))
    os.kill(stranger.pid, signal.SIGKILL)
    wait_until(lambda: state_of(kvm).is_over)
    info = kvm.get_instance_info("theirs")
    assert (info.state, info.cause) == (InstanceState.CRASHED, None)
    assert info.reason == "QEMU ended; cause unknown, as the instance was adopted"
    kvm.start_instance(make_toy("theirs"))
    info = kvm.get_instance_info("theirs")
    assert (info.state, info.is_adopted) == (InstanceState.RUNNING, False)


def test_stopped_process_is_no_answer(kvm: KvmHypervisor, start_stranger: StartStranger) -> None:
    stranger = start_stranger(*NAMED)
    os.kill(stranger.pid, signal.SIGSTOP)
    with pytest.raises(ConnectError, match="busy with another client, or stopped"):
        kvm.inspect_monitor(stranger.monitor)
    os.kill(stranger.pid, signal.SIGCONT)
    foreign = kvm.inspect_monitor(stranger.monitor)
    os.kill(stranger.pid, signal.SIGSTOP)
    with pytest.raises(ConnectError, match="busy with another client, or stopped"):
        kvm.adopt_instance(foreign)
    assert kvm.list_instances() == []
    os.kill(stranger.pid, signal.SIGCONT)
    kvm.adopt_instance(foreign)
    os.kill(stranger.pid, signal.SIGSTOP)
    info = kvm.get_instance_info("theirs")
    assert (info.state, info.reason) == (InstanceState.UNRESPONSIVE, "QEMU process stopped by a signal")
    kvm.stop_instance("theirs", force=True)
    assert not stranger.is_alive


# ---- names and uuids


def test_name_that_no_instance_can_have_is_replaced(kvm: KvmHypervisor, start_stranger: StartStranger) -> None:
    stranger = start_stranger("-name", "my vm", "-uuid", str(UUID_1))
    foreign = kvm.inspect_monitor(stranger.monitor)
    with pytest.raises(ParameterError, match=r"the QEMU has name 'my vm', .*: pass another name"):
        kvm.adopt_instance(foreign)
    with pytest.raises(ParameterError, match=r"not a valid name for an instance: '\.\./vm'"):
        kvm.adopt_instance(foreign, name="../vm")
    assert kvm.adopt_instance(foreign, name="my-vm") == "my-vm"
    assert kvm.get_instance_info("my-vm").uuid == UUID_1
    kvm.reboot_instance("my-vm")


def test_machines_without_uuid_are_told_apart(kvm: KvmHypervisor, start_stranger: StartStranger) -> None:
    for name in ("one", "two"):
        kvm.adopt_instance(kvm.inspect_monitor(start_stranger().monitor), name=name)
    one, two = kvm.get_all_instances_info()
    assert len({one.uuid, two.uuid, UUID(int=0)}) == 3
    assert one.pid != two.pid


def test_name_and_uuid_are_one_instances_own(
    kvm: KvmHypervisor, make_toy: MakeInstance, start_stranger: StartStranger
) -> None:
    ours = make_toy("ours")
    kvm.start_instance(ours, start_paused=True)
    stranger = start_stranger("-name", "ours", "-uuid", str(ours.uuid))
    foreign = kvm.inspect_monitor(stranger.monitor)
    with pytest.raises(AdoptionError, match="instance ours exists: stop it and clean it up first"):
        kvm.adopt_instance(foreign)
    with pytest.raises(ParameterError, match="already used by instance ours, which is paused"):
        kvm.adopt_instance(foreign, name="theirs")
    assert kvm.list_instances() == ["ours"]
    assert state_of(kvm, "ours") is InstanceState.PAUSED
    assert stranger.is_alive


def test_machine_is_adopted_once(kvm: KvmHypervisor, start_stranger: StartStranger) -> None:
    stranger = start_stranger(*NAMED)
    foreign = kvm.inspect_monitor(stranger.monitor)
    kvm.adopt_instance(foreign)
    with pytest.raises(AdoptionError, match="instance theirs exists"):
        kvm.adopt_instance(foreign)
    with pytest.raises(AdoptionError, match=rf"process {stranger.pid} is instance theirs already"):
        kvm.adopt_instance(foreign, name="again")
    assert kvm.list_instances() == ["theirs"]
    assert state_of(kvm) is InstanceState.RUNNING


# ---- monitors


def test_second_monitor_serves_us_while_somebody_has_the_first(
    kvm: KvmHypervisor, start_stranger: StartStranger, tmp_path: Path
) -> None:
    second = tmp_path / "second.qmp"
    stranger = start_stranger(*NAMED, "-qmp", f"unix:{second},server=on,wait=off")
    kvm.adopt_instance(kvm.inspect_monitor(stranger.monitor), shared_monitor=second)
    with kvm.monitor("theirs"):
        assert state_of(kvm) is InstanceState.RUNNING
        kvm.reboot_instance("theirs")


def test_the_only_monitor_serves_who_comes_first(kvm: KvmHypervisor, start_stranger: StartStranger) -> None:
    stranger = start_stranger(*NAMED)
    kvm.adopt_instance(kvm.inspect_monitor(stranger.monitor))
    with kvm.monitor("theirs"):
        assert state_of(kvm) is InstanceState.UNRESPONSIVE
    assert state_of(kvm) is InstanceState.RUNNING


def test_watch_sees_adopted_machines_and_leaves_them_their_monitor(
    kvm: KvmHypervisor, start_stranger: StartStranger
) -> None:
    stranger = start_stranger(*NAMED)
    kvm.adopt_instance(kvm.inspect_monitor(stranger.monitor))
    with kvm.watch() as watch:
        for _ in range(2):
            assert [info.state for info in watch.query()] == [InstanceState.RUNNING]
            kvm.reboot_instance("theirs")
        another = start_stranger(*NAMED, monitor=stranger.monitor)
        assert [info.state for info in watch.query()] == [InstanceState.UNRESPONSIVE]
        os.kill(stranger.pid, signal.SIGKILL)
        wait_until(lambda: not stranger.is_alive)
        assert [info.state for info in watch.query()] == [InstanceState.CRASHED]
    assert another.is_alive


def test_monitor_of_another_machine_is_no_second_one(kvm: KvmHypervisor, start_stranger: StartStranger) -> None:
    stranger, another = start_stranger(*NAMED), start_stranger()
    foreign = kvm.inspect_monitor(stranger.monitor)
    with pytest.raises(
        ConnectError, match=rf"process {another.pid} listens on it, not process {stranger.pid}"
    ) as caught:
        kvm.adopt_instance(foreign, shared_monitor=another.monitor)
    assert caught.value.address == str(another.monitor)
    assert kvm.list_instances() == []
    assert stranger.is_alive
    assert another.is_alive


def test_machine_that_is_another_by_now_is_not_adopted(kvm: KvmHypervisor, start_stranger: StartStranger) -> None:
    stranger = start_stranger(*NAMED)
    foreign = kvm.inspect_monitor(stranger.monitor)
    with pytest.raises(AdoptionError, match=r"QEMU 'theirs' .* answers on this monitor, not the one"):
        kvm.adopt_instance(attrs.evolve(foreign, uuid=uuid4()))
    another = start_stranger(*NAMED, monitor=stranger.monitor)
    with pytest.raises(ConnectError, match=rf"process {another.pid} listens on it, not process {stranger.pid}"):
        kvm.adopt_instance(foreign)
    with QmpConnection(another.monitor) as monitor:
        monitor.execute(Quit())
    os.kill(stranger.pid, signal.SIGKILL)
    wait_until(lambda: not stranger.is_alive)
    with pytest.raises(AdoptionError, match=rf"process {stranger.pid} has ended"):
        kvm.adopt_instance(foreign)
    assert kvm.list_instances() == []


def test_another_machine_at_the_monitor_is_left_alone(kvm: KvmHypervisor, start_stranger: StartStranger) -> None:
    stranger = start_stranger(*NAMED)
    kvm.adopt_instance(kvm.inspect_monitor(stranger.monitor))
    another = start_stranger(*NAMED, "-S", monitor=stranger.monitor)
    assert state_of(kvm) is InstanceState.UNRESPONSIVE
    assert [info.state for info in kvm.get_all_instances_info()] == [InstanceState.UNRESPONSIVE]
    with pytest.raises(ConnectError, match=rf"process {another.pid} listens on it, not process {stranger.pid}"):
        kvm.monitor("theirs").__enter__()
    kvm.stop_instance("theirs", force=True)
    assert not stranger.is_alive
    assert another.is_alive


# ---- adoptions that break off


def test_interrupted_adoption_leaves_nothing_here(
    kvm: KvmHypervisor, start_stranger: StartStranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = start_stranger(*NAMED)
    foreign = kvm.inspect_monitor(stranger.monitor)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(handle, "write_runtime", interrupt)
        with pytest.raises(KeyboardInterrupt):
            kvm.adopt_instance(foreign)
    left = {path.name for path in kvm.run_dir.rglob("*")}
    assert left == {"instances", "sockets", "locks", ".reserving"}
    assert stranger.is_alive
    kvm.adopt_instance(foreign)


_DIES_OVER_IT: Final = """
import os, signal, sys
from hvkit.hypervisor.base import OPTIONAL_METHODS
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.instance import handle
handle.write_runtime = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
kvm = KvmHypervisor(run_dir=sys.argv[1])
kvm.adopt_instance(kvm.inspect_monitor(sys.argv[2]))
"""


@pytest.fixture
def half_adopted(kvm: KvmHypervisor, start_stranger: StartStranger) -> Stranger:
    """A stranger over whose adoption somebody died, at the last moment before it was one."""
    stranger = start_stranger(*NAMED)
    died = subprocess.run(
        [sys.executable, "-c", _DIES_OVER_IT, str(kvm.run_dir), str(stranger.monitor)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=60,
    )
    assert (died.returncode, died.stderr) == (-signal.SIGKILL, b"")
    assert any(path.is_symlink() for path in (kvm.run_dir / "sockets").iterdir())
    assert kvm.list_instances() == []
    return stranger


@pytest.mark.parametrize("how", ["adopt", "cleanup", "start"])
def test_whoever_comes_after_a_death_over_an_adoption_goes_on(
    kvm: KvmHypervisor, half_adopted: Stranger, make_toy: MakeInstance, how: str
) -> None:
    match how:
        case "adopt":
            kvm.adopt_instance(kvm.inspect_monitor(half_adopted.monitor))
            assert kvm.get_instance_info("theirs").is_adopted
        case "cleanup":
            kvm.cleanup_instance("theirs")
            assert not any((kvm.run_dir / "sockets").iterdir())
        case "start":
            kvm.start_instance(make_toy("theirs"))
            assert not kvm.get_instance_info("theirs").is_adopted
    assert half_adopted.is_alive


def test_adopted_machine_of_which_nothing_sensible_is_remembered_is_stopped(
    kvm: KvmHypervisor, start_stranger: StartStranger
) -> None:
    stranger = start_stranger(*NAMED)
    kvm.adopt_instance(kvm.inspect_monitor(stranger.monitor))
    (kvm.run_dir / "instances" / "theirs" / "runtime.json").write_text("{}")
    assert state_of_damaged(kvm) is InstanceState.UNRESPONSIVE
    kvm.stop_instance("theirs", force=True)
    assert not stranger.is_alive
    assert state_of_damaged(kvm) is InstanceState.CRASHED
    kvm.cleanup_instance("theirs")


def state_of_damaged(kvm: KvmHypervisor) -> InstanceState:
    (info,) = kvm.get_all_instances_info()
    return info.state
