# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `acpi-hest`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from hvkit.qmp.base import Command


class InjectGhesV2Error(Command[None], wire_name="inject-ghes-v2-error"):
    """Command `inject-ghes-v2-error`, since 10.2. Unstable."""

    cper: str
