# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `ebpf`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Struct

#: Enumeration `EbpfProgramID`, since 9.0. Needs CONFIG_EBPF.
EbpfProgramID = Literal["rss"]


class EbpfObject(Struct):
    """Struct `EbpfObject`, since 9.0. Needs CONFIG_EBPF."""

    object: str


class RequestEbpf(Command["EbpfObject"], wire_name="request-ebpf"):
    """Command `request-ebpf`, since 9.0. Needs CONFIG_EBPF. Returns `EbpfObject`."""

    id: EbpfProgramID
