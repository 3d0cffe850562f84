# SPDX-License-Identifier: BSD-2-Clause
"""Hot-added vCPUs and DIMMs, and the changes that reach a target."""

from __future__ import annotations

import pytest

from hvkit.hypervisor import ParameterError
from hvkit.hypervisor.kvm.plan.plugged import (
    DIMM_SLOTS,
    Dimm,
    Processor,
    ProcessorPlaces,
    plan_dimms,
    plan_processors,
    read_dimms,
)
from hvkit.qmp.converter import unstructure
from hvkit.qmp.schema import CpuInstanceProperties, HotpluggableCPU, PCDIMMDeviceInfo, PCDIMMDeviceInfoWrapper


def place(socket: int, core: int, path: str | None = None) -> HotpluggableCPU:
    props = CpuInstanceProperties(socket_id=socket, core_id=core, thread_id=0)
    return HotpluggableCPU(type="max-x86_64-cpu", vcpus_count=1, props=props, qom_path=path)


def processor(number: int) -> Processor:
    return Processor(device=f"cpu-{number}", driver="max-x86_64-cpu", place={"socket-id": 0, "core-id": number})


def places(fixed: int, plugged: list[int], free: list[int]) -> ProcessorPlaces:
    return ProcessorPlaces(fixed, tuple(map(processor, plugged)), tuple(map(processor, free)))


def names(devices: tuple[Processor, ...] | tuple[Dimm, ...]) -> list[str]:
    return [each.device for each in devices]


def dimms(*sizes: int) -> tuple[Dimm, ...]:
    return tuple(Dimm(device=f"dimm-{number}", size_mib=size) for number, size in enumerate(sizes))


def test_places_are_numbered_in_the_order_of_the_topology() -> None:
    found = ProcessorPlaces.from_reply(
        [
            place(1, 1),
            place(1, 0, "/machine/peripheral/cpu-2"),
            place(0, 1),
            place(0, 0, "/machine/unattached/device[0]"),
        ]
    )
    assert (found.fixed, found.count) == (1, 2)
    assert names(found.plugged) == ["cpu-2"]
    assert names(found.free) == ["cpu-1", "cpu-3"]


def test_processor_is_described_with_its_topology_address() -> None:
    (free,) = ProcessorPlaces.from_reply([place(1, 2)]).free
    assert unstructure(free.build()) == {
        "driver": "max-x86_64-cpu",
        "id": "cpu-0",
        "socket-id": 1,
        "core-id": 2,
        "thread-id": 0,
    }


def test_plan_processors_fills_the_first_free_places() -> None:
    change = plan_processors(places(1, [2], [1, 3, 4]), 4)
    assert names(change.added) == ["cpu-1", "cpu-3"]
    assert not change.removed


def test_plan_processors_removes_from_the_last_place() -> None:
    change = plan_processors(places(1, [1, 2, 3], []), 2)
    assert names(change.removed) == ["cpu-3", "cpu-2"]
    assert not change.added


def test_plan_processors_prefers_those_already_requested() -> None:
    assert names(plan_processors(places(1, [1, 2, 3], []), 2, requested=["cpu-1"]).removed) == ["cpu-1", "cpu-3"]


def test_plan_processors_for_the_current_number_changes_nothing() -> None:
    change = plan_processors(places(1, [2], [1, 3]), 2)
    assert (change.added, change.removed) == ((), ())


def test_plan_dimms_adds_one_dimm() -> None:
    change = plan_dimms(dimms(128), 256, 1024)
    assert change.added == (Dimm(device="dimm-1", size_mib=640),)
    assert not change.removed


def test_plan_dimms_reuses_the_id_of_a_removed_dimm() -> None:
    assert names(plan_dimms(dimms(128, 128)[1:], 256, 512).added) == ["dimm-0"]


def test_plan_dimms_removes_as_few_dimms_as_possible() -> None:
    assert names(plan_dimms(dimms(128, 128, 256), 256, 512).removed) == ["dimm-2"]
    assert names(plan_dimms(dimms(128, 256, 128), 256, 384).removed) == ["dimm-2", "dimm-1"]


def test_plan_dimms_prefers_those_already_requested() -> None:
    assert names(plan_dimms(dimms(128, 128), 256, 384, requested=["dimm-0"]).removed) == ["dimm-0"]


def test_plan_dimms_for_the_current_amount_changes_nothing() -> None:
    change = plan_dimms(dimms(128), 256, 384)
    assert (change.added, change.removed) == ((), ())


def test_plan_dimms_rejects_a_difference_that_no_dimms_have() -> None:
    with pytest.raises(ParameterError, match=r"no hot-added DIMMs .*: 256 MiB at boot, 512 \+ 128 MiB hot-added"):
        plan_dimms(dimms(512, 128), 256, 640)


def test_plan_dimms_rejects_a_difference_that_is_not_a_multiple_of_the_step() -> None:
    with pytest.raises(ParameterError, match="44 MiB is not a multiple of 128 MiB"):
        plan_dimms((), 256, 300)


def test_plan_dimms_without_a_free_slot_is_refused() -> None:
    with pytest.raises(ParameterError, match=f"all {DIMM_SLOTS} DIMM slots are in use"):
        plan_dimms(dimms(*[128] * DIMM_SLOTS), 256, 256 + 128 * (DIMM_SLOTS + 1))


def test_dimm_keeps_slot_and_address() -> None:
    info = PCDIMMDeviceInfo(
        id="dimm-3",
        addr=1 << 32,
        size=128 << 20,
        slot=2,
        node=0,
        memdev="/objects/x",
        hotplugged=True,
        hotpluggable=True,
    )
    (dimm,) = read_dimms([PCDIMMDeviceInfoWrapper(type="dimm", data=info)])
    assert unstructure(dimm.build()) == {
        "driver": "pc-dimm",
        "id": "dimm-3",
        "memdev": "dimm-3-memory",
        "slot": 2,
        "addr": 1 << 32,
    }
