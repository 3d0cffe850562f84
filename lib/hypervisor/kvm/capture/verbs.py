# SPDX-License-Identifier: BSD-2-Clause
"""The part of the KVM hypervisor that takes pictures and dumps of running instances."""

import math
import os
from collections.abc import Callable

from hvkit.hypervisor.capture import CaptureMethods
from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.capture.dump import dump_memory, read_formats
from hvkit.hypervisor.kvm.capture.screenshot import take_screenshot
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import check_kind, check_timeout, is_absolute_path
from hvkit.hypervisor.model.reports import DumpProgress


class KvmCapture(KvmSubject, CaptureMethods):
    """Takes pictures and dumps of running instances."""

    def get_instance_screenshot(self, name: str) -> bytes:
        """Return what is on the screen, as `BaseHypervisor.get_instance_screenshot` says: that of the first adapter."""
        return take_screenshot(self._instances.require(name))

    def get_dump_formats(self, name: str) -> tuple[str, ...]:
        """Return the formats of dumps, as `BaseHypervisor.get_dump_formats` says: those that QEMU writes in one go."""
        return read_formats(self._instances.require(name))

    def dump_instance_memory(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        dump_format: str | None = None,
        on_progress: Callable[[DumpProgress], None] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Dump the memory of an instance, as `BaseHypervisor.dump_instance_memory` says, into a file that is ours.

        QEMU writes it to us, so that it may be confined. A process that is killed over it leaves a file behind whose
        name ends with ``.partial``, and nothing else.
        """
        check_kind(path, str, os.PathLike)
        if not is_absolute_path(os.fspath(path)):
            raise ParameterError("path", os.fspath(path), f"expected an absolute path, got {os.fspath(path)!r}")
        handle = self._instances.require(name)
        timeout_s = check_timeout(timeout, default_s=math.inf)
        dump_memory(handle, os.fspath(path), dump_format=dump_format, on_progress=on_progress, timeout_s=timeout_s)
