# SPDX-License-Identifier: BSD-2-Clause
"""Processors and memory come to a real machine while it runs, whatever fails or dies on the way."""

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


# ---- what comes


@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_processors_and_memory_come(kvm: KvmHypervisor, make_toy: MakeInstance, machine: str) -> None:
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


def test_machine_that_stands_still_grows(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(parameters=GROWING), start_paused=True)
    kvm.set_instance_vcpus("web1", 3)
    kvm.set_instance_memory("web1", 160)
    assert assert_agreement(kvm) == (3, 160)


def test_processors_come_where_kvm_runs_them(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm cannot be used, so processors are NOT plugged in under KVM here")
    kvm.start_instance(make_toy(parameters={**GROWING, "kvm_flag": "enabled"}))
    assert kvm.set_instance_vcpus("web1", 4) == 4
    assert assert_agreement(kvm) == (4, 32)


def test_processor_that_comes_is_bound_as_the_mask_says(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    some = min(os.sched_getaffinity(0))
    kvm.start_instance(make_toy(parameters={**GROWING, "cpu_mask": f"all:{some}:all:all"}))
    kvm.set_instance_vcpus("web1", 3)
    with kvm.monitor("web1") as monitor:
        threads = {each.cpu_index: each.thread_id for each in monitor.execute(QueryCpusFast())}
    bound = {index: os.sched_getaffinity(thread) for index, thread in threads.items()}
    assert bound == {0: os.sched_getaffinity(0), 1: {some}, 2: os.sched_getaffinity(0)}


def test_processor_that_could_not_be_bound_is_bound_by_the_next_change(
    kvm: KvmHypervisor, make_toy: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise ProcessError("the kernel refuses, for a test")

    some = min(os.sched_getaffinity(0))
    kvm.start_instance(make_toy(parameters={**GROWING, "cpu_mask": f"all:{some}:all:all"}))
    with monkeypatch.context() as patch:
        patch.setattr("hvkit.hypervisor.kvm.devices.processors.bind_processors", refuse)
        with pytest.raises(HotplugError, match="it has come, and is not bound as cpu_mask says"):
            kvm.set_instance_vcpus("web1", 2)
    assert kvm.get_instance_info("web1").vcpus == 2
    assert kvm.set_instance_vcpus("web1", 2) == 2
    with kvm.monitor("web1") as monitor:
        (thread,) = (each.thread_id for each in monitor.execute(QueryCpusFast()) if each.cpu_index == 1)
    assert os.sched_getaffinity(thread) == {some}
    assert assert_agreement(kvm) == (2, 32)


def test_processor_that_comes_runs_where_the_instance_does(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    some = min(os.sched_getaffinity(0))
    kvm.start_instance(make_toy(parameters={**GROWING, "cpu_mask": str(some)}))
    kvm.set_instance_vcpus("web1", 2)
    with kvm.monitor("web1") as monitor:
        assert [os.sched_getaffinity(each.thread_id) for each in monitor.execute(QueryCpusFast())] == [{some}] * 2


def test_memory_that_comes_is_in_files_where_the_rest_is(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    kvm.start_instance(make_toy(parameters={**GROWING, "mem_path": str(tmp_path)}))
    kvm.set_instance_memory("web1", 160)
    assert assert_agreement(kvm) == (1, 160)
    with kvm.monitor("web1") as monitor:
        backends = monitor.execute(QomList(path="/objects"))
    assert {backend.type for backend in backends if backend.name.endswith("-memory")} == {"child<memory-backend-file>"}


def test_confined_machine_grows(
    kvm: KvmHypervisor, make_toy: MakeInstance, unavailable: Callable[[str], NoReturn]
) -> None:
    if os.geteuid() != 0:
        unavailable("only root can start QEMU as somebody else, so confinement is NOT tested here")
    confined = {"security_model": "pool", "security_pool": "60000-60009", "use_chroot": True}
    kvm.start_instance(make_toy(parameters={**GROWING, **confined}))
    kvm.set_instance_vcpus("web1", 2)
    kvm.set_instance_memory("web1", 160)
    assert assert_agreement(kvm) == (2, 160)


# ---- what is refused


@pytest.mark.parametrize("vcpus", [0, 5, -1, True, "2", None])
def test_processors_out_of_range_are_refused(kvm: KvmHypervisor, toy: Instance, vcpus: Any) -> None:
    with pytest.raises(ParameterError):
        kvm.set_instance_vcpus("web1", vcpus)


@pytest.mark.parametrize("memory_mib", [31, 1025, -1, True, "64", None])
def test_memory_out_of_range_is_refused(kvm: KvmHypervisor, toy: Instance, memory_mib: Any) -> None:
    with pytest.raises(ParameterError):
        kvm.set_instance_memory("web1", memory_mib)


def test_machine_that_cannot_grow_has_what_it_has(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy())
    assert kvm.set_instance_vcpus("web1", 1) == 1
    assert kvm.set_instance_memory("web1", 32) == 32
    with pytest.raises(ParameterError, match="from 1 to 1"):
        kvm.set_instance_vcpus("web1", 2)
    with pytest.raises(ParameterError, match="from 32 to 32"):
        kvm.set_instance_memory("web1", 160)


def test_what_no_dimm_makes_up_is_refused(kvm: KvmHypervisor, toy: Instance) -> None:
    kvm.set_instance_memory("web1", 288)
    for memory_mib in (300, 160):
        with pytest.raises(HotplugError) as caught:
            kvm.set_instance_memory("web1", memory_mib)
        assert caught.value.cause is HotplugCause.UNFIT
    assert assert_agreement(kvm) == (1, 288)


def test_instance_that_is_over_is_refused(kvm: KvmHypervisor, toy: Instance) -> None:
    kvm.set_instance_vcpus("web1", 2)
    kvm.set_instance_memory("web1", 160)
    kvm.stop_instance("web1", force=True)
    with pytest.raises(InstanceStateError, match="its processors cannot be changed"):
        kvm.set_instance_vcpus("web1", 3)
    with pytest.raises(InstanceStateError, match="its memory cannot be changed"):
        kvm.set_instance_memory("web1", 288)
    info = kvm.get_instance_info("web1")
    assert (info.vcpus, info.memory_mib) == (2, 160)


def test_guest_that_does_not_let_go_keeps_what_it_has(kvm: KvmHypervisor, toy: Instance) -> None:
    kvm.set_instance_memory("web1", 160)
    with pytest.raises(HotplugError, match=r"the guest did not let go of it within 0\.2 s") as caught:
        kvm.set_instance_memory("web1", 32, timeout=0.2)
    assert (caught.value.device, caught.value.cause) == ("dimm-0", HotplugCause.GUEST_SILENT)
    assert [record.pending for record in read_state(kvm).dimms] == [Pending.REMOVE]
    assert kvm.get_instance_info("web1").memory_mib == 160
    assert kvm.set_instance_memory("web1", 288) == 288


def test_guest_may_have_ejected_what_gives_it_memory(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    growing = {**GROWING, "memory_hotplug": "virtio-mem", "machine_version": "pc"}
    kvm.start_instance(make_toy(parameters=growing))
    if read_state(kvm).qemu_version < (10, 0, 0):
        pytest.skip("this QEMU lets no guest do that")
    with kvm.monitor("web1") as monitor, monitor.subscribe(DeviceDeletedEvent) as events:
        monitor.execute(DeviceDel(id=MEMORY_DEVICE_ID))
        while events.get(timeout=30).device != MEMORY_DEVICE_ID:
            pass
    with pytest.raises(HotplugError, match="the guest let go of the device that gives it memory") as caught:
        kvm.set_instance_memory("web1", 160)
    assert caught.value.cause is HotplugCause.UNFIT
    with pytest.raises(CommandError):  # it ejects all there is, its balloon too
        kvm.balloon_instance_memory("web1", 16)
    assert kvm.get_instance_info("web1").memory_mib == 32


def test_processor_is_not_taken_from_a_qemu_that_would_not_survive_it(kvm: KvmHypervisor, toy: Instance) -> None:
    if read_state(kvm).qemu_version >= (10, 0, 0):
        pytest.skip("this QEMU survives it")
    kvm.set_instance_vcpus("web1", 3)
    with pytest.raises(HotplugError, match="does not survive that a processor is taken out") as caught:
        kvm.set_instance_vcpus("web1", 2)
    assert caught.value.cause is HotplugCause.UNFIT
    assert assert_agreement(kvm) == (3, 32)


# ---- the balloon


def test_balloon_takes_of_all_the_memory_there_is(kvm: KvmHypervisor, toy: Instance) -> None:
    kvm.set_instance_memory("web1", 160)
    kvm.balloon_instance_memory("web1", 160)
    with pytest.raises(ParameterError, match="from 1 to 160"):
        kvm.balloon_instance_memory("web1", 161)


# ---- what fails half-way


#: Each act that adds something, and what there is after it.
ACTS: list[tuple[Callable[[KvmHypervisor], object], tuple[int, int]]] = [
    (lambda kvm: kvm.set_instance_vcpus("web1", 2), (2, 32)),
    (lambda kvm: kvm.set_instance_memory("web1", 160), (1, 160)),
]


@pytest.mark.parametrize(("act", "reached"), ACTS, ids=["vcpus", "memory"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whatever_command_fails_the_next_change_puts_it_right(
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
def test_process_that_dies_leaves_what_the_next_change_settles(
    kvm: KvmHypervisor,
    make_toy: MakeInstance,
    act: Callable[[KvmHypervisor], object],
    reached: tuple[int, int],
) -> None:
    for number in itertools.count(1):
        kvm.start_instance(make_toy(parameters=GROWING))
        is_dead = crash_at(number, lambda: act(kvm))
        info = kvm.get_instance_info("web1")
        with kvm.monitor("web1") as monitor:
            assert info.vcpus == len(monitor.execute(QueryCpusFast()))
            assert info.memory_mib == read_memory_mib(monitor)
        act(kvm)
        assert assert_agreement(kvm) == reached
        kvm.stop_instance("web1", force=True)
        if not is_dead:
            break
    assert number > 6


@pytest.mark.parametrize(("act", "reached"), ACTS, ids=["vcpus", "memory"])
def test_change_whose_reply_was_lost_is_made(
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


def test_memory_that_cannot_be_had_leaves_nothing(kvm: KvmHypervisor, toy: Instance) -> None:
    with kvm.monitor("web1") as monitor:
        monitor.execute("object-add", {"qom-type": "memory-backend-ram", "id": "dimm-0-memory", "size": 1 << 20})
    with pytest.raises(HotplugError, match="dimm-0") as caught:
        kvm.set_instance_memory("web1", 160)
    assert caught.value.cause is HotplugCause.REFUSED
    assert assert_agreement(kvm) == (1, 32)
    assert kvm.set_instance_memory("web1", 160) == 160


# ---- on to another node


@pytest.fixture
def other(tmp_path: Path) -> Iterator[KvmHypervisor]:
    """The hypervisor of another node, as far as this one can be two."""
    hypervisor = KvmHypervisor(run_dir=tmp_path / "other", lock_timeout_s=5.0)
    yield hypervisor
    for name in hypervisor.list_instances():
        hypervisor.stop_instance(name, force=True)
        hypervisor.cleanup_instance(name)


@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_what_was_plugged_in_comes_along(
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


def test_node_whose_instance_cannot_grow_as_far_is_refused(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, tmp_path: Path
) -> None:
    info = kvm.migration_info("web1")
    smaller = attrs.evolve(toy, parameters={**toy.parameters, "vcpus_max": 2, "memory_max_mib": 0})
    with pytest.raises(MigrationRefused) as caught:
        other.accept_instance(smaller, info, str(tmp_path / "there.sock"))
    assert "vcpus_max: 4 on the source, and 2 here" in str(caught.value)
    assert "memory_max_mib: 1024 on the source, and 0 here" in str(caught.value)
