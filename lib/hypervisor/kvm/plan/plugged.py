# SPDX-License-Identifier: BSD-2-Clause
"""Hot-added vCPUs and DIMMs, and the changes that reach a number of vCPUs or an amount of memory.

The same description of a vCPU or DIMM is used for hot-add, for the boot of a migration's destination, and in the state
file.
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

#: The QOM path of devices with an id.
DEVICES_PATH: Final = "/machine/peripheral"
#: The ids of the virtio-mem device and of its memory backend.
MEMORY_DEVICE_ID: Final = "memory-more"
MEMORY_DEVICE_BACKEND: Final = "memory-more-backend"
#: The number of DIMM slots. Each takes up to 1 GiB of guest address space, and no memory.
DIMM_SLOTS: Final = 16
#: DIMM sizes are multiples of this: the smallest block of memory that a Linux guest brings online.
DIMM_STEP_MIB: Final = 128

_MIB: Final = 1 << 20
#: The members of the topology address of a vCPU, from the outermost level to the innermost.
_LEVELS: Final = (
    *("node_id", "drawer_id", "book_id", "socket_id", "die_id", "cluster_id", "module_id", "core_id", "thread_id"),
)


P = TypeVar("P", bound="Processor | Dimm")


def _removal_order(devices: Sequence[P], requested: Iterable[str]) -> tuple[P, ...]:
    """Return the devices in the order of their removal, last device first; those already requested precede the rest."""
    names = set(requested)
    first = [each for each in reversed(devices) if each.device in names]
    return (*first, *(each for each in reversed(devices) if each.device not in names))


@attrs.frozen(kw_only=True)
class Processor:
    """A hot-added vCPU, or a free place for one.

    Attributes:
        device: its device id, with the number of its place.
        driver: its device model, which belongs to the CPU model of the machine.
        place: its topology address, as properties of the device.
    """

    device: str
    driver: str
    place: dict[str, int]

    def build(self) -> DeviceAdd:
        """Describe the device."""
        return DeviceAdd(driver=self.driver, id=self.device, properties=dict(self.place))


@attrs.frozen
class ProcessorPlaces:
    """The places for vCPUs of a machine.

    Attributes:
        fixed: the number of vCPUs that the machine booted with, which cannot be removed.
        plugged: the hot-added vCPUs, in the order of their places.
        free: the vCPUs that can be added, in the order of their places.
    """

    fixed: int
    plugged: tuple[Processor, ...]
    free: tuple[Processor, ...]

    @property
    def count(self) -> int:
        """The number of vCPUs."""
        return self.fixed + len(self.plugged)

    @classmethod
    def from_reply(cls, places: Iterable[HotpluggableCPU]) -> Self:
        """Read the places from the reply to `query-hotpluggable-cpus`."""
        fixed = 0
        plugged: list[Processor] = []
        free: list[Processor] = []
        for number, place in enumerate(sorted(places, key=lambda place: _position(place.props))):
            path = place.qom_path
            name = "" if path is None else path.removeprefix(f"{DEVICES_PATH}/")
            if path is not None and name == path:
                fixed += 1
                continue
            processor = Processor(device=name or f"cpu-{number}", driver=place.type, place=_properties(place.props))
            (plugged if name else free).append(processor)
        return cls(fixed, tuple(plugged), tuple(free))


def _position(place: CpuInstanceProperties) -> tuple[int, ...]:
    return tuple(getattr(place, level) or 0 for level in _LEVELS)


def _properties(place: CpuInstanceProperties) -> dict[str, int]:
    levels = {level.replace("_", "-"): getattr(place, level) for level in _LEVELS}
    return {level: number for level, number in levels.items() if number is not None}


@attrs.frozen
class ProcessorChange:
    """The vCPUs to add and to remove, each in the order of the operations."""

    added: tuple[Processor, ...] = ()
    removed: tuple[Processor, ...] = ()


def plan_processors(places: ProcessorPlaces, vcpus: int, *, requested: Iterable[str] = ()) -> ProcessorChange:
    """Plan which vCPUs to add or remove to reach a number of vCPUs.

    The first free places are filled. Removal starts with the vCPUs that the guest was already asked to release, because
    it may release them at any time, and continues from the last place.

    Args:
        places: of the machine.
        vcpus: the target: at least the number at boot, at most the number of places.
        requested: the device ids of vCPUs that the guest was asked to release and has not released.
    """
    if vcpus >= places.count:
        return ProcessorChange(added=places.free[: vcpus - places.count])
    return ProcessorChange(removed=_removal_order(places.plugged, requested)[: places.count - vcpus])


def has_memory_device(parameters: Mapping[str, Any]) -> bool:
    """Return whether an instance has a virtio-mem device.

    Args:
        parameters: of the instance; defaults may be missing.
    """
    default = TABLE["memory_hotplug"].default
    return bool(parameters.get("memory_max_mib")) and parameters.get("memory_hotplug", default) == "virtio-mem"


@attrs.frozen(kw_only=True)
class Dimm:
    """A DIMM.

    Attributes:
        device: its device id.
        size_mib: its size, in MiB.
        slot: its slot; None before QEMU has chosen one.
        address: its guest-physical address; None before QEMU has chosen one.
    """

    device: str
    size_mib: int
    slot: int | None = None
    address: int | None = None

    @property
    def backend(self) -> str:
        """The id of its memory backend."""
        return f"{self.device}-memory"

    def build(self) -> DeviceAdd:
        """Describe the device. QEMU chooses slot and address if they are None."""
        properties: dict[str, Any] = {"memdev": self.backend}
        if self.slot is not None and self.address is not None:
            properties |= {"slot": self.slot, "addr": self.address}
        return DeviceAdd(driver="pc-dimm", id=self.device, properties=properties)


def read_dimms(reply: Iterable[MemoryDeviceInfo]) -> tuple[Dimm, ...]:
    """Read the DIMMs from the reply to `query-memory-devices`, sorted by device id."""
    dimms = [
        Dimm(device=info.data.id, size_mib=info.data.size // _MIB, slot=info.data.slot, address=info.data.addr)
        for info in reply
        if isinstance(info, PCDIMMDeviceInfoWrapper) and info.data.id is not None
    ]
    return tuple(sorted(dimms, key=lambda dimm: dimm.device))


@attrs.frozen
class MemoryChange:
    """The DIMMs to add and to remove."""

    added: tuple[Dimm, ...] = ()
    removed: tuple[Dimm, ...] = ()


def plan_dimms(dimms: Sequence[Dimm], base_mib: int, memory_mib: int, *, requested: Iterable[str] = ()) -> MemoryChange:
    """Plan which DIMMs to add or remove to reach an amount of memory.

    Memory grows by one DIMM. It shrinks by as few DIMMs as possible, preferably those that the guest was already asked
    to release.

    Args:
        dimms: the DIMMs of the machine.
        base_mib: the memory at boot, in MiB.
        memory_mib: the target, in MiB, not less than the memory at boot.
        requested: the device ids of DIMMs that the guest was asked to release and has not released.

    Raises:
        ParameterError: no set of DIMMs has the size of the difference, or all slots are in use.
    """
    change_mib = memory_mib - base_mib - sum(dimm.size_mib for dimm in dimms)
    if change_mib % DIMM_STEP_MIB:
        problem = (
            f"the difference of {abs(change_mib)} MiB is not a multiple of {DIMM_STEP_MIB} MiB, the step of DIMM sizes"
        )
        raise ParameterError("memory_mib", memory_mib, problem)
    if change_mib == 0:
        return MemoryChange()
    if change_mib > 0:
        names = {dimm.device for dimm in dimms}
        free = [name for name in (f"dimm-{number}" for number in range(DIMM_SLOTS)) if name not in names]
        if not free:
            raise ParameterError("memory_mib", memory_mib, f"all {DIMM_SLOTS} DIMM slots are in use")
        return MemoryChange(added=(Dimm(device=free[0], size_mib=change_mib),))
    candidates = _removal_order(dimms, requested)
    for number in range(1, len(candidates) + 1):
        for removed in combinations(candidates, number):
            if sum(dimm.size_mib for dimm in removed) == -change_mib:
                return MemoryChange(removed=removed)
    sizes = " + ".join(str(dimm.size_mib) for dimm in dimms)
    problem = f"no hot-added DIMMs have this difference in size: {base_mib} MiB at boot, {sizes} MiB hot-added"
    raise ParameterError("memory_mib", memory_mib, problem)
