# SPDX-License-Identifier: BSD-2-Clause
"""The session that threads share: waiting, sending, interrupts."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvkit.qmp import (
    CommandTimeout,
    ConnectionLost,
    GenericEvent,
    QmpConnection,
    QmpError,
)
from hvkit.qmp.schema import (
    QueryStatus,
    StopEvent,
)
from hvkit.testing import SILENCE, Delay, QmpStub, WaitFor

STOPPED = {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 0}}


OK: dict[str, Any] = {"return": {}}


def test_threads_at_once_get_their_own_replies(path: Path) -> None:
    """Eight threads each send their own numbers, which the replies contain; events arrive in between."""
    rounds, workers = 100, 8

    def echo(request: dict[str, Any]) -> list[Any]:
        return [STOPPED, {"return": request["arguments"]["n"]}]

    wrong: list[Any] = []
    with QmpStub(path, [(None, echo)] * (rounds * workers)), QmpConnection(path) as connection:

        def work(worker: int) -> None:
            for number in range(rounds):
                asked = worker * rounds + number
                answer = connection.execute("echo", {"n": asked}, timeout=30)
                if answer != asked:
                    wrong.append((asked, answer))

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
        with connection.subscribe(StopEvent) as events:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [events.get(timeout=5) for _ in range(rounds * workers)] == [StopEvent()] * (rounds * workers)
    assert wrong == []


def test_close_wakes_all_waiters(path: Path) -> None:
    outcomes: list[QmpError] = []
    with QmpStub(path, [(None, SILENCE)] * 3, check_on_exit=False) as stub:
        connection = QmpConnection(path)
        connection.connect()
        events = connection.subscribe()

        def wait(use: Any) -> None:
            try:
                use()
            except QmpError as error:
                outcomes.append(error)

        uses = [lambda: connection.execute("a", timeout=60)] * 2 + [lambda: events.get(timeout=60)] * 2
        threads = [threading.Thread(target=wait, args=(use,)) for use in uses]
        for thread in threads:
            thread.start()
        stub.wait_for_requests(3)
        connection.close()
        for thread in threads:
            thread.join(5)
    assert [type(outcome) for outcome in outcomes] == [ConnectionLost] * 4
    assert all("was closed" in str(outcome) for outcome in outcomes)


def test_timeout_of_one_thread_lets_another_read(path: Path, released: threading.Event) -> None:
    answers: list[Any] = []
    script = [(None, SILENCE), (None, [WaitFor(released), {"return": "right"}])]
    with QmpStub(path, script) as stub, QmpConnection(path) as connection:

        def impatient() -> None:
            with pytest.raises(CommandTimeout):
                connection.execute("impatient", timeout=0.2)
            released.set()

        reader = threading.Thread(target=impatient)
        reader.start()
        stub.wait_for_requests(2)
        other = threading.Thread(target=lambda: answers.append(connection.execute("patient", timeout=30)))
        other.start()
        reader.join()
        other.join()
    assert answers == ["right"]


class Interrupted(BaseException):
    """Raised by a signal handler."""


def test_interrupt_while_waiting_leaves_connection_usable_or_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        with QmpStub(
            path, [(None, [Delay(0.4), {"return": "late"}]), (None, {"return": "right"})], check_on_exit=False
        ):
            connection = QmpConnection(path)
            connection.connect()
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Interrupted):
                connection.execute("slow", timeout=10)
            with pytest.raises(ConnectionLost, match="interrupted"):
                connection.execute("next")
            connection.connect()
            assert connection.execute("next") == "right"
            connection.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_signals_do_not_extend_deadline_of_execute(path: Path, released: threading.Event) -> None:
    """After a signal handler Python repeats the system call, which must use the remaining time."""
    previous = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        with QmpStub(path, [(None, [WaitFor(released), OK])], check_on_exit=False), QmpConnection(path) as connection:
            signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
            began = time.monotonic()
            with pytest.raises(CommandTimeout):
                connection.execute("slow", timeout=0.4)
            assert time.monotonic() - began < 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_server_that_reads_slowly_does_not_extend_deadline() -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    theirs.sendall(b'{"QMP": {"version": {}}}\n{"return": {}, "id": 1}\n')
    connection = QmpConnection.from_socket(ours)
    connection.connect()
    is_over = threading.Event()

    def read_slowly() -> None:
        while not is_over.wait(0.01):
            with contextlib.suppress(BlockingIOError):  # the command is not encoded yet
                theirs.recv(1000, socket.MSG_DONTWAIT)

    reader = threading.Thread(target=read_slowly)
    reader.start()
    began = time.monotonic()
    with pytest.raises(CommandTimeout):
        connection.execute("big", {"data": "x" * 4_000_000}, timeout=0.3)
    assert time.monotonic() - began < 2
    is_over.set()
    reader.join()
    connection.close()
    theirs.close()


@pytest.mark.parametrize("echo_ids", [True, False])
def test_interrupt_anywhere_leaves_connection_usable_or_closed(path: Path, echo_ids: bool) -> None:
    """The handler raises at random moments of many exchanges; each reply contains the number of its request."""

    def interrupt(*_: Any) -> None:
        raise Interrupted

    def echo(request: dict[str, Any]) -> list[Any]:
        return [STOPPED, {"return": request["arguments"]["n"]}]

    interrupted = timed_out = 0
    previous = signal.signal(signal.SIGALRM, interrupt)
    rng = random.Random(4711)
    try:
        with QmpStub(path, [(None, echo)] * 100_000, echo_ids=echo_ids, check_on_exit=False):
            connection = QmpConnection(path)
            for number in range(400):
                try:
                    if not connection.is_connected:
                        connection.connect()
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00001, 0.0008))
                    try:
                        assert connection.execute("echo", {"n": number}, timeout=2) == number
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except Interrupted:
                    interrupted += 1
                except ConnectionLost:
                    connection.close()
                except CommandTimeout:
                    timed_out += 1
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            connection.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert interrupted > 10
    assert timed_out == 0


def test_close_in_signal_handler_ends_the_wait(path: Path, released: threading.Event) -> None:
    with QmpStub(path, [(None, [WaitFor(released), OK])], check_on_exit=False):
        connection = QmpConnection(path)
        connection.connect()
        previous = signal.signal(signal.SIGALRM, lambda *_: connection.close())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(ConnectionLost, match="was closed"):
                connection.execute("slow", timeout=10)
        finally:
            signal.signal(signal.SIGALRM, previous)


def test_execute_with_server_that_does_not_read_times_out_and_keeps_the_stream() -> None:
    """The rest of a message that was sent in part is sent before the next message."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    begin = threading.Event()
    seen: list[bytes] = []

    def peer() -> None:
        theirs.sendall(b'{"QMP": {"version": {}}}\n')
        theirs.recv(4096)
        theirs.sendall(b'{"return": {}, "id": 1}\n')
        begin.wait(10)
        data = b""
        while not data.endswith(b'"id":3}'):
            data += theirs.recv(65536)
        seen.extend(data.split(b"}{"))
        theirs.sendall(b'{"return": "late", "id": 2}\n{"return": "right", "id": 3}\n')

    thread = threading.Thread(target=peer)
    thread.start()
    connection = QmpConnection.from_socket(ours)
    connection.connect()
    with pytest.raises(CommandTimeout):
        connection.execute("big", {"data": "x" * 1_000_000}, timeout=0.2)
    begin.set()
    assert connection.execute("small") == "right"
    thread.join()
    connection.close()
    theirs.close()
    assert len(seen[0]) > 1_000_000
    assert b'"small"' in seen[1]


