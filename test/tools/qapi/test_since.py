# SPDX-License-Identifier: BSD-2-Clause
"""The tables of version limits: on a small schema, and against the generated classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import pytest

from hvkit.qmp import schema
from hvkit.qmp.base import members_of
from hvkit.qmp.schema import _since
from tools.qapi.classes import Classes
from tools.qapi.facts import Definition, Facts, Item
from tools.qapi.merge import merge
from tools.qapi.model import Schema
from tools.qapi.since import since_text

OLD = {
    "ask": Definition("command", "m", members={"kind": Item("Kind"), "gone": Item("str")}),
    "Kind": Definition("enum", "m", values={"a": Item(), "b": Item()}),
}
NEW = {
    "ask": Definition("command", "m", members={"kind": Item("Kind"), "more": Item("str", True, since="8.1")}),
    "Kind": Definition("enum", "m", values={"a": Item(), "c": Item(since="9.0")}),
    "TOLD": Definition("event", "m", since="8.2"),
}


def tables(*versions: Mapping[str, Definition]) -> dict[str, dict[str, str]]:
    names = ("7.2", "10.0")
    merged = merge(dict(zip(names, versions, strict=True)))
    text = since_text(Classes(Schema(Facts(names, {}, {}, {"qmp": merged, "qga": {}}), "qmp")))
    found: dict[str, dict[str, str]] = {}
    exec(text, found)  # noqa: S102
    return found


def test_since_text_lists_only_what_differs_between_versions() -> None:
    found = tables(OLD, NEW)
    assert found["TOP_LEVEL"] == {"TOLD": "since 8.2"}
    assert found["MEMBERS"] == {"Ask.gone": "7.2 only", "Ask.more": "since 8.1"}
    assert found["VALUES"] == {"Kind.b": "7.2 only", "Kind.c": "since 9.0"}


def test_since_text_of_equal_versions_is_empty() -> None:
    found = tables(OLD, OLD)
    assert found["TOP_LEVEL"] == found["MEMBERS"] == found["VALUES"] == {}


@pytest.mark.parametrize("key", [*_since.MEMBERS, *_since.VALUES])
def test_since_table_lists_members_and_values_of_the_schema(key: str) -> None:
    owner, _, name = key.partition(".")
    found = getattr(schema, owner)
    if key in _since.VALUES:
        assert name in get_args(found)
    else:
        assert name in {member.wire_name for member in members_of(found).values()}


def test_since_table_lists_commands_and_events_of_the_schema() -> None:
    assert _since.TOP_LEVEL.keys() <= {*schema.commands(), *schema.events()}
