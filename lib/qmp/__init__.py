# SPDX-License-Identifier: BSD-2-Clause
"""Typed client for the QEMU Machine Protocol (QMP).

Start with `QmpConnection`. Commands, replies and events are in `hvkit.qmp.schema`.
"""

from hvkit.qmp.base import NULL, Command, Event, GenericEvent
from hvkit.qmp.errors import (
    CommandError,
    CommandNotFound,
    CommandTimeout,
    ConnectError,
    ConnectionLost,
    DataError,
    DeviceNotActive,
    DeviceNotFound,
    EventTimeout,
    KvmMissingCapability,
    NotInThisQemu,
    ProtocolError,
    QmpError,
)
from hvkit.qmp.message import QemuVersion, QmpMessage
from hvkit.qmp.sync.connection import QmpConnection
from hvkit.qmp.sync.subscription import Subscription

__all__ = [
    "NULL",
    "Command",
    "CommandError",
    "CommandNotFound",
    "CommandTimeout",
    "ConnectError",
    "ConnectionLost",
    "DataError",
    "DeviceNotActive",
    "DeviceNotFound",
    "Event",
    "EventTimeout",
    "GenericEvent",
    "KvmMissingCapability",
    "NotInThisQemu",
    "ProtocolError",
    "QemuVersion",
    "QmpConnection",
    "QmpError",
    "QmpMessage",
    "Subscription",
]
