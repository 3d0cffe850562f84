# SPDX-License-Identifier: BSD-2-Clause
"""Optional methods of the hypervisor interface for screenshots and memory dumps."""

from __future__ import annotations

import os
from collections.abc import Callable

from hvkit.hypervisor.model import Capability
from hvkit.hypervisor.model.reports import DumpProgress
from hvkit.hypervisor.optional import OptionalMethods, optional


class CaptureMethods(OptionalMethods):
    """Screenshots and memory dumps. Possible in every state in which the instance has a process."""

    @optional(Capability.SCREENSHOT)
    def get_instance_screenshot(self, name: str) -> bytes:
        """Return the screen of an instance as a PNG image. Changes nothing.

        Raises:
            NotSupported: the hypervisor does not have SCREENSHOT.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process.
            CaptureError: it has no display adapter, or QEMU does not answer.
        """
        raise NotImplementedError

    @optional(Capability.DUMP)
    def get_dump_formats(self, name: str) -> tuple[str, ...]:
        """List the formats of memory dumps, the default first. Changes nothing.

        Raises:
            NotSupported: the hypervisor does not have DUMP.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process.
            CaptureError: QEMU does not answer.
        """
        raise NotImplementedError

    @optional(Capability.DUMP)
    def dump_instance_memory(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        dump_format: str | None = None,
        on_progress: Callable[[DumpProgress], None] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Write the memory and the registers of an instance to a file, for a debugger. The vCPUs are stopped meanwhile.

        Also possible after a panic of the guest.

        After success the file is complete, and only its owner may read it. After failure there is no such file. In both
        cases the instance continues as before, also if this process is interrupted or killed.

        Args:
            name: the instance.
            path: the file to create; absolute. It must not exist.
            dump_format: one of `get_dump_formats`; None: the default.
            on_progress: called several times a second.
            timeout: seconds; None: no limit.

        Raises:
            NotSupported: the hypervisor does not have DUMP.
            ParameterError: the path is not absolute, the format is not available, or the timeout is negative.
            InstanceNotFound: there is no such instance.
            InstanceStateError: it has no process.
            InstanceBusy: another operation holds its lock.
            CaptureError: the file exists already, the timeout passed, another dump is running, or it failed.
        """
        raise NotImplementedError
