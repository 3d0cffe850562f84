# SPDX-License-Identifier: BSD-2-Clause
"""Merging the facts of several versions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tools.qapi.facts import BUILTINS, PARTS, Definition, Facts, Item, Record, element

_NAME = re.compile(r"\[?[A-Za-z0-9_.-]+\]?")
_CONDITION = re.compile(r"!?\(?[A-Z0-9_]+\)?( (&&|\|\|) !?\(?[A-Z0-9_]+\)?)*")

#: The keys of a record whose values may differ in older versions.
_DEFINITION_KEYS = ("kind", "module", "base", "disc", "data", "returns", "flags", "features", "if")
_ITEM_KEYS = ("type", "opt", "features", "if")


class MergeError(Exception):
    """Raised when facts are inconsistent, or contain more than names, types, versions and conditions."""


def _without_empty(record: Record) -> Record:
    return {key: value for key, value in record.items() if value not in ("", [], False)}


def item_record(item: Item) -> Record:
    """Return the record of a member, value or branch of one version."""
    return _without_empty(
        {
            "opt": item.is_optional,
            "type": item.type,
            "if": item.condition,
            "features": list(item.features),
            "since": item.since,
        }
    )


def definition_record(definition: Definition) -> Record:
    """Return the record of a definition of one version, without its members, values and branches."""
    return _without_empty(
        {
            "kind": definition.kind,
            "module": definition.module,
            "since": definition.since,
            "if": definition.condition,
            "base": definition.base,
            "disc": definition.tag,
            "data": definition.data,
            "returns": definition.returns,
            "flags": list(definition.flags),
            "features": list(definition.features),
        }
    )


def _note_difference(record: Record, version: str, older: Record, keys: Sequence[str]) -> None:
    for key in keys:
        if older.get(key) != record.get(key):
            record.setdefault("was", {}).setdefault(version, {})[key] = older.get(key)


def _merge_items(versions: Mapping[str, Mapping[str, Item]]) -> Record:
    """Return one record per item, by name.

    Args:
        versions: the items by name, by version; the versions that have the owner of the items, oldest first.
    """
    merged: Record = {}
    *_, newest_items = versions.values()
    for name in dict.fromkeys([*newest_items, *(name for items in versions.values() for name in items)]):
        have = {version: items[name] for version, items in versions.items() if name in items}
        *older, newest = have
        record = item_record(have[newest])
        if len(have) != len(versions):
            record["v"] = list(have)
        for version in older:
            _note_difference(record, version, item_record(have[version]), _ITEM_KEYS)
        since = [item.since for item in have.values() if item.since]
        if since:
            record["since"] = since[-1]
        merged[name] = record
    return merged


def merge(versions: Mapping[str, Mapping[str, Definition]]) -> dict[str, Record]:
    """Return one record per definition, by name.

    Args:
        versions: the definitions by name, by version, oldest first.
    """
    merged = {}
    for name in sorted({name for definitions in versions.values() for name in definitions}):
        have = {version: definitions[name] for version, definitions in versions.items() if name in definitions}
        *older, newest = have
        record = definition_record(have[newest])
        if len(have) != len(versions):
            record["v"] = list(have)
        for version in older:
            _note_difference(record, version, definition_record(have[version]), _DEFINITION_KEYS)
        for part in PARTS:
            items = _merge_items({version: getattr(definition, part) for version, definition in have.items()})
            if items:
                record[part] = items
        merged[name] = record
    return merged


def check_facts(facts: Facts) -> None:
    """Check that facts are consistent and contain no prose.

    Raises:
        MergeError: a type is not defined, or a text is not a name or a condition.
    """
    for schema, records in facts.schemas.items():
        _check_words(records, schema)
        for name, record in records.items():
            used = [record.get(key, "") for key in ("base", "data", "returns")]
            used += [item.get("type", "") for part in PARTS for item in record.get(part, {}).values()]
            for type_name in map(element, used):
                if type_name and type_name not in records and type_name not in BUILTINS:
                    raise MergeError(f"{name}: {type_name} is not defined")


def _check_words(value: Any, key: str) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check_words(name, "")
            _check_words(inner, name)
    elif isinstance(value, list):
        for inner in value:
            _check_words(inner, key)
    elif isinstance(value, str) and not (_CONDITION if key == "if" else _NAME).fullmatch(value):
        raise MergeError(f"{key}: {value!r} is not a name or a condition")
