# SPDX-License-Identifier: BSD-2-Clause
"""A Linux guest that uses, releases, or refuses to release vCPUs and memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from faults import count_commands, fail_at
from guest.console import GuestConsole
from guest.fixtures import TinyGuest
from hotplug_state import assert_agreement, migrate, read_state
from hvkit.hypervisor import HotplugCause, HotplugError, Instance, ParameterError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.runtime import Pending

pytestmark = pytest.mark.qemu


@attrs.define
class Growing:
    """An instance whose guest has booted."""

    kvm: KvmHypervisor
    instance: Instance
    console: GuestConsole

    def vcpus(self) -> int:
        """Return the number of CPUs that the guest uses."""
        return int(self.console.run("nproc"))

    def memory_mib(self) -> int:
        """Return MemTotal of the guest, which is less than its memory, in MiB."""
        found = re.search(r"MemTotal: +(\d+) kB", self.console.run("grep MemTotal /proc/meminfo"))
        assert found is not None
        return int(found[1]) >> 10

    def online(self, how: str) -> None:
        """Set how the guest onlines memory that is added from now on."""
        self.console.run(f"echo {how} >/sys/devices/system/memory/auto_online_blocks")


def wait_for(condition: Callable[[], bool], tries: int = 300) -> bool:
    return any(condition() for _ in range(tries))


def boot(kvm: KvmHypervisor, tiny_guest: TinyGuest, **parameters: Any) -> Growing:
    instance = Instance(
        name="web1",
        memory_mib=256,
        parameters=tiny_guest.parameters(kvm_flag="disabled", memory_max_mib=1024, vcpus_max=4, **parameters),
    )
    kvm.start_instance(instance)
    path = kvm.get_instance_console("web1").path
    assert path is not None
    growing = Growing(kvm, instance, GuestConsole(path))
    growing.console.wait_until_ready()
    return growing


def end(kvm: KvmHypervisor) -> None:
    for name in kvm.list_instances():
        kvm.stop_instance(name, force=True)
        kvm.cleanup_instance(name)


@pytest.fixture(scope="module")
def by_dimms(tiny_guest: TinyGuest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Growing]:
    kvm = KvmHypervisor(run_dir=tmp_path_factory.mktemp("by_dimms") / "run")
    try:
        growing = boot(kvm, tiny_guest, memory_hotplug="dimm")
        yield growing
        growing.console.close()
    finally:
        end(kvm)


@pytest.fixture(scope="module")
def by_device(tiny_guest: TinyGuest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Growing]:
    kvm = KvmHypervisor(run_dir=tmp_path_factory.mktemp("by_device") / "run")
    try:
        growing = boot(kvm, tiny_guest, memory_hotplug="virtio-mem")
        yield growing
        growing.console.close()
    finally:
        end(kvm)


def test_guest_uses_and_releases_dimms(by_dimms: Growing) -> None:
    before = by_dimms.memory_mib()
    assert by_dimms.kvm.set_instance_memory("web1", 384) == 384
    assert by_dimms.kvm.set_instance_memory("web1", 640) == 640
    assert wait_for(lambda: by_dimms.memory_mib() == before + 384)
    assert by_dimms.kvm.set_instance_memory("web1", 384) == 384
    assert by_dimms.memory_mib() == before + 128
    assert by_dimms.kvm.set_instance_memory("web1", 256) == 256
    assert by_dimms.memory_mib() == before
    assert assert_agreement(by_dimms.kvm) == (1, 256)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_failed_dimm_removal_command_is_reconciled_by_next_change(
    by_dimms: Growing, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = by_dimms.memory_mib()

    def grow() -> None:
        by_dimms.kvm.set_instance_memory("web1", 384)
        assert wait_for(lambda: by_dimms.memory_mib() == before + 128)

    def shrink() -> int:
        return by_dimms.kvm.set_instance_memory("web1", 256)

    grow()
    commands = count_commands(monkeypatch, shrink)
    assert commands >= 6
    for number in range(1, commands + 1):
        grow()
        fail_at(monkeypatch, number, shrink, after=after)
        assert shrink() == 256
        assert assert_agreement(by_dimms.kvm) == (1, 256)


def test_balloon_reclaims_memory_of_dimms(by_dimms: Growing) -> None:
    before = by_dimms.memory_mib()
    by_dimms.kvm.set_instance_memory("web1", 384)
    assert wait_for(lambda: by_dimms.memory_mib() == before + 128)
    assert by_dimms.kvm.balloon_instance_memory("web1", 320, timeout=30) == 320
    assert by_dimms.kvm.get_instance_info("web1").memory_mib == 320
    assert by_dimms.memory_mib() == before + 64
    assert by_dimms.kvm.balloon_instance_memory("web1", 384, timeout=30) == 384
    by_dimms.kvm.set_instance_memory("web1", 256)
    assert assert_agreement(by_dimms.kvm) == (1, 256)


def test_dimm_with_unmovable_memory_is_refused_by_guest(by_dimms: Growing) -> None:
    before = by_dimms.memory_mib()
    by_dimms.online("online_kernel")
    by_dimms.kvm.set_instance_memory("web1", 384)
    assert wait_for(lambda: by_dimms.memory_mib() == before + 128)
    # The kernel prefers this memory to memory below 4 GiB, and cannot move the pages of inodes.
    by_dimms.console.run("(cd /tmp && seq 2000 | xargs mkdir)")
    with pytest.raises(HotplugError, match="the guest refused to release it") as caught:
        by_dimms.kvm.set_instance_memory("web1", 256)
    assert (caught.value.device, caught.value.cause) == ("dimm-0", HotplugCause.GUEST_REFUSED)
    assert [record.pending for record in read_state(by_dimms.kvm).dimms] == [Pending.REMOVE]
    assert by_dimms.kvm.get_instance_info("web1").memory_mib == 384
    assert by_dimms.memory_mib() == before + 128


def test_virtio_mem_grows_and_shrinks_in_small_steps(by_device: Growing) -> None:
    before = by_device.memory_mib()
    assert by_device.kvm.set_instance_memory("web1", 384) == 384
    assert by_device.memory_mib() == before + 128
    assert by_device.kvm.get_instance_info("web1").memory_mib == 384
    assert by_device.kvm.set_instance_memory("web1", 640) == 640
    assert by_device.kvm.set_instance_memory("web1", 320) == 320
    assert by_device.memory_mib() == before + 64
    assert by_device.kvm.get_all_instances_info() == [by_device.kvm.get_instance_info("web1")]
    assert by_device.kvm.set_instance_memory("web1", 256) == 256
    assert by_device.memory_mib() == before


def test_virtio_mem_rejects_size_between_steps(by_device: Growing) -> None:
    with pytest.raises(HotplugError, match="steps of 2 MiB") as caught:
        by_device.kvm.set_instance_memory("web1", 257)
    assert caught.value.cause is HotplugCause.UNFIT


def test_balloon_minimum_excludes_virtio_mem(by_device: Growing) -> None:
    by_device.kvm.set_instance_memory("web1", 384)
    assert by_device.kvm.balloon_instance_memory("web1", 320, timeout=30) == 320
    assert by_device.kvm.get_instance_info("web1").memory_mib == 320
    with pytest.raises(ParameterError, match="from 129 to 384"):
        by_device.kvm.balloon_instance_memory("web1", 128)
    assert by_device.kvm.balloon_instance_memory("web1", 384, timeout=30) == 384
    by_device.kvm.set_instance_memory("web1", 256)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_failed_virtio_mem_command_is_repeated_by_next_change(
    by_device: Growing, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow() -> int:
        return by_device.kvm.set_instance_memory("web1", 384)

    commands = 7
    for number in range(1, commands + 1):
        assert by_device.kvm.set_instance_memory("web1", 256) == 256
        fail_at(monkeypatch, number, grow, after=after)
        assert grow() == 384
        assert by_device.kvm.get_instance_info("web1").memory_mib == 384
    assert by_device.kvm.set_instance_memory("web1", 256) == 256


def test_paused_guest_reaches_virtio_mem_size_after_resume(by_device: Growing) -> None:
    with by_device.kvm.monitor("web1") as monitor:
        monitor.execute("stop")
    with pytest.raises(HotplugError, match=r"the guest has 256 MiB of 384 after 0\.3 s") as caught:
        by_device.kvm.set_instance_memory("web1", 384, timeout=0.3)
    assert caught.value.cause is HotplugCause.GUEST_SILENT
    assert by_device.kvm.get_instance_info("web1").memory_mib == 256
    with by_device.kvm.monitor("web1") as monitor:
        monitor.execute("cont")
    assert wait_for(lambda: by_device.kvm.get_instance_info("web1").memory_mib == 384)


def test_guest_migrates_with_added_vcpus_and_memory(by_device: Growing, tmp_path: Path) -> None:
    there = KvmHypervisor(run_dir=tmp_path / "there")
    by_device.kvm.set_instance_memory("web1", 384)
    before = by_device.memory_mib()
    by_device.kvm.set_instance_memory("web1", 512)
    by_device.kvm.set_instance_vcpus("web1", 2)
    assert wait_for(lambda: by_device.vcpus() == 2)
    here = by_device.kvm
    try:
        migrate(here, there, by_device.instance, str(tmp_path / "there.sock"))
        by_device.console.close()
        path = there.get_instance_console("web1").path
        assert path is not None
        by_device.console = GuestConsole(path)
        info = there.get_instance_info("web1")
        assert (info.vcpus, info.memory_mib) == (2, 512)
        assert by_device.vcpus() == 2
        assert by_device.memory_mib() == before + 128
        assert there.set_instance_memory("web1", 384) == 384
        assert there.set_instance_vcpus("web1", 3) == 3
        assert wait_for(lambda: by_device.vcpus() == 3)
        migrate(there, here, by_device.instance, str(tmp_path / "back.sock"))
        by_device.console.close()
        path = here.get_instance_console("web1").path
        assert path is not None
        by_device.console = GuestConsole(path)
        assert by_device.vcpus() == 3
    finally:
        end(there)


def test_guest_uses_and_releases_vcpus(by_dimms: Growing) -> None:
    kvm = by_dimms.kvm
    assert kvm.set_instance_vcpus("web1", 3) == 3
    assert wait_for(lambda: by_dimms.vcpus() == 3)
    if read_state(kvm).qemu_version < (10, 0, 0):
        pytest.skip("this QEMU crashes when a vCPU is removed, so it is NOT tested here")
    assert kvm.set_instance_vcpus("web1", 1) == 1
    assert by_dimms.vcpus() == 1
    assert read_state(kvm).processors_gone == 2
    assert kvm.set_instance_vcpus("web1", 2) == 2
    assert wait_for(lambda: by_dimms.vcpus() == 2)
    with pytest.raises(HotplugError, match="QEMU without KVM can add 0 more vCPUs, because 2 were removed") as caught:
        kvm.set_instance_vcpus("web1", 3)
    assert caught.value.cause is HotplugCause.UNFIT
