# SPDX-License-Identifier: BSD-2-Clause
"""What THIS QEMU has: commands, events, arguments, enum values and features.

Ask the peer, never its version: distributions take features back to older versions, and builds leave things out.
Places in its schema are named by paths, for example ``blockdev-add/driver=qcow2/data-file``; the language is described
in `hvkit.qmp.schema_path`. The schema is read as it is asked for: nothing is done about its thousand other types.

Source: QAPI module `introspect`, definition `query-qmp-schema`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, NamedTuple

import attrs

from hvkit.errors import ProgrammerError
from hvkit.qmp import schema
from hvkit.qmp.base import Command, free_form_member
from hvkit.qmp.converter import structure, unstructure
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.errors import ConnectError, ConnectionLost, DataError, NotInThisQemu, QmpError
from hvkit.qmp.message import QemuVersion
from hvkit.qmp.program import find_program, read_last_words, run_program
from hvkit.qmp.program_cache import ProgramCache, ProgramIdentity, read_identity
from hvkit.qmp.schema import (
    SchemaInfo,
    SchemaInfoAlternate,
    SchemaInfoArray,
    SchemaInfoBuiltin,
    SchemaInfoCommand,
    SchemaInfoEnum,
    SchemaInfoEnumMember,
    SchemaInfoEvent,
    SchemaInfoObject,
    SchemaInfoObjectMember,
)
from hvkit.qmp.schema_path import SchemaPath, Step, describe_place, parse_path
from hvkit.qmp.sync.connection import QmpConnection

__all__ = ["Introspection", "Member", "Missing", "introspect", "introspect_program"]

_QUERY: Final = "query-qmp-schema"
#: Part of a cache entry; another number where what is kept changes its meaning.
_CACHE_FORMAT: Final = 1

#: What the types of plain data are that a builtin type takes.
_TAKEN: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "boolean": (bool,),
    "int": (int,),
    "number": (int, float),
    "null": (NoneType,),
}
#: All types of plain data.
_PLAIN_TYPES: Final = (dict, list, str, bool, int, float, NoneType)

_Kind = Literal["command", "member", "value", "type"]


@attrs.frozen
class Member:
    """A member of a command's arguments, of a reply, of an event or of something in them.

    Attributes:
        name: the wire name.
        type: its type as QEMU's manual calls it, for example ``list[BlockdevRef]``; for one that hvkit does not know,
            what it is in JSON.
        is_optional: whether it may be absent.
        features: the names of its features, such as ``deprecated``.
    """

    name: str
    type: str
    is_optional: bool
    features: tuple[str, ...]


@attrs.frozen
class Missing:
    """Something that a command carries and a QEMU does not have.

    Attributes:
        path: where it is, for example ``migrate-set-parameters/direct-io``.
        kind: what it is; ``type`` where the QEMU has the member, but it takes other values than this one.
        versions: which versions of QEMU have it, in words, ``since 8.1`` or ``until 10.0``; empty where that is
            unknown, or all versions have it and this build does not.
    """

    path: str
    kind: _Kind
    versions: str

    @property
    def remark(self) -> str:
        """What an error says beside the path; empty where there is nothing to say."""
        return ", ".join(part for part in (self.versions, "takes other types" if self.kind == "type" else "") if part)


class _Place(NamedTuple):
    """Where a path leads.

    Attributes:
        types: masked names of the types there: members are looked for in all of them. The path led to the last.
        features: those of the command, member or value that led there.
    """

    types: tuple[str, ...]
    features: Sequence[str] | None


class Introspection:
    """The schema of one QEMU.

    Args:
        reply: what `query-qmp-schema` returns, as plain data. It is kept, and must not be changed any more.
        version: the version of the QEMU.

    Attributes:
        version: the version of the QEMU.

    Every method raises DataError where it comes upon something in the schema that makes no sense.
    """

    def __init__(self, reply: Any, version: QemuVersion) -> None:
        try:
            self._plain = {entity["name"]: entity for entity in reply}
            self._kinds = {name: entity["meta-type"] for name, entity in self._plain.items()}
        except (TypeError, KeyError, AttributeError):
            raise DataError(_QUERY, "expected an array of objects with a name and a meta-type") from None
        self.version = version
        self._reply = reply
        # All by masked name, filled as they are asked for.
        self._entities: dict[str, SchemaInfo] = {}
        self._inner: dict[str, tuple[SchemaInfo, ...]] = {}
        self._members: dict[str, dict[str, SchemaInfoObjectMember]] = {}
        self._values: dict[str, dict[str, SchemaInfoEnumMember]] = {}
        self._takers: dict[str, dict[type, SchemaInfo]] = {}

    def __repr__(self) -> str:
        return f"<Introspection of QEMU {self.version}: {len(self._plain)} entities>"

    # ---- questions

    def commands(self) -> tuple[str, ...]:
        """Return the names of the commands, in QEMU's order."""
        return self._named("command")

    def events(self) -> tuple[str, ...]:
        """Return the names of the events, in QEMU's order."""
        return self._named("event")

    def has(self, path: str) -> bool:
        """Whether there is such a place, or such a feature at a place.

        Raises:
            ProgrammerError: this is no path.
        """
        parsed = parse_path(path)
        place = self._find(parsed)
        return place is not None and (not parsed.feature or parsed.feature in self._features_at(place))

    def features(self, path: str) -> frozenset[str]:
        """Return the features at a place: those of the command, member or value, and those of its type.

        Raises:
            NotInThisQemu: there is no such place.
            ProgrammerError: this is no path, or it names a feature itself.
        """
        return frozenset(self._features_at(self._get(path)))

    def members(self, path: str) -> tuple[Member, ...]:
        """Return the members at a place, those of a union's branch only where the path says which.

        The arguments of a command are ``members("block-commit")``, its reply's ``members("query-status->")``.

        Raises:
            NotInThisQemu: there is no such place.
            ProgrammerError: this is no path, or it names a feature itself.
        """
        parsed = parse_path(path)
        found = []
        for entity in self._entities_at(self._get(path)):
            for name, member in self._members_of(entity).items():
                known = describe_place(parsed._replace(steps=(*parsed.steps, Step(name, ""))))
                kind = known.type or _json_type(self._entity(member.type))
                found.append(Member(name, kind, _is_optional(member), tuple(member.features or ())))
        return tuple(found)

    def values(self, path: str) -> tuple[str, ...]:
        """Return the values that an enumeration has, such as ``values("migrate/channels/channel-type")``.

        There are none where a member is no enumeration. Those of a union's tag are its branches.

        Raises:
            NotInThisQemu: there is no such place.
            ProgrammerError: this is no path, or it names a feature itself.
        """
        return tuple(value for entity in self._entities_at(self._get(path)) for value in self._values_of(entity))

    # ---- commands that are to be executed

    def missing(
        self, command: Command[Any] | str, arguments: Mapping[str, Any] | None = None, /
    ) -> tuple[Missing, ...]:
        """Return everything that a command carries and this QEMU does not have; nothing where it can be executed.

        Nothing is said of what a QEMU takes without listing it, such as the properties of `device_add`.

        Args:
            command: a typed command, or the wire name of one.
            arguments: plain data or schema values by wire name, for a command given by its name.

        Raises:
            ProgrammerError: the command cannot be sent at all.
        """
        if isinstance(command, str):
            name, plain = command, unstructure(arguments or {})
        else:
            name, plain = command.wire_name, unstructure(command)
        entity = self._entity(name) if self._kinds.get(name) == "command" else None
        if not isinstance(entity, SchemaInfoCommand):
            return (_missing(name, "command"),)
        lacks = dict(self._lacking(plain, entity.arg_type, name))
        if lacks and _takes_anything(name):
            lacks = {path: kind for path, kind in lacks.items() if path.count("/") > 1 or kind != "member"}
        return tuple(_missing(path, kind) for path, kind in lacks.items())

    def check(self, command: Command[Any] | str, arguments: Mapping[str, Any] | None = None, /) -> None:
        """Raise where this QEMU lacks something that a command carries.

        `QmpConnection.check_against` has it done to every command.

        Args:
            command: a typed command, or the wire name of one.
            arguments: plain data or schema values by wire name, for a command given by its name.

        Raises:
            NotInThisQemu: it does; the error names all of it, and which versions have it.
            ProgrammerError: the command cannot be sent at all.
        """
        lacks = self.missing(command, arguments)
        if lacks:
            raise NotInThisQemu({each.path: each.remark for each in lacks}, str(self.version))

    # ---- walking

    def _named(self, kind: str) -> tuple[str, ...]:
        return tuple(name for name, each in self._kinds.items() if each == kind)

    def _entity(self, mask: str) -> SchemaInfo:
        entity = self._entities.get(mask)
        if entity is None:
            plain = self._plain.get(mask)
            if plain is None:
                raise DataError(_QUERY, f"there is no type {mask!r}")
            entity = self._entities[mask] = structure(plain, SchemaInfo, where=f"{_QUERY}[{mask}]")
        return entity

    def _within(self, mask: str) -> tuple[SchemaInfo, ...]:
        """Return what a type is once arrays and alternates are entered."""
        inner = self._inner.get(mask)
        if inner is None:
            found: dict[str, SchemaInfo] = {}
            waiting = [mask]
            for each in waiting:  # grows while it is read
                entity = self._entity(each)
                if each in found:
                    continue
                found[each] = entity
                if isinstance(entity, SchemaInfoArray):
                    waiting.append(entity.element_type)
                elif isinstance(entity, SchemaInfoAlternate):
                    waiting += [alternative.type for alternative in entity.members]
            entered = (SchemaInfoArray, SchemaInfoAlternate)
            inner = self._inner[mask] = tuple(each for each in found.values() if not isinstance(each, entered))
        return inner

    def _entities_at(self, place: _Place) -> Iterator[SchemaInfo]:
        for mask in place.types:
            yield from self._within(mask)

    def _members_of(self, entity: SchemaInfo) -> dict[str, SchemaInfoObjectMember]:
        members = self._members.get(entity.name)
        if members is None:
            listed = entity.members if isinstance(entity, SchemaInfoObject) else ()
            members = self._members[entity.name] = {member.name: member for member in listed}
        return members

    def _values_of(self, entity: SchemaInfo) -> dict[str, SchemaInfoEnumMember]:
        values = self._values.get(entity.name)
        if values is None:
            listed = entity.members if isinstance(entity, SchemaInfoEnum) else ()
            values = self._values[entity.name] = {member.name: member for member in listed}
        return values

    def _features_at(self, place: _Place) -> Iterator[str]:
        yield from place.features or ()
        for mask in place.types[-1:]:
            for entity in self._within(mask):
                yield from entity.features or ()

    def _get(self, path: str) -> _Place:
        parsed = parse_path(path)
        if parsed.feature:
            raise ProgrammerError(f"{path!r} names a feature, not a place")
        place = self._find(parsed)
        if place is None:
            raise NotInThisQemu({path: describe_place(parsed).versions}, str(self.version))
        return place

    def _find(self, path: SchemaPath) -> _Place | None:
        if self._kinds.get(path.root) not in ("command", "event"):
            return None
        root = self._entity(path.root)
        place: _Place | None = None
        if isinstance(root, SchemaInfoCommand) and path.is_reply:
            place = _Place((root.ret_type,), ())
        elif isinstance(root, (SchemaInfoCommand, SchemaInfoEvent)) and not path.is_reply:
            place = _Place((root.arg_type,), root.features)
        for step in path.steps:
            if place is not None:
                place = self._step(place, step)
        return place

    def _step(self, place: _Place, step: Step) -> _Place | None:
        for entity in self._entities_at(place):
            member = self._members_of(entity).get(step.member)
            if member is None:
                continue
            if not step.value:
                return _Place((member.type,), member.features)
            for values in map(self._values_of, self._within(member.type)):
                if step.value in values:
                    branch = _branch_type(entity, step.member, step.value)
                    types = () if branch is None else (entity.name, branch)
                    return _Place(types, values[step.value].features)
        return None

    # ---- what plain data carries that the schema lacks: pairs of path and kind

    def _lacking(self, data: Any, mask: str, path: str) -> Iterator[tuple[str, _Kind]]:
        taker = self._takers_of(mask).get(type(data))
        if taker is None:
            yield path, "type"
        elif isinstance(taker, SchemaInfoObject):
            yield from self._lacking_members(data, taker, path)
        elif isinstance(taker, SchemaInfoArray):
            for element in data:
                yield from self._lacking(element, taker.element_type, path)
        elif isinstance(taker, SchemaInfoEnum) and data not in self._values_of(taker):
            yield f"{path}={data}", "value"

    def _takers_of(self, mask: str) -> dict[type, SchemaInfo]:
        """Return what takes plain data of each type, by that type: an alternate has several."""
        takers = self._takers.get(mask)
        if takers is None:
            entity = self._entity(mask)
            masks = [each.type for each in entity.members] if isinstance(entity, SchemaInfoAlternate) else [mask]
            takers = {kind: each for each in map(self._entity, masks) for kind in _taken_types(each)}
            self._takers[mask] = takers
        return takers

    def _lacking_members(
        self, data: Mapping[str, Any], entity: SchemaInfoObject, path: str
    ) -> Iterator[tuple[str, _Kind]]:
        members = self._members_of(entity)
        rest = {}
        for name, value in data.items():
            if name in members:
                yield from self._lacking(value, members[name].type, f"{path}/{name}")
            else:
                rest[name] = value
        tag = entity.tag_
        if tag is None or tag not in members:
            yield from ((f"{path}/{name}", "member") for name in rest)
        elif rest:
            # Nothing is said of members that belong to a branch that is not there, or not named.
            branch = _branch_type(entity, tag, data.get(tag))
            inner = None if branch is None else self._entity(branch)
            if isinstance(inner, SchemaInfoObject):
                yield from self._lacking_members(rest, inner, f"{path}/{tag}={data[tag]}")


