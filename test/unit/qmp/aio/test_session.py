# SPDX-License-Identifier: BSD-2-Clause
"""The session that tasks share: sending, cancellation, its end."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
from pathlib import Path
from typing import Any

import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import CommandTimeout, ConnectionLost, DataError, QmpMessage
from hvkit.qmp.aio import AsyncQmpConnection
from hvkit.qmp.schema import StopEvent
from hvkit.testing import CLOSE, SILENCE, QmpStub
from loops import descriptors, in_loop, requests_of

STOPPED = {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 0}}
READY = b'{"QMP": {"version": {}}}\n{"return": {}, "id": 1}\n'


class Reader:
    """A server over a socket pair with small buffers, which reads on request."""

    def __init__(self) -> None:
        ours, self.socket = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.socket.sendall(READY)
        self.connection = AsyncQmpConnection.from_socket(ours)

    async def __aenter__(self) -> Reader:
        await self.connection.connect()
        self.socket.recv(4096)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()
        self.socket.close()

    async def read_until(self, end: bytes) -> bytes:
        def read() -> bytes:
            data = b""
            while not data.endswith(end):
                data += self.socket.recv(65536)
            return data

        return await asyncio.to_thread(read)


@in_loop
async def test_execute_with_server_that_does_not_read_times_out_and_keeps_the_stream() -> None:
    async with Reader() as peer:
        with pytest.raises(CommandTimeout):
            await peer.connection.execute("big", {"data": "x" * 1_000_000}, timeout=0.2)
        small = asyncio.create_task(peer.connection.execute("small"))
        seen = await peer.read_until(b'"small","id":3}')
        assert len(seen) > 1_000_000
        assert seen.count(b'"execute"') == 2
        peer.socket.sendall(b'{"return": "late", "id": 2}\n{"return": "right", "id": 3}\n')
        assert await small == "right"


@in_loop
async def test_execute_timeout_before_sending_leaves_nothing_in_flight() -> None:
    async with Reader() as peer:
        with pytest.raises(CommandTimeout):
            await peer.connection.execute("big", {"data": "x" * 1_000_000}, timeout=0.1)
        with pytest.raises(CommandTimeout) as caught:
            await peer.connection.execute("never-sent", timeout=0.1)
        assert caught.value.replies_owed == 0
        cancelled = asyncio.create_task(peer.connection.execute("never-sent"))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        last = asyncio.create_task(peer.connection.execute("last"))
        seen = await peer.read_until(b'"last","id":5}')
        assert b"never-sent" not in seen
        peer.socket.close()
        with pytest.raises(ConnectionLost) as lost:
            await last
        assert lost.value.commands == ("big", "last")


@in_loop
async def test_server_that_does_not_read_does_not_block_the_loop() -> None:
    async with Reader() as peer:
        big = asyncio.create_task(peer.connection.execute("big", {"data": "x" * 5_000_000}, timeout=10))
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert not big.done()  # it would be done at its deadline if it had blocked the loop
        await peer.connection.close()
        with pytest.raises(ConnectionLost, match="was closed"):
            await big


@in_loop
async def test_execute_sends_descriptors_with_the_command_and_leaves_them_open(tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.write_text("hello")
    before = descriptors()
    async with Reader() as peer:
        with note.open() as stream:
            sending = asyncio.create_task(peer.connection.execute("getfd", {"fdname": "n"}, fds=[stream.fileno()]))
            await asyncio.sleep(0)
            data, (received,), _, _ = socket.recv_fds(peer.socket, 4096, 1)
            assert data == b'{"execute":"getfd","arguments":{"fdname":"n"},"id":2}'
            peer.socket.sendall(b'{"return": {}, "id": 2}\n')
            assert await sending == {}
            assert stream.read() == "hello"
        assert os.pread(received, 10, 0) == b"hello"
        os.close(received)
    assert descriptors() == before


@in_loop
async def test_descriptors_of_cancelled_command_are_not_sent(tmp_path: Path) -> None:
    async with Reader() as peer:
        big = asyncio.create_task(peer.connection.execute("big", {"data": "x" * 1_000_000}))
        await asyncio.sleep(0)
        reading, writing = os.pipe()
        sending = asyncio.create_task(peer.connection.execute("getfd", {"fdname": "n"}, fds=[reading]))
        await asyncio.sleep(0)
        peer.socket.sendall(b"garbage\n")  # fails both: one was sent in part, the other not at all
        for task in (big, sending):
            with pytest.raises(DataError):
                await task
        os.close(reading)
        os.close(writing)
        last = asyncio.create_task(peer.connection.execute("last"))
        seen = await peer.read_until(b"}")
        while b'"last"' not in seen:
            seen += await peer.read_until(b"}")
        assert b"getfd" not in seen
        last.cancel()
        await asyncio.wait({last})


@in_loop
@pytest.mark.parametrize("fds", [["x"], [2**40], [None]], ids=["text", "too-large", "none"])
async def test_execute_with_invalid_descriptor_fails_only_that_command(fds: list[Any]) -> None:
    async with Reader() as peer:
        for is_first in (True, False):
            ahead = "ahead" if is_first else "x" * 1_000_000
            task = asyncio.create_task(peer.connection.execute("ahead", {"data": ahead}))
            await asyncio.sleep(0)
            with pytest.raises((ProgrammerError, TypeError, OverflowError)):
                await peer.connection.execute("getfd", {"fdname": "n"}, fds=fds, timeout=1)
            seen = await peer.read_until(b"}")
            while b'"id"' not in seen:
                seen += await peer.read_until(b"}")
            [request] = parse_all(seen.decode())
            assert request["execute"] == "ahead"
            peer.socket.sendall(b'{"return": 5, "id": %d}\n' % request["id"])
            assert await task == 5


def parse_all(text: str) -> list[dict[str, Any]]:
    """Parse messages without a separator."""
    messages, position, decoder = [], 0, json.JSONDecoder()
    while position < len(text):
        message, position = decoder.raw_decode(text, position)
        messages.append(message)
    return messages


def echo(request: dict[str, Any]) -> list[Any]:
    return [STOPPED, {"return": request["arguments"]["n"]}]


@in_loop
async def test_tasks_at_once_get_their_own_replies(path: Path) -> None:
    count = 500
    with QmpStub(path, [(None, echo)] * count):
        async with AsyncQmpConnection(path) as connection:
            with connection.subscribe(StopEvent) as events:
                answers = await asyncio.gather(
                    *(connection.execute("echo", {"n": number}, timeout=30) for number in range(count))
                )
                assert [await events.get(timeout=5) for _ in range(count)] == [StopEvent()] * count
    assert answers == list(range(count))


@pytest.mark.parametrize("echo_ids", [True, False])
@in_loop
async def test_many_cancellations_do_not_mix_up_replies(path: Path, echo_ids: bool) -> None:
    """Hundreds of tasks, most of them cancelled or timed out at random; each reply belongs to its task."""
    chance = random.Random(7)
    count = 400
    wrong: list[Any] = []
    answered = 0

    async def ask(number: int) -> None:
        nonlocal answered
        await asyncio.sleep(chance.random() * 0.2)
        try:
            answer = await connection.execute("echo", {"n": number}, timeout=chance.choice([0.001, 0.01, 20]))
        except CommandTimeout:
            return
        answered += 1
        if answer != number:
            wrong.append((number, answer))

    with QmpStub(path, [(None, echo)] * (count + 1), echo_ids=echo_ids, chunk_size=17, check_on_exit=False):
        async with AsyncQmpConnection(path) as connection:
            tasks = [asyncio.create_task(ask(number)) for number in range(count)]
            for task in chance.sample(tasks, count // 2):
                await asyncio.sleep(chance.random() * 0.002)
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert await connection.execute("echo", {"n": -1}, timeout=30) == -1
    assert wrong == []
    assert answered > 10
    assert {type(outcome) for outcome in outcomes} == {type(None), asyncio.CancelledError}


@in_loop
async def test_many_cancellations_with_slow_server_do_not_mix_up_replies() -> None:
    """The stream of requests stays valid and contains exactly those that were started."""
    chance = random.Random(11)
    async with Reader() as peer:
        begun = [
            asyncio.create_task(peer.connection.execute("big", {"n": number, "data": "x" * 3000}))
            for number in range(300)
        ]
        reading = asyncio.create_task(peer.read_until(b'"the-end","id":1000}'))
        for task in chance.sample(begun, 290):
            await asyncio.sleep(0)
            task.cancel()
        message = QmpMessage({"execute": "the-end", "id": 1000})
        last = asyncio.create_task(peer.connection.exchange(message))
        seen = await reading
        requests = parse_all(seen.decode())
        replies = [{"return": each.get("arguments", {}).get("n", -1), "id": each["id"]} for each in requests]
        peer.socket.sendall("".join(json.dumps(reply) + "\n" for reply in replies).encode())
        assert (await last)["return"] == -1
        outcomes = await asyncio.gather(*begun, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) or outcome == n for n, outcome in enumerate(outcomes))
    assert sum(not isinstance(outcome, asyncio.CancelledError) for outcome in outcomes) == 10


@in_loop
async def test_close_wakes_all_waiters(path: Path) -> None:
    with QmpStub(path, [(None, SILENCE)] * 3, check_on_exit=False) as stub:
        connection = AsyncQmpConnection(path)
        await connection.connect()
        events = connection.subscribe()
        waits = [connection.execute("a", timeout=60), connection.execute("a", timeout=60), events.get(), events.get()]
        tasks = [asyncio.ensure_future(each) for each in waits]
        await requests_of(stub, 3)
        await connection.close()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionLost] * 4
    assert all("was closed" in str(outcome) for outcome in outcomes)


@in_loop
async def test_end_of_server_wakes_all_tasks(path: Path) -> None:
    with QmpStub(path, [(None, SILENCE), (None, CLOSE)]):
        async with AsyncQmpConnection(path) as connection:
            events = connection.subscribe(StopEvent)
            tasks = [asyncio.ensure_future(each) for each in (events.get(), connection.execute("a"))]
            await asyncio.sleep(0)
            with pytest.raises(ConnectionLost):
                await connection.execute("b")
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionLost] * 2
