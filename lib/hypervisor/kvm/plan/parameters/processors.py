# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: CPU model and vCPUs."""

from typing import Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters.checks import WORD, passes
from hvkit.hypervisor.parameters import (
    Check,
    Parameter,
    at_least,
)

#: The CPUs of the node to run on; None for all of them.
CpuSet = frozenset[int] | None


def parse_cpu_mask(text: str, name: str = "cpu_mask") -> tuple[CpuSet, ...]:
    """Parse a `cpu_mask` or `io_thread_mask` such as ``0-2:all:1,3``.

    Args:
        text: the value.
        name: the parameter, for the error.

    Returns:
        One set for each vCPU or IOThread, or a single one for all of them.

    Raises:
        ParameterError: the text has another form.
    """
    return tuple(_parse_cpu_set(part, text, name) for part in text.split(":"))


def _parse_cpu_set(part: str, text: str, name: str) -> CpuSet:
    if part == "all":
        return None
    cpus: set[int] = set()
    for item in part.split(","):
        first, dash, last = item.partition("-")
        if not (_is_number(first) and (not dash or (_is_number(last) and int(first) <= int(last)))):
            raise ParameterError(name, text, f"expected a CPU mask such as 0-2:all:1,3, got {text!r}")
        cpus.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(cpus)


def _parse_io_thread_mask(text: str) -> tuple[CpuSet, ...]:
    return parse_cpu_mask(text, "io_thread_mask")


def _is_number(text: str) -> bool:
    # Four digits: more CPUs than any node has, and few enough that a range of them does not exhaust memory.
    return text.isascii() and text.isdigit() and len(text) <= 4


PARAMETERS: Final = (
    Parameter(
        name="cpu_type",
        kind=str,
        default="",
        doc="CPU model with features, in QEMU's syntax (Skylake-Server,-hle). Empty and host: the model with all "
        "features that the accelerator supports.",
        syntax=WORD,
    ),
    Parameter(
        name="vcpus_max",
        kind=int,
        default=0,
        doc="Maximum number of vCPUs while the instance runs. cpu_sockets x cpu_cores x cpu_threads refers to this "
        "number. 0: the number at boot.",
        syntax=at_least(0),
    ),
    Parameter(
        name="cpu_sockets",
        kind=int,
        default=0,
        doc="Number of CPU sockets. 0: QEMU decides.",
        syntax=at_least(0),
    ),
    Parameter(name="cpu_cores", kind=int, default=0, doc="Cores in a socket. 0: QEMU decides.", syntax=at_least(0)),
    Parameter(name="cpu_threads", kind=int, default=0, doc="Threads in a core. 0: QEMU decides.", syntax=at_least(0)),
    Parameter(
        name="cpu_mask",
        kind=str,
        default="all",
        doc="CPUs of the node that the instance runs on: all, a list (0-3,6) for the whole process, or one list for"
        " each vCPU, separated by colons (0-2:all:1,3).",
        syntax=Check("a CPU mask such as all, 0-3,6 or 0-2:all:1,3", passes(parse_cpu_mask)),
    ),
    Parameter(
        name="io_thread_mask",
        kind=str,
        default="all",
        doc="CPUs of the node that the IOThreads run on: all for those of cpu_mask, a list (0-3,6) for all IOThreads,"
        " or one list for each, separated by colons (0:1:all).",
        syntax=Check("a CPU mask such as all, 0-3,6 or 0:1:all", passes(_parse_io_thread_mask)),
    ),
)
