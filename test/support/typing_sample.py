# SPDX-License-Identifier: BSD-2-Clause
"""Uses of the schema for a type checker; `# error: code` marks those that it must reject.

Checked by test_typing.py; never executed.
"""

from typing import Any, assert_type

from hvkit.qmp import QmpConnection, schema
from hvkit.qmp.base import NULL, Command, Event
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevOptions,
    BlockdevOptionsFile,
    BlockdevOptionsNull,
    BlockdevOptionsQcow2,
    BlockInfo,
    DeviceAdd,
    GuestExec,
    GuestExecReply,
    NetdevAdd,
    NetdevUserOptions,
    QomGet,
    QueryBlock,
    QueryStatus,
    RunState,
    ShutdownEvent,
    SocketAddress,
    SocketAddressInet,
    StatusInfo,
    Stop,
    StopEvent,
)


def replies(connection: QmpConnection) -> None:
    status = connection.execute(QueryStatus())
    assert_type(status, StatusInfo)
    assert_type(status.status, RunState)
    assert_type(connection.execute(QueryBlock()), list[BlockInfo])
    assert_type(connection.execute(QomGet(path="/", property="type")), Any)
    connection.execute(Stop())


def a_command_knows_its_reply(connection: QmpConnection, command: Command[StatusInfo]) -> None:
    assert_type(connection.execute(command), StatusInfo)
    assert_type(connection.execute(GuestExec(path="/bin/true")), GuestExecReply)


def construction() -> None:
    BlockdevAdd(BlockdevOptionsQcow2(node_name="n", file=BlockdevOptionsFile(driver="file", filename="f")))
    BlockdevAdd(arguments=BlockdevOptionsQcow2(file="f", backing=NULL))
    NetdevAdd(NetdevUserOptions(id="n0"))
    DeviceAdd(driver="virtio-rng-pci")
    DeviceAdd(driver="virtio-blk-pci", properties={"drive": "d"})
    address: SocketAddress = SocketAddressInet(host="h", port="1")
    _ = address.type
    BlockdevOptionsFile(driver="file")  # error: call-arg
    BlockdevOptionsFile(driver="file", filname="f")  # error: call-arg
    BlockdevOptionsFile(driver="file", filename=5)  # error: arg-type
    BlockdevOptionsFile(driver="flie", filename="f")  # error: arg-type
    BlockdevOptionsNull(driver="qcow2")  # error: arg-type
    DeviceAdd("virtio-blk-pci")  # error: call-arg
    BlockdevAdd(NetdevUserOptions(id="n0"))  # error: arg-type


def values(status: StatusInfo, block: BlockdevOptions) -> None:
    status.running = True  # error: misc
    _ = status.runing  # error: attr-defined
    if status.status == "runing":  # error: comparison-overlap
        return
    if isinstance(block, BlockdevOptionsQcow2):
        assert_type(block.node_name, str | None)


def events(event: Event) -> None:
    match event:
        case ShutdownEvent():
            assert_type(event.guest, bool)
        case StopEvent():
            _ = event.timestamp


def index() -> None:
    assert_type(schema.command("query-status"), type[Command[Any]])
    assert_type(schema.find_event("SHUTDOWN"), type[Event] | None)
    _ = schema.NoSuchName  # error: attr-defined
