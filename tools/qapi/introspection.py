# SPDX-License-Identifier: BSD-2-Clause
"""Comparison of the facts with the reply of a QEMU to `query-qmp-schema`.

The reply replaces the names of types by numbers. Commands and events keep their names, so the comparison starts there,
finds the name of every type, and reports differences. Something that a build condition excludes is not a difference.

Usage: python -m tools.qapi.introspection VERSION FILE     (FILE: the reply as JSON, may be gzipped)
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tools.qapi.facts import INTEGERS, Definition, Item, element, read_facts

#: One entity in the reply.
Entity = Mapping[str, Any]

#: Recorded replies: <version>.json.gz of the emulator, <version>-qsd.json.gz of the storage daemon.
RECORDINGS = Path(__file__).with_name("recordings")

_JSON_TYPES = {"bool": "boolean", "str": "string", "number": "number", "any": "value", "null": "null"}


@attrs.frozen
class Report:
    """The result of a comparison.

    Attributes:
        names: the name of each type, by its masked name in the reply.
        compared: the number of commands and events in both.
        differences: descriptions of the differences that no build condition explains.
        conditional: the places that the reply lacks because of a build condition.
        unnamed: masked names of types that the facts do not have.
    """

    names: Mapping[str, str]
    compared: int
    differences: tuple[str, ...]
    conditional: tuple[str, ...]
    unnamed: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether the facts agree with the reply."""
        return not self.differences and not self.unnamed


def read_reply(path: Path) -> list[Entity]:
    """Read a recorded reply."""
    raw = path.read_bytes()
    reply: list[Entity] = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    return reply


def compare_with_reply(
    definitions: Mapping[str, Definition], reply: Iterable[Entity], *, is_emulator: bool = True
) -> Report:
    """Compare the definitions of one version with a reply to `query-qmp-schema`.

    Args:
        definitions: the facts as of the version of the QEMU that replied.
        reply: the reply, as plain data.
        is_emulator: False for the storage daemon: commands and events that it does not have are not differences.
    """
    comparison = _Comparison(definitions, reply)
    for name, definition in definitions.items():
        if definition.kind in ("command", "event") and (is_emulator or comparison.has(name)):
            comparison.compare_top_level(name, definition)
    return comparison.report()


