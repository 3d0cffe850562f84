# SPDX-License-Identifier: BSD-2-Clause
"""`Classes`: unions, branches, commands and names."""

from __future__ import annotations

import pytest
from small_schemas import KEYS, command_with, schema_of, struct, text_of, union

from tools.qapi.classes import Classes
from tools.qapi.facts import Definition, Item
from tools.qapi.model import SchemaConflict


def test_struct_used_only_as_branch_becomes_a_subclass_of_the_union() -> None:
    text = text_of({**command_with(u="U"), "U": union("k", {"one": "A"}), "K": KEYS, "A": struct(a=Item("int"))})
    assert 'class U(Union, tag="k", branches={"one": "A"}):' in text
    assert "class A(U):" in text
    assert '    k: Literal["one"] = "one"\n    a: int\n' in text


def test_branch_of_two_tag_values_requires_its_tag() -> None:
    text = text_of({**command_with(u="U"), "U": union("k", {"one": "A", "two": "A"}), "K": KEYS, "A": struct()})
    assert '    k: Literal["one", "two"]\n' in text


def test_branch_with_derived_branches_keeps_the_full_tag() -> None:
    defs = {**command_with(u="U"), "U": union("k", {"one": "A", "two": "B"}), "K": KEYS}
    text = text_of({**defs, "A": struct(a=Item("int")), "B": struct(base="A")})
    assert "class A(U):" in text
    assert "class B(A):" in text
    assert 'k: Literal["two"] = "two"' in text
    assert 'Literal["one"]' not in text


def test_struct_with_other_uses_gets_a_separate_branch_class() -> None:
    text = text_of({**command_with(u="U", a="A"), "U": union("k", {"one": "A"}), "K": KEYS, "A": struct(a=Item("int"))})
    assert "class A(Struct):" in text
    assert "As a union branch: `UOne` in `U`." in text
    assert "class UOne(A, U):" in text


def test_branch_class_with_the_name_of_a_definition_gets_a_suffix() -> None:
    defs = {**command_with(u="U", a="UONE"), "U": union("k", {"one": "UONE"}), "K": KEYS, "UONE": struct()}
    assert "class UOneBranch(UONE, U):" in text_of(defs)


def test_member_with_duplicate_wire_name_raises_schema_conflict() -> None:
    defs = {**command_with(u="U", a="A"), "U": union("k", {"one": "A"}), "K": KEYS, "A": struct(tag=Item("int"))}
    with pytest.raises(SchemaConflict, match="UOne: two members have the same wire name"):
        Classes(schema_of(defs))


def test_union_in_a_union_has_branches_derived_from_both() -> None:
    inner = Definition("union", "m", tag="t", members={"t": Item("K")}, variants={"two": Item("A")})
    defs = {
        **command_with(u="U", i="I"),
        "U": union("k", {"one": "I"}),
        "I": inner,
        "K": KEYS,
        "A": struct(a=Item("int")),
    }
    text = text_of(defs)
    assert 'class UOne(I, U, tag="t", branches={"two": "UOneTwo"}):' in text
    assert "class UOneTwo(A, UOne):" in text


def test_command_shares_its_class_with_the_struct_of_its_name() -> None:
    text = text_of(
        {
            "do-it": Definition("command", "m", data="DoIt"),
            "DoIt": struct(base="B", a=Item("int")),
            "B": struct(b=Item("int")),
            **command_with(d="DoIt"),
        }
    )
    assert text.count("class DoIt(") == 1
    assert 'class DoIt(B, Command[None], wire_name="do-it"):' in text


def test_reply_with_the_name_of_its_command_gets_a_suffix() -> None:
    text = text_of({"get-it": Definition("command", "m", returns="GetIt"), "GetIt": struct()})
    assert 'class GetIt(Command["GetItReply"], wire_name="get-it"):' in text
    assert "class GetItReply(Struct):" in text


def test_unrelated_struct_with_the_name_of_a_command_raises_schema_conflict() -> None:
    with pytest.raises(SchemaConflict, match="neither the argument nor the reply"):
        Classes(schema_of({"do-it": Definition("command", "m"), "DoIt": struct(), **command_with(d="DoIt")}))


def test_member_with_irregular_name_states_its_wire_name() -> None:
    text = text_of(
        {"c": Definition("command", "m", members={"a_b": Item("int"), "c_d": Item("str", is_optional=True)})}
    )
    assert '    a_b: int = wire("a_b")\n    c_d: str | None = wire("c_d", default=None)\n' in text
