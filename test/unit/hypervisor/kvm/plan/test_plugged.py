# SPDX-License-Identifier: BSD-2-Clause
"""Which processors and DIMMs come and go for a target."""

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


# ---- processors


def test_places_are_counted_from_the_first_whatever_order_qemu_has_them_in() -> None:
    found = ProcessorPlaces.from_answer(
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


def test_processor_is_plugged_in_where_its_place_is() -> None:
    (free,) = ProcessorPlaces.from_answer([place(1, 2)]).free
    assert unstructure(free.build()) == {
        "driver": "max-x86_64-cpu",
        "id": "cpu-0",
        "socket-id": 1,
        "core-id": 2,
        "thread-id": 0,
    }


def test_first_free_places_are_filled() -> None:
    change = plan_processors(places(1, [2], [1, 3, 4]), 4)
    assert names(change.coming) == ["cpu-1", "cpu-3"]
    assert not change.going


def test_last_processors_go_first() -> None:
    change = plan_processors(places(1, [1, 2, 3], []), 2)
    assert names(change.going) == ["cpu-3", "cpu-2"]
    assert not change.coming


def test_processors_that_were_asked_for_before_go_first() -> None:
    assert names(plan_processors(places(1, [1, 2, 3], []), 2, asked=["cpu-1"]).going) == ["cpu-1", "cpu-3"]


def test_as_many_processors_as_there_are_is_no_change() -> None:
    change = plan_processors(places(1, [2], [1, 3]), 2)
    assert (change.coming, change.going) == ((), ())


# ---- memory


def test_more_memory_is_one_dimm_more() -> None:
    change = plan_dimms(dimms(128), 256, 1024)
    assert change.coming == (Dimm(device="dimm-1", size_mib=640),)
    assert not change.going


def test_name_of_a_dimm_that_went_is_given_again() -> None:
    assert names(plan_dimms(dimms(128, 128)[1:], 256, 512).coming) == ["dimm-0"]


def test_less_memory_is_as_few_dimms_less_as_will_do() -> None:
    assert names(plan_dimms(dimms(128, 128, 256), 256, 512).going) == ["dimm-2"]
    assert names(plan_dimms(dimms(128, 256, 128), 256, 384).going) == ["dimm-2", "dimm-1"]


def test_dimms_that_were_asked_for_before_go_first() -> None:
    assert names(plan_dimms(dimms(128, 128), 256, 384, asked=["dimm-0"]).going) == ["dimm-0"]


def test_as_much_memory_as_there_is_is_no_change() -> None:
    change = plan_dimms(dimms(128), 256, 384)
    assert (change.coming, change.going) == ((), ())


def test_what_dimms_do_not_make_up_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"go as a whole: 256 MiB are there for good, 512 \+ 128 MiB"):
        plan_dimms(dimms(512, 128), 256, 640)


def test_memory_comes_in_steps() -> None:
    with pytest.raises(ParameterError, match="steps of 128 MiB"):
        plan_dimms((), 256, 300)


def test_slots_are_used_up() -> None:
    with pytest.raises(ParameterError, match=f"all {DIMM_SLOTS} slots"):
        plan_dimms(dimms(*[128] * DIMM_SLOTS), 256, 256 + 128 * (DIMM_SLOTS + 1))


def test_dimm_that_has_a_place_keeps_it() -> None:
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
