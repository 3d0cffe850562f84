# SPDX-License-Identifier: BSD-2-Clause
"""All classes of the schema: construction, agreement with the facts, and round trips."""

from __future__ import annotations

import json
import threading
import typing
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import attrs
import pytest

from hvkit.qmp import schema
from hvkit.qmp.base import Command, Event, Null, Struct, Union, free_form_member, members_of
from hvkit.qmp.converter import structure, unstructure
from hvkit.qmp.schema._index import MODULES
from tools.qapi.facts import Definition, Facts, Item, read_facts
from tools.qapi.naming import default_wire_name

CLASSES: list[type[Struct]] = [
    found
    for found in (getattr(schema, name) for name in MODULES)
    if isinstance(found, type) and issubclass(found, Struct)
]

#: A nesting depth beyond every chain of required members.
DEPTH = 4


def union_of(cls: type[Struct]) -> type[Union] | None:
    """Return the innermost union that a class is, or is a branch of."""
    return next((base for base in cls.__mro__ if issubclass(base, Union) and base.__dict__.get("tag")), None)


def tag_value(cls: type[Struct], union: type[Union], allowed: Any) -> str:
    """Return a tag value that selects a class."""
    values = {tag for tag, name in union.branches.items() if name == cls.__name__}
    if cls is union:
        return next((value for value in get_args(allowed) if value not in union.branches), "from-the-future")
    return min(values, default="from-the-future")


def without_none(kind: Any) -> Any:
    if get_origin(kind) is typing.Union or type(kind).__name__ == "UnionType":
        return [each for each in get_args(kind) if each is not type(None)]
    return [kind]


def value_of(kind: Any, *, is_full: bool, depth: int) -> Any:
    """Return a value of a type: of the last alternative if `is_full`, of the first otherwise."""
    kind = without_none(kind)[-1 if is_full else 0]
    if isinstance(kind, type) and issubclass(kind, Struct):
        return instance_of(kind, is_full=is_full and depth < DEPTH, depth=depth + 1)
    if get_origin(kind) is list:
        (element,) = get_args(kind)
        return [value_of(element, is_full=is_full, depth=depth)] if is_full else []
    if get_origin(kind) is Literal:
        return get_args(kind)[-1 if is_full else 0]
    if kind is Any:
        return {"any": [1, None, "thing"]}
    if kind is Null:
        return Null.NULL
    return {str: "text", int: 2**64 - 1, float: 0.5, bool: True}[kind]


def instance_of(cls: type[Struct], *, is_full: bool, depth: int = 0) -> Any:
    """Return a value of a class with all members if `is_full`, with the required ones otherwise."""
    union = union_of(cls)
    free = free_form_member(cls)
    given: dict[str, Any] = {}
    for name, member in members_of(cls).items():
        if name == free:
            given[name] = {"more_of-it": 1} if is_full else {}
        elif union is not None and member.wire_name == union.tag:
            if member.default is attrs.NOTHING or is_full:
                given[name] = tag_value(cls, union, without_none(member.type)[0])
        elif is_full or member.default is attrs.NOTHING:
            given[name] = value_of(member.type, is_full=is_full, depth=depth)
    return cls(**given)


@pytest.mark.parametrize("is_full", [False, True], ids=["required members", "all members"])
def test_values_of_every_class_survive_a_round_trip(is_full: bool) -> None:
    for cls in CLASSES:
        value = instance_of(cls, is_full=is_full)
        assert attrs.has(cls)
        plain = json.loads(json.dumps(unstructure(value)))
        assert structure(plain, cls) == value, cls
        assert unstructure(structure(plain, cls)) == plain


def test_values_of_every_branch_structure_as_the_branch() -> None:
    branches = 0
    for union in (cls for cls in CLASSES if issubclass(cls, Union) and cls.tag):
        for tag, name in union.branches.items():
            branch = getattr(schema, name)
            assert issubclass(branch, union), f"{name} is not a {union.__name__}"
            (tag_name,) = [name for name, member in members_of(branch).items() if member.wire_name == union.tag]
            value = instance_of(branch, is_full=False)
            if not branch.branches:
                value = value.evolve(**{tag_name: tag})
            assert structure(unstructure(value), union) == value
            assert type(structure(unstructure(value), union)) is branch
            branches += 1
    assert branches > 230


