# SPDX-License-Identifier: BSD-2-Clause
"""Merging the facts of several versions, and checking the result."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tools.qapi.facts import Definition, Facts, Item
from tools.qapi.merge import MergeError, check_facts, merge


def of_versions(**versions: Mapping[str, Definition]) -> Facts:
    """Return the merged facts of some versions, oldest first."""
    merged = merge(versions)
    return Facts(versions=tuple(versions), sources={}, modules={}, schemas={"qmp": merged, "qga": {}})


def test_merge_records_versions_and_differences() -> None:
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


def test_merge_preserves_each_version() -> None:
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
        (Definition("struct", "two words"), "module: 'two words' is not a name or a condition"),
        (Definition("struct", "m", condition="if you like"), "if: 'if you like' is not a name or a condition"),
    ],
)
def test_check_facts_with_prose_or_unknown_type_raises_merge_error(definition: Definition, problem: str) -> None:
    with pytest.raises(MergeError) as caught:
        check_facts(of_versions(v1={"S": definition}))
    assert str(caught.value) == problem
