# SPDX-License-Identifier: BSD-2-Clause
"""Paths that name a place in a QMP schema, and the description of a place in hvkit's own schema.

A path is the name of a command or event, followed by steps separated by slashes::

    blockdev-add                                        a command
    SHUTDOWN/reason                                     a member of an event
    migrate-set-parameters/multifd-channels             an argument
    query-status->/running                              a member of a reply
    migrate-set-capabilities/capabilities/capability=multifd    a value of an enumeration
    blockdev-add/driver=qcow2/data-file                 a member of a union branch, selected by the tag
    blockdev-add/@json-cli                              a feature

Arrays and alternates need no step: a member is searched in the elements of an array and in every alternative.
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
    """A member, and one of its values; the value is empty if the path does not name one."""

    member: str
    value: str


class SchemaPath(NamedTuple):
    """A parsed path.

    Attributes:
        root: wire name of a command or event.
        is_reply: whether the path leads into the command's reply instead of its arguments.
        steps: the steps after the root.
        feature: the feature at the end of the path; empty if there is none.
    """

    root: str
    is_reply: bool
    steps: tuple[Step, ...]
    feature: str


@functools.lru_cache(maxsize=1024)
def parse_path(path: str) -> SchemaPath:
    """Parse a path.

    Raises:
        ProgrammerError: the path is malformed.
    """
    first, *rest = path.split("/")
    feature = ""
    if rest and rest[-1].startswith("@"):
        found = _FEATURE.fullmatch(rest.pop())
        if found is None:
            raise _malformed(path, "a feature is @ and its name")
        feature = found[1]
    root = _ROOT.fullmatch(first)
    if root is None:
        raise _malformed(path, "it must begin with the name of a command or event, followed by -> for a reply")
    steps = []
    for text in rest:
        step = _STEP.fullmatch(text)
        if step is None:
            raise _malformed(path, f"{text!r} is neither MEMBER nor MEMBER=VALUE")
        steps.append(Step(step[1], step[2] or ""))
    return SchemaPath(root[1], root[2] is not None, tuple(steps), feature)


def _malformed(path: str, problem: str) -> ProgrammerError:
    return ProgrammerError(f"malformed schema path {path!r}: {problem}")


class KnownPlace(NamedTuple):
    """The description of a place in hvkit's schema; empty for a place that it does not have.

    Introspection hides the names of types and has no versions; hvkit's schema has both.

    Attributes:
        type: the type of a member as in QEMU's manual, such as ``BlockdevRef`` or ``list[str]``; empty otherwise.
        versions: the versions of QEMU that have it, such as ``since 8.1`` or ``until 10.0``; empty if all do.
        is_known: whether hvkit's schema has the place.
    """

    type: str = ""
    versions: str = ""
    is_known: bool = False


def describe_place(path: SchemaPath) -> KnownPlace:
    """Return the description of a place in hvkit's schema. A feature at the end of the path is ignored."""
    # Imported here: only errors and listings need it.
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
    """Yield the schema classes in a type, those in arrays and alternates included."""
    if get_origin(kind) in (list, typing.Union, types.UnionType):
        for each in get_args(kind):
            yield from _classes_in(each)
    elif isinstance(kind, type) and issubclass(kind, Struct):
        yield kind


def _branch_of(owner: type[Struct], step: Step) -> type[Struct]:
    """Return the class to search for further members after a step with a value."""
    if issubclass(owner, Union) and owner.tag == step.member and step.value in owner.branches:
        branch: type[Struct] = resolve(owner.branches[step.value], owner.__module__)
        return branch
    return owner


def _member_of(cls: type[Struct], wire_name: str) -> Member | None:
    return next((each for each in members_of(cls).values() if each.wire_name == wire_name), None)


def _declaring(owner: type[Struct], member: Member) -> Iterator[type[Struct]]:
    """Yield the classes that declare a member, the most derived first."""
    for cls in owner.__mro__:
        if issubclass(cls, Struct) and member.name in inspect.get_annotations(cls):
            yield cls


def _type_name(owner: type[Struct], member: Member) -> str:
    """Return the name of a member's type; for a tag that a branch narrows, the name of the full enumeration."""
    for cls in _declaring(owner, member):
        name: str = members_of(cls)[member.name].annotation.removesuffix(" | None")
        if not name.startswith("Literal["):
            return name
    return ""


def _member_versions(owner: type[Struct], member: Member, versions: dict[str, str]) -> str:
    nearest = next(_declaring(owner, member))
    return versions.get(f"{nearest.__name__}.{member.wire_name}", "")
