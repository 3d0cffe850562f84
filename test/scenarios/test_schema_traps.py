# SPDX-License-Identifier: BSD-2-Clause
"""Parts of QEMU's schema that are difficult to represent as Python types."""

from __future__ import annotations

import json
from typing import Any, get_args

import attrs
import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import NULL, DataError, schema
from hvkit.qmp.base import Command, Struct, members_of
from hvkit.qmp.converter import structure, unstructure
from hvkit.qmp.schema import (
    AnnounceSelf,
    AudiodevAlsaOptions,
    AudiodevAlsaPerDirectionOptions,
    BlockdevAdd,
    BlockdevBackup,
    BlockdevOptions,
    BlockdevOptionsFile,
    BlockdevOptionsGenericFormat,
    BlockdevOptionsNfs,
    BlockdevOptionsNfsBranch,
    BlockdevOptionsNull,
    BlockdevOptionsQcow2,
    BlockDirtyBitmapMerge,
    BlockJobInfo,
    BlockJobInfoMirror,
    BlockSetIoThrottle,
    CanHostSocketcanProperties,
    CpuModelInfo,
    DeviceAdd,
    FdSocketAddress,
    GuestExec,
    GuestExecReply,
    GuestShutdown,
    GuestSuspendDisk,
    HumanMonitorCommand,
    ImageInfo,
    InetSocketAddress,
    MachineInfo,
    MigrateIncoming,
    MigratePause,
    MigrateRecover,
    MigrateSetParameters,
    MigrationAddress,
    MigrationAddressRdma,
    MigrationAddressSocket,
    MigrationAddressSocketInet,
    MigrationChannel,
    MigrationParameters,
    MigrationPassEvent,
    NetdevAdd,
    NetdevUserOptions,
    ObjectAdd,
    PciDeviceClass,
    QomGet,
    QomSet,
    QueryCpusFast,
    QueryStats,
    QueryYank,
    SchemaInfoObjectMember,
    SetPassword,
    SevGuestInfo,
    SevInfo,
    SocketAddress,
    SocketAddressInet,
    StatusInfo,
    Stop,
    StopEvent,
    TransactionAction,
    UuidInfo,
    Yank,
)


def round_trip(value: Any, kind: Any = None) -> Any:
    """Convert a value to JSON and back."""
    return structure(json.loads(json.dumps(unstructure(value))), kind or type(value))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (AudiodevAlsaOptions(id="a", in_=AudiodevAlsaPerDirectionOptions(dev="hw0")), {"in": {"dev": "hw0"}}),
        (CanHostSocketcanProperties(id="c", if_="can0", canbus="b"), {"if": "can0", "canbus": "b"}),
        (PciDeviceClass(class_=3, desc=None), {"class": 3}),
        (MigrationPassEvent(pass_=2), {"pass": 2}),
        (FdSocketAddress(str_="7"), {"str": "7"}),
    ],
)
def test_member_named_like_a_python_keyword_has_a_trailing_underscore(value: Struct, plain: dict[str, Any]) -> None:
    assert unstructure(value).items() >= plain.items()
    assert round_trip(value) == value


def test_member_with_underscore_keeps_its_wire_name() -> None:
    throttle = BlockSetIoThrottle(id="d", bps=1, bps_rd=0, bps_wr=0, iops=0, iops_rd=0, iops_wr=0, bps_max_length=5)
    assert unstructure(throttle).keys() >= {"bps", "bps_rd", "iops_wr", "bps_max_length"}
    assert unstructure(HumanMonitorCommand(command_line="info", cpu_index=0)) == {
        "command-line": "info",
        "cpu-index": 0,
    }


def test_member_in_capitals_keeps_its_name() -> None:
    assert unstructure(UuidInfo(UUID="x")) == {"UUID": "x"}


def test_enumeration_allows_values_that_are_not_identifiers() -> None:
    assert {"0", "9", "a", "kp_enter"} <= set(get_args(schema.QKeyCode))
    assert "3des" in get_args(schema.QCryptoCipherAlgo)


