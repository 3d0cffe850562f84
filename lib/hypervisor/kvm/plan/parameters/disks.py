# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: disks."""

from collections.abc import Mapping
from typing import Any, Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.parameters import (
    Parameter,
    Rule,
    between,
    one_of,
)

#: Which device each type of disk is.
DISK_DRIVERS: Final[dict[str, str]] = {
    "paravirtual": "virtio-blk-pci",
    "ide": "ide-hd",
    "scsi-hd": "scsi-hd",
    "scsi-cd": "scsi-cd",
    "scsi-block": "scsi-block",
    "scsi-generic": "scsi-generic",
}
#: The types of disks that a SCSI controller has.
SCSI_TYPES: Final = frozenset(kind for kind in DISK_DRIVERS if kind.startswith("scsi-"))
#: The types of disks on which the guest speaks SCSI to the host's own device.
PASSED_THROUGH: Final = frozenset({"scsi-block", "scsi-generic"})

#: Which device each type of SCSI controller is, and how many targets it serves.
SCSI_CONTROLLERS: Final[dict[str, tuple[str, int]]] = {
    "lsi": ("lsi53c895a", 7),
    "virtio-scsi-pci": ("virtio-scsi-pci", 255),
    "megasas": ("megasas", 64),
    "dc390": ("dc390", 7),
}


def _native_aio_is_direct(parameters: Mapping[str, Any]) -> None:
    if parameters["disk_aio"] == "native" and parameters["disk_cache"] != "none":
        raise ParameterError(
            "disk_aio", "native", "native needs disk_cache none: the kernel has it for direct access only"
        )


PARAMETERS: Final = (
    Parameter(
        name="disk_type",
        kind=str,
        default="paravirtual",
        doc="What the guest sees its disks as. With scsi-block and scsi-generic it speaks SCSI to a block device of "
        "the host; only scsi-block reads and writes by the ways of other disks.",
        syntax=one_of(*DISK_DRIVERS),
        advice=lambda value: (
            "the guest sends commands of its own to a device of the host" if value in PASSED_THROUGH else None
        ),
    ),
    Parameter(
        name="scsi_controller_type",
        kind=str,
        default="lsi",
        doc="The controller of SCSI disks.",
        syntax=one_of(*SCSI_CONTROLLERS),
        advice=lambda value: (
            "few guests have a driver for it any more; virtio-scsi-pci is the common one" if value == "dc390" else None
        ),
    ),
    Parameter(
        name="disk_cache",
        kind=str,
        default="default",
        doc="How the host caches disks: none bypasses its page cache, writethrough makes every write wait for the "
        "medium, writeback and default let the guest decide by its flushes.",
        syntax=one_of("default", "none", "writethrough", "writeback"),
    ),
    Parameter(
        name="disk_aio",
        kind=str,
        default="threads",
        doc="How QEMU talks to the host about disks.",
        syntax=one_of("threads", "native", "io_uring"),
    ),
    Parameter(
        name="disk_discard",
        kind=str,
        default="ignore",
        doc="Whether what the guest discards is given back to the host (unmap).",
        syntax=one_of("ignore", "unmap"),
    ),
    Parameter(
        name="io_threads",
        kind=int,
        default=0,
        doc="Threads that serve virtio disks beside QEMU's main loop; 0: the main loop does.",
        syntax=between(0, 64),
    ),
)

RULES: Final[tuple[Rule, ...]] = (_native_aio_is_direct,)
