# SPDX-License-Identifier: BSD-2-Clause
"""What hypervisors may be able to take from running instances: a picture of their screen, and their memory.

`BaseHypervisor` has these methods; a plugin that declares SCREENSHOT or DUMP overrides all of that capability.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from hvkit.hypervisor.model import Capability
from hvkit.hypervisor.model.reports import DumpProgress
from hvkit.hypervisor.optional import OptionalMethods


class CaptureMethods(OptionalMethods):
    """The part of `BaseHypervisor` that is about pictures and dumps."""

    def get_instance_screenshot(self, name: str) -> bytes:
        """Return what is on the screen of an instance, as a picture in the format PNG. Changes nothing.

        May be called in every state in which the instance has a process.

        Raises:
            NotSupported: this hypervisor does not declare SCREENSHOT.
            InstanceNotFound: no instance of that name is known here.
            CaptureError: it has no screen, no process, or does not answer.
        """
        self._lacks(Capability.SCREENSHOT)

    def get_dump_formats(self, name: str) -> tuple[str, ...]:
        """Return the formats that the memory of an instance can be dumped in, the usual one first. Changes nothing.

        Raises:
            NotSupported: this hypervisor does not declare DUMP.
            InstanceNotFound: no instance of that name is known here.
            CaptureError: it has no process, or does not answer.
        """
        self._lacks(Capability.DUMP)

    def dump_instance_memory(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        dump_format: str | None = None,
        on_progress: Callable[[DumpProgress], None] | None = None,
        timeout: float = math.inf,
    ) -> None:
        """Write the memory and the registers of an instance to a file, for a debugger. It stands still meanwhile.

        May be called in every state in which the instance has a process, also when its guest has panicked.

        After success the file is there, whole, and nobody's but the caller's. After failure it is not. In both cases
        the instance goes on as it was; so it does where this process is interrupted or killed over it.

        Args:
            name: of the instance.
            path: of the file; nothing may have that path.
            dump_format: one of `get_dump_formats`; None for the usual one.
            on_progress: is told several times a second how far it is.
            timeout: seconds for all of it.

        Raises:
            NotSupported: this hypervisor does not declare DUMP.
            InstanceNotFound: no instance of that name is known here.
            InstanceBusy: somebody else is working on it.
            ParameterError: that is no absolute path, or no format that this instance has; or nobody can wait so long.
            CaptureError: it failed, was not over in time, or there is another one.
        """
        self._lacks(Capability.DUMP)
