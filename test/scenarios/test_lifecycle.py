# SPDX-License-Identifier: BSD-2-Clause
"""The lifecycle of instances on real QEMU: start, stop, reboot, crashes and concurrent operations."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal, NoReturn
from uuid import uuid4

import attrs
import pytest

from guest.console import GuestConsole
from guest.fixtures import TinyGuest
from hvkit.errors import HypervisorError
from hvkit.hypervisor import (
    Disk,
    Instance,
    InstanceBusy,
    InstanceInfo,
    InstanceNotFound,
    InstanceStartError,
    InstanceState,
    InstanceStateError,
    Nic,
    ParameterError,
)
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.locks import is_lock_held
from hvkit.hypervisor.kvm.host.network import has_interface
from hvkit.hypervisor.kvm.host.paths import RunDirectory
from hvkit.hypervisor.kvm.host.probe import read_kvm_host
from hvkit.qmp import QmpConnection, Subscription
from hvkit.qmp.schema import (
    QueryCpusFast,
    QueryIothreads,
    QueryKvm,
    QueryNamedBlockNodes,
    ShutdownEvent,
    SystemPowerdown,
    SystemReset,
)
from hvkit.testing.toy_guest import FAREWELL, GREETING, write_disk

pytestmark = pytest.mark.qemu

MakeInstance = Callable[..., Instance]
OpenConsole = Callable[[str], GuestConsole]

#: Seconds for a guest to boot: the BIOS takes one second under TCG, and several on a busy node.
GUEST_S: Final = 60.0
#: The CPUs of this node that the test may use.
ALL: Final = ",".join(map(str, sorted(os.sched_getaffinity(0))))
AFFINITIES: Final = {"0": {0}, "all": os.sched_getaffinity(0)}


@pytest.fixture
def wait_for_toy(kvm: KvmHypervisor, guest_console: OpenConsole) -> Callable[[str], GuestConsole]:
    """Run an instance that was started paused, wait until its toy guest has booted, and return its console."""

    def wait(name: str) -> GuestConsole:
        path = kvm.get_instance_console(name).path
        assert path is not None
        console = guest_console(path)
        # After the console is connected: output without a client is lost.
        with kvm.monitor(name) as monitor:
            monitor.execute("cont")
        console.wait_for(GREETING, GUEST_S)
        return console

    return wait


def start_to_boot(kvm: KvmHypervisor, instance: Instance, wait: Callable[[str], GuestConsole]) -> GuestConsole:
    """Start an instance, and return its console with all output once the guest has booted."""
    kvm.start_instance(instance, start_paused=True)
    return wait(instance.name)


def pid_of(kvm: KvmHypervisor, name: str = "web1") -> int:
    pid = kvm.get_instance_info(name).pid
    assert pid is not None
    return pid


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.01)


def state_of(kvm: KvmHypervisor, name: str = "web1") -> InstanceState:
    return kvm.get_instance_info(name).state


def run_python(program: str, *, check: bool = True) -> str:
    """Run a Python program in another process, and return its output. Warnings are errors."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not check or (run.returncode, run.stderr) == (0, "")
    return run.stdout


@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_stop_shuts_guest_down_gracefully(
    kvm: KvmHypervisor,
    make_toy: MakeInstance,
    wait_for_toy: Callable[[str], GuestConsole],
    tmp_path: Path,
    machine: str,
    disk_format: Literal["raw", "qcow2"],
) -> None:
    path = write_disk(tmp_path / "toy.raw")
    if disk_format == "qcow2":
        image = tmp_path / "toy.qcow2"
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(path), str(image)], check=True)
        path = image
    disk = Disk(path=str(path), format=disk_format)
    instance = make_toy(disks=(disk,), parameters={"machine_version": machine})
    console = start_to_boot(kvm, instance, wait_for_toy)
    pid = pid_of(kvm)
    kvm.stop_instance("web1", timeout=GUEST_S)
    console.wait_for(FAREWELL)
    info = kvm.get_instance_info("web1")
    assert (info.state, info.reason, info.pid) == (InstanceState.SHUTDOWN, "guest shut down on request", None)
    assert not is_alive(pid)
    kvm.cleanup_instance("web1")
    assert kvm.list_instances() == []


