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

#: The device model of each type of disk.
DISK_DRIVERS: Final[dict[str, str]] = {
    "paravirtual": "virtio-blk-pci",
    "ide": "ide-hd",
    "scsi-hd": "scsi-hd",
    "scsi-cd": "scsi-cd",
    "scsi-block": "scsi-block",
    "scsi-generic": "scsi-generic",
}
#: The types of disks on a SCSI controller.
SCSI_TYPES: Final = frozenset(kind for kind in DISK_DRIVERS if kind.startswith("scsi-"))
#: The types of disks that pass SCSI commands of the guest through to a SCSI device of the node.
PASSED_THROUGH: Final = frozenset({"scsi-block", "scsi-generic"})

#: The device model of each type of SCSI controller, and its number of targets.
SCSI_CONTROLLERS: Final[dict[str, tuple[str, int]]] = {
    "lsi": ("lsi53c895a", 7),
    "virtio-scsi-pci": ("virtio-scsi-pci", 255),
    "megasas": ("megasas", 64),
    "dc390": ("dc390", 7),
}


def _check_native_aio(parameters: Mapping[str, Any]) -> None:
    if parameters["disk_aio"] == "native" and parameters["disk_cache"] != "none":
        raise ParameterError(
            "disk_aio", "native", "requires disk_cache none: the kernel supports native AIO only for direct access"
        )


PARAMETERS: Final = (
    Parameter(
        name="disk_type",
        kind=str,
        default="paravirtual",
        doc="Type of the disks. scsi-block and scsi-generic pass SCSI commands of the guest through to a SCSI device of"
        " the node; scsi-block does so for all commands except reads and writes.",
        syntax=one_of(*DISK_DRIVERS),
        advice=lambda value: (
            "the guest can send arbitrary SCSI commands to a device of the node" if value in PASSED_THROUGH else None
        ),
    ),
    Parameter(
        name="scsi_controller_type",
        kind=str,
        default="lsi",
        doc="Type of the controller of SCSI disks and CD drives.",
        syntax=one_of(*SCSI_CONTROLLERS),
        advice=lambda value: (
            "few guests still have a driver for it; virtio-scsi-pci is common" if value == "dc390" else None
        ),
    ),
    Parameter(
        name="disk_cache",
        kind=str,
        default="default",
        doc="Cache mode of the disks: none bypasses the page cache of the node, writethrough completes a write when it "
        "is on the medium, writeback and default complete writes in the cache until the guest flushes.",
        syntax=one_of("default", "none", "writethrough", "writeback"),
    ),
    Parameter(
        name="disk_aio",
        kind=str,
        default="threads",
        doc="Interface of the kernel for disk I/O.",
        syntax=one_of("threads", "native", "io_uring"),
    ),
    Parameter(
        name="disk_discard",
        kind=str,
        default="ignore",
        doc="Whether discard requests of the guest release space on the node (unmap).",
        syntax=one_of("ignore", "unmap"),
    ),
    Parameter(
        name="io_threads",
        kind=int,
        default=0,
        doc="Number of IOThreads for virtio disks. 0: disks use the main loop of QEMU.",
        syntax=between(0, 64),
    ),
)

RULES: Final[tuple[Rule, ...]] = (_check_native_aio,)
