# SPDX-License-Identifier: BSD-2-Clause
"""Formatting of plain data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hvkit.cli.render import to_json, to_outline, to_table


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ({"status": "running", "running": True}, ["status: running", "running: true"]),
        ({"a": {"b": {"c": 1}}}, ["a:", "  b:", "    c: 1"]),
        ([{"a": 1, "b": [2, 3]}, {"a": 4}], ["- a: 1", "  b:", "    - 2", "    - 3", "- a: 4"]),
        ({"none": None, "text": "", "list": [], "object": {}}, ["none: null", 'text: ""', "list: []", "object: {}"]),
        ([], ["[]"]),
        ("plain", ["plain"]),
        (1.5, ["1.5"]),
    ],
)
def test_outline_indents_nested_data(data: Any, lines: list[str]) -> None:
    assert to_outline(data).splitlines() == lines


def test_outline_escapes_control_characters() -> None:
    assert to_outline({"label": "\x1b[2J\n"}) == r'label: "\u001b[2J\n"'


def test_table_aligns_columns_without_trailing_blanks() -> None:
    table = to_table(("NAME", "PID"), [("web1", 12), ("a", None)])
    assert table.splitlines() == ["NAME  PID", "web1  12", "a     -"]


def test_table_without_rows_has_headers() -> None:
    assert to_table(("NAME", "PID"), []) == "NAME  PID"


def test_json_round_trips() -> None:
    data = {"a": ["ü", None, 1.5]}
    assert json.loads(to_json(data)) == data
