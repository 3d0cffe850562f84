# SPDX-License-Identifier: BSD-2-Clause
"""Hotplug of vCPUs and memory of real QEMU instances, with failures and crashes at every step."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import attrs
import pytest

from faults import count_commands, crash_at, fail_at
from hotplug_state import assert_agreement, migrate, read_state
from hvkit.hypervisor import HotplugCause, HotplugError, Instance, InstanceStateError, MigrationRefused, ParameterError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.devices.memory import read_memory_mib
from hvkit.hypervisor.kvm.host.process import ProcessError
from hvkit.hypervisor.kvm.host.runtime import Pending
from hvkit.hypervisor.kvm.plan.plugged import MEMORY_DEVICE_ID
from hvkit.qmp import CommandError, ConnectionLost, QmpConnection
from hvkit.qmp.base import Command
from hvkit.qmp.schema import DeviceAdd, DeviceDel, DeviceDeletedEvent, QomList, QueryCpusFast

MakeInstance = Callable[..., Instance]

pytestmark = pytest.mark.qemu

GROWING = {"vcpus_max": 4, "memory_max_mib": 1024, "memory_hotplug": "dimm", "kvm_flag": "disabled"}


@pytest.fixture
def toy(kvm: KvmHypervisor, make_toy: MakeInstance) -> Instance:
    toy = make_toy(parameters=GROWING)
    kvm.start_instance(toy)
    return toy


@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_vcpus_and_memory_grow(kvm: KvmHypervisor, make_toy: MakeInstance, machine: str) -> None:
    kvm.start_instance(make_toy(parameters={**GROWING, "machine_version": machine}))
    assert assert_agreement(kvm) == (1, 32)
    assert kvm.set_instance_vcpus("web1", 2) == 2
    assert kvm.set_instance_vcpus("web1", 4) == 4
    assert kvm.set_instance_memory("web1", 288) == 288
    assert kvm.set_instance_memory("web1", 416) == 416
    assert assert_agreement(kvm) == (4, 416)
    assert kvm.set_instance_vcpus("web1", 4) == 4
    assert kvm.set_instance_memory("web1", 416) == 416
    kvm.reboot_instance("web1")
    assert assert_agreement(kvm) == (4, 416)


def test_paused_instance_grows(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(parameters=GROWING), start_paused=True)
    kvm.set_instance_vcpus("web1", 3)
    kvm.set_instance_memory("web1", 160)
    assert assert_agreement(kvm) == (3, 160)


def test_vcpus_grow_with_kvm(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm cannot be used, so vCPU hotplug with KVM is NOT tested here")
    kvm.start_instance(make_toy(parameters={**GROWING, "kvm_flag": "enabled"}))
    assert kvm.set_instance_vcpus("web1", 4) == 4
    assert assert_agreement(kvm) == (4, 32)


def test_added_vcpu_is_bound_to_its_mask(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    some = min(os.sched_getaffinity(0))
    kvm.start_instance(make_toy(parameters={**GROWING, "cpu_mask": f"all:{some}:all:all"}))
    kvm.set_instance_vcpus("web1", 3)
    with kvm.monitor("web1") as monitor:
        threads = {each.cpu_index: each.thread_id for each in monitor.execute(QueryCpusFast())}
    bound = {index: os.sched_getaffinity(thread) for index, thread in threads.items()}
    assert bound == {0: os.sched_getaffinity(0), 1: {some}, 2: os.sched_getaffinity(0)}


def test_vcpu_with_failed_binding_is_bound_by_next_change(
    kvm: KvmHypervisor, make_toy: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise ProcessError("the kernel refuses, for a test")

    some = min(os.sched_getaffinity(0))
    kvm.start_instance(make_toy(parameters={**GROWING, "cpu_mask": f"all:{some}:all:all"}))
    with monkeypatch.context() as patch:
        patch.setattr("hvkit.hypervisor.kvm.devices.processors.bind_processors", refuse)
        with pytest.raises(HotplugError, match="it was added, but could not be bound as cpu_mask requires"):
            kvm.set_instance_vcpus("web1", 2)
    assert kvm.get_instance_info("web1").vcpus == 2
    assert kvm.set_instance_vcpus("web1", 2) == 2
    with kvm.monitor("web1") as monitor:
        (thread,) = (each.thread_id for each in monitor.execute(QueryCpusFast()) if each.cpu_index == 1)
    assert os.sched_getaffinity(thread) == {some}
    assert assert_agreement(kvm) == (2, 32)


def test_added_vcpu_inherits_mask_of_instance(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    some = min(os.sched_getaffinity(0))
    kvm.start_instance(make_toy(parameters={**GROWING, "cpu_mask": str(some)}))
    kvm.set_instance_vcpus("web1", 2)
    with kvm.monitor("web1") as monitor:
        assert [os.sched_getaffinity(each.thread_id) for each in monitor.execute(QueryCpusFast())] == [{some}] * 2


def test_added_memory_uses_file_backend_of_mem_path(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> None:
    kvm.start_instance(make_toy(parameters={**GROWING, "mem_path": str(tmp_path)}))
    kvm.set_instance_memory("web1", 160)
    assert assert_agreement(kvm) == (1, 160)
    with kvm.monitor("web1") as monitor:
        backends = monitor.execute(QomList(path="/objects"))
    assert {backend.type for backend in backends if backend.name.endswith("-memory")} == {"child<memory-backend-file>"}


def test_confined_instance_grows(
    kvm: KvmHypervisor, make_toy: MakeInstance, unavailable: Callable[[str], NoReturn]
) -> None:
    if os.geteuid() != 0:
        unavailable("only root can start QEMU as another user, so confinement is NOT tested here")
    confined = {"security_model": "pool", "security_pool": "60000-60009", "use_chroot": True}
    kvm.start_instance(make_toy(parameters={**GROWING, **confined}))
    kvm.set_instance_vcpus("web1", 2)
    kvm.set_instance_memory("web1", 160)
    assert assert_agreement(kvm) == (2, 160)


@pytest.mark.parametrize("vcpus", [0, 5, -1, True, "2", None])
def test_set_vcpus_rejects_value_out_of_range(kvm: KvmHypervisor, toy: Instance, vcpus: Any) -> None:
    with pytest.raises(ParameterError):
        kvm.set_instance_vcpus("web1", vcpus)


@pytest.mark.parametrize("memory_mib", [31, 1025, -1, True, "64", None])
def test_set_memory_rejects_value_out_of_range(kvm: KvmHypervisor, toy: Instance, memory_mib: Any) -> None:
    with pytest.raises(ParameterError):
        kvm.set_instance_memory("web1", memory_mib)


def test_instance_without_maximum_accepts_current_size_only(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy())
    assert kvm.set_instance_vcpus("web1", 1) == 1
    assert kvm.set_instance_memory("web1", 32) == 32
    with pytest.raises(ParameterError, match="from 1 to 1"):
        kvm.set_instance_vcpus("web1", 2)
    with pytest.raises(ParameterError, match="from 32 to 32"):
        kvm.set_instance_memory("web1", 160)


def test_set_memory_rejects_size_that_dimms_cannot_make_up(kvm: KvmHypervisor, toy: Instance) -> None:
    kvm.set_instance_memory("web1", 288)
    for memory_mib in (300, 160):
        with pytest.raises(HotplugError) as caught:
            kvm.set_instance_memory("web1", memory_mib)
        assert caught.value.cause is HotplugCause.UNFIT
    assert assert_agreement(kvm) == (1, 288)


def test_growth_of_stopped_instance_raises_state_error(kvm: KvmHypervisor, toy: Instance) -> None:
    kvm.set_instance_vcpus("web1", 2)
    kvm.set_instance_memory("web1", 160)
    kvm.stop_instance("web1", force=True)
    with pytest.raises(InstanceStateError, match="cannot change its vCPUs"):
        kvm.set_instance_vcpus("web1", 3)
    with pytest.raises(InstanceStateError, match="cannot change its memory"):
        kvm.set_instance_memory("web1", 288)
    with pytest.raises(InstanceStateError, match=r"^web1: cannot change the balloon \(it is shutdown\)$"):
        kvm.balloon_instance_memory("web1", 16)
    info = kvm.get_instance_info("web1")
    assert (info.vcpus, info.memory_mib) == (2, 160)


def test_dimm_that_guest_does_not_release_stays(kvm: KvmHypervisor, toy: Instance) -> None:
    kvm.set_instance_memory("web1", 160)
    with pytest.raises(HotplugError, match=r"the guest did not release it within 0\.2 s") as caught:
        kvm.set_instance_memory("web1", 32, timeout=0.2)
    assert (caught.value.device, caught.value.cause) == ("dimm-0", HotplugCause.GUEST_SILENT)
    assert [record.pending for record in read_state(kvm).dimms] == [Pending.REMOVE]
    assert kvm.get_instance_info("web1").memory_mib == 160
    assert kvm.set_instance_memory("web1", 288) == 288


def test_set_memory_after_guest_ejected_virtio_mem_device_fails(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    growing = {**GROWING, "memory_hotplug": "virtio-mem", "machine_version": "pc"}
    kvm.start_instance(make_toy(parameters=growing))
    if read_state(kvm).qemu_version < (10, 0, 0):
        pytest.skip("with this QEMU, a guest cannot eject the device")
    with kvm.monitor("web1") as monitor, monitor.subscribe(DeviceDeletedEvent) as events:
        monitor.execute(DeviceDel(id=MEMORY_DEVICE_ID))
        while events.get(timeout=30).device != MEMORY_DEVICE_ID:
            pass
    with pytest.raises(HotplugError, match="the guest released its virtio-mem device") as caught:
        kvm.set_instance_memory("web1", 160)
    assert caught.value.cause is HotplugCause.UNFIT
    with pytest.raises(HotplugError) as caught:  # such a guest ejects every device, also the balloon
        kvm.balloon_instance_memory("web1", 16)
    assert (caught.value.device, caught.value.cause) == ("balloon", HotplugCause.REFUSED)
    assert isinstance(caught.value.__cause__, CommandError)
    assert kvm.get_instance_info("web1").memory_mib == 32


def test_vcpu_removal_is_rejected_for_tcg_before_qemu_10(kvm: KvmHypervisor, toy: Instance) -> None:
    if read_state(kvm).qemu_version >= (10, 0, 0):
        pytest.skip("this QEMU survives it")
    kvm.set_instance_vcpus("web1", 3)
    with pytest.raises(HotplugError, match="crashes when a vCPU is removed") as caught:
        kvm.set_instance_vcpus("web1", 2)
    assert caught.value.cause is HotplugCause.UNFIT
    assert assert_agreement(kvm) == (3, 32)


def test_balloon_maximum_includes_added_dimms(kvm: KvmHypervisor, toy: Instance) -> None:
    kvm.set_instance_memory("web1", 160)
    kvm.balloon_instance_memory("web1", 160)
    with pytest.raises(ParameterError, match="from 1 to 160"):
        kvm.balloon_instance_memory("web1", 161)


#: Operations that grow an instance, and the vCPUs and memory afterwards.
ACTS: list[tuple[Callable[[KvmHypervisor], object], tuple[int, int]]] = [
    (lambda kvm: kvm.set_instance_vcpus("web1", 2), (2, 32)),
    (lambda kvm: kvm.set_instance_memory("web1", 160), (1, 160)),
]


@pytest.mark.parametrize(("act", "reached"), ACTS, ids=["vcpus", "memory"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_failed_growth_command_is_reconciled_by_next_change(
    kvm: KvmHypervisor,
    make_toy: MakeInstance,
    act: Callable[[KvmHypervisor], object],
    reached: tuple[int, int],
    after: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kvm.start_instance(make_toy(parameters=GROWING))
    commands = count_commands(monkeypatch, lambda: act(kvm))
    assert commands >= 6
    for number in range(1, commands + 1):
        kvm.stop_instance("web1", force=True)
        kvm.start_instance(make_toy(parameters=GROWING))
        fail_at(monkeypatch, number, lambda: act(kvm), after=after)
        act(kvm)
        assert assert_agreement(kvm) == reached


@pytest.mark.parametrize(("act", "reached"), ACTS, ids=["vcpus", "memory"])
def test_crash_during_growth_is_reconciled_by_next_change(
    kvm: KvmHypervisor,
    make_toy: MakeInstance,
    act: Callable[[KvmHypervisor], object],
    reached: tuple[int, int],
) -> None:
    for number in itertools.count(1):
        kvm.start_instance(make_toy(parameters=GROWING))
        has_crashed = crash_at(number, lambda: act(kvm))
        info = kvm.get_instance_info("web1")
        with kvm.monitor("web1") as monitor:
            assert info.vcpus == len(monitor.execute(QueryCpusFast()))
            assert info.memory_mib == read_memory_mib(monitor)
        act(kvm)
        assert assert_agreement(kvm) == reached
        kvm.stop_instance("web1", force=True)
        if not has_crashed:
            break
    assert number > 6


@pytest.mark.parametrize(("act", "reached"), ACTS, ids=["vcpus", "memory"])
def test_growth_with_lost_reply_succeeds(
    kvm: KvmHypervisor,
    toy: Instance,
    act: Callable[[KvmHypervisor], object],
    reached: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    execute = QmpConnection.execute

    def losing(self: QmpConnection, command: Command[Any] | str, *arguments: Any, **keywords: Any) -> Any:
        reply = execute(self, command, *arguments, **keywords)
        if isinstance(command, DeviceAdd):
            self.close()
            raise ConnectionLost("the machine", "for a test")
        return reply

    with monkeypatch.context() as patch:
        patch.setattr(QmpConnection, "execute", losing)
        act(kvm)
    assert assert_agreement(kvm) == reached


def test_refused_memory_backend_leaves_nothing(kvm: KvmHypervisor, toy: Instance) -> None:
    with kvm.monitor("web1") as monitor:
        monitor.execute("object-add", {"qom-type": "memory-backend-ram", "id": "dimm-0-memory", "size": 1 << 20})
    with pytest.raises(HotplugError, match="dimm-0") as caught:
        kvm.set_instance_memory("web1", 160)
    assert caught.value.cause is HotplugCause.REFUSED
    assert assert_agreement(kvm) == (1, 32)
    assert kvm.set_instance_memory("web1", 160) == 160


@pytest.fixture
def other(tmp_path: Path) -> Iterator[KvmHypervisor]:
    """A second hypervisor, in the role of another node."""
    hypervisor = KvmHypervisor(run_dir=tmp_path / "other", lock_timeout_s=5.0)
    yield hypervisor
    for name in hypervisor.list_instances():
        hypervisor.stop_instance(name, force=True)
        hypervisor.cleanup_instance(name)


@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_added_vcpus_and_memory_survive_migration(
    kvm: KvmHypervisor, other: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, machine: str
) -> None:
    toy = make_toy(parameters={**GROWING, "machine_version": machine})
    kvm.start_instance(toy)
    kvm.set_instance_vcpus("web1", 3)
    kvm.set_instance_memory("web1", 160)
    kvm.set_instance_memory("web1", 416)
    before = read_state(kvm)
    migrate(kvm, other, toy, str(tmp_path / "there.sock"))
    assert assert_agreement(other) == (3, 416)
    after = read_state(other)
    assert (after.processors, after.dimms) == (before.processors, before.dimms)
    assert other.set_instance_vcpus("web1", 4) == 4
    assert other.set_instance_memory("web1", 544) == 544
    migrate(other, kvm, toy, str(tmp_path / "back.sock"))
    assert assert_agreement(kvm) == (4, 544)


def test_migration_to_lower_maximum_is_refused(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, tmp_path: Path
) -> None:
    info = kvm.migration_info("web1")
    smaller = attrs.evolve(toy, parameters={**toy.parameters, "vcpus_max": 2, "memory_max_mib": 0})
    with pytest.raises(MigrationRefused) as caught:
        other.accept_instance(smaller, info, str(tmp_path / "there.sock"))
    assert "vcpus_max: 4 on the source, and 2 here" in str(caught.value)
    assert "memory_max_mib: 1024 on the source, and 0 here" in str(caught.value)
