# SPDX-License-Identifier: BSD-2-Clause
"""The seam under the generated schema.

Generated modules import this one and nothing else of hvkit. A schema class is a plain class statement; attrs works on
it when it is first constructed or asked for its fields, so that importing a module of two hundred classes costs next
to nothing.

What a reader of the schema has to know:

* A member's wire name is its Python name with ``-`` for ``_``, less one trailing underscore (`in_`, `class_`). A member
  that breaks the rule says so beside itself: ``oem_id: str = wire("oem_id")``.
* ``None`` means that the member is absent. JSON's null is `NULL`.
* Enumerations are `Literal` aliases: a type checker finds the typo, a newer QEMU's value passes through.
* A union is a class with the members common to all branches; a branch is a subclass. A tag that the schema does not
  know, or that has no branch, gives the union class itself.
* Members that the schema does not know are kept in `Struct.unknown` and are sent again.
"""

from __future__ import annotations

import builtins
import enum
import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, TypeVar, dataclass_transform, get_args

import attrs

from hvkit.errors import ProgrammerError
from hvkit.qmp.redaction import HIDDEN, redact, redact_member

__all__ = ["NULL", "Command", "Event", "FreeForm", "GenericEvent", "Null", "Struct", "Union", "free_form", "wire"]

_NO_MEMBERS: Final[Mapping[str, Any]] = MappingProxyType({})


class Null(enum.Enum):
    """JSON's null, told from an absent member, which is None."""

    NULL = None

    def __repr__(self) -> str:
        return "NULL"

    def __bool__(self) -> bool:
        return False


NULL: Final = Null.NULL


class _Spec:
    """What a member's declaration says beyond its annotation."""

    __slots__ = ("default", "is_free_form", "wire_name")

    def __init__(self, wire_name: str | None, default: Any, is_free_form: bool) -> None:
        self.wire_name = wire_name
        self.default = default
        self.is_free_form = is_free_form


def wire(name: str, *, default: Any = attrs.NOTHING) -> Any:
    """State the wire name of a member that does not follow the rule."""
    return _Spec(name, default, False)


#: Any members at all, by wire name.
FreeForm = Mapping[str, Any]


def free_form(*, factory: Callable[[], dict[str, Any]]) -> Any:
    """Declare the member that holds arguments the schema leaves open, such as the properties of a device.

    They are sent beside the other members, not below a name of their own.

    Args:
        factory: makes what is there by default. Type checkers take the member for required where it is not written.
    """
    return _Spec(None, factory(), True)


class Member:
    """One member of a schema class, as the converter sees it.

    Attributes:
        name: the Python name.
        wire_name: the name on the wire.
        default: its value where it is absent; `attrs.NOTHING` where it must be there.
        is_free_form: it holds what the schema leaves open.
    """

    __slots__ = ("_annotation", "_module", "default", "is_free_form", "name", "wire_name")

    def __init__(self, name: str, declared: Any, annotation: Any, module: str) -> None:
        spec = declared if isinstance(declared, _Spec) else _Spec(None, declared, False)
        self.name = name
        self.wire_name = spec.wire_name or name.removesuffix("_").replace("_", "-")
        self.default = spec.default
        self.is_free_form = spec.is_free_form
        self._annotation = annotation
        self._module = module

    @property
    def attrs_default(self) -> Any:
        """The default as attrs takes it: instances do not share one dict."""
        return attrs.Factory(dict) if self.is_free_form else self.default

    @property
    def annotation(self) -> str:
        """The member's type as its declaration spells it."""
        return str(self._annotation)

    @property
    def type(self) -> Any:
        """The member's type, with every name in it looked up."""
        return resolve(self._annotation, self._module)


_building = threading.RLock()


