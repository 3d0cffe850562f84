# SPDX-License-Identifier: BSD-2-Clause
"""What the schema's names are called in Python."""

from __future__ import annotations

import keyword
import re

#: Names that the classes of `hvkit.qmp.base` have themselves, by the kind of class that is made.
_STRUCT_ATTRIBUTES = frozenset({"unknown", "with_unknown", "evolve"})
TAKEN_ATTRIBUTES = {
    "struct": _STRUCT_ATTRIBUTES,
    "union": _STRUCT_ATTRIBUTES | {"tag", "branches"},
    "command": _STRUCT_ATTRIBUTES | {"wire_name", "reply_type", "whole_argument", "has_reply", "out_of_band"},
    "event": _STRUCT_ATTRIBUTES | {"wire_name", "timestamp", "stamped"},
}

#: Names that annotations use: a member of that name would hide them from type checkers.
_ANNOTATION_NAMES = frozenset({"str", "int", "bool", "float", "list", "Any", "Literal"})


def camel_case(name: str) -> str:
    """Return a command's name, or a tag's value, as a class name: only the first letter of each part changes."""
    return "".join(part[:1].upper() + part[1:] for part in re.split("[-_]", name))


def event_class_name(name: str) -> str:
    """Return the class name of an event: `SHUTDOWN` is `ShutdownEvent`."""
    return camel_case(name.lower()) + "Event"


def module_name(module: str) -> str:
    """Return the Python module that holds a QAPI module's definitions."""
    return module.replace("-", "_")


def member_name(wire_name: str, kind: str) -> str:
    """Return the Python name of a member of a struct, union, command or event (`kind`)."""
    name = wire_name.replace("-", "_")
    if keyword.iskeyword(name) or name in _ANNOTATION_NAMES or name in TAKEN_ATTRIBUTES[kind]:
        name += "_"
    if not name.isidentifier() or name.startswith("_") or name.endswith("__"):
        raise ValueError(f"member {wire_name!r} has no Python name")
    return name


def ruled_wire_name(name: str) -> str:
    """Return the wire name that a member's Python name stands for where nothing else is said."""
    return name.removesuffix("_").replace("_", "-")


def version_key(version: str) -> tuple[int, ...]:
    """Return what versions are ordered by."""
    return tuple(int(part) for part in version.split("."))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return what imported names are ordered by, as ruff does: numbers by their value, and no regard to case."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name.lower()) if part]
