# SPDX-License-Identifier: BSD-2-Clause
"""Reading the facts of one version from its built reference manuals in HTML (QEMU 10.1 and later).

Distributions ship the manuals without the sources. The manuals do not contain the widths of integers, the flags of
commands, and the members that features belong to; `complete` and `place_features` add these.
"""

from __future__ import annotations

import html.parser
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from tools.qapi.facts import INTEGERS, Definition, Item
from tools.qapi.introspection import Entity, compare_with_reply
from tools.qapi.source_tree import SINCE

_TYPES = {"string": "str", "boolean": "bool", "value": "any"}

# Marks around bold and emphasised text, which distinguish names from prose.
_BOLD, _EMPHASIS = "\x01", "\x02"
_NAMED = re.compile(r"\x01(?P<name>[^\x01]+)\x01(?: \((?P<type>[^\x02),]*?)(?:, \x02(?P<optional>optional)\x02)?\))?")
_BRANCH = re.compile(r"When (?P<tag>\S+) is (?P<value>\S+?): The members of (?P<type>[\w-]+)")
_INHERITED = re.compile(r"The members of ([\w-]+)")
_END_OF_TYPE = re.compile(r"\s(?:\N{EN DASH}|--)\s")

_ITEM_FIELDS = ("Members", "Arguments", "Alternatives", "Values")


class UnknownShape(Exception):
    """Raised when the format of an entry in a manual is unknown."""


@attrs.define
class _Block:
    """The text on one definition: entries by the heading of their field, with bold and emphasis marked."""

    kind: str
    module: str
    name: str
    signature: str = ""
    availability: str = ""
    fields: dict[str, list[str]] = attrs.field(factory=dict)


@attrs.frozen
class ReferenceDefinition:
    """A definition as read from a manual.

    Attributes:
        definition: the definition, without features, and with `int` for every integer type.
        features: the features of the definition and of its members, in one list.
    """

    definition: Definition
    features: tuple[str, ...]


