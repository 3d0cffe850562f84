# SPDX-License-Identifier: BSD-2-Clause
"""Reading facts from reference manuals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools.qapi.facts import Definition, Item
from tools.qapi.introspection import Entity
from tools.qapi.reference import (
    ReferenceDefinition,
    UnknownShape,
    complete,
    place_features,
    read_modules,
    read_reference,
)


def page(*blocks: str) -> str:
    return f"<html><body><section id='x'>{''.join(blocks)}</section></body></html>"


def block(kind: str, name: str, *fields: str, signature: str = "", remark: str = "", module: str = "mod") -> str:
    return (
        f'<dl class="qapi {kind}"><dt class="sig sig-object qapi" id="{kind}-QMP-{module}.{name}">'
        f"<em>{kind}</em> <span>{name}</span> {signature}</dt>"
        f'<dd>{remark}<p>Prose.</p><dl class="field-list">{"".join(fields)}</dl></dd></dl>'
    )


def field(heading: str, *items: str) -> str:
    listed = "".join(f"<li><p>{item}</p></li>" for item in items)
    return f'<dt class="field-odd">{heading}<span>:</span></dt><dd class="field-odd"><ul>{listed}</ul></dd>'


def returns(text: str) -> str:
    return f'<dt class="field-even">Return<span>:</span></dt><dd class="field-even"><p>{text}</p></dd>'


def member(name: str, type_name: str, rest: str = "", *, optional: bool = False) -> str:
    return f"<strong>{name}</strong> ({type_name}{', <em>optional</em>' if optional else ''}) &ndash; {rest}"


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read_text(text: str, schema: str = "qmp") -> dict[str, ReferenceDefinition]:
        path = tmp_path / "reference.html"
        path.write_text(text, encoding="utf-8")
        return read_reference(path, schema)

    return read_text


def test_read_reference_reads_members_types_and_versions(read: Any) -> None:
    text = page(
        block(
            "object",
            "Thing",
            field(
                "Members",
                member("a", "int", "text"),
                member("b", "[ string ]", "text (Since 8.1)", optional=True),
                member("c", "boolean", "a list: <ul><li><strong>inner</strong> (int)</li></ul>"),
            ),
            signature="(Since 2.3)",
        )
    )
    assert read(text)["Thing"].definition == Definition(
        kind="struct",
        module="mod",
        since="2.3",
        members={"a": Item("int"), "b": Item("[str]", is_optional=True, since="8.1"), "c": Item("bool")},
    )


def test_read_reference_recognises_a_union_by_its_branches(read: Any) -> None:
    text = page(
        block(
            "object",
            "U",
            field(
                "Members",
                member("kind", "K"),
                "When <code>kind</code> is <code>x</code>: The members of <a>X</a>.",
                "The members of <a>Base</a>.",
            ),
        )
    )
    union = read(text)["U"].definition
    assert (union.kind, union.tag, union.base, union.variants) == ("union", "kind", "Base", {"x": Item("X")})


def test_read_reference_reads_argument_type_and_reply_of_a_command(read: Any) -> None:
    text = page(
        block("command", "do-it", field("Arguments", "The members of <a>Args</a>."), returns("[Thing] &ndash; things")),
        block("command", "ask", returns("string -- text")),
    )
    command = read(text)["do-it"].definition
    assert (command.data, command.base, command.members, command.returns) == ("Args", "", {}, "[Thing]")
    assert read(text)["ask"].definition.returns == "str"


def test_read_reference_reads_enumerations_and_alternates(read: Any) -> None:
    text = page(
        block(
            "enum",
            "E",
            field("Values", "<strong>a</strong>", "<strong>b</strong> &ndash; text (since 9.0)"),
        ),
        block("alternate", "A", field("Alternatives", member("one", "string"), member("many", "[string]"))),
    )
    assert read(text)["E"].definition.values == {"a": Item(), "b": Item(since="9.0")}
    assert read(text)["A"].definition.members == {"one": Item("str"), "many": Item("[str]")}


def test_read_reference_reads_features_and_condition(read: Any) -> None:
    text = page(
        block(
            "command",
            "c",
            field("Features", "<strong>unstable</strong> &ndash; text", "<strong>deprecated</strong> &ndash; text"),
            remark="<div><p><em>Availability</em>: <code>CONFIG_X</code></p></div>",
        )
    )
    assert read(text)["c"].features == ("unstable", "deprecated")
    assert read(text)["c"].definition.condition == "CONFIG_X"


def test_read_reference_of_the_agent_uses_one_module(read: Any) -> None:
    assert read(page(block("command", "guest-x")), "qga")["guest-x"].definition.module == "qga"


def test_read_reference_with_unknown_entry_raises_unknown_shape(read: Any) -> None:
    with pytest.raises(UnknownShape, match="S: 'nothing known'"):
        read(page(block("object", "S", field("Members", "nothing known"))))


def test_read_modules_returns_the_modules_of_a_program(tmp_path: Path) -> None:
    path = tmp_path / "qsd.html"
    path.write_text(
        '<span id="module-QSD-block-core"></span><dt id="command-QSD-job.job-pause"></dt><p id="x-QMP-a.b">'
    )
    assert read_modules(path, "QSD") == ("block-core", "job")


def test_complete_adds_widths_flags_conditions_and_features() -> None:
    read_definition = ReferenceDefinition(
        Definition(
            kind="command",
            module="m",
            condition="shown otherwise",
            returns="[int]",
            members={"a": Item("int"), "b": Item("int"), "new": Item("int")},
        ),
        features=("unstable", "deprecated", "brand-new"),
    )
    older = Definition(
        kind="command",
        module="m",
        condition="CONFIG_X",
        flags=("oob",),
        returns="[uint64]",
        features=("unstable", "gone"),
        members={"a": Item("uint8", features=("deprecated",)), "b": Item("str", condition="CONFIG_Y")},
    )
    completed = complete(read_definition, older)
    assert completed == Definition(
        kind="command",
        module="m",
        condition="CONFIG_X",
        flags=("oob",),
        returns="[uint64]",
        features=("unstable", "brand-new"),
        members={
            "a": Item("uint8", features=("deprecated",)),
            "b": Item("int", condition="CONFIG_Y"),
            "new": Item("int"),
        },
    )


def test_complete_new_definition_keeps_all_features() -> None:
    read_definition = ReferenceDefinition(Definition(kind="struct", module="m"), features=("unstable",))
    assert complete(read_definition, None).features == ("unstable",)


def test_place_features_follows_the_reply() -> None:
    definitions = {
        "c": Definition(kind="command", module="m", features=("unstable",), data="S"),
        "S": Definition(kind="struct", module="m", members={"a": Item("int", features=("x",)), "b": Item("int")}),
    }
    reply: list[Entity] = [
        {"name": "c", "meta-type": "command", "arg-type": "0", "ret-type": "1", "allow-oob": True},
        {
            "name": "0",
            "meta-type": "object",
            "features": ["fresh"],
            "members": [{"name": "a", "type": "int"}, {"name": "b", "type": "int", "features": ["unstable"]}],
        },
        {"name": "1", "meta-type": "object", "members": []},
        {"name": "int", "meta-type": "builtin", "json-type": "int"},
    ]
    placed = place_features(definitions, reply)
    assert (placed["c"].features, placed["c"].flags) == ((), ("oob",))
    assert placed["S"].features == ("fresh",)
    assert placed["S"].members == {"a": Item("int"), "b": Item("int", features=("unstable",))}
