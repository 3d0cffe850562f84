# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: boot."""

from collections.abc import Mapping
from typing import Any, Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters.checks import PRINTABLE, passes
from hvkit.hypervisor.parameters import ABSOLUTE_PATH, Check, Parameter, Rule

#: Kinds of boot devices.
BOOT_DEVICES: Final = ("disk", "cdrom", "floppy", "network")


def _check_initrd_has_kernel(parameters: Mapping[str, Any]) -> None:
    if parameters["initrd_path"] and not parameters["kernel_path"]:
        raise ParameterError("initrd_path", parameters["initrd_path"], "requires kernel_path")


def parse_boot_order(text: str) -> tuple[str, ...]:
    """Parse a `boot_order` such as ``network,disk``.

    Returns:
        Kinds of boot devices, in order.

    Raises:
        ParameterError: a kind is unknown or repeated.
    """
    order = tuple(text.split(","))
    if not set(order) <= set(BOOT_DEVICES) or len(order) > len(set(order)):
        raise ParameterError("boot_order", text, f"expected one or several of {', '.join(BOOT_DEVICES)}, got {text!r}")
    return order


def plan_boot_index(device: str, parameters: Mapping[str, Any]) -> int | None:
    """Return the boot index of the first device of a kind; None if it is not bootable.

    Args:
        device: one of `BOOT_DEVICES`.
        parameters: of the instance, filled and checked.
    """
    order = parse_boot_order(parameters["boot_order"])
    return None if parameters["kernel_path"] or device not in order else order.index(device) + 1


def _check_boot_devices_exist(parameters: Mapping[str, Any]) -> None:
    for device in parse_boot_order(parameters["boot_order"]):
        if device in ("cdrom", "floppy") and not parameters[f"{device}_image_path"]:
            problem = f"{device} requires {device}_image_path"
            raise ParameterError("boot_order", parameters["boot_order"], problem)


PARAMETERS: Final = (
    Parameter(
        name="kernel_path",
        kind=str,
        default="",
        doc="Kernel to boot directly, instead of the boot loader of the guest. boot_order has no effect then.",
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
        doc="Root device of the guest, passed to kernel_path as root=. Empty: none.",
        syntax=PRINTABLE,
    ),
    Parameter(
        name="kernel_args",
        kind=str,
        default="ro",
        doc="Additional arguments for kernel_path.",
        syntax=PRINTABLE,
    ),
    Parameter(
        name="boot_order",
        kind=str,
        default="disk",
        doc="Boot devices in order of preference, separated by commas: the first disk, the first CD drive (cdrom), the "
        "floppy drive, the first NIC (network).",
        syntax=Check(f"one or several of {', '.join(BOOT_DEVICES)}", passes(parse_boot_order), BOOT_DEVICES),
    ),
)

RULES: Final[tuple[Rule, ...]] = (_check_initrd_has_kernel, _check_boot_devices_exist)
