# SPDX-License-Identifier: BSD-2-Clause
"""Subscriptions of an asyncio connection."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import (
    ConnectionLost,
    DataError,
    Event,
    EventTimeout,
    GenericEvent,
)
from hvkit.qmp.aio import AsyncQmpConnection, AsyncSubscription
from hvkit.qmp.schema import DeviceDeletedEvent, QueryStatus, ResumeEvent, ShutdownEvent, StopEvent
from hvkit.testing import CLOSE, QmpStub
from loops import in_loop

READY = b'{"QMP": {"version": {}}}\n{"return": {}, "id": 1}\n'


OK: dict[str, Any] = {"return": {}}


STOPPED = {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 0}}


RESUMED = {"event": "RESUME"}


@in_loop
async def test_subscription_gets_later_events_of_its_types(path: Path) -> None:
    deleted = {"event": "DEVICE_DELETED", "data": {"device": "d1", "path": "/machine/peripheral/d1"}}
    with QmpStub(path, [(None, [deleted, OK]), (None, [OK, STOPPED, deleted])]):
        async with AsyncQmpConnection(path) as connection:
            await connection.execute("one")
            with connection.subscribe(DeviceDeletedEvent) as events:
                await connection.execute("two")
                event = await events.get(timeout=5)
                assert (event.device, event.path) == ("d1", "/machine/peripheral/d1")
                with pytest.raises(EventTimeout, match="DEVICE_DELETED"):
                    await events.get(timeout=0.05)
            assert [type(each) for each in connection.take_events()] == [DeviceDeletedEvent, StopEvent]


@in_loop
async def test_subscribe_to_non_event_raises_programmer_error(path: Path) -> None:
    with QmpStub(path):
        async with AsyncQmpConnection(path) as connection:
            wrongs: list[Any] = [QueryStatus, Event, "STOP", StopEvent()]
            for wrong in wrongs:
                with pytest.raises(ProgrammerError, match="subscribe to event classes, not to"):
                    connection.subscribe(wrong)


@in_loop
async def test_subscription_wait_for_has_one_deadline(path: Path) -> None:
    script = [(None, [OK, *({"event": "STOP"} if n % 2 else {"event": "NEWER", "data": {"n": n}} for n in range(6))])]
    with QmpStub(path, script):
        async with AsyncQmpConnection(path) as connection:
            everything = connection.subscribe()
            newer = connection.subscribe(GenericEvent, match=lambda event: event.data["n"] > 0)
            await connection.execute("go")
            assert (await newer.get(timeout=5)).data == {"n": 2}
            stop = await everything.wait_for(lambda event: isinstance(event, StopEvent), timeout=5)
            assert isinstance(stop, StopEvent)
            began = time.monotonic()
            with pytest.raises(EventTimeout):
                await everything.wait_for(lambda event: False, timeout=0.2)
            assert time.monotonic() - began < 1


@in_loop
async def test_subscription_get_with_zero_timeout_returns_received_event(path: Path) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(READY)
    connection = AsyncQmpConnection.from_socket(ours)
    await connection.connect()
    with connection.subscribe(StopEvent) as events:
        theirs.sendall(b'{"event": "STOP"}\n')
        assert await events.get(timeout=0) == StopEvent()
        with pytest.raises(EventTimeout):
            await events.get(timeout=0)
    await connection.close()
    theirs.close()


@in_loop
async def test_subscription_when_full_drops_and_counts_the_oldest(path: Path) -> None:
    with QmpStub(path, [(None, [*({"event": "N", "data": {"n": n}} for n in range(5)), OK])]):
        async with AsyncQmpConnection(path) as connection:
            with connection.subscribe(GenericEvent, maxsize=2) as events:
                await connection.execute("go")
                assert events.dropped == 3
                assert [(await events.get(timeout=1)).data["n"] for _ in range(2)] == [3, 4]


@in_loop
async def test_subscription_iteration_ends_with_connection_lost(path: Path) -> None:
    heard = []
    with QmpStub(path, [(None, [OK, STOPPED, RESUMED, CLOSE])]):
        async with AsyncQmpConnection(path) as connection:
            events = connection.subscribe(StopEvent, ResumeEvent)
            await connection.execute("go")
            with pytest.raises(ConnectionLost, match="closed the connection"):  # noqa: PT012 - iterating raises
                async for event in events:
                    heard.append(event)
    assert heard == [StopEvent(), ResumeEvent()]


@in_loop
async def test_subscription_with_invalid_event_raises_data_error_once(path: Path) -> None:
    bad = {"event": "SHUTDOWN", "data": {"guest": "perhaps"}}
    good = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}}
    with QmpStub(path, [(None, [bad, good, OK])]):
        async with AsyncQmpConnection(path) as connection:
            events = connection.subscribe(ShutdownEvent)
            await connection.execute("go")
            with pytest.raises(DataError, match=r"SHUTDOWN\.guest: expected bool, got str"):
                await events.get(timeout=1)
            assert (await events.get(timeout=1)).guest


@in_loop
async def test_subscription_get_when_cancelled_takes_no_event(path: Path) -> None:
    with QmpStub(path, [(None, OK)]) as stub:
        async with AsyncQmpConnection(path) as connection:
            await connection.execute("go")
            with connection.subscribe(StopEvent) as events:
                waiting = asyncio.create_task(events.get())
                await asyncio.sleep(0)
                stub.send(STOPPED)
                waiting.cancel()
                await asyncio.wait({waiting})
                assert await events.get(timeout=5) == StopEvent()


@in_loop
async def test_subscription_shared_by_tasks_gives_each_event_once(path: Path) -> None:
    with QmpStub(path, [(None, OK)]) as stub:
        async with AsyncQmpConnection(path) as connection:
            await connection.execute("go")
            events: AsyncSubscription[StopEvent] = connection.subscribe(StopEvent)
            tasks = [asyncio.create_task(events.get(timeout=10)) for _ in range(5)]
            await asyncio.sleep(0)
            for _ in tasks:
                stub.send(STOPPED)
            assert await asyncio.gather(*tasks) == [StopEvent()] * 5
