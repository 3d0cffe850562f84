# SPDX-License-Identifier: BSD-2-Clause
"""Screenshots. QEMU writes them to a file descriptor that hvkit passes to it."""

import os
from contextlib import ExitStack
from functools import partial

from hvkit.hypervisor.errors import CaptureError, translate_errors
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.qmp import CommandError, QmpConnection
from hvkit.qmp.descriptors import fdset
from hvkit.qmp.schema import QomList, Screendump

#: The QOM path of the backends, and the prefix of the names of graphical consoles there.
_BACKENDS = "/backend"
_CONSOLE = "console["


class ScreenshotVerbs(KvmSubject):
    """Takes screenshots."""

    def get_instance_screenshot(self, name: str) -> bytes:
        """Take a screenshot of the first display adapter, as a PNG."""
        handle = self._instances.require(name)
        with translate_errors(partial(CaptureError, name)), ExitStack() as stack:
            # A file in memory: a confined QEMU cannot open files of the node, and no file has to be removed.
            picture = stack.enter_context(open(os.memfd_create("screenshot", os.MFD_CLOEXEC), "rb"))
            # QEMU accepts only a descriptor that is open for writing alone.
            writer = stack.enter_context(open(f"/proc/self/fd/{picture.fileno()}", "wb"))
            monitor = stack.enter_context(handle.connected())
            if not _has_screen(monitor):
                raise CaptureError(name, "the instance has no display adapter (parameter vga)")
            with fdset(monitor, writer.fileno()) as filename:
                monitor.execute(Screendump(filename=filename, format="png"))
            return picture.read()


def _has_screen(monitor: QmpConnection) -> bool:
    try:
        return any(member.name.startswith(_CONSOLE) for member in monitor.execute(QomList(path=_BACKENDS)))
    except CommandError:  # there are no backends
        return False
