# SPDX-License-Identifier: BSD-2-Clause
"""What QEMUs have, by their recorded schemas, by the installed one, and by those that HVKIT_QEMU_BINARIES names."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import gzip
import json
import operator
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvkit.errors import ProgrammerError
from hvkit.qmp import (
    NULL,
    Command,
    CommandError,
    ConnectError,
    DataError,
    NotInThisQemu,
    QemuVersion,
    QmpConnection,
    QmpError,
    introspection,
    schema,
)
from hvkit.qmp.aio import AsyncQmpConnection
from hvkit.qmp.introspection import Introspection, Missing, introspect, introspect_program
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevOptionsFile,
    BlockdevOptionsIoUring,
    BlockdevOptionsNull,
    BlockdevOptionsQcow2,
    BlockdevSetActive,
    ChardevAdd,
    ChardevSocket,
    ChardevSocketWrapper,
    DeviceAdd,
    Migrate,
    MigrateSetCapabilities,
    MigrateSetParameters,
    MigrationCapabilityStatus,
    NetdevAdd,
    NetdevPasstOptions,
    NetdevUserOptions,
    QueryCommands,
    QueryStatus,
    UnixSocketAddress,
    UnixSocketAddressWrapper,
)
from hvkit.testing import QmpStub
from tools.qapi.classes import Classes
from tools.qapi.facts import Definition, Item, element, read_facts
from tools.qapi.introspection import RECORDINGS
from tools.qapi.model import Schema

VERSIONS: Final = ("7.2", "10.0", "11.1")
#: Members, values and branches, of 7.2, 10.0 and 11.1 together; far fewer would mean that a walk has gone wrong.
FEWEST_PATHS: Final = 3900
#: A program that answers like a QEMU of one command, and notes that it was run.
ANSWERING = """#!{python}
import json, os, sys
open({runs!r}, "a").write(f"{{os.getpid()}}\\n")
version = {{"qemu": {{"major": 9, "minor": 1, "micro": 2}}, "package": "made up"}}
print(json.dumps({{"QMP": {{"version": version, "capabilities": []}}}}), flush=True)
answers = {{"query-qmp-schema": {schema!r}}}
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({{"return": answers.get(request["execute"], {{}}), "id": request["id"]}}), flush=True)
"""
SMALL: Final[list[dict[str, Any]]] = [
    {"name": "stop", "meta-type": "command", "arg-type": "0", "ret-type": "0"},
    {"name": "0", "meta-type": "object", "members": []},
]


def recorded(version: str, program: str = "") -> Introspection:
    reply = json.loads(gzip.decompress((RECORDINGS / f"{version}{program}.json.gz").read_bytes()))
    major, minor = map(int, version.split("."))
    return Introspection(reply, QemuVersion(major, minor, 0))


OLD: Final = recorded("7.2")
NEW: Final = recorded("11.1")
FACTS: Final = {version: read_facts().as_of(version) for version in VERSIONS}


# ---- the facts, walked by paths: what should be found


def flat(definitions: Mapping[str, Definition], name: str) -> dict[str, Item]:
    definition = definitions[name]
    members: dict[str, Item] = {}
    for base in filter(None, (definition.base, definition.data)):
        members |= flat(definitions, base)
    return members | dict(definition.members)


def paths(definitions: Mapping[str, Definition]) -> Iterator[str]:
    """Yield a path to everything there is, once."""
    seen: set[str] = set()

    def visit(name: str, path: str) -> Iterator[str]:
        name = element(name)
        if name in seen or name not in definitions:
            return
        definition = definitions[name]
        if definition.kind != "enum":
            seen.add(name)
            for member, item in flat(definitions, name).items():
                if definition.kind != "alternate":
                    yield f"{path}/{member}"
                yield from visit(item.type, path if definition.kind == "alternate" else f"{path}/{member}")
            for case, item in definition.variants.items():
                yield f"{path}/{definition.tag}={case}"
                yield from visit(item.type, f"{path}/{definition.tag}={case}")
        elif "/" in path and "=" not in path.rpartition("/")[2]:  # not what is itself an array of values
            seen.add(name)
            yield from (f"{path}={value}" for value in definition.values)

    for name, definition in definitions.items():
        if definition.kind in ("command", "event"):
            yield name
            yield from visit(definition.data or name, name)
            if definition.returns:
                yield from visit(definition.returns, f"{name}->")


def expected(definitions: Mapping[str, Definition], path: str) -> bool | None:
    """Whether a version has a place by the facts; None where that is up to the build."""
    root, *steps = path.split("/")
    name = root.removesuffix("->")
    if name not in definitions:
        return False
    conditions = [definitions[name].condition]
    types = [definitions[name].returns if root.endswith("->") else definitions[name].data or name]
    for step in steps:
        member, _, value = step.partition("=")
        waiting, types = types, []
        found = False
        for each in map(element, waiting):  # grows while it is read
            definition = definitions.get(each)
            if definition is None:
                continue
            if definition.kind == "alternate":
                waiting += [item.type for item in definition.members.values()]
            elif member in flat(definitions, each):
                item = flat(definitions, each)[member]
                values = definitions[element(item.type)].values if element(item.type) in definitions else {}
                if value and value not in values:
                    continue
                found = True
                conditions += [item.condition, values[value].condition if value else ""]
                types = [item.type]
                if value:
                    branch = definition.variants.get(value, Item()) if definition.tag == member else Item()
                    conditions.append(branch.condition)
                    types = [each, branch.type]
                break
        if not found:
            return False
    return None if any(conditions) else True


def disagreements(peer: Introspection, version: str) -> list[str]:
    """Return the paths where a QEMU and the facts of its version differ."""
    everything = sorted({path for definitions in FACTS.values() for path in paths(definitions)})
    assert len(everything) > FEWEST_PATHS
    return [path for path in everything if expected(FACTS[version], path) not in (None, peer.has(path))]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_found_is_what_the_facts_say(version: str) -> None:
    assert disagreements(recorded(version), version) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_storage_daemon_has_a_part_of_it(version: str) -> None:
    daemon, facts = recorded(version, "-qsd"), FACTS[version]
    found = [path for path in paths(facts) if daemon.has(path)]
    assert len(found) > 1000
    assert not [path for path in found if expected(facts, path) is False]
    assert daemon.has("block-export-add/type=vhost-user-blk/addr")
    assert not daemon.has("device_add")


def test_the_facts_would_be_found_wrong() -> None:
    """The comparison sees a difference where there is one: 10.0's facts are not 11.1's."""
    found = disagreements(NEW, "10.0")
    assert "query-accelerators" in found
    assert "netdev_add/type=passt" in found


@pytest.mark.parametrize("version", VERSIONS)
def test_commands_and_events_are_those_of_the_facts(version: str) -> None:
    peer = recorded(version)
    for kind, names in (("command", peer.commands()), ("event", peer.events())):
        facts = {name: each for name, each in FACTS[version].items() if each.kind == kind}
        assert set(names) <= facts.keys()
        assert all(facts[name].condition for name in facts.keys() - set(names))


@pytest.mark.parametrize("version", VERSIONS)
def test_arguments_are_optional_and_have_features_as_in_the_facts(version: str) -> None:
    peer = recorded(version)
    for name in peer.commands():
        items = flat(FACTS[version], name)
        for member in peer.members(name):
            item = items[member.name]
            assert (member.is_optional, member.features) == (item.is_optional, item.features), (name, member)


def test_types_get_their_names_back() -> None:
    classes = Classes(Schema(read_facts(), "qmp"))
    named = {}
    for name in NEW.commands():
        for member in NEW.members(name):
            item = flat(FACTS["11.1"], name)[member.name]
            assert member.type == classes.annotation(item.type), (name, member)
            named[f"{name}/{member.name}"] = member.type
    assert named["migrate-set-capabilities/capabilities"] == "list[MigrationCapabilityStatus]"
    assert named["blockdev-add/driver"] == "BlockdevDriver"
    branch = {member.name: member.type for member in NEW.members("blockdev-add/driver=qcow2")}
    assert branch["backing"] == "BlockdevRefOrNull"
    assert branch["driver"] == "BlockdevDriver", "the tag of a branch has the name of all its values"


# ---- paths


@pytest.mark.parametrize(
    "path",
    [
        "device_add",
        "SHUTDOWN",
        "SHUTDOWN/reason=guest-panic",
        "query-status->",
        "query-status->/running",
        "query-block->/inserted/image/backing-image/filename",
        "migrate-set-parameters/multifd-channels",
        "migrate-set-capabilities/capabilities/capability=multifd",
        "blockdev-add/driver=qcow2",
        "blockdev-add/driver=qcow2/data-file",
        "blockdev-add/driver=qcow2/node-name",
        "blockdev-add/driver=qcow2/data-file/driver=nbd/server/type=unix/path",
        "device_add/@json-cli",
        "block-commit/base/@deprecated",
        "blockdev-add/driver=file/@dynamic-auto-read-only",
        "query-cpus-fast/@deprecated",
    ],
)
def test_what_is_there_is_found(path: str) -> None:
    assert NEW.has(path) is (path != "query-cpus-fast/@deprecated")


@pytest.mark.parametrize(
    "path",
    [
        "no-such-command",
        "STOP->",
        "0",
        "str/x",
        "query-status/running",
        "query-status->/status=no-such-state",
        "blockdev-add/data-file",
        "blockdev-add/driver=raw/data-file",
        "blockdev-add/driver=no-such-driver",
        "blockdev-add/node-name=qcow2",
        "blockdev-add/node-name/x",
        "blockdev-add/discard=unmap/node-name",
        "device_add/no-such-property",
        "device_add/@no-such-feature",
        "no-such-command/@json-cli",
    ],
)
def test_what_is_not_there_is_not_found(path: str) -> None:
    assert not NEW.has(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/driver",
        "blockdev-add/",
        "blockdev-add//driver",
        "blockdev-add/driver=",
        "blockdev-add/=qcow2",
        "blockdev-add/driver=qcow2=x",
        "blockdev-add/driver->",
        "->",
        "@json-cli",
        "device_add/@",
        "device_add/@json-cli/driver",
        "device add",
        "-x",
    ],
)
def test_what_is_no_path_is_the_callers_fault(path: str) -> None:
    with pytest.raises(ProgrammerError, match="is no path into a schema"):
        NEW.has(path)


def test_values_and_features_are_listed() -> None:
    assert set(NEW.values("migrate-set-parameters/multifd-compression")) >= {"none", "zlib", "zstd"}
    assert NEW.values("blockdev-add/node-name") == ()
    assert NEW.values("query-block->/device") == ()
    assert NEW.features("block-commit/base") == {"deprecated"}
    assert NEW.features("device_add") >= {"json-cli", "json-cli-hotplug"}


def test_asking_about_what_is_not_there_names_it() -> None:
    with pytest.raises(NotInThisQemu, match=r"QEMU 7\.2\.0 does not have migrate/channels \(10\.0 and later\)"):
        OLD.members("migrate/channels")
    with pytest.raises(ProgrammerError, match="a feature, not a place"):
        NEW.members("device_add/@json-cli")


# ---- commands


def null_node(**members: Any) -> BlockdevOptionsNull:
    return BlockdevOptionsNull(driver="null-co", **members)


@pytest.mark.parametrize(
    ("command", "lacks"),
    [
        (BlockdevSetActive(active=True), [("blockdev-set-active", "command", "since 10.0")]),
        (
            MigrateSetParameters(direct_io=True, multifd_channels=2, zero_page_detection="multifd"),
            [
                ("migrate-set-parameters/direct-io", "member", "since 9.1"),
                ("migrate-set-parameters/zero-page-detection", "member", "since 9.0"),
            ],
        ),
        (
            MigrateSetCapabilities(
                capabilities=[
                    MigrationCapabilityStatus(capability="multifd", state=True),
                    MigrationCapabilityStatus(capability="mapped-ram", state=True),
                    MigrationCapabilityStatus(capability="mapped-ram", state=False),
                ]
            ),
            [("migrate-set-capabilities/capabilities/capability=mapped-ram", "value", "since 9.0")],
        ),
        (NetdevAdd(NetdevPasstOptions(id="n0", quiet=True)), [("netdev_add/type=passt", "value", "since 10.1")]),
        (BlockdevAdd(BlockdevOptionsIoUring(filename="x")), [("blockdev-add/driver=io_uring", "value", "")]),
        (
            BlockdevAdd(
                BlockdevOptionsQcow2(
                    discard_no_unref=True, file=BlockdevOptionsFile(driver="file", filename="x", active=False)
                )
            ),
            [
                ("blockdev-add/driver=qcow2/discard-no-unref", "member", "since 8.1"),
                ("blockdev-add/driver=qcow2/file/driver=file/active", "member", "since 10.0"),
            ],
        ),
        (
            ChardevAdd(
                id="c0",
                backend=ChardevSocketWrapper(
                    data=ChardevSocket(addr=UnixSocketAddressWrapper(data=UnixSocketAddress(path="/x")), reconnect_ms=5)
                ),
            ),
            [("chardev-add/backend/type=socket/data/reconnect-ms", "member", "since 9.2")],
        ),
    ],
    ids=lambda value: value.wire_name if isinstance(value, Command) else "",
)
def test_what_an_old_qemu_lacks_is_listed(command: Command[Any], lacks: list[tuple[str, str, str]]) -> None:
    found = OLD.missing(command)
    assert sorted((each.path, each.kind, each.versions) for each in found) == lacks
    assert NEW.missing(command) == ()
    assert not any(OLD.has(each.path) for each in found)
    assert all(NEW.has(each.path) for each in found)


@pytest.mark.parametrize("peer", [OLD, NEW], ids=["7.2", "11.1"])
@pytest.mark.parametrize(
    "command",
    [
        QueryStatus(),
        BlockdevAdd(BlockdevOptionsQcow2(file="disk0", backing=NULL)),
        BlockdevAdd(BlockdevOptionsQcow2(file=null_node())),
        NetdevAdd(NetdevUserOptions(id="n0", hostname="x")),
        DeviceAdd(driver="virtio-net-pci", id="d0", properties={"mac": "x", "any": {"thing": [1]}}),
        Migrate(uri="tcp:x:1"),
        schema.QomSet(path="/x", property="y", value={"any": [1, None]}),
        schema.QomSet(path="/x", property="y", value=1.5),
        schema.BlockdevReopen(options=[null_node(node_name="x")]),
    ],
    ids=lambda command: command.wire_name,
)
def test_nothing_is_missing_from_what_all_have(peer: Introspection, command: Command[Any]) -> None:
    assert peer.missing(command) == ()


def test_what_was_removed_says_until_when_it_was_there() -> None:
    assert NEW.missing("migrate", {"uri": "x", "detach": True}) == (Missing("migrate/detach", "member", "until 10.0"),)


def test_commands_by_name_are_checked_alike() -> None:
    assert OLD.missing("blockdev-add", {"driver": "null-co", "node-name": "x"}) == ()
    assert OLD.missing("query-newer") == (Missing("query-newer", "command", ""),)
    assert OLD.missing("STOP") == (Missing("STOP", "command", ""),), "an event is no command"
    assert OLD.missing("device_add", {"driver": "x", "anything": 1}) == ()
    assert OLD.missing("blockdev-add", {"driver": "null-co", "newer": 1}) == (
        Missing("blockdev-add/driver=null-co/newer", "member", ""),
    )


def test_members_unknown_to_the_schema_are_checked_too() -> None:
    command = Migrate(uri="x").with_unknown({"newer": 1})
    assert NEW.missing(command) == (Missing("migrate/newer", "member", ""),)


def test_values_of_a_type_that_the_peer_does_not_take_are_told() -> None:
    (lack,) = NEW.missing("migrate-set-parameters", {"multifd-channels": "two"})
    assert (lack.path, lack.kind) == ("migrate-set-parameters/multifd-channels", "type")
    with pytest.raises(NotInThisQemu, match=r"multifd-channels \(takes other types\)"):
        NEW.check("migrate-set-parameters", {"multifd-channels": "two"})


def test_a_value_that_is_no_name_is_told() -> None:
    (lack,) = NEW.missing("query-dirty-rate", {"calc-time-unit": "a/b c"})
    assert (lack.path, lack.kind, lack.versions) == ("query-dirty-rate/calc-time-unit=a/b c", "value", "")


def test_the_error_names_all_that_is_missing_and_the_version() -> None:
    with pytest.raises(NotInThisQemu) as caught:
        OLD.check(MigrateSetParameters(direct_io=True, mode="cpr-exec"))
    assert caught.value.version == "7.2.0"
    assert caught.value.missing == {
        "migrate-set-parameters/mode": "since 8.2",
        "migrate-set-parameters/direct-io": "since 9.1",
    }
    assert str(caught.value) == (
        "QEMU 7.2.0 does not have migrate-set-parameters/mode (since 8.2), migrate-set-parameters/direct-io (since 9.1)"
    )


# ---- schemas that make no sense


@pytest.mark.parametrize("reply", [None, 5, "x", {}, [5], [[]], [{}], [{"name": "x"}], [{"name": [], "meta-type": 1}]])
def test_what_is_no_schema_is_refused(reply: Any) -> None:
    if reply == {}:
        assert Introspection(reply, QemuVersion(8, 0, 0)).commands() == ()
        return
    with pytest.raises(DataError, match="query-qmp-schema"):
        Introspection(reply, QemuVersion(8, 0, 0))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"stop": {"arg-type": "nowhere"}}, "there is no type 'nowhere'"),
        ({"stop": {"arg-type": 5}}, "expected str, got int"),
        ({"0": {"members": [{"name": "x"}]}}, "member is missing"),
        ({"0": {"members": [{"name": "x", "type": "nowhere"}]}}, "there is no type 'nowhere'"),
    ],
)
def test_damage_is_named_where_it_is_met(changes: Mapping[str, Mapping[str, Any]], problem: str) -> None:
    damaged = [{**each, **changes.get(each["name"], {})} for each in copy.deepcopy(SMALL)]
    peer = Introspection(damaged, QemuVersion(8, 0, 0))
    with pytest.raises(DataError, match=problem):
        peer.missing("stop", {"x": 1})


def test_types_that_are_made_of_themselves_end() -> None:
    entities = [
        {"name": "stop", "meta-type": "command", "arg-type": "0", "ret-type": "a"},
        {"name": "a", "meta-type": "array", "element-type": "b"},
        {"name": "b", "meta-type": "alternate", "members": [{"type": "a"}, {"type": "b"}]},
        {
            "name": "0",
            "meta-type": "object",
            "tag": "t",
            "variants": [{"case": "c", "type": "0"}],
            "members": [{"name": "x", "type": "b"}],
        },
        {"name": "z", "meta-type": "of-the-future"},
    ]
    peer = Introspection(entities, QemuVersion(8, 0, 0))
    assert not peer.has("stop->/x")
    assert not peer.has("stop/x/y")
    assert [each.path for each in peer.missing("stop", {"t": "c", "q": 1, "x": [[[]]]})] != []


ENTITIES: Final = {entity["name"]: entity for entity in NEW._reply}
#: The arguments of blockdev-add and of what it leads to, some of them.
NEAR_BLOCKDEV_ADD: Final = sorted(
    {
        "blockdev-add",
        *(
            entity.name
            for step in ("", "/driver", "/driver=qcow2/file", "/driver=raw/offset")
            for mask in NEW._get(f"blockdev-add{step}").types
            for entity in (NEW._entity(mask), *NEW._within(mask))
        ),
    }
)
JUNK: Final[Any] = [None, 5, "", "x", "driver", "str", [], {}, [{}], {"name": "x"}, *NEAR_BLOCKDEV_ADD]


def places_in(data: Any) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to everything in plain data."""
    items: Any = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (key,)
        yield from ((key, *inner) for inner in places_in(value))


