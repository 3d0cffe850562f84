# SPDX-License-Identifier: BSD-2-Clause
"""Memory backends, their placement, and the NUMA nodes of the guest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hvkit.hypervisor import Instance
from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.plan.memory import Memory, backend_ids, plan_memory, plan_virtio_mem_backend
from hvkit.hypervisor.kvm.plan.parameters import TABLE, parse_host_nodes
from hvkit.qmp.schema import QueryHotpluggableCpus, QueryMemdev

MakeInstance = Callable[..., Instance]


def plan(memory_mib: int = 1024, processors: int = 4, **parameters: Any) -> Memory:
    filled = TABLE.check_syntax(parameters)
    memory = plan_memory(memory_mib, processors, filled)
    assert tuple(backend.id for backend in memory.backends) == backend_ids(filled)
    return memory


def test_memory_without_parameters_has_no_backends() -> None:
    assert plan() == Memory()


@pytest.mark.parametrize(
    ("parameters", "kind", "prealloc"),
    [
        ({"mem_path": "/mnt/huge"}, "memory-backend-file", True),
        ({"hugepages": "2M"}, "memory-backend-memfd", True),
        ({"mem_prealloc": True}, "memory-backend-ram", True),
        ({"numa_host_nodes": "0"}, "memory-backend-ram", False),
        ({"numa_nodes": 1}, "memory-backend-ram", False),
    ],
)
def test_parameters_select_the_memory_backend(parameters: dict[str, Any], kind: str, prealloc: bool) -> None:
    memory = plan(**parameters)
    (backend,) = memory.backends
    found = (backend.qom_type, backend.prealloc or False)  # type: ignore[attr-defined]
    assert (*found, memory.is_preallocated) == (kind, prealloc, prealloc)


@pytest.mark.parametrize(
    ("obstacle", "problem", "without"),
    [
        ({"mem_path": "/mnt/huge", "use_chroot": True}, "cannot access with use_chroot", {"mem_path": ""}),
        ({"mem_path": "/mnt/huge", "use_chroot": True}, "cannot access with use_chroot", {"use_chroot": False}),
        ({"acpi": False}, "requires acpi", {"acpi": True}),
    ],
)
def test_dimms_that_can_never_be_added_are_refused(
    obstacle: dict[str, Any], problem: str, without: dict[str, Any]
) -> None:
    dimms = {"memory_max_mib": 2048, "memory_hotplug": "dimm", **obstacle}
    with pytest.raises(ParameterError, match=problem):
        TABLE.check_syntax(dimms)
    for other in ({"memory_hotplug": "virtio-mem"}, {"memory_max_mib": 0}, without):
        TABLE.check_syntax({**dimms, **other})


@pytest.mark.parametrize(("size_mib", "hugepages", "block"), [(991, "", 2), (991, "2M", 2), (1536, "1G", 1024)])
def test_size_of_virtio_mem_is_a_multiple_of_its_block_size(size_mib: int, hugepages: str, block: int) -> None:
    filled = TABLE.check_syntax({"memory_max_mib": 4096, "hugepages": hugepages})
    with pytest.raises(ParameterError, match=f"{size_mib} MiB above .* not a multiple of the block size, {block} MiB"):
        plan_virtio_mem_backend(size_mib, filled)
    plan_virtio_mem_backend(size_mib // block * block, filled)


def test_numa_nodes_have_equal_shares() -> None:
    memory = plan(1024, 4, numa_nodes=2)
    assert [(node.memory, node.first_cpu, node.last_cpu) for node in memory.nodes] == [
        ("memory0", 0, 1),
        ("memory1", 2, 3),
    ]
    assert [backend.size >> 20 for backend in memory.backends] == [512, 512]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "about", "problem"),
    [
        ({"processors": 3, "numa_nodes": 2}, "numa_nodes", "3 vCPUs .* cannot be divided equally among 2"),
        ({"memory_mib": 1023, "numa_nodes": 2}, "numa_nodes", "1023 MiB .* cannot be divided equally"),
        ({"memory_mib": 1026, "hugepages": "2M", "numa_nodes": 2}, "hugepages", "513 MiB are not a multiple"),
        ({"memory_mib": 512, "hugepages": "1G"}, "hugepages", "512 MiB are not a multiple of the page size, 1024 MiB"),
        ({"hugepages": "2M", "mem_path": "/mnt"}, "hugepages", "cannot be combined with mem_path"),
        ({"numa_nodes": 4, "numa_host_nodes": "0:1"}, "numa_host_nodes", "names 2 NUMA nodes, and numa_nodes is 4"),
        ({"numa_host_nodes": "0-1", "numa_policy": "preferred"}, "numa_policy", "supports one NUMA node, not a list"),
    ],
)
def test_invalid_memory_configuration_is_refused(arguments: dict[str, Any], about: str, problem: str) -> None:
    with pytest.raises(ParameterError, match=problem) as caught:
        plan(**arguments)
    assert caught.value.name == about


def test_host_nodes_apply_to_numa_nodes_of_the_guest() -> None:
    assert parse_host_nodes("0") == (frozenset({0}),)
    assert parse_host_nodes("0-1,3:2") == (frozenset({0, 1, 3}), frozenset({2}))
    memory = plan(numa_nodes=2, numa_host_nodes="0-1:2", numa_policy="interleave")
    assert [(backend.host_nodes, backend.policy) for backend in memory.backends] == [  # type: ignore[attr-defined]
        ([0, 1], "interleave"),
        ([2], "interleave"),
    ]
    everywhere = plan(numa_nodes=2, numa_host_nodes="1")
    assert [backend.host_nodes for backend in everywhere.backends] == [[1], [1]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["0:", "0-", "2-1", "a", "0,,1", "-1", "1000", "٣"])
def test_invalid_host_nodes_are_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="numa_host_nodes"):
        TABLE.check_syntax({"numa_host_nodes": text})


@pytest.mark.qemu
def test_memory_of_a_running_instance_matches_its_plan(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    parameters = {"numa_nodes": 2, "numa_host_nodes": "0", "mem_prealloc": True, "sandbox": "enabled"}
    kvm.start_instance(make_toy(memory_mib=64, vcpus=2, parameters=parameters))
    with kvm.monitor("web1") as monitor:
        memory = monitor.execute(QueryMemdev())
        processors = monitor.execute(QueryHotpluggableCpus())
    assert {(each.id, each.size >> 20, each.policy, each.prealloc) for each in memory} == {
        ("memory0", 32, "bind", True),
        ("memory1", 32, "bind", True),
    }
    assert {each.props.node_id for each in processors} == {0, 1}
