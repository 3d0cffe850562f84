# SPDX-License-Identifier: BSD-2-Clause
"""Take a device out of a running machine: the guest is asked, and has the last word.

`device_del` only presses a button. A guest that boots misses it, so it is pressed again; one that refuses may say so or
not. The device has gone when QEMU says that it has, and not before: until then the guest may use what is behind it.
"""

from typing import Final

from hvkit.hypervisor.errors import HotplugCause
from hvkit.qmp import CommandError, DeviceNotFound, EventTimeout, QmpConnection, Subscription
from hvkit.qmp.base import Event
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import DeviceDel, DeviceDeletedEvent, DeviceUnplugGuestErrorEvent, QomList

_PERIPHERAL: Final = "/machine/peripheral"
#: Seconds after which the guest is asked again.
_ASK_AGAIN_S: Final = 2.0


def is_plugged_in(monitor: QmpConnection, device: str) -> bool:
    """Tell whether the machine has a device of that id.

    Raises:
        QmpError: QEMU does not answer.
    """
    return any(child.name == device for child in monitor.execute(QomList(path=_PERIPHERAL)))


def unplug(monitor: QmpConnection, device: str, *, timeout_s: float) -> HotplugCause | None:
    """Ask the guest to let go of a device, and wait until it has.

    After success the machine does not have the device; what it stood on is free. Where the guest does not let go, the
    device works as before, and the guest may let go of it later.

    Args:
        monitor: of the machine.
        device: the device's id.
        timeout_s: seconds that the guest has.

    Returns:
        None after success; otherwise why the guest still has it: GUEST_REFUSED or GUEST_SILENT.

    Raises:
        QmpError: QEMU does not answer, or refuses.
    """
    deadline = Deadline(timeout_s)
    with monitor.subscribe(DeviceDeletedEvent, DeviceUnplugGuestErrorEvent) as events:
        while True:
            try:
                monitor.execute(DeviceDel(id=device))
            except DeviceNotFound:
                return None
            except CommandError:
                # An unplug that is going on; QEMU has no class of its own for that refusal.
                if not is_plugged_in(monitor, device):
                    return None
            answer = _await_answer(events, device, min(_ASK_AGAIN_S, max(deadline.remaining_s(), 0.0)))
            if isinstance(answer, DeviceUnplugGuestErrorEvent):
                return HotplugCause.GUEST_REFUSED
            if answer is not None or not is_plugged_in(monitor, device):
                return None
            if deadline.remaining_s() <= 0:
                return HotplugCause.GUEST_SILENT


def _await_answer(events: Subscription[Event], device: str, timeout_s: float) -> Event | None:
    """Wait for what QEMU says of this very device, and not of a part of it; None where it says nothing in time."""
    deadline = Deadline(timeout_s)
    while True:
        try:
            event = events.get(timeout=max(deadline.remaining_s(), 0.0))
        except EventTimeout:
            return None
        if isinstance(event, (DeviceDeletedEvent, DeviceUnplugGuestErrorEvent)) and event.device == device:
            return event