class _Comparison:
    """A comparison in progress."""

    def __init__(self, definitions: Mapping[str, Definition], reply: Iterable[Entity]) -> None:
        self._definitions = definitions
        self._entities = {entity["name"]: entity for entity in reply}
        self._names: dict[str, str] = {}
        self._compared = 0
        self._differences: list[str] = []
        self._conditional: list[str] = []

    def has(self, name: str) -> bool:
        """Whether the reply has a command or event."""
        return name in self._entities

    def report(self) -> Report:
        """Return the result."""
        arguments = {entity["arg-type"] for entity in self._entities.values() if "arg-type" in entity}
        # A build may have the type of a branch that it excludes. Such a type is recognised by its members.
        shapes = {self._shape(name) for name in self._definitions.keys() - self._names.values()}
        unnamed = []
        for name, entity in self._entities.items():
            kind = entity["meta-type"]
            if kind in ("command", "event"):
                if name not in self._definitions:
                    self._differ(name, "is not in the facts")
            elif (
                kind in ("object", "enum", "alternate")
                and name not in self._names
                and name not in arguments  # the type of arguments that a command lists itself has no name in the facts
                and frozenset(member.get("name") for member in entity.get("members", ())) not in shapes
            ):
                unnamed.append(name)
        return Report(self._names, self._compared, tuple(self._differences), tuple(self._conditional), tuple(unnamed))

    def _shape(self, name: str) -> frozenset[str]:
        definition = self._definitions[name]
        return frozenset(definition.values if definition.kind == "enum" else self._flat(name))

    def _differ(self, where: str, problem: str) -> None:
        self._differences.append(f"{where}: {problem}")

    def _absent(self, where: str, condition: str) -> None:
        if condition:
            self._conditional.append(where)
        else:
            self._differ(where, "is not in the reply")

    def _compare_features(self, where: str, features: Sequence[str], entity: Entity) -> None:
        listed = entity.get("features", [])
        if list(features) != list(listed):
            self._differ(where, f"features {list(features)}, in the reply {listed}")

    def compare_top_level(self, name: str, definition: Definition) -> None:
        """Compare a command or event, and all types that it uses."""
        entity = self._entities.get(name)
        if entity is None:
            self._absent(name, definition.condition)
            return
        self._compared += 1
        self._compare_features(name, definition.features, entity)
        if definition.data:
            self._compare_type(definition.data, entity["arg-type"], name)
        else:
            self._compare_members(definition.members, self._entities[entity["arg-type"]], name)
        if definition.kind == "command":
            if definition.returns:
                self._compare_type(definition.returns, entity["ret-type"], f"{name}, reply")
            elif self._entities[entity["ret-type"]].get("members"):
                self._differ(name, "returns something in the reply")
            if entity.get("allow-oob", False) != ("oob" in definition.flags):
                self._differ(name, "out-of-band execution")

    def _compare_type(self, type_name: str, mask: str, where: str) -> None:
        entity = self._entities[mask]
        kind = entity["meta-type"]
        if type_name.startswith("["):
            if kind == "array":
                self._compare_type(element(type_name), entity["element-type"], where)
            else:
                self._differ(where, f"{type_name} is not an array in the reply")
        elif type_name not in self._definitions:
            wanted = "int" if type_name in INTEGERS else _JSON_TYPES.get(type_name)
            if kind != "builtin" or entity["json-type"] != wanted:
                self._differ(where, f"{type_name} is {entity.get('json-type', kind)} in the reply")
        elif mask not in self._names:
            self._names[mask] = type_name
            self._compare_definition(type_name, entity, where)
        elif self._names[mask] != type_name:
            self._differ(where, f"{type_name} and {self._names[mask]} are the same type in the reply")

    def _compare_definition(self, name: str, entity: Entity, where: str) -> None:
        definition = self._definitions[name]
        wanted = {"struct": "object", "union": "object"}.get(definition.kind, definition.kind)
        if entity["meta-type"] != wanted:
            self._differ(where, f"{name} is not {definition.kind} in the reply")
            return
        self._compare_features(name, definition.features, entity)
        if wanted == "enum":
            self._compare_values(name, definition, entity)
        elif wanted == "alternate":
            self._compare_alternatives(name, definition, entity)
        else:
            self._compare_members(self._flat(name), entity, name)
            self._compare_branches(name, definition, entity)

    def _flat(self, name: str) -> dict[str, Item]:
        definition = self._definitions[name]
        inherited = self._flat(definition.base) if definition.base else {}
        return {**inherited, **definition.members}

    def _compare_members(self, members: Mapping[str, Item], entity: Entity, where: str) -> None:
        listed = {member["name"]: member for member in entity.get("members", ())}
        for name in listed.keys() - members.keys():
            self._differ(f"{where}.{name}", "is not in the facts")
        for name, item in members.items():
            place = f"{where}.{name}"
            if name not in listed:
                self._absent(place, item.condition)
                continue
            if ("default" in listed[name]) != item.is_optional:
                self._differ(place, "is optional in one and required in the other")
            self._compare_features(place, item.features, listed[name])
            self._compare_type(item.type, listed[name]["type"], place)

    def _compare_branches(self, name: str, definition: Definition, entity: Entity) -> None:
        if definition.tag != entity.get("tag", ""):
            self._differ(name, f"tag {definition.tag!r}, in the reply {entity.get('tag')!r}")
        cases = {variant["case"]: variant["type"] for variant in entity.get("variants", ())}
        for case, mask in cases.items():
            if case in definition.variants:
                self._compare_type(definition.variants[case].type, mask, f"{name}/{case}")
            elif self._entities[mask].get("members"):  # a tag without a branch leads to an empty object
                self._differ(f"{name}/{case}", "is not in the facts")
        for case in definition.variants.keys() - cases.keys():
            self._absent(f"{name}/{case}", self._branch_condition(definition, case))

    def _branch_condition(self, definition: Definition, case: str) -> str:
        """Return the condition of a branch: its own, or that of its tag value."""
        values = {}
        tag_member = definition.members.get(definition.tag)
        if tag_member is None and definition.base:
            tag_member = self._flat(definition.base).get(definition.tag)
        if tag_member is not None and tag_member.type in self._definitions:
            values = dict(self._definitions[tag_member.type].values)
        return definition.variants[case].condition or values.get(case, Item()).condition

    def _compare_values(self, name: str, definition: Definition, entity: Entity) -> None:
        listed = {member["name"]: member for member in entity.get("members", ())}
        listed = listed or {value: {} for value in entity["values"]}
        for value in listed.keys() - definition.values.keys():
            self._differ(f"{name}.{value}", "is not in the facts")
        for value, item in definition.values.items():
            if value in listed:
                self._compare_features(f"{name}.{value}", item.features, listed[value])
            else:
                self._absent(f"{name}.{value}", item.condition)

    def _compare_alternatives(self, name: str, definition: Definition, entity: Entity) -> None:
        """Compare alternatives by their JSON type: they have no names in the reply, and no defined order."""
        listed = {self._json_type(member["type"]): member["type"] for member in entity["members"]}
        for alternative, item in definition.members.items():
            mask = listed.pop(self._wanted_json_type(item.type), None)
            if mask is None:
                self._differ(f"{name}.{alternative}", "is not in the reply")
            else:
                self._compare_type(item.type, mask, f"{name}.{alternative}")
        for json_type in listed:
            self._differ(name, f"a {json_type} is not in the facts")

    def _json_type(self, mask: str) -> str:
        entity = self._entities[mask]
        json_type: str = entity.get("json-type") or entity["meta-type"]
        return json_type

    def _wanted_json_type(self, type_name: str) -> str:
        if type_name.startswith("["):
            return "array"
        if type_name in self._definitions:
            kind = self._definitions[type_name].kind
            return {"struct": "object", "union": "object"}.get(kind, kind)
        return _JSON_TYPES.get(type_name, "int")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.qapi.introspection", description="Compare the facts with a reply to query-qmp-schema."
    )
    parser.add_argument("version", help="the version of the QEMU that replied")
    parser.add_argument("file", type=Path, help="the reply as JSON, may be gzipped")
    options = parser.parse_args(arguments)
    facts = read_facts()
    if options.version not in facts.versions:
        parser.error(f"the facts do not include version {options.version}, only {', '.join(facts.versions)}")
    report = compare_with_reply(facts.as_of(options.version), read_reply(options.file))
    print(f"{report.compared} commands and events compared, {len(report.names)} types named")
    print(f"{len(report.conditional)} places excluded by build conditions")
    for difference in report.differences:
        print(f"DIFFERENT {difference}")
    for mask in report.unnamed:
        print(f"UNNAMED type {mask}")
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
