# SPDX-License-Identifier: BSD-2-Clause
"""Small schemas for tests of the generator."""

from __future__ import annotations

from collections.abc import Mapping

from tools.qapi.classes import Classes
from tools.qapi.facts import Definition, Facts, Item
from tools.qapi.merge import merge
from tools.qapi.model import Schema
from tools.qapi.render import Writer

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


def command_with(**members: str) -> dict[str, Definition]:
    """Return a command whose members have some types."""
    return {"ask": Definition("command", "m", members={name: Item(kind) for name, kind in members.items()})}


def union(tag: str, branches: Mapping[str, str]) -> Definition:
    variants = {value: Item(branch) for value, branch in branches.items()}
    return Definition("union", "m", tag=tag, members={tag: Item("K")}, variants=variants)


KEYS = Definition("enum", "m", values={"one": Item(), "two": Item(), "none": Item()})