def _is_optional(member: SchemaInfoObjectMember) -> bool:
    return member.default is not None  # a null that is there is `NULL`


def _branch_type(entity: SchemaInfo, tag: str, value: object) -> str | None:
    """Return the type that a union's tag picks; None where the member is no tag, or the value has no branch."""
    if isinstance(entity, SchemaInfoObject) and entity.tag_ == tag:
        return next((each.type for each in entity.variants or () if each.case == value), None)
    return None


def _taken_types(entity: SchemaInfo) -> tuple[type, ...]:
    """Return which types of plain data a type takes; all of them where it says so or is none that we know."""
    if isinstance(entity, SchemaInfoObject):
        return (dict,)
    if isinstance(entity, SchemaInfoArray):
        return (list,)
    if isinstance(entity, SchemaInfoEnum):
        return (str,)
    return _TAKEN.get(entity.json_type, _PLAIN_TYPES) if isinstance(entity, SchemaInfoBuiltin) else _PLAIN_TYPES


def _json_type(entity: SchemaInfo) -> str:
    if isinstance(entity, SchemaInfoBuiltin):
        return entity.json_type
    return "string" if isinstance(entity, SchemaInfoEnum) else str(entity.meta_type)


def _takes_anything(command: str) -> bool:
    """Whether a command takes arguments that no schema lists."""
    return command in schema.commands() and free_form_member(schema.command(command)) is not None


