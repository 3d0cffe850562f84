# SPDX-License-Identifier: BSD-2-Clause
"""The facts of the schema: in memory, as of one QEMU version, and as records in a file.

A record is the newest version's definition, with two additions: ``v``, the versions that have it, unless all do, and
``was``, the differences in older versions. Members, values and branches of a definition are records too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

#: One record of the file, as plain data.
Record = dict[str, Any]

#: The file of facts in this repository.
FACTS_PATH = Path(__file__).with_name("qapi-facts.json")

#: The schemas in the file: of the monitor, and of the guest agent.
SCHEMAS = ("qmp", "qga")

INTEGERS = frozenset({"int", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "size"})
BUILTINS = INTEGERS | {"str", "bool", "number", "any", "null", "QType"}

#: The parts of a record that consist of records.
PARTS = ("members", "values", "variants")


def element(type_name: str) -> str:
    """Return a type's name without the brackets of an array."""
    return type_name.strip("[]")


@attrs.frozen
class Item:
    """A member, an alternative, a value of an enumeration, or a branch of a union.

    Attributes:
        type: the type's name, in brackets for an array; empty for a value of an enumeration.
        is_optional: whether the member may be absent.
        condition: the build condition; empty if every build has it.
        features: the names of its QAPI features.
        since: the first QEMU version that has it; empty if the schema does not say.
    """

    type: str = ""
    is_optional: bool = False
    condition: str = ""
    features: tuple[str, ...] = ()
    since: str = ""


@attrs.frozen
class Definition:
    """A definition as of one version.

    Attributes:
        kind: command, event, struct, union, alternate or enum.
        module: the QAPI module.
        since: the first QEMU version that has it; empty if the schema does not say.
        condition: the build condition; empty if every build has it.
        features: the names of its QAPI features.
        flags: of a command: oob, preconfig, coroutine, boxed, no-gen, no-success-response.
        base: the struct or union whose members it inherits; empty if there is none.
        tag: of a union: the member that selects the branch.
        data: of a command or event: the type of its arguments; empty if `members` lists them.
        returns: of a command: the type of its reply; empty if the reply is empty.
        members: of a struct, union, alternate, command or event: its members or alternatives.
        values: of an enumeration: its values.
        variants: of a union: its branches by tag value.
    """

    kind: str
    module: str
    since: str = ""
    condition: str = ""
    features: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    base: str = ""
    tag: str = ""
    data: str = ""
    returns: str = ""
    members: Mapping[str, Item] = attrs.field(factory=dict)
    values: Mapping[str, Item] = attrs.field(factory=dict)
    variants: Mapping[str, Item] = attrs.field(factory=dict)

    def references(self) -> Iterator[tuple[str, str]]:
        """Yield (role, type) for every type that the definition uses.

        Roles are base, data, returns, members and variants.
        """
        for role in ("base", "data", "returns"):
            if getattr(self, role):
                yield role, element(getattr(self, role))
        for role in ("members", "variants"):
            for item in getattr(self, role).values():
                yield role, element(item.type)


def item_of(record: Record) -> Item:
    """Return the member, value or branch in a record, as of its newest version."""
    return Item(
        type=record.get("type", ""),
        is_optional=record.get("opt", False),
        condition=record.get("if", ""),
        features=tuple(record.get("features", ())),
        since=record.get("since", ""),
    )


def definition_of(record: Record) -> Definition:
    """Return the definition in a record, as of its newest version."""
    return Definition(
        kind=record["kind"],
        module=record["module"],
        since=record.get("since", ""),
        condition=record.get("if", ""),
        features=tuple(record.get("features", ())),
        flags=tuple(record.get("flags", ())),
        base=record.get("base", ""),
        tag=record.get("disc", ""),
        data=record.get("data", ""),
        returns=record.get("returns", ""),
        **{part: {name: item_of(item) for name, item in record.get(part, {}).items()} for part in PARTS},
    )


def _older_record(record: Record, version: str) -> Record:
    """Return a record as of a version; its members, values and branches are not converted."""
    older = {key: value for key, value in record.items() if key not in ("v", "was")}
    for key, value in record.get("was", {}).get(version, {}).items():
        if value is None:
            older.pop(key, None)
        else:
            older[key] = value
    return older


def record_as_of(record: Record, version: str, have: Sequence[str]) -> Record:
    """Return a definition's record as of a version, one of those that have it."""
    older = _older_record(record, version)
    for part in PARTS:
        if part in older:
            older[part] = {
                name: _older_record(item, version)
                for name, item in older[part].items()
                if version in item.get("v", have)
            }
    return older


@attrs.frozen
class Facts:
    """The contents of a file of facts.

    Attributes:
        versions: the QEMU versions, oldest first.
        sources: by version: the release, and the kind of source.
        modules: by version: the QAPI modules of the emulator (qmp) and of the storage daemon (qsd).
        schemas: by schema: the records of the definitions, by name.
    """

    versions: tuple[str, ...]
    sources: Mapping[str, Record]
    modules: Mapping[str, Mapping[str, Sequence[str]]]
    schemas: Mapping[str, Mapping[str, Record]]

    def as_of(self, version: str, schema: str = "qmp") -> dict[str, Definition]:
        """Return the definitions of one version."""
        found = {}
        for name, record in self.schemas[schema].items():
            have = record.get("v", self.versions)
            if version in have:
                found[name] = definition_of(record_as_of(record, version, have))
        return found


def read_facts(path: Path = FACTS_PATH) -> Facts:
    """Read a file of facts."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Facts(
        versions=tuple(data["versions"]),
        sources=data["sources"],
        modules=data["modules"],
        schemas={schema: data[schema] for schema in SCHEMAS},
    )


def facts_text(facts: Facts) -> str:
    """Return the text of a file of facts: one definition per line, so that a diff shows which one changed."""
    head = {"versions": facts.versions, "sources": facts.sources, "modules": facts.modules}
    blocks = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for schema in SCHEMAS:
        lines = [
            f"  {json.dumps(name)}: {json.dumps(record, separators=(',', ':'))}"
            for name, record in facts.schemas[schema].items()
        ]
        blocks.append(f" {json.dumps(schema)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(blocks) + "\n}\n"
