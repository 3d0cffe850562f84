# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: memory, and where on the node it is."""

from collections.abc import Mapping
from typing import Any, Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters.checks import passes
from hvkit.hypervisor.parameters import ABSOLUTE_PATH, Check, Parameter, Rule, at_least, between, one_of

#: Sizes of huge pages in MiB, by the name of each.
HUGE_PAGES: Final[dict[str, int]] = {"2M": 2, "1G": 1024}
#: The most NUMA nodes that QEMU gives a guest. Source: QEMU, MAX_NODES.
_MAX_NODES: Final = 128


def parse_host_nodes(text: str) -> tuple[frozenset[int], ...]:
    """Take apart a value of `numa_host_nodes` such as ``0:1`` or ``0-1``.

    Returns:
        One set for each NUMA node of the guest; a single one for all of its memory.

    Raises:
        ParameterError: it is written in another way.
    """
    return tuple(_parse_nodes(part, text) for part in text.split(":"))


def _parse_nodes(part: str, text: str) -> frozenset[int]:
    nodes: set[int] = set()
    for item in part.split(","):
        first, dash, last = item.partition("-")
        ends = [first, last if dash else first]
        if not all(end.isascii() and end.isdigit() and len(end) <= 3 for end in ends) or int(ends[0]) > int(ends[1]):
            raise ParameterError("numa_host_nodes", text, f"expected something like 0:1 or 0-1, got {text!r}")
        nodes.update(range(int(ends[0]), int(ends[1]) + 1))
    return frozenset(nodes)


def _is_held_in_one_way(parameters: Mapping[str, Any]) -> None:
    if parameters["hugepages"] and parameters["mem_path"]:
        raise ParameterError("hugepages", parameters["hugepages"], "files hold the memory: mem_path")


def _nodes_go_together(parameters: Mapping[str, Any]) -> None:
    text = parameters["numa_host_nodes"]
    if not text:
        return
    lists = parse_host_nodes(text)
    if len(lists) not in (1, parameters["numa_nodes"]):
        problem = f"it is for {len(lists)} NUMA nodes, and numa_nodes is {parameters['numa_nodes']}"
        raise ParameterError("numa_host_nodes", text, problem)
    if parameters["numa_policy"] == "preferred" and any(len(nodes) > 1 for nodes in lists):
        raise ParameterError("numa_policy", "preferred", "one node can be preferred, not several")


def _dimms_can_come(parameters: Mapping[str, Any]) -> None:
    if not parameters["memory_max_mib"] or parameters["memory_hotplug"] != "dimm":
        return
    if parameters["mem_path"] and parameters["use_chroot"]:
        problem = "a DIMM that comes needs a file in mem_path, which use_chroot puts out of QEMU's reach"
        raise ParameterError("memory_hotplug", "dimm", f"{problem}; virtio-mem has its file from the start")
    if not parameters["acpi"]:
        raise ParameterError("memory_hotplug", "dimm", "without acpi no DIMM can come; virtio-mem needs none")


PARAMETERS: Final = (
    Parameter(
        name="memory_max_mib",
        kind=int,
        default=0,
        doc="How much memory it can have while it runs, in MiB; 0: no more than it starts with.",
        syntax=at_least(0),
    ),
    Parameter(
        name="memory_hotplug",
        kind=str,
        default="virtio-mem",
        doc="How memory comes and goes, where memory_max_mib allows that: virtio-mem in small steps, which needs a "
        "driver in the guest; dimm in pieces of 128 MiB and more that go as they came, which all guests know.",
        syntax=one_of("virtio-mem", "dimm"),
    ),
    Parameter(
        name="mem_path",
        kind=str,
        default="",
        doc="Directory whose files hold the guest's memory, such as a mount of hugetlbfs; all of it is taken at the "
        "start. Empty: no files.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="hugepages",
        kind=str,
        default="",
        doc="Size of the node's huge pages that hold the guest's memory; all of it is taken at the start. It needs "
        "no mount. Empty: ordinary pages.",
        syntax=one_of("", *HUGE_PAGES),
    ),
    Parameter(
        name="mem_prealloc",
        kind=bool,
        default=False,
        doc="Whether all of the guest's memory is taken at the start, not when the guest first uses it.",
    ),
    Parameter(
        name="numa_nodes",
        kind=int,
        default=0,
        doc="NUMA nodes that the guest sees, each with an equal share of its memory and processors. 0: none.",
        syntax=between(0, _MAX_NODES),
    ),
    Parameter(
        name="numa_host_nodes",
        kind=str,
        default="",
        doc="NUMA nodes of this node that the memory is on: a list (0-1) for all of it, or one list for each NUMA node "
        "of the guest with colons between them (0:1). Empty: wherever the kernel puts it.",
        syntax=Check("something like 0-1 or 0:1", passes(parse_host_nodes)),
    ),
    Parameter(
        name="numa_policy",
        kind=str,
        default="bind",
        doc="What numa_host_nodes means: the memory is nowhere else (bind), it is elsewhere only where there is no "
        "room (preferred), or its pages take turns (interleave).",
        syntax=one_of("bind", "preferred", "interleave"),
    ),
)

RULES: Final[tuple[Rule, ...]] = (_is_held_in_one_way, _nodes_go_together, _dimms_can_come)
