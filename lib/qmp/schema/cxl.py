# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `cxl`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Struct

#: Enumeration `CxlCorErrorType`, since 8.0.
CxlCorErrorType = Literal[
    "cache-data-ecc",
    "mem-data-ecc",
    "crc-threshold",
    "retry-threshold",
    "cache-poison-received",
    "mem-poison-received",
    "physical",
]

#: Enumeration `CxlEventLog`, since 8.1.
CxlEventLog = Literal["informational", "warning", "failure", "fatal"]

#: Enumeration `CxlExtentRemovalPolicy`, since 9.1.
CxlExtentRemovalPolicy = Literal["tag-based", "prescriptive"]

#: Enumeration `CxlExtentSelectionPolicy`, since 9.1.
CxlExtentSelectionPolicy = Literal["free", "contiguous", "prescriptive", "enable-shared-access"]

#: Enumeration `CxlUncorErrorType`, since 8.0.
CxlUncorErrorType = Literal[
    "cache-data-parity",
    "cache-address-parity",
    "cache-be-parity",
    "cache-data-ecc",
    "mem-data-parity",
    "mem-address-parity",
    "mem-be-parity",
    "mem-data-ecc",
    "reinit-threshold",
    "rsvd-encoding",
    "poison-received",
    "receiver-overflow",
    "internal",
    "cxl-ide-tx",
    "cxl-ide-rx",
]


class CXLCommonEventBase(Struct):
    """Struct `CXLCommonEventBase`, 11.1 and later."""

    path: str
    log: CxlEventLog
    flags: int
    maint_op_class: int | None = None
    maint_op_subclass: int | None = None
    ld_id: int | None = None
    head_id: int | None = None


class CXLDRAMEvent(CXLCommonEventBase):
    """Struct `CXLDRAMEvent`, 11.1 and later."""

    dpa: int
    descriptor: int
    type: int
    transaction_type: int
    channel: int | None = None
    rank: int | None = None
    nibble_mask: int | None = None
    bank_group: int | None = None
    bank: int | None = None
    row: int | None = None
    column: int | None = None
    correction_mask: list[int] | None = None
    component_id: str | None = None  # 11.1 and later
    is_comp_id_pldm: bool | None = None  # 11.1 and later
    sub_channel: int | None = None  # 11.1 and later
    cme_ev_flags: int | None = None  # 11.1 and later
    cvme_count: int | None = None  # 11.1 and later
    sub_type: int | None = None  # 11.1 and later


class CXLGeneralMediaEvent(CXLCommonEventBase):
    """Struct `CXLGeneralMediaEvent`, 11.1 and later."""

    dpa: int
    descriptor: int
    type: int
    transaction_type: int
    channel: int | None = None
    rank: int | None = None
    device: int | None = None
    component_id: str | None = None
    is_comp_id_pldm: bool | None = None  # 11.1 and later
    cme_ev_flags: int | None = None  # 11.1 and later
    cme_count: int | None = None  # 11.1 and later
    sub_type: int | None = None  # 11.1 and later


class CXLMemModuleEvent(CXLCommonEventBase):
    """Struct `CXLMemModuleEvent`, 11.1 and later."""

    type: int
    health_status: int
    media_status: int
    additional_status: int
    life_used: int
    temperature: int
    dirty_shutdown_count: int
    corrected_volatile_error_count: int
    corrected_persistent_error_count: int
    component_id: str | None = None  # 11.1 and later
    is_comp_id_pldm: bool | None = None  # 11.1 and later
    sub_type: int | None = None  # 11.1 and later


class CXLUncorErrorRecord(Struct):
    """Struct `CXLUncorErrorRecord`, since 8.0."""

    type: CxlUncorErrorType
    header: list[int]


class CxlDynamicCapacityExtent(Struct):
    """Struct `CxlDynamicCapacityExtent`, since 9.1."""

    offset: int
    len: int


class CxlAddDynamicCapacity(Command[None], wire_name="cxl-add-dynamic-capacity"):
    """Command `cxl-add-dynamic-capacity`, since 9.1. Unstable."""

    path: str
    host_id: int
    selection_policy: CxlExtentSelectionPolicy
    region: int
    tag: str | None = None
    extents: list[CxlDynamicCapacityExtent]


class CxlInjectCorrectableError(Command[None], wire_name="cxl-inject-correctable-error"):
    """Command `cxl-inject-correctable-error`, since 8.0."""

    path: str
    type: CxlCorErrorType


class CxlInjectDramEvent(CXLDRAMEvent, Command[None], wire_name="cxl-inject-dram-event"):
    """Command `cxl-inject-dram-event`, since 8.1."""


class CxlInjectGeneralMediaEvent(CXLGeneralMediaEvent, Command[None], wire_name="cxl-inject-general-media-event"):
    """Command `cxl-inject-general-media-event`, since 8.1."""


class CxlInjectMemoryModuleEvent(CXLMemModuleEvent, Command[None], wire_name="cxl-inject-memory-module-event"):
    """Command `cxl-inject-memory-module-event`, since 8.1."""


class CxlInjectPoison(Command[None], wire_name="cxl-inject-poison"):
    """Command `cxl-inject-poison`, since 8.1."""

    path: str
    start: int
    length: int


class CxlInjectUncorrectableErrors(Command[None], wire_name="cxl-inject-uncorrectable-errors"):
    """Command `cxl-inject-uncorrectable-errors`, since 8.0."""

    path: str
    errors: list[CXLUncorErrorRecord]


class CxlReleaseDynamicCapacity(Command[None], wire_name="cxl-release-dynamic-capacity"):
    """Command `cxl-release-dynamic-capacity`, since 9.1. Unstable."""

    path: str
    host_id: int
    removal_policy: CxlExtentRemovalPolicy
    forced_removal: bool | None = None
    sanitize_on_release: bool | None = None
    region: int
    tag: str | None = None
    extents: list[CxlDynamicCapacityExtent]
