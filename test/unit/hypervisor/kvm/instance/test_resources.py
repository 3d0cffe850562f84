# SPDX-License-Identifier: BSD-2-Clause
"""Tests of the queries for the resources of an instance, and of the interpretation of their replies."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hvkit.hypervisor.kvm.host.paths import InstancePaths, RunDirectory
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.instance.resources import Resources, parse_resources, resource_queries
from hvkit.qmp.schema import BalloonInfo, MemoryInfo

MIB = 1 << 20
BALLOON = BalloonInfo(actual=512 * MIB)
MEMORY = MemoryInfo(base_memory=512 * MIB, plugged_memory=128 * MIB)


def runtime_of(**parameters: object) -> Any:
    return SimpleNamespace(instance=SimpleNamespace(parameters=parameters))


@pytest.fixture
def paths(tmp_path: Path) -> InstancePaths:
    directory = RunDirectory(tmp_path / "run")
    directory.make()
    paths = directory.instance("web1")
    paths.make()
    return paths


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({}, ["query-balloon"]),
        ({"memory_max_mib": 1024}, ["query-balloon", "query-memory-size-summary"]),
        ({"vcpus_max": 4}, ["query-balloon", "query-cpus-fast"]),
        ({"memory_max_mib": 1024, "vcpus_max": 4}, ["query-balloon", "query-memory-size-summary", "query-cpus-fast"]),
        ({"memory_max_mib": 0, "vcpus_max": 0}, ["query-balloon"]),
    ],
)
def test_resource_queries_cover_only_resources_that_can_change(
    paths: InstancePaths, parameters: dict[str, object], names: list[str]
) -> None:
    assert [query.wire_name for query in resource_queries(runtime_of(**parameters), paths)] == names


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({}, []),
        ({"vcpus_max": 4}, ["query-cpus-fast"]),
        ({"memory_max_mib": 1024}, ["query-balloon", "query-memory-size-summary"]),
    ],
)
def test_resource_queries_leave_unused_balloon_out(
    paths: InstancePaths, parameters: dict[str, object], names: list[str]
) -> None:
    handle = InstanceHandle(paths, 0.0)
    handle.mark_balloon_unused()
    assert [query.wire_name for query in resource_queries(runtime_of(**parameters), paths)] == names
    handle.mark_balloon_used()
    assert "query-balloon" in [query.wire_name for query in resource_queries(runtime_of(**parameters), paths)]


@pytest.mark.parametrize(
    ("parameters", "replies", "resources"),
    [
        ({}, [BALLOON], Resources(memory_mib=512)),
        ({}, [None], Resources()),
        ({"vcpus_max": 4}, [BALLOON, ["cpu0", "cpu1"]], Resources(memory_mib=512, vcpus=2)),
        ({"vcpus_max": 4}, [None, None], Resources()),
        ({"memory_max_mib": 1024, "memory_hotplug": "dimm"}, [BALLOON, MEMORY], Resources(memory_mib=512)),
        ({"memory_max_mib": 1024, "memory_hotplug": "virtio-mem"}, [BALLOON, MEMORY], Resources(memory_mib=640)),
        ({"memory_max_mib": 1024, "memory_hotplug": "virtio-mem"}, [None, MEMORY], Resources()),
    ],
)
def test_parse_resources_combines_replies(
    paths: InstancePaths, parameters: dict[str, object], replies: list[Any], resources: Resources
) -> None:
    runtime = runtime_of(**parameters)
    assert parse_resources(runtime, resource_queries(runtime, paths), replies) == resources
