# SPDX-License-Identifier: BSD-2-Clause
"""The memory of a machine: what holds it, where on the node it is, and the NUMA nodes that its guest sees.

Memory that nothing is asked of is QEMU's own. Other memory is held by objects, and what they are called is part of
what a migration sends: both ends have to have the same ones.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.parameters import HUGE_PAGES, parse_host_nodes
from hvkit.qmp.schema import (
    MemoryBackendFileProperties,
    MemoryBackendMemfdProperties,
    MemoryBackendProperties,
    ObjectOptions,
)

_MEMORY_ID: Final = "memory"
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
        is_taken: whether all of it is taken from the node before the guest runs.
    """

    backends: tuple[ObjectOptions, ...] = ()
    nodes: tuple[NumaNode, ...] = ()
    is_taken: bool = False


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
    # A page that is missing later kills the guest.
    is_taken = bool(parameters["mem_prealloc"] or parameters["mem_path"] or parameters["hugepages"])
    common: dict[str, Any] = {"size": size_mib << 20}
    if is_taken:
        common |= {"prealloc": True, "prealloc_threads": min(processors, _MAX_THREADS)}
    backends = tuple(
        _backend(parameters, id=backend, **common, **place)
        for backend, place in zip(ids, _places(parameters, len(ids)), strict=True)
    )
    if not parameters["numa_nodes"]:
        return Memory(backends=backends, is_taken=is_taken)
    share = _divide("vcpus", processors, "processors", parameters, len(ids))
    nodes = tuple(
        NumaNode(memory=backend, first_cpu=number * share, last_cpu=(number + 1) * share - 1)
        for number, backend in enumerate(ids)
    )
    return Memory(backends=backends, nodes=nodes, is_taken=is_taken)


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


def _backend(parameters: Mapping[str, Any], **members: Any) -> ObjectOptions:
    if parameters["mem_path"]:
        return MemoryBackendFileProperties(mem_path=parameters["mem_path"], **members)
    if parameters["hugepages"]:
        # Without a name, so that it needs no mount, and no right to one: it is there for confined QEMUs too.
        size = HUGE_PAGES[parameters["hugepages"]] << 20
        return MemoryBackendMemfdProperties(hugetlb=True, hugetlbsize=size, **members)
    return MemoryBackendProperties(qom_type="memory-backend-ram", **members)
