# SPDX-License-Identifier: BSD-2-Clause
"""Parser of QMP command arguments such as ``file.driver=file``, typed by the schema."""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NoReturn, get_args, get_origin

from hvkit.cli.depth import TOO_DEEP, is_deeper
from hvkit.qmp import DataError
from hvkit.qmp.base import Command, FreeForm, Null, Struct, Union, free_form_member, members_of, resolve
from hvkit.qmp.converter import structure

#: Maximum nesting of an argument. The deepest useful argument is a backing chain of disk images.
_MAX_LEVELS: Final = 100

_BOOLEANS: Final = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


class ArgumentError(Exception):
    """Raised for an invalid argument of a command.

    Attributes:
        key: the key as given.
        problem: the error.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}" if self.key else self.problem


def parse_words(words: Iterable[str]) -> dict[str, Any]:
    """Parse ``key=value`` words to a tree of strings. A dot in a key separates levels.

    Raises:
        ArgumentError: a word has another form, or its key conflicts with an earlier one.
    """
    tree: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        steps = key.split(".")
        if not equals or not all(steps):
            raise ArgumentError("", f"expected key=value, got {word!r}")
        if len(steps) > _MAX_LEVELS:
            raise ArgumentError(f"{key[:20]}...", TOO_DEEP)
        place = tree
        for step in steps[:-1]:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                raise ArgumentError(key, "conflicts with an earlier key that has a value")
        if steps[-1] in place:
            raise ArgumentError(key, "given twice")
        place[steps[-1]] = text
    return tree


def build_command(cls: type[Command[Any]], words: Iterable[str]) -> Command[Any]:
    """Build a command from ``key=value`` words.

    Raises:
        ArgumentError: a member does not exist, is missing, or has a value of the wrong type.
    """
    tree = parse_words(words)
    kind: Any = members_of(cls)[cls.whole_argument].type if cls.whole_argument else cls
    plain = _typed_members(kind, tree, "")
    try:
        command: Command[Any] = structure(plain, cls)
    except DataError as error:
        raise ArgumentError(error.path, error.problem) from error
    return command


def parse_free(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a tree of strings without a schema: a string that is JSON is parsed, any other stays a string.

    Raises:
        ArgumentError: a value is nested too deeply.
    """
    return {key: parse_free(value) if isinstance(value, dict) else _free(value, key) for key, value in tree.items()}


def _free(text: str, where: str) -> Any:
    try:
        return _parse_json(text, where)
    except ValueError:
        return text


def _parse_json(text: str, where: str) -> Any:
    """Parse strict JSON, without the NaN and Infinity that Python's parser accepts.

    Raises:
        ValueError: the text is not JSON.
        ArgumentError: the text is nested too deeply; it may be invalid as well.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    try:
        data = json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ArgumentError(where, TOO_DEEP) from None
    if is_deeper(data, _MAX_LEVELS):
        raise ArgumentError(where, TOO_DEEP)
    return data


def _typed_members(cls: type[Struct], tree: Mapping[str, Any], path: str) -> dict[str, Any]:
    cls = _branch(cls, tree, path)
    rest = free_form_member(cls)
    known = {member.wire_name: member for name, member in members_of(cls).items() if name != rest}
    plain = {}
    for key, value in tree.items():
        where = f"{path}.{key}" if path else key
        if key in known:
            plain[key] = _typed(known[key].type, value, where)
        elif rest is not None:
            plain[key] = parse_free({key: value})[key]
        else:
            _check_tag(cls, tree, path)
            matches = difflib.get_close_matches(key, known, n=2)
            hint = f"did you mean {' or '.join(matches)}?" if matches else f"members: {', '.join(known) or 'none'}"
            raise ArgumentError(where, f"no such member; {hint}")
    return plain


def _check_tag(cls: type[Struct], tree: Mapping[str, Any], path: str) -> None:
    """Reject a tag that selects no branch of a union. Its other members cannot be checked."""
    if not (issubclass(cls, Union) and cls.tag):
        return
    tag = tree.get(cls.tag)
    if isinstance(tag, str) and tag not in cls.branches:
        matches = difflib.get_close_matches(tag, cls.branches, n=2)
        hint = f"did you mean {' or '.join(matches)}?" if matches else f"expected one of {', '.join(cls.branches)}"
        raise ArgumentError(f"{path}.{cls.tag}" if path else cls.tag, f"no such value {tag!r}; {hint}")


def _branch(cls: type[Struct], tree: Mapping[str, Any], path: str) -> type[Struct]:
    """Return the branch of a union that the tag selects. Any other class is returned unchanged."""
    if not (issubclass(cls, Union) and cls.tag):
        return cls
    tag = tree.get(cls.tag)
    if tag is None:
        where = f"{path}.{cls.tag}" if path else cls.tag
        raise ArgumentError(where, f"missing; expected one of {', '.join(cls.branches)}")
    if isinstance(tag, str) and tag in cls.branches:
        branch: type[Struct] = resolve(cls.branches[tag], cls.__module__)
        return branch
    return cls


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """Return the types that a value may have: several for an alternate, one otherwise."""
    if get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(each for each in get_args(kind) if each is not type(None))
    return (kind,)


def _typed(kind: Any, value: Any, where: str) -> Any:
    kinds = _alternatives(kind)
    if isinstance(value, dict):
        return _typed_tree(kinds, value, where)
    # str accepts every text, so it is tried last.
    for each in sorted(kinds, key=lambda kind: kind is str):
        fits, plain = _scalar(each, value, where)
        if fits:
            return plain
    expected = " or ".join(_describe(each) for each in kinds)
    raise ArgumentError(where, f"expected {expected}, got {value!r}")


def _typed_tree(kinds: tuple[Any, ...], tree: Mapping[str, Any], where: str) -> Any:
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, Struct):
            return _typed_members(kind, tree, where)
        if kind is Any or kind == FreeForm:
            return parse_free(tree)
    raise ArgumentError(where, "not a structure, so it has no members")


def _scalar(kind: Any, text: str, where: str) -> tuple[bool, Any]:
    """Return whether a text is valid for a type, and the converted value."""
    if kind is bool:
        return text in _BOOLEANS, _BOOLEANS.get(text)
    if kind is int:
        try:
            return True, int(text, 0)
        except ValueError:
            return False, None
    if kind is Any:
        return True, _free(text, where)
    if kind is Null:
        return text == "null", None
    if kind is str or get_origin(kind) is Literal:
        return True, text
    try:
        data = _parse_json(text, where)
    except ValueError:
        return False, None
    return isinstance(data, list if get_origin(kind) is list else dict), data


def _describe(kind: Any) -> str:
    if kind in (bool, int):
        return "true or false" if kind is bool else "an integer"
    if kind is Null:
        return "null"
    return "a JSON array" if get_origin(kind) is list else "a JSON object"