@pytest.mark.parametrize(
    "wire_name",
    [
        "block-dirty-bitmap-add",
        "block-dirty-bitmap-merge",
        "blockdev-backup",
        "blockdev-snapshot",
        "blockdev-snapshot-sync",
        "drive-backup",
        "drive-mirror",
    ],
)
def test_command_named_like_its_arguments_is_the_struct(wire_name: str) -> None:
    command = schema.command(wire_name)
    assert issubclass(command, Command)
    assert getattr(schema, command.__name__) is command
    assert members_of(command)


def test_command_named_like_its_arguments_can_be_used_as_a_struct() -> None:
    data = {"type": "blockdev-backup", "data": {"device": "a", "target": "b", "sync": "full"}}
    action = structure(data, TransactionAction)
    assert isinstance(action, schema.BlockdevBackupWrapper)
    assert action.data == BlockdevBackup(device="a", target="b", sync="full")
    assert unstructure(action) == data
    assert BlockdevBackup(device="a", target="b", sync="full").wire_name == "blockdev-backup"
    assert BlockDirtyBitmapMerge(node="n", target="t", bitmaps=["b"]).wire_name == "block-dirty-bitmap-merge"


def test_command_whose_struct_changed_accepts_the_arguments_of_all_versions() -> None:
    assert issubclass(MigrateSetParameters, MigrationParameters)
    assert unstructure(MigrateSetParameters(downtime_limit=300, compress_level=1)) == {
        "downtime-limit": 300,
        "compress-level": 1,
    }


def test_command_with_argument_struct_derives_from_it() -> None:
    assert issubclass(AnnounceSelf, schema.AnnounceParameters)


def test_command_and_event_with_one_name_have_different_classes() -> None:
    assert (Stop.wire_name, StopEvent.wire_name) == ("stop", "STOP")


def test_reply_named_like_its_command_has_a_suffix() -> None:
    assert GuestExec.wire_name == "guest-exec"
    assert GuestExec(path="/bin/true").reply_type is GuestExecReply


def test_null_differs_from_an_absent_member() -> None:
    absent, null = BlockdevOptionsQcow2(file="f"), BlockdevOptionsQcow2(file="f", backing=NULL)
    assert unstructure(absent) == {"driver": "qcow2", "file": "f"}
    assert unstructure(null) == {"driver": "qcow2", "file": "f", "backing": None}
    assert round_trip(null).backing is NULL
    assert round_trip(absent).backing is None


def test_member_of_any_type_distinguishes_null_from_absent() -> None:
    with_null = structure({"name": "a", "type": "1", "default": None}, SchemaInfoObjectMember)
    without = structure({"name": "a", "type": "1"}, SchemaInfoObjectMember)
    assert (with_null.default, without.default) == (NULL, None)
    assert unstructure(with_null) == {"name": "a", "type": "1", "default": None}
    assert unstructure(without) == {"name": "a", "type": "1"}


@pytest.mark.parametrize("value", [1, "text", True, [1, None], {"a": {"b": None}}, NULL])
def test_member_of_any_type_accepts_any_value(value: Any) -> None:
    assert round_trip(QomSet(path="p", property="q", value=value)).value == value
    assert round_trip(CpuModelInfo(name="qemu64", props=value)).props == value
    assert QomGet(path="p", property="q").reply_type is Any


@pytest.mark.parametrize("file", ["node0", BlockdevOptionsFile(driver="file", filename="x")])
def test_alternate_is_selected_by_json_type(file: Any) -> None:
    assert round_trip(BlockdevOptionsQcow2(file=file)).file == file


def test_alternate_of_wrong_type_names_the_accepted_types() -> None:
    with pytest.raises(DataError, match="file: expected object or str, got int"):
        structure({"driver": "qcow2", "file": 5}, BlockdevOptions)


def test_union_branch_is_selected_by_the_tag() -> None:
    block = structure({"driver": "qcow2", "file": {"driver": "null-co", "size": 5}, "node-name": "n"}, BlockdevOptions)
    assert block == BlockdevOptionsQcow2(node_name="n", file=BlockdevOptionsNull(driver="null-co", size=5))