PLACES: Final = [(name, *place) for name in NEAR_BLOCKDEV_ADD for place in places_in(ENTITIES[name])]


@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(JUNK)), min_size=1, max_size=3))
def test_no_damage_raises_anything_but_the_worlds_errors(damages: list[tuple[tuple[Any, ...], Any]]) -> None:
    damaged = {
        name: copy.deepcopy(entity) if name in NEAR_BLOCKDEV_ADD else entity for name, entity in ENTITIES.items()
    }
    for (*way, last), junk in damages:
        with contextlib.suppress(LookupError, TypeError):  # an earlier damage took the place away
            functools.reduce(operator.getitem, way, damaged)[last] = junk
    try:
        peer = Introspection(list(damaged.values()), QemuVersion(11, 1, 0))
    except DataError:
        return
    command = BlockdevAdd(BlockdevOptionsQcow2(file=null_node(), backing=NULL, cache_size=1))
    for ask in (
        lambda: peer.has("blockdev-add/driver=qcow2/file/driver=nbd/server/type=unix/path"),
        lambda: peer.members("blockdev-add/driver=qcow2"),
        lambda: peer.values("blockdev-add/driver"),
        lambda: peer.features("blockdev-add/driver=file"),
        lambda: peer.missing(command),
    ):
        with contextlib.suppress(QmpError):
            ask()


