# SPDX-License-Identifier: BSD-2-Clause
"""Recorded replies to `query-qmp-schema`, and the paths and places that the facts predict for them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from typing import Final

from hvkit.qmp import (
    QemuVersion,
)
from hvkit.qmp.introspection import Introspection
from tools.qapi.facts import Definition, Item, element, read_facts
from tools.qapi.introspection import RECORDINGS

VERSIONS: Final = ("7.2", "10.0", "11.1")


#: Fewer members, values and branches of all versions together would mean that `paths` is wrong.
MIN_PATHS: Final = 3900


def recorded(version: str, program: str = "") -> Introspection:
    reply = json.loads(gzip.decompress((RECORDINGS / f"{version}{program}.json.gz").read_bytes()))
    major, minor = map(int, version.split("."))
    return Introspection(reply, QemuVersion(major, minor, 0))


OLD: Final = recorded("7.2")


NEW: Final = recorded("11.1")


FACTS: Final = {version: read_facts().as_of(version) for version in VERSIONS}


def flat(definitions: Mapping[str, Definition], name: str) -> dict[str, Item]:
    definition = definitions[name]
    members: dict[str, Item] = {}
    for base in filter(None, (definition.base, definition.data)):
        members |= flat(definitions, base)
    return members | dict(definition.members)


def paths(definitions: Mapping[str, Definition]) -> Iterator[str]:
    """Yield one path to every command, event, member, branch and value."""
    seen: set[str] = set()

    def visit(name: str, path: str) -> Iterator[str]:
        name = element(name)
        if name in seen or name not in definitions:
            return
        definition = definitions[name]
        if definition.kind != "enum":
            seen.add(name)
            for member, item in flat(definitions, name).items():
                if definition.kind != "alternate":
                    yield f"{path}/{member}"
                yield from visit(item.type, path if definition.kind == "alternate" else f"{path}/{member}")
            for case, item in definition.variants.items():
                yield f"{path}/{definition.tag}={case}"
                yield from visit(item.type, f"{path}/{definition.tag}={case}")
        elif "/" in path and "=" not in path.rpartition("/")[2]:  # not an array of enum values
            seen.add(name)
            yield from (f"{path}={value}" for value in definition.values)

    for name, definition in definitions.items():
        if definition.kind in ("command", "event"):
            yield name
            yield from visit(definition.data or name, name)
            if definition.returns:
                yield from visit(definition.returns, f"{name}->")


def expected(definitions: Mapping[str, Definition], path: str) -> bool | None:
    """Whether a version has a place according to the facts; None if that depends on the build."""
    root, *steps = path.split("/")
    name = root.removesuffix("->")
    if name not in definitions:
        return False
    conditions = [definitions[name].condition]
    types = [definitions[name].returns if root.endswith("->") else definitions[name].data or name]
    for step in steps:
        member, _, value = step.partition("=")
        waiting, types = types, []
        found = False
        for each in map(element, waiting):  # the loop extends the list
            definition = definitions.get(each)
            if definition is None:
                continue
            if definition.kind == "alternate":
                waiting += [item.type for item in definition.members.values()]
            elif member in flat(definitions, each):
                item = flat(definitions, each)[member]
                values = definitions[element(item.type)].values if element(item.type) in definitions else {}
                if value and value not in values:
                    continue
                found = True
                conditions += [item.condition, values[value].condition if value else ""]
                types = [item.type]
                if value:
                    branch = definition.variants.get(value, Item()) if definition.tag == member else Item()
                    conditions.append(branch.condition)
                    types = [each, branch.type]
                break
        if not found:
            return False
    return None if any(conditions) else True


def disagreements(peer: Introspection, version: str) -> list[str]:
    """Return the paths on which a QEMU and the facts of a version differ."""
    everything = sorted({path for definitions in FACTS.values() for path in paths(definitions)})
    assert len(everything) > MIN_PATHS
    return [path for path in everything if expected(FACTS[version], path) not in (None, peer.has(path))]
