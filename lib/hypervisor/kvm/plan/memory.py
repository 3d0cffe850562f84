# SPDX-License-Identifier: BSD-2-Clause
"""Memory backends of a machine, their placement on NUMA nodes of the node, and the NUMA nodes of the guest.

Without special parameters QEMU allocates the memory itself. Otherwise it is in memory backends. A migration sends the
ids of the backends, so source and destination need the same ones.
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
#: The block size of a virtio-mem device without huge pages: the size of transparent huge pages on x86.
_BLOCK_MIB: Final = 2
#: The largest number of preallocation threads; QEMU uses no more.
_MAX_THREADS: Final = 16


@attrs.frozen(kw_only=True)
class NumaNode:
    """A NUMA node of the guest.

    Attributes:
        memory: the id of its memory backend.
        first_cpu: the number of its first vCPU.
        last_cpu: the number of its last vCPU.
    """

    memory: str
    first_cpu: int
    last_cpu: int


@attrs.frozen(kw_only=True)
class Memory:
    """The memory backends of a machine.

    Attributes:
        backends: one for each NUMA node of the guest, or one for all memory; none if QEMU allocates the memory itself.
        nodes: the NUMA nodes of the guest; none for a guest without NUMA.
        is_preallocated: whether all memory is allocated before the guest runs.
    """

    backends: tuple[ObjectOptions, ...] = ()
    nodes: tuple[NumaNode, ...] = ()
    is_preallocated: bool = False


def backend_ids(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the ids of the memory backends of an instance; none if QEMU allocates the memory itself.

    Args:
        parameters: of the instance, filled and checked.
    """
    count = parameters["numa_nodes"]
    if count:
        return tuple(f"{_MEMORY_ID}{number}" for number in range(count))
    needing_backend = ("mem_path", "hugepages", "mem_prealloc", "numa_host_nodes")
    return (_MEMORY_ID,) if any(parameters[name] for name in needing_backend) else ()


def plan_memory(memory_mib: int, processors: int, parameters: Mapping[str, Any]) -> Memory:
    """Plan the memory backends and the NUMA nodes of the guest.

    Args:
        memory_mib: the memory at boot, in MiB.
        processors: the largest number of vCPUs.
        parameters: of the instance, filled and checked.

    Raises:
        ParameterError: memory or vCPUs cannot be divided among the NUMA nodes, or not into huge pages.
    """
    ids = backend_ids(parameters)
    if not ids:
        return Memory()
    size_mib = _divide("memory_mib", memory_mib, "MiB", parameters, len(ids))
    page_mib = HUGE_PAGES.get(parameters["hugepages"], 1)
    if size_mib % page_mib:
        problem = f"{size_mib} MiB are not a multiple of the page size, {page_mib} MiB"
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
    share = _divide("vcpus", processors, "vCPUs", parameters, len(ids))
    nodes = tuple(
        NumaNode(memory=backend, first_cpu=number * share, last_cpu=(number + 1) * share - 1)
        for number, backend in enumerate(ids)
    )
    return Memory(backends=backends, nodes=nodes, is_preallocated=is_preallocated(parameters))


def plan_dimm_backend(dimm: Dimm, parameters: Mapping[str, Any]) -> ObjectOptions:
    """Plan the memory backend of a DIMM: of the same kind and on the same host nodes as that of the first NUMA node.

    Args:
        dimm: the DIMM.
        parameters: of the instance, filled and checked.
    """
    members = {"prealloc": True} if is_preallocated(parameters) else {}
    return _backend(parameters, id=dimm.backend, size=dimm.size_mib << 20, **members, **_first_place(parameters))


def plan_virtio_mem_backend(size_mib: int, parameters: Mapping[str, Any]) -> ObjectOptions:
    """Plan the memory backend of a virtio-mem device.

    The backend reserves no memory for blocks that the guest does not have. With preallocation, the device allocates
    each block when the guest gets it.

    Args:
        size_mib: the largest amount of memory that the device provides, in MiB.
        parameters: of the instance, filled and checked.

    Raises:
        ParameterError: the size is not a multiple of the block size.
    """
    block_mib = HUGE_PAGES.get(parameters["hugepages"], _BLOCK_MIB)
    if size_mib % block_mib:
        problem = f"the {size_mib} MiB above the memory at boot are not a multiple of the block size, {block_mib} MiB"
        raise ParameterError("memory_max_mib", parameters["memory_max_mib"], problem)
    members: dict[str, Any] = {"reserve": False}
    if parameters["mem_path"] or parameters["hugepages"]:
        # Shared, so that memory that the guest releases is freed in the file. QEMU 10 warns about a private mapping.
        members["share"] = True
    return _backend(parameters, id=MEMORY_DEVICE_BACKEND, size=size_mib << 20, **members, **_first_place(parameters))


def is_preallocated(parameters: Mapping[str, Any]) -> bool:
    """Return whether the memory of an instance is preallocated.

    Files and huge pages always are: a page that cannot be allocated later would kill QEMU.
    """
    return bool(parameters["mem_prealloc"] or parameters["mem_path"] or parameters["hugepages"])


def _divide(name: str, amount: int, unit: str, parameters: Mapping[str, Any], nodes: int) -> int:
    if amount % nodes:
        problem = f"{amount} {unit} ({name}) cannot be divided equally among {nodes} NUMA nodes"
        raise ParameterError("numa_nodes", parameters["numa_nodes"], problem)
    return amount // nodes


def _places(parameters: Mapping[str, Any], count: int) -> Iterator[dict[str, Any]]:
    """Yield the members that select the host nodes of each backend; none if the kernel selects them."""
    if not parameters["numa_host_nodes"]:
        yield from ({} for _ in range(count))
        return
    lists = parse_host_nodes(parameters["numa_host_nodes"])
    if len(lists) not in (1, count):
        problem = f"names {len(lists)} NUMA nodes and the guest has {parameters['numa_nodes']}"
        raise ParameterError("numa_host_nodes", parameters["numa_host_nodes"], problem)
    for number in range(count):
        nodes = lists[number if len(lists) > 1 else 0]
        yield {"host_nodes": sorted(nodes), "policy": parameters["numa_policy"]}


def _first_place(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members for the host nodes of the first NUMA node of the guest, or of all memory."""
    return next(_places(parameters, max(parameters["numa_nodes"], 1)))


def _backend(parameters: Mapping[str, Any], **members: Any) -> ObjectOptions:
    if parameters["mem_path"]:
        return MemoryBackendFileProperties(mem_path=parameters["mem_path"], **members)
    if parameters["hugepages"]:
        # memfd needs no mount of hugetlbfs and no permission for one, and so works for a confined QEMU too.
        size = HUGE_PAGES[parameters["hugepages"]] << 20
        return MemoryBackendMemfdProperties(hugetlb=True, hugetlbsize=size, **members)
    return MemoryBackendProperties(qom_type="memory-backend-ram", **members)
