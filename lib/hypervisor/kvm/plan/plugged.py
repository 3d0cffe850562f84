# SPDX-License-Identifier: BSD-2-Clause
"""Processors and memory beyond those that a machine starts with: what they are, and which come and go for a target.

What is plugged in is described once. Its description plugs it in, starts the machine that it moves to, and is what is
remembered of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, Final, Self, TypeVar

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.qmp.schema import (
    CpuInstanceProperties,
    DeviceAdd,
    HotpluggableCPU,
    MemoryDeviceInfo,
    PCDIMMDeviceInfoWrapper,
)

#: Where QEMU keeps the devices that have an id.
DEVICES_PATH: Final = "/machine/peripheral"
#: The device that gives a guest more memory, and takes it back, without being plugged itself; and what it stands on.
MEMORY_DEVICE_ID: Final = "memory-more"
MEMORY_DEVICE_BACKEND: Final = "memory-more-backend"
#: How many DIMMs there can be. Each costs QEMU up to 1 GiB of the guest's addresses, and no memory.
DIMM_SLOTS: Final = 16
#: What a DIMM's size is a multiple of: the smallest piece of memory that a Linux guest brings online by itself.
DIMM_STEP_MIB: Final = 128

_MIB: Final = 1 << 20
#: The members that say where a processor is, from the widest to the narrowest.
_LEVELS: Final = (
    *("node_id", "drawer_id", "book_id", "socket_id", "die_id", "cluster_id", "module_id", "core_id", "thread_id"),
)


#: What has a device id.
P = TypeVar("P", bound="Processor | Dimm")


def _by_turn(there: Sequence[P], asked: Iterable[str]) -> tuple[P, ...]:
    """Put what is plugged in in the order in which it goes: what was asked for before, and of that the last first."""
    names = set(asked)
    first = [each for each in reversed(there) if each.device in names]
    return (*first, *(each for each in reversed(there) if each.device not in names))


# ---- processors


@attrs.frozen(kw_only=True)
class Processor:
    """A processor that was, or can be, plugged in.

    Attributes:
        device: its device id, which says the number of its place.
        driver: the device, which is of the machine's CPU model.
        place: where it is: the properties of the device that say so.
    """

    device: str
    driver: str
    place: dict[str, int]

    def build(self) -> DeviceAdd:
        """Describe the device."""
        return DeviceAdd(driver=self.driver, id=self.device, properties=dict(self.place))


@attrs.frozen
class ProcessorPlaces:
    """The places of a machine's processors.

    Attributes:
        fixed: how many hold a processor that cannot be taken out, because the machine was started with it.
        plugged: those that were plugged in, the first place first.
        free: those that can be plugged in, the first place first.
    """

    fixed: int
    plugged: tuple[Processor, ...]
    free: tuple[Processor, ...]

    @property
    def count(self) -> int:
        """How many processors there are."""
        return self.fixed + len(self.plugged)

    @classmethod
    def from_answer(cls, places: Iterable[HotpluggableCPU]) -> Self:
        """Take the places out of QEMU's answer to `query-hotpluggable-cpus`."""
        fixed = 0
        plugged: list[Processor] = []
        free: list[Processor] = []
        for number, place in enumerate(sorted(places, key=lambda place: _where(place.props))):
            path = place.qom_path
            name = "" if path is None else path.removeprefix(f"{DEVICES_PATH}/")
            if path is not None and name == path:
                fixed += 1
                continue
            processor = Processor(device=name or f"cpu-{number}", driver=place.type, place=_properties(place.props))
            (plugged if name else free).append(processor)
        return cls(fixed, tuple(plugged), tuple(free))


def _where(place: CpuInstanceProperties) -> tuple[int, ...]:
    return tuple(getattr(place, level) or 0 for level in _LEVELS)


def _properties(place: CpuInstanceProperties) -> dict[str, int]:
    levels = {level.replace("_", "-"): getattr(place, level) for level in _LEVELS}
    return {level: number for level, number in levels.items() if number is not None}


@attrs.frozen
class ProcessorChange:
    """What comes and what goes, in this order."""

    coming: tuple[Processor, ...] = ()
    going: tuple[Processor, ...] = ()