# ---- connections


def test_a_connection_refuses_before_it_sends(tmp_path: Path) -> None:
    with QmpStub(tmp_path / "qmp", [({"execute": "stop"}, {"return": {}})]) as stub:
        with QmpConnection(tmp_path / "qmp") as connection:
            connection.check_against(OLD)
            with pytest.raises(NotInThisQemu, match=r"blockdev-set-active \(since 10\.0\)"):
                connection.execute(BlockdevSetActive(active=True))
            with pytest.raises(NotInThisQemu, match="query-newer"):
                connection.execute("query-newer")
            assert connection.execute("stop") == {}
        assert stub.unexpected == []


def test_a_connection_forgets_it_when_it_ends(tmp_path: Path) -> None:
    connection = QmpConnection(tmp_path / "qmp")
    with pytest.raises(ProgrammerError, match="before connect"):
        connection.check_against(OLD)
    with QmpStub(tmp_path / "qmp", []), connection:
        connection.check_against(OLD)
    script: list[Any] = [({"execute": "query-newer"}, {"return": {}})] * 2
    with QmpStub(tmp_path / "qmp", script), connection:
        connection.execute("query-newer")
        connection.check_against(OLD)
        connection.check_against(None)
        connection.execute("query-newer")


def test_an_asyncio_connection_refuses_too(tmp_path: Path) -> None:
    async def ask() -> None:
        async with AsyncQmpConnection(tmp_path / "qmp") as connection:
            connection.check_against(OLD)
            with pytest.raises(NotInThisQemu, match="blockdev-set-active"):
                await connection.execute(BlockdevSetActive(active=True))

    with QmpStub(tmp_path / "qmp", []):
        asyncio.run(ask())


