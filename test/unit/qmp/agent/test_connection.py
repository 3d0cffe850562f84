# SPDX-License-Identifier: BSD-2-Clause
"""`AgentConnection`: connecting, executing commands and errors, against a stub."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from scripted_agent import (
    FROZEN,
    OK,
    PING,
    SYNC,
    Scripted,
    agent_stub,
    names_of,
    synced,
)

from hvkit.errors import ProgrammerError
from hvkit.qmp import CommandError, ConnectError, ConnectionLost
from hvkit.qmp.agent import (
    AgentCommandDisabled,
    AgentConnection,
    AgentNotResponding,
)
from hvkit.qmp.schema import GuestGetHostName, GuestPing, GuestShutdown
from hvkit.testing import CLOSE, SILENCE, WaitFor


def test_close_during_connect_ends_the_wait(path: Path) -> None:
    connection = AgentConnection(path)
    with agent_stub(path, [(None, SILENCE)]) as stub, ThreadPoolExecutor(1) as pool:
        connecting = pool.submit(connection.connect, timeout=60)
        stub.wait_for_requests(1)
        with pytest.raises(ProgrammerError, match="connect"):
            connection.connect()
        connection.close()
        with pytest.raises(ConnectError, match="closed"):
            connecting.result(timeout=10)
    assert not connection.is_connected
    with agent_stub(path, [SYNC, (PING, OK)]), connection:
        connection.execute("guest-ping")


def test_execute_during_connect_waits_for_synchronization(path: Path, released: threading.Event) -> None:
    connection = AgentConnection(path)
    script = [(None, lambda request: [WaitFor(released), synced(request)]), (PING, OK)]
    with agent_stub(path, script) as stub, ThreadPoolExecutor(2) as pool:
        connecting = pool.submit(connection.connect, timeout=30)
        stub.wait_for_requests(1)
        pinging = pool.submit(lambda: connection.execute("guest-ping", timeout=30))
        released.set()
        connecting.result(timeout=30)
        assert pinging.result(timeout=30) == {}
        connection.close()


def test_agent_connection_has_no_version_attribute() -> None:
    assert not hasattr(AgentConnection, "version")


def test_execute_accepts_typed_and_untyped_commands(scripted: Scripted) -> None:
    script = [SYNC, (PING, OK), (PING, OK), ({"execute": "guest-get-host-name"}, {"return": {"host-name": "web1"}})]
    agent = scripted(script)
    assert agent.is_connected
    agent.execute(GuestPing())
    assert agent.execute("guest-ping") == {}
    assert agent.execute(GuestGetHostName()).host_name == "web1"
    assert not [request for request in scripted.stub.requests if "id" in request]  # old agents refuse an id
    agent.close()
    assert not agent.is_connected


def test_connect_distinguishes_silent_agent_from_missing_socket(path: Path) -> None:
    with pytest.raises(ConnectError, match="there is no such socket") as missing:
        AgentConnection(path).connect()
    assert not isinstance(missing.value, AgentNotResponding)
    with agent_stub(path, [(None, SILENCE)]):
        started = time.monotonic()
        with pytest.raises(AgentNotResponding, match=r"no answer within 0\.2 s: the guest has not booted"):
            AgentConnection(path).connect(timeout=0.2)
        assert time.monotonic() - started < 2


def test_connect_as_second_client_raises_agent_not_responding(path: Path, scripted: Scripted) -> None:
    scripted([SYNC], check_on_exit=False)
    with pytest.raises(AgentNotResponding, match="another client"):
        AgentConnection(path).connect(timeout=0.2)


def test_connect_to_closing_peer_raises_connect_error(path: Path) -> None:
    with agent_stub(path, [(None, CLOSE)]), pytest.raises(ConnectError, match="closed") as caught:
        AgentConnection(path).connect()
    assert not isinstance(caught.value, AgentNotResponding)


def test_execute_before_connect_raises_programmer_error(path: Path) -> None:
    with pytest.raises(ProgrammerError, match="before connect"):
        AgentConnection(path).execute(GuestPing())


def test_lost_connection_names_the_command_and_can_reconnect(path: Path) -> None:
    with agent_stub(path, [SYNC, (PING, CLOSE), SYNC, (PING, OK)]):
        agent = AgentConnection(path)
        agent.connect()
        with pytest.raises(ConnectionLost, match="unknown whether executed: guest-ping"):
            agent.execute(GuestPing())
        agent.connect()
        agent.execute(GuestPing())
        agent.close()


def test_execute_distinguishes_disabled_from_unknown_command(scripted: Scripted) -> None:
    unknown = {"error": {"class": "CommandNotFound", "desc": "The command guest-x has not been found"}}
    old = {"error": {"class": "GenericError", "desc": "The command guest-exec has been disabled for this instance"}}
    agent = scripted([SYNC, (None, FROZEN), (None, old), (None, unknown)])
    with pytest.raises(AgentCommandDisabled, match="frozen state"):
        agent.execute("guest-exec", {"path": "true"})
    with pytest.raises(AgentCommandDisabled, match="for this instance"):
        agent.execute("guest-exec", {"path": "true"})
    with pytest.raises(CommandError) as caught:
        agent.execute("guest-x")
    assert not isinstance(caught.value, AgentCommandDisabled)


@pytest.mark.parametrize("command", [GuestShutdown(mode="powerdown"), "guest-suspend-ram"])
def test_execute_without_reply_returns_after_sending(scripted: Scripted, command: Any) -> None:
    agent = scripted([SYNC, (None, SILENCE), SYNC, (PING, OK)])
    started = time.monotonic()
    assert agent.execute(command) in (None, {})
    assert time.monotonic() - started < 2
    agent.execute(GuestPing())
    assert names_of(scripted.stub)[2:] == ["sync-delimited", "ping"], (
        "a refusal may still come, and must not sync_reply another"
    )


def test_execute_without_reply_raises_an_early_refusal(scripted: Scripted) -> None:
    refusal = {"error": {"class": "GenericError", "desc": "mode is invalid (valid values are: halt|powerdown|reboot)"}}
    agent = scripted([SYNC, (None, refusal), (PING, OK)])
    with pytest.raises(CommandError, match="mode is invalid"):
        agent.execute(GuestShutdown(mode="nonsense"))
    agent.execute(GuestPing())


def test_execute_without_reply_succeeds_if_the_guest_disconnects(scripted: Scripted) -> None:
    agent = scripted([SYNC, (None, CLOSE)])
    agent.execute(GuestShutdown())
    with pytest.raises(ConnectionLost):
        agent.execute(GuestPing())
    with pytest.raises(ConnectionLost):
        agent.execute(GuestShutdown())


@pytest.mark.parametrize("timeout", ["5", True, float("nan")])
def test_timeout_that_is_not_a_number_raises_programmer_error(scripted: Scripted, timeout: Any) -> None:
    agent = scripted([SYNC, (PING, OK)])
    for call in (
        lambda: agent.execute(GuestPing(), timeout=timeout),
        lambda: agent.run(["true"], timeout=timeout),
        lambda: agent.frozen(limit_s=timeout),
    ):
        with pytest.raises(ProgrammerError, match="timeout must be a number of seconds"):
            call()
    agent.execute(GuestPing())