def plan_processors(places: ProcessorPlaces, vcpus: int, *, asked: Iterable[str] = ()) -> ProcessorChange:
    """Plan how a machine comes to have a number of processors.

    The first free places are filled. Those that the guest was asked for before go first, for they may go at any time;
    then the last ones.

    Args:
        places: of the machine.
        vcpus: how many processors it is to have: at least those that it was started with, at most all.
        asked: device ids of those that the guest was asked to let go of and has not.
    """
    if vcpus >= places.count:
        return ProcessorChange(coming=places.free[: vcpus - places.count])
    return ProcessorChange(going=_by_turn(places.plugged, asked)[: places.count - vcpus])


# ---- memory


def has_memory_device(parameters: Mapping[str, Any]) -> bool:
    """Tell whether an instance, whose parameters need not be filled, has a virtio-mem device."""
    default = TABLE["memory_hotplug"].default
    return bool(parameters.get("memory_max_mib")) and parameters.get("memory_hotplug", default) == "virtio-mem"


@attrs.frozen(kw_only=True)
class Dimm:
    """A piece of memory that was, or is to be, plugged in.

    Attributes:
        device: its device id.
        size_mib: its size, in MiB.
        slot: the slot that it is in; None while QEMU has not chosen.
        address: where the guest sees it; None while QEMU has not chosen.
    """

    device: str
    size_mib: int
    slot: int | None = None
    address: int | None = None

    @property
    def backend(self) -> str:
        """The id of what holds the memory."""
        return f"{self.device}-memory"

    def build(self) -> DeviceAdd:
        """Describe the device. One that has no place yet is given one by QEMU."""
        properties: dict[str, Any] = {"memdev": self.backend}
        if self.slot is not None and self.address is not None:
            properties |= {"slot": self.slot, "addr": self.address}
        return DeviceAdd(driver="pc-dimm", id=self.device, properties=properties)


def read_dimms(answer: Iterable[MemoryDeviceInfo]) -> tuple[Dimm, ...]:
    """Take the DIMMs out of QEMU's answer to `query-memory-devices`, those that came first before the others."""
    dimms = [
        Dimm(device=info.data.id, size_mib=info.data.size // _MIB, slot=info.data.slot, address=info.data.addr)
        for info in answer
        if isinstance(info, PCDIMMDeviceInfoWrapper) and info.data.id is not None
    ]
    return tuple(sorted(dimms, key=lambda dimm: dimm.device))


@attrs.frozen
class MemoryChange:
    """What comes and what goes."""

    coming: tuple[Dimm, ...] = ()
    going: tuple[Dimm, ...] = ()


def plan_dimms(dimms: Sequence[Dimm], base_mib: int, memory_mib: int, *, asked: Iterable[str] = ()) -> MemoryChange:
    """Plan how a machine comes to have an amount of memory, by DIMMs that come or go as a whole.

    More memory is one DIMM more. Less is as few DIMMs less as will do, those first that the guest was asked for before.

    Args:
        dimms: those that the machine has.
        base_mib: what it was started with, in MiB.
        memory_mib: what it is to have, in MiB, not less than that.
        asked: device ids of those that the guest was asked to let go of and has not.

    Raises:
        ParameterError: no DIMMs make up that difference, or there is no slot left.
    """
    change_mib = memory_mib - base_mib - sum(dimm.size_mib for dimm in dimms)
    if change_mib % DIMM_STEP_MIB:
        problem = f"DIMMs come in steps of {DIMM_STEP_MIB} MiB, and this is {abs(change_mib)} MiB more or less"
        raise ParameterError("memory_mib", memory_mib, problem)
    if change_mib == 0:
        return MemoryChange()
    if change_mib > 0:
        names = {dimm.device for dimm in dimms}
        free = [name for name in (f"dimm-{number}" for number in range(DIMM_SLOTS)) if name not in names]
        if not free:
            raise ParameterError("memory_mib", memory_mib, f"all {DIMM_SLOTS} slots have a DIMM")
        return MemoryChange(coming=(Dimm(device=free[0], size_mib=change_mib),))
    by_turn = _by_turn(dimms, asked)
    for number in range(1, len(by_turn) + 1):
        for going in combinations(by_turn, number):
            if sum(dimm.size_mib for dimm in going) == -change_mib:
                return MemoryChange(going=going)
    sizes = " + ".join(str(dimm.size_mib) for dimm in dimms)
    problem = f"DIMMs go as a whole: {base_mib} MiB are there for good, {sizes} MiB were plugged in"
    raise ParameterError("memory_mib", memory_mib, problem)
