# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `rdma`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from hvkit.qmp.base import Event


class RdmaGidStatusChangedEvent(Event, wire_name="RDMA_GID_STATUS_CHANGED"):
    """Event `RDMA_GID_STATUS_CHANGED`, since 4.0, 7.2 only."""

    netdev: str
    gid_status: bool
    subnet_prefix: int
    interface_id: int
