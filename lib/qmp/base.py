# SPDX-License-Identifier: BSD-2-Clause
"""The base classes of the generated schema, which imports only this module of hvkit.

A schema class is a plain class statement. attrs processes it when the first instance is created or its fields are read;
`hvkit.qmp.lazy` explains how and why.

For readers of the schema:

* The wire name of a member is its Python name with ``-`` for ``_``, without one trailing underscore (`in_`, `class_`).
  Exceptions state their wire name: ``oem_id: str = wire("oem_id")``.
* ``None`` means that the member is absent. JSON null is `NULL`.
* Enumerations are `Literal` aliases: a type checker reports a misspelled value; values of a newer QEMU are accepted.
* A union is a class with the members that all branches share; each branch is a subclass. Data whose tag is unknown or
  has no branch becomes an instance of the union class itself.
* Members that the schema does not know are kept in `Struct.unknown` and are sent again.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, TypeVar, dataclass_transform

import attrs

from hvkit.errors import ProgrammerError
from hvkit.qmp.lazy import UNBUILT, Member, ReplyType, Spec, init_unbuilt, members_of, resolve
from hvkit.qmp.redaction import HIDDEN, redact, redact_member

__all__ = [
    "NULL",
    "Command",
    "Event",
    "FreeForm",
    "GenericEvent",
    "Member",
    "Null",
    "Struct",
    "Union",
    "free_form",
    "free_form_member",
    "members_of",
    "resolve",
    "wire",
]

_NO_MEMBERS: Final[Mapping[str, Any]] = MappingProxyType({})


class Null(enum.Enum):
    """The type of `NULL`, which is JSON null; None is an absent member."""

    NULL = None

    def __repr__(self) -> str:
        return "NULL"

    def __bool__(self) -> bool:
        return False


NULL: Final = Null.NULL


def wire(name: str, *, default: Any = attrs.NOTHING) -> Any:
    """Declare a member whose wire name does not follow from its Python name."""
    return Spec(name, default, False)


#: Any members at all, by wire name.
FreeForm = Mapping[str, Any]


def free_form(*, factory: Callable[[], dict[str, Any]]) -> Any:
    """Declare a member that holds arguments which the schema leaves open, such as the properties of a device.

    They are sent at the same level as the other members.

    Args:
        factory: returns the default. Without a `factory`, type checkers would require the member.
    """
    return Spec(None, factory(), True)


S = TypeVar("S", bound="Struct")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(wire, free_form))
class Struct:
    """A value of the schema: immutable, compared by value, constructed with keywords.

    Raises:
        ProgrammerError: by the constructor, for a missing or unknown member.
    """

    __attrs_attrs__: ClassVar[Any] = ()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.__attrs_attrs__ = UNBUILT
        cls.__attrs_init__ = init_unbuilt  # type: ignore[attr-defined]  # set by attrs

    if not TYPE_CHECKING:  # type checkers derive the constructor from the members

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
        """Return a copy with additional members, for a QEMU that is newer than the schema.

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

    if not TYPE_CHECKING:  # type checkers know that the class is frozen

        def __setattr__(self, name, value):
            raise attrs.exceptions.FrozenInstanceError

        def __delattr__(self, name):
            raise attrs.exceptions.FrozenInstanceError

    def _members(self) -> dict[str, Any]:
        """Return the members by Python name, without the other attributes of the instance."""
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
    """Return a new instance of the class of a value, with this `__dict__`."""
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
    """A value whose tag selects the branch; each branch is a subclass.

    Class keywords of a union (its branches take none):
        tag: wire name of the member that selects the branch.
        branches: class names by tag value; the classes are in the module of the union or in its package.
    """

    tag: ClassVar[str] = ""
    branches: ClassVar[Mapping[str, str]] = _NO_MEMBERS

    def __init_subclass__(cls, *, tag: str = "", branches: Mapping[str, str] = _NO_MEMBERS, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.tag = tag
        cls.branches = branches


R = TypeVar("R", covariant=True)


class Command(Struct, Generic[R]):
    """A command with its arguments as members; `R` is the type of its reply.

    Class keywords:
        wire_name: name of the command on the wire.
        whole_argument: name of the only member, which holds all arguments, if they are a union.
        kw_only: False together with `whole_argument`: the member may be given without its name.
        has_reply: False if there is no reply on success.
        out_of_band: True if the command allows out-of-band execution.

    Attributes:
        wire_name: name of the command on the wire.
        reply_type: type of the reply; `NoneType` if the reply is empty.
    """

    wire_name: ClassVar[str] = ""
    whole_argument: ClassVar[str] = ""
    has_reply: ClassVar[bool] = True
    out_of_band: ClassVar[bool] = False
    reply_type: ClassVar[Any] = ReplyType()

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
            try:  # repeats Struct.__init__, to save a call for every command
                self.__attrs_init__(**members)
            except TypeError:
                raise _wrong_members(type(self), members) from None


class Event(Struct):
    """An event: a message that QEMU sends on its own, not as a reply.

    Class keywords:
        wire_name: name of the event on the wire.

    Attributes:
        timestamp: seconds since the epoch by QEMU's clock; None if the event has none or the clock failed. Events
            that differ only in their timestamps are equal.
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
        name: wire name of the event.
        data: data of the event, as plain data.
    """

    name: str
    data: FreeForm


def free_form_member(cls: type[Struct]) -> str | None:
    """Return the Python name of the member that `free_form` declares; None if there is none."""
    return next((member.name for member in members_of(cls).values() if member.is_free_form), None)
