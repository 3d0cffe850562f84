# SPDX-License-Identifier: BSD-2-Clause
"""The asyncio connection with a real QEMU: many tasks; QEMU stopped, killed or busy."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvkit.qmp import CommandError, CommandTimeout, ConnectError, ConnectionLost
from hvkit.qmp.aio import AsyncQmpConnection
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevOptionsNull,
    Cont,
    DeviceAdd,
    Getfd,
    QueryNamedBlockNodes,
    QueryQmpSchema,
    QueryStatus,
    Quit,
    ResumeEvent,
    ShutdownEvent,
    Stop,
    StopEvent,
)
from loops import descriptors, in_loop
from paused_machine import Machine, paused_machine

pytestmark = pytest.mark.qemu


@pytest.fixture
def machine(qemu_binary: str, tmp_path: Path) -> Iterator[Machine]:
    with paused_machine(qemu_binary, tmp_path / "qmp.sock") as machine:
        yield machine


@in_loop
async def test_typed_commands_control_a_machine(machine: Machine) -> None:
    async with AsyncQmpConnection(machine.path) as connection:
        assert connection.version >= (7, 2)
        assert (await connection.execute(QueryStatus())).status == "prelaunch"
        with connection.subscribe(StopEvent, ResumeEvent) as events:
            await connection.execute(Cont())
            assert isinstance(await events.get(timeout=10), ResumeEvent)
            await connection.execute(Stop())
            assert isinstance(await events.get(timeout=10), StopEvent)
        with pytest.raises(CommandError, match="is not a valid device model name"):
            await connection.execute(DeviceAdd(driver="no-such-device", id="d"))
        assert len(await connection.execute(QueryQmpSchema())) > 1000
        with connection.subscribe(ShutdownEvent) as ends:
            await connection.execute(Quit())
            heard = []
            with pytest.raises(ConnectionLost):  # noqa: PT012 - iterating raises
                async for event in ends:
                    heard.append(event.reason)
    assert heard == ["host-qmp-quit"]
    await asyncio.to_thread(machine.process.wait, 10)


@in_loop
async def test_getfd_takes_a_descriptor(machine: Machine) -> None:
    before = descriptors()
    async with AsyncQmpConnection(machine.path) as connection:
        reading, writing = os.pipe()
        await connection.execute(Getfd(fdname="pipe"), fds=[reading])
        os.close(reading)
        await connection.execute("closefd", {"fdname": "pipe"})
        os.close(writing)
    assert descriptors() == before


@in_loop
async def test_stopped_qemu_times_out_and_recovers(machine: Machine) -> None:
    async with AsyncQmpConnection(machine.path) as connection:
        os.kill(machine.process.pid, signal.SIGSTOP)
        with pytest.raises(CommandTimeout):
            await connection.execute(QueryStatus(), timeout=0.3)
        with pytest.raises(ConnectError, match="busy with another client, or stopped"):
            await AsyncQmpConnection(machine.path).connect(timeout=0.3)
        os.kill(machine.process.pid, signal.SIGCONT)
        assert await connection.execute(QueryNamedBlockNodes()) == []


@in_loop
async def test_killed_qemu_wakes_all_tasks(machine: Machine) -> None:
    async with AsyncQmpConnection(machine.path) as connection:
        os.kill(machine.process.pid, signal.SIGSTOP)
        events = connection.subscribe()
        tasks = [asyncio.ensure_future(wait) for wait in (events.get(), connection.execute(QueryStatus()))]
        await asyncio.sleep(0)
        machine.process.kill()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionLost] * 2
    assert outcomes[1].commands == ("query-status",)  # type: ignore[union-attr]


@in_loop
async def test_many_cancellations_do_not_mix_up_replies(machine: Machine) -> None:
    chance = random.Random(3)
    wrong: list[int] = []
    async with AsyncQmpConnection(machine.path) as connection:
        for number in range(4):
            await connection.execute(BlockdevAdd(BlockdevOptionsNull(driver="null-co", node_name=f"n{number}")))

        async def ask() -> None:
            await asyncio.sleep(chance.random() * 0.1)
            status = await connection.execute(QueryStatus(), timeout=30)
            nodes = await connection.execute(QueryNamedBlockNodes(), timeout=30)
            if status.status != "prelaunch" or len(nodes) != 4:
                wrong.append(len(nodes))

        tasks = [asyncio.create_task(ask()) for _ in range(300)]
        for task in chance.sample(tasks, 200):
            await asyncio.sleep(chance.random() * 0.002)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [task.exception() for task in tasks if not task.cancelled()] == [None] * sum(
            not task.cancelled() for task in tasks
        )
        assert (await connection.execute(QueryStatus())).status == "prelaunch"
    assert wrong == []