def test_guest_runs_under_kvm(
    kvm: KvmHypervisor, make_toy: MakeInstance, wait_for_toy: Callable[[str], GuestConsole]
) -> None:
    host = read_kvm_host()
    if host.problem:
        pytest.skip(f"KVM is NOT tested here: {host.problem}")  # no package provides it, so CI may lack it
    start_to_boot(kvm, make_toy(parameters={"kvm_flag": "enabled"}), wait_for_toy)
    with kvm.monitor("web1") as monitor:
        assert monitor.execute(QueryKvm()).enabled
    kvm.stop_instance("web1", timeout=GUEST_S)
    assert kvm.get_instance_info("web1").reason == "guest shut down on request"


def test_stop_repeats_power_button_for_booting_guest(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy())
    kvm.stop_instance("web1", timeout=GUEST_S)
    assert kvm.get_instance_info("web1").reason == "guest shut down on request"


def test_stop_shuts_linux_down_gracefully(
    kvm: KvmHypervisor, tiny_guest: TinyGuest, guest_console: OpenConsole, make_toy: MakeInstance
) -> None:
    instance = Instance(name="web1", memory_mib=256, parameters=tiny_guest.parameters())
    kvm.start_instance(instance, start_paused=True)
    path = kvm.get_instance_console("web1").path
    assert path is not None
    console = guest_console(path)
    with kvm.monitor("web1") as monitor:
        monitor.execute("cont")
    console.wait_until_ready()
    kvm.stop_instance("web1", timeout=GUEST_S)
    assert kvm.get_instance_info("web1").reason == "guest shut down on request"


def test_stop_ends_unresponsive_guest_after_timeout(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(disks=()))
    began = time.monotonic()
    kvm.stop_instance("web1", timeout=0.5)
    assert 0.5 <= time.monotonic() - began < 10
    assert kvm.get_instance_info("web1").reason == "guest did not shut down in time"


def test_stop_with_retry_sends_no_power_button_event(
    kvm: KvmHypervisor, make_toy: MakeInstance, wait_for_toy: Callable[[str], GuestConsole]
) -> None:
    console = start_to_boot(kvm, make_toy(), wait_for_toy)
    kvm.stop_instance("web1", timeout=0.5, retry=True)
    assert FAREWELL not in console.transcript
    assert state_of(kvm) is InstanceState.SHUTDOWN


def test_guest_that_powered_off_is_shutdown_until_cleanup(
    kvm: KvmHypervisor, make_toy: MakeInstance, wait_for_toy: Callable[[str], GuestConsole]
) -> None:
    start_to_boot(kvm, make_toy(), wait_for_toy)
    with kvm.monitor("web1") as monitor, monitor.subscribe(ShutdownEvent) as events:
        monitor.execute(SystemPowerdown())
        assert events.get(timeout=GUEST_S).guest
    wait_until(lambda: state_of(kvm) is InstanceState.SHUTDOWN)
    pid = pid_of(kvm)
    kvm.cleanup_instance("web1")
    assert not is_alive(pid)
    with pytest.raises(InstanceNotFound):
        kvm.get_instance_info("web1")


def test_start_succeeds_after_guest_powered_off(
    kvm: KvmHypervisor, make_toy: MakeInstance, wait_for_toy: Callable[[str], GuestConsole]
) -> None:
    instance = make_toy()
    start_to_boot(kvm, instance, wait_for_toy)
    with kvm.monitor("web1") as monitor:
        monitor.execute(SystemPowerdown())
    wait_until(lambda: state_of(kvm) is InstanceState.SHUTDOWN)
    first = pid_of(kvm)
    kvm.start_instance(instance)
    assert state_of(kvm) is InstanceState.RUNNING
    assert not is_alive(first)


def test_reboot_restarts_guest_in_same_process(
    kvm: KvmHypervisor, make_toy: MakeInstance, wait_for_toy: Callable[[str], GuestConsole]
) -> None:
    console = start_to_boot(kvm, make_toy(), wait_for_toy)
    pid = pid_of(kvm)
    kvm.reboot_instance("web1")
    console.wait_for(GREETING, GUEST_S)
    assert (state_of(kvm), pid_of(kvm)) == (InstanceState.RUNNING, pid)


