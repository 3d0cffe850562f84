# SPDX-License-Identifier: BSD-2-Clause
"""`Schema`: optional members, reachable definitions, and conflicts."""

from __future__ import annotations

import pytest
from small_schemas import command_with, schema_of, struct

from tools.qapi.facts import Definition, Item
from tools.qapi.model import SchemaConflict


@pytest.mark.parametrize(
    ("older", "newer", "is_optional"),
    [
        (struct(a=Item("int")), struct(a=Item("int")), False),
        (struct(a=Item("int", is_optional=True)), struct(a=Item("int")), True),
        (struct(a=Item("int")), struct(a=Item("int", is_optional=True)), True),
        (struct(), struct(a=Item("int")), True),
        (struct(a=Item("int")), struct(), True),
        (struct(a=Item("int")), struct(base="B"), False),
    ],
)
def test_member_is_required_if_every_version_requires_it(
    older: Definition, newer: Definition, is_optional: bool
) -> None:
    base = {"B": struct(a=Item("int"))}
    schema = schema_of({**command_with(s="S"), "S": older}, {**command_with(s="S"), "S": newer, **base})
    assert schema.members("S")["a"].is_optional is is_optional


def test_member_of_a_new_type_ignores_older_versions() -> None:
    schema = schema_of({}, {**command_with(s="S"), "S": struct(a=Item("int"))})
    assert not schema.members("S")["a"].is_optional


def test_struct_includes_the_members_of_its_predecessor() -> None:
    schema = schema_of(
        {**command_with(s="Old"), "Old": struct(a=Item("int"), gone=Item("int"))},
        {**command_with(s="New"), "New": struct(a=Item("int"))},
    )
    assert "Old" not in schema.newest
    assert schema.members("New")["gone"].is_optional


def test_member_of_a_new_branch_is_optional() -> None:
    tag = {"k": Item("K")}
    values = Definition("enum", "m", values={"x": Item()})
    branch = struct(a=Item("int"))
    schema = schema_of(
        {**command_with(u="U"), "K": values, "U": Definition("struct", "m", members=tag)},
        {
            **command_with(u="U"),
            "K": values,
            "B": branch,
            "U": Definition("union", "m", "", "", (), (), "", "k", members=tag, variants={"x": Item("B")}),
        },
    )
    assert schema.members("B")["a"].is_optional
    assert not schema.members("B")["k"].is_optional


def test_members_with_incompatible_types_raise_schema_conflict() -> None:
    schema = schema_of(
        {**command_with(s="S"), "S": struct(a=Item("str"))}, {**command_with(s="S"), "S": struct(a=Item("int"))}
    )
    with pytest.raises(SchemaConflict, match=r"S\.a: int does not accept str of version 7\.2"):
        schema.members("S")


def test_schema_omits_unreachable_definitions() -> None:
    assert list(schema_of({**command_with(s="S"), "S": struct(), "T": struct()}).newest) == ["S", "ask"]
