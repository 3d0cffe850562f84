# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: consoles and the guest agent."""

from typing import Final

from hvkit.hypervisor.parameters import (
    Check,
    Parameter,
)

_SERIAL_SPEEDS: Final = frozenset({4800, 9600, 19200, 38400, 57600, 115200, 230400, 345600, 460800})


PARAMETERS: Final = (
    Parameter(
        name="serial_console",
        kind=bool,
        default=True,
        doc="Whether there is a serial port, with a console to attach to.",
    ),
    Parameter(
        name="serial_speed",
        kind=int,
        default=38400,
        doc="Speed of the serial console in bits per second, for the kernel of kernel_path.",
        syntax=Check("a speed that serial lines have", _SERIAL_SPEEDS.__contains__),
    ),
    Parameter(
        name="use_guest_agent",
        kind=bool,
        default=False,
        doc="Whether there is a port for the QEMU guest agent.",
    ),
)
