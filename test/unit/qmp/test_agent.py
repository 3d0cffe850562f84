# SPDX-License-Identifier: BSD-2-Clause
"""The guest agent's connection against a stub: the odd cases, which a real agent does not show on demand."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvkit.errors import HvkitError, ProgrammerError
from hvkit.qmp import CommandError, CommandTimeout, ConnectError, ConnectionLost, DataError, ProtocolError, QmpError
from hvkit.qmp.agent import (
    AgentCommandDisabled,
    AgentConnection,
    AgentFreezeExpired,
    AgentNotResponding,
    AgentProgramTimeout,
    Freeze,
    ProgramResult,
)
from hvkit.qmp.agent.freeze import hold_frozen
from hvkit.qmp.agent.protocol import AgentProtocol
from hvkit.qmp.schema import GuestGetHostName, GuestPing, GuestSetUserPassword, GuestShutdown
from hvkit.testing import CLOSE, SILENCE, QmpStub, WaitFor

OK: Final[dict[str, Any]] = {"return": {}}
PING: Final = {"execute": "guest-ping"}
FREEZE: Final = {"execute": "guest-fsfreeze-freeze"}
THAW: Final = {"execute": "guest-fsfreeze-thaw"}
FROZEN: Final = {
    "error": {
        "class": "CommandNotFound",
        "desc": "Command guest-exec has been disabled: the agent is in frozen state",
    }
}


def answer(number: int) -> bytes:
    """What an agent says when it is synchronized."""
    return b'\xff{"return": %d}\n' % number


def synced(request: dict[str, Any]) -> bytes:
    return answer(request["arguments"]["id"])


#: The entry of a script for a client that synchronizes.
SYNC: Final[Any] = (None, synced)


def synced_after(*noise: Any) -> Callable[[dict[str, Any]], list[Any]]:
    return lambda request: [*noise, synced(request)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """An event for a script to wait for; set at the end, so that a failing test does not hold the stub."""
    event = threading.Event()
    yield event
    event.set()


def agent_stub(path: Path, script: list[Any], **options: Any) -> QmpStub:
    return QmpStub(path, script, greeting=None, **options)


class Scripted:
    """Connects to stubs of agents; at the end of the test they check that their scripts were played."""

    def __init__(self, path: Path, stack: contextlib.ExitStack) -> None:
        self._path = path
        self._stack = stack
        self.stub = QmpStub(path, greeting=None)

    def __call__(self, script: list[Any], *, check_on_exit: bool = True, **options: Any) -> AgentConnection:
        self.stub = self._stack.enter_context(agent_stub(self._path, script, check_on_exit=check_on_exit))
        return self._stack.enter_context(AgentConnection(self._path, **options))


@pytest.fixture
def scripted(path: Path) -> Iterator[Scripted]:
    with contextlib.ExitStack() as stack:
        yield Scripted(path, stack)


def names_of(stub: QmpStub) -> list[str]:
    return [request["execute"].removeprefix("guest-") for request in stub.requests]


# ---- connecting


def test_closing_ends_a_connect_that_waits_for_a_guest_to_boot(path: Path) -> None:
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


def test_who_comes_while_it_connects_waits_for_his_turn(path: Path, released: threading.Event) -> None:
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


def test_there_is_no_version_for_an_agent_does_not_greet() -> None:
    assert not hasattr(AgentConnection, "version")


def test_typed_and_untyped_commands(scripted: Scripted) -> None:
    script = [SYNC, (PING, OK), (PING, OK), ({"execute": "guest-get-host-name"}, {"return": {"host-name": "web1"}})]
    agent = scripted(script)
    assert agent.is_connected
    agent.execute(GuestPing())
    assert agent.execute("guest-ping") == {}
    assert agent.execute(GuestGetHostName()).host_name == "web1"
    assert not [request for request in scripted.stub.requests if "id" in request]  # old agents refuse them
    agent.close()
    assert not agent.is_connected


def test_the_byte_that_starts_a_parser_over_comes_first() -> None:
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
        answer(4711),
        b'\xff{"return": true}\n\xff{"return": "x"}\n\xff[]\n\xff\n',
        b'{"QMP": {}}\n{"event": "X"}\n',
    ],
    ids=["reply", "errors", "byte", "half", "garbage", "earlier", "wrong", "monitor"],
)
def test_what_an_agent_still_had_to_say_is_dropped(scripted: Scripted, noise: bytes) -> None:
    agent = scripted([(None, synced_after(noise)), (PING, OK)])
    assert agent.execute("guest-ping") == {}


def test_every_synchronization_has_a_number_of_its_own(path: Path) -> None:
    with agent_stub(path, [SYNC, SYNC]) as stub:
        for _ in range(2):
            with AgentConnection(path):
                pass
    first, second = (request["arguments"]["id"] for request in stub.requests)
    assert first != second


def test_a_silent_agent_is_told_from_a_missing_socket(path: Path) -> None:
    with pytest.raises(ConnectError, match="there is no such socket") as missing:
        AgentConnection(path).connect()
    assert not isinstance(missing.value, AgentNotResponding)
    with agent_stub(path, [(None, SILENCE)]):
        started = time.monotonic()
        with pytest.raises(AgentNotResponding, match=r"no answer within 0\.2 s: the guest has not booted"):
            AgentConnection(path).connect(timeout=0.2)
        assert time.monotonic() - started < 2


def test_a_second_client_gets_no_answer(path: Path, scripted: Scripted) -> None:
    scripted([SYNC], check_on_exit=False)
    with pytest.raises(AgentNotResponding, match="another client"):
        AgentConnection(path).connect(timeout=0.2)


def test_a_socket_that_is_closed_is_no_silence(path: Path) -> None:
    with agent_stub(path, [(None, CLOSE)]), pytest.raises(ConnectError, match="closed") as caught:
        AgentConnection(path).connect()
    assert not isinstance(caught.value, AgentNotResponding)


def test_an_agent_that_comes_up_late_is_waited_for(path: Path) -> None:
    # The first question is lost with the guest that was reset.
    with agent_stub(path, [(None, SILENCE), SYNC, (PING, OK)]):
        agent = AgentConnection(path)
        agent.connect(timeout=20)
        agent.execute(GuestPing())
        agent.close()


def test_a_guest_that_never_stops_talking_keeps_nobody() -> None:
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


def test_commands_need_a_connection(path: Path) -> None:
    with pytest.raises(ProgrammerError, match="before connect"):
        AgentConnection(path).execute(GuestPing())


# ---- never a wrong answer


def test_a_late_reply_is_not_the_next_ones(scripted: Scripted, released: threading.Event) -> None:
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


def test_an_agent_started_anew_owes_nothing(scripted: Scripted) -> None:
    script = [SYNC, (PING, SILENCE), SYNC, (PING, OK)]
    agent = scripted(script)
    with pytest.raises(CommandTimeout):
        agent.execute(GuestPing(), timeout=0.1)
    agent.execute(GuestPing())


def test_synchronizing_is_part_of_a_commands_deadline(scripted: Scripted) -> None:
    script = [SYNC, (PING, SILENCE), (None, SILENCE), SYNC, (PING, OK)]
    agent = scripted(script)
    with pytest.raises(CommandTimeout):
        agent.execute(GuestPing(), timeout=0.1)
    started = time.monotonic()
    with pytest.raises(AgentNotResponding, match=r"within 0\.3 s"):
        agent.execute(GuestPing(), timeout=0.3)
    assert time.monotonic() - started < 2
    assert names_of(scripted.stub).count("ping") == 1, "what cannot be answered is not sent"
    agent.execute(GuestPing())


@pytest.mark.parametrize("is_at_once", [True, False])
def test_a_reply_too_many_is_not_the_next_ones(scripted: Scripted, is_at_once: bool) -> None:
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


def test_a_reply_of_another_type_was_perhaps_to_another_command(scripted: Scripted) -> None:
    agent = scripted([SYNC, (None, OK), SYNC, (PING, OK)])
    with pytest.raises(DataError, match="host-name"):
        agent.execute(GuestGetHostName())
    agent.execute(GuestPing())


@pytest.mark.parametrize(
    ("reply", "error"),
    [(b"{nonsense\n", DataError), (b'{"event": 1}\n', DataError), (b'{"hello": 1}\n', ProtocolError)],
)
def test_nonsense_in_place_of_a_reply_costs_that_command_only(
    scripted: Scripted, reply: bytes, error: type[Exception]
) -> None:
    agent = scripted([SYNC, (PING, reply), SYNC, (PING, OK)])
    with pytest.raises(error):
        agent.execute(GuestPing())
    agent.execute(GuestPing())


def test_a_lost_connection_names_the_command_and_can_be_made_again(path: Path) -> None:
    with agent_stub(path, [SYNC, (PING, CLOSE), SYNC, (PING, OK)]):
        agent = AgentConnection(path)
        agent.connect()
        with pytest.raises(ConnectionLost, match="fate unknown: guest-ping"):
            agent.execute(GuestPing())
        agent.connect()
        agent.execute(GuestPing())
        agent.close()


def test_threads_take_turns(scripted: Scripted) -> None:
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


def test_a_turn_that_does_not_come_is_a_command_that_was_not_sent(
    scripted: Scripted, released: threading.Event
) -> None:
    script = [SYNC, (PING, [WaitFor(released), OK])]
    agent = scripted(script)
    first = threading.Thread(target=agent.execute, args=(GuestPing(),))
    first.start()
    scripted.stub.wait_for_requests(2)
    with pytest.raises(AgentNotResponding, match="busy with another command"):
        agent.execute(GuestPing(), timeout=0.1)
    released.set()
    first.join()


@given(
    noise=st.lists(st.binary(max_size=40) | st.just(b'{"return": {}}\n') | st.just(b"\xff"), max_size=8),
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=20),
)
def test_whatever_comes_before_the_answer_is_dropped(noise: list[bytes], sizes: list[int]) -> None:
    protocol = AgentProtocol()
    exchange, said = protocol.open_sync(4711)
    assert said[:1] == b"\xff"
    stream = b"".join(noise) + answer(4711)
    position = 0
    for number in range(len(stream)):
        size = sizes[number % len(sizes)]
        protocol.receive_data(stream[position : position + size])
        position += size
    assert exchange.is_ready
    assert exchange.result() == 4711
    assert protocol.is_synchronized
    ping, _ = protocol.open_exchange("guest-ping")
    protocol.receive_data(b'{"return": {}}\n')
    assert ping.result() == {}


@given(st.lists(st.sampled_from(["answer", "give up", "late", "nonsense", "old sync"]), max_size=30))
def test_an_answer_is_the_commands_own_or_none(steps: list[str]) -> None:
    """The agent answers what it was asked, in order, sometimes after we stopped to listen."""
    protocol = AgentProtocol()
    owed: list[bytes] = []
    number = 0
    for step in steps:
        if not protocol.is_synchronized:
            number += 1
            sync, _ = protocol.open_sync(number)
            owed.append(answer(number))
            protocol.receive_data(b"".join(owed))
            owed.clear()
            assert sync.result() == number
        number += 1
        exchange, _ = protocol.open_exchange("guest-echo", {"n": number})
        owed.append(b'{"return": %d}\n' % number)
        if step == "nonsense":
            protocol.receive_data(b"{]\n")
        elif step == "old sync":
            protocol.receive_data(answer(number + 1000))
        if step in ("give up", "late"):
            protocol.abandon(exchange)
        if step != "give up":
            protocol.receive_data(b"".join(owed))
            owed.clear()
        if exchange.reply is not None:
            assert exchange.result() == number
        assert exchange.is_ready is (step not in ("give up", "late"))


SCRAPS: Final = st.sampled_from(
    [
        b'{"return": ',
        b'{"error": ',
        b'{"event": "X"',
        b'"id": 1',
        b"{}",
        b"[]",
        b"1",
        b", ",
        b"}",
        b"\n",
        b"\xff",
        b"[" * 2000,
    ]
)


@given(st.lists(st.binary(max_size=9) | SCRAPS, max_size=20), st.booleans())
def test_whatever_a_guest_says_is_a_reply_or_an_error(said: list[bytes], is_synchronized: bool) -> None:
    seen: list[Any] = []
    protocol = AgentProtocol(trace=lambda direction, message: seen.append(message))
    exchange, _ = protocol.open_sync(1)
    if is_synchronized:
        protocol.receive_data(answer(1))
        exchange, _ = protocol.open_exchange("guest-exec", {"path": "x", "env": ["a=b"]})
    for data in said:
        protocol.receive_data(data)
    protocol.receive_eof(ConnectionLost("agent", "the peer closed the connection"))
    with contextlib.suppress(QmpError):
        exchange.result()


# ---- errors


def test_a_disabled_command_is_told_from_an_unknown_one(scripted: Scripted) -> None:
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


# ---- commands without reply


@pytest.mark.parametrize("command", [GuestShutdown(mode="powerdown"), "guest-suspend-ram"])
def test_a_command_without_reply_returns_when_it_is_sent(scripted: Scripted, command: Any) -> None:
    agent = scripted([SYNC, (None, SILENCE), SYNC, (PING, OK)])
    started = time.monotonic()
    assert agent.execute(command) in (None, {})
    assert time.monotonic() - started < 2
    agent.execute(GuestPing())
    assert names_of(scripted.stub)[2:] == ["sync-delimited", "ping"], (
        "a refusal may still come, and must not answer another"
    )


def test_a_command_without_reply_may_be_refused(scripted: Scripted) -> None:
    refusal = {"error": {"class": "GenericError", "desc": "mode is invalid (valid values are: halt|powerdown|reboot)"}}
    agent = scripted([SYNC, (None, refusal), (PING, OK)])
    with pytest.raises(CommandError, match="mode is invalid"):
        agent.execute(GuestShutdown(mode="nonsense"))
    agent.execute(GuestPing())


def test_a_guest_that_is_gone_at_once_obeyed(scripted: Scripted) -> None:
    agent = scripted([SYNC, (None, CLOSE)])
    agent.execute(GuestShutdown())
    with pytest.raises(ConnectionLost):
        agent.execute(GuestPing())
    with pytest.raises(ConnectionLost):
        agent.execute(GuestShutdown())


# ---- programs


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_program_is_waited_for(scripted: Scripted) -> None:
    exec_ = {
        "execute": "guest-exec",
        "arguments": {
            "path": "sort",
            "arg": ["-r"],
            "env": ["LANG=C"],
            "input-data": b64(b"a\nb\n"),
            "capture-output": True,
        },
    }
    status = {"execute": "guest-exec-status", "arguments": {"pid": 42}}
    ended = {"exited": True, "exitcode": 3, "out-data": b64(b"b\na\n"), "err-data": b64(b"\x00"), "out-truncated": True}
    running = {"return": {"exited": False}}
    script = [SYNC, (exec_, {"return": {"pid": 42}}), (status, running), (status, running), (status, {"return": ended})]
    agent = scripted(script)
    result = agent.run(["sort", "-r"], input=b"a\nb\n", env={"LANG": "C"})
    assert result == ProgramResult(exit_code=3, signal=None, stdout=b"b\na\n", stderr=b"\x00", is_truncated=True)


@pytest.mark.parametrize("reply", [{"return": {"exited": False}}, SILENCE])
def test_a_program_that_does_not_end_is_named(scripted: Scripted, reply: Any) -> None:
    script = [SYNC, (None, {"return": {"pid": 42}}), *[(None, reply)] * 100]
    agent = scripted(script, check_on_exit=False)
    with pytest.raises(AgentProgramTimeout, match="process 42 of the guest did not end") as caught:
        agent.run(["sleep", "1000"], timeout=0.3)
    assert (caught.value.pid, caught.value.timeout_s) == (42, 0.3)


def test_what_is_no_base64_is_the_guests_fault(scripted: Scripted) -> None:
    script = [SYNC, (None, {"return": {"pid": 1}}), (None, {"return": {"exited": True, "out-data": "!"}})]
    agent = scripted(script)
    with pytest.raises(DataError, match="out-data"):
        agent.run(["true"])


def test_a_program_is_given_as_a_list(path: Path) -> None:
    agent = AgentConnection(path)
    with pytest.raises(ProgrammerError, match="list"):
        agent.run("ls -l")
    with pytest.raises(ProgrammerError, match="list"):
        agent.run([])


# ---- files

OPEN: Final = {"execute": "guest-file-open", "arguments": {"path": "/f", "mode": "r"}}
CLOSE_FILE: Final = {"execute": "guest-file-close", "arguments": {"handle": 7}}


def piece(data: bytes, *, eof: bool = False) -> tuple[None, dict[str, Any]]:
    return None, {"return": {"count": len(data), "buf-b64": b64(data), "eof": eof}}


def test_a_file_is_read_piece_by_piece(scripted: Scripted) -> None:
    script = [SYNC, (OPEN, {"return": 7}), piece(b"ab"), piece(b"c", eof=True), (CLOSE_FILE, OK)]
    agent = scripted(script)
    assert list(agent.read_file("/f", chunk_bytes=2)) == [b"ab", b"c"]


def test_a_file_is_closed_when_reading_ends_early(path: Path) -> None:
    with (
        agent_stub(path, [SYNC, (OPEN, {"return": 7}), piece(b"ab"), (CLOSE_FILE, OK)]),
        AgentConnection(path) as agent,
    ):
        for data in agent.read_file("/f"):
            assert data == b"ab"
            break


def test_a_file_is_closed_when_reading_fails(scripted: Scripted) -> None:
    failure = {"error": {"class": "GenericError", "desc": "failed to read file"}}
    script = [SYNC, (OPEN, {"return": 7}), (None, failure), (CLOSE_FILE, OK)]
    agent = scripted(script)
    with pytest.raises(CommandError, match="failed to read"):
        list(agent.read_file("/f"))


def test_a_file_is_closed_after_a_timeout(scripted: Scripted) -> None:
    script = [SYNC, (OPEN, {"return": 7}), (None, SILENCE), SYNC, (CLOSE_FILE, OK)]
    agent = scripted(script, deadlines={"guest-file-read": 0.1})
    with pytest.raises(CommandTimeout):
        list(agent.read_file("/f"))


def test_a_file_without_end_and_without_content_is_given_up(scripted: Scripted) -> None:
    script = [SYNC, (OPEN, {"return": 7}), piece(b""), (CLOSE_FILE, OK)]
    agent = scripted(script)
    with pytest.raises(ProtocolError, match="read nothing"):
        list(agent.read_file("/f"))


def test_writing_goes_on_where_the_agent_stopped(scripted: Scripted) -> None:
    def write(data: bytes) -> dict[str, Any]:
        return {"execute": "guest-file-write", "arguments": {"handle": 7, "buf-b64": b64(data)}}

    script = [
        SYNC,
        ({"execute": "guest-file-open", "arguments": {"path": "/f", "mode": "a"}}, {"return": 7}),
        (write(b"abc"), {"return": {"count": 1, "eof": False}}),
        (write(b"bc"), {"return": {"count": 2, "eof": False}}),
        (write(b"d"), {"return": {"count": 1, "eof": False}}),
        (CLOSE_FILE, OK),
    ]
    agent = scripted(script)
    assert agent.write_file("/f", iter([b"abc", b"", b"d"]), append=True) == 4


@pytest.mark.parametrize("count", [0, 4, -1])
def test_a_wrong_count_of_written_bytes_is_noticed(scripted: Scripted, count: int) -> None:
    reply = {"return": {"count": count, "eof": False}}
    script = [SYNC, (None, {"return": 7}), (None, reply), (CLOSE_FILE, OK)]
    agent = scripted(script)
    with pytest.raises(ProtocolError, match="wrote"):
        agent.write_file("/f", b"abc")


def test_a_file_that_cannot_be_closed_was_not_written(scripted: Scripted) -> None:
    full = {"error": {"class": "GenericError", "desc": "failed to close handle: No space left on device"}}
    script = [SYNC, (None, {"return": 7}), (None, {"return": {"count": 3, "eof": False}}), (CLOSE_FILE, full)]
    agent = scripted(script)
    with pytest.raises(CommandError, match="No space"):
        agent.write_file("/f", b"abc")


# ---- frozen filesystems


def test_filesystems_are_thawed_at_the_end(path: Path) -> None:
    with (
        agent_stub(path, [SYNC, (FREEZE, {"return": 2}), (THAW, {"return": 2})]) as stub,
        AgentConnection(path) as agent,
        agent.frozen(limit_s=60) as freeze,
    ):
        assert freeze.filesystems == 2
        assert 0 < freeze.remaining_s() <= 60
        assert not freeze.has_expired
        assert names_of(stub)[-1] == "fsfreeze-freeze"


def test_some_filesystems_can_be_chosen(scripted: Scripted) -> None:
    chosen = {"execute": "guest-fsfreeze-freeze-list", "arguments": {"mountpoints": ["/data"]}}
    agent = scripted([SYNC, (chosen, {"return": 1}), (THAW, {"return": 1})])
    with agent.frozen(mountpoints=["/data"]):
        pass


def test_filesystems_are_thawed_when_the_block_fails(scripted: Scripted) -> None:
    agent = scripted([SYNC, (FREEZE, {"return": 1}), (THAW, {"return": 1})])
    with pytest.raises(ZeroDivisionError), agent.frozen():
        raise ZeroDivisionError


def test_filesystems_are_thawed_at_the_limit(scripted: Scripted) -> None:
    thawed = threading.Event()

    def thaw(_: dict[str, Any]) -> dict[str, Any]:
        thawed.set()
        return {"return": 1}

    agent = scripted([SYNC, (FREEZE, {"return": 1}), (THAW, thaw)])
    with pytest.raises(AgentFreezeExpired, match=r"limit of 0\.2 s passed") as caught, agent.frozen(limit_s=0.2):
        assert thawed.wait(10)
    assert caught.value.limit_s == 0.2


def outlive(freeze: Freeze, stub: QmpStub) -> None:
    stub.wait_for_requests(3)
    assert freeze.has_expired
    raise ZeroDivisionError


def test_the_error_of_a_block_that_outlived_its_limit_counts(scripted: Scripted) -> None:
    agent = scripted([SYNC, (FREEZE, {"return": 1}), (THAW, {"return": 1})])
    with pytest.raises(ZeroDivisionError) as caught, agent.frozen(limit_s=0.1) as freeze:
        outlive(freeze, scripted.stub)
    assert "did not stay frozen" in caught.value.__notes__[0]


def come_back_after_the_watchdog(scripted: Scripted, is_back: threading.Event) -> None:
    scripted.stub.wait_for_requests(3)
    for thread in threading.enumerate():
        if thread.name == "hvkit freeze watchdog":
            thread.join(10)
    is_back.set()


def test_a_watchdog_that_found_nobody_does_not_make_the_end_give_up(
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
        come_back_after_the_watchdog(scripted, is_back)
    assert names_of(scripted.stub)[-1] == "fsfreeze-thaw"


def test_an_interrupt_while_thawing_leaves_nothing_frozen(path: Path) -> None:
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


def test_an_interrupt_while_freezing_leaves_nothing_frozen(path: Path) -> None:
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


class Unready:
    """Freezes, and the first time does not thaw."""

    def __init__(self, problem: HvkitError) -> None:
        self.problem = problem
        self.thaws = 0
        self.has_tried = threading.Event()

    def execute(self, command: Any, /, *, timeout: float | None = None) -> Any:
        if command.wire_name == "guest-fsfreeze-freeze":
            return 1
        self.thaws += 1
        if self.thaws == 1:
            self.has_tried.set()
            raise self.problem
        return 1


def test_thawing_outlasts_another_thread_that_connects_or_closes_meanwhile() -> None:
    agent = Unready(ProgrammerError("execute() before connect()"))
    with hold_frozen(agent, lambda _: None, 60, None) as freeze:
        pass
    assert (agent.thaws, freeze.has_expired) == (2, False)


def test_whatever_keeps_the_watchdog_from_thawing_does_not_keep_the_end() -> None:
    agent = Unready(REFUSED)
    with pytest.raises(AgentFreezeExpired, match="limit"), hold_frozen(agent, lambda _: None, 0.05, None):
        assert agent.has_tried.wait(10)
    assert agent.thaws == 2


def test_an_end_that_cannot_thaw_says_why() -> None:
    with pytest.raises(CommandError, match="not today"), hold_frozen(Unready(REFUSED), lambda _: None, 60, None):
        pass


def test_without_a_thread_to_be_had_the_filesystems_are_thawed_all_the_same(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    agent = scripted([SYNC, (FREEZE, {"return": 1}), (THAW, {"return": 1})])
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more)
        with pytest.raises(RuntimeError, match="new thread"), agent.frozen():
            pytest.fail("the block must not be entered")


def test_a_guest_that_stays_silent_cannot_be_thawed(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvkit.qmp.agent.freeze._THAW_TIMEOUT_S", 0.5)
    agent = scripted([SYNC, (FREEZE, {"return": 1}), *[(None, SILENCE)] * 50], check_on_exit=False)
    with pytest.raises((CommandTimeout, AgentNotResponding)), agent.frozen():
        pass


def test_filesystems_that_somebody_else_thawed_were_not_frozen(scripted: Scripted) -> None:
    agent = scripted([SYNC, (FREEZE, {"return": 1}), (THAW, {"return": 0})])
    with pytest.raises(AgentFreezeExpired, match="somebody else"), agent.frozen():
        pass


def test_freezing_of_unknown_fate_is_undone(scripted: Scripted) -> None:
    script = [SYNC, (FREEZE, SILENCE), SYNC, (THAW, {"return": 1})]
    agent = scripted(script)
    with pytest.raises(CommandTimeout) as caught, agent.frozen(limit_s=0.2):
        pytest.fail("the block must not be entered")
    assert caught.value.command == "guest-fsfreeze-freeze"


def test_what_somebody_else_froze_is_left_alone(scripted: Scripted) -> None:
    text = "Command guest-fsfreeze-freeze has been disabled: the agent is in frozen state"
    refusal = {"error": {"class": "CommandNotFound", "desc": text}}
    agent = scripted([SYNC, (FREEZE, refusal)])
    with pytest.raises(AgentCommandDisabled), agent.frozen():
        pytest.fail("the block must not be entered")


def test_a_command_of_the_block_that_is_disabled_does_not_keep_them_frozen(scripted: Scripted) -> None:
    script = [SYNC, (FREEZE, {"return": 1}), (None, FROZEN), (THAW, {"return": 1})]
    agent = scripted(script)
    with pytest.raises(AgentCommandDisabled), agent.frozen():
        agent.run(["true"])


def test_thawing_is_tried_again_over_a_new_connection(scripted: Scripted) -> None:
    script = [SYNC, (FREEZE, {"return": 1}), (THAW, CLOSE), SYNC, (THAW, {"return": 0})]
    agent = scripted(script)
    with agent.frozen():
        pass


def test_a_connection_closed_in_the_block_is_made_again_to_thaw(scripted: Scripted) -> None:
    agent = scripted([SYNC, (FREEZE, {"return": 1}), SYNC, (THAW, {"return": 1})])
    with agent.frozen():
        agent.close()


def test_a_guest_that_is_gone_cannot_be_thawed(path: Path) -> None:
    stub = agent_stub(path, [SYNC, (FREEZE, {"return": 1})])
    stub.start()
    with AgentConnection(path) as agent, pytest.raises(ConnectError, match="no such socket"), agent.frozen():
        stub.stop()


def test_a_guest_behind_a_socket_that_is_gone_cannot_be_thawed() -> None:
    ours, theirs = socket.socketpair()
    script = [SYNC, (FREEZE, {"return": 1}), (THAW, CLOSE)]
    with QmpStub(theirs, script, greeting=None), AgentConnection.from_socket(ours) as agent:  # noqa: SIM117
        with pytest.raises(ConnectError, match="cannot be made again"), agent.frozen():
            pass


# ---- what is not for a log


def test_secrets_and_contents_stay_out_of_log_and_transcript(
    scripted: Scripted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = b"hunter2" * 3
    transcript = tmp_path / "transcript"
    script = [
        SYNC,
        (None, OK),
        (None, {"return": {"pid": 1}}),
        (None, {"return": {"exited": True, "exitcode": 0, "out-data": b64(secret)}}),
        (None, {"return": 7}),
        (None, {"return": {"count": len(secret), "eof": False}}),
        (None, OK),
        (None, {"return": 7}),
        piece(secret, eof=True),
        (None, OK),
    ]
    with caplog.at_level(logging.DEBUG, "hvkit.qmp"):
        agent = scripted(script, transcript=transcript)
        agent.execute(GuestSetUserPassword(username="root", password=b64(secret), crypted=False))
        assert agent.run(["cat"], input=secret, env={"KEY": secret.decode()}).stdout == secret
        agent.write_file("/secret", secret)
        assert b"".join(agent.read_file("/secret")) == secret
    for text in (caplog.text, transcript.read_text()):
        assert "guest-file-write" in text
        assert "28 hidden" in text
        assert b64(secret) not in text
        assert secret.decode() not in text
    assert [json.loads(line)["direction"] for line in transcript.read_text().splitlines()[:2]] == ["->", "<-"]