def test_branch_of_one_tag_value_has_it_as_default() -> None:
    assert BlockdevOptionsQcow2(file="f").driver == "qcow2"
    with pytest.raises(ProgrammerError, match="'driver' is missing"):
        BlockdevOptionsFile(filename="x")  # type: ignore[call-arg]


def test_branch_with_derived_branches_accepts_any_tag() -> None:
    assert issubclass(BlockdevOptionsQcow2, BlockdevOptionsGenericFormat)
    assert unstructure(BlockdevOptionsGenericFormat(driver="vpc", file="f")) == {"driver": "vpc", "file": "f"}


def test_tag_without_branch_gives_the_union_class() -> None:
    block = structure({"type": "commit", **JOB}, BlockJobInfo)
    assert type(block) is BlockJobInfo


def test_unknown_tag_gives_the_union_class_and_keeps_unknown_members() -> None:
    data = {"driver": "from-the-future", "node-name": "n", "speed": {"of": "light"}}
    block = structure(data, BlockdevOptions)
    assert type(block) is BlockdevOptions
    assert (block.node_name, block.unknown) == ("n", {"speed": {"of": "light"}})
    assert unstructure(block) == data


def test_missing_tag_gives_the_union_class() -> None:
    sev = {
        "enabled": True,
        "api-major": 0,
        "api-minor": 24,
        "build-id": 1,
        "policy": 3,
        "state": "running",
        "handle": 1,
    }
    of_7_2 = structure(sev, SevInfo)
    assert type(of_7_2) is SevInfo
    assert (of_7_2.sev_type, of_7_2.policy) == (None, 3)
    assert unstructure(of_7_2) == sev
    assert type(structure({**sev, "sev-type": "sev"}, SevInfo)) is SevGuestInfo


JOB = {"device": "d", "len": 1, "offset": 0, "busy": False, "paused": False, "speed": 0, "io-status": "ok"}
JOB |= {"ready": True, "status": "ready", "auto-finalize": True, "auto-dismiss": True}


def test_branch_member_missing_in_older_versions_is_optional() -> None:
    mirror = structure({"type": "mirror", **JOB}, BlockJobInfo)
    assert isinstance(mirror, BlockJobInfoMirror)
    assert mirror.actively_synced is None


def test_struct_with_other_uses_has_a_separate_branch_class() -> None:
    inet = SocketAddressInet(host="h", port="1")
    assert isinstance(inet, InetSocketAddress)
    assert isinstance(inet, SocketAddress)
    assert unstructure(inet) == {"type": "inet", "host": "h", "port": "1"}
    assert unstructure(InetSocketAddress(host="h", port="1")) == {"host": "h", "port": "1"}
    assert issubclass(BlockdevOptionsNfsBranch, BlockdevOptionsNfs)
    assert not issubclass(BlockdevOptionsNfs, BlockdevOptions)


def test_branch_that_is_a_union_has_both_tags() -> None:
    data = {"transport": "socket", "type": "inet", "host": "h", "port": "1"}
    address = structure(data, MigrationAddress)
    assert address == MigrationAddressSocketInet(host="h", port="1")
    assert isinstance(address, MigrationAddressSocket)
    assert isinstance(address, SocketAddressInet)
    assert unstructure(address) == data
    rdma = MigrationAddressRdma(host="h", port="1")
    assert unstructure(rdma) == {"transport": "rdma", "host": "h", "port": "1"}
    channel = MigrationChannel(channel_type="main", addr=rdma)
    assert round_trip(MigrateIncoming(channels=[channel])).channels == [channel]


@pytest.mark.parametrize(
    "wire_name",
    [
        "block-export-add",
        "block-job-change",
        "blockdev-add",
        "display-reload",
        "display-update",
        "expire_password",
        "netdev_add",
        "object-add",
        "query-stats",
        "set-numa-node",
        "set_password",
    ],
)
def test_command_with_union_argument_takes_it_positionally(wire_name: str) -> None:
    command = schema.command(wire_name)
    assert command.whole_argument == "arguments"
    union = members_of(command)["arguments"].type
    assert union.tag


