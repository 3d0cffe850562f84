# SPDX-License-Identifier: BSD-2-Clause
"""The lifecycle of an instance with a Linux guest: the hardware that it detects, and its response to operations.

Most tests share one boot of the guest. The test that stops this guest must be the last one that uses it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import attrs
import pytest

from guest.console import ANSWER_TIMEOUT_S, GuestConsole
from guest.fixtures import MakeDiskImage, TinyGuest
from hvkit.hypervisor import Disk, Instance, InstanceState, Nic, get_hypervisor
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.qmp.schema import Cont, QueryCpusFast, QueryNamedBlockNodes, QueryStatus, ShutdownEvent, Stop

pytestmark = pytest.mark.qemu

MIB = 1 << 20
MEMORY_MIB = 256
DISK_MIB = 16
#: Seconds after which a watch relies on events for the memory, instead of querying it.
RELIES_ON_EVENTS_AFTER_S = 2.5
MAC = "52:54:00:12:34:56"


@attrs.frozen
class Running:
    """An instance whose guest has booted."""

    kvm: KvmHypervisor
    instance: Instance
    console: GuestConsole

    @property
    def name(self) -> str:
        return self.instance.name


def make_kvm(run_dir: Path) -> KvmHypervisor:
    return cast(KvmHypervisor, get_hypervisor("kvm", run_dir=run_dir))


def remove(kvm: KvmHypervisor, name: str) -> None:
    """Stop and clean up an instance in any state."""
    if name in kvm.list_instances():
        kvm.stop_instance(name, force=True)
        kvm.cleanup_instance(name)


def boot(kvm: KvmHypervisor, instance: Instance) -> GuestConsole:
    kvm.start_instance(instance)
    path = kvm.get_instance_console(instance.name).path
    assert path is not None
    return GuestConsole(path)


def files_of_instances(run_dir: Path) -> list[Path]:
    """Return the files in the run directory, without the capability cache and the shared locks."""
    return [
        path
        for path in run_dir.rglob("*")
        if not path.is_dir() and path.parent.name != "cache" and path.name not in (".reserving", ".watching")
    ]


@pytest.fixture(scope="module")
def running(
    tiny_guest: TinyGuest, disk_image: MakeDiskImage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    kvm = make_kvm(tmp_path_factory.mktemp("kvm") / "run")
    instance = Instance(
        name="web1",
        memory_mib=MEMORY_MIB,
        vcpus=2,
        disks=(Disk(path=disk_image(size_mib=DISK_MIB, disk_format="qcow2"), format="qcow2"),),
        nics=(Nic(mac=MAC, mode="user"),),
        parameters=tiny_guest.parameters(use_guest_agent=True, numa_nodes=2),
    )
    try:
        with boot(kvm, instance) as console:
            console.wait_until_ready()
            yield Running(kvm, instance, console)
    finally:
        remove(kvm, instance.name)


def test_guest_has_configured_hardware(running: Running) -> None:
    output = running.console.run("nproc; cat /sys/block/vda/size /sys/class/net/eth0/address; hostname")
    assert output.splitlines() == ["2", str(DISK_MIB * 2048), MAC, "tiny"]


def test_guest_has_configured_numa_nodes(running: Running) -> None:
    output = running.console.run("cd /sys/devices/system/node; cat online node0/cpulist node1/cpulist")
    assert output.splitlines() == ["0-1", "0", "1"]


def test_guest_reads_uuid_of_instance(running: Running) -> None:
    assert running.console.run("cat /sys/class/dmi/id/product_uuid") == str(running.instance.uuid)


def test_disk_keeps_written_data(running: Running) -> None:
    running.console.run("echo kept | dd of=/dev/vda conv=fsync 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches")
    assert running.console.run("head -n 1 /dev/vda") == "kept"


def test_guest_reaches_network(running: Running) -> None:
    running.console.run("ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0")
    assert "1 packets received" in running.console.run("ping -c 1 10.0.2.2")


def test_guest_agent_runs(running: Running) -> None:
    assert running.console.run("pidof qemu-ga")


def test_info_describes_running_instance(running: Running) -> None:
    info = running.kvm.get_instance_info(running.name)
    assert (info.state, info.uuid, info.vcpus) == (InstanceState.RUNNING, running.instance.uuid, 2)


def test_monitor_answers_typed_queries(running: Running) -> None:
    with running.kvm.monitor(running.name) as monitor:
        assert monitor.execute(QueryStatus()).running
        assert [processor.cpu_index for processor in monitor.execute(QueryCpusFast())] == [0, 1]
        formats = {node.drv for node in monitor.execute(QueryNamedBlockNodes())}
    assert formats == {"file", "qcow2"}


def test_balloon_takes_and_returns_guest_memory(running: Running) -> None:
    def total_kib() -> int:
        return int(running.console.run("awk '/^MemTotal/ { print $2 }' /proc/meminfo"))

    def balloon(memory_mib: int) -> None:
        reached_mib = running.kvm.balloon_instance_memory(running.name, memory_mib, timeout=ANSWER_TIMEOUT_S)
        assert reached_mib == memory_mib
        assert running.kvm.get_instance_info(running.name).memory_mib == memory_mib
        assert [info.memory_mib for info in watch.query()] == [memory_mib]

    before_kib = total_kib()
    with running.kvm.watch() as watch:
        watch.query()
        watch.wait(timeout=RELIES_ON_EVENTS_AFTER_S)
        balloon(MEMORY_MIB - 96)
        assert total_kib() == before_kib - 96 * 1024
        balloon(MEMORY_MIB)
        assert total_kib() == before_kib


def test_balloon_returns_reached_memory_after_timeout(running: Running) -> None:
    with running.kvm.monitor(running.name) as monitor:
        monitor.execute(Stop())
    assert running.kvm.balloon_instance_memory(running.name, MEMORY_MIB - 64, timeout=0.5) == MEMORY_MIB
    assert running.kvm.balloon_instance_memory(running.name, MEMORY_MIB) == MEMORY_MIB
    with running.kvm.monitor(running.name) as monitor:
        monitor.execute(Cont())


def test_guest_sees_resized_disk(running: Running) -> None:
    running.kvm.resize_disk(running.name, running.instance.disks[0], (DISK_MIB + 8) * MIB)
    assert running.console.run("cat /sys/block/vda/size") == str((DISK_MIB + 8) * 2048)


def test_reboot_restarts_guest_in_same_process(running: Running) -> None:
    running.console.run("touch /run/before")
    pid = running.kvm.get_instance_info(running.name).pid
    running.kvm.reboot_instance(running.name)
    running.console.wait_until_ready()
    assert running.console.run("ls /run/before 2>/dev/null || echo gone") == "gone"
    info = running.kvm.get_instance_info(running.name)
    assert (info.state, info.pid) == (InstanceState.RUNNING, pid)


def test_stop_shuts_guest_down_gracefully(running: Running) -> None:
    timeout_s = 60
    pid = running.kvm.get_instance_info(running.name).pid
    with running.kvm.monitor(running.name) as monitor, monitor.subscribe(ShutdownEvent) as shutdowns:
        started = time.monotonic()
        running.kvm.stop_instance(running.name, timeout=timeout_s)
        took_s = time.monotonic() - started
        shutdown = shutdowns.get(timeout=ANSWER_TIMEOUT_S)
    assert (shutdown.guest, shutdown.reason) == (True, "guest-shutdown")
    assert took_s < timeout_s
    assert "GUEST-POWER-BUTTON" in running.console.transcript
    info = running.kvm.get_instance_info(running.name)
    assert (info.state, info.pid) == (InstanceState.SHUTDOWN, None)
    assert not Path(f"/proc/{pid}").exists()
    running.kvm.cleanup_instance(running.name)
    assert running.kvm.list_instances() == []
    assert files_of_instances(running.kvm.run_dir) == []


def test_guest_on_pc_machine_powers_off(tiny_guest: TinyGuest, disk_image: MakeDiskImage, tmp_path: Path) -> None:
    kvm = make_kvm(tmp_path / "run")
    instance = Instance(
        name="web2",
        memory_mib=MEMORY_MIB,
        disks=(Disk(path=disk_image(size_mib=DISK_MIB)),),
        parameters=tiny_guest.parameters(machine_version="pc", disk_type="ide"),
    )
    try:
        with boot(kvm, instance) as console, kvm.monitor("web2") as monitor:
            console.wait_until_ready()
            assert console.run("cat /sys/block/sda/size") == str(DISK_MIB * 2048)
            with monitor.subscribe(ShutdownEvent) as shutdowns:
                console.send("poweroff -f\n")
                assert shutdowns.get(timeout=ANSWER_TIMEOUT_S).reason == "guest-shutdown"
        assert kvm.get_instance_info("web2").state is InstanceState.SHUTDOWN
        kvm.cleanup_instance("web2")
        assert files_of_instances(kvm.run_dir) == []
    finally:
        remove(kvm, "web2")
