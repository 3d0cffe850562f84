# SPDX-License-Identifier: BSD-2-Clause
"""Out-of-band commands while a real QEMU is blocked in another command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hvkit.qmp import CommandError, CommandTimeout, QmpConnection
from hvkit.qmp.aio import AsyncQmpConnection
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevOptionsFile,
    MigratePause,
    MigrateRecover,
    QueryStatus,
    Yank,
)
from loops import in_loop
from paused_machine import Machine, paused_machine

pytestmark = pytest.mark.qemu


@pytest.fixture
def machine(qemu_binary: str, tmp_path: Path) -> Iterator[Machine]:
    with paused_machine(qemu_binary, tmp_path / "qmp.sock") as machine:
        yield machine


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A FIFO: opening it for reading blocks until it is opened for writing."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def stuck_on(fifo: Path) -> BlockdevAdd:
    """Return a command that blocks the main thread of QEMU until `release`, and then fails."""
    return BlockdevAdd(BlockdevOptionsFile(driver="file", node_name="n", filename=str(fifo), read_only=True))


def release(fifo: Path) -> None:
    os.close(os.open(fifo, os.O_WRONLY))


def test_out_of_band_command_overtakes_blocked_command_of_thread(machine: Machine, fifo: Path, tmp_path: Path) -> None:
    transcript = tmp_path / "transcript"
    with (
        QmpConnection(machine.path, out_of_band=True, transcript=transcript) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        blocked = pool.submit(connection.execute, stuck_on(fifo), timeout=60)
        try:
            while "blockdev-add" not in transcript.read_text():  # written just before it is sent
                pass
            connection.execute(Yank(instances=[]), out_of_band=True)
            with pytest.raises(CommandError, match="migrat") as refused:
                connection.execute(MigratePause(), out_of_band=True)
            assert refused.value.command == "migrate-pause"
            with pytest.raises(CommandError, match="migrat"):
                connection.execute(MigrateRecover(uri="tcp:127.0.0.1:1"), out_of_band=True)
            with pytest.raises(CommandTimeout):  # an in-band command has to wait
                connection.execute(QueryStatus(), timeout=0.1)
            assert not blocked.done()
        finally:
            release(fifo)
        with pytest.raises(CommandError, match="regular file"):
            blocked.result(timeout=30)
        assert connection.execute(QueryStatus()).status == "prelaunch"


@in_loop
async def test_out_of_band_command_overtakes_blocked_command_of_task(machine: Machine, fifo: Path) -> None:
    async with AsyncQmpConnection(machine.path, out_of_band=True) as connection:
        blocked = asyncio.create_task(connection.execute(stuck_on(fifo), timeout=60))
        await asyncio.sleep(0)  # it is sent
        try:
            await connection.execute(Yank(instances=[]), out_of_band=True)
            assert not blocked.done()
        finally:
            await asyncio.to_thread(release, fifo)
        with pytest.raises(CommandError, match="regular file"):
            await blocked
