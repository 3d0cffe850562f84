# SPDX-License-Identifier: BSD-2-Clause
"""Deferred processing of schema classes: their members, their types, and the methods that attrs generates.

A schema class is a plain class statement. A process imports modules with some hundred classes and uses a few of them,
so a class is processed at its first use. In CPU time with Python 3.11, where `import hvkit.qmp` takes 50 ms:

* attrs processes a class at the first instance that is constructed (`build_class`), not in the class statement. That
  saves 0.3 ms for each class that is not used: 60 ms for a process that executes `query-block`, which imports
  `block_core` and its 189 classes.
* `members_of` reads the annotations instead of the fields of attrs, so that the classes of a reply, which the converter
  fills without a constructor, are not processed by attrs either. That saves 5 ms for a reply to `query-block`.

Types are resolved at their first use for another reason: generated modules do not import each other at run time.
"""

from __future__ import annotations

import builtins
import inspect
import sys
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, get_args

import attrs

from hvkit.errors import ProgrammerError


class Spec:
    """The declaration of a member, beyond its annotation.

    Attributes:
        wire_name: the name on the wire; None for the name that follows from the Python name.
        default: value of an absent member; `attrs.NOTHING` for a required member.
        is_free_form: whether the member holds arguments that the schema leaves open.
    """

    __slots__ = ("default", "is_free_form", "wire_name")

    def __init__(self, wire_name: str | None, default: Any, is_free_form: bool) -> None:
        self.wire_name = wire_name
        self.default = default
        self.is_free_form = is_free_form


class Member:
    """One member of a schema class.

    Attributes:
        name: the Python name.
        wire_name: the name on the wire.
        default: value of an absent member; `attrs.NOTHING` for a required member.
        is_free_form: whether the member holds arguments that the schema leaves open.
    """

    __slots__ = ("_annotation", "_module", "default", "is_free_form", "name", "wire_name")

    def __init__(self, name: str, declared: Any, annotation: Any, module: str) -> None:
        spec = declared if isinstance(declared, Spec) else Spec(None, declared, False)
        self.name = name
        self.wire_name = spec.wire_name or name.removesuffix("_").replace("_", "-")
        self.default = spec.default
        self.is_free_form = spec.is_free_form
        self._annotation = annotation
        self._module = module

    @property
    def attrs_default(self) -> Any:
        """The default for attrs; instances must not share one dict."""
        return attrs.Factory(dict) if self.is_free_form else self.default

    @property
    def annotation(self) -> str:
        """Source text of the type."""
        return str(self._annotation)

    @property
    def type(self) -> Any:
        """The type, with all names in it resolved."""
        return resolve(self._annotation, self._module)


#: Guards the processing of classes, because several threads may use a class for the first time.
_lock: Final = threading.RLock()


def members_of(cls: type) -> Mapping[str, Member]:
    """Return the members of a schema class by Python name, those of its bases first.

    Independent of attrs, so that the converter can structure a reply without `build_class`.
    """
    found: Mapping[str, Member] | None = cls.__dict__.get("_members_of")
    if found is None:
        with _lock:
            found = cls.__dict__.get("_members_of") or MappingProxyType(_collect_members(cls))
            cls._members_of = found  # type: ignore[attr-defined]
    return found


def _collect_members(cls: type) -> dict[str, Member]:
    members: dict[str, Member] = {}
    for base in reversed(cls.__mro__[1:]):
        if "__attrs_attrs__" in base.__dict__:  # every schema class has it
            own = inspect.get_annotations(base)
            members.update((name, member) for name, member in members_of(base).items() if name in own)
    for name, annotation in inspect.get_annotations(cls).items():
        if not str(annotation).startswith(("ClassVar", "typing.ClassVar")):
            members[name] = Member(name, cls.__dict__.get(name, attrs.NOTHING), annotation, cls.__module__)
    return members


def build_class(cls: type) -> Any:
    """Process a schema class with attrs, if that has not been done yet; return its attrs fields."""
    with _lock:
        if isinstance(cls.__dict__["__attrs_attrs__"], _Unbuilt):
            members = members_of(cls)  # before attrs removes the defaults from the class

            def set_defaults(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
                return [field.evolve(default=members[field.name].attrs_default) for field in fields]

            # With init=False attrs still generates __attrs_init__. Equality and repr are those of Struct.
            attrs.define(
                cls,
                slots=False,
                frozen=True,
                kw_only=True,
                auto_attribs=True,
                init=False,
                eq=False,
                repr=False,
                field_transformer=set_defaults,
            )
        return cls.__dict__["__attrs_attrs__"]


class _Unbuilt:
    """Placeholder for the `__attrs_attrs__` of a class; reading it calls `build_class`."""

    def __get__(self, instance: object, owner: type) -> Any:
        return build_class(owner)


UNBUILT: Final = _Unbuilt()


def init_unbuilt(self: object, **members: Any) -> None:
    """Build the class, then set the members of a new instance; placeholder for `__attrs_init__`."""
    cls: Any = type(self)
    build_class(cls)
    cls.__attrs_init__(self, **members)


class ReplyType:
    """Placeholder for the `reply_type` of a command; at the first use it replaces itself with the R of `Command[R]`."""

    def __get__(self, instance: object, owner: Any) -> Any:
        for cls in owner.__mro__:
            for base in cls.__dict__.get("__orig_bases__", ()):
                if isinstance(getattr(base, "__origin__", object).__dict__.get("reply_type"), ReplyType):
                    (parameter,) = get_args(base)
                    owner.reply_type = resolve(parameter, cls.__module__)
                    return owner.reply_type
        raise ProgrammerError(f"{owner.__name__} has no reply type: derive it from Command[...]")


class _Names(dict[str, Any]):
    """The names in the annotations of a module: those of the module, then builtins, then those of its package.

    A generated module does not import the others at run time. The package loads the module of a name on demand.
    """

    def __init__(self, module_name: str) -> None:
        super().__init__()
        self._module = sys.modules[module_name]

    def __missing__(self, name: str) -> Any:
        for place in (self._module, builtins, sys.modules.get(self._module.__package__ or "")):
            try:
                found = getattr(place, name)
            except AttributeError:
                continue
            if isinstance(found, str):  # an alias, quoted because it names a class that is defined later
                found = eval(found, {}, self)  # noqa: S307 - the text is source code of a schema module
            self[name] = found
            return found
        raise KeyError(name)


_names: dict[str, _Names] = {}


def resolve(annotation: Any, module_name: str) -> Any:
    """Return the type that an annotation stands for.

    Args:
        annotation: a type, or its source text.
        module_name: the module of the annotation.
    """
    if not isinstance(annotation, str):
        annotation = getattr(annotation, "__forward_arg__", annotation)
    if not isinstance(annotation, str):
        return annotation
    names = _names.get(module_name)
    if names is None:
        names = _names[module_name] = _Names(module_name)
    return eval(annotation, {}, names)  # noqa: S307 - the text is source code of a schema module