def test_schema_has_the_expected_number_of_commands_and_events() -> None:
    assert len(schema.commands()) == 247
    assert len(schema.events()) == 59
    assert len(schema.agent_commands()) == 44


@pytest.fixture(scope="module")
def facts() -> Facts:
    return read_facts()


def class_of(name: str, definition: Definition) -> type[Struct] | None:
    if definition.kind == "command":
        return schema.command(name)
    if definition.kind == "event":
        return schema.event(name)
    if definition.kind not in ("struct", "union") or name not in MODULES:
        return None
    # If a command has the name of its reply, the reply has a suffix.
    found: type[Struct] = getattr(schema, f"{name}Reply" if f"{name}Reply" in MODULES else name)
    return found


def flat(definitions: dict[str, Definition], name: str) -> dict[str, Item]:
    definition = definitions[name]
    members: dict[str, Item] = {}
    for base in (definition.base, definition.data):
        members |= flat(definitions, base) if base else {}
    return {**members, **definition.members}


def definitions_with_classes(facts: Facts) -> Iterator[tuple[str, dict[str, Item], type[Struct]]]:
    """Yield place, members and class of every definition in every version; for a branch, with the union's members."""
    for version in facts.versions:
        for name in ("qmp", "qga"):
            definitions = facts.as_of(version, name)
            for each, definition in definitions.items():
                found = class_of(each, definition)
                if found is None or (issubclass(found, Command) and found.whole_argument):
                    continue
                union = union_of(found)
                if union is None or union is found:
                    yield f"{each} of {version}", flat(definitions, each), found
                elif union.__name__ in definitions:
                    members = flat(definitions, union.__name__) | flat(definitions, each)
                    yield f"{each} of {version}", members, found


def test_classes_have_every_member_of_every_version(facts: Facts) -> None:
    compared = 0
    for where, members, cls in definitions_with_classes(facts):
        assert members.keys() <= {member.wire_name for member in members_of(cls).values()}, where
        compared += 1
    assert compared > 2200


def test_members_are_required_only_if_every_version_requires_them(facts: Facts) -> None:
    for where, members, cls in definitions_with_classes(facts):
        for member in members_of(cls).values():
            if member.default is attrs.NOTHING:
                assert member.wire_name in members, f"{where}: {member.wire_name}"
                assert not members[member.wire_name].is_optional, f"{where}: {member.wire_name}"


def test_python_names_map_to_wire_names(facts: Facts) -> None:
    on_wire = {
        member
        for records in facts.schemas.values()
        for record in records.values()
        for member in record.get("members", {})
    }
    for cls in CLASSES:
        whole = {cls.whole_argument} if issubclass(cls, Command) else set()
        for name, member in members_of(cls).items():
            if name in whole or name == free_form_member(cls):
                continue
            assert member.wire_name in on_wire
            if default_wire_name(name) != member.wire_name:
                assert "_" in member.wire_name
                assert name.rstrip("_") == member.wire_name


def test_events_and_commands_have_their_wire_names() -> None:
    for name in (*schema.commands(), *schema.agent_commands()):
        assert schema.command(name).wire_name == name
        assert issubclass(schema.command(name), Command)
        assert schema.command(name).reply_type is not None
    for name in schema.events():
        assert schema.event(name).wire_name == name
        assert issubclass(schema.event(name), Event)


def test_classes_have_docstrings() -> None:
    assert [cls.__name__ for cls in CLASSES if not cls.__doc__] == []


def test_class_first_used_by_many_threads_is_built_once() -> None:
    for _ in range(30):
        fresh_base = type("FreshBase", (Struct,), {"__annotations__": {"a": "int"}, "__module__": __name__})
        fresh = type(
            "Fresh", (fresh_base,), {"__annotations__": {"b": "int | None"}, "b": None, "__module__": __name__}
        )
        start = threading.Barrier(8)
        made: list[Any] = []

        def use(fresh: Any = fresh, start: threading.Barrier = start, made: list[Any] = made) -> None:
            start.wait(10)
            made.append(fresh(a=1))

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert made == [fresh(a=1)] * 8
