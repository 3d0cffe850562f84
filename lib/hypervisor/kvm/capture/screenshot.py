# SPDX-License-Identifier: BSD-2-Clause
"""Take a picture of the screen of a running instance, through a file that QEMU is lent open."""

import os
from contextlib import ExitStack

from hvkit.hypervisor.errors import CaptureError, InstanceStateError
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.qmp import CommandError, QmpConnection, QmpError
from hvkit.qmp.descriptors import fdset
from hvkit.qmp.schema import QomList, Screendump

#: Where QEMU keeps its consoles, and what the screens of display adapters and the rest are called there.
_BACKENDS = "/backend"
_CONSOLE = "console["


def take_screenshot(handle: InstanceHandle) -> bytes:
    """Return what is on the screen, as `BaseHypervisor.get_instance_screenshot` says.

    Raises:
        CaptureError: it has no screen, no process, or does not answer.
    """
    with ExitStack() as stack:
        try:
            # In memory: whoever is confined writes to no file of the node, and nobody has to remove this one.
            picture = stack.enter_context(open(os.memfd_create("screenshot", os.MFD_CLOEXEC), "rb"))
            # QEMU takes nothing but a descriptor that can only be written to.
            writer = stack.enter_context(open(f"/proc/self/fd/{picture.fileno()}", "wb"))
            monitor = stack.enter_context(handle.connected())
            if not _has_screen(monitor):
                raise CaptureError(handle.name, "it has no screen: its machine has no display adapter")
            with fdset(monitor, writer.fileno()) as filename:
                monitor.execute(Screendump(filename=filename, format="png"))
            return picture.read()
        except (QmpError, InstanceStateError, OSError) as error:
            raise CaptureError(handle.name, str(error)) from error


def _has_screen(monitor: QmpConnection) -> bool:
    try:
        return any(member.name.startswith(_CONSOLE) for member in monitor.execute(QomList(path=_BACKENDS)))
    except CommandError:  # there is none of them
        return False
