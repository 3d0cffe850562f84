# SPDX-License-Identifier: BSD-2-Clause
"""The little language that names a place in a QMP schema, and what hvkit's own schema knows of such a place.

A path names a command or an event and then, with slashes between them, what leads on from there::

    blockdev-add                                        a command
    SHUTDOWN/reason                                     a member of an event
    migrate-set-parameters/multifd-channels             an argument
    query-status->/running                              a member of a reply
    migrate-set-capabilities/capabilities/capability=multifd    a value of an enumeration
    blockdev-add/driver=qcow2/data-file                 a member of the branch that a tag's value picks
    blockdev-add/@json-cli                              a feature

Arrays and alternates are entered without a word: a member's name is looked for in an array's elements, and in every
alternative.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, get_args, get_origin

from hvkit.errors import ProgrammerError
from hvkit.qmp import schema
from hvkit.qmp.base import Command, Member, Struct, Union, members_of, resolve

_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]*?"
_ROOT: Final = re.compile(rf"({_NAME})(->)?")
_STEP: Final = re.compile(rf"({_NAME})(?:=({_NAME}))?")
_FEATURE: Final = re.compile(rf"@({_NAME})")


class Step(NamedTuple):
    """A member, and one of its values where that is named; empty where it is not."""

    member: str
    value: str


class SchemaPath(NamedTuple):
    """A path, taken apart.

    Attributes:
        root: wire name of a command or event.
        is_reply: it leads into the command's reply, not into its arguments.
        steps: what leads on from there.
        feature: what is asked for there, empty where it is the place itself.
    """

    root: str
    is_reply: bool
    steps: tuple[Step, ...]
    feature: str


@functools.lru_cache(maxsize=1024)
def parse_path(path: str) -> SchemaPath:
    """Take a path apart.

    Raises:
        ProgrammerError: it does not follow the language.
    """
    first, *rest = path.split("/")
    feature = ""
    if rest and rest[-1].startswith("@"):
        found = _FEATURE.fullmatch(rest.pop())
        if found is None:
            raise _no_path(path, "a feature is @ and its name")
        feature = found[1]
    root = _ROOT.fullmatch(first)
    if root is None:
        raise _no_path(path, "it begins with the name of a command or event, with -> behind it for a reply")
    steps = []
    for text in rest:
        step = _STEP.fullmatch(text)
        if step is None:
            raise _no_path(path, f"{text!r} is neither MEMBER nor MEMBER=VALUE")
        steps.append(Step(step[1], step[2] or ""))
    return SchemaPath(root[1], root[2] is not None, tuple(steps), feature)


def _no_path(path: str, problem: str) -> ProgrammerError:
    return ProgrammerError(f"{path!r} is no path into a schema: {problem}")


# ---- what hvkit's schema knows: the names that introspection hides, and which versions have what


class KnownPlace(NamedTuple):
    """What hvkit's schema says of a place; nothing of it for a place that it does not have.

    Attributes:
        type: of a member, as QEMU's manual calls it: ``BlockdevRef``, ``list[str]``; empty otherwise.
        versions: which versions of QEMU have it, in words: ``since 8.1``, ``until 10.0``; empty where all known ones
            have it.
        is_known: whether the schema has it.
    """

    type: str = ""
    versions: str = ""
    is_known: bool = False


def describe_place(path: SchemaPath) -> KnownPlace:
    """Return what hvkit's schema knows of a place. Features are not known to it."""
    # Loaded here: only errors and listings for people need it.
    from hvkit.qmp.schema import _since

    cls = _find_root(path.root)
    if cls is None:
        return KnownPlace()
    place = KnownPlace(versions=_since.TOP_LEVEL.get(path.root, ""), is_known=True)
    classes = list(_classes_in(_type_within(cls, path.is_reply)))
    for step in path.steps:
        found = next(((each, member) for each in classes if (member := _member_of(each, step.member))), None)
        if found is None:
            return KnownPlace()
        owner, member = found
        name = _type_name(owner, member)
        place = KnownPlace(name, _member_versions(owner, member, _since.MEMBERS), True)
        classes = list(_classes_in(member.type))
        if step.value:
            enumeration = name.removeprefix("list[").removesuffix("]")
            place = KnownPlace("", _since.VALUES.get(f"{enumeration}.{step.value}", ""), True)
            classes = [_branch_of(owner, step)]
    return place


def _find_root(name: str) -> type[Struct] | None:
    if name in schema.commands():
        return schema.command(name)
    return schema.find_event(name)


def _type_within(cls: type[Struct], is_reply: bool) -> Any:
    if not issubclass(cls, Command):
        return cls
    if is_reply:
        return cls.reply_type
    return members_of(cls)[cls.whole_argument].type if cls.whole_argument else cls


def _classes_in(kind: Any) -> Iterator[type[Struct]]:
    """Yield the schema classes in a type: through arrays and alternates."""
    if get_origin(kind) in (list, typing.Union, types.UnionType):
        for each in get_args(kind):
            yield from _classes_in(each)
    elif isinstance(kind, type) and issubclass(kind, Struct):
        yield kind


def _branch_of(owner: type[Struct], step: Step) -> type[Struct]:
    """Return where members are looked for once a member has this value."""
    if issubclass(owner, Union) and owner.tag == step.member and step.value in owner.branches:
        branch: type[Struct] = resolve(owner.branches[step.value], owner.__module__)
        return branch
    return owner


def _member_of(cls: type[Struct], wire_name: str) -> Member | None:
    return next((each for each in members_of(cls).values() if each.wire_name == wire_name), None)


def _declaring(owner: type[Struct], member: Member) -> Iterator[type[Struct]]:
    """Yield the classes that declare a member, the nearest first."""
    for cls in owner.__mro__:
        if issubclass(cls, Struct) and member.name in inspect.get_annotations(cls):
            yield cls


def _type_name(owner: type[Struct], member: Member) -> str:
    """Return the name of a member's type; that of a tag where a branch declares it narrower."""
    for cls in _declaring(owner, member):
        name: str = members_of(cls)[member.name].annotation.removesuffix(" | None")
        if not name.startswith("Literal["):
            return name
    return ""


def _member_versions(owner: type[Struct], member: Member, versions: dict[str, str]) -> str:
    nearest = next(_declaring(owner, member))
    return versions.get(f"{nearest.__name__}.{member.wire_name}", "")
