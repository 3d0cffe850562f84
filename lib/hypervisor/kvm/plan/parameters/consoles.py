# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: serial console and guest agent."""

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
        doc="Whether the instance has a serial port with a console.",
    ),
    Parameter(
        name="serial_speed",
        kind=int,
        default=38400,
        doc="Speed of the serial console in bits per second, passed to the kernel of kernel_path.",
        syntax=Check(f"one of {', '.join(map(str, sorted(_SERIAL_SPEEDS)))}", _SERIAL_SPEEDS.__contains__),
    ),
    Parameter(
        name="use_guest_agent",
        kind=bool,
        default=False,
        doc="Whether the instance has a port for the QEMU guest agent.",
    ),
)
