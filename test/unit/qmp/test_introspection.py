# SPDX-License-Identifier: BSD-2-Clause
"""`Introspection` of recorded schemas: paths, members, values, and checks of commands."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from recorded_schemas import FACTS, NEW, OLD, VERSIONS, disagreements, expected, flat, paths, recorded

from hvkit.errors import ProgrammerError
from hvkit.qmp import (
    NULL,
    Command,
    NotInThisQemu,
    QmpConnection,
    schema,
)
from hvkit.qmp.aio import AsyncQmpConnection
from hvkit.qmp.introspection import Introspection, Missing
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
    QueryStatus,
    UnixSocketAddress,
    UnixSocketAddressWrapper,
)
from hvkit.testing import QmpStub
from tools.qapi.classes import Classes
from tools.qapi.facts import read_facts
from tools.qapi.model import Schema


@pytest.mark.parametrize("version", VERSIONS)
def test_has_agrees_with_the_facts_for_every_path(version: str) -> None:
    assert disagreements(recorded(version), version) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_has_on_a_storage_daemon_finds_its_part(version: str) -> None:
    daemon, facts = recorded(version, "-qsd"), FACTS[version]
    found = [path for path in paths(facts) if daemon.has(path)]
    assert len(found) > 1000
    assert not [path for path in found if expected(facts, path) is False]
    assert daemon.has("block-export-add/type=vhost-user-blk/addr")
    assert not daemon.has("device_add")


def test_disagreements_with_facts_of_another_version_are_found() -> None:
    """The comparison finds the differences between 10.0 and 11.1."""
    found = disagreements(NEW, "10.0")
    assert "query-accelerators" in found
    assert "netdev_add/type=passt" in found


@pytest.mark.parametrize("version", VERSIONS)
def test_commands_and_events_agree_with_the_facts(version: str) -> None:
    peer = recorded(version)
    for kind, names in (("command", peer.commands()), ("event", peer.events())):
        facts = {name: each for name, each in FACTS[version].items() if each.kind == kind}
        assert set(names) <= facts.keys()
        assert all(facts[name].condition for name in facts.keys() - set(names))


@pytest.mark.parametrize("version", VERSIONS)
def test_members_agree_with_the_facts_on_optionality_and_features(version: str) -> None:
    peer = recorded(version)
    for name in peer.commands():
        items = flat(FACTS[version], name)
        for member in peer.members(name):
            item = items[member.name]
            assert (member.is_optional, member.features) == (item.is_optional, item.features), (name, member)


def test_members_have_the_type_names_of_the_manual() -> None:
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
    assert branch["driver"] == "BlockdevDriver", "the tag of a branch must have the type of the full enumeration"


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
def test_has_existing_path_returns_true(path: str) -> None:
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
def test_has_missing_path_returns_false(path: str) -> None:
    assert not NEW.has(path)


def test_values_and_features_list_those_of_a_place() -> None:
    assert set(NEW.values("migrate-set-parameters/multifd-compression")) >= {"none", "zlib", "zstd"}
    assert NEW.values("blockdev-add/node-name") == ()
    assert NEW.values("query-block->/device") == ()
    assert NEW.features("block-commit/base") == {"deprecated"}
    assert NEW.features("device_add") >= {"json-cli", "json-cli-hotplug"}


def test_members_of_a_missing_place_raises_not_in_this_qemu() -> None:
    with pytest.raises(NotInThisQemu, match=r"QEMU 7\.2\.0 does not have migrate/channels \(10\.0 and later\)"):
        OLD.members("migrate/channels")
    with pytest.raises(ProgrammerError, match="a feature, not a place"):
        NEW.members("device_add/@json-cli")


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
def test_missing_lists_what_an_old_qemu_lacks(command: Command[Any], lacks: list[tuple[str, str, str]]) -> None:
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
def test_missing_for_a_supported_command_is_empty(peer: Introspection, command: Command[Any]) -> None:
    assert peer.missing(command) == ()


def test_missing_for_a_removed_argument_names_its_last_version() -> None:
    assert NEW.missing("migrate", {"uri": "x", "detach": True}) == (Missing("migrate/detach", "member", "until 10.0"),)


def test_missing_accepts_commands_by_wire_name() -> None:
    assert OLD.missing("blockdev-add", {"driver": "null-co", "node-name": "x"}) == ()
    assert OLD.missing("query-newer") == (Missing("query-newer", "command", ""),)
    assert OLD.missing("STOP") == (Missing("STOP", "command", ""),), "an event must not count as a command"
    assert OLD.missing("device_add", {"driver": "x", "anything": 1}) == ()
    assert OLD.missing("blockdev-add", {"driver": "null-co", "newer": 1}) == (
        Missing("blockdev-add/driver=null-co/newer", "member", ""),
    )


def test_missing_checks_members_unknown_to_hvkit() -> None:
    command = Migrate(uri="x").with_unknown({"newer": 1})
    assert NEW.missing(command) == (Missing("migrate/newer", "member", ""),)


def test_missing_reports_a_value_of_the_wrong_type() -> None:
    (lack,) = NEW.missing("migrate-set-parameters", {"multifd-channels": "two"})
    assert (lack.path, lack.kind) == ("migrate-set-parameters/multifd-channels", "type")
    with pytest.raises(NotInThisQemu, match=r"multifd-channels \(takes other types\)"):
        NEW.check("migrate-set-parameters", {"multifd-channels": "two"})


def test_missing_reports_a_value_that_no_path_can_name() -> None:
    (lack,) = NEW.missing("query-dirty-rate", {"calc-time-unit": "a/b c"})
    assert (lack.path, lack.kind, lack.versions) == ("query-dirty-rate/calc-time-unit=a/b c", "value", "")


def test_check_error_names_everything_missing_and_the_version() -> None:
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


def test_check_against_refuses_before_sending(tmp_path: Path) -> None:
    with QmpStub(tmp_path / "qmp", [({"execute": "stop"}, {"return": {}})]) as stub:
        with QmpConnection(tmp_path / "qmp") as connection:
            connection.check_against(OLD)
            with pytest.raises(NotInThisQemu, match=r"blockdev-set-active \(since 10\.0\)"):
                connection.execute(BlockdevSetActive(active=True))
            with pytest.raises(NotInThisQemu, match="query-newer"):
                connection.execute("query-newer")
            assert connection.execute("stop") == {}
        assert stub.unexpected == []


def test_check_against_ends_with_the_connection(tmp_path: Path) -> None:
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


def test_check_against_on_asyncio_connection_refuses(tmp_path: Path) -> None:
    async def ask() -> None:
        async with AsyncQmpConnection(tmp_path / "qmp") as connection:
            connection.check_against(OLD)
            with pytest.raises(NotInThisQemu, match="blockdev-set-active"):
                await connection.execute(BlockdevSetActive(active=True))

    with QmpStub(tmp_path / "qmp", []):
        asyncio.run(ask())
