# SPDX-License-Identifier: BSD-2-Clause
"""Schemas of the installed QEMU and of the binaries in HVKIT_QEMU_BINARIES."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import pytest
from recorded_schemas import VERSIONS, disagreements

from hvkit.qmp import (
    CommandError,
    NotInThisQemu,
    QmpConnection,
    introspection,
)
from hvkit.qmp.introspection import introspect, introspect_program
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevOptionsNull,
    BlockdevOptionsQcow2,
    QueryCommands,
    QueryStatus,
)


def null_node(**members: Any) -> BlockdevOptionsNull:
    return BlockdevOptionsNull(driver="null-co", **members)


@pytest.fixture(autouse=True)
def empty_memory_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty the cache of this process before each test."""
    monkeypatch.setattr(introspection, "_cached", {})


INSTALLED: Final = "installed"


BINARIES: Final = [INSTALLED, *filter(None, os.environ.get("HVKIT_QEMU_BINARIES", "").split(":"))]


@pytest.fixture(params=BINARIES)
def binary(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue("qemu_binary") if request.param == INSTALLED else request.param
    return found


@pytest.mark.qemu
def test_introspect_program_agrees_with_the_facts(binary: str, tmp_path: Path) -> None:
    peer = introspect_program(binary, timeout_s=60, cache_dir=tmp_path)
    version = f"{peer.version.major}.{peer.version.minor}"
    if version not in VERSIONS:
        pytest.skip(f"the facts do not include QEMU {version}")
    assert disagreements(peer, version) == []


@pytest.mark.qemu
def test_introspect_program_from_the_cache_returns_the_same_schema(
    binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = introspect_program(binary, timeout_s=60, cache_dir=tmp_path)
    monkeypatch.setattr(introspection, "_cached", {})
    kept = introspect_program(binary, timeout_s=0, cache_dir=tmp_path)
    assert kept._graph.reply == asked._graph.reply
    assert kept.version == asked.version


@pytest.mark.qemu
def test_introspect_running_qemu_checks_its_commands(binary: str, tmp_path: Path) -> None:
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
                with pytest.raises(CommandError, match="n0"):  # the command is sent, and QEMU has no such node
                    connection.execute(discarding)
            connection.execute(BlockdevAdd(null_node(node_name="n0")))
    finally:
        process.kill()
        process.wait()


@pytest.mark.qemu
def test_introspect_program_from_the_cache_takes_less_than_10_ms(
    qemu_binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    introspect_program(qemu_binary, timeout_s=60, cache_dir=tmp_path)
    times = []
    for _ in range(10):
        monkeypatch.setattr(introspection, "_cached", {})
        began = time.perf_counter()
        assert introspect_program(qemu_binary, cache_dir=tmp_path).has("blockdev-add/driver=qcow2/data-file")
        times.append(time.perf_counter() - began)
    assert min(times) < 0.010
