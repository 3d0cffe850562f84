# SPDX-License-Identifier: BSD-2-Clause
"""The generator: rules on small schemas, and that what is committed is what it writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tools.qapi import generate as command
from tools.qapi.classes import Classes
from tools.qapi.facts import Definition, Facts, Item, read_facts
from tools.qapi.generate import SCHEMA_DIR, differing, generate, main
from tools.qapi.merge import merge
from tools.qapi.model import Schema, SchemaConflict
from tools.qapi.naming import camel_case, event_class_name, member_name, ruled_wire_name
from tools.qapi.render import Writer, limits, refuse_cycles

EVERY = ("7.2", "10.0", "11.1")


def schema_of(*versions: Mapping[str, Definition]) -> Schema:
    merged = merge(dict(zip(EVERY, versions, strict=False)))
    return Schema(Facts(EVERY[: len(versions)], {}, {}, {"qmp": merged, "qga": {}}), "qmp")


def text_of(*versions: Mapping[str, Definition]) -> str:
    return "\n".join(Writer(Classes(schema_of(*versions))).modules().values())


def struct(base: str = "", **members: Item) -> Definition:
    return Definition(
        "struct", "m", base=base, members={name.replace("_", "-"): item for name, item in members.items()}
    )


def asks(**members: str) -> dict[str, Definition]:
    """A command that leads to types, by member."""
    return {"ask": Definition("command", "m", members={name: Item(kind) for name, kind in members.items()})}


def test_what_is_committed_is_what_the_facts_give() -> None:
    assert differing(generate(read_facts()), SCHEMA_DIR) == []


def test_the_same_facts_give_the_same_text() -> None:
    facts = read_facts()
    assert generate(facts) == generate(facts)


def test_check_names_files_that_differ_are_missing_or_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "SCHEMA_DIR", tmp_path)
    assert main([]) == 0
    assert main(["--check"]) == 0
    (tmp_path / "job.py").write_text("changed")
    (tmp_path / "yank.py").unlink()
    (tmp_path / "stray.py").touch()
    capsys.readouterr()
    assert main(["--check"]) == 1
    named = [line.split()[0].rpartition("/")[2] for line in capsys.readouterr().err.splitlines()]
    assert named == ["job.py", "stray.py", "yank.py"]
    assert main([]) == 0
    assert not (tmp_path / "stray.py").exists()
    assert main(["--check"]) == 0


# ---- presence


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
def test_a_member_is_required_where_every_version_requires_it(
    older: Definition, newer: Definition, is_optional: bool
) -> None:
    base = {"B": struct(a=Item("int"))}
    schema = schema_of({**asks(s="S"), "S": older}, {**asks(s="S"), "S": newer, **base})
    assert schema.members("S")["a"].is_optional is is_optional


def test_a_version_without_the_type_does_not_matter() -> None:
    schema = schema_of({}, {**asks(s="S"), "S": struct(a=Item("int"))})
    assert not schema.members("S")["a"].is_optional


def test_a_struct_has_the_members_of_the_one_it_replaced() -> None:
    schema = schema_of(
        {**asks(s="Old"), "Old": struct(a=Item("int"), gone=Item("int"))},
        {**asks(s="New"), "New": struct(a=Item("int"))},
    )
    assert "Old" not in schema.newest
    assert schema.members("New")["gone"].is_optional


def test_a_branch_that_an_older_version_did_not_have_needs_nothing() -> None:
    tag = {"k": Item("K")}
    values = Definition("enum", "m", values={"x": Item()})
    branch = struct(a=Item("int"))
    schema = schema_of(
        {**asks(u="U"), "K": values, "U": Definition("struct", "m", members=tag)},
        {
            **asks(u="U"),
            "K": values,
            "B": branch,
            "U": Definition("union", "m", "", "", (), (), "", "k", members=tag, variants={"x": Item("B")}),
        },
    )
    assert schema.members("B")["a"].is_optional
    assert not schema.members("B")["k"].is_optional


def test_types_that_do_not_go_together_are_refused() -> None:
    schema = schema_of({**asks(s="S"), "S": struct(a=Item("str"))}, {**asks(s="S"), "S": struct(a=Item("int"))})
    with pytest.raises(SchemaConflict, match=r"S\.a: int does not take 7.2's str"):
        schema.members("S")


def test_what_no_command_leads_to_is_left_out() -> None:
    assert list(schema_of({**asks(s="S"), "S": struct(), "T": struct()}).newest) == ["S", "ask"]


# ---- unions


def union(tag: str, branches: Mapping[str, str]) -> Definition:
    variants = {value: Item(branch) for value, branch in branches.items()}
    return Definition("union", "m", tag=tag, members={tag: Item("K")}, variants=variants)


KEYS = Definition("enum", "m", values={"one": Item(), "two": Item(), "none": Item()})


def test_a_struct_that_is_only_a_branch_is_a_subclass_with_its_tag() -> None:
    text = text_of({**asks(u="U"), "U": union("k", {"one": "A"}), "K": KEYS, "A": struct(a=Item("int"))})
    assert 'class U(Union, tag="k", branches={"one": "A"}):' in text
    assert "class A(U):" in text
    assert '    k: Literal["one"] = "one"\n    a: int\n' in text


def test_a_branch_of_two_tags_needs_its_tag() -> None:
    text = text_of({**asks(u="U"), "U": union("k", {"one": "A", "two": "A"}), "K": KEYS, "A": struct()})
    assert '    k: Literal["one", "two"]\n' in text


def test_a_branch_that_others_are_derived_from_keeps_the_wide_tag() -> None:
    defs = {**asks(u="U"), "U": union("k", {"one": "A", "two": "B"}), "K": KEYS}
    text = text_of({**defs, "A": struct(a=Item("int")), "B": struct(base="A")})
    assert "class A(U):" in text
    assert "class B(A):" in text
    assert 'k: Literal["two"] = "two"' in text
    assert 'Literal["one"]' not in text


def test_a_struct_with_another_life_has_a_tagged_class() -> None:
    text = text_of({**asks(u="U", a="A"), "U": union("k", {"one": "A"}), "K": KEYS, "A": struct(a=Item("int"))})
    assert "class A(Struct):" in text
    assert "As a branch: `UOne` in `U`." in text
    assert "class UOne(A, U):" in text


def test_a_tagged_class_gives_way_to_a_definition_of_its_name() -> None:
    defs = {**asks(u="U", a="UONE"), "U": union("k", {"one": "UONE"}), "K": KEYS, "UONE": struct()}
    assert "class UOneBranch(UONE, U):" in text_of(defs)


def test_a_member_that_would_have_two_names_is_refused() -> None:
    defs = {**asks(u="U", a="A"), "U": union("k", {"one": "A"}), "K": KEYS, "A": struct(tag=Item("int"))}
    with pytest.raises(SchemaConflict, match="UOne has a member under two names"):
        Classes(schema_of(defs))


def test_a_union_in_a_union_has_branches_of_both() -> None:
    inner = Definition("union", "m", tag="t", members={"t": Item("K")}, variants={"two": Item("A")})
    defs = {**asks(u="U", i="I"), "U": union("k", {"one": "I"}), "I": inner, "K": KEYS, "A": struct(a=Item("int"))}
    text = text_of(defs)
    assert 'class UOne(I, U, tag="t", branches={"two": "UOneTwo"}):' in text
    assert "class UOneTwo(A, UOne):" in text


# ---- commands and names


def test_a_command_is_the_struct_of_its_name_that_it_takes() -> None:
    text = text_of(
        {
            "do-it": Definition("command", "m", data="DoIt"),
            "DoIt": struct(base="B", a=Item("int")),
            "B": struct(b=Item("int")),
            **asks(d="DoIt"),
        }
    )
    assert text.count("class DoIt(") == 1
    assert 'class DoIt(B, Command[None], wire_name="do-it"):' in text


def test_a_reply_of_the_commands_name_makes_room() -> None:
    text = text_of({"get-it": Definition("command", "m", returns="GetIt"), "GetIt": struct()})
    assert 'class GetIt(Command["GetItReply"], wire_name="get-it"):' in text
    assert "class GetItReply(Struct):" in text


def test_a_name_that_is_neither_is_refused() -> None:
    with pytest.raises(SchemaConflict, match="neither argument nor reply"):
        Classes(schema_of({"do-it": Definition("command", "m"), "DoIt": struct(), **asks(d="DoIt")}))


@pytest.mark.parametrize(
    ("wire_name", "kind", "name"),
    [
        ("node-name", "struct", "node_name"),
        ("oem_id", "struct", "oem_id"),
        ("in", "struct", "in_"),
        ("str", "struct", "str_"),
        ("tag", "union", "tag_"),
        ("tag", "struct", "tag"),
        ("timestamp", "event", "timestamp_"),
        ("unknown", "command", "unknown_"),
        ("UUID", "command", "UUID"),
    ],
)
def test_names_of_members(wire_name: str, kind: str, name: str) -> None:
    assert member_name(wire_name, kind) == name


def test_the_rule_gives_back_the_wire_name_but_for_underscores() -> None:
    assert ruled_wire_name("node_name") == "node-name"
    assert ruled_wire_name("in_") == "in"
    assert ruled_wire_name("oem_id") != "oem_id"


def test_a_member_that_breaks_the_rule_says_its_wire_name() -> None:
    text = text_of(
        {"c": Definition("command", "m", members={"a_b": Item("int"), "c_d": Item("str", is_optional=True)})}
    )
    assert '    a_b: int = wire("a_b")\n    c_d: str | None = wire("c_d", default=None)\n' in text


@pytest.mark.parametrize("wire_name", ["4k", "_x", "x.y"])
def test_a_member_without_python_name_is_refused(wire_name: str) -> None:
    with pytest.raises(ValueError, match="has no Python name"):
        member_name(wire_name, "struct")


def test_names_of_classes() -> None:
    assert camel_case("query-cpus-fast") == "QueryCpusFast"
    assert camel_case("block_set_io_throttle") == "BlockSetIoThrottle"
    assert camel_case("x-query-virtio") == "XQueryVirtio"
    assert event_class_name("BLOCK_IO_ERROR") == "BlockIoErrorEvent"


# ---- words and order


@pytest.mark.parametrize(
    ("versions", "since", "words"),
    [
        (EVERY, "2.0", ""),
        (("10.0", "11.1"), "9.1", "since 9.1"),
        (("10.0", "11.1"), "", "10.0 and later"),
        (("10.0", "11.1"), "2.4", "10.0 and later"),
        (("11.1",), "10.2", "since 10.2"),
        (("11.1",), "", "11.1 and later"),
        (("7.2", "10.0"), "2.0", "until 10.0"),
        (("7.2",), "", "7.2 only"),
        (("10.0",), "9.0", "10.0 only"),
        (("7.2", "11.1"), "", "7.2 and 11.1 only"),
    ],
)
def test_version_limits_in_words(versions: tuple[str, ...], since: str, words: str) -> None:
    assert limits(versions, EVERY, since) == words


def test_modules_that_need_each_other_are_refused() -> None:
    refuse_cycles({"a": ["b"], "b": ["c"]})
    with pytest.raises(ValueError, match="a -> b -> a"):
        refuse_cycles({"a": ["b"], "b": ["a"]})
