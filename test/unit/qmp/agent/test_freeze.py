# SPDX-License-Identifier: BSD-2-Clause
"""Freezing and thawing the guest's filesystems, against a stub."""

from __future__ import annotations

import signal
import socket
import threading
from pathlib import Path
from typing import Any, Final

import pytest
from scripted_agent import (
    FREEZE,
    FROZEN,
    OK,
    PING,
    SYNC,
    THAW,
    Scripted,
    agent_stub,
    names_of,
    synced,
)

from hvkit.errors import HvkitError, ProgrammerError
from hvkit.qmp import CommandError, CommandTimeout, ConnectError
from hvkit.qmp.agent import (
    AgentCommandDisabled,
    AgentConnection,
    AgentFreezeExpired,
    AgentNotResponding,
    Freeze,
)
from hvkit.qmp.agent.freeze import hold_frozen
from hvkit.qmp.schema import GuestPing
from hvkit.testing import CLOSE, SILENCE, QmpStub


def test_frozen_thaws_at_the_end_of_the_block(path: Path) -> None:
    with (
        agent_stub(path, [SYNC, (FREEZE, {"return": 2}), (THAW, {"return": 2})]) as stub,
        AgentConnection(path) as agent,
        agent.frozen(limit_s=60) as freeze,
    ):
        assert freeze.filesystems == 2
        assert 0 < freeze.remaining_s() <= 60
        assert not freeze.has_expired
        assert names_of(stub)[-1] == "fsfreeze-freeze"


def test_frozen_with_mountpoints_freezes_only_these(scripted: Scripted) -> None:
    chosen = {"execute": "guest-fsfreeze-freeze-list", "arguments": {"mountpoints": ["/data"]}}
    agent = scripted([SYNC, (chosen, {"return": 1}), (THAW, {"return": 1})])
    with agent.frozen(mountpoints=["/data"]):
        pass


def test_frozen_thaws_when_the_block_raises(scripted: Scripted) -> None:
    agent = scripted([SYNC, (FREEZE, {"return": 1}), (THAW, {"return": 1})])
    with pytest.raises(ZeroDivisionError), agent.frozen():
        raise ZeroDivisionError


def test_frozen_thaws_at_the_limit(scripted: Scripted, path: Path) -> None:
    thawed = threading.Event()

    def thaw(_: dict[str, Any]) -> dict[str, Any]:
        thawed.set()
        return {"return": 1}

    agent = scripted([SYNC, (FREEZE, {"return": 1}), (THAW, thaw)])
    with (
        pytest.raises(AgentFreezeExpired, match=rf"^{path}: .*limit of 0\.2 s passed") as caught,
        agent.frozen(limit_s=0.2),
    ):
        assert thawed.wait(10)
    assert caught.value.limit_s == 0.2


def wait_for_thaw_and_fail(freeze: Freeze, stub: QmpStub) -> None:
    stub.wait_for_requests(3)
    assert freeze.has_expired
    raise ZeroDivisionError


def test_frozen_past_the_limit_raises_the_error_of_the_block(scripted: Scripted) -> None:
    agent = scripted([SYNC, (FREEZE, {"return": 1}), (THAW, {"return": 1})])
    with pytest.raises(ZeroDivisionError) as caught, agent.frozen(limit_s=0.1) as freeze:
        wait_for_thaw_and_fail(freeze, scripted.stub)
    assert "did not stay frozen" in caught.value.__notes__[0]


def answer_after_the_watchdog(scripted: Scripted, is_back: threading.Event) -> None:
    scripted.stub.wait_for_requests(3)
    for thread in threading.enumerate():
        if thread.name == "hvkit freeze watchdog":
            thread.join(10)
    is_back.set()