class _Reader(html.parser.HTMLParser):
    """Collects the blocks of all definitions."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[_Block] = []
        self._block: _Block | None = None
        self._field = ""
        self._heading: str | None = None  # the text of a field's heading, while inside it
        self._availability: str | None = None  # the text of a remark before the first field, while inside it
        self._in_signature = False
        self._inner_lists = 0
        self._item_depth = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        classes = (given.get("class") or "").split()
        is_field = any(each.startswith("field-") for each in classes)
        if tag == "dt" and "sig-object" in classes and "qapi" in classes:
            kind, _, rest = (given["id"] or "").split("-", 2)
            module, name = rest.split(".", 1)
            self._block = _Block(kind, module, name)
            self.blocks.append(self._block)
            self._in_signature, self._field = True, ""
        elif tag in ("section", "h2"):
            self._block = None
        elif self._block is None:
            return
        elif tag == "dt" and is_field:
            self._heading = ""
        elif tag == "dd" and is_field:
            self._block.fields.setdefault(self._field, [])
            self._item_depth = 0
            if self._field == "Return":
                self._block.fields[self._field].append("")
        elif tag == "em" and not self._field:
            self._availability = ""
        elif tag == "li" and self._field:
            self._item_depth += 1
            if self._item_depth == 1:
                self._block.fields[self._field].append("")
        elif tag == "dl" and self._field:
            self._inner_lists += 1
        else:
            self._mark(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "dt":
            self._in_signature = False
            if self._heading is not None:
                self._field, self._heading = self._heading.strip(" :"), None
        elif tag == "li" and self._item_depth:
            self._item_depth -= 1
        elif tag == "dl" and self._field:
            if self._inner_lists:
                self._inner_lists -= 1
            else:
                self._field, self._item_depth = "", 0
        elif tag == "div" and self._availability and self._block is not None:
            self._block.availability, self._availability = self._availability, None
        else:
            self._mark(tag)

    def handle_data(self, data: str) -> None:
        if self._block is None:
            return
        if self._in_signature:
            self._block.signature += data
        elif self._heading is not None:
            self._heading += data
        elif self._availability is not None and not self._field:
            self._availability += data
        elif self._field:
            self._put(data)

    def _mark(self, tag: str) -> None:
        if tag in ("strong", "em") and self._field and self._item_depth == 1:
            self._put(_BOLD if tag == "strong" else _EMPHASIS)

    def _put(self, data: str) -> None:
        entries = self._block.fields.get(self._field) if self._block is not None else None
        if entries:
            entries[-1] += data


def _type_name(written: str) -> str:
    name = written.strip().strip("[]").strip()
    name = _TYPES.get(name, name)
    return f"[{name}]" if written.strip().startswith("[") else name


def _since(text: str) -> str:
    found = SINCE.search(text)
    return found[1] if found else ""


def _definition(block: _Block, schema: str) -> ReferenceDefinition:
    kind = "struct" if block.kind == "object" else block.kind
    condition = ""
    if block.availability.startswith("Availability"):
        condition = " ".join(block.availability.split(":", 1)[1].split())
    items: dict[str, Item] = {}
    variants: dict[str, Item] = {}
    tag = inherited_from = ""
    for entry in (entry for field in _ITEM_FIELDS for entry in block.fields.get(field, ())):
        branch, inherited, named = _BRANCH.match(entry), _INHERITED.match(entry), _NAMED.match(entry)
        if branch:
            kind, tag = "union", branch["tag"]
            variants[branch["value"]] = Item(type=branch["type"])
        elif inherited:
            inherited_from = inherited[1]
        elif named and (named["type"] or kind == "enum"):
            items[named["name"]] = Item(
                type="" if kind == "enum" else _type_name(named["type"]),
                is_optional=bool(named["optional"]),
                since=_since(entry),
            )
        else:
            raise UnknownShape(f"{block.name}: {entry!r}")
    returns = block.fields.get("Return", [""])[0]
    listed = (_NAMED.match(entry) for entry in block.fields.get("Features", ()))
    has_arguments = kind in ("command", "event")
    definition = Definition(
        kind=kind,
        module=block.module if schema == "qmp" else "qga",
        since=_since(block.signature),
        condition=condition,
        base="" if has_arguments else inherited_from,
        data=inherited_from if has_arguments else "",
        tag=tag,
        returns=_type_name(_END_OF_TYPE.split(returns)[0]) if returns else "",
        members={} if kind == "enum" else items,
        values=items if kind == "enum" else {},
        variants=variants,
    )
    return ReferenceDefinition(definition, tuple(match["name"] for match in listed if match))


def read_reference(path: Path, schema: str) -> dict[str, ReferenceDefinition]:
    """Read the definitions in a reference manual.

    Args:
        path: the HTML file.
        schema: qmp, or qga for the guest agent.

    Raises:
        UnknownShape: the format of an entry is unknown.
    """
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return {block.name: _definition(block, schema) for block in reader.blocks}


def read_modules(path: Path, namespace: str) -> tuple[str, ...]:
    """Return the QAPI modules with definitions in a reference manual.

    Args:
        path: the HTML file.
        namespace: QMP, QGA or QSD.
    """
    found = re.findall(rf'id="(?:module-{namespace}-([\w-]+)"|[a-z]+-{namespace}-([\w-]+?)\.)', path.read_text("utf-8"))
    return tuple(sorted({module or owner for module, owner in found}))


def _as_shown(type_name: str) -> str:
    """Return a type as the manuals show it."""
    if type_name.startswith("["):
        return f"[{_as_shown(type_name[1:-1])}]"
    return "int" if type_name in INTEGERS else type_name


def _known_width(shown: str, older: str) -> str:
    return older if _as_shown(older) == shown else shown


def _complete_items(items: Mapping[str, Item], older: Mapping[str, Item], features: Iterable[str]) -> dict[str, Item]:
    completed = dict(items)
    for name in items.keys() & older.keys():
        item, old = items[name], older[name]
        completed[name] = attrs.evolve(
            item,
            type=_known_width(item.type, old.type),
            condition=old.condition or item.condition,
            features=tuple(feature for feature in old.features if feature in features),
        )
    return completed


def complete(read: ReferenceDefinition, older: Definition | None) -> Definition:
    """Complete a definition from a manual with the facts of an older version.

    A feature that the older version does not have is assigned to the definition itself.

    Args:
        read: the definition as read from a manual.
        older: the same definition of an older version; None if it is new.
    """
    new = read.definition
    if older is None or older.kind != new.kind:
        return attrs.evolve(new, features=read.features)
    members = _complete_items(new.members, older.members, read.features)
    values = _complete_items(new.values, older.values, read.features)
    own = [feature for feature in older.features if feature in read.features]
    placed = {*own, *(feature for items in (members, values) for item in items.values() for feature in item.features)}
    return attrs.evolve(
        new,
        flags=older.flags,
        condition=older.condition if older.condition and new.condition else new.condition,
        returns=_known_width(new.returns, older.returns),
        features=(*own, *(feature for feature in read.features if feature not in placed)),
        members=members,
        values=values,
        variants=_complete_items(new.variants, older.variants, read.features),
    )


def _placed_items(items: Mapping[str, Item], entity: Entity) -> dict[str, Item]:
    read = {member.get("name"): tuple(member.get("features", ())) for member in entity.get("members", ())}
    return {name: attrs.evolve(item, features=read[name]) if name in read else item for name, item in items.items()}


def place_features(definitions: Mapping[str, Definition], reply: Iterable[Entity]) -> dict[str, Definition]:
    """Return the definitions with the features and out-of-band flags of a reply to `query-qmp-schema`."""
    reply = list(reply)
    entities = {entity["name"]: entity for entity in reply}
    own_entity = {name: entities[mask] for mask, name in compare_with_reply(definitions, reply).names.items()}
    placed = dict(definitions)
    for name, definition in definitions.items():
        is_top_level = definition.kind in ("command", "event")
        entity = entities.get(name) if is_top_level else own_entity.get(name)
        if entity is None:
            continue
        flags = definition.flags
        if entity.get("allow-oob") and "oob" not in flags:
            flags = ("oob", *flags)
        holder = entities[entity["arg-type"]] if is_top_level and not definition.data else entity
        placed[name] = attrs.evolve(
            definition,
            features=tuple(entity.get("features", ())),
            flags=flags,
            members=_placed_items(definition.members, holder),
            values=_placed_items(definition.values, holder),
        )
    return placed
