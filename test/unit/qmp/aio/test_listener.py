# SPDX-License-Identifier: BSD-2-Clause
"""The listener for tasks."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import ConnectError
from hvkit.qmp.aio import AsyncQmpListener
from hvkit.qmp.listener import QmpListener
from hvkit.qmp.schema import QueryStatus
from hvkit.testing import QmpStub
from loops import descriptors, in_loop
from paused_machine import reconnecting_monitor

STATUS = (None, {"return": {"status": "running", "running": True}})


@contextlib.asynccontextmanager
async def waiting(listener: AsyncQmpListener, count: int = 1) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks that accept a connection, execute a command and close."""

    async def answer() -> None:
        async with contextlib.AsyncExitStack() as stack:
            connection = await listener.accept(timeout=30)
            stack.push_async_callback(connection.close)
            assert (await connection.execute(QueryStatus())).running

    tasks = [asyncio.create_task(answer()) for _ in range(count)]
    await asyncio.sleep(0)  # they wait
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def call(path: Path) -> socket.socket:
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(str(path))
    return caller


def test_listeners_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(AsyncQmpListener) == public(QmpListener)


@in_loop
async def test_accept_returns_connection_ready_for_commands(tmp_path: Path) -> None:
    path = tmp_path / "s"
    before = descriptors()
    with AsyncQmpListener(path) as listener:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        async with waiting(listener) as tasks:
            with QmpStub(call(path), [STATUS]):
                await tasks[0]
        with QmpStub(call(path), []):  # a monitor that connects before a task waits
            connection = await listener.accept(timeout=5)
            await connection.close()
    assert not path.exists()
    listener.close()
    assert descriptors() <= before


@in_loop
async def test_accept_by_several_tasks_serves_each(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with AsyncQmpListener(path) as listener:
        async with waiting(listener, 3) as tasks:
            with contextlib.ExitStack() as stack:
                for _ in tasks:
                    stack.enter_context(QmpStub(call(path), [STATUS]))
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.gather(*tasks)


@in_loop
async def test_accept_when_cancelled_accepts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with AsyncQmpListener(path) as listener:
        async with waiting(listener, 2) as tasks:
            with QmpStub(call(path), [STATUS]):
                tasks[0].cancel()
                await tasks[1]
        assert tasks[0].cancelled()


@in_loop
async def test_accept_without_monitor_raises_connect_error_at_the_deadline(tmp_path: Path) -> None:
    with (
        AsyncQmpListener(tmp_path / "s") as listener,
        pytest.raises(ConnectError, match=r"no monitor connected within 0\.1 s"),
    ):
        await listener.accept(timeout=0.1)


@in_loop
async def test_accept_with_infinite_timeout_waits(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with AsyncQmpListener(path) as listener:
        task = asyncio.create_task(listener.accept(timeout=math.inf))
        await asyncio.sleep(0)
        with QmpStub(call(path), []):
            await (await task).close()


@in_loop
async def test_close_ends_waiting_accept(tmp_path: Path) -> None:
    listener = AsyncQmpListener(tmp_path / "s")
    async with waiting(listener, 2) as tasks:
        listener.close()
        for task in tasks:
            with pytest.raises(ConnectError, match="the listener was closed"):
                await task
    with pytest.raises(ProgrammerError, match="after close"):
        await listener.accept()
    with AsyncQmpListener(
        tmp_path / "s"
    ) as another:  # may get the same descriptor, which the loop must not take for watched
        accepting = asyncio.create_task(another.accept(timeout=math.inf))
        await asyncio.sleep(0)
        with QmpStub(call(tmp_path / "s"), []):
            await (await accepting).close()


@in_loop
async def test_accept_of_other_client_raises_connect_error(tmp_path: Path) -> None:
    with AsyncQmpListener(tmp_path / "s") as listener, call(tmp_path / "s") as caller:
        caller.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(ConnectError):
            await listener.accept(timeout=5)


@pytest.mark.qemu
@in_loop
async def test_accept_of_real_qemu_works_repeatedly(qemu_binary: str, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with AsyncQmpListener(path) as listener, reconnecting_monitor(qemu_binary, path):
        for _ in range(2):
            connection = await listener.accept(timeout=20)
            assert (await connection.execute(QueryStatus())).status == "prelaunch"
            await connection.close()