def test_reboot_resets_instance_that_exits_on_guest_reboot(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    # Immediately: firmware that is reset during its setup resets the machine again, like a guest.
    kvm.start_instance(make_toy(parameters={"reboot_behavior": "exit"}))
    kvm.reboot_instance("web1")
    assert state_of(kvm) is InstanceState.RUNNING
    with kvm.monitor("web1") as monitor, monitor.subscribe(ShutdownEvent) as events:
        monitor.execute(SystemReset())
        assert events.get(timeout=GUEST_S).reason == "host-qmp-system-reset"


def test_interrupted_reboot_restores_reboot_action(
    kvm: KvmHypervisor, make_toy: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    kvm.start_instance(make_toy(parameters={"reboot_behavior": "exit"}))
    with monkeypatch.context() as patch:
        patch.setattr("hvkit.hypervisor.kvm.lifecycle.run_state.SystemReset", interrupt)
        with pytest.raises(KeyboardInterrupt):
            kvm.reboot_instance("web1")
    with kvm.monitor("web1") as monitor, monitor.subscribe(ShutdownEvent) as events:
        monitor.execute(SystemReset())
        assert events.get(timeout=GUEST_S).reason == "host-qmp-system-reset"


@pytest.fixture
def loop_device(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[str]:
    image = write_disk(tmp_path / "loop.img")
    made = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True)
    if made.returncode:
        unavailable(f"no loop device, so no test of a block device: {made.stderr.strip()}")
    path = made.stdout.strip()
    yield path
    subprocess.run(["losetup", "--detach", path], check=True)


def test_block_device_is_usable_as_disk(kvm: KvmHypervisor, make_toy: MakeInstance, loop_device: str) -> None:
    kvm.start_instance(make_toy(disks=(Disk(path=loop_device),)), start_paused=True)
    with kvm.monitor("web1") as monitor:
        drivers = {node.drv for node in monitor.execute(QueryNamedBlockNodes(flat=True))}
    assert drivers == {"raw", "host_device"}


def test_balloon_does_not_hold_lock_while_waiting_for_guest(
    kvm: KvmHypervisor, make_toy: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    kvm.start_instance(make_toy(memory_mib=32), start_paused=True)
    get = Subscription.get
    reached: list[int] = []

    def work_meanwhile(self: Subscription[Any], *arguments: Any, **keywords: Any) -> Any:
        if not reached:
            impatient = KvmHypervisor(run_dir=kvm.run_dir, lock_timeout_s=0.1)
            reached.append(impatient.balloon_instance_memory("web1", 24))
        return get(self, *arguments, **keywords)

    monkeypatch.setattr(Subscription, "get", work_meanwhile)
    assert kvm.balloon_instance_memory("web1", 16, timeout=0.5) == 32
    assert reached == [32]


@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_resize_disk_grows_image(
    kvm: KvmHypervisor, make_toy: MakeInstance, disk_image: Callable[..., Path], disk_format: Literal["raw", "qcow2"]
) -> None:
    disk = Disk(path=str(disk_image(size_mib=1, disk_format=disk_format)), format=disk_format)
    kvm.start_instance(make_toy(disks=(disk,)), start_paused=True)
    kvm.resize_disk("web1", disk, 2 << 20)
    with kvm.monitor("web1") as monitor:
        sizes = {node.image.virtual_size for node in monitor.execute(QueryNamedBlockNodes(flat=True))}
    assert 2 << 20 in sizes
    with pytest.raises(ParameterError, match="cannot shrink"):
        kvm.resize_disk("web1", disk, 1 << 20)
    with pytest.raises(ParameterError, match="no disk with this uuid"):
        kvm.resize_disk("web1", attrs.evolve(disk, uuid=uuid4()), 4 << 20)


@pytest.fixture
def bridge(unavailable: Callable[[str], NoReturn]) -> Iterator[str]:
    """A bridge. Needs root and /dev/net/tun."""
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        unavailable("taps need root and /dev/net/tun, so they are NOT tested here")
    name = f"hvt{os.getpid() % 10**8}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", name], check=True)


def test_tap_joins_bridge_and_is_removed_with_instance(kvm: KvmHypervisor, make_toy: MakeInstance, bridge: str) -> None:
    tapped = Nic(mac="52:54:00:00:00:01", mode="tap", link=bridge)
    named = Nic(mac="52:54:00:00:00:02", mode="tap", ifname=f"t{bridge}")
    user = Nic(mac="52:54:00:00:00:03", mode="user")
    kvm.start_instance(make_toy(nics=(tapped, named, user)), start_paused=True)
    ports = os.listdir(f"/sys/class/net/{bridge}/brif")
    assert ports == [f"hv{tapped.uuid.hex[:12]}"]
    assert has_interface(named.ifname)
    flags = int(Path(f"/sys/class/net/{named.ifname}/flags").read_text(), 16)
    assert flags & 1, "the interface is not up"
    os.kill(pid_of(kvm), signal.SIGKILL)
    wait_until(lambda: not has_interface(ports[0]) and not has_interface(named.ifname))


def test_tap_works_for_nic_without_virtio_header(kvm: KvmHypervisor, make_toy: MakeInstance, bridge: str) -> None:
    nic = Nic(mac="52:54:00:00:00:01", mode="tap", link=bridge)
    kvm.start_instance(make_toy(nics=(nic,), parameters={"nic_type": "e1000"}))
    assert state_of(kvm) is InstanceState.RUNNING


def test_guest_agent_has_socket_if_enabled(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(parameters={"use_guest_agent": True, "serial_console": False}), start_paused=True)
    assert sorted(path.suffix for path in (kvm.run_dir / "sockets").iterdir()) == [".a", ".c", ".l", ".w"]


@pytest.mark.parametrize(("mask", "bound"), [("0", ["0", "0"]), ("0:all", ["0", "all"]), ("all:0", ["all", "0"])])
def test_vcpus_are_pinned_before_guest_runs(
    kvm: KvmHypervisor, make_toy: MakeInstance, mask: str, bound: list[str]
) -> None:
    kvm.start_instance(make_toy(vcpus=2, parameters={"cpu_mask": mask}), start_paused=True)
    with kvm.monitor("web1") as monitor:
        threads = [processor.thread_id for processor in monitor.execute(QueryCpusFast())]
    assert [os.sched_getaffinity(thread) for thread in threads] == [AFFINITIES[each] for each in bound]


@pytest.mark.parametrize(
    ("masks", "bound"),
    [
        ({"io_thread_mask": "0"}, ["0", "0"]),
        ({"io_thread_mask": "0:all"}, ["0", "all"]),
        ({"cpu_mask": "0"}, ["0", "0"]),
        ({"cpu_mask": "0", "io_thread_mask": "all:" + ALL}, ["0", "all"]),
        ({"cpu_mask": "0:0"}, ["all", "all"]),
    ],
    ids=str,
)
def test_iothreads_are_pinned_before_guest_runs(
    kvm: KvmHypervisor, make_toy: MakeInstance, masks: dict[str, object], bound: list[str]
) -> None:
    parameters = {"io_threads": 2, "sandbox": "enabled", **masks}
    kvm.start_instance(make_toy(vcpus=2, parameters=parameters), start_paused=True)
    with kvm.monitor("web1") as monitor:
        threads = {thread.id: thread.thread_id for thread in monitor.execute(QueryIothreads())}
    assert [os.sched_getaffinity(threads[name]) for name in ("io0", "io1")] == [AFFINITIES[each] for each in bound]


def test_killed_instance_is_crashed_and_starts_again(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    instance = make_toy()
    kvm.start_instance(instance)
    os.kill(pid_of(kvm), signal.SIGKILL)
    wait_until(lambda: state_of(kvm) is InstanceState.CRASHED)
    info = kvm.get_instance_info("web1")
    assert (info.reason, info.pid) == ("QEMU was ended by SIGKILL", None)
    left = {path.name for path in kvm.run_dir.rglob("*")}
    assert "pid" in left, "a killed QEMU leaves its pid file"
    kvm.stop_instance("web1")
    assert kvm.get_instance_info("web1") == info
    kvm.start_instance(instance)
    assert state_of(kvm) is InstanceState.RUNNING


def test_terminated_instance_is_shutdown(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy())
    os.kill(pid_of(kvm), signal.SIGTERM)
    wait_until(lambda: state_of(kvm).is_over)
    info = kvm.get_instance_info("web1")
    assert (info.state, info.reason) == (InstanceState.SHUTDOWN, "QEMU was told to quit")


def test_another_process_reports_crash(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(), start_paused=True)
    os.kill(pid_of(kvm), signal.SIGKILL)
    wait_until(lambda: state_of(kvm) is InstanceState.CRASHED)
    program = f"""
from hvkit.hypervisor import get_hypervisor
print(get_hypervisor("kvm", run_dir={str(kvm.run_dir)!r}).get_instance_info("web1").state.value)"""
    assert run_python(program) == "crashed\n"


@pytest.fixture
def frozen(kvm: KvmHypervisor, make_toy: MakeInstance) -> InstanceInfo:
    """An instance whose process was stopped by SIGSTOP, beside two others."""
    for name in ("db1", "web1", "web2"):
        kvm.start_instance(make_toy(name))
    info = kvm.get_instance_info("web1")
    assert info.pid is not None
    os.kill(info.pid, signal.SIGSTOP)
    return info


def test_stopped_process_is_unresponsive_and_does_not_delay_listing(kvm: KvmHypervisor, frozen: InstanceInfo) -> None:
    began = time.monotonic()
    states = {info.name: info.state for info in kvm.get_all_instances_info()}
    assert time.monotonic() - began < 5
    assert states == {
        "db1": InstanceState.RUNNING,
        "web1": InstanceState.UNRESPONSIVE,
        "web2": InstanceState.RUNNING,
    }
    info = kvm.get_instance_info("web1")
    assert (info.pid, info.reason) == (frozen.pid, "QEMU process stopped by a signal")


@pytest.mark.parametrize(("how", "limit_s"), [({"force": True}, 8), ({"timeout": 1}, 15)])
def test_stop_ends_stopped_process(
    kvm: KvmHypervisor, frozen: InstanceInfo, how: dict[str, Any], limit_s: float
) -> None:
    began = time.monotonic()
    kvm.stop_instance("web1", **how)
    assert time.monotonic() - began < limit_s
    assert kvm.get_instance_info("web1").reason == "QEMU did not answer and was ended by a signal"
    assert frozen.pid is not None
    assert not is_alive(frozen.pid)


def test_stop_does_not_wait_guest_timeout_for_stopped_process(kvm: KvmHypervisor, frozen: InstanceInfo) -> None:
    began = time.monotonic()
    kvm.stop_instance("web1")
    assert time.monotonic() - began < 15
    assert kvm.get_instance_info("web1").reason == "QEMU did not answer and was ended by a signal"


def test_stop_shuts_guest_down_if_process_continues_in_time(
    kvm: KvmHypervisor, make_toy: MakeInstance, wait_for_toy: Callable[[str], GuestConsole]
) -> None:
    start_to_boot(kvm, make_toy(), wait_for_toy)
    pid = pid_of(kvm)
    os.kill(pid, signal.SIGSTOP)
    alarm = threading.Timer(0.5, os.kill, (pid, signal.SIGCONT))
    alarm.start()
    kvm.stop_instance("web1", timeout=GUEST_S)
    alarm.join()
    assert kvm.get_instance_info("web1").reason == "guest shut down on request"


def test_instance_is_running_during_stop_while_control_monitor_is_in_use(
    kvm: KvmHypervisor, make_toy: MakeInstance
) -> None:
    kvm.start_instance(make_toy(disks=()))
    stopper = threading.Thread(target=lambda: kvm.stop_instance("web1", timeout=6))
    infos = [kvm.get_instance_info("web1")]
    with kvm.monitor("web1"):
        stopper.start()
        while not infos[-1].reason:
            infos.append(kvm.get_instance_info("web1"))
        stopper.join()
    assert infos[-1].state is InstanceState.RUNNING
    assert infos[-1].reason == "being stopped; the stop uses the monitors"
    assert state_of(kvm) is InstanceState.SHUTDOWN


def test_stop_succeeds_while_control_monitor_is_in_use(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy())
    with kvm.monitor("web1"):
        assert state_of(kvm) is InstanceState.RUNNING
        kvm.stop_instance("web1", timeout=GUEST_S)
    assert kvm.get_instance_info("web1").reason == "guest shut down on request"


def test_instance_is_managed_by_other_process_than_its_starter(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    instance = make_toy()
    program = f"""
from hvkit.hypervisor import Disk, Instance, get_hypervisor
kvm = get_hypervisor("kvm", run_dir={str(kvm.run_dir)!r})
kvm.start_instance(Instance(name="web1", memory_mib=32, uuid={str(instance.uuid)!r},
    disks=(Disk(path={instance.disks[0].path!r}),), parameters={dict(instance.parameters)!r}))
print(kvm.get_instance_info("web1").pid)"""
    pid = int(run_python(program))
    info = kvm.get_instance_info("web1")
    assert (info.uuid, info.state, info.pid) == (instance.uuid, InstanceState.RUNNING, pid)
    program = f"""
from hvkit.hypervisor import get_hypervisor
kvm = get_hypervisor("kvm", run_dir={str(kvm.run_dir)!r})
print(kvm.list_instances())
kvm.stop_instance("web1", force=True)"""
    assert run_python(program) == "['web1']\n"
    assert state_of(kvm) is InstanceState.SHUTDOWN
    assert not is_alive(pid)


def test_concurrent_starts_of_one_instance_succeed_once(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    instance = make_toy()
    starters = 4
    barrier = threading.Barrier(starters)
    results: list[HypervisorError | None] = []

    def start() -> None:
        mine = KvmHypervisor(run_dir=kvm.run_dir)
        barrier.wait()
        try:
            mine.start_instance(instance)
        except HypervisorError as error:
            results.append(error)
        else:
            results.append(None)

    threads = [threading.Thread(target=start) for _ in range(starters)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(None) == 1
    assert all(error is None or isinstance(error, (InstanceStateError, InstanceBusy)) for error in results)
    assert state_of(kvm) is InstanceState.RUNNING


def test_instance_is_busy_during_stop(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(disks=()))
    stopper = threading.Thread(target=lambda: kvm.stop_instance("web1", timeout=2))
    stopper.start()
    lock_file = kvm.run_dir / "locks" / "web1"
    wait_until(lambda: is_lock_held("web1", lock_file))
    impatient = KvmHypervisor(run_dir=kvm.run_dir, lock_timeout_s=0.1)
    with pytest.raises(InstanceBusy) as caught:
        impatient.stop_instance("web1", force=True)
    assert caught.value.holder == os.getpid()
    assert state_of(impatient) is InstanceState.RUNNING, "a query takes no lock"
    stopper.join()


#: Starts an instance, and kills its own process before or after the state is persisted for the n-th time.
KILLED_START: Final = """
import os, signal
from hvkit.hypervisor import Disk, Instance, get_hypervisor
from hvkit.hypervisor.kvm.instance import handle
write, count = handle.write_runtime, 0
def write_and_kill(path, runtime):
    global count
    count += 1
    if count == {number} and {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, runtime)
    if count == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
handle.write_runtime = write_and_kill
get_hypervisor("kvm", run_dir={run_dir!r}).start_instance(
    Instance(name="web1", memory_mib=32, parameters={parameters!r}))
"""


def qemus_of(kvm: KvmHypervisor) -> list[int]:
    """Return the pids of processes with the run directory in their command line."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(kvm.run_dir) in (directory / "cmdline").read_bytes() and is_alive(int(directory.name)):
                found.append(int(directory.name))
    return found


@pytest.mark.parametrize(
    ("number", "before", "qemus", "state"),
    [
        pytest.param(1, True, 0, None, id="before-state"),
        pytest.param(1, False, 0, InstanceState.CRASHED, id="before-process"),
        pytest.param(2, True, 1, InstanceState.CRASHED, id="before-pid"),
        pytest.param(2, False, 1, InstanceState.CRASHED, id="after-pid"),
        pytest.param(3, False, 1, InstanceState.PAUSED, id="before-cont"),
    ],
)
@pytest.mark.parametrize("then", ["start", "stop", "cleanup"])
def test_next_operation_succeeds_after_killed_start(
    kvm: KvmHypervisor,
    make_toy: MakeInstance,
    number: int,
    before: bool,
    qemus: int,
    state: InstanceState | None,
    then: str,
) -> None:
    instance = make_toy(disks=())
    program = KILLED_START.format(
        number=number, before=before, run_dir=str(kvm.run_dir), parameters=dict(instance.parameters)
    )
    run_python(program, check=False)
    wait_until(lambda: len(qemus_of(kvm)) == qemus)  # there may briefly be a fork that has not executed QEMU yet
    if state is None:
        assert kvm.list_instances() == []
    else:
        assert state_of(kvm) is state
    if state is InstanceState.PAUSED or (then == "stop" and state is not None):
        kvm.stop_instance("web1", force=True)
        assert state_of(kvm).is_over
    if then == "start":
        kvm.start_instance(instance)
        assert state_of(kvm) is InstanceState.RUNNING
        assert len(qemus_of(kvm)) == 1
    else:
        kvm.cleanup_instance("web1")
        assert qemus_of(kvm) == []


def test_start_fails_if_qemu_has_another_uuid(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> None:
    instance = make_toy()
    impostor = tmp_path / "qemu"
    words = f'"${{@/{instance.uuid}/{uuid4()}}}"'
    impostor.write_text(f"#!/bin/bash\nexec {instance.parameters['kvm_path']} {words}\n")
    impostor.chmod(0o755)
    with pytest.raises(InstanceStartError, match="the QEMU that answers has name web1 and uuid"):
        kvm.start_instance(attrs.evolve(instance, parameters={"kvm_path": str(impostor)}))
    assert qemus_of(kvm) == []
    assert kvm.list_instances() == []


def test_failed_start_carries_log_of_qemu(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    with pytest.raises(InstanceStartError) as caught:
        kvm.start_instance(make_toy(parameters={"kvm_extra": "-device no-such-device"}))
    error = caught.value
    assert (error.instance, error.reason) == ("web1", "QEMU ended with exit code 1")
    assert "'no-such-device' is not a valid device model name" in error.log
    assert "'no-such-device'" in str(error)


def test_failed_start_of_stopped_instance_leaves_nothing(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    instance = make_toy()
    kvm.start_instance(instance)
    kvm.stop_instance("web1", force=True)
    broken = attrs.evolve(instance, parameters={**instance.parameters, "kvm_extra": "-device no-such-device"})
    with pytest.raises(InstanceStartError):
        kvm.start_instance(broken)
    assert kvm.list_instances() == []


def test_monitor_is_closed_after_use(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(), start_paused=True)
    with kvm.monitor("web1") as monitor:
        assert isinstance(monitor, QmpConnection)
        assert monitor.version >= (7, 2, 0)
    assert not monitor.is_connected
    with kvm.monitor("web1") as monitor:
        assert monitor.is_connected


def test_listing_uses_control_monitor_while_shared_monitor_is_in_use(
    kvm: KvmHypervisor, make_toy: MakeInstance
) -> None:
    for name in ("web1", "web2"):
        kvm.start_instance(make_toy(name))
    with QmpConnection(RunDirectory(kvm.run_dir).instance("web1").shared_socket):
        infos = kvm.get_all_instances_info()
    assert [(info.name, info.state, info.memory_mib) for info in infos] == [
        ("web1", InstanceState.RUNNING, 32),
        ("web2", InstanceState.RUNNING, 32),
    ]


def test_concurrent_starts_with_one_uuid_succeed_once(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    uuid = uuid4()

    def start(name: str) -> str:
        try:
            kvm.start_instance(make_toy(name, uuid=uuid))
        except ParameterError as error:
            return error.problem
        return ""

    with ThreadPoolExecutor(2) as pool:
        problems = sorted(pool.map(start, ("web1", "web2")))
    assert problems[0] == ""
    assert re.fullmatch("already used by instance web[12], which is (running|paused)", problems[1])
    assert len(kvm.list_instances()) == 1


@pytest.mark.parametrize("aio", ["threads", "native", "io_uring"])
def test_sandbox_permits_every_aio_mode(kvm: KvmHypervisor, make_toy: MakeInstance, aio: str) -> None:
    toy = make_toy(parameters={"sandbox": "enabled", "disk_aio": aio, "disk_cache": "none", "mem_path": "/dev/shm"})
    try:
        kvm.start_instance(toy)
    except InstanceStartError as error:
        # Not supported by this kernel, or by the filesystem of the disk.
        if aio == "threads" or "aio" not in str(error):
            raise
        pytest.skip(f"no {aio} here: {error.log}")
    kvm.stop_instance("web1", timeout=30)
    assert kvm.get_instance_info("web1").reason == "guest shut down on request"
