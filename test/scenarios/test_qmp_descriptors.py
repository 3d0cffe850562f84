# SPDX-License-Identifier: BSD-2-Clause
"""`passed` and `fdset` with a real QEMU; no descriptor is left in QEMU."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

from hvkit.qmp import CommandError, QmpConnection
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
)

TUNSETIFF: Final = 0x400454CA


IFF_TAP_NO_PI_VNET_HDR: Final = 0x0002 | 0x1000 | 0x4000


needs_tun = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="needs root and /dev/net/tun: passing a tap is NOT tested here",
)


@attrs.frozen
class Machine:
    """A running QEMU without a machine, and a connection to it."""

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
    """A descriptor of an unlinked file."""
    path = tmp_path / "disk"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.truncate(fd, 1 << 20)
    path.unlink()
    yield fd
    os.close(fd)


def file_node(path: str, *, read_only: bool = False) -> BlockdevAdd:
    return BlockdevAdd(BlockdevOptionsFile(driver="file", node_name="passed_node", filename=path, read_only=read_only))


@pytest.mark.qemu
def test_fdset_of_unlinked_file_opens_as_block_node(machine: Machine, unlinked: int) -> None:
    before = machine.descriptors()
    with fdset(machine.qmp, unlinked, opaque="disk of web1") as path:
        (shown,) = machine.qmp.execute(QueryFdsets())
        assert path == f"/dev/fdset/{shown.fdset_id}"
        assert [each.opaque for each in shown.fds] == ["disk of web1"]
        machine.qmp.execute(file_node(path))
    # the block node keeps its descriptor
    (node,) = machine.qmp.execute(QueryNamedBlockNodes())
    assert (node.node_name, node.image.virtual_size) == ("passed_node", 1 << 20)
    machine.qmp.execute(BlockdevDel(node_name="passed_node"))
    assert machine.qmp.execute(QueryFdsets()) == []
    assert machine.descriptors() == before


@pytest.mark.qemu
def test_fdset_with_two_descriptors_opens_in_both_access_modes(machine: Machine, unlinked: int) -> None:
    before = machine.descriptors()
    read_only = os.open(f"/proc/self/fd/{unlinked}", os.O_RDONLY)
    try:
        with fdset(machine.qmp, unlinked, read_only) as path:
            assert machine.descriptors() == before + 2
            for wants_read_only in (False, True):
                machine.qmp.execute(file_node(path, read_only=wants_read_only))
                machine.qmp.execute(BlockdevDel(node_name="passed_node"))
    finally:
        os.close(read_only)
    assert machine.descriptors() == before


@pytest.mark.qemu
def test_fdset_after_failed_command_leaves_no_descriptor(machine: Machine, unlinked: int) -> None:
    before = machine.descriptors()
    with pytest.raises(CommandError), fdset(machine.qmp, unlinked) as path:
        machine.qmp.execute(BlockdevAdd(BlockdevOptionsFile(driver="file", node_name="no/name", filename=path)))
    assert machine.qmp.execute(QueryFdsets()) == []
    assert machine.descriptors() == before


@pytest.mark.qemu
def test_passed_without_use_closes_the_descriptor(machine: Machine, unlinked: int) -> None:
    before = machine.descriptors()
    with passed(machine.qmp, unlinked, "mine") as name:
        assert name == "mine"
        assert machine.descriptors() == before + 1
    assert machine.descriptors() == before


@pytest.mark.qemu
def test_passed_after_failed_command_leaves_no_descriptor(machine: Machine, unlinked: int) -> None:
    before = machine.descriptors()
    with pytest.raises(CommandError), passed(machine.qmp, unlinked) as name:
        machine.qmp.execute(AddClient(protocol="no-such-thing", fdname=name))
    assert machine.descriptors() == before


@pytest.mark.qemu
def test_passed_with_refused_name_leaves_no_descriptor(machine: Machine, unlinked: int) -> None:
    before = machine.descriptors()
    with pytest.raises(CommandError, match="digit"), passed(machine.qmp, unlinked, "9lives"):
        pytest.fail("the block must not be entered")
    assert machine.descriptors() == before


@pytest.mark.qemu
@needs_tun
def test_passed_tap_is_used_by_netdev(machine: Machine) -> None:
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
def test_fdset_and_passed_repeated_leave_no_descriptors(machine: Machine, unlinked: int) -> None:
    before = machine.descriptors()
    for _ in range(50):
        with fdset(machine.qmp, unlinked), passed(machine.qmp, unlinked):
            pass
    assert machine.descriptors() == before