def _build(cls: type[Struct]) -> Any:
    """Let attrs work on a class, once, whichever thread comes first."""
    with _building:
        if isinstance(cls.__dict__["__attrs_attrs__"], _Unbuilt):
            members = members_of(cls)  # before attrs takes the defaults off the class

            def with_our_defaults(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
                return [field.evolve(default=members[field.name].attrs_default) for field in fields]

            # init=False still gives __attrs_init__; equality and repr are Struct's own, for all classes at once.
            attrs.define(
                cls,
                slots=False,
                frozen=True,
                kw_only=True,
                auto_attribs=True,
                init=False,
                eq=False,
                repr=False,
                field_transformer=with_our_defaults,
            )
        return cls.__dict__["__attrs_attrs__"]


class _Unbuilt:
    """Stands where attrs will put a class's fields, and has them made when somebody looks."""

    def __get__(self, instance: object, owner: type[Struct]) -> Any:
        return _build(owner)


_UNBUILT: Final = _Unbuilt()


def _build_and_init(self: Struct, **members: Any) -> None:
    """Stand where attrs will put the function that sets a class's members."""
    cls: Any = type(self)
    if members or members_of(cls):
        _build(cls)
        cls.__attrs_init__(self, **members)
    else:  # a process of one query need not pay for attrs
        cls.__attrs_init__ = _set_nothing


def _set_nothing(self: Struct) -> None:
    """Stand where attrs would put the function that sets the members of a class that has none."""


S = TypeVar("S", bound="Struct")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(wire, free_form))
class Struct:
    """A value of the schema: frozen, compared by value, built with keywords.

    Raises:
        ProgrammerError: by the constructor, for a member that is missing or that the class does not have.
    """

    __attrs_attrs__: ClassVar[Any] = ()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.__attrs_attrs__ = _UNBUILT
        cls.__attrs_init__ = _build_and_init  # type: ignore[attr-defined]  # attrs' name for it

    if not TYPE_CHECKING:  # checkers synthesize the constructor from the members

        def __init__(self, /, **members):
            try:
                self.__attrs_init__(**members)
            except TypeError:
                raise _wrong_members(type(self), members) from None

    @property
    def unknown(self) -> Mapping[str, Any]:
        """Members that the schema does not know, as plain data by wire name."""
        unknown: Mapping[str, Any] = self.__dict__.get("_unknown", _NO_MEMBERS)
        return unknown

    def with_unknown(self, members: Mapping[str, Any]) -> Self:
        """Return a copy that carries these members too, for a peer that is newer than the schema.

        Args:
            members: plain data by wire name.
        """
        return _assemble(self, {**self.__dict__, "_unknown": {**self.unknown, **members}})

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with some members changed.

        Raises:
            ProgrammerError: for a member that the class does not have.
        """
        if not changes.keys() <= members_of(type(self)).keys():
            raise _wrong_members(type(self), {**self._members(), **changes})
        return _assemble(self, {**self.__dict__, **changes})

    if not TYPE_CHECKING:  # checkers know that a frozen class cannot be assigned to

        def __setattr__(self, name, value):
            raise attrs.exceptions.FrozenInstanceError

        def __delattr__(self, name):
            raise attrs.exceptions.FrozenInstanceError

    def _members(self) -> dict[str, Any]:
        """The members by Python name, without what else the instance carries."""
        return {name: self.__dict__[name] for name in members_of(type(self))}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), frozenset(self._members().items())))

    def __repr__(self) -> str:
        members = members_of(type(self))
        on_wire = {member.wire_name: self.__dict__[name] for name, member in members.items()}
        shown = []
        for name, member in members.items():
            if self.__dict__[name] != member.default:
                value = redact_member(member.wire_name, on_wire)
                shown.append(f"{name}={HIDDEN if value is HIDDEN else repr(value)}")
        if self.unknown:
            shown.append(f"unknown={redact(self.unknown)!r}")
        return f"{type(self).__qualname__}({', '.join(shown)})"


def _assemble(like: S, attributes: dict[str, Any]) -> S:
    """Make another instance of a value's class from a complete `__dict__`."""
    made = object.__new__(type(like))
    made.__dict__.update(attributes)
    return made


def _wrong_members(cls: type[Struct], given: Mapping[str, Any]) -> ProgrammerError:
    known = members_of(cls)
    missing = [name for name, member in known.items() if member.default is attrs.NOTHING and name not in given]
    problems = [f"no member {name!r}" for name in given if name not in known]
    problems += [f"member {name!r} is missing" for name in missing]
    return ProgrammerError(f"{cls.__name__}: {', '.join(problems)}")


