# SPDX-License-Identifier: BSD-2-Clause
"""Source text of the generated modules, formatted as ``ruff format`` does."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tools.qapi.classes import Alias, Class, Classes, Field, literal_text, quoted
from tools.qapi.model import Schema
from tools.qapi.naming import natural_key, version_key

LINE_LENGTH = 120
LICENSE_LINE = "# SPDX-License-Identifier: BSD-2-Clause"
PACKAGE = "hvkit.qmp.schema"

#: Features that comments and docstrings mention.
_SHOWN_FEATURES = ("deprecated", "unstable")

_BASE_NAMES = ("Command", "Event", "FreeForm", "Null", "Struct", "Union", "free_form", "wire")
_TYPING_NAMES = ("Any", "Literal", "TypeAlias")
_KINDS = {"alternate": "Alternate", "command": "Command", "enum": "Enumeration", "event": "Event"}
_KINDS |= {"struct": "Struct", "union": "Union"}


def bracketed(opening: str, parts: Sequence[str], closing: str, indent: str = "") -> str:
    """Return parts in brackets: on one line, or one part per line if that line is too long."""
    line = f"{indent}{opening}{', '.join(parts)}{closing}"
    if len(line) <= LINE_LENGTH and "\n" not in line:
        return line
    body = "".join(f"{indent}    {part},\n" for part in parts)
    return f"{indent}{opening}\n{body}{indent}{closing}"


def docstring(sentences: Iterable[str], indent: str = "    ") -> str:
    """Return a docstring of one paragraph."""
    text = " ".join(sentences)
    line = f'{indent}"""{text}"""'
    if len(line) <= LINE_LENGTH:
        return line
    wrapped = textwrap.wrap(
        f'"""{text}',
        LINE_LENGTH - 3,  # as if the closing quotes were on the same line
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join([*wrapped, f'{indent}"""'])


def import_order(name: str) -> tuple[int, object]:
    """Return the sort key of a name in an import: constants, then classes, then functions."""
    rank = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    return rank, natural_key(name)


def import_line(module: str, names: Iterable[str], indent: str = "") -> str:
    """Return the statement that imports names from a module."""
    ordered = sorted(names, key=import_order)
    line = f"{indent}from {module} import {', '.join(ordered)}"
    return line if len(line) <= LINE_LENGTH else bracketed(f"from {module} import (", ordered, ")", indent)


def version_limits(versions: Sequence[str], every: Sequence[str], since: str) -> str:
    """Return a text on the versions that have something, such as "since 8.1"; empty if all have it.

    Args:
        versions: the versions that have it.
        every: the versions to compare with.
        since: the first version according to the schema; empty if the schema does not say.
    """
    if list(versions) == list(every) or not versions:
        return ""
    if versions == every[-len(versions) :]:
        missing = every[-len(versions) - 1]
        if since and version_key(since) > version_key(missing):
            return f"since {since}"
        return f"{versions[0]} and later"
    if versions == every[: len(versions)] and len(versions) > 1:
        return f"until {versions[-1]}"
    return f"{' and '.join(versions)} only"


def _shown_features(features: Iterable[str]) -> list[str]:
    return [feature for feature in features if feature in _SHOWN_FEATURES]


