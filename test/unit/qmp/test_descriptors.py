# SPDX-License-Identifier: BSD-2-Clause
"""Descriptors lent to QEMU: used by real ones, and none left there, whatever goes wrong."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import CommandError, CommandTimeout, ConnectionLost, QmpConnection
from hvkit.qmp.descriptors import fdset, passed
from hvkit.qmp.schema import (
    AddClient,
    BlockdevAdd,
    BlockdevDel,
    BlockdevOptionsFile,
    NetdevAdd,
    NetdevDel,
    NetdevTapOptions,
    QueryFdsets,
    QueryNamedBlockNodes,
    QueryStatus,
)
from hvkit.testing import CLOSE, SILENCE, QmpStub

OK: Final[dict[str, Any]] = {"return": {}}
TUNSETIFF: Final = 0x400454CA
IFF_TAP_NO_PI_VNET_HDR: Final = 0x0002 | 0x1000 | 0x4000

needs_tun = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="taps need root and /dev/net/tun, so lending them is NOT tested here",
)


@attrs.frozen
class Machine:
    """A QEMU that runs, with no machine in it, and a connection to it."""

    pid: int
    qmp: QmpConnection

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@pytest.fixture(scope="module")
def machine(qemu_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    path = tmp_path_factory.mktemp("machine") / "qmp.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        process = subprocess.Popen(
            [
                qemu_binary,
                *("-M", "none", "-nodefaults", "-no-user-config", "-display", "none"),
                *("-chardev", f"socket,id=qmp,fd={listener.fileno()},server=on,wait=off", "-mon", "qmp,mode=control"),
            ],
            pass_fds=[listener.fileno()],
        )
    try:
        with QmpConnection(path) as qmp:
            yield Machine(process.pid, qmp)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def unlinked(tmp_path: Path) -> Iterator[int]:
    """A descriptor of a file that has no name any more."""
    path = tmp_path / "disk"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.truncate(fd, 1 << 20)
    path.unlink()
    yield fd
    os.close(fd)


def file_node(path: str, *, read_only: bool = False) -> BlockdevAdd:
    return BlockdevAdd(BlockdevOptionsFile(driver="file", node_name="lent", filename=path, read_only=read_only))


@pytest.mark.qemu
def test_a_file_without_a_name_becomes_a_block_node(machine: Machine, unlinked: int) -> None:
    before = machine.descriptors()
    with fdset(machine.qmp, unlinked, opaque="disk of web1") as path:
        (shown,) = machine.qmp.execute(QueryFdsets())
        assert path == f"/dev/fdset/{shown.fdset_id}"
        assert [each.opaque for each in shown.fds] == ["disk of web1"]
        machine.qmp.execute(file_node(path))
    # what uses it has it still
    (node,) = machine.qmp.execute(QueryNamedBlockNodes())
    assert (node.node_name, node.image.virtual_size) == ("lent", 1 << 20)
    machine.qmp.execute(BlockdevDel(node_name="lent"))
    assert machine.qmp.execute(QueryFdsets()) == []
    assert machine.descriptors() == before


@pytest.mark.qemu
def test_a_set_holds_a_descriptor_for_each_way_of_opening(machine: Machine, unlinked: int) -> None:
    before = machine.descriptors()
    read_only = os.open(f"/proc/self/fd/{unlinked}", os.O_RDONLY)
    try:
        with fdset(machine.qmp, unlinked, read_only) as path:
            assert machine.descriptors() == before + 2
            for wants_read_only in (False, True):
                machine.qmp.execute(file_node(path, read_only=wants_read_only))
                machine.qmp.execute(BlockdevDel(node_name="lent"))
    finally:
        os.close(read_only)
    assert machine.descriptors() == before


@pytest.mark.qemu
def test_a_command_that_fails_leaves_no_set_behind(machine: Machine, unlinked: int) -> None:
    before = machine.descriptors()
    with pytest.raises(CommandError), fdset(machine.qmp, unlinked) as path:
        machine.qmp.execute(BlockdevAdd(BlockdevOptionsFile(driver="file", node_name="no/name", filename=path)))
    assert machine.qmp.execute(QueryFdsets()) == []
    assert machine.descriptors() == before


@pytest.mark.qemu
def test_a_name_that_nothing_took_is_withdrawn(machine: Machine, unlinked: int) -> None:
    before = machine.descriptors()
    with passed(machine.qmp, unlinked, "mine") as name:
        assert name == "mine"
        assert machine.descriptors() == before + 1
    assert machine.descriptors() == before


@pytest.mark.qemu
def test_a_command_that_fails_leaves_no_name_behind(machine: Machine, unlinked: int) -> None:
    before = machine.descriptors()
    with pytest.raises(CommandError), passed(machine.qmp, unlinked) as name:
        machine.qmp.execute(AddClient(protocol="no-such-thing", fdname=name))
    assert machine.descriptors() == before


@pytest.mark.qemu
def test_a_name_that_qemu_refuses_leaves_nothing(machine: Machine, unlinked: int) -> None:
    before = machine.descriptors()
    with pytest.raises(CommandError, match="digit"), passed(machine.qmp, unlinked, "9lives"):
        pytest.fail("the block must not be entered")
    assert machine.descriptors() == before


@pytest.mark.qemu
@needs_tun
def test_a_tap_is_taken_by_a_netdev(machine: Machine) -> None:
    before = machine.descriptors()
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"hvkitlent%d", IFF_TAP_NO_PI_VNET_HDR))
        with passed(machine.qmp, tap) as name:
            machine.qmp.execute(NetdevAdd(NetdevTapOptions(id="net0", fd=name)))
    finally:
        os.close(tap)
    assert machine.descriptors() == before + 1
    machine.qmp.execute(NetdevDel(id="net0"))
    assert machine.descriptors() == before


@pytest.mark.qemu
def test_descriptors_do_not_add_up(machine: Machine, unlinked: int) -> None:
    before = machine.descriptors()
    for _ in range(50):
        with fdset(machine.qmp, unlinked), passed(machine.qmp, unlinked):
            pass
    assert machine.descriptors() == before


# ---- what only a stub does


def test_a_descriptor_of_unknown_fate_is_withdrawn(tmp_path: Path, unlinked: int) -> None:
    path = tmp_path / "qmp.sock"
    script = [
        ({"execute": "getfd", "arguments": {"fdname": "mine"}}, SILENCE),
        ({"execute": "closefd", "arguments": {"fdname": "mine"}}, OK),
        ({"execute": "query-status"}, {"return": {"status": "running", "running": True}}),
    ]
    with QmpStub(path, script), QmpConnection(path, deadlines={"getfd": 0.1}) as connection:
        with pytest.raises(CommandTimeout) as caught, passed(connection, unlinked, "mine"):
            pytest.fail("the block must not be entered")
        assert caught.value.command == "getfd"
        assert connection.execute(QueryStatus()).running


def test_a_set_of_unknown_fate_is_withdrawn(tmp_path: Path, unlinked: int) -> None:
    path = tmp_path / "qmp.sock"
    script = [
        (None, {"return": {"fdset-id": 1, "fd": 9}}),
        (None, SILENCE),
        (None, {"error": {"class": "GenericError", "desc": "File descriptor named 'fdset-id:1' not found"}}),
    ]
    with QmpStub(path, script) as stub, QmpConnection(path, deadlines={"add-fd": 0.1}) as connection:
        with pytest.raises(CommandTimeout) as caught, fdset(connection, unlinked, unlinked):
            pytest.fail("the block must not be entered")
        assert caught.value.command == "add-fd"
    _, first, second, third = stub.requests
    assert [each["execute"] for each in (first, second, third)] == ["add-fd", "add-fd", "remove-fd"]
    assert len({each["arguments"]["fdset-id"] for each in (first, second, third)}) == 1


def test_an_error_of_the_block_is_not_hidden_by_a_lost_connection(tmp_path: Path, unlinked: int) -> None:
    path = tmp_path / "qmp.sock"
    with QmpStub(path, [(None, OK), (None, CLOSE)]), QmpConnection(path) as connection:
        with pytest.raises(ZeroDivisionError) as caught, passed(connection, unlinked):
            raise ZeroDivisionError
        assert "QEMU may hold" in caught.value.__notes__[0]


def test_a_descriptor_that_could_not_be_withdrawn_is_an_error(tmp_path: Path, unlinked: int) -> None:
    path = tmp_path / "qmp.sock"
    with QmpStub(path, [(None, OK), (None, CLOSE)]), QmpConnection(path) as connection:  # noqa: SIM117
        with pytest.raises(ConnectionLost, match="closefd"), passed(connection, unlinked):
            pass


def test_a_set_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProgrammerError), fdset(QmpConnection(tmp_path / "qmp.sock")):
        pass
