# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `trace`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Struct

#: Enumeration `TraceEventState`, since 2.2.
TraceEventState = Literal["unavailable", "disabled", "enabled"]


class TraceEventInfo(Struct):
    """Struct `TraceEventInfo`, since 2.2."""

    name: str
    state: TraceEventState
    vcpu: bool | None = None  # 7.2 only


class TraceEventGetState(Command["list[TraceEventInfo]"], wire_name="trace-event-get-state"):
    """Command `trace-event-get-state`, since 2.2. Returns a list of `TraceEventInfo`."""

    name: str
    vcpu: int | None = None  # 7.2 only


class TraceEventSetState(Command[None], wire_name="trace-event-set-state"):
    """Command `trace-event-set-state`, since 2.2."""

    name: str
    enable: bool
    ignore_unavailable: bool | None = None
    vcpu: int | None = None  # 7.2 only
