# SPDX-License-Identifier: BSD-2-Clause
"""Reading the facts of one version from a QEMU source tree.

The schema language is JSON with single quotes and comments. Only version numbers are read from the comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from tools.qapi.facts import Definition, Item

#: A parsed expression: strings, booleans, null, lists, objects.
Expression = Any

KINDS = ("command", "event", "struct", "union", "enum", "alternate")

_TOKEN = re.compile(
    r"""\s+ | \#[^\n]* | (?P<mark>[\[\]{}:,]) | '(?P<string>(?:[^'\\]|\\.)*)' | (?P<word>true|false|null)""", re.VERBOSE
)
_WORDS: Mapping[str, Expression] = {"true": True, "false": False, "null": None}

#: Flags of a command, by the key that sets them to true, and by the key that sets them if it is false.
_FLAGS = {"allow-oob": "oob", "allow-preconfig": "preconfig", "coroutine": "coroutine", "boxed": "boxed"}
_NEGATIVE_FLAGS = {"gen": "no-gen", "success-response": "no-success-response"}

SINCE = re.compile(r"\b[Ss]ince:?\s+(?:QEMU\s+)?(\d+\.\d+)")
_DOCUMENTED_MEMBER = re.compile(r"#\s*@([\w.-]+):")
_DOCUMENT_SECTION = re.compile(r"#\s*(Since|Features|Returns|Errors|Notes?|Example|TODO|\.\.)\b")


class SchemaSyntaxError(Exception):
    """Raised when a file does not follow the schema language."""


@attrs.frozen
class SourceTree:
    """The contents of a schema.

    Attributes:
        definitions: the definitions, by name.
        modules: the QAPI modules.
    """

    definitions: Mapping[str, Definition]
    modules: tuple[str, ...]


@attrs.frozen
class _Token:
    kind: str
    text: str
    offset: int


def _tokens(text: str, where: str) -> Iterator[_Token]:
    offset = 0
    while offset < len(text):
        match = _TOKEN.match(text, offset)
        if match is None:
            line = text.count("\n", 0, offset) + 1
            raise SchemaSyntaxError(f"{where}:{line}: unexpected {text[offset : offset + 20]!r}")
        if match.lastgroup is not None:
            yield _Token(match.lastgroup, match[match.lastgroup], offset)
        offset = match.end()


class _Parser:
    """A parser for one file."""

    def __init__(self, text: str, where: str) -> None:
        self._tokens = list(_tokens(text, where))
        self._where = where
        self._next = 0

    def expressions(self) -> Iterator[tuple[Expression, int]]:
        while self._next < len(self._tokens):
            offset = self._tokens[self._next].offset
            yield self._value(), offset

    def _take(self) -> _Token:
        if self._next == len(self._tokens):
            raise SchemaSyntaxError(f"{self._where}: unexpected end of file")
        self._next += 1
        return self._tokens[self._next - 1]

    def _takes(self, mark: str) -> bool:
        """Consume a mark if it comes next; return whether it did."""
        here = self._tokens[self._next : self._next + 1]
        if here and here[0].kind == "mark" and here[0].text == mark:
            self._next += 1
            return True
        return False

    def _value(self) -> Expression:
        token = self._take()
        if token.kind == "string":
            return re.sub(r"\\(.)", r"\1", token.text)
        if token.kind == "word":
            return _WORDS[token.text]
        if token.text == "[":
            return self._list()
        if token.text == "{":
            return self._object()
        raise SchemaSyntaxError(f"{self._where}: unexpected {token.text!r}")

    def _list(self) -> list[Expression]:
        values: list[Expression] = []
        while not self._takes("]"):
            values.append(self._value())
            self._takes(",")
        return values

    def _object(self) -> dict[str, Expression]:
        entries: dict[str, Expression] = {}
        while not self._takes("}"):
            key = self._value()
            if not self._takes(":"):
                raise SchemaSyntaxError(f"{self._where}: missing colon after {key!r}")
            entries[key] = self._value()
            self._takes(",")
        return entries


def parse(text: str, where: str = "text") -> Iterator[tuple[Expression, int]]:
    """Yield each expression of a file with its offset.

    Raises:
        SchemaSyntaxError: the text does not follow the schema language; the error names the file.
    """
    return _Parser(text, where).expressions()


def documented_versions(text: str, end: int) -> tuple[str, dict[str, str]]:
    """Return the versions in the comment before an expression: its own, and those of its members.

    Args:
        text: the text of the file.
        end: the offset of the expression.
    """
    start = text.rfind("\n##\n", 0, max(text.rfind("##", 0, end), 0))
    block = text[start:end]
    own, member = "", ""
    members: dict[str, str] = {}
    if block.count("##") < 2:
        return own, {}
    for line in block.splitlines():
        heading = _DOCUMENTED_MEMBER.match(line)
        if heading:
            member = heading[1]
        if _DOCUMENT_SECTION.match(line):
            member = ""
        since = SINCE.search(line)
        if since and re.match(r"#\s*Since", line):
            own = since[1]
        elif since and member:
            members.setdefault(member, since[1])
    return own, members


