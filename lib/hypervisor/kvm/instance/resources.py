# SPDX-License-Identifier: BSD-2-Clause
"""The memory and the vCPUs that an instance has at present, as QEMU reports them."""

from collections.abc import Sequence
from typing import Any, Final

import attrs

from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.plan.plugged import has_memory_device
from hvkit.qmp import Command
from hvkit.qmp.schema import QueryBalloon, QueryCpusFast, QueryMemorySizeSummary

_MIB: Final = 1 << 20

_BALLOON: Final = QueryBalloon()
_MEMORY: Final = QueryMemorySizeSummary()
_VCPUS: Final = QueryCpusFast()

#: The queries, by whether the memory and the vCPUs can change. Made once: a listing needs them for every instance.
_QUERIES: Final = {
    (False, False): (_BALLOON,),
    (False, True): (_BALLOON, _VCPUS),
    (True, False): (_BALLOON, _MEMORY),
    (True, True): (_BALLOON, _MEMORY, _VCPUS),
}


@attrs.frozen
class Resources:
    """The resources that QEMU reports. They override the persisted state.

    Attributes:
        memory_mib: the memory that the balloon leaves to the guest, in MiB; None if unknown.
        vcpus: the number of vCPUs; None if it cannot differ from the persisted state.
    """

    memory_mib: int | None = None
    vcpus: int | None = None


UNKNOWN_RESOURCES: Final = Resources()


def resource_queries(runtime: Runtime) -> tuple[Command[Any], ...]:
    """Return the queries for the resources of an instance that can change while it runs."""
    parameters = runtime.instance.parameters
    return _QUERIES[bool(parameters.get("memory_max_mib")), bool(parameters.get("vcpus_max"))]


def parse_resources(runtime: Runtime, replies: Sequence[Any]) -> Resources:
    """Combine the replies to `resource_queries`. None stands for a missing reply, or for an inactive balloon."""
    if len(replies) == 1:
        (balloon,) = replies
        return UNKNOWN_RESOURCES if balloon is None else Resources(memory_mib=balloon.actual // _MIB)
    by_query = dict(zip(resource_queries(runtime), replies, strict=True))
    balloon, memory, vcpus = (by_query.get(query) for query in (_BALLOON, _MEMORY, _VCPUS))
    memory_bytes = None if balloon is None else balloon.actual
    # The balloon size includes DIMMs, but not the memory of a virtio-mem device.
    if memory is not None and memory_bytes is not None and has_memory_device(runtime.instance.parameters):
        memory_bytes += memory.plugged_memory or 0
    return Resources(
        memory_mib=None if memory_bytes is None else memory_bytes // _MIB,
        vcpus=None if vcpus is None else len(vcpus),
    )
