# SPDX-License-Identifier: BSD-2-Clause
"""Introspection of one QEMU: its commands, events, arguments, enum values and features.

The result describes this build. The version does not: distributions backport features, and builds omit parts. Places
in the schema are named by paths, for example ``blockdev-add/driver=qcow2/data-file``; see `hvkit.qmp.schema_path`.

Source: QAPI module `introspect`, definition `query-qmp-schema`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import attrs

from hvkit.errors import ProgrammerError
from hvkit.qmp import schema
from hvkit.qmp.base import Command, free_form_member
from hvkit.qmp.converter import unstructure
from hvkit.qmp.deadlines import Deadline, check_timeout
from hvkit.qmp.errors import ConnectError, DataError, NotInThisQemu, QmpError
from hvkit.qmp.message import QemuVersion
from hvkit.qmp.program import find_program, read_output_tail, run_program
from hvkit.qmp.program_cache import ProgramCache, ProgramIdentity, read_identity
from hvkit.qmp.schema import (
    SchemaInfo,
    SchemaInfoArray,
    SchemaInfoCommand,
    SchemaInfoEnum,
    SchemaInfoEvent,
    SchemaInfoObject,
    SchemaInfoObjectMember,
)
from hvkit.qmp.schema_graph import QUERY, SchemaGraph, branch_type, json_type
from hvkit.qmp.schema_path import SchemaPath, Step, describe_place, parse_path
from hvkit.qmp.sync.connection import QmpConnection

__all__ = ["Introspection", "Member", "Missing", "introspect", "introspect_program"]

#: The default timeout of querying a program, in seconds.
_PROGRAM_TIMEOUT_S: Final = 10.0
#: The format of a cache entry; increased when the meaning of an entry changes.
_CACHE_FORMAT: Final = 1

_Kind = Literal["command", "member", "value", "type"]


@attrs.frozen
class Member:
    """A member of an object in the schema: of arguments, a reply, an event, or a type that they use.

    Attributes:
        name: the wire name.
        type: its type as in QEMU's manual, for example ``list[BlockdevRef]``; its JSON type if hvkit's schema does not
            have the member.
        is_optional: whether it may be absent.
        features: the names of its features, such as ``deprecated``.
    """

    name: str
    type: str
    is_optional: bool
    features: tuple[str, ...]


@attrs.frozen
class Missing:
    """Something that a command uses and a QEMU does not have.

    Attributes:
        path: its path, for example ``migrate-set-parameters/direct-io``.
        kind: its kind; ``type`` if the QEMU has the member, but does not accept values of this type.
        versions: the versions of QEMU that have it, such as ``since 8.1`` or ``until 10.0``; empty if unknown, or if
            all versions have it and this build does not.
    """

    path: str
    kind: _Kind
    versions: str

    @property
    def remark(self) -> str:
        """The text that an error shows after the path; may be empty."""
        return ", ".join(part for part in (self.versions, "takes other types" if self.kind == "type" else "") if part)


class _Place(NamedTuple):
    """The place that a path leads to.

    Attributes:
        types: names of the types of the place; members are searched in all of them. The last one is its own type.
        features: features of the command, member or value at the end of the path.
    """

    types: tuple[str, ...]
    features: Sequence[str] | None


class Introspection:
    """The schema of one QEMU.

    Args:
        reply: the reply to `query-qmp-schema`, as plain data. It is kept and must not be modified.
        version: the version of the QEMU.

    Attributes:
        version: the version of the QEMU.

    Every method raises DataError if a part of the schema that it needs is missing or malformed.
    """

    def __init__(self, reply: Any, version: QemuVersion) -> None:
        self._graph = SchemaGraph(reply)
        self.version = version

    def __repr__(self) -> str:
        return f"<Introspection of QEMU {self.version}: {len(self._graph.kinds)} entities>"

    def commands(self) -> tuple[str, ...]:
        """Return the names of all commands, in QEMU's order."""
        return self._names("command")

    def events(self) -> tuple[str, ...]:
        """Return the names of all events, in QEMU's order."""
        return self._names("event")

    def has(self, path: str) -> bool:
        """Whether the schema has the place or the feature that a path names.

        Raises:
            ProgrammerError: the path is malformed.
        """
        parsed = parse_path(path)
        place = self._find(parsed)
        return place is not None and (not parsed.feature or parsed.feature in self._features_at(place))

    def features(self, path: str) -> frozenset[str]:
        """Return the features at a place: those of the command, member or value, and those of its type.

        Raises:
            NotInThisQemu: the schema does not have the place.
            ProgrammerError: the path is malformed, or names a feature.
        """
        return frozenset(self._features_at(self._get(path)))

    def members(self, path: str) -> tuple[Member, ...]:
        """Return the members at a place. Members of a union's branch are included only if the path names the branch.

        ``members("block-commit")`` returns the arguments of a command, ``members("query-status->")`` the members of a
        reply.

        Raises:
            NotInThisQemu: the schema does not have the place.
            ProgrammerError: the path is malformed, or names a feature.
        """
        parsed = parse_path(path)
        found = []
        for entity in self._entities_at(self._get(path)):
            for name, member in self._graph.members(entity).items():
                known = describe_place(parsed._replace(steps=(*parsed.steps, Step(name, ""))))
                kind = known.type or json_type(self._graph.entity(member.type))
                found.append(Member(name, kind, _is_optional(member), tuple(member.features or ())))
        return tuple(found)

    def values(self, path: str) -> tuple[str, ...]:
        """Return the values of the enumeration at a place, for example ``values("migrate/channels/channel-type")``.

        The values of a union's tag are its branches. The result is empty if the place is not an enumeration.

        Raises:
            NotInThisQemu: the schema does not have the place.
            ProgrammerError: the path is malformed, or names a feature.
        """
        return tuple(value for entity in self._entities_at(self._get(path)) for value in self._graph.values(entity))

    def missing(
        self, command: Command[Any] | str, arguments: Mapping[str, Any] | None = None, /
    ) -> tuple[Missing, ...]:
        """Return everything that a command uses and this QEMU does not have; empty if the command can be executed.

        Arguments that QEMU accepts without listing them in its schema, such as the properties of `device_add`, are not
        checked.

        Args:
            command: a typed command, or the wire name of a command.
            arguments: plain data or schema values by wire name; only with a wire name.

        Raises:
            ProgrammerError: the arguments cannot be sent.
        """
        if isinstance(command, str):
            name, plain = command, unstructure(arguments or {})
        else:
            name, plain = command.wire_name, unstructure(command)
        entity = self._graph.entity(name) if self._graph.kinds.get(name) == "command" else None
        if not isinstance(entity, SchemaInfoCommand):
            return (_missing(name, "command"),)
        lacks = dict(self._lacking(plain, entity.arg_type, name))
        if lacks and _has_free_form_arguments(name):
            lacks = {path: kind for path, kind in lacks.items() if path.count("/") > 1 or kind != "member"}
        return tuple(_missing(path, kind) for path, kind in lacks.items())

    def check(self, command: Command[Any] | str, arguments: Mapping[str, Any] | None = None, /) -> None:
        """Check that this QEMU has everything that a command uses.

        After `QmpConnection.check_against`, `execute` calls this for every command.

        Args:
            command: a typed command, or the wire name of a command.
            arguments: plain data or schema values by wire name; only with a wire name.

        Raises:
            NotInThisQemu: something is missing; the error names all of it, and the versions that have it.
            ProgrammerError: the arguments cannot be sent.
        """
        lacks = self.missing(command, arguments)
        if lacks:
            raise NotInThisQemu({each.path: each.remark for each in lacks}, str(self.version))

    def _names(self, kind: str) -> tuple[str, ...]:
        return tuple(name for name, each in self._graph.kinds.items() if each == kind)

    def _entities_at(self, place: _Place) -> Iterator[SchemaInfo]:
        for name in place.types:
            yield from self._graph.expand(name)

    def _features_at(self, place: _Place) -> Iterator[str]:
        yield from place.features or ()
        for name in place.types[-1:]:
            for entity in self._graph.expand(name):
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
        if self._graph.kinds.get(path.root) not in ("command", "event"):
            return None
        root = self._graph.entity(path.root)
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
            member = self._graph.members(entity).get(step.member)
            if member is None:
                continue
            if not step.value:
                return _Place((member.type,), member.features)
            for values in map(self._graph.values, self._graph.expand(member.type)):
                if step.value in values:
                    branch = branch_type(entity, step.member, step.value)
                    types = () if branch is None else (entity.name, branch)
                    return _Place(types, values[step.value].features)
        return None

    def _lacking(self, data: Any, type_name: str, path: str) -> Iterator[tuple[str, _Kind]]:
        """Yield path and kind of everything in plain data that the schema does not have."""
        accepting = self._graph.by_python_type(type_name).get(type(data))
        if accepting is None:
            yield path, "type"
        elif isinstance(accepting, SchemaInfoObject):
            yield from self._lacking_members(data, accepting, path)
        elif isinstance(accepting, SchemaInfoArray):
            for element in data:
                yield from self._lacking(element, accepting.element_type, path)
        elif isinstance(accepting, SchemaInfoEnum) and data not in self._graph.values(accepting):
            yield f"{path}={data}", "value"

    def _lacking_members(
        self, data: Mapping[str, Any], entity: SchemaInfoObject, path: str
    ) -> Iterator[tuple[str, _Kind]]:
        members = self._graph.members(entity)
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
            # Members of a branch are not reported if the branch is missing or the tag is absent.
            branch = branch_type(entity, tag, data.get(tag))
            inner = None if branch is None else self._graph.entity(branch)
            if isinstance(inner, SchemaInfoObject):
                yield from self._lacking_members(rest, inner, f"{path}/{tag}={data[tag]}")


