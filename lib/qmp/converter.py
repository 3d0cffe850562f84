# SPDX-License-Identifier: BSD-2-Clause
"""Strict conversion of plain data to schema values and back.

The hooks differ from those of cattrs: they coerce nothing (5 is not a string, "no" is not a boolean), keep members that
the schema does not know, select the branch of a union by its tag, and name the place of an error in wire names. A hook
is created at the first use of its type, because a process uses few of the thousand types of the schema.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, overload

import attrs
import cattrs

from hvkit.errors import ProgrammerError
from hvkit.qmp.base import (
    NULL,
    Command,
    FreeForm,
    Member,
    Null,
    Struct,
    Union,
    free_form_member,
    members_of,
    resolve,
)
from hvkit.qmp.errors import DataError

T = TypeVar("T")

#: Takes plain data and the type, and returns the value. The type is fixed for each hook; cattrs passes it anyway.
Hook = Callable[[Any, Any], Any]

_JSON_NAMES = {dict: "object", list: "array", bool: "bool", int: "int", float: "number", str: "str", type(None): "null"}


class StructureError(Exception):
    """Raised by a hook when data does not have the structure of its type; collects the path to the place.

    Attributes:
        problem: the mismatch.
        path: members and indices of the place, innermost first.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: list[str | int] = []

    def within(self, step: str | int) -> StructureError:
        """Add the member or index that contains the place; return the error."""
        self.path.append(step)
        return self


def _mismatch(expected: str, data: Any) -> StructureError:
    return StructureError(f"expected {expected}, got {_JSON_NAMES.get(type(data), type(data).__name__)}")


def _path_text(root: str, path: list[str | int]) -> str:
    text = root
    for step in reversed(path):
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


converter = cattrs.BaseConverter(unstruct_strat=cattrs.UnstructureStrategy.AS_DICT)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _is_alternate(kind: Any) -> bool:
    return get_origin(kind) in (typing.Union, types.UnionType)


