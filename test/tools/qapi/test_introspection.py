# SPDX-License-Identifier: BSD-2-Clause
"""Comparison of the facts with replies to `query-qmp-schema`."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tools.qapi.facts import Definition, Item, read_facts
from tools.qapi.introspection import RECORDINGS, Entity, Report, compare_with_reply, main, read_reply

#: By version: the number of types named in the replies of the emulator and of the storage daemon.
NAMED = {"7.2": (534, 303), "10.0": (612, 325), "11.1": (640, 333)}


@pytest.mark.parametrize("version", NAMED)
def test_compare_recorded_reply_of_the_emulator_finds_no_difference(version: str) -> None:
    report = compare_with_reply(read_facts().as_of(version), read_reply(RECORDINGS / f"{version}.json.gz"))
    assert report.differences == ()
    assert report.unnamed == ()
    assert report.is_clean
    assert len(report.names) == NAMED[version][0]


@pytest.mark.parametrize("version", NAMED)
def test_compare_recorded_reply_of_the_storage_daemon_finds_no_difference(version: str) -> None:
    reply = read_reply(RECORDINGS / f"{version}-qsd.json.gz")
    report = compare_with_reply(read_facts().as_of(version), reply, is_emulator=False)
    assert report.is_clean
    assert len(report.names) == NAMED[version][1]


def test_agent_facts_agree_with_the_recorded_guest_info() -> None:
    info: Any = read_reply(RECORDINGS / "11.1-guest-info.json.gz")
    definitions = read_facts().as_of("11.1", "qga")
    for command in info["supported_commands"]:
        flags = definitions[command["name"]].flags
        assert command["success-response"] is ("no-success-response" not in flags)


BUILTINS = [
    {"name": "int", "meta-type": "builtin", "json-type": "int"},
    {"name": "str", "meta-type": "builtin", "json-type": "string"},
]
EMPTY = {"name": "0", "meta-type": "object", "members": []}


def compare(
    listed: Sequence[dict[str, Any]], *more: dict[str, Any], members: Mapping[str, Item] | None = None
) -> Report:
    """Compare a command `c` whose argument is the struct `S`."""
    definitions = {
        "c": Definition("command", "m", data="S"),
        "S": Definition("struct", "m", members=members or {}),
        "E": Definition("enum", "m", values={"x": Item(), "y": Item(condition="CONFIG_Y")}),
        "T": Definition("struct", "m", members={"t": Item("int")}),
    }
    reply: list[Entity] = [
        {"name": "c", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
        {"name": "1", "meta-type": "object", "members": list(listed)},
        EMPTY,
        *BUILTINS,
        *more,
    ]
    return compare_with_reply(definitions, reply)


def test_compare_equal_schemas_finds_no_difference() -> None:
    report = compare([{"name": "a", "type": "int"}], members={"a": Item("uint8")})
    assert report == Report(names={"1": "S"}, compared=1, differences=(), conditional=(), unnamed=())


@pytest.mark.parametrize(
    ("listed", "wanted", "difference"),
    [
        ([], {"a": Item("int")}, "S.a: is not in the reply"),
        ([{"name": "a", "type": "int"}], {}, "S.a: is not in the facts"),
        ([{"name": "a", "type": "str"}], {"a": Item("int")}, "S.a: int is string in the reply"),
        ([{"name": "a", "type": "int"}], {"a": Item("[int]")}, "S.a: [int] is not an array in the reply"),
        ([{"name": "a", "type": "0"}], {"a": Item("E")}, "S.a: E is not enum in the reply"),
        (
            [{"name": "a", "type": "int", "default": None}],
            {"a": Item("int")},
            "S.a: is optional in one and required in the other",
        ),
        (
            [{"name": "a", "type": "int", "features": ["unstable"]}],
            {"a": Item("int")},
            "S.a: features [], in the reply ['unstable']",
        ),
        (
            [{"name": "a", "type": "0"}, {"name": "b", "type": "0"}],
            {"a": Item("S"), "b": Item("T")},
            "S.b: T and S are the same type in the reply",
        ),
    ],
)
def test_compare_different_members_reports_the_difference(
    listed: list[Any], wanted: dict[str, Item], difference: str
) -> None:
    assert difference in compare(listed, members=wanted).differences


def test_compare_missing_conditional_member_reports_no_difference() -> None:
    report = compare([], members={"a": Item("int", condition="CONFIG_A")})
    assert (report.differences, report.conditional) == ((), ("S.a",))


@pytest.mark.parametrize(
    ("values", "differences", "conditional"),
    [
        (["x", "y"], (), ()),
        (["x"], (), ("E.y",)),
        (["y", "z"], ("E.z: is not in the facts", "E.x: is not in the reply"), ()),
    ],
)
def test_compare_enumerations_reports_different_values(
    values: list[str], differences: tuple[str, ...], conditional: tuple[str, ...]
) -> None:
    enum = {"name": "2", "meta-type": "enum", "values": values}
    report = compare([{"name": "a", "type": "2"}], enum, members={"a": Item("E")})
    assert (report.differences, report.conditional) == (differences, conditional)


def test_compare_unions_reports_different_branches() -> None:
    definitions = {
        "c": Definition("command", "m", data="U"),
        "U": Definition("union", "m", tag="k", members={"k": Item("E")}, variants={"x": Item("T")}),
        "E": Definition("enum", "m", values={"x": Item(), "y": Item(), "z": Item()}),
        "T": Definition("struct", "m", members={"t": Item("int")}),
    }
    cases = [{"case": "x", "type": "3"}, {"case": "y", "type": "0"}, {"case": "z", "type": "3"}]
    reply: list[Entity] = [
        {"name": "c", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
        {
            "name": "1",
            "meta-type": "object",
            "tag": "k",
            "members": [{"name": "k", "type": "2"}],
            "variants": cases,
        },
        {"name": "2", "meta-type": "enum", "values": ["x", "y", "z"]},
        {"name": "3", "meta-type": "object", "members": [{"name": "t", "type": "int"}]},
        EMPTY,
        *BUILTINS,
    ]
    assert compare_with_reply(definitions, reply).differences == ("U/z: is not in the facts",)


def test_compare_alternates_matches_alternatives_by_json_type() -> None:
    definitions = {
        "c": Definition("command", "m", members={"a": Item("A")}),
        "A": Definition("alternate", "m", members={"one": Item("str"), "many": Item("[str]")}),
    }
    reply: list[Entity] = [
        {"name": "c", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
        {"name": "1", "meta-type": "object", "members": [{"name": "a", "type": "2"}]},
        {"name": "2", "meta-type": "alternate", "members": [{"type": "[str]"}, {"type": "int"}]},
        {"name": "[str]", "meta-type": "array", "element-type": "str"},
        EMPTY,
        *BUILTINS,
    ]
    assert set(compare_with_reply(definitions, reply).differences) == {
        "A.one: is not in the reply",
        "A: a int is not in the facts",
    }


def test_compare_reports_commands_and_types_that_only_the_reply_has() -> None:
    event = {"name": "EV", "meta-type": "event", "arg-type": "0"}
    stray = {"name": "9", "meta-type": "object", "members": [{"name": "stray", "type": "int"}]}
    report = compare([], event, stray)
    assert report.differences == ("EV: is not in the facts",)
    assert report.unnamed == ("9",)


def test_compare_recognises_the_type_of_an_absent_branch() -> None:
    absent = {"name": "9", "meta-type": "object", "members": [{"name": "t", "type": "int"}]}
    assert compare([], absent).unnamed == ()


def test_main_prints_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["7.2", str(RECORDINGS / "7.2.json.gz")]) == 0
    assert "534 types named" in capsys.readouterr().out
    reply = read_reply(RECORDINGS / "7.2.json.gz")
    event = {"name": "NEW", "meta-type": "event", "arg-type": "0"}
    path = tmp_path / "reply.json.gz"
    path.write_bytes(gzip.compress(json.dumps([*reply, event]).encode()))
    assert main(["7.2", str(path)]) == 1
    assert "DIFFERENT NEW: is not in the facts" in capsys.readouterr().out