class Writer:
    """Writes the modules of one schema."""

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._schema: Schema = classes.schema

    def _opening(self, definition_name: str) -> list[str]:
        """Return the first sentences on a definition: kind, name, versions and conditions."""
        definition = self._schema.newest[definition_name]
        versions, every = self._schema.versions_of(definition_name), self._schema.versions
        limit = version_limits(versions, every, definition.since)
        since = f"since {definition.since}" if definition.since and versions[0] == every[0] else ""
        parts = [f"{_KINDS[definition.kind]} `{definition_name}`", *(part for part in (since, limit) if part)]
        sentences = [", ".join(dict.fromkeys(parts)) + "."]
        shown = _shown_features(definition.features)
        if shown:
            sentences.append(f"{' and '.join(shown).capitalize()}.")
        if definition.condition:
            sentences.append(f"Requires {definition.condition}.")
        return sentences

    def _predecessor_note(self, definition_name: str) -> list[str]:
        older: dict[str, str] = {}
        for version, name in self._schema.predecessors.get(definition_name, ()):
            older[name] = version
        return [
            f"QEMU {version} and earlier use `{name}` instead."
            for name, version in older.items()
            if not self._schema.newest.get(name) or self._schema.newest[name].kind == "struct"
        ]

    def _docstring(self, made: Class) -> str:
        definition = self._schema.newest[made.definition_name]
        if made.kind == "branch":
            return docstring(made.notes)
        sentences = self._opening(made.definition_name)
        sentences += self._predecessor_note(made.definition_name)
        if made.kind == "command":
            if made.name == definition.data:
                sentences.append("Also the struct of its arguments.")
            if definition.returns:
                array = definition.returns.startswith("[")
                returned = self._classes.annotation(definition.returns).removeprefix("list[").removesuffix("]")
                sentences.append(f"Returns {'a list of ' if array else ''}`{returned}`.")
            if "preconfig" in definition.flags:
                sentences.append("Allowed in preconfig state.")
        return docstring([*sentences, *made.notes])

    def _field_line(self, field: Field) -> str:
        annotation, default = field.annotation, field.default
        if default == "None" and annotation != "Any":
            annotation = f"{annotation} | None"
        if field.wire_name:
            default = f"wire({quoted(field.wire_name)}{f', default={default}' if default else ''})"
        line = f"    {field.name}: {annotation}{f' = {default}' if default else ''}"
        if len(line) > LINE_LENGTH and field.narrowed_to:
            values = [quoted(value) for value in field.narrowed_to]
            return bracketed(f"{field.name}: Literal[", values, "]", "    ")
        comment = _member_comment(field)
        if len(line + comment) > LINE_LENGTH and field.wire_name:
            opening, _, arguments = line.partition("wire(")
            line = f"{opening}wire(\n        {arguments.removesuffix(')')}\n    )"
        return line + comment

    def class_text(self, made: Class) -> str:
        """Return a class statement."""
        keywords = dict(made.keywords)
        if made.branches:
            pairs = [f"{quoted(tag)}: {quoted(name)}" for tag, name in made.branches.items()]
            keywords["branches"] = bracketed("{", pairs, "}")
        arguments = [*made.bases, *(f"{key}={value}" for key, value in keywords.items())]
        line = f"class {made.name}({', '.join(arguments)}):"
        if len(line) > LINE_LENGTH or "\n" in line:
            if made.branches:
                body = bracketed("branches={", pairs, "}", "    ").lstrip()
                arguments[-1] = body
            line = bracketed(f"class {made.name}(", arguments, "):")
        lines = [line, self._docstring(made)]
        if made.fields:
            lines += ["", *(self._field_line(field) for field in made.fields)]
        return "\n".join(lines)

    def alias_text(self, alias: Alias) -> str:
        """Return an alias statement with its comment."""
        sentences = self._opening(alias.definition_name)
        head = [f"#: {line}" for line in textwrap.wrap(" ".join(sentences), LINE_LENGTH - 3, break_on_hyphens=False)]
        if alias.alternatives:
            return "\n".join([*head, f"{alias.name}: TypeAlias = {quoted(' | '.join(alias.alternatives))}"])
        definition = self._schema.newest[alias.definition_name]
        every = self._schema.versions_of(alias.definition_name)
        comments = {}
        for value, item in definition.values.items():
            words = [version_limits(self._schema.item_versions(alias.definition_name, value), every, item.since)]
            comments[value] = _comment([*words, *_shown_features(item.features)])
        line = f"{alias.name} = {literal_text(alias.values)}"
        if any(comments.values()) or len(line) > LINE_LENGTH:
            body = [f"    {quoted(value)},{comments[value]}" for value in alias.values]
            line = "\n".join([f"{alias.name} = Literal[", *body, "]"])
        return "\n".join([*head, line])

    def modules(self) -> dict[str, str]:
        """Return the text of every module by its name."""
        names = {each.module for each in self._classes.everything()}
        bases = self.imported_bases()
        check_no_cycles(bases)
        return {name: self._module_text(name, bases.get(name, {})) for name in sorted(names)}

    def imported_bases(self) -> dict[str, dict[str, list[str]]]:
        """Return the names that each module imports at run time, by the module that defines them."""
        found: dict[str, dict[str, list[str]]] = {}
        for made in self._classes.classes.values():
            for base in made.bases:
                owner = self._classes.classes.get(base)
                if owner is not None and owner.module != made.module:
                    names = found.setdefault(made.module, {}).setdefault(owner.module, [])
                    if base not in names:
                        names.append(base)
        return found

    def _module_text(self, module: str, imported: Mapping[str, Sequence[str]]) -> str:
        aliases = sorted((a for a in self._classes.aliases.values() if a.module == module), key=lambda a: a.name)
        classes = list(self._ordered(module))
        body = [self.alias_text(alias) for alias in aliases]
        texts = ["\n\n".join(body)] if body else []
        texts += [self.class_text(made) for made in classes]
        used = set(re.findall(r"[A-Za-z_]\w*", " ".join(_words_of(classes, aliases))))
        head = [LICENSE_LINE, self._module_docstring(module), "", "from __future__ import annotations", ""]
        annotated = self._annotated(module, used, {name for names in imported.values() for name in names})
        typing = [name for name in _TYPING_NAMES if name in used] + (["TYPE_CHECKING"] if annotated else [])
        if typing:
            head += [import_line("typing", typing), ""]
        base_names = [name for name in _BASE_NAMES if name in used]
        if base_names:
            head.append(import_line("hvkit.qmp.base", base_names))
        head += [import_line(f"{PACKAGE}.{name}", imported[name]) for name in sorted(imported)]
        if annotated:
            head += ["", "if TYPE_CHECKING:"]
            head += [import_line(f"{PACKAGE}.{name}", annotated[name], "    ") for name in sorted(annotated)]
        separator = "\n\n" if body else "\n\n\n"
        return "\n".join(head).rstrip("\n") + separator + "\n\n\n".join(texts) + "\n"

    def _module_docstring(self, module: str) -> str:
        subject = "the guest agent" if module == "qga" else f"QAPI module `{module.replace('_', '-')}`"
        versions = self._schema.versions
        known = f"{', '.join(versions[:-1])} and {versions[-1]}"
        return (
            f'"""Types, events and commands of {subject}. Generated by `make schema`: do not edit.\n\n'
            f"None means that a member is absent. Versions are QEMU versions; {known} are covered.\n"
            f'"""'
        )

    def _annotated(self, module: str, used: Iterable[str], imported: Iterable[str]) -> dict[str, list[str]]:
        """Return the names that only annotations use, by the module that defines them."""
        found: dict[str, list[str]] = {}
        for name in set(used) - set(imported):
            owner = self._classes.classes.get(name) or self._classes.aliases.get(name)
            if owner is not None and owner.module != module:
                found.setdefault(owner.module, []).append(name)
        return found

    def _ordered(self, module: str) -> Iterator[Class]:
        """Yield a module's classes: structs, each union before its branches, then events, then commands."""
        ranks = {"event": 1, "command": 2}
        here = {made.name: made for made in self._classes.classes.values() if made.module == module}
        done: set[str] = set()

        def with_bases(made: Class) -> Iterator[Class]:
            if made.name in done:
                return
            done.add(made.name)
            for base in made.bases:
                if base in here:
                    yield from with_bases(here[base])
            yield made
            for branch in made.branches.values():
                if branch in here:
                    yield from with_bases(here[branch])

        for made in sorted(here.values(), key=lambda made: (ranks.get(made.kind, 0), made.name)):
            yield from with_bases(made)


