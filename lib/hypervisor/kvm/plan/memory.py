# SPDX-License-Identifier: BSD-2-Clause
"""The memory of a machine: what holds it, where on the node it is, and the NUMA nodes that its guest sees.

Memory that nothing is asked of is QEMU's own. Other memory is held by objects, and what they are called is part of
what a migration sends: both ends have to have the same ones.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters import HUGE_PAGES, parse_host_nodes
from hvkit.hypervisor.kvm.plan.plugged import MEMORY_DEVICE_BACKEND, Dimm
from hvkit.qmp.schema import (
    MemoryBackendFileProperties,
    MemoryBackendMemfdProperties,
    MemoryBackendProperties,
    ObjectOptions,
)

_MEMORY_ID: Final = "memory"
#: What a virtio-mem device gives is a multiple of this, or of the pages that hold it: x86's transparent huge pages.
_PIECE_MIB: Final = 2
#: The most threads that take memory at the start; QEMU itself goes no further.
_MAX_THREADS: Final = 16


@attrs.frozen(kw_only=True)
class NumaNode:
    """A NUMA node as the guest sees it.

    Attributes:
        memory: id of what holds its memory.
        first_cpu: the first of its virtual processors.
        last_cpu: the last of them.
    """

    memory: str
    first_cpu: int
    last_cpu: int


@attrs.frozen(kw_only=True)
class Memory:
    """What holds a machine's memory.

    Attributes:
        backends: objects, one for each NUMA node or one for all of it; none where QEMU has its own.
        nodes: the NUMA nodes; none where the guest sees no such thing.
        is_preallocated: whether all of it is taken from the node before the guest runs.
    """

    backends: tuple[ObjectOptions, ...] = ()
    nodes: tuple[NumaNode, ...] = ()
    is_preallocated: bool = False


def backend_ids(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the ids of the objects that hold an instance's memory; none where QEMU has its own.

    Args:
        parameters: of the instance, filled and checked.
    """
    count = parameters["numa_nodes"]
    if count:
        return tuple(f"{_MEMORY_ID}{number}" for number in range(count))
    asks = ("mem_path", "hugepages", "mem_prealloc", "numa_host_nodes")
    return (_MEMORY_ID,) if any(parameters[name] for name in asks) else ()


def plan_memory(memory_mib: int, processors: int, parameters: Mapping[str, Any]) -> Memory:
    """Plan a machine's memory.

    Args:
        memory_mib: how much there is at the start, in MiB.
        processors: how many virtual processors there can be.
        parameters: of the instance, filled and checked.

    Raises:
        ParameterError: memory or processors cannot be divided as they ask.
    """
    ids = backend_ids(parameters)
    if not ids:
        return Memory()
    size_mib = _divide("memory_mib", memory_mib, "MiB", parameters, len(ids))
    page_mib = HUGE_PAGES.get(parameters["hugepages"], 1)
    if size_mib % page_mib:
        problem = f"{size_mib} MiB are no whole number of pages of {page_mib} MiB"
        raise ParameterError("hugepages", parameters["hugepages"], problem)
    common: dict[str, Any] = {"size": size_mib << 20}
    if is_preallocated(parameters):
        common |= {"prealloc": True, "prealloc_threads": min(processors, _MAX_THREADS)}
    backends = tuple(
        _backend(parameters, id=backend, **common, **place)
        for backend, place in zip(ids, _places(parameters, len(ids)), strict=True)
    )
    if not parameters["numa_nodes"]:
        return Memory(backends=backends, is_preallocated=is_preallocated(parameters))
    share = _divide("vcpus", processors, "processors", parameters, len(ids))
    nodes = tuple(
        NumaNode(memory=backend, first_cpu=number * share, last_cpu=(number + 1) * share - 1)
        for number, backend in enumerate(ids)
    )
    return Memory(backends=backends, nodes=nodes, is_preallocated=is_preallocated(parameters))


def plan_dimm_backend(dimm: Dimm, parameters: Mapping[str, Any]) -> ObjectOptions:
    """Plan what holds the memory of a DIMM: the same kind as the rest, where the first NUMA node has its memory.

    Args:
        dimm: the DIMM.
        parameters: of the instance, filled and checked.
    """
    taken = {"prealloc": True} if is_preallocated(parameters) else {}
    return _backend(parameters, id=dimm.backend, size=dimm.size_mib << 20, **taken, **_first_place(parameters))


def plan_reserve(size_mib: int, parameters: Mapping[str, Any]) -> ObjectOptions:
    """Plan what holds the memory that a virtio-mem device gives to its guest piece by piece.

    Nothing is set aside for what the guest does not have; where memory is to be taken beforehand, the device does that
    when it gives a piece.

    Args:
        size_mib: the most that it can give, in MiB.
        parameters: of the instance, filled and checked.

    Raises:
        ParameterError: that is no whole number of pieces.
    """
    piece_mib = HUGE_PAGES.get(parameters["hugepages"], _PIECE_MIB)
    if size_mib % piece_mib:
        problem = f"{size_mib} MiB more than at the start are no whole number of pieces of {piece_mib} MiB"
        raise ParameterError("memory_max_mib", parameters["memory_max_mib"], problem)
    members: dict[str, Any] = {"reserve": False}
    if parameters["mem_path"] or parameters["hugepages"]:
        # What the guest gives back goes back to the file. Of a private mapping QEMU 10 warns that others may use it.
        members["share"] = True
    return _backend(parameters, id=MEMORY_DEVICE_BACKEND, size=size_mib << 20, **members, **_first_place(parameters))


def is_preallocated(parameters: Mapping[str, Any]) -> bool:
    """Tell whether an instance's memory is taken before the guest uses it: a page that is missing later kills it."""
    return bool(parameters["mem_prealloc"] or parameters["mem_path"] or parameters["hugepages"])


def _divide(name: str, amount: int, unit: str, parameters: Mapping[str, Any], nodes: int) -> int:
    if amount % nodes:
        problem = f"{amount} {unit} ({name}) cannot be divided equally among {nodes} NUMA nodes"
        raise ParameterError("numa_nodes", parameters["numa_nodes"], problem)
    return amount // nodes


def _places(parameters: Mapping[str, Any], count: int) -> Iterator[dict[str, Any]]:
    """Say for each object where on the node its memory is; nothing for anywhere."""
    if not parameters["numa_host_nodes"]:
        yield from ({} for _ in range(count))
        return
    lists = parse_host_nodes(parameters["numa_host_nodes"])
    if len(lists) not in (1, count):
        problem = f"it is for {len(lists)} NUMA nodes and the guest has {parameters['numa_nodes']}"
        raise ParameterError("numa_host_nodes", parameters["numa_host_nodes"], problem)
    for number in range(count):
        nodes = lists[number if len(lists) > 1 else 0]
        yield {"host_nodes": sorted(nodes), "policy": parameters["numa_policy"]}


def _first_place(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Say where on the node the memory of the guest's first NUMA node is, or all of it."""
    return next(_places(parameters, max(parameters["numa_nodes"], 1)))


def _backend(parameters: Mapping[str, Any], **members: Any) -> ObjectOptions:
    if parameters["mem_path"]:
        return MemoryBackendFileProperties(mem_path=parameters["mem_path"], **members)
    if parameters["hugepages"]:
        # Without a name, so that it needs no mount, and no right to one: it is there for confined QEMUs too.
        size = HUGE_PAGES[parameters["hugepages"]] << 20
        return MemoryBackendMemfdProperties(hugetlb=True, hugetlbsize=size, **members)
    return MemoryBackendProperties(qom_type="memory-backend-ram", **members)
