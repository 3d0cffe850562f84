# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: what the guest boots from."""

from collections.abc import Mapping
from typing import Any, Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters.checks import PRINTABLE, passes
from hvkit.hypervisor.parameters import ABSOLUTE_PATH, Check, Parameter, Rule

#: What a machine can be booted from.
BOOT_DEVICES: Final = ("disk", "cdrom", "floppy", "network")


def _initrd_has_kernel(parameters: Mapping[str, Any]) -> None:
    if parameters["initrd_path"] and not parameters["kernel_path"]:
        raise ParameterError("initrd_path", parameters["initrd_path"], "there is no kernel_path that it belongs to")


def parse_boot_order(text: str) -> tuple[str, ...]:
    """Take apart a `boot_order` such as ``network,disk``.

    Returns:
        What to boot from, of `BOOT_DEVICES`, the first first.

    Raises:
        ParameterError: it is written in another way.
    """
    order = tuple(text.split(","))
    if not set(order) <= set(BOOT_DEVICES) or len(order) > len(set(order)):
        raise ParameterError("boot_order", text, f"expected some of {', '.join(BOOT_DEVICES)}, got {text!r}")
    return order


def plan_boot_index(device: str, parameters: Mapping[str, Any]) -> int | None:
    """Return the turn of the first device of a kind when the firmware looks for something to boot; None for never.

    Args:
        device: one of `BOOT_DEVICES`.
        parameters: of the instance, filled and checked.
    """
    order = parse_boot_order(parameters["boot_order"])
    return None if parameters["kernel_path"] or device not in order else order.index(device) + 1


def _boots_from_what_there_is(parameters: Mapping[str, Any]) -> None:
    for device in parse_boot_order(parameters["boot_order"]):
        if device in ("cdrom", "floppy") and not parameters[f"{device}_image_path"]:
            problem = f"there is no {device}_image_path to boot from"
            raise ParameterError("boot_order", parameters["boot_order"], problem)


PARAMETERS: Final = (
    Parameter(
        name="kernel_path",
        kind=str,
        default="",
        doc="Kernel to boot directly; boot_order has no say then. Empty: the guest's own boot loader.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="initrd_path",
        kind=str,
        default="",
        doc="Initial RAM disk for kernel_path.",
        syntax=ABSOLUTE_PATH,
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
        doc="What to boot from: the first disk, the first CD drive, the floppy drive, or the first NIC (network). Of "
        "several, with commas between them, the first that can be booted.",
        syntax=Check(f"{', '.join(BOOT_DEVICES)}, or some of them", passes(parse_boot_order), BOOT_DEVICES),
    ),
)

RULES: Final[tuple[Rule, ...]] = (_initrd_has_kernel, _boots_from_what_there_is)
