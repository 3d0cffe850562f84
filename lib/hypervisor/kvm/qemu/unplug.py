# SPDX-License-Identifier: BSD-2-Clause
"""Take a device out of a running machine: the guest is asked, and has the last word.

`device_del` only presses a button. A guest that boots misses it, so it is pressed again; one that refuses may say so or
not. The device has gone when QEMU says that it has, and not before: until then the guest may use what is behind it.
"""

from collections.abc import Collection
from typing import Final

from hvkit.hypervisor.errors import HotplugCause
from hvkit.hypervisor.kvm.plan.plugged import DEVICES_PATH
from hvkit.qmp import CommandError, DeviceNotFound, EventTimeout, QmpConnection, Subscription
from hvkit.qmp.base import Event
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import (
    AcpiDeviceOstEvent,
    DeviceDel,
    DeviceDeletedEvent,
    DeviceUnplugGuestErrorEvent,
    QomList,
    QueryBlock,
)

#: Seconds after which the guest is asked again.
_ASK_AGAIN_S: Final = 2.0
#: How a guest answers when it was asked to eject a processor or a DIMM, or wants to eject one by itself. Source: ACPI
#: specification, "_OST (OSPM Status Indication)".
_EJECTION: Final = frozenset({0x003, 0x103})
_EJECTED: Final = 0x00
_IS_EJECTING: Final = 0x84
#: Seconds that QEMU has to let go of the disk of a device that left the machine. It takes a few milliseconds.
_RELEASE_S: Final = 10.0


def is_plugged_in(monitor: QmpConnection, device: str) -> bool:
    """Tell whether the machine has a device of that id.

    Raises:
        QmpError: QEMU does not answer.
    """
    return any(child.name == device for child in monitor.execute(QomList(path=DEVICES_PATH)))


def unplug(monitor: QmpConnection, device: str, *, timeout_s: float) -> HotplugCause | None:
    """Ask the guest to let go of a device, and wait until it has.

    After success the machine does not have the device; see `await_release` for what it stood on. Where the guest does
    not let go, the device works as before, and the guest may let go of it later.

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
    with monitor.subscribe(DeviceDeletedEvent, DeviceUnplugGuestErrorEvent, AcpiDeviceOstEvent) as events:
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
            if isinstance(answer, DeviceDeletedEvent) or not is_plugged_in(monitor, device):
                return None
            if answer is not None and _is_refusal(answer):
                return HotplugCause.GUEST_REFUSED
            if deadline.remaining_s() <= 0:
                return HotplugCause.GUEST_SILENT


def await_release(monitor: QmpConnection, nodes: Collection[str]) -> None:
    """Wait until QEMU has let go of the block nodes of a device that the machine does not have any more.

    QEMU takes a device out of the machine first, and destroys it a moment later, when none of its threads looks at it
    any more; until then the nodes are in use. That it was destroyed is an event, which may have come before anybody
    listened: so the nodes are what is looked at, and the event only says when.

    Returns too where they are still in use after some time, which only an error of QEMU's can bring about: then
    `blockdev-del` says so.

    Raises:
        QmpError: QEMU does not answer.
    """
    deadline = Deadline(_RELEASE_S)
    with monitor.subscribe(DeviceDeletedEvent) as events:
        while any(each.inserted and each.inserted.node_name in nodes for each in monitor.execute(QueryBlock())):
            try:
                events.get(timeout=max(deadline.remaining_s(), 0.0))
            except EventTimeout:
                return


def _await_answer(events: Subscription[Event], device: str, timeout_s: float) -> Event | None:
    """Wait for what may end the wait for this very device, and not for a part of it; None where nothing comes in time.

    QEMU 7.2 to 11.1 do not say that a processor was deleted, and a guest's answer about what has gone names no device.
    """
    deadline = Deadline(timeout_s)
    while True:
        try:
            event = events.get(timeout=max(deadline.remaining_s(), 0.0))
        except EventTimeout:
            return None
        match event:
            case AcpiDeviceOstEvent(info=info):
                if info.source in _EJECTION and info.device in (device, None) and info.status != _IS_EJECTING:
                    return event
            case DeviceDeletedEvent() | DeviceUnplugGuestErrorEvent():
                if event.device == device:
                    return event


def _is_refusal(answer: Event) -> bool:
    """Tell whether a guest says by this that it does not let go."""
    if isinstance(answer, AcpiDeviceOstEvent):
        return answer.info.device is not None and answer.info.status != _EJECTED
    return isinstance(answer, DeviceUnplugGuestErrorEvent)
