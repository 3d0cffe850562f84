# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `qdev`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvkit.qmp.base import Command, Event, FreeForm, free_form

if TYPE_CHECKING:
    from hvkit.qmp.schema.qom import ObjectPropertyInfo


class DeviceDeletedEvent(Event, wire_name="DEVICE_DELETED"):
    """Event `DEVICE_DELETED`, since 1.5."""

    device: str | None = None
    path: str


class DeviceUnplugGuestErrorEvent(Event, wire_name="DEVICE_UNPLUG_GUEST_ERROR"):
    """Event `DEVICE_UNPLUG_GUEST_ERROR`, since 6.2."""

    device: str | None = None
    path: str


class DeviceAdd(Command[None], wire_name="device_add"):
    """Command `device_add`, since 0.13."""

    driver: str
    bus: str | None = None
    id: str | None = None
    properties: FreeForm = free_form(factory=dict)


class DeviceDel(Command[None], wire_name="device_del"):
    """Command `device_del`, since 0.14."""

    id: str


class DeviceListProperties(Command["list[ObjectPropertyInfo]"], wire_name="device-list-properties"):
    """Command `device-list-properties`, since 1.2. Returns a list of `ObjectPropertyInfo`."""

    typename: str


class DeviceSyncConfig(Command[None], wire_name="device-sync-config"):
    """Command `device-sync-config`, since 9.2. Unstable."""

    id: str