def _missing(path: str, kind: _Kind) -> Missing:
    try:
        versions = describe_place(parse_path(path)).versions
    except ProgrammerError:  # somebody's value is none that a path could name
        versions = ""
    return Missing(path, kind, versions)


# ---- where it comes from


def introspect(connection: QmpConnection, *, timeout: float | None = None) -> Introspection:
    """Ask a peer for its schema.

    An asyncio connection does the same with
    ``Introspection(await connection.execute("query-qmp-schema"), connection.version)``.

    Args:
        connection: a connection to a QEMU or a storage daemon.
        timeout: as for `QmpConnection.execute`.

    Raises:
        QmpError: what `QmpConnection.execute` raises.
        ProgrammerError: there is no connection.
    """
    return Introspection(connection.execute(_QUERY, timeout=timeout), connection.version)


#: By path, so that an upgraded program takes the place of what it replaces.
_known: dict[str, tuple[ProgramIdentity, Introspection]] = {}


def introspect_program(
    binary: str, *, timeout_s: float = 10.0, cache_dir: str | os.PathLike[str] | None = None
) -> Introspection:
    """Return the schema of a QEMU program. It is run only if it was not asked before, without a machine.

    Nothing of it runs afterwards, whatever happens.

    Args:
        binary: path of the program, or a name to look for in PATH.
        timeout_s: seconds that it has to answer.
        cache_dir: where the answer is kept for other processes, until the program's file changes; made where it is
            missing. None: nowhere.

    Raises:
        ConnectError: there is no such program, it cannot be run, it is not QEMU, or it does not answer in time. The
            error names it and quotes what it said.
    """
    identity = find_program(binary)
    known = _known.get(identity.path)
    if known is not None and known[0] == identity:
        return known[1]
    cache = None if cache_dir is None else ProgramCache(Path(cache_dir), "schema", _CACHE_FORMAT)
    introspection = None if cache is None else _read_kept(cache, identity)
    if introspection is None:
        introspection = _ask(identity.path, timeout_s)
        if cache is not None and read_identity(identity.path) == identity:
            cache.write(identity, _to_kept(introspection))
    _known[identity.path] = (identity, introspection)
    return introspection


def _ask(binary: str, timeout_s: float) -> Introspection:
    deadline = Deadline(timeout_s)
    try:
        with tempfile.TemporaryFile() as said:
            try:
                with run_program(binary, said) as connection:
                    connection.connect(timeout=timeout_s)
                    return introspect(connection, timeout=max(deadline.remaining_s(), 0.0))
            except QmpError as error:
                reason = error.reason if isinstance(error, (ConnectError, ConnectionLost)) else str(error)
                words = read_last_words(said)
                reason = f"it does not answer like QEMU: {reason}" + (f"; it said: {words}" if words else "")
                raise ConnectError(binary, reason) from error
    except OSError as error:
        raise ConnectError(binary, f"it cannot be run: {os.strerror(error.errno or 0)}") from error


def _to_kept(introspection: Introspection) -> bytes:
    kept = {"version": introspection.version, "schema": introspection._reply}
    return json.dumps(kept, separators=(",", ":")).encode()


def _read_kept(cache: ProgramCache, identity: ProgramIdentity) -> Introspection | None:
    body = cache.read(identity)
    if body is None:
        return None
    kept = json.loads(body)  # its checksum is right: this is what was written
    return Introspection(kept["schema"], QemuVersion(*kept["version"]))