def test_execute_timeout_before_sending_leaves_nothing_in_flight() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b'{"QMP": {"version": {}}}\n{"return": {}}\n')
    connection = QmpConnection.from_socket(ours)
    connection.connect()
    with pytest.raises(CommandTimeout):
        connection.execute("big", {"data": "x" * 10_000_000}, timeout=0.1)
    with pytest.raises(CommandTimeout):
        connection.execute("never-sent", timeout=0.1)
    theirs.close()
    with pytest.raises(ConnectionLost) as caught:
        connection.execute("x")
    assert "never-sent" not in caught.value.commands
    connection.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_from_server_raise_qmp_error(pieces: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b'{"QMP": {"version": {}}}\n{"return": {}, "id": 1}\n')
    connection = QmpConnection.from_socket(ours)
    connection.connect()
    theirs.sendall(b"".join(pieces))
    theirs.close()
    with pytest.raises(QmpError):
        connection.execute(QueryStatus(), timeout=5)
    connection.close()


def test_unclaimed_events_are_bounded() -> None:
    """200,000 events: `take_events` keeps the newest 1,000, a subscription its `maxsize`."""
    ours, theirs = socket.socketpair()
    theirs.sendall(b'{"QMP": {"version": {}}}\n{"return": {}, "id": 1}\n')
    connection = QmpConnection.from_socket(ours)
    connection.connect()

    def flood(request_id: int) -> None:
        events = b"".join(b'{"event": "N", "data": {"n": %d}}\r\n' % number for number in range(200_000))
        theirs.sendall(events + b'{"return": {}, "id": %d}\n' % request_id)

    with connection.subscribe(StopEvent) as none, connection.subscribe(GenericEvent, maxsize=10) as few:
        flooding = threading.Thread(target=flood, args=(2,))
        flooding.start()
        connection.execute("query-status", timeout=60)
        flooding.join()
        assert few.dropped == 199_990
        assert [few.get(timeout=1).data["n"] for _ in range(10)] == list(range(199_990, 200_000))
        assert (none.dropped, none.is_ready) == (0, False)
    flooding = threading.Thread(target=flood, args=(3,))
    flooding.start()
    connection.execute("query-status", timeout=60)
    flooding.join()
    kept = connection.take_events()
    assert kept[0] == GenericEvent(name="N", data={"n": 199_000})
    assert len(kept) == 1000
    connection.close()
    theirs.close()
