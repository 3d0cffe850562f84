# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `authz`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Struct
from hvkit.qmp.schema.qom import ObjectOptions

#: Enumeration `QAuthZListFormat`, since 4.0.
QAuthZListFormat = Literal["exact", "glob"]

#: Enumeration `QAuthZListPolicy`, since 4.0.
QAuthZListPolicy = Literal["deny", "allow"]


class AuthZListFileProperties(ObjectOptions):
    """Struct `AuthZListFileProperties`, since 4.0. Branch of `ObjectOptions` where `qom-type` is `authz-listfile`."""

    qom_type: Literal["authz-listfile"] = "authz-listfile"
    filename: str
    refresh: bool | None = None


class AuthZListProperties(ObjectOptions):
    """Struct `AuthZListProperties`, since 4.0. Branch of `ObjectOptions` where `qom-type` is `authz-list`."""

    qom_type: Literal["authz-list"] = "authz-list"
    policy: QAuthZListPolicy | None = None
    rules: list[QAuthZListRule] | None = None


class AuthZPAMProperties(ObjectOptions):
    """Struct `AuthZPAMProperties`, since 4.0. Branch of `ObjectOptions` where `qom-type` is `authz-pam`."""

    qom_type: Literal["authz-pam"] = "authz-pam"
    service: str


class AuthZSimpleProperties(ObjectOptions):
    """Struct `AuthZSimpleProperties`, since 4.0. Branch of `ObjectOptions` where `qom-type` is `authz-simple`."""

    qom_type: Literal["authz-simple"] = "authz-simple"
    identity: str


class QAuthZListRule(Struct):
    """Struct `QAuthZListRule`, since 4.0."""

    match: str
    policy: QAuthZListPolicy
    format: QAuthZListFormat | None = None