# ---- programs


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no test know what another one asked."""
    monkeypatch.setattr(introspection, "_known", {})


class Program:
    """A program that was written by a test."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "qemu"
        self._runs_file = directory / "runs"

    def write(self, reply: Any) -> str:
        made = self.path.with_suffix(".new")
        made.write_text(ANSWERING.format(python=sys.executable, runs=str(self._runs_file), schema=reply))
        made.chmod(0o755)
        made.rename(self.path)
        return str(self.path)

    @property
    def runs(self) -> int:
        return len(self._runs_file.read_text().split()) if self._runs_file.exists() else 0


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_a_program_is_asked_once(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program.write(SMALL)
    first = introspect_program(path, cache_dir=tmp_path / "cache")
    assert introspect_program(path) is first
    monkeypatch.setattr(introspection, "_known", {})
    again = introspect_program(path, cache_dir=tmp_path / "cache")
    assert program.runs == 1
    assert again.version == first.version == (9, 1, 2, "made up")
    assert again.commands() == first.commands() == ("stop",)


def test_a_program_that_was_replaced_is_asked_again(program: Program, tmp_path: Path) -> None:
    introspect_program(program.write(SMALL), cache_dir=tmp_path / "cache")
    path = program.write([{**SMALL[0], "name": "cont"}, SMALL[1]])
    assert introspect_program(path, cache_dir=tmp_path / "cache").commands() == ("cont",)
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\x00", None], ids=["empty", "other", "no-text", "cut"])
def test_a_damaged_cache_is_written_anew(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    path = program.write(SMALL)
    introspect_program(path, cache_dir=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-10] if damage is None else damage)
    monkeypatch.setattr(introspection, "_known", {})
    assert introspect_program(path, cache_dir=tmp_path / "cache").commands() == ("stop",)
    assert program.runs == 2
    assert file.read_bytes() == whole


def test_processes_that_write_at_once_leave_one_whole_entry(program: Program, tmp_path: Path) -> None:
    path = program.write(SMALL)
    code = (
        "import sys; from hvkit.qmp.introspection import introspect_program;"
        "print(introspect_program(sys.argv[1], cache_dir=sys.argv[2], timeout_s=60).commands())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, path, str(tmp_path / "cache")]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(6)]
    said = [writer.communicate(timeout=60)[0] for writer in writers]
    assert said == [b"('stop',)\n"] * 6
    asked = program.runs
    assert introspect_program(path, cache_dir=tmp_path / "cache").commands() == ("stop",)
    assert program.runs == asked, "what they left could not be read"
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (None, "there is no such program"),
        ("\x7fELF not really", "it cannot be run: Exec format error"),
        ("#!/bin/sh\necho this is not QEMU >&2\n", "it does not answer like QEMU: .*; it said: this is not QEMU"),
        ("#!/bin/sh\nexec cat >/dev/null\n", "it does not answer like QEMU: "),
    ],
    ids=["missing", "no-program", "no-qemu", "silent"],
)
def test_a_program_that_is_no_qemu_is_named(tmp_path: Path, source: str | None, problem: str) -> None:
    path = tmp_path / "qemu"
    if source is not None:
        path.write_text(source)
        path.chmod(0o755)
    with pytest.raises(ConnectError, match=f"^{path}: {problem}"):
        introspect_program(str(path), timeout_s=1.0, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# ---- the real thing

INSTALLED: Final = "installed"
BINARIES: Final = [INSTALLED, *filter(None, os.environ.get("HVKIT_QEMU_BINARIES", "").split(":"))]


@pytest.fixture(params=BINARIES)
def binary(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue("qemu_binary") if request.param == INSTALLED else request.param
    return found


@pytest.mark.qemu
def test_a_real_program_has_what_the_facts_say(binary: str, tmp_path: Path) -> None:
    peer = introspect_program(binary, timeout_s=60, cache_dir=tmp_path)
    version = f"{peer.version.major}.{peer.version.minor}"
    if version not in VERSIONS:
        pytest.skip(f"there are no facts about QEMU {version}")
    assert disagreements(peer, version) == []


@pytest.mark.qemu
def test_a_real_program_is_kept_whole(binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = introspect_program(binary, timeout_s=60, cache_dir=tmp_path)
    monkeypatch.setattr(introspection, "_known", {})
    kept = introspect_program(binary, timeout_s=0, cache_dir=tmp_path)
    assert kept._reply == asked._reply
    assert kept.version == asked.version


@pytest.mark.qemu
def test_a_running_machine_is_asked_over_its_monitor(binary: str, tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        process = subprocess.Popen(
            [
                binary,
                *("-S", "-M", "none", "-nodefaults", "-no-user-config", "-display", "none"),
                *("-chardev", f"socket,id=qmp,fd={listener.fileno()},server=on,wait=off", "-mon", "qmp,mode=control"),
            ],
            pass_fds=[listener.fileno()],
        )
    try:
        with QmpConnection(path) as connection:
            peer = introspect(connection)
            assert set(peer.commands()) == {each.name for each in connection.execute(QueryCommands())}
            assert peer.version == connection.version
            connection.check_against(peer)
            assert connection.execute(QueryStatus()).status == "prelaunch"
            with pytest.raises(NotInThisQemu, match=r"blockdev-add/driver=null-co/newer"):
                connection.execute("blockdev-add", {"driver": "null-co", "node-name": "x", "newer": 1})
            discarding = BlockdevAdd(BlockdevOptionsQcow2(file="n0", node_name="q0", discard_no_unref=True))
            if peer.version < (8, 1):
                with pytest.raises(NotInThisQemu, match=r"qcow2/discard-no-unref \(since 8\.1\)"):
                    connection.execute(discarding)
            else:
                with pytest.raises(CommandError, match="n0"):  # it is sent; there is no such node
                    connection.execute(discarding)
            connection.execute(BlockdevAdd(null_node(node_name="n0")))
    finally:
        process.kill()
        process.wait()


@pytest.mark.qemu
def test_a_kept_schema_is_there_at_once(qemu_binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    introspect_program(qemu_binary, timeout_s=60, cache_dir=tmp_path)
    times = []
    for _ in range(10):
        monkeypatch.setattr(introspection, "_known", {})
        began = time.perf_counter()
        assert introspect_program(qemu_binary, cache_dir=tmp_path).has("blockdev-add/driver=qcow2/data-file")
        times.append(time.perf_counter() - began)
    assert min(times) < 0.010
