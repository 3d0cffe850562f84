# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `machine-s390x`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hvkit.qmp.base import Command, Event, Struct

if TYPE_CHECKING:
    from hvkit.qmp.schema.machine_common import S390CpuEntitlement

#: Enumeration `S390CpuPolarization`, since 8.2.
S390CpuPolarization = Literal["horizontal", "vertical"]


class CpuPolarizationInfo(Struct):
    """Struct `CpuPolarizationInfo`, since 8.2."""

    polarization: S390CpuPolarization


class CpuPolarizationChangeEvent(Event, wire_name="CPU_POLARIZATION_CHANGE"):
    """Event `CPU_POLARIZATION_CHANGE`, since 8.2. Unstable."""

    polarization: S390CpuPolarization


class SclpCpiInfoAvailableEvent(Event, wire_name="SCLP_CPI_INFO_AVAILABLE"):
    """Event `SCLP_CPI_INFO_AVAILABLE`, since 10.2. Unstable."""


class QueryS390xCpuPolarization(Command["CpuPolarizationInfo"], wire_name="query-s390x-cpu-polarization"):
    """Command `query-s390x-cpu-polarization`, since 8.2. Unstable. Returns `CpuPolarizationInfo`."""


class SetCpuTopology(Command[None], wire_name="set-cpu-topology"):
    """Command `set-cpu-topology`, since 8.2. Unstable."""

    core_id: int
    socket_id: int | None = None
    book_id: int | None = None
    drawer_id: int | None = None
    entitlement: S390CpuEntitlement | None = None
    dedicated: bool | None = None
