# SPDX-License-Identifier: BSD-2-Clause
"""Subscriptions of a blocking connection."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from hvkit.qmp import (
    ConnectionLost,
    DataError,
    EventTimeout,
    GenericEvent,
    QmpConnection,
)
from hvkit.qmp.schema import (
    DeviceDeletedEvent,
    ShutdownEvent,
    StopEvent,
)
from hvkit.testing import CLOSE, Delay, QmpStub

OK: dict[str, Any] = {"return": {}}


STOPPED = {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 0}}


def test_subscription_gets_later_events_of_its_types(path: Path) -> None:
    deleted = {"event": "DEVICE_DELETED", "data": {"device": "d1", "path": "/machine/peripheral/d1"}}
    script = [(None, [deleted, OK]), (None, [OK, STOPPED, deleted])]
    with QmpStub(path, script), QmpConnection(path) as connection:
        connection.execute("one")
        with connection.subscribe(DeviceDeletedEvent) as events:
            connection.execute("two")
            event = events.get(timeout=5)
            assert (event.device, event.path) == ("d1", "/machine/peripheral/d1")
            with pytest.raises(EventTimeout, match="DEVICE_DELETED"):
                events.get(timeout=0.05)
        assert [type(each) for each in connection.take_events()] == [DeviceDeletedEvent, StopEvent]


def test_subscription_wait_for_has_one_deadline(path: Path) -> None:
    script = [(None, [OK, *({"event": "STOP"} if n % 2 else {"event": "NEWER", "data": {"n": n}} for n in range(6))])]
    with QmpStub(path, script), QmpConnection(path) as connection:
        everything = connection.subscribe()
        newer = connection.subscribe(GenericEvent, match=lambda event: event.data["n"] > 0)
        connection.execute("go")
        assert newer.get(timeout=5).data == {"n": 2}
        stop = everything.wait_for(lambda event: isinstance(event, StopEvent), timeout=5)
        assert isinstance(stop, StopEvent)
        began = time.monotonic()
        with pytest.raises(EventTimeout):
            everything.wait_for(lambda event: False, timeout=0.2)
        assert time.monotonic() - began < 1


def test_subscription_when_full_drops_and_counts_the_oldest(path: Path) -> None:
    script = [(None, [*({"event": "N", "data": {"n": n}} for n in range(5)), OK])]
    with (
        QmpStub(path, script),
        QmpConnection(path) as connection,
        connection.subscribe(GenericEvent, maxsize=2) as events,
    ):
        connection.execute("go")
        assert events.dropped == 3
        assert [events.get(timeout=1).data["n"] for _ in range(2)] == [3, 4]


def test_subscription_at_end_of_connection_raises_connection_lost(path: Path) -> None:
    with QmpStub(path, [(None, [OK, STOPPED, CLOSE])]), QmpConnection(path) as connection:
        heard = iter(connection.subscribe())
        connection.execute("go")
        assert next(heard) == StopEvent()
        with pytest.raises(ConnectionLost, match="closed the connection"):
            next(heard)


def test_subscription_with_invalid_event_raises_data_error_once(path: Path) -> None:
    bad = {"event": "SHUTDOWN", "data": {"guest": "perhaps"}}
    good = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}}
    with QmpStub(path, [(None, [bad, good, OK])]), QmpConnection(path) as connection:
        events = connection.subscribe(ShutdownEvent)
        connection.execute("go")
        with pytest.raises(DataError, match=r"SHUTDOWN\.guest: expected bool, got str"):
            events.get(timeout=1)
        assert events.get(timeout=1).guest


@pytest.mark.parametrize("timeout", [2**31, 2**63, math.inf])
def test_subscription_get_with_long_or_infinite_timeout_waits(path: Path, timeout: float) -> None:
    script = [(None, [OK, Delay(0.1), STOPPED])]
    with QmpStub(path, script), QmpConnection(path) as connection, connection.subscribe() as events:
        connection.execute("go")
        assert isinstance(events.get(timeout=timeout), StopEvent)