def _comment(words: Iterable[str]) -> str:
    text = ", ".join(word for word in words if word)
    return f"  # {text}" if text else ""


def _member_comment(field: Field) -> str:
    if field.member is None or field.narrowed_to:
        return ""
    item = field.member.item
    limit = version_limits(field.member.versions, field.member.owner_versions, item.since)
    return _comment([limit, *_shown_features(item.features)])


def _words_of(classes: Iterable[Class], aliases: Iterable[Alias]) -> Iterator[str]:
    """Yield the source text that may contain names to import."""
    for made in classes:
        yield from made.bases
        for field in made.fields:
            yield "Literal" if field.narrowed_to else field.annotation
            if field.wire_name:
                yield "wire"
            if field.default.startswith("free_form"):
                yield field.default
    for alias in aliases:
        yield from alias.alternatives
        yield "TypeAlias" if alias.alternatives else "Literal"


def check_no_cycles(imports: Mapping[str, Iterable[str]]) -> None:
    """Check that no modules import each other at run time.

    Raises:
        ValueError: modules import each other; the error names them.
    """
    done: set[str] = set()

    def visit(module: str, above: list[str]) -> None:
        if module in above:
            raise ValueError(f"modules import each other: {' -> '.join([*above, module])}")
        if module not in done:
            for imported in imports.get(module, ()):
                visit(imported, [*above, module])
            done.add(module)

    for module in imports:
        visit(module, [])
