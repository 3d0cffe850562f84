# SPDX-License-Identifier: BSD-2-Clause
"""The file of facts: its contents, and reading it."""

from __future__ import annotations

import attrs
import pytest

from tools.qapi.facts import FACTS_PATH, SCHEMAS, Facts, facts_text, read_facts
from tools.qapi.merge import check_facts, merge


@pytest.fixture(scope="module")
def facts() -> Facts:
    return read_facts()


def test_facts_file_equals_the_merge_of_its_versions(facts: Facts) -> None:
    again = attrs.evolve(
        facts,
        schemas={
            schema: merge({version: facts.as_of(version, schema) for version in facts.versions}) for schema in SCHEMAS
        },
    )
    assert facts_text(again) == FACTS_PATH.read_text(encoding="utf-8")


def test_facts_file_is_consistent_and_has_no_prose(facts: Facts) -> None:
    check_facts(facts)


@pytest.mark.parametrize(
    ("version", "counts"),
    [("7.2", (220, 52, 418, 39, 6, 155)), ("10.0", (240, 56, 468, 43, 6, 181)), ("11.1", (243, 57, 490, 43, 7, 186))],
)
def test_facts_file_has_the_expected_number_of_definitions(facts: Facts, version: str, counts: tuple[int, ...]) -> None:
    kinds = [definition.kind for definition in facts.as_of(version).values()]
    assert tuple(map(kinds.count, ("command", "event", "struct", "union", "alternate", "enum"))) == counts
