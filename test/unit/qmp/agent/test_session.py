# SPDX-License-Identifier: BSD-2-Clause
"""`AgentSession`: synchronization and the order of replies, against a stub."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from scripted_agent import (
    OK,
    PING,
    SYNC,
    Scripted,
    agent_stub,
    names_of,
    sync_reply,
    synced_after,
)

from hvkit.qmp import CommandTimeout, DataError, ProtocolError
from hvkit.qmp.agent import (
    AgentConnection,
    AgentNotResponding,
)
from hvkit.qmp.schema import GuestGetHostName, GuestPing
from hvkit.testing import SILENCE, WaitFor


def test_connect_sends_the_reset_byte_before_the_sync_command() -> None:
    ours, theirs = socket.socketpair()
    agent = AgentConnection.from_socket(ours, timeout=0.1)
    with theirs:
        with pytest.raises(AgentNotResponding):
            agent.connect()
        said = theirs.recv(4096)
    assert said.startswith(b'\xff{"execute":"guest-sync-delimited"')
    assert said.endswith(b"}\n")


@pytest.mark.parametrize(
    "noise",
    [
        b'{"return": {}}\n',
        b'{"return": {"host-name": "stale"}}\r\n{"error": {"class": "GenericError", "desc": "JSON parse error"}}\n',
        b"\xff",
        b'{"return": {"hos',
        b"\x00\x01 no JSON at all\n[1, 2]\n",
        sync_reply(4711),
        b'\xff{"return": true}\n\xff{"return": "x"}\n\xff[]\n\xff\n',
        b'{"QMP": {}}\n{"event": "X"}\n',
    ],
    ids=["reply", "errors", "byte", "half", "garbage", "earlier", "wrong", "monitor"],
)
def test_connect_drops_everything_before_the_sync_reply(scripted: Scripted, noise: bytes) -> None:
    agent = scripted([(None, synced_after(noise)), (PING, OK)])
    assert agent.execute("guest-ping") == {}


def test_synchronization_uses_a_new_number_each_time(path: Path) -> None:
    with agent_stub(path, [SYNC, SYNC]) as stub:
        for _ in range(2):
            with AgentConnection(path):
                pass
    first, second = (request["arguments"]["id"] for request in stub.requests)
    assert first != second


def test_connect_retries_synchronization_until_the_agent_runs(path: Path) -> None:
    # The first sync command is lost in a reset of the guest.
    with agent_stub(path, [(None, SILENCE), SYNC, (PING, OK)]):
        agent = AgentConnection(path)
        agent.connect(timeout=20)
        agent.execute(GuestPing())
        agent.close()


def test_connect_to_flooding_guest_times_out() -> None:
    ours, theirs = socket.socketpair()
    is_over = threading.Event()

    def talk() -> None:
        theirs.settimeout(0.1)
        while not is_over.is_set():
            try:
                theirs.send(b'{"return": {}}\n' * 1000)
            except OSError:
                continue

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        agent = AgentConnection.from_socket(ours)
        started = time.monotonic()
        with pytest.raises(AgentNotResponding):
            agent.connect(timeout=0.2)
        assert time.monotonic() - started < 10
    finally:
        is_over.set()
        talker.join()
        theirs.close()


def test_execute_drops_the_late_reply_of_an_earlier_command(scripted: Scripted, released: threading.Event) -> None:
    late = {"return": {"host-name": "late"}}
    script = [
        SYNC,
        ({"execute": "guest-get-host-name"}, [WaitFor(released), late]),
        SYNC,
        ({"execute": "guest-get-host-name"}, {"return": {"host-name": "right"}}),
    ]
    agent = scripted(script)
    with pytest.raises(CommandTimeout) as caught:
        agent.execute(GuestGetHostName(), timeout=0.1)
    assert (caught.value.command, caught.value.replies_owed) == ("guest-get-host-name", 0)
    released.set()
    assert agent.execute(GuestGetHostName()).host_name == "right"
    assert names_of(scripted.stub) == ["sync-delimited", "get-host-name", "sync-delimited", "get-host-name"]


def test_execute_after_timeout_synchronizes_with_a_restarted_agent(scripted: Scripted) -> None:
    script = [SYNC, (PING, SILENCE), SYNC, (PING, OK)]
    agent = scripted(script)
    with pytest.raises(CommandTimeout):
        agent.execute(GuestPing(), timeout=0.1)
    agent.execute(GuestPing())


def test_execute_counts_synchronization_in_its_timeout(scripted: Scripted) -> None:
    script = [SYNC, (PING, SILENCE), (None, SILENCE), SYNC, (PING, OK)]
    agent = scripted(script)
    with pytest.raises(CommandTimeout):
        agent.execute(GuestPing(), timeout=0.1)
    started = time.monotonic()
    with pytest.raises(AgentNotResponding, match=r"within 0\.3 s"):
        agent.execute(GuestPing(), timeout=0.3)
    assert time.monotonic() - started < 2
    assert names_of(scripted.stub).count("ping") == 1, "the command must not be sent before the synchronization"
    agent.execute(GuestPing())


@pytest.mark.parametrize("is_at_once", [True, False])
def test_execute_drops_a_surplus_reply(scripted: Scripted, is_at_once: bool) -> None:
    too_many = b'{"return": {"host-name": "wrong"}}\n'
    agent = scripted(
        [
            SYNC,
            (PING, b'{"return": {}}\n' + (too_many if is_at_once else b"")),
            SYNC,
            ({"execute": "guest-get-host-name"}, {"return": {"host-name": "right"}}),
        ]
    )
    agent.execute(GuestPing())
    if not is_at_once:
        scripted.stub.send(too_many)
    assert agent.execute(GuestGetHostName()).host_name == "right"


def test_execute_after_mistyped_reply_synchronizes_first(scripted: Scripted) -> None:
    agent = scripted([SYNC, (None, OK), SYNC, (PING, OK)])
    with pytest.raises(DataError, match="host-name"):
        agent.execute(GuestGetHostName())
    agent.execute(GuestPing())


@pytest.mark.parametrize(
    ("reply", "error"),
    [(b"{nonsense\n", DataError), (b'{"event": 1}\n', DataError), (b'{"hello": 1}\n', ProtocolError)],
)
def test_execute_after_malformed_reply_succeeds(scripted: Scripted, reply: bytes, error: type[Exception]) -> None:
    agent = scripted([SYNC, (PING, reply), SYNC, (PING, OK)])
    with pytest.raises(error):
        agent.execute(GuestPing())
    agent.execute(GuestPing())


def test_execute_from_many_threads_matches_replies(scripted: Scripted) -> None:
    count = 40

    def echo(request: dict[str, Any]) -> dict[str, Any]:
        return {"return": request["arguments"]["n"]}

    wrong: list[Any] = []

    def work(agent: AgentConnection, base: int) -> None:
        for number in range(base, base + count):
            got = agent.execute("guest-echo", {"n": number})
            if got != number:
                wrong.append((number, got))

    agent = scripted([SYNC, *[(None, echo)] * (4 * count)])
    threads = [threading.Thread(target=work, args=(agent, 1000 * each)) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_execute_on_busy_agent_raises_agent_not_responding(scripted: Scripted, released: threading.Event) -> None:
    script = [SYNC, (PING, [WaitFor(released), OK])]
    agent = scripted(script)
    first = threading.Thread(target=agent.execute, args=(GuestPing(),))
    first.start()
    scripted.stub.wait_for_requests(2)
    with pytest.raises(AgentNotResponding, match="busy with another command"):
        agent.execute(GuestPing(), timeout=0.1)
    released.set()
    first.join()
