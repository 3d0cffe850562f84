# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `introspect`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Any, Literal

from hvkit.qmp.base import Command, Struct, Union

#: Enumeration `JSONType`, since 2.5.
JSONType = Literal["string", "number", "int", "boolean", "null", "object", "array", "value"]

#: Enumeration `SchemaMetaType`, since 2.5.
SchemaMetaType = Literal["builtin", "enum", "array", "object", "alternate", "command", "event"]


class SchemaInfo(
    Union,
    tag="meta-type",
    branches={
        "builtin": "SchemaInfoBuiltin",
        "enum": "SchemaInfoEnum",
        "array": "SchemaInfoArray",
        "object": "SchemaInfoObject",
        "alternate": "SchemaInfoAlternate",
        "command": "SchemaInfoCommand",
        "event": "SchemaInfoEvent",
    },
):
    """Union `SchemaInfo`, since 2.5."""

    name: str
    meta_type: SchemaMetaType
    features: list[str] | None = None


class SchemaInfoBuiltin(SchemaInfo):
    """Struct `SchemaInfoBuiltin`, since 2.5. Branch of `SchemaInfo` where `meta-type` is `builtin`."""

    meta_type: Literal["builtin"] = "builtin"
    json_type: JSONType


class SchemaInfoEnum(SchemaInfo):
    """Struct `SchemaInfoEnum`, since 2.5. Branch of `SchemaInfo` where `meta-type` is `enum`."""

    meta_type: Literal["enum"] = "enum"
    members: list[SchemaInfoEnumMember]
    values: list[str]  # deprecated


class SchemaInfoArray(SchemaInfo):
    """Struct `SchemaInfoArray`, since 2.5. Branch of `SchemaInfo` where `meta-type` is `array`."""

    meta_type: Literal["array"] = "array"
    element_type: str


class SchemaInfoObject(SchemaInfo):
    """Struct `SchemaInfoObject`, since 2.5. Branch of `SchemaInfo` where `meta-type` is `object`."""

    meta_type: Literal["object"] = "object"
    members: list[SchemaInfoObjectMember]
    tag_: str | None = None
    variants: list[SchemaInfoObjectVariant] | None = None


class SchemaInfoAlternate(SchemaInfo):
    """Struct `SchemaInfoAlternate`, since 2.5. Branch of `SchemaInfo` where `meta-type` is `alternate`."""

    meta_type: Literal["alternate"] = "alternate"
    members: list[SchemaInfoAlternateMember]


class SchemaInfoCommand(SchemaInfo):
    """Struct `SchemaInfoCommand`, since 2.5. Branch of `SchemaInfo` where `meta-type` is `command`."""

    meta_type: Literal["command"] = "command"
    arg_type: str
    ret_type: str
    allow_oob: bool | None = None


class SchemaInfoEvent(SchemaInfo):
    """Struct `SchemaInfoEvent`, since 2.5. Branch of `SchemaInfo` where `meta-type` is `event`."""

    meta_type: Literal["event"] = "event"
    arg_type: str


class SchemaInfoAlternateMember(Struct):
    """Struct `SchemaInfoAlternateMember`, since 2.5."""

    type: str


class SchemaInfoEnumMember(Struct):
    """Struct `SchemaInfoEnumMember`, since 6.2."""

    name: str
    features: list[str] | None = None


class SchemaInfoObjectMember(Struct):
    """Struct `SchemaInfoObjectMember`, since 2.5."""

    name: str
    type: str
    default: Any = None
    features: list[str] | None = None


class SchemaInfoObjectVariant(Struct):
    """Struct `SchemaInfoObjectVariant`, since 2.5."""

    case: str
    type: str


class QueryQmpSchema(Command["list[SchemaInfo]"], wire_name="query-qmp-schema"):
    """Command `query-qmp-schema`, since 2.5. Returns a list of `SchemaInfo`. Allowed before the machine is made."""