class Union(Struct):
    """A value whose tag says which branch it is; each branch is a subclass.

    Class keywords of a union (its branches take none):
        tag: wire name of the member that tells the branches apart.
        branches: class name by tag value, found in the union's module or in its package.
    """

    tag: ClassVar[str] = ""
    branches: ClassVar[Mapping[str, str]] = _NO_MEMBERS

    def __init_subclass__(cls, *, tag: str = "", branches: Mapping[str, str] = _NO_MEMBERS, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.tag = tag
        cls.branches = branches


R = TypeVar("R", covariant=True)


class _ReplyType:
    """Reads the R of `Command[R]` when it is first asked for, and leaves it in its own place."""

    def __get__(self, instance: object, owner: type[Command[Any]]) -> Any:
        for cls in owner.__mro__:
            for base in cls.__dict__.get("__orig_bases__", ()):
                if getattr(base, "__origin__", None) is Command:
                    (parameter,) = get_args(base)
                    owner.reply_type = resolve(parameter, cls.__module__)
                    return owner.reply_type
        raise ProgrammerError(f"{owner.__name__} does not say what it returns: derive it from Command[...]")


class Command(Struct, Generic[R]):
    """A command, with its arguments as members; `R` is the type of its reply.

    Class keywords:
        wire_name: the command's name on the wire.
        whole_argument: name of the one member that holds all arguments, where they are a union.
        kw_only: False beside `whole_argument`: that member may be given without its name.
        has_reply: False where the peer stays silent on success.
        out_of_band: True where the peer may run it ahead of others.

    Attributes:
        wire_name: the command's name on the wire.
        reply_type: the type of its reply; `NoneType` where the reply carries nothing.
    """

    wire_name: ClassVar[str] = ""
    whole_argument: ClassVar[str] = ""
    has_reply: ClassVar[bool] = True
    out_of_band: ClassVar[bool] = False
    reply_type: ClassVar[Any] = _ReplyType()

    def __init_subclass__(
        cls,
        *,
        wire_name: str = "",
        whole_argument: str = "",
        has_reply: bool = True,
        out_of_band: bool = False,
        kw_only: bool = True,
        **keywords: Any,
    ) -> None:
        super().__init_subclass__(**keywords)
        if kw_only is bool(whole_argument):
            raise ProgrammerError(f"{cls.__name__}: kw_only=False and whole_argument go together")
        cls.wire_name = wire_name
        cls.whole_argument = whole_argument
        cls.has_reply = has_reply
        cls.out_of_band = out_of_band

    if not TYPE_CHECKING:

        def __init__(self, /, *positional, **members):
            if positional:
                cls = type(self)
                if len(positional) > 1 or not cls.whole_argument or cls.whole_argument in members:
                    raise ProgrammerError(f"{cls.__name__} takes its members as keywords")
                members[cls.whole_argument] = positional[0]
            try:  # as Struct does: a call less for every command
                self.__attrs_init__(**members)
            except TypeError:
                raise _wrong_members(type(self), members) from None


class Event(Struct):
    """Something that a peer reports on its own account.

    Class keywords:
        wire_name: the event's name on the wire.

    Attributes:
        timestamp: seconds since the epoch by the peer's clock; None where it did not say or its clock failed. Two
            events that differ in nothing else are equal.
    """

    wire_name: ClassVar[str] = ""

    def __init_subclass__(cls, *, wire_name: str = "", **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.wire_name = wire_name

    @property
    def timestamp(self) -> float | None:
        stamp: float | None = self.__dict__.get("_timestamp")
        return stamp

    def stamped(self, timestamp: float | None) -> Self:
        """Return a copy with this timestamp, in seconds since the epoch."""
        return _assemble(self, {**self.__dict__, "_timestamp": timestamp})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._members() == other._members() and self.unknown == other.unknown

    __hash__ = Struct.__hash__


class GenericEvent(Event):
    """An event that the schema does not know.

    Attributes:
        name: its wire name.
        data: what it carries, as plain data.
    """

    name: str
    data: FreeForm


def members_of(cls: type[Struct]) -> Mapping[str, Member]:
    """Return a schema class's members by Python name, those of its bases first.

    Source of truth for the converter: attrs is not asked, so that a reply can be read without having attrs build its
    classes.
    """
    found: Mapping[str, Member] | None = cls.__dict__.get("_members_of")
    if found is None:
        with _building:
            found = cls.__dict__.get("_members_of") or MappingProxyType(_collect_members(cls))
            cls._members_of = found  # type: ignore[attr-defined]
    return found


def _collect_members(cls: type[Struct]) -> dict[str, Member]:
    members: dict[str, Member] = {}
    for base in reversed(cls.__mro__[1:]):
        if issubclass(base, Struct):
            own = inspect.get_annotations(base)
            members.update((name, member) for name, member in members_of(base).items() if name in own)
    for name, annotation in inspect.get_annotations(cls).items():
        if not str(annotation).startswith(("ClassVar", "typing.ClassVar")):
            members[name] = Member(name, cls.__dict__.get(name, attrs.NOTHING), annotation, cls.__module__)
    return members


def free_form_member(cls: type[Struct]) -> str | None:
    """Return the Python name of the member that takes what the schema leaves open, None where there is none."""
    return next((member.name for member in members_of(cls).values() if member.is_free_form), None)


class _Names(dict[str, Any]):
    """What a name in an annotation of a module means: the module's own names, builtins, then the package's.

    A generated module does not import its sisters at run time; their package knows where each name is.
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
            if isinstance(found, str):  # an alias, written as text because it names a class further down
                found = eval(found, {}, self)  # noqa: S307 - the text is source code of a schema module
            self[name] = found
            return found
        raise KeyError(name)


_names: dict[str, _Names] = {}


def resolve(annotation: Any, module_name: str) -> Any:
    """Return the type that an annotation means in a module.

    Args:
        annotation: a type, or its source text.
        module_name: where the annotation stands.
    """
    if not isinstance(annotation, str):
        annotation = getattr(annotation, "__forward_arg__", annotation)
    if not isinstance(annotation, str):
        return annotation
    names = _names.get(module_name)
    if names is None:
        names = _names[module_name] = _Names(module_name)
    return eval(annotation, {}, names)  # noqa: S307 - the text is source code of a schema module
