# SPDX-License-Identifier: BSD-2-Clause
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from tools.qapi.facts import FACTS_PATH, SCHEMAS, Definition, Facts, Item, facts_text, read_facts
from tools.qapi.make_facts import Source, main, make_facts
from tools.qapi.merge import MergeError, check_facts, merge


@pytest.fixture(scope="module")
def facts() -> Facts:
    return read_facts()


def of_versions(**versions: Mapping[str, Definition]) -> Facts:
    """Facts of versions named v1, v2 ..., in that order."""
    merged = merge(versions)
    return Facts(versions=tuple(versions), sources={}, modules={}, schemas={"qmp": merged, "qga": {}})


def test_the_file_is_what_merging_its_own_versions_gives(facts: Facts) -> None:
    again = attrs.evolve(
        facts,
        schemas={
            schema: merge({version: facts.as_of(version, schema) for version in facts.versions}) for schema in SCHEMAS
        },
    )
    assert facts_text(again) == FACTS_PATH.read_text(encoding="utf-8")


def test_the_file_holds_together_and_has_no_prose(facts: Facts) -> None:
    check_facts(facts)


@pytest.mark.parametrize(
    ("version", "counts"),
    [("7.2", (220, 52, 418, 39, 6, 155)), ("10.0", (240, 56, 468, 43, 6, 181)), ("11.1", (243, 57, 490, 43, 7, 186))],
)
def test_counts_of_each_version(facts: Facts, version: str, counts: tuple[int, ...]) -> None:
    kinds = [definition.kind for definition in facts.as_of(version).values()]
    assert tuple(map(kinds.count, ("command", "event", "struct", "union", "alternate", "enum"))) == counts


def test_merging_notes_who_has_what_and_what_was_otherwise() -> None:
    old = Definition("struct", "m1", members={"a": Item("int"), "gone": Item("str")})
    new = Definition("struct", "m2", members={"a": Item("int", is_optional=True), "came": Item("str", since="9.0")})
    record = merge({"1.0": {"S": old}, "2.0": {"S": new, "T": new}})["S"]
    assert record["was"] == {"1.0": {"module": "m1"}}
    assert "v" not in record
    assert record["members"] == {
        "a": {"opt": True, "type": "int", "was": {"1.0": {"opt": None}}},
        "came": {"type": "str", "since": "9.0", "v": ["2.0"]},
        "gone": {"type": "str", "v": ["1.0"]},
    }
    assert merge({"1.0": {}, "2.0": {"T": new}})["T"]["v"] == ["2.0"]


def test_each_version_comes_out_of_a_merge_as_it_went_in() -> None:
    one = {"S": Definition("struct", "m", base="B", members={"a": Item("int", features=("unstable",))})}
    one["B"] = Definition("struct", "m", condition="CONFIG_X")
    two = {"S": Definition("union", "m", tag="a", members={"a": Item("E")}, variants={"x": Item("B")})}
    two |= {"B": Definition("struct", "m"), "E": Definition("enum", "m", values={"x": Item()})}
    merged = of_versions(v1=one, v2=two)
    assert merged.as_of("v1") == one
    assert merged.as_of("v2") == two


@pytest.mark.parametrize(
    ("definition", "problem"),
    [
        (Definition("struct", "m", members={"a": Item("Missing")}), "S: Missing is not defined"),
        (Definition("command", "m", returns="[Missing]"), "S: Missing is not defined"),
        (Definition("struct", "two words"), "module: 'two words' is no fact"),
        (Definition("struct", "m", condition="if you like"), "if: 'if you like' is no fact"),
    ],
)
def test_refuses_prose_and_unknown_types(definition: Definition, problem: str) -> None:
    with pytest.raises(MergeError) as caught:
        check_facts(of_versions(v1={"S": definition}))
    assert str(caught.value) == problem


# ---- the maker


def write_tree(root: Path, release: str, schema: str) -> None:
    for program in ("qapi", "qga", "storage-daemon/qapi"):
        (root / program).mkdir(parents=True)
        (root / program / "qapi-schema.json").write_text("")
    (root / "VERSION").write_text(f"{release}\n")
    (root / "qapi" / "qapi-schema.json").write_text("{ 'include': 'one.json' }")
    (root / "qapi" / "one.json").write_text(schema)
    (root / "qga" / "qapi-schema.json").write_text("{ 'command': 'guest-x' }")


def test_makes_facts_of_trees_and_of_a_reference(tmp_path: Path) -> None:
    write_tree(tmp_path / "old", "1.0.3", "{ 'command': 'c', 'data': { 'a': 'uint8' }, 'allow-oob': true }")
    built = tmp_path / "built"
    built.mkdir()
    built.joinpath("qemu-qmp-ref.html").write_text(
        "<title>QEMU 2.0.1</title><section>"
        '<dt class="sig sig-object qapi" id="command-QMP-one.c">c</dt><dd><dl><dt class="field-odd">Arguments:</dt>'
        '<dd class="field-odd"><ul><li><strong>a</strong> (int, <em>optional</em>)</li></ul></dd></dl></dd></section>'
    )
    built.joinpath("qemu-ga-ref.html").write_text("")
    built.joinpath("qemu-storage-daemon-qmp-ref.html").write_text('<a id="module-QSD-one"></a>')
    facts = make_facts([Source.parse(f"1.0={tmp_path}/old"), Source.parse(f"2.0={built}")])
    assert facts.versions == ("1.0", "2.0")
    assert facts.sources["1.0"] == {"release": "1.0.3", "from": "source tree"}
    assert facts.sources["2.0"] == {"release": "2.0.1", "from": "built reference"}
    assert facts.modules["2.0"] == {"qmp": ("one",), "qsd": ("one",)}
    assert facts.schemas["qmp"]["c"] == {
        "kind": "command",
        "module": "one",
        "flags": ["oob"],
        "members": {"a": {"opt": True, "type": "uint8", "was": {"1.0": {"opt": None}}}},
    }
    assert facts.schemas["qga"]["guest-x"]["v"] == ["1.0"]


def test_a_source_that_only_lends_is_no_version(tmp_path: Path) -> None:
    write_tree(tmp_path / "a", "1.0.0", "{ 'event': 'E' }")
    write_tree(tmp_path / "b", "2.0.0", "{ 'event': 'F' }")
    facts = make_facts([Source.parse(f"1.0=~{tmp_path}/a"), Source.parse(f"2.0={tmp_path}/b")])
    assert (facts.versions, list(facts.schemas["qmp"])) == (("2.0",), ["F"])


def test_the_command_writes_what_can_be_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(tmp_path / "a", "1.0.0", "{ 'event': 'E' }")
    assert main([str(tmp_path / "facts.json"), f"1.0={tmp_path}/a"]) == 0
    assert read_facts(tmp_path / "facts.json").as_of("1.0") == {"E": Definition("event", "one")}
    assert capsys.readouterr().out == "qmp: 1 definitions, qga: 1 definitions\n"


@pytest.mark.parametrize("text", ["1.0", "one=path", "=path"])
def test_refuses_a_source_without_version(text: str) -> None:
    with pytest.raises(ValueError, match="is not VERSION=SOURCE"):
        Source.parse(text)