def test_frozen_thaws_at_the_end_if_the_watchdog_got_no_answer(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvkit.qmp.agent.freeze._THAW_TIMEOUT_S", 0.5)
    monkeypatch.setattr("hvkit.qmp.agent.freeze._THAW_ATTEMPT_S", 0.1)
    is_back = threading.Event()

    def answers(request: dict[str, Any]) -> Any:
        if not is_back.is_set():
            return SILENCE
        return synced(request) if "sync" in request["execute"] else {"return": 1}

    agent = scripted([SYNC, (FREEZE, {"return": 1}), *[(None, answers)] * 50], check_on_exit=False)
    with pytest.raises(AgentFreezeExpired, match="limit"), agent.frozen(limit_s=0.1):
        answer_after_the_watchdog(scripted, is_back)
    assert names_of(scripted.stub)[-1] == "fsfreeze-thaw"


def test_frozen_interrupted_while_thawing_thaws(path: Path) -> None:
    def interrupts(_: dict[str, Any]) -> dict[str, Any]:
        signal.pthread_kill(main.ident or 0, signal.SIGINT)
        assert has_left.wait(10)
        return {"return": 1}

    main, has_left = threading.current_thread(), threading.Event()
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with agent_stub(path, [SYNC, (FREEZE, {"return": 1}), (THAW, interrupts), (PING, OK)]):
            agent = AgentConnection(path)
            agent.connect()
            with pytest.raises(KeyboardInterrupt), agent.frozen(limit_s=600):
                pass
            has_left.set()
            agent.execute(GuestPing())
            agent.close()
    finally:
        signal.signal(signal.SIGINT, previous)
        has_left.set()


def test_frozen_interrupted_while_freezing_thaws(path: Path) -> None:
    def interrupts(_: dict[str, Any]) -> Any:
        signal.pthread_kill(main.ident or 0, signal.SIGINT)
        return SILENCE

    main = threading.current_thread()
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with (
            agent_stub(path, [SYNC, (FREEZE, interrupts), SYNC, (THAW, {"return": 1})]),
            AgentConnection(path) as agent,
            pytest.raises(KeyboardInterrupt),
            agent.frozen(limit_s=60),
        ):
            pytest.fail("the block must not be entered")
    finally:
        signal.signal(signal.SIGINT, previous)


REFUSED: Final = CommandError("guest-fsfreeze-thaw", "GenericError", "not today")


class FailingFirstThaw:
    """An agent whose first thaw fails."""

    address = "agent"

    def __init__(self, problem: HvkitError) -> None:
        self.problem = problem
        self.thaws = 0
        self.has_tried = threading.Event()

    def reconnect(self, *, timeout: float) -> None:
        """Do nothing: the connection is never lost."""

    def execute(self, command: Any, /, *, timeout: float | None = None) -> Any:
        if command.wire_name == "guest-fsfreeze-freeze":
            return 1
        self.thaws += 1
        if self.thaws == 1:
            self.has_tried.set()
            raise self.problem
        return 1


def test_hold_frozen_retries_while_another_thread_connects() -> None:
    agent = FailingFirstThaw(ProgrammerError("execute() before connect()"))
    with hold_frozen(agent, 60) as freeze:
        pass
    assert (agent.thaws, freeze.has_expired) == (2, False)


def test_hold_frozen_thaws_at_the_end_if_the_watchdog_failed() -> None:
    agent = FailingFirstThaw(REFUSED)
    with pytest.raises(AgentFreezeExpired, match="limit"), hold_frozen(agent, 0.05):
        assert agent.has_tried.wait(10)
    assert agent.thaws == 2


def test_hold_frozen_raises_the_error_of_a_failed_thaw() -> None:
    with pytest.raises(CommandError, match="not today"), hold_frozen(FailingFirstThaw(REFUSED), 60):
        pass


def test_frozen_without_a_watchdog_thread_thaws(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    agent = scripted([SYNC, (FREEZE, {"return": 1}), (THAW, {"return": 1})])
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more)
        with pytest.raises(RuntimeError, match="new thread"), agent.frozen():
            pytest.fail("the block must not be entered")


def test_frozen_with_silent_agent_raises_the_failed_thaw(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvkit.qmp.agent.freeze._THAW_TIMEOUT_S", 0.5)
    agent = scripted([SYNC, (FREEZE, {"return": 1}), *[(None, SILENCE)] * 50], check_on_exit=False)
    with pytest.raises((CommandTimeout, AgentNotResponding)), agent.frozen():
        pass


def test_frozen_thawed_by_another_client_raises_freeze_expired(scripted: Scripted) -> None:
    agent = scripted([SYNC, (FREEZE, {"return": 1}), (THAW, {"return": 0})])
    with pytest.raises(AgentFreezeExpired, match="another client"), agent.frozen():
        pass


def test_frozen_after_a_freeze_timeout_thaws(scripted: Scripted) -> None:
    script = [SYNC, (FREEZE, SILENCE), SYNC, (THAW, {"return": 1})]
    agent = scripted(script)
    with pytest.raises(CommandTimeout) as caught, agent.frozen(limit_s=0.2):
        pytest.fail("the block must not be entered")
    assert caught.value.command == "guest-fsfreeze-freeze"


def test_frozen_does_not_thaw_filesystems_frozen_by_another_client(scripted: Scripted) -> None:
    text = "Command guest-fsfreeze-freeze has been disabled: the agent is in frozen state"
    refusal = {"error": {"class": "CommandNotFound", "desc": text}}
    agent = scripted([SYNC, (FREEZE, refusal)])
    with pytest.raises(AgentCommandDisabled), agent.frozen():
        pytest.fail("the block must not be entered")


def test_frozen_thaws_after_a_disabled_command_in_the_block(scripted: Scripted) -> None:
    script = [SYNC, (FREEZE, {"return": 1}), (None, FROZEN), (THAW, {"return": 1})]
    agent = scripted(script)
    with pytest.raises(AgentCommandDisabled), agent.frozen():
        agent.run(["true"])


def test_frozen_reconnects_to_thaw_after_a_lost_connection(scripted: Scripted) -> None:
    script = [SYNC, (FREEZE, {"return": 1}), (THAW, CLOSE), SYNC, (THAW, {"return": 0})]
    agent = scripted(script)
    with agent.frozen():
        pass


def test_frozen_reconnects_to_thaw_after_close(scripted: Scripted) -> None:
    agent = scripted([SYNC, (FREEZE, {"return": 1}), SYNC, (THAW, {"return": 1})])
    with agent.frozen():
        agent.close()


def test_frozen_with_removed_socket_raises_connect_error(path: Path) -> None:
    stub = agent_stub(path, [SYNC, (FREEZE, {"return": 1})])
    stub.start()
    with AgentConnection(path) as agent, pytest.raises(ConnectError, match="no such socket"), agent.frozen():
        stub.stop()


def test_frozen_over_a_lost_given_socket_raises_connect_error() -> None:
    ours, theirs = socket.socketpair()
    script = [SYNC, (FREEZE, {"return": 1}), (THAW, CLOSE)]
    with QmpStub(theirs, script, greeting=None), AgentConnection.from_socket(ours) as agent:  # noqa: SIM117
        with pytest.raises(ConnectError, match="cannot be connected again"), agent.frozen():
            pass
