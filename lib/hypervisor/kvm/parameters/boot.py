# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: what the guest boots from."""

from collections.abc import Mapping
from typing import Any, Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.parameters.checks import PRINTABLE
from hvkit.hypervisor.parameters import (
    ABSOLUTE_PATH,
    READABLE_FILE,
    Parameter,
    Rule,
    one_of,
)


def _initrd_has_kernel(parameters: Mapping[str, Any]) -> None:
    if parameters["initrd_path"] and not parameters["kernel_path"]:
        raise ParameterError("initrd_path", parameters["initrd_path"], "there is no kernel_path that it belongs to")


def _boots_from_what_there_is(parameters: Mapping[str, Any]) -> None:
    order = parameters["boot_order"]
    if order in ("cdrom", "floppy") and not parameters[f"{order}_image_path"]:
        raise ParameterError("boot_order", order, f"there is no {order}_image_path to boot from")


PARAMETERS: Final = (
    Parameter(
        name="kernel_path",
        kind=str,
        default="",
        doc="Kernel to boot directly; boot_order has no say then. Empty: the guest's own boot loader.",
        syntax=ABSOLUTE_PATH,
        node=READABLE_FILE,
    ),
    Parameter(
        name="initrd_path",
        kind=str,
        default="",
        doc="Initial RAM disk for kernel_path.",
        syntax=ABSOLUTE_PATH,
        node=READABLE_FILE,
    ),
    Parameter(
        name="root_path",
        kind=str,
        default="/dev/vda1",
        doc="The guest's root device, for kernel_path. Empty: none.",
        syntax=PRINTABLE,
    ),
    Parameter(
        name="kernel_args",
        kind=str,
        default="ro",
        doc="More arguments for the kernel of kernel_path.",
        syntax=PRINTABLE,
    ),
    Parameter(
        name="boot_order",
        kind=str,
        default="disk",
        doc="What to boot from: the first disk, the first CD drive, the floppy drive, or the first NIC.",
        syntax=one_of("disk", "cdrom", "floppy", "network"),
    ),
)

RULES: Final[tuple[Rule, ...]] = (_initrd_has_kernel, _boots_from_what_there_is)
