# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `vfio`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Event

#: Enumeration `QapiVfioMigrationState`, since 9.1.
QapiVfioMigrationState = Literal[
    "stop",
    "running",
    "stop-copy",
    "resuming",
    "running-p2p",
    "pre-copy",
    "pre-copy-p2p",
    "pre-copy-p2p-prepare",  # since 11.0
]


class VfioMigrationEvent(Event, wire_name="VFIO_MIGRATION"):
    """Event `VFIO_MIGRATION`, since 9.1."""

    device_id: str
    qom_path: str
    device_state: QapiVfioMigrationState
