# SPDX-License-Identifier: BSD-2-Clause
"""The processor's counter of user-space instructions, through perf_event_open(2)."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final, Self

#: Numbers of the system call. Source: arch/x86/entry/syscalls/syscall_64.tbl and asm-generic/unistd.h of Linux.
_SYSCALL_NUMBERS: Final = {"x86_64": 298, "aarch64": 241}
# Source: linux/perf_event.h.
HARDWARE_INSTRUCTIONS: Final = (0, 1)
SOFTWARE_TASK_CLOCK: Final = (1, 1)
_ATTRIBUTE_BYTES: Final = 64
_INHERIT: Final = 1 << 1
_EXCLUDE_KERNEL: Final = 1 << 5
_EXCLUDE_HYPERVISOR: Final = 1 << 6


class InstructionCounter:
    """A counter of events in user space, in the thread that opened it and in the threads that this thread starts.

    Args:
        fd: the descriptor that perf_event_open returned. The counter owns it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def open(cls, event: tuple[int, int] = HARDWARE_INSTRUCTIONS) -> Self | None:
        """Open a counter for the calling thread.

        Args:
            event: the type and the number of the event.

        Returns:
            The counter; None if this machine does not count the event. Most virtual machines do not count instructions.
        """
        number = _SYSCALL_NUMBERS.get(platform.machine())
        if number is None:
            return None
        kind, config = event
        flags = _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR
        attribute = struct.pack("=IIQQQQQ", kind, _ATTRIBUTE_BYTES, config, 0, 0, 0, flags)
        buffer = ctypes.create_string_buffer(attribute, _ATTRIBUTE_BYTES)
        fd = ctypes.CDLL(None, use_errno=True).syscall(number, buffer, 0, -1, -1, 0)
        return None if fd < 0 else cls(fd)

    def read(self) -> int:
        """Return the number of events since the counter was opened."""
        return int.from_bytes(os.read(self._fd, 8), "little")

    def close(self) -> None:
        """Close the counter."""
        os.close(self._fd)