def condition_text(condition: Expression) -> str:
    """Return an ``if`` condition as text, such as `A && !(B || C)`."""
    if not condition:
        return ""
    if isinstance(condition, str):
        return condition
    ((operator, operand),) = condition.items()
    if operator == "not":
        inner = condition_text(operand)
        return f"!{inner}" if isinstance(operand, str) else f"!({inner})"
    parts = []
    for each in operand:
        inner = condition_text(each)
        parts.append(inner if isinstance(each, str) or "not" in each else f"({inner})")
    return (" && " if operator == "all" else " || ").join(parts)


def _type_name(written: Expression) -> str:
    return f"[{written[0]}]" if isinstance(written, list) else str(written)


def _features(written: Mapping[str, Expression]) -> tuple[str, ...]:
    return tuple(each if isinstance(each, str) else each["name"] for each in written.get("features", ()))


def _item(written: Mapping[str, Expression], since: str, *, is_optional: bool = False) -> Item:
    return Item(
        type=_type_name(written["type"]) if "type" in written else "",
        is_optional=is_optional,
        condition=condition_text(written.get("if")),
        features=_features(written),
        since=since,
    )


def _members(written: Mapping[str, Expression] | None, since: Mapping[str, str]) -> dict[str, Item]:
    members = {}
    for key, value in (written or {}).items():
        name = key.removeprefix("*")
        spelled_out = value if isinstance(value, dict) else {"type": value}
        members[name] = _item(spelled_out, since.get(name, ""), is_optional=name != key)
    return members


def _values(written: list[Expression], since: Mapping[str, str]) -> dict[str, Item]:
    spelled_out = [each if isinstance(each, dict) else {"name": each} for each in written]
    return {each["name"]: _item(each, since.get(each["name"], "")) for each in spelled_out}


def read_definition(
    expression: Mapping[str, Expression], module: str, versions: tuple[str, dict[str, str]]
) -> Definition:
    """Return the definition in an expression.

    Args:
        expression: an expression with a definition.
        module: the QAPI module of the expression.
        versions: the versions in its comment.
    """
    kind = next(kind for kind in KINDS if kind in expression)
    since, member_since = versions
    definition = Definition(
        kind=kind,
        module=module,
        since=since,
        condition=condition_text(expression.get("if")),
        features=_features(expression),
    )
    data = expression.get("data")
    if kind == "enum":
        return attrs.evolve(definition, values=_values(expression["data"], member_since))
    if kind == "alternate":
        return attrs.evolve(definition, members=_members(expression["data"], {}))
    if kind == "union":
        base = expression["base"]
        return attrs.evolve(
            definition,
            tag=expression["discriminator"],
            base=base if isinstance(base, str) else "",
            members={} if isinstance(base, str) else _members(base, member_since),
            variants=_members(expression["data"], {}),
        )
    flags = [flag for key, flag in _FLAGS.items() if expression.get(key)]
    flags += [flag for key, flag in _NEGATIVE_FLAGS.items() if expression.get(key) is False]
    return attrs.evolve(
        definition,
        base=expression.get("base", ""),
        data=data if isinstance(data, str) else "",
        members={} if isinstance(data, str) else _members(data, member_since),
        returns=_type_name(expression["returns"]) if "returns" in expression else "",
        flags=tuple(flags),
    )


def _module_of(path: Path) -> str:
    if path.parent.name != "qapi":
        return "qga"
    return "main" if path.stem == "qapi-schema" else path.stem


def read_source_tree(entry: Path) -> SourceTree:
    """Read a schema and the files that it includes.

    Args:
        entry: the main file of the schema, such as ``qapi/qapi-schema.json`` in a source tree.

    Raises:
        SchemaSyntaxError: a file does not follow the schema language, or two definitions have the same name.
    """
    definitions: dict[str, Definition] = {}
    seen: list[Path] = []

    def read(path: Path) -> None:
        path = path.resolve()
        if path in seen:
            return
        seen.append(path)
        text = path.read_text(encoding="utf-8")
        for expression, offset in parse(text, str(path)):
            if "include" in expression:
                read(path.parent / expression["include"])
            elif "pragma" not in expression:
                definition = read_definition(expression, _module_of(path), documented_versions(text, offset))
                name = expression[definition.kind]
                if name in definitions:
                    raise SchemaSyntaxError(f"{path}: {name} is defined twice")
                definitions[name] = definition

    read(entry)
    return SourceTree(definitions, tuple(sorted({path.stem for path in seen} - {"pragma", "qapi-schema"})))
