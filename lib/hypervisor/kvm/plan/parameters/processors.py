# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: processors."""

from typing import Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters.checks import WORD, passes
from hvkit.hypervisor.parameters import (
    Check,
    Parameter,
    at_least,
)

#: The processors of the host that a virtual one may run on; None for all of them.
CpuSet = frozenset[int] | None


def parse_cpu_mask(text: str, name: str = "cpu_mask") -> tuple[CpuSet, ...]:
    """Take apart a `cpu_mask` or `io_thread_mask` such as ``0-2:all:1,3``.

    Args:
        text: what is written there.
        name: of the parameter, for the error.

    Returns:
        One set for each virtual processor or IOThread; a single one for all of them.

    Raises:
        ParameterError: it is written in another way.
    """
    return tuple(_parse_cpu_set(part, text, name) for part in text.split(":"))


def _parse_cpu_set(part: str, text: str, name: str) -> CpuSet:
    if part == "all":
        return None
    cpus: set[int] = set()
    for item in part.split(","):
        first, dash, last = item.partition("-")
        if not (_is_number(first) and (not dash or (_is_number(last) and int(first) <= int(last)))):
            raise ParameterError(name, text, f"expected something like 0-2:all:1,3, got {text!r}")
        cpus.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(cpus)


def _parse_io_thread_mask(text: str) -> tuple[CpuSet, ...]:
    return parse_cpu_mask(text, "io_thread_mask")


def _is_number(text: str) -> bool:
    # Four digits: more processors than any host has, and not so many that a range of them fills the memory.
    return text.isascii() and text.isdigit() and len(text) <= 4


PARAMETERS: Final = (
    Parameter(
        name="cpu_type",
        kind=str,
        default="",
        doc="CPU model, with features as QEMU writes them (Skylake-Server,-hle). Empty and host: all that the "
        "accelerator has to offer.",
        syntax=WORD,
    ),
    Parameter(
        name="vcpus_max",
        kind=int,
        default=0,
        doc="How many processors there can be while it runs; they are what sockets, cores and threads multiply to. "
        "0: no more than it starts with.",
        syntax=at_least(0),
    ),
    Parameter(
        name="cpu_sockets",
        kind=int,
        default=0,
        doc="Sockets that the processors are in; 0: QEMU decides.",
        syntax=at_least(0),
    ),
    Parameter(name="cpu_cores", kind=int, default=0, doc="Cores of a socket; 0: QEMU decides.", syntax=at_least(0)),
    Parameter(name="cpu_threads", kind=int, default=0, doc="Threads of a core; 0: QEMU decides.", syntax=at_least(0)),
    Parameter(
        name="cpu_mask",
        kind=str,
        default="all",
        doc="Processors of the host to run on: all, a list (0-3,6) for the instance, or one list for each virtual "
        "processor with colons between them (0-2:all:1,3).",
        syntax=Check("something like all, 0-3,6 or 0-2:all:1,3", passes(parse_cpu_mask)),
    ),
    Parameter(
        name="io_thread_mask",
        kind=str,
        default="all",
        doc="Processors of the host for the IOThreads: all, where the rest of the instance runs; a list (0-3,6) for "
        "all of them, or one list for each with colons between them (0:1:all).",
        syntax=Check("something like all, 0-3,6 or 0:1:all", passes(_parse_io_thread_mask)),
    ),
)
