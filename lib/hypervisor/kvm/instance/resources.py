# SPDX-License-Identifier: BSD-2-Clause
"""The memory and the vCPUs that an instance has at present, as QEMU reports them."""

import itertools
import os
from collections.abc import Sequence
from typing import Any, Final

import attrs

from hvkit.hypervisor.kvm.host.paths import InstancePaths
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.plan.plugged import has_memory_device
from hvkit.qmp import Command
from hvkit.qmp.schema import QueryBalloon, QueryCpusFast, QueryMemorySizeSummary

_MIB: Final = 1 << 20

_BALLOON: Final = QueryBalloon()
_MEMORY: Final = QueryMemorySizeSummary()
_VCPUS: Final = QueryCpusFast()

#: The queries, by whether the balloon, the memory and the vCPUs can change.
_QUERIES: Final = {
    (balloon, memory, vcpus): (*(_BALLOON,) * balloon, *(_MEMORY,) * memory, *(_VCPUS,) * vcpus)
    for balloon, memory, vcpus in itertools.product((False, True), repeat=3)
}


@attrs.frozen
class Resources:
    """The resources that QEMU reports. They override the persisted state.

    Attributes:
        memory_mib: the memory that the balloon leaves to the guest, in MiB; None if it was not queried.
        vcpus: the number of vCPUs; None if it cannot differ from the persisted state.
    """

    memory_mib: int | None = None
    vcpus: int | None = None


UNKNOWN_RESOURCES: Final = Resources()


def resource_queries(runtime: Runtime, paths: InstancePaths) -> tuple[Command[Any], ...]:
    """Return the queries for the resources of an instance that may differ from its persisted state.

    `query-balloon` is the slowest query of a listing: QEMU 7.2 searches its QOM tree for memory devices. It is left out
    while the balloon cannot have been used; see `InstanceHandle.mark_balloon_used`. A change by a client that connects
    to the socket of a monitor without hvkit is not detected.
    """
    parameters = runtime.instance.parameters
    can_grow = bool(parameters.get("memory_max_mib"))
    has_balloon_size = can_grow or not os.path.exists(paths.balloon_unused_file)
    return _QUERIES[has_balloon_size, can_grow, bool(parameters.get("vcpus_max"))]


def parse_resources(runtime: Runtime, queries: Sequence[Command[Any]], replies: Sequence[Any]) -> Resources:
    """Combine the replies to `resource_queries`. None stands for a missing reply, or for an inactive balloon."""
    if not queries:
        return UNKNOWN_RESOURCES
    by_name = {query.wire_name: reply for query, reply in zip(queries, replies, strict=True)}
    balloon, memory, vcpus = (by_name.get(query.wire_name) for query in (_BALLOON, _MEMORY, _VCPUS))
    memory_bytes = None if balloon is None else balloon.actual
    # The balloon size includes DIMMs, but not the memory of a virtio-mem device.
    if memory is not None and memory_bytes is not None and has_memory_device(runtime.instance.parameters):
        memory_bytes += memory.plugged_memory or 0
    return Resources(
        memory_mib=None if memory_bytes is None else memory_bytes // _MIB,
        vcpus=None if vcpus is None else len(vcpus),
    )
