# SPDX-License-Identifier: BSD-2-Clause
"""The types in a reply to `query-qmp-schema`, converted to schema classes on first use.

QEMU replaces the names of types by numbers; commands and events keep theirs. Converting an entity only when it is
needed saves the conversion of about a thousand other types.

Source: QAPI module `introspect`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, Final

from hvkit.qmp.converter import structure
from hvkit.qmp.errors import DataError
from hvkit.qmp.schema import (
    SchemaInfo,
    SchemaInfoAlternate,
    SchemaInfoArray,
    SchemaInfoBuiltin,
    SchemaInfoEnum,
    SchemaInfoEnumMember,
    SchemaInfoObject,
    SchemaInfoObjectMember,
)

QUERY: Final = "query-qmp-schema"

#: The Python types of the plain data that a builtin type accepts, by its JSON type.
_PYTHON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "boolean": (bool,),
    "int": (int,),
    "number": (int, float),
    "null": (NoneType,),
}
#: All Python types of plain data.
_ALL_PYTHON_TYPES: Final = (dict, list, str, bool, int, float, NoneType)


class SchemaGraph:
    """The entities (commands, events and types) of one schema, by name.

    Args:
        reply: the reply to `query-qmp-schema`, as plain data. It is kept and must not be modified.

    Attributes:
        reply: the reply.
        kinds: the meta-type of each entity, by name.

    Every method raises DataError if an entity that it needs is missing or malformed.
    """

    def __init__(self, reply: Any) -> None:
        try:
            self._plain = {entity["name"]: entity for entity in reply}
            self.kinds: Mapping[str, str] = {name: entity["meta-type"] for name, entity in self._plain.items()}
        except (TypeError, KeyError, AttributeError):
            raise DataError(QUERY, "expected an array of objects with a name and a meta-type") from None
        self.reply = reply
        # Results by name, filled on first use.
        self._entities: dict[str, SchemaInfo] = {}
        self._expanded: dict[str, tuple[SchemaInfo, ...]] = {}
        self._members: dict[str, dict[str, SchemaInfoObjectMember]] = {}
        self._values: dict[str, dict[str, SchemaInfoEnumMember]] = {}
        self._by_python_type: dict[str, dict[type, SchemaInfo]] = {}

    def entity(self, name: str) -> SchemaInfo:
        """Return an entity."""
        entity = self._entities.get(name)
        if entity is None:
            plain = self._plain.get(name)
            if plain is None:
                raise DataError(QUERY, f"there is no type {name!r}")
            entity = self._entities[name] = structure(plain, SchemaInfo, where=f"{QUERY}[{name}]")
        return entity

    def expand(self, name: str) -> tuple[SchemaInfo, ...]:
        """Return a type with arrays replaced by their elements and alternates by their alternatives."""
        expanded = self._expanded.get(name)
        if expanded is None:
            found: dict[str, SchemaInfo] = {}
            waiting = [name]
            for each in waiting:  # the loop extends the list
                entity = self.entity(each)
                if each in found:
                    continue
                found[each] = entity
                if isinstance(entity, SchemaInfoArray):
                    waiting.append(entity.element_type)
                elif isinstance(entity, SchemaInfoAlternate):
                    waiting += [alternative.type for alternative in entity.members]
            replaced = (SchemaInfoArray, SchemaInfoAlternate)
            expanded = self._expanded[name] = tuple(each for each in found.values() if not isinstance(each, replaced))
        return expanded

    def members(self, entity: SchemaInfo) -> dict[str, SchemaInfoObjectMember]:
        """Return the members of an object by name, without those of its branches; empty for other types."""
        members = self._members.get(entity.name)
        if members is None:
            listed = entity.members if isinstance(entity, SchemaInfoObject) else ()
            members = self._members[entity.name] = {member.name: member for member in listed}
        return members

    def values(self, entity: SchemaInfo) -> dict[str, SchemaInfoEnumMember]:
        """Return the values of an enumeration by name; empty for other types."""
        values = self._values.get(entity.name)
        if values is None:
            listed = entity.members if isinstance(entity, SchemaInfoEnum) else ()
            values = self._values[entity.name] = {member.name: member for member in listed}
        return values

    def by_python_type(self, name: str) -> dict[type, SchemaInfo]:
        """Return the types that accept plain data, by its Python type; an alternate has several."""
        accepting = self._by_python_type.get(name)
        if accepting is None:
            entity = self.entity(name)
            names = [each.type for each in entity.members] if isinstance(entity, SchemaInfoAlternate) else [name]
            accepting = {kind: each for each in map(self.entity, names) for kind in _python_types(each)}
            self._by_python_type[name] = accepting
        return accepting


def branch_type(entity: SchemaInfo, tag: str, value: object) -> str | None:
    """Return the name of the branch of a union for a value of its tag.

    None if the member is not the tag, or the value has no branch.
    """
    if isinstance(entity, SchemaInfoObject) and entity.tag_ == tag:
        return next((each.type for each in entity.variants or () if each.case == value), None)
    return None


def json_type(entity: SchemaInfo) -> str:
    """Return the JSON type of an entity as a word."""
    if isinstance(entity, SchemaInfoBuiltin):
        return entity.json_type
    return "string" if isinstance(entity, SchemaInfoEnum) else str(entity.meta_type)


def _python_types(entity: SchemaInfo) -> tuple[type, ...]:
    """Return the Python types that an entity accepts; all of them if it accepts any value or is of an unknown kind."""
    if isinstance(entity, SchemaInfoObject):
        return (dict,)
    if isinstance(entity, SchemaInfoArray):
        return (list,)
    if isinstance(entity, SchemaInfoEnum):
        return (str,)
    if isinstance(entity, SchemaInfoBuiltin):
        return _PYTHON_TYPES.get(entity.json_type, _ALL_PYTHON_TYPES)
    return _ALL_PYTHON_TYPES