def test_command_with_union_argument_sends_the_members_of_the_union() -> None:
    plain = {"type": "user", "id": "n0", "hostfwd": [{"str": "tcp::2222-:22"}]}
    command = NetdevAdd(NetdevUserOptions(id="n0", hostfwd=[schema.NetdevUserHostForward(str_="tcp::2222-:22")]))
    assert unstructure(command) == plain
    assert structure(plain, NetdevAdd) == command
    assert unstructure(BlockdevAdd(arguments=BlockdevOptionsNull(driver="null-co"))) == {"driver": "null-co"}
    assert unstructure(ObjectAdd(schema.IothreadProperties(id="io0"))) == {"qom-type": "iothread", "id": "io0"}
    assert unstructure(QueryStats(schema.StatsFilter(target="vm"))) == {"target": "vm"}
    assert unstructure(SetPassword(schema.SetPasswordOptionsVnc(password="p"))) == {"protocol": "vnc", "password": "p"}


def test_device_add_accepts_any_property() -> None:
    command = DeviceAdd(
        driver="virtio-blk-pci", id="vda", properties={"drive": "disk0", "bus_x": 1, "write-cache": "on"}
    )
    plain = {"driver": "virtio-blk-pci", "id": "vda", "drive": "disk0", "bus_x": 1, "write-cache": "on"}
    assert unstructure(command) == plain
    assert structure(plain, DeviceAdd) == command


def test_command_arguments_are_keyword_only() -> None:
    with pytest.raises(ProgrammerError, match="takes its members as keywords"):
        DeviceAdd("virtio-blk-pci")  # type: ignore[call-arg]


def test_recursive_type_survives_a_round_trip() -> None:
    inner = {"virtual-size": 1, "filename": "base", "format": "raw"}
    image = structure({**inner, "backing-image": {**inner, "backing-image": inner}}, ImageInfo)
    assert image.backing_image is not None
    assert image.backing_image.backing_image == structure(inner, ImageInfo)


def test_integer_of_64_bits_survives_a_round_trip() -> None:
    size = 2**64 - 1
    assert round_trip(schema.BlockResize(device="d", size=size)).size == size


def test_member_of_older_versions_is_known() -> None:
    status = structure({"running": False, "singlestep": False, "status": "prelaunch"}, StatusInfo)
    assert status.singlestep is False
    assert not status.unknown


def test_member_missing_in_older_versions_is_none() -> None:
    machine = {"name": "q35", "cpu-max": 288, "hotpluggable-cpus": True, "numa-mem-supported": True}
    machine |= {"deprecated": False, "acpi": True}
    info = structure(machine, MachineInfo)
    assert info.default_cpu_type is None
    assert unstructure(info) == machine


@pytest.mark.parametrize("command", [Yank, QueryYank, MigratePause, MigrateRecover])
def test_out_of_band_command_is_marked(command: type[Command[Any]]) -> None:
    assert command.out_of_band


def test_out_of_band_commands_are_exactly_these() -> None:
    names = {"yank", "query-yank", "migrate-pause", "migrate-recover"}
    assert {name for name in schema.commands() if schema.command(name).out_of_band} == names


def test_commands_without_success_reply_are_marked() -> None:
    silent = {name for name in schema.agent_commands() if not schema.command(name).has_reply}
    assert silent == {"guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid"}
    assert not GuestShutdown(mode="powerdown").has_reply
    assert not GuestSuspendDisk().has_reply
    assert all(schema.command(name).has_reply for name in schema.commands())


def test_command_has_its_reply_type() -> None:
    assert QueryCpusFast.reply_type == list[schema.CpuInfoFast]
    assert Stop.reply_type is type(None)


def test_schema_value_is_immutable() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Stop().x = 1  # type: ignore[attr-defined]
