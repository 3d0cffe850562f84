# SPDX-License-Identifier: BSD-2-Clause
"""Hot-removal of a device, which the guest has to release.

`device_del` only asks the guest to release the device. A guest that is booting misses the request, so it is repeated. A
guest that refuses may report that or not. Until QEMU reports that the device is removed, the guest may use its backend.
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

#: Seconds between two requests to the guest.
_REQUEST_INTERVAL_S: Final = 2.0
#: The _OST source events for the ejection of a vCPU or a DIMM, requested by the node or by the guest, and the _OST
#: status codes. Source: ACPI specification, "_OST (OSPM Status Indication)".
_EJECTION: Final = frozenset({0x003, 0x103})
_EJECTED: Final = 0x00
_IS_EJECTING: Final = 0x84
#: Seconds for QEMU to release the block nodes of a removed device. It takes a few milliseconds.
_RELEASE_S: Final = 10.0


def is_plugged_in(monitor: QmpConnection, device: str) -> bool:
    """Whether the instance has a device of that id.

    Raises:
        QmpError: QEMU does not answer.
    """
    return any(child.name == device for child in monitor.execute(QomList(path=DEVICES_PATH)))


def unplug(monitor: QmpConnection, device: str, *, timeout_s: float) -> HotplugCause | None:
    """Ask the guest to release a device, and wait until it has.

    After success the instance does not have the device; see `await_release` for its block nodes. If the guest does not
    release it, the device works as before, and the guest may release it later.

    Args:
        monitor: a monitor of the instance.
        device: the id of the device.
        timeout_s: seconds for the guest to release it.

    Returns:
        None after success; otherwise GUEST_REFUSED or GUEST_SILENT.

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
                # An unplug is in progress already; QEMU has no error class of its own for that.
                if not is_plugged_in(monitor, device):
                    return None
            answer = _await_answer(events, device, min(_REQUEST_INTERVAL_S, deadline.remaining_s()))
            if isinstance(answer, DeviceDeletedEvent) or not is_plugged_in(monitor, device):
                return None
            if answer is not None and _is_refusal(answer):
                return HotplugCause.GUEST_REFUSED
            if deadline.remaining_s() <= 0:
                return HotplugCause.GUEST_SILENT


def await_release(monitor: QmpConnection, nodes: Collection[str]) -> None:
    """Wait until QEMU has released the block nodes of a removed device.

    QEMU unparents a device first, and destroys it a moment later, when none of its threads uses it (RCU); until then
    the block nodes are in use. The event of the destruction may be sent before the subscription, so the block nodes
    are queried, and the event only ends the wait for the next query.

    Also returns if they are still in use after ten seconds, which only a fault in QEMU can cause; `blockdev-del` then
    reports the error.

    Raises:
        QmpError: QEMU does not answer.
    """
    deadline = Deadline(_RELEASE_S)
    with monitor.subscribe(DeviceDeletedEvent) as events:
        while any(each.inserted and each.inserted.node_name in nodes for each in monitor.execute(QueryBlock())):
            try:
                events.get(timeout=deadline.remaining_s())
            except EventTimeout:
                return


def _await_answer(events: Subscription[Event], device: str, timeout_s: float) -> Event | None:
    """Wait for an event about this device, not about a part of it; None if there is none in time.

    QEMU 7.2 to 11.1 send no DEVICE_DELETED for a vCPU, and an _OST event about a removed device has no device id.
    """
    deadline = Deadline(timeout_s)
    while True:
        try:
            event = events.get(timeout=deadline.remaining_s())
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
    """Whether the guest reports by this event that it does not release the device."""
    if isinstance(answer, AcpiDeviceOstEvent):
        return answer.info.device is not None and answer.info.status != _EJECTED
    return isinstance(answer, DeviceUnplugGuestErrorEvent)
