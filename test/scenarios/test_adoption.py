# SPDX-License-Identifier: BSD-2-Clause
"""Inspection and adoption of QEMUs that hvkit did not start."""

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
class ExternalQemu:
    """A QEMU that the test has started.

    Attributes:
        process: its process.
        monitor: its monitor socket.
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


#: Starts an external QEMU, with additional arguments.
StartExternal = Callable[..., ExternalQemu]


@pytest.fixture
def start_external(qemu_binary: str, tmp_path: Path) -> Iterator[StartExternal]:
    """Start QEMUs without hvkit. Those that are left after the test are killed."""
    started: list[subprocess.Popen[bytes]] = []
    daemons: list[ProcessIdentity] = []

    def start(
        *words: str, monitor: Path | None = None, daemonizes: bool = False, is_relative: bool = False
    ) -> ExternalQemu:
        path = monitor or tmp_path / f"{uuid4().hex[:8]}.qmp"
        argv = [qemu_binary, "-machine", "q35,accel=tcg", "-m", "32", "-nodefaults", "-display", "none", *words]
        argv += ["-qmp", f"unix:{path.name if is_relative else path},server=on,wait=off"]
        if daemonizes:
            pid_file = tmp_path / "qemu.pid"
            subprocess.run([*argv, "-daemonize", "-pidfile", str(pid_file)], check=True, timeout=60, cwd=tmp_path)
            daemon = identity_of(int(pid_file.read_text()))
            daemons.append(daemon)
            return ExternalQemu(daemon, path)
        process = subprocess.Popen(argv, cwd=tmp_path)
        started.append(process)
        deadline = time.monotonic() + 60
        while True:  # until the new process listens on the socket
            connection = QmpConnection(path)
            try:
                connection.connect()
                if connection.peer_pid == process.pid:
                    return ExternalQemu(identity_of(process.pid), path)
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


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.02)


def state_of(kvm: KvmHypervisor, name: str = "theirs") -> InstanceState:
    return kvm.get_instance_info(name).state


NAMED: Final = ("-name", "theirs", "-uuid", str(UUID_1))


def test_inspection_describes_machine(kvm: KvmHypervisor, start_external: StartExternal, tmp_path: Path) -> None:
    disk = write_disk(tmp_path / "disk.img")
    serial = tmp_path / "serial.sock"
    words = [
        *(*NAMED, "-smp", "2", "-serial", f"unix:{serial},server=on,wait=off"),
        *("-blockdev", f"driver=file,filename={disk},node-name=disk0,read-only=on"),
        *("-device", "virtio-blk-pci,drive=disk0,id=d0", "-device", "virtio-rng-pci"),
        *("-netdev", "user,id=net0", "-device", "virtio-net-pci,id=nic0,netdev=net0,mac=52:54:00:00:00:07"),
    ]
    qemu = start_external(*words)
    external = kvm.inspect_monitor(qemu.monitor)
    assert (external.monitor, external.name, external.uuid) == (str(qemu.monitor), "theirs", UUID_1)
    assert (external.pid, external.uid, external.gid) == (qemu.pid, os.geteuid(), os.getegid())
    assert external.binary == os.readlink(f"/proc/{qemu.pid}/exe")
    assert external.machine_type.startswith("pc-q35-")
    assert external.version >= (7, 2, 0)
    assert (external.has_kvm, external.has_acpi, external.memory_mib, external.vcpus) == (False, True, 32, 2)
    assert (external.status, external.is_running) == ("running", True)
    assert external.block_nodes == (
        ExternalBlockNode(name="disk0", driver="file", filename=str(disk), is_read_only=True),
    )
    assert set(external.devices) == {
        ExternalDevice(id="d0", driver="virtio-blk-pci"),
        ExternalDevice(id="nic0", driver="virtio-net-pci"),
        ExternalDevice(id="", driver="virtio-rng-pci"),
    }
    assert external.nics == (ExternalNic(driver="virtio-net-pci", mac="52:54:00:00:00:07", netdev="net0"),)
    assert external.serial_console == str(serial)
    assert kvm.inspect_monitor(qemu.monitor) == external
    assert not kvm.run_dir.exists(), "an inspection writes nothing"


def test_inspection_of_minimal_machine_leaves_members_empty(kvm: KvmHypervisor, start_external: StartExternal) -> None:
    external = kvm.inspect_monitor(start_external("-S", "-machine", "pc,acpi=off").monitor)
    assert (external.name, external.uuid, external.serial_console, external.has_acpi) == ("", None, "", False)
    assert (external.status, external.is_running) == ("prelaunch", False)
    assert external.machine_type.startswith("pc-i440fx-")
    assert (external.block_nodes, external.devices, external.nics) == ((), (), ())


def test_adoption_rejects_managed_instance(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> None:
    kvm.start_instance(make_toy(), start_paused=True)
    (control,) = (kvm.run_dir / "sockets").glob("*.c")
    (tmp_path / "link").symlink_to(control)
    for monitor in (control, tmp_path / "link"):
        external = kvm.inspect_monitor(monitor)
        assert external.pid == kvm.get_instance_info("web1").pid
        with pytest.raises(AdoptionError, match="cannot be adopted: it was started by hvkit"):
            kvm.adopt_instance(external, name="theirs")
    assert kvm.list_instances() == ["web1"]
    assert state_of(kvm, "web1") is InstanceState.PAUSED


def test_inspection_rejects_missing_socket_and_relative_path(kvm: KvmHypervisor, tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match="there is no such socket"):
        kvm.inspect_monitor(tmp_path / "missing")
    with pytest.raises(ParameterError, match="monitor: expected an absolute path"):
        kvm.inspect_monitor("qmp.sock")


def test_adopted_instance_is_managed_by_every_process(
    kvm: KvmHypervisor, start_external: StartExternal, guest_console: OpenConsole, tmp_path: Path
) -> None:
    disk = write_disk(tmp_path / "disk.img")
    serial = tmp_path / "serial.sock"
    drive = ("-drive", f"file={disk},format=raw,if=virtio")
    qemu = start_external(*NAMED, "-S", "-serial", f"unix:{serial},server=on,wait=off", *drive)
    assert kvm.adopt_instance(kvm.inspect_monitor(qemu.monitor)) == "theirs"

    other = KvmHypervisor(run_dir=kvm.run_dir)
    assert other.list_instances() == ["theirs"]
    info = other.get_instance_info("theirs")
    assert (info.state, info.reason) == (InstanceState.PAUSED, "guest has not run yet")
    assert (info.uuid, info.pid, info.is_adopted) == (UUID_1, qemu.pid, True)
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
    assert not qemu.is_alive
    kvm.cleanup_instance("theirs")
    assert kvm.list_instances() == []


def test_reboot_resets_adopted_instance_started_with_no_reboot(
    kvm: KvmHypervisor, start_external: StartExternal
) -> None:
    first, second = (start_external("-name", name, "-no-reboot") for name in ("theirs", "others"))
    kvm.adopt_instance(kvm.inspect_monitor(first.monitor))
    kvm.reboot_instance("theirs")
    assert state_of(kvm) is InstanceState.RUNNING
    kvm.reboot_instance("theirs")
    assert state_of(kvm) is InstanceState.RUNNING
    assert first.is_alive
    assert second.is_alive


def test_adopted_instance_supports_pause_balloon_screenshot_and_dump(
    kvm: KvmHypervisor, start_external: StartExternal, tmp_path: Path
) -> None:
    qemu = start_external(*NAMED, "-vga", "std", "-device", "virtio-balloon-pci")
    kvm.adopt_instance(kvm.inspect_monitor(qemu.monitor))
    kvm.pause_instance("theirs")
    kvm.resume_instance("theirs")
    assert state_of(kvm) is InstanceState.RUNNING
    with kvm.monitor("theirs") as monitor:
        monitor.execute(Stop())
    assert kvm.get_instance_info("theirs").cause is StopCause.REQUEST
    kvm.balloon_instance_memory("theirs", 16)
    assert kvm.get_instance_screenshot("theirs").startswith(b"\x89PNG")
    kvm.dump_instance_memory("theirs", tmp_path / "dump")
    assert (tmp_path / "dump").stat().st_size > 32 << 20


#: Capabilities that an adopted instance supports, and methods for which there is no instance on this node.
SUPPORTED: Final = {
    *(Capability.ADOPT, Capability.BALLOON, Capability.CONSOLE, Capability.DUMP, Capability.MONITOR),
    *(Capability.PAUSE, Capability.SCREENSHOT),
}
WITHOUT_INSTANCE: Final = {"accept_instance", "find_migration_obstacles", "finalize_migration_destination"}


def test_adopted_instance_rejects_other_optional_methods(kvm: KvmHypervisor, start_external: StartExternal) -> None:
    qemu = start_external(*NAMED)
    kvm.adopt_instance(kvm.inspect_monitor(qemu.monitor))
    methods = {method for capability in kvm.CAPABILITIES - SUPPORTED for method in OPTIONAL_METHODS[capability]}
    assert {"hot_add_device", "resize_disk", "migrate_instance", "save_snapshot", "backup_disks"} <= methods
    for method in sorted(methods - WITHOUT_INSTANCE):
        with pytest.raises(
            InstanceStateError,
            match=r"^theirs: not available for an adopted instance: the configuration of its machine is not known",
        ):
            call_optional_method(kvm, method, "theirs")
    assert state_of(kvm) is InstanceState.RUNNING


@pytest.mark.parametrize("is_relative", [False, True], ids=["by-path", "by-relative-path"])
def test_daemonized_qemu_is_adopted(kvm: KvmHypervisor, start_external: StartExternal, is_relative: bool) -> None:
    qemu = start_external(*NAMED, daemonizes=True, is_relative=is_relative)
    external = kvm.inspect_monitor(qemu.monitor)
    assert external.pid == qemu.pid
    kvm.adopt_instance(external)
    assert kvm.get_instance_info("theirs").pid == qemu.pid
    kvm.stop_instance("theirs", force=True)
    assert not qemu.is_alive
    info = kvm.get_instance_info("theirs")
    assert (info.state, info.cause) == (InstanceState.SHUTDOWN, StopCause.REQUEST)


def test_adopted_instance_that_ends_is_crashed_and_frees_its_name(
    kvm: KvmHypervisor, start_external: StartExternal, make_toy: MakeInstance
) -> None:
    qemu = start_external(*NAMED)
    kvm.adopt_instance(kvm.inspect_monitor(qemu.monitor))
    os.kill(qemu.pid, signal.SIGKILL)
    wait_until(lambda: state_of(kvm).is_over)
    info = kvm.get_instance_info("theirs")
    assert (info.state, info.cause) == (InstanceState.CRASHED, None)
    assert info.reason == "QEMU ended; cause unknown, as the instance was adopted"
    kvm.start_instance(make_toy("theirs"))
    info = kvm.get_instance_info("theirs")
    assert (info.state, info.is_adopted) == (InstanceState.RUNNING, False)


def test_stopped_process_is_not_adopted_until_it_continues(kvm: KvmHypervisor, start_external: StartExternal) -> None:
    qemu = start_external(*NAMED)
    os.kill(qemu.pid, signal.SIGSTOP)
    with pytest.raises(ConnectError, match="busy with another client, or stopped"):
        kvm.inspect_monitor(qemu.monitor)
    os.kill(qemu.pid, signal.SIGCONT)
    external = kvm.inspect_monitor(qemu.monitor)
    os.kill(qemu.pid, signal.SIGSTOP)
    with pytest.raises(ConnectError, match="busy with another client, or stopped"):
        kvm.adopt_instance(external)
    assert kvm.list_instances() == []
    os.kill(qemu.pid, signal.SIGCONT)
    kvm.adopt_instance(external)
    os.kill(qemu.pid, signal.SIGSTOP)
    info = kvm.get_instance_info("theirs")
    assert (info.state, info.reason) == (InstanceState.UNRESPONSIVE, "QEMU process stopped by a signal")
    kvm.stop_instance("theirs", force=True)
    assert not qemu.is_alive


def test_invalid_machine_name_requires_another_name(kvm: KvmHypervisor, start_external: StartExternal) -> None:
    qemu = start_external("-name", "my vm", "-uuid", str(UUID_1))
    external = kvm.inspect_monitor(qemu.monitor)
    with pytest.raises(ParameterError, match=r"the QEMU has name 'my vm', .*: pass another name"):
        kvm.adopt_instance(external)
    with pytest.raises(ParameterError, match=r"not a valid name for an instance: '\.\./vm'"):
        kvm.adopt_instance(external, name="../vm")
    assert kvm.adopt_instance(external, name="my-vm") == "my-vm"
    assert kvm.get_instance_info("my-vm").uuid == UUID_1
    kvm.reboot_instance("my-vm")


def test_machines_without_uuid_get_different_uuids(kvm: KvmHypervisor, start_external: StartExternal) -> None:
    for name in ("one", "two"):
        kvm.adopt_instance(kvm.inspect_monitor(start_external().monitor), name=name)
    one, two = kvm.get_all_instances_info()
    assert len({one.uuid, two.uuid, UUID(int=0)}) == 3
    assert one.pid != two.pid


def test_adoption_rejects_name_and_uuid_in_use(
    kvm: KvmHypervisor, make_toy: MakeInstance, start_external: StartExternal
) -> None:
    ours = make_toy("ours")
    kvm.start_instance(ours, start_paused=True)
    qemu = start_external("-name", "ours", "-uuid", str(ours.uuid))
    external = kvm.inspect_monitor(qemu.monitor)
    with pytest.raises(
        AdoptionError, match="instance ours exists already: choose another name, or clean up that instance"
    ):
        kvm.adopt_instance(external)
    with pytest.raises(ParameterError, match="already used by instance ours, which is paused"):
        kvm.adopt_instance(external, name="theirs")
    assert kvm.list_instances() == ["ours"]
    assert state_of(kvm, "ours") is InstanceState.PAUSED
    assert qemu.is_alive


def test_adoption_rejects_adopted_instance(kvm: KvmHypervisor, start_external: StartExternal) -> None:
    qemu = start_external(*NAMED)
    external = kvm.inspect_monitor(qemu.monitor)
    kvm.adopt_instance(external)
    with pytest.raises(AdoptionError, match="instance theirs exists"):
        kvm.adopt_instance(external)
    with pytest.raises(AdoptionError, match=rf"process {qemu.pid} is instance theirs already"):
        kvm.adopt_instance(external, name="again")
    assert kvm.list_instances() == ["theirs"]
    assert state_of(kvm) is InstanceState.RUNNING


def test_shared_monitor_is_used_while_first_monitor_is_in_use(
    kvm: KvmHypervisor, start_external: StartExternal, tmp_path: Path
) -> None:
    second = tmp_path / "second.qmp"
    qemu = start_external(*NAMED, "-qmp", f"unix:{second},server=on,wait=off")
    kvm.adopt_instance(kvm.inspect_monitor(qemu.monitor), shared_monitor=second)
    with kvm.monitor("theirs"):
        assert state_of(kvm) is InstanceState.RUNNING
        kvm.reboot_instance("theirs")


def test_instance_with_one_monitor_is_unresponsive_while_it_is_in_use(
    kvm: KvmHypervisor, start_external: StartExternal
) -> None:
    qemu = start_external(*NAMED)
    kvm.adopt_instance(kvm.inspect_monitor(qemu.monitor))
    with kvm.monitor("theirs"):
        assert state_of(kvm) is InstanceState.UNRESPONSIVE
    assert state_of(kvm) is InstanceState.RUNNING


def test_watch_reports_adopted_instance_without_holding_its_monitor(
    kvm: KvmHypervisor, start_external: StartExternal
) -> None:
    qemu = start_external(*NAMED)
    kvm.adopt_instance(kvm.inspect_monitor(qemu.monitor))
    with kvm.watch() as watch:
        for _ in range(2):
            assert [info.state for info in watch.query()] == [InstanceState.RUNNING]
            kvm.reboot_instance("theirs")
        another = start_external(*NAMED, monitor=qemu.monitor)
        assert [info.state for info in watch.query()] == [InstanceState.UNRESPONSIVE]
        os.kill(qemu.pid, signal.SIGKILL)
        wait_until(lambda: not qemu.is_alive)
        assert [info.state for info in watch.query()] == [InstanceState.CRASHED]
    assert another.is_alive


def test_adoption_rejects_monitor_of_another_process(kvm: KvmHypervisor, start_external: StartExternal) -> None:
    qemu, another = start_external(*NAMED), start_external()
    external = kvm.inspect_monitor(qemu.monitor)
    with pytest.raises(ConnectError, match=rf"process {another.pid} listens on it, not process {qemu.pid}") as caught:
        kvm.adopt_instance(external, shared_monitor=another.monitor)
    assert caught.value.address == str(another.monitor)
    assert kvm.list_instances() == []
    assert qemu.is_alive
    assert another.is_alive


def test_adoption_rejects_machine_that_changed_since_inspection(
    kvm: KvmHypervisor, start_external: StartExternal
) -> None:
    qemu = start_external(*NAMED)
    external = kvm.inspect_monitor(qemu.monitor)
    with pytest.raises(AdoptionError, match=r"QEMU 'theirs' .* answers on this monitor, not the one"):
        kvm.adopt_instance(attrs.evolve(external, uuid=uuid4()))
    another = start_external(*NAMED, monitor=qemu.monitor)
    with pytest.raises(ConnectError, match=rf"process {another.pid} listens on it, not process {qemu.pid}"):
        kvm.adopt_instance(external)
    with QmpConnection(another.monitor) as monitor:
        monitor.execute(Quit())
    os.kill(qemu.pid, signal.SIGKILL)
    wait_until(lambda: not qemu.is_alive)
    with pytest.raises(AdoptionError, match=rf"process {qemu.pid} has ended"):
        kvm.adopt_instance(external)
    assert kvm.list_instances() == []


def test_another_machine_on_monitor_is_not_touched(kvm: KvmHypervisor, start_external: StartExternal) -> None:
    qemu = start_external(*NAMED)
    kvm.adopt_instance(kvm.inspect_monitor(qemu.monitor))
    another = start_external(*NAMED, "-S", monitor=qemu.monitor)
    assert state_of(kvm) is InstanceState.UNRESPONSIVE
    assert [info.state for info in kvm.get_all_instances_info()] == [InstanceState.UNRESPONSIVE]
    with pytest.raises(ConnectError, match=rf"process {another.pid} listens on it, not process {qemu.pid}"):
        kvm.monitor("theirs").__enter__()
    kvm.stop_instance("theirs", force=True)
    assert not qemu.is_alive
    assert another.is_alive


def test_interrupted_adoption_leaves_no_files(
    kvm: KvmHypervisor, start_external: StartExternal, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = start_external(*NAMED)
    external = kvm.inspect_monitor(qemu.monitor)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(handle, "write_runtime", interrupt)
        with pytest.raises(KeyboardInterrupt):
            kvm.adopt_instance(external)
    left = {path.name for path in kvm.run_dir.rglob("*")}
    assert left == {"instances", "sockets", "locks", ".reserving"}
    assert qemu.is_alive
    kvm.adopt_instance(external)


_KILLED_ADOPTION: Final = """
import os, signal, sys
from hvkit.hypervisor.base import OPTIONAL_METHODS
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.instance import handle
handle.write_runtime = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
kvm = KvmHypervisor(run_dir=sys.argv[1])
kvm.adopt_instance(kvm.inspect_monitor(sys.argv[2]))
"""


@pytest.fixture
def half_adopted(kvm: KvmHypervisor, start_external: StartExternal) -> ExternalQemu:
    """A QEMU whose adoption was killed just before its state was persisted."""
    qemu = start_external(*NAMED)
    died = subprocess.run(
        [sys.executable, "-c", _KILLED_ADOPTION, str(kvm.run_dir), str(qemu.monitor)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=60,
    )
    assert (died.returncode, died.stderr) == (-signal.SIGKILL, b"")
    assert any(path.is_symlink() for path in (kvm.run_dir / "sockets").iterdir())
    assert kvm.list_instances() == []
    return qemu


@pytest.mark.parametrize("how", ["adopt", "cleanup", "start"])
def test_next_operation_succeeds_after_killed_adoption(
    kvm: KvmHypervisor, half_adopted: ExternalQemu, make_toy: MakeInstance, how: str
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


def test_adopted_instance_with_damaged_state_file_is_stopped(kvm: KvmHypervisor, start_external: StartExternal) -> None:
    qemu = start_external(*NAMED)
    kvm.adopt_instance(kvm.inspect_monitor(qemu.monitor))
    (kvm.run_dir / "instances" / "theirs" / "runtime.json").write_text("{}")
    assert state_of_damaged(kvm) is InstanceState.UNRESPONSIVE
    kvm.stop_instance("theirs", force=True)
    assert not qemu.is_alive
    assert state_of_damaged(kvm) is InstanceState.CRASHED
    kvm.cleanup_instance("theirs")


def state_of_damaged(kvm: KvmHypervisor) -> InstanceState:
    (info,) = kvm.get_all_instances_info()
    return info.state