def _is_enumeration(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is list


@functools.cache
def _hook_for(kind: Any) -> Hook:
    """Return the hook of a type; the lookup of cattrs takes as long as structuring a small reply."""
    return converter.get_structure_hook(kind)


def _scalar_hook(kind: type) -> Hook:
    """Return a hook that accepts exactly one type; isinstance would accept a bool, which is a subclass, for an int."""
    name = _JSON_NAMES[kind]

    def structure_scalar(data: Any, _: Any) -> Any:
        if type(data) is kind:
            return data
        raise _mismatch(name, data)

    return structure_scalar


def _structure_number(data: Any, _: Any) -> Any:
    if type(data) is float or type(data) is int:
        return data
    raise _mismatch("number", data)


def _structure_null(data: Any, _: Any) -> Any:
    if data is None:
        return NULL
    raise _mismatch("null", data)


def _structure_nothing(data: Any, _: Any) -> None:
    """Ignore the reply of a command without a return value: an empty object; from some old servers, an empty array."""
    return


def _structure_any(data: Any, _: Any) -> Any:
    return data


def _list_hook(kind: Any) -> Hook:
    (element,) = get_args(kind)
    hook: Hook | None = None

    def structure_list(data: Any, _: Any) -> Any:
        nonlocal hook
        if type(data) is not list:
            raise _mismatch("array", data)
        if hook is None:
            hook = _hook_for(element)
        structured: list[Any] = []
        take = structured.append
        try:
            for item in data:
                take(hook(item, element))
        except StructureError as error:
            raise error.within(len(structured)) from None
        return structured

    return structure_list


def _json_type(kind: Any) -> type:
    """Return the Python type that JSON of a schema type decodes to."""
    if _is_struct(kind):
        return dict
    if _is_list(kind):
        return list
    if _is_enumeration(kind):
        return str
    if kind is Null:
        return type(None)
    return typing.cast(type, kind)


def _alternate_hook(kind: Any) -> Hook:
    """Return the hook of an alternate: the JSON type selects the alternative."""
    alternatives = {_json_type(each): each for each in get_args(kind)}
    hooks: dict[type, Hook] = {}

    def structure_alternate(data: Any, _: Any) -> Any:
        json_type = type(data)
        alternative = alternatives.get(json_type)
        if alternative is None:
            names = sorted(_JSON_NAMES.get(each, each.__name__) for each in alternatives)
            raise _mismatch(" or ".join(names), data)
        hook = hooks.get(json_type)
        if hook is None:
            hook = hooks[json_type] = _hook_for(alternative)
        return hook(data, alternative)

    return structure_alternate


class _Slot:
    """The conversion of one member of a class.

    Attributes:
        name: Python name of the member.
        scalar: values of this type are used as they are; None if there is no such type, or before the first use.
        type: type of the member; None before the first use.
        hook: structures values that are not of the scalar type.
    """

    __slots__ = ("_member", "hook", "name", "scalar", "type")

    def __init__(self, member: Member) -> None:
        self.name = member.name
        self.scalar: type | None = None
        self.type: Any = None
        self.hook: Hook = self._find_hook
        self._member = member

    def _find_hook(self, data: Any, _: Any) -> Any:
        self.type = _member_type(self._member)
        if self.type is Any:
            self.hook = _structure_any_member
        else:
            self.hook = _hook_for(self.type)
            if _json_type(self.type) in (str, int, bool):
                self.scalar = _json_type(self.type)
        return self.hook(data, self.type)


def _structure_any_member(data: Any, _: Any) -> Any:
    """Structure a member of any type: null becomes `NULL`, because None means absent."""
    return NULL if data is None else data


def _member_type(member: Member) -> Any:
    """Return the type of a member without the None that means absent."""
    kind = member.type
    if _is_alternate(kind):
        return typing.Union[tuple(arg for arg in get_args(kind) if arg is not type(None))]  # noqa: UP007
    return kind


def _struct_hook(cls: type[Struct]) -> Hook:
    """Return the hook of a schema class: one pass over the data, no constructor call."""
    rest_name = free_form_member(cls)
    members = [member for member in members_of(cls).values() if member.name != rest_name]
    slots = {member.wire_name: _Slot(member) for member in members}
    required = frozenset(member.wire_name for member in members if member.default is attrs.NOTHING)
    defaults = {member.name: member.default for member in members if member.default is not attrs.NOTHING}
    count = len(members)
    new = object.__new__
    find_slot = slots.get

    def structure_struct(data: Any, _: Any) -> Any:
        if type(data) is not dict:
            raise _mismatch("object", data)
        made = new(cls)
        attributes = made.__dict__
        if defaults:
            attributes.update(defaults)
        rest = None
        key = None
        try:
            for key, value in data.items():
                slot = find_slot(key)
                if slot is None:
                    if rest is None:
                        rest = {}
                    rest[key] = value
                elif slot.scalar is type(value):
                    attributes[slot.name] = value
                else:
                    attributes[slot.name] = slot.hook(value, slot.type)
        except StructureError as error:
            raise error.within(str(key)) from None
        if len(attributes) < count:
            raise StructureError("member is missing").within(min(required - data.keys()))
        if rest_name is not None:
            attributes[rest_name] = rest or {}
        elif rest is not None:
            attributes["_unknown"] = rest
        return made

    return structure_struct


def _union_hook(cls: type[Union]) -> Hook:
    """Return the hook of a union: the tag selects the branch; an unknown tag gives the union class itself."""
    hooks: dict[Any, Hook] = {}
    common = _struct_hook(cls)

    def hook_for_tag(tag: Any) -> Hook:
        if not isinstance(tag, str) or tag not in cls.branches:
            return common
        branch = resolve(cls.branches[tag], cls.__module__)
        hooks[tag] = hook = _hook_for(branch)
        return hook

    def structure_union(data: Any, _: Any) -> Any:
        if type(data) is not dict:
            raise _mismatch("object", data)
        tag = data.get(cls.tag)
        hook = (hooks.get(tag) if isinstance(tag, str) else None) or hook_for_tag(tag)
        return hook(data, cls)

    return structure_union


def _class_hook(cls: type[Struct]) -> Hook:
    if issubclass(cls, Command) and cls.whole_argument:
        return _whole_argument_hook(cls)
    if issubclass(cls, Union) and cls.tag:
        return _union_hook(cls)
    return _struct_hook(cls)


def _whole_argument_hook(cls: type[Command[Any]]) -> Hook:
    """Return the hook of a command whose arguments are a union."""
    slot = _Slot(members_of(cls)[cls.whole_argument])

    def structure_command(data: Any, _: Any) -> Any:
        return cls(**{slot.name: slot.hook(data, slot.type)})

    return structure_command


for _kind in (str, int, bool):
    converter.register_structure_hook(_kind, _scalar_hook(_kind))
converter.register_structure_hook(float, _structure_number)
converter.register_structure_hook(Null, _structure_null)
converter.register_structure_hook(type(None), _structure_nothing)
converter.register_structure_hook_func(lambda kind: kind is Any, _structure_any)
converter.register_structure_hook_func(lambda kind: kind == FreeForm, _scalar_hook(dict))
converter.register_structure_hook_func(_is_enumeration, _scalar_hook(str))
converter.register_structure_hook_factory(_is_list, _list_hook)
converter.register_structure_hook_factory(_is_alternate, _alternate_hook)
converter.register_structure_hook_factory(_is_struct, _class_hook)


@overload
def structure(data: Any, kind: type[T], *, where: str = "") -> T: ...
@overload
def structure(data: Any, kind: Any, *, where: str = "") -> Any: ...
def structure(data: Any, kind: Any, *, where: str = "") -> Any:
    """Convert plain data to a value of a schema type.

    Args:
        data: plain data, as returned by `json.loads`.
        kind: a schema class, or a type composed of them such as ``list[BlockInfo]``.
        where: the name of the data in errors.

    Raises:
        DataError: the data does not have the structure of the type; `path` is the place, in wire names.
    """
    try:
        return _hook_for(kind)(data, kind)
    except StructureError as error:
        raise DataError(_path_text(where, error.path), error.problem) from None
    except RecursionError:
        raise DataError(where, "nested too deeply") from None


#: Types that need no conversion. A value is converted by its own type, not by the type of its member, so that a branch
#: of a union keeps its members.
_PLAIN = frozenset({str, int, bool, float})


def _unstructure_struct(value: Struct) -> Any:
    cls = type(value)
    if isinstance(value, Command) and value.whole_argument:
        return _unstructure(getattr(value, value.whole_argument))
    plain: dict[str, Any] = {}
    attributes = value.__dict__
    if not attributes:
        return plain
    rest_name = free_form_member(cls)
    for name, member in members_of(cls).items():
        member_value = attributes[name]
        if member_value is None or name == rest_name:
            continue
        try:
            plain[member.wire_name] = member_value if type(member_value) in _PLAIN else _unstructure(member_value)
        except StructureError as error:
            raise error.within(member.wire_name) from None
    rest = value.unknown if rest_name is None else getattr(value, rest_name)
    for key, item in rest.items():
        try:
            plain[key] = _unstructure(item)
        except StructureError as error:
            raise error.within(key) from None
    return plain


def _unstructure(value: Any) -> Any:
    if type(value) in _PLAIN or value is None:
        return value
    if isinstance(value, Struct):
        return _unstructure_struct(value)
    if value is NULL:
        return None
    if isinstance(value, Mapping):
        return {_key(key): _item(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_item(item, index) for index, item in enumerate(value)]
    raise StructureError(f"{type(value).__name__} cannot be sent as JSON")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    raise StructureError(f"a key must be a string, not {type(key).__name__}")


def _item(value: Any, step: str | int) -> Any:
    try:
        return _unstructure(value)
    except StructureError as error:
        raise error.within(step) from None


def unstructure(value: Any) -> Any:
    """Convert a schema value to plain data; a command to its arguments.

    Members that are None are left out; `NULL` becomes None.

    Raises:
        ProgrammerError: the value cannot be sent as JSON; the text names the place, in wire names.
    """
    try:
        return _unstructure(value)
    except StructureError as error:
        root = getattr(type(value), "wire_name", "") or type(value).__name__
        raise ProgrammerError(f"{_path_text(root, error.path)}: {error.problem}") from None
    except RecursionError:
        raise ProgrammerError(f"{type(value).__name__}: nested too deeply to be sent") from None


converter.register_unstructure_hook_func(_is_struct, unstructure)
