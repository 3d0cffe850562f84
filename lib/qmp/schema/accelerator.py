# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `accelerator`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hvkit.qmp.base import Command, Struct

if TYPE_CHECKING:
    from hvkit.qmp.schema.common import HumanReadableText

#: Enumeration `Accelerator`, since 10.2.
Accelerator = Literal["hvf", "kvm", "mshv", "nvmm", "qtest", "tcg", "whpx", "xen"]


class AcceleratorInfo(Struct):
    """Struct `AcceleratorInfo`, since 10.2."""

    enabled: Accelerator
    present: list[Accelerator]


class KvmInfo(Struct):
    """Struct `KvmInfo`, since 0.14."""

    enabled: bool
    present: bool


class QueryAccelerators(Command["AcceleratorInfo"], wire_name="query-accelerators"):
    """Command `query-accelerators`, since 10.2. Returns `AcceleratorInfo`."""


class QueryKvm(Command["KvmInfo"], wire_name="query-kvm"):
    """Command `query-kvm`, since 0.14. Deprecated. Returns `KvmInfo`."""


class XAccelStats(Command["HumanReadableText"], wire_name="x-accel-stats"):
    """Command `x-accel-stats`, since 10.1. Unstable. Returns `HumanReadableText`."""
