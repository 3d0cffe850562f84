# SPDX-License-Identifier: BSD-2-Clause
"""Reading facts from a source tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.qapi.facts import Definition, Item
from tools.qapi.source_tree import (
    SchemaSyntaxError,
    condition_text,
    documented_versions,
    parse,
    read_definition,
    read_source_tree,
)

NO_VERSIONS: tuple[str, dict[str, str]] = ("", {})


def definition(text: str, module: str = "m") -> Definition:
    ((expression, _),) = parse(text)
    return read_definition(expression, module, NO_VERSIONS)


def test_parse_returns_expressions_without_comments() -> None:
    text = (
        "# a comment\n{ 'a': ['b', 'c'],  # another\n  'd': { 'e': true, 'f': false, 'g': null } }\n{ 'h': 'it\\'s' }"
    )
    assert [expression for expression, _ in parse(text)] == [
        {"a": ["b", "c"], "d": {"e": True, "f": False, "g": None}},
        {"h": "it's"},
    ]


def test_parse_returns_the_offset_of_each_expression() -> None:
    assert [offset for _, offset in parse("{}\n\n{}")] == [0, 4]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{ 'a': 1 }", "f.json:1: unexpected '1 }'"),
        ("\n\n%", "f.json:3: unexpected '%'"),
        ("{ 'a' 'b' }", "f.json: missing colon after 'a'"),
        ("{ 'a': [", "f.json: unexpected end of file"),
        ("}", "f.json: unexpected '}'"),
    ],
)
def test_parse_of_invalid_text_raises_schema_syntax_error(text: str, problem: str) -> None:
    with pytest.raises(SchemaSyntaxError) as caught:
        list(parse(text, "f.json"))
    assert str(caught.value) == problem


COMMENTED = """
##
# @Other:
#
# Since: 1.0
##
{ 'struct': 'Other', 'data': {} }

##
# @Thing:
#
# A thing.
#
# @old: here from the start
#
# @new: came later (since 8.1)
#
# Features:
#
# @deprecated: since 9.0 it is
#
# Since: 2.3
##
{ 'struct': 'Thing', 'data': { 'old': 'int', 'new': 'int' } }

{ 'struct': 'Bare', 'data': {} }
"""


def test_documented_versions_uses_the_comment_of_the_expression() -> None:
    offsets = [offset for _, offset in parse(COMMENTED)]
    assert documented_versions(COMMENTED, offsets[0]) == ("1.0", {})
    own, members = documented_versions(COMMENTED, offsets[1])
    assert own == "2.3"
    assert members["new"] == "8.1"
    assert "old" not in members


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (None, ""),
        ("A", "A"),
        ({"not": "A"}, "!A"),
        ({"all": ["A", "B"]}, "A && B"),
        ({"any": ["A", {"not": "B"}]}, "A || !B"),
        ({"all": ["A", {"any": ["B", "C"]}]}, "A && (B || C)"),
        ({"not": {"any": ["A", "B"]}}, "!(A || B)"),
    ],
)
def test_condition_text_returns_one_line(condition: object, text: str) -> None:
    assert condition_text(condition) == text


def test_read_definition_of_a_struct() -> None:
    read = definition(
        "{ 'struct': 'S', 'base': 'B', 'if': 'CONFIG_X', 'features': ['unstable'], 'data': { 'a': 'int',"
        " '*b': ['str'], '*c': { 'type': 'size', 'if': 'CONFIG_Y', 'features': [{ 'name': 'deprecated' }] } } }"
    )
    assert read == Definition(
        kind="struct",
        module="m",
        base="B",
        condition="CONFIG_X",
        features=("unstable",),
        members={
            "a": Item(type="int"),
            "b": Item(type="[str]", is_optional=True),
            "c": Item(type="size", is_optional=True, condition="CONFIG_Y", features=("deprecated",)),
        },
    )


def test_read_definition_of_unions_with_members_and_with_a_base() -> None:
    own = definition("{ 'union': 'U', 'base': { 'k': 'K' }, 'discriminator': 'k', 'data': { 'x': 'X' } }")
    assert (own.tag, own.base, own.members, own.variants) == ("k", "", {"k": Item("K")}, {"x": Item("X")})
    named = definition("{ 'union': 'U', 'base': 'B', 'discriminator': 'k', 'data': {} }")
    assert (named.base, named.members) == ("B", {})


def test_read_definition_of_an_enumeration() -> None:
    read = definition("{ 'enum': 'E', 'data': [ 'a', { 'name': 'b', 'if': 'CONFIG_X' } ] }")
    assert read.values == {"a": Item(), "b": Item(condition="CONFIG_X")}


def test_read_definition_of_an_alternate() -> None:
    read = definition("{ 'alternate': 'A', 'data': { 'one': 'str', 'more': ['str'] } }")
    assert read.members == {"one": Item("str"), "more": Item("[str]")}


def test_read_definition_of_a_command_with_flags() -> None:
    read = definition(
        "{ 'command': 'c', 'data': 'S', 'boxed': true, 'returns': ['T'], 'allow-oob': true, 'allow-preconfig': true,"
        " 'coroutine': true, 'gen': false, 'success-response': false }"
    )
    assert (read.data, read.returns, read.members) == ("S", "[T]", {})
    assert read.flags == ("oob", "preconfig", "coroutine", "boxed", "no-gen", "no-success-response")


def test_read_source_tree_follows_includes_once(tmp_path: Path) -> None:
    qapi = tmp_path / "qapi"
    qapi.mkdir()
    (qapi / "qapi-schema.json").write_text(
        "{ 'pragma': {} }\n{ 'include': 'one.json' }\n{ 'include': 'two-x.json' }\n{ 'event': 'MAIN' }"
    )
    (qapi / "one.json").write_text("{ 'include': 'two-x.json' }\n{ 'struct': 'One', 'data': {} }")
    (qapi / "two-x.json").write_text("{ 'struct': 'Two', 'data': {} }")
    tree = read_source_tree(qapi / "qapi-schema.json")
    assert {name: each.module for name, each in tree.definitions.items()} == {
        "One": "one",
        "Two": "two-x",
        "MAIN": "main",
    }
    assert tree.modules == ("one", "two-x")


def test_read_source_tree_with_duplicate_name_raises_schema_syntax_error(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{ 'struct': 'S', 'data': {} } { 'enum': 'S', 'data': [] }")
    with pytest.raises(SchemaSyntaxError, match="S is defined twice"):
        read_source_tree(tmp_path / "s.json")