def _is_optional(member: SchemaInfoObjectMember) -> bool:
    return member.default is not None  # a default of JSON null is `NULL`


def _has_free_form_arguments(command: str) -> bool:
    """Whether a command accepts arguments that no schema lists."""
    return command in schema.commands() and free_form_member(schema.command(command)) is not None


def _missing(path: str, kind: _Kind) -> Missing:
    try:
        versions = describe_place(parse_path(path)).versions
    except ProgrammerError:  # the path contains a value with characters that a path cannot have
        versions = ""
    return Missing(path, kind, versions)


def introspect(connection: QmpConnection, *, timeout: float | None = None) -> Introspection:
    """Query the schema of the QEMU or storage daemon at the other end of a connection.

    For an asyncio connection, use
    ``Introspection(await connection.execute("query-qmp-schema"), connection.version)``.

    Args:
        connection: an open connection.
        timeout: as for `QmpConnection.execute`.

    Raises:
        QmpError: as for `QmpConnection.execute`.
        ProgrammerError: the connection is not open.
    """
    reply = connection.execute(QUERY, timeout=timeout)
    try:
        return Introspection(reply, connection.version)
    except DataError as error:
        error.set_monitor(connection.name)
        raise


#: By path, so that the entry of an upgraded program replaces the old one.
_cached: dict[str, tuple[ProgramIdentity, Introspection]] = {}


