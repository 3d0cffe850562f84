# SPDX-License-Identifier: BSD-2-Clause
"""Write which versions of QEMU have what not all of them have: for errors that say why something is missing."""

from __future__ import annotations

from collections.abc import Mapping

from tools.qapi.classes import Classes, quoted
from tools.qapi.render import LICENSE_LINE, limits

_HEAD = f'''{LICENSE_LINE}
"""Which versions of QEMU have what not all known ones have. Made by `make schema`: do not edit."""

from typing import Final
'''


def since_text(monitor: Classes) -> str:
    """Return the text of the module that says what the versions differ in."""
    return (
        _HEAD
        + _table("Commands and events, by wire name.", "TOP_LEVEL", _top_level(monitor))
        + _table("Members, by ``<class that declares it>.<wire name>``.", "MEMBERS", _members(monitor))
        + _table("Values of enumerations, by ``<enumeration>.<value>``.", "VALUES", _values(monitor))
    )


def _table(comment: str, name: str, entries: Mapping[str, str]) -> str:
    lines = [f"    {quoted(key)}: {quoted(words)},\n" for key, words in sorted(entries.items()) if words]
    return f"\n#: {comment}\n{name}: Final = {{\n{''.join(lines)}}}\n"


def _top_level(classes: Classes) -> dict[str, str]:
    schema = classes.schema
    return {
        name: limits(schema.versions_of(name), schema.versions, schema.newest[name].since)
        for name in schema.names("command", "event")
    }


def _members(classes: Classes) -> dict[str, str]:
    return {
        f"{made.name}.{field.member.name}": limits(
            field.member.versions, field.member.owner_versions, field.member.item.since
        )
        for made in classes.classes.values()
        for field in made.fields
        if field.member is not None and not field.narrowed_to
    }


def _values(classes: Classes) -> dict[str, str]:
    schema = classes.schema
    return {
        f"{alias.name}.{value}": limits(
            schema.item_versions(alias.definition_name, value), schema.versions_of(alias.definition_name), item.since
        )
        for alias in classes.aliases.values()
        for value, item in schema.newest[alias.definition_name].values.items()
    }
