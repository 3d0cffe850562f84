# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: what an operator sees and hears."""

from typing import Final

from hvkit.hypervisor.parameters import (
    Parameter,
    one_of,
)

#: Which device each type of display adapter is.
DISPLAY_DRIVERS: Final[dict[str, str]] = {
    "std": "VGA",
    "cirrus": "cirrus-vga",
    "virtio": "virtio-vga",
    "vmware": "vmware-svga",
    "qxl": "qxl-vga",
}


PARAMETERS: Final = (
    Parameter(
        name="vga",
        kind=str,
        default="",
        doc="Display adapter. Empty: none.",
        syntax=one_of("", "none", *DISPLAY_DRIVERS),
    ),
)
