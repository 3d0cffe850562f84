# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `machine-common`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

#: Enumeration `S390CpuEntitlement`, since 8.2.
S390CpuEntitlement = Literal["auto", "low", "medium", "high"]
