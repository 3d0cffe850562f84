# SPDX-License-Identifier: BSD-2-Clause
"""Python names for the names in the schema."""

from __future__ import annotations

import keyword
import re

#: Attributes that the classes of `hvkit.qmp.base` define, by kind of definition.
_STRUCT_ATTRIBUTES = frozenset({"unknown", "with_unknown", "evolve"})
TAKEN_ATTRIBUTES = {
    "struct": _STRUCT_ATTRIBUTES,
    "union": _STRUCT_ATTRIBUTES | {"tag", "branches"},
    "command": _STRUCT_ATTRIBUTES | {"wire_name", "reply_type", "whole_argument", "has_reply", "out_of_band"},
    "event": _STRUCT_ATTRIBUTES | {"wire_name", "timestamp", "stamped"},
}

#: Names used in annotations; a member with such a name would shadow it for type checkers.
_ANNOTATION_NAMES = frozenset({"str", "int", "bool", "float", "list", "Any", "Literal"})


def camel_case(name: str) -> str:
    """Return the class name for a command or a tag value; only the first letter of each part changes."""
    return "".join(part[:1].upper() + part[1:] for part in re.split("[-_]", name))


def event_class_name(name: str) -> str:
    """Return the class name for an event: `SHUTDOWN` becomes `ShutdownEvent`."""
    return camel_case(name.lower()) + "Event"


def module_name(module: str) -> str:
    """Return the name of the Python module for a QAPI module."""
    return module.replace("-", "_")


def member_name(wire_name: str, kind: str) -> str:
    """Return the Python name for a member of a struct, union, command or event (`kind`)."""
    name = wire_name.replace("-", "_")
    if keyword.iskeyword(name) or name in _ANNOTATION_NAMES or name in TAKEN_ATTRIBUTES[kind]:
        name += "_"
    if not name.isidentifier() or name.startswith("_") or name.endswith("__"):
        raise ValueError(f"member {wire_name!r} cannot be a Python name")
    return name


def default_wire_name(name: str) -> str:
    """Return the wire name for a Python name, if the class does not state another one."""
    return name.removesuffix("_").replace("_", "-")


def version_key(version: str) -> tuple[int, ...]:
    """Return the sort key of a version."""
    return tuple(int(part) for part in version.split("."))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return the sort key of an imported name, as ruff orders them: numbers by value, ignoring case."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name.lower()) if part]
