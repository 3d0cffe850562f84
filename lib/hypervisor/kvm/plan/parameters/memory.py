# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: memory and NUMA."""

from collections.abc import Mapping
from typing import Any, Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters.checks import passes
from hvkit.hypervisor.parameters import ABSOLUTE_PATH, Check, Parameter, Rule, at_least, between, one_of

#: Sizes of huge pages in MiB, by the value of the parameter.
HUGE_PAGES: Final[dict[str, int]] = {"2M": 2, "1G": 1024}
#: The largest number of NUMA nodes of a guest. Source: QEMU, MAX_NODES.
_MAX_NODES: Final = 128


def parse_host_nodes(text: str) -> tuple[frozenset[int], ...]:
    """Parse a value of `numa_host_nodes` such as ``0:1`` or ``0-1``.

    Returns:
        One set for each NUMA node of the guest, or a single one for all memory.

    Raises:
        ParameterError: the text has another form.
    """
    return tuple(_parse_nodes(part, text) for part in text.split(":"))


def _parse_nodes(part: str, text: str) -> frozenset[int]:
    nodes: set[int] = set()
    for item in part.split(","):
        first, dash, last = item.partition("-")
        ends = [first, last if dash else first]
        if not all(end.isascii() and end.isdigit() and len(end) <= 3 for end in ends) or int(ends[0]) > int(ends[1]):
            raise ParameterError("numa_host_nodes", text, f"expected NUMA nodes such as 0:1 or 0-1, got {text!r}")
        nodes.update(range(int(ends[0]), int(ends[1]) + 1))
    return frozenset(nodes)


def _check_backend(parameters: Mapping[str, Any]) -> None:
    if parameters["hugepages"] and parameters["mem_path"]:
        raise ParameterError("hugepages", parameters["hugepages"], "cannot be combined with mem_path")


def _check_numa(parameters: Mapping[str, Any]) -> None:
    text = parameters["numa_host_nodes"]
    if not text:
        return
    lists = parse_host_nodes(text)
    if len(lists) not in (1, parameters["numa_nodes"]):
        problem = f"names {len(lists)} NUMA nodes, and numa_nodes is {parameters['numa_nodes']}"
        raise ParameterError("numa_host_nodes", text, problem)
    if parameters["numa_policy"] == "preferred" and any(len(nodes) > 1 for nodes in lists):
        raise ParameterError("numa_policy", "preferred", "supports one NUMA node, not a list")


def _check_dimms(parameters: Mapping[str, Any]) -> None:
    if not parameters["memory_max_mib"] or parameters["memory_hotplug"] != "dimm":
        return
    if parameters["mem_path"] and parameters["use_chroot"]:
        problem = "hot-added DIMMs need files in mem_path, which QEMU cannot access with use_chroot; use virtio-mem"
        raise ParameterError("memory_hotplug", "dimm", problem)
    if not parameters["acpi"]:
        raise ParameterError("memory_hotplug", "dimm", "requires acpi; use virtio-mem")


PARAMETERS: Final = (
    Parameter(
        name="memory_max_mib",
        kind=int,
        default=0,
        doc="Maximum amount of memory while the instance runs, in MiB. 0: the amount at boot.",
        syntax=at_least(0),
    ),
    Parameter(
        name="memory_hotplug",
        kind=str,
        default="virtio-mem",
        doc="How memory is hot-added up to memory_max_mib. virtio-mem changes it in small steps and needs a driver in "
        "the guest. dimm adds DIMMs of 128 MiB and more, which are removed as a whole and need no special driver.",
        syntax=one_of("virtio-mem", "dimm"),
    ),
    Parameter(
        name="mem_path",
        kind=str,
        default="",
        doc="Directory for files that back the memory of the guest, such as a mount of hugetlbfs. All memory is "
        "preallocated. Empty: no files.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="hugepages",
        kind=str,
        default="",
        doc="Size of the huge pages that back the memory of the guest. All memory is preallocated. No mount of "
        "hugetlbfs is needed. Empty: normal pages.",
        syntax=one_of("", *HUGE_PAGES),
    ),
    Parameter(
        name="mem_prealloc",
        kind=bool,
        default=False,
        doc="Whether all memory of the guest is allocated at the start, not at first use.",
    ),
    Parameter(
        name="numa_nodes",
        kind=int,
        default=0,
        doc="Number of NUMA nodes of the guest, each with an equal share of memory and vCPUs. 0: no NUMA.",
        syntax=between(0, _MAX_NODES),
    ),
    Parameter(
        name="numa_host_nodes",
        kind=str,
        default="",
        doc="NUMA nodes of the host that the memory is allocated on: a list (0-1) for all memory, or one list for each "
        "NUMA node of the guest, separated by colons (0:1). Empty: the kernel decides.",
        syntax=Check("NUMA nodes such as 0-1 or 0:1", passes(parse_host_nodes)),
    ),
    Parameter(
        name="numa_policy",
        kind=str,
        default="bind",
        doc="Allocation policy for numa_host_nodes: only on these nodes (bind), on others if these are full "
        "(preferred), or alternating between these nodes (interleave).",
        syntax=one_of("bind", "preferred", "interleave"),
    ),
)

RULES: Final[tuple[Rule, ...]] = (_check_backend, _check_numa, _check_dimms)