def introspect_program(
    binary: str, *, timeout_s: float | None = None, cache_dir: str | os.PathLike[str] | None = None
) -> Introspection:
    """Return the schema of a QEMU program: from the cache, or by running the program without a machine.

    The program and its children are killed before the call returns or raises.

    Args:
        binary: path of the program, or a name to search in PATH.
        timeout_s: seconds to wait for the program's answer, `math.inf` for no limit. None: the default, 10.
        cache_dir: the directory that keeps the schema for other processes until the program's file changes; created if
            missing. None: the schema is kept in this process only.

    Raises:
        ConnectError: the program does not exist, cannot be run, is not QEMU, or does not answer in time. The error
            names the program and quotes its stderr.
        ProgrammerError: `timeout_s` is not a number.
    """
    if timeout_s is None:
        timeout_s = _PROGRAM_TIMEOUT_S
    check_timeout(timeout_s)
    identity = find_program(binary)
    cached = _cached.get(identity.path)
    if cached is not None and cached[0] == identity:
        return cached[1]
    cache = None if cache_dir is None else ProgramCache(Path(cache_dir), "schema", _CACHE_FORMAT)
    introspection = None if cache is None else _read_entry(cache, identity)
    if introspection is None:
        introspection = _query_program(identity.path, timeout_s)
        if cache is not None and read_identity(identity.path) == identity:
            cache.write(identity, _encode_entry(introspection))
    _cached[identity.path] = (identity, introspection)
    return introspection


def _query_program(binary: str, timeout_s: float) -> Introspection:
    deadline = Deadline(timeout_s)
    try:
        with tempfile.TemporaryFile() as stderr:
            try:
                with run_program(binary, stderr) as connection:
                    connection.connect(timeout=timeout_s)
                    return introspect(connection, timeout=deadline.remaining_s())
            except QmpError as error:
                output = read_output_tail(stderr)
                reason = f"cannot query its schema: {error.reason}" + (f"; stderr: {output}" if output else "")
                raise ConnectError(binary, reason) from error
    except OSError as error:
        raise ConnectError(binary, f"cannot run it: {os.strerror(error.errno or 0)}") from error


def _encode_entry(introspection: Introspection) -> bytes:
    entry = {"version": introspection.version, "schema": introspection._graph.reply}
    return json.dumps(entry, separators=(",", ":")).encode()


def _read_entry(cache: ProgramCache, identity: ProgramIdentity) -> Introspection | None:
    body = cache.read(identity)
    if body is None:
        return None
    entry = json.loads(body)  # the checksum matches, so `_encode_entry` wrote it
    return Introspection(entry["schema"], QemuVersion(*entry["version"]))
