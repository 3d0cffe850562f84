# SPDX-License-Identifier: BSD-2-Clause
"""Causes of the end of instances, as reported to the starting process and to another one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from guest.console import GuestConsole
from hvkit.hypervisor import Disk, Instance, InstanceInfo, InstanceState, StopCause
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.log import KEPT_BYTES, MAX_BYTES
from hvkit.qmp.schema import Quit, SystemPowerdown
from hvkit.testing.toy_guest import GREETING, PowerdownAction, write_disk

MakeInstance = Callable[..., Instance]
OpenConsole = Callable[[str], GuestConsole]

GUEST_S = 60.0

_EXIT_REASON = "shut down or rebooted by the guest (reboot_behavior=exit)"

_OTHER_PROCESS = """
import sys
from hvkit.hypervisor import get_hypervisor
[info] = get_hypervisor("kvm", run_dir=sys.argv[1]).get_all_instances_info()
print(info.state.value, info.cause and info.cause.value, info.reason, sep="|")
"""


def query_from_another_process(kvm: KvmHypervisor) -> tuple[InstanceState, StopCause | None, str]:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", _OTHER_PROCESS, str(kvm.run_dir)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    state, cause, reason = run.stdout.rstrip("\n").split("|")
    return InstanceState(state), None if cause == "None" else StopCause(cause), reason


def wait_until_over(kvm: KvmHypervisor) -> InstanceInfo:
    deadline = time.monotonic() + GUEST_S
    while not (info := kvm.get_instance_info("web1")).state.is_over:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return info


def power_off(kvm: KvmHypervisor, instance: Instance, open_console: OpenConsole) -> None:
    """Start an instance, wait until its guest has booted, and press the power button."""
    kvm.start_instance(instance, start_paused=True)
    path = kvm.get_instance_console("web1").path
    assert path is not None
    console = open_console(path)
    with kvm.monitor("web1") as monitor:
        monitor.execute("cont")
        console.wait_for(GREETING, GUEST_S)
        monitor.execute(SystemPowerdown())


@pytest.mark.qemu
@pytest.mark.parametrize("machine", ["q35", "pc"])
@pytest.mark.parametrize(
    ("action", "state", "cause", "reason"),
    [
        (PowerdownAction.POWER_OFF, InstanceState.SHUTDOWN, StopCause.GUEST, _EXIT_REASON),
        (PowerdownAction.REBOOT, InstanceState.SHUTDOWN, StopCause.GUEST, _EXIT_REASON),
        (PowerdownAction.PANIC, InstanceState.CRASHED, StopCause.PANIC, "guest panicked"),
    ],
)
def test_cause_is_guest_action_for_every_process(
    kvm: KvmHypervisor,
    make_toy: MakeInstance,
    guest_console: OpenConsole,
    tmp_path: Path,
    machine: str,
    action: PowerdownAction,
    state: InstanceState,
    cause: StopCause,
    reason: str,
) -> None:
    disk = Disk(path=str(write_disk(tmp_path / "guest.img", on_powerdown=action)))
    parameters = {"reboot_behavior": "exit", "machine_version": machine}
    power_off(kvm, make_toy(parameters=parameters, disks=(disk,)), guest_console)
    info = wait_until_over(kvm)
    assert (info.state, info.cause, info.reason) == (state, cause, reason)
    assert info.pid is not None, "the process stays, for inspection"
    assert query_from_another_process(kvm) == (state, cause, reason)
    kvm.stop_instance("web1")
    assert kvm.get_instance_info("web1").cause is cause


@pytest.mark.qemu
def test_rebooting_guest_keeps_running(
    kvm: KvmHypervisor, make_toy: MakeInstance, guest_console: OpenConsole, tmp_path: Path
) -> None:
    disk = Disk(path=str(write_disk(tmp_path / "guest.img", on_powerdown=PowerdownAction.REBOOT)))
    kvm.start_instance(make_toy(disks=(disk,)), start_paused=True)
    path = kvm.get_instance_console("web1").path
    assert path is not None
    console = guest_console(path)
    with kvm.monitor("web1") as monitor:
        monitor.execute("cont")
        console.wait_for(GREETING, GUEST_S)
        monitor.execute(SystemPowerdown())
        console.wait_for(GREETING, GUEST_S)
    info = kvm.get_instance_info("web1")
    assert (info.state, info.cause) == (InstanceState.RUNNING, None)


@pytest.mark.qemu
def test_cause_of_stop_is_request(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy())
    kvm.stop_instance("web1")
    info = kvm.get_instance_info("web1")
    assert (info.state, info.cause) == (InstanceState.SHUTDOWN, StopCause.REQUEST)


def _quit(kvm: KvmHypervisor, pid: int) -> None:
    with kvm.monitor("web1") as monitor:
        monitor.execute(Quit())


def _terminate(kvm: KvmHypervisor, pid: int) -> None:
    os.kill(pid, signal.SIGTERM)


def _kill(kvm: KvmHypervisor, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.qemu
@pytest.mark.parametrize(
    "confinement",
    [
        {},
        {"use_chroot": True},
        {"security_model": "pool", "security_pool": "60000-60001"},
        {"security_model": "pool", "security_pool": "60000-60001", "use_chroot": True},
    ],
    ids=["free", "root-dir", "account", "both"],
)
@pytest.mark.parametrize(
    ("end", "state", "cause"),
    [
        (_quit, InstanceState.SHUTDOWN, StopCause.REQUEST),
        (_terminate, InstanceState.SHUTDOWN, StopCause.REQUEST),
        (_kill, InstanceState.CRASHED, StopCause.QEMU),
    ],
    ids=["quit", "sigterm", "sigkill"],
)
def test_another_process_distinguishes_clean_end_from_crash(
    kvm: KvmHypervisor,
    make_toy: MakeInstance,
    confinement: dict[str, object],
    end: Callable[[KvmHypervisor, int], None],
    state: InstanceState,
    cause: StopCause,
) -> None:
    if confinement and os.geteuid() != 0:
        pytest.skip("only root can start QEMU with another account or root directory")
    kvm.start_instance(make_toy(parameters=confinement), start_paused=True)
    pid = kvm.get_instance_info("web1").pid
    assert pid is not None
    end(kvm, pid)
    wait_until_over(kvm)
    assert query_from_another_process(kvm)[:2] == (state, cause)


@pytest.mark.qemu
def test_long_log_is_trimmed_by_watch_and_not_by_queries(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(), start_paused=True)
    log = kvm.run_dir / "instances" / "web1" / "log"
    with log.open("ab") as file:
        file.write(b"chatter\n" * (MAX_BYTES // 4))
    size_bytes = log.stat().st_size
    (info,) = kvm.get_all_instances_info()
    assert info.state is InstanceState.PAUSED
    assert kvm.get_instance_info("web1") == info
    assert kvm.verify() == []
    assert log.stat().st_size == size_bytes
    with kvm.watch() as watch:
        assert watch.query() == [info]
    assert log.stat().st_size < 2 * KEPT_BYTES
    kvm.stop_instance("web1", force=True)
    assert query_from_another_process(kvm)[:2] == (InstanceState.SHUTDOWN, StopCause.REQUEST)


@pytest.mark.qemu
@pytest.mark.parametrize("may", [False, True], ids=["may-not", "may"])
def test_user_shutdown_is_reported_if_allowed(
    kvm: KvmHypervisor, make_toy: MakeInstance, guest_console: OpenConsole, tmp_path: Path, may: bool
) -> None:
    disk = Disk(path=str(write_disk(tmp_path / "guest.img", on_powerdown=PowerdownAction.POWER_OFF)))
    power_off(kvm, make_toy(disks=(disk,), parameters={"user_shutdown": may}), guest_console)
    info = wait_until_over(kvm)
    assert (info.cause, info.is_user_shutdown) == (StopCause.GUEST, may)
