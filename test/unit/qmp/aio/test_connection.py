# SPDX-License-Identifier: BSD-2-Clause
"""The asyncio connection against a stub: cases that a real QEMU does not show on demand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvkit.errors import HypervisorError, ProgrammerError
from hvkit.qmp import (
    CommandError,
    CommandNotFound,
    CommandTimeout,
    ConnectError,
    ConnectionLost,
    DataError,
    DeviceNotFound,
    EventTimeout,
    NotInThisQemu,
    ProtocolError,
    QmpConnection,
    QmpError,
    QmpMessage,
)
from hvkit.qmp.aio import AsyncQmpConnection
from hvkit.qmp.schema import QueryStatus, ResumeEvent, ShutdownEvent, StatusInfo, StopEvent
from hvkit.testing import CLOSE, SILENCE, CloseAfter, Delay, QmpStub, WaitFor
from loops import descriptors, in_loop, requests_of

STATUS = {"status": "running", "running": True, "singlestep": False}
OK: dict[str, Any] = {"return": {}}
STOPPED = {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 0}}
RESUMED = {"event": "RESUME"}
READY = b'{"QMP": {"version": {}}}\n{"return": {}, "id": 1}\n'


def test_import_of_qmp_does_not_import_asyncio() -> None:
    code = "import sys, hvkit.qmp, hvkit.qmp.jobs; sys.exit('asyncio' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_async_connection_has_the_methods_of_the_blocking_one() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(QmpConnection) == public(AsyncQmpConnection)


def test_constructor_needs_no_event_loop(path: Path) -> None:
    connection = AsyncQmpConnection(path, timeout=1)
    assert not connection.is_connected
    assert repr(connection) == f"<AsyncQmpConnection '{path}' not connected>"
    with QmpStub(path, [(None, {"return": STATUS})] * 2):
        for _ in range(2):  # two event loops, one after the other

            async def ask() -> StatusInfo:
                async with connection:
                    return await connection.execute(QueryStatus())

            assert asyncio.run(ask()).running


@in_loop
async def test_execute_takes_typed_commands_and_wire_names(path: Path) -> None:
    script = [
        ({"execute": "query-status"}, {"return": STATUS}),
        ({"execute": "query-status"}, {"return": STATUS}),
        ({"execute": "eject", "arguments": {"id": "cd", "force": True}}, OK),
    ]
    with QmpStub(path, script):
        async with AsyncQmpConnection(path) as connection:
            assert connection.peer_pid == os.getpid()
            assert connection.is_connected
            assert connection.version >= (7, 2)
            status = await connection.execute(QueryStatus())
            assert status == StatusInfo(status="running", running=True, singlestep=False)
            assert await connection.execute("query-status") == STATUS
            assert await connection.execute("eject", {"id": "cd", "force": True}) == {}
        assert not connection.is_connected


@in_loop
async def test_methods_before_connect_raise_programmer_error(path: Path) -> None:
    connection = AsyncQmpConnection(path)
    for use in (
        lambda: connection.execute(QueryStatus()),
        lambda: connection.exchange(QmpMessage({"execute": "stop"})),
    ):
        with pytest.raises(ProgrammerError, match=r"before connect\(\)"):
            await use()
    for look in (connection.subscribe, connection.take_events, lambda: connection.version):
        with pytest.raises(ProgrammerError, match=r"before connect\(\)"):
            look()
    await connection.close()


@in_loop
async def test_connect_twice_raises_programmer_error_and_keeps_the_connection(path: Path) -> None:
    with QmpStub(path, [(None, {"return": STATUS})]):
        async with AsyncQmpConnection(path) as connection:
            with pytest.raises(ProgrammerError, match="a connection that is open"):
                await connection.connect()
            assert await connection.execute("query-status") == STATUS


@in_loop
async def test_connect_after_close_connects_again(path: Path) -> None:
    with QmpStub(path, [(None, {"return": 1}), (None, {"return": 2})]):
        connection = AsyncQmpConnection(path)
        for expected in (1, 2):
            await connection.connect()
            assert await connection.execute("query-status") == expected
            await connection.close()
            await connection.close()


@in_loop
async def test_connect_failure_names_the_reason(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match=r"qmp\.sock: there is no such socket"):
        await AsyncQmpConnection(path).connect()
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    with pytest.raises(ConnectError, match="no process listens"):
        await AsyncQmpConnection(path).connect()
    with pytest.raises(ConnectError, match="too long"):
        await AsyncQmpConnection(tmp_path / ("x" * 200)).connect()
    with pytest.raises(ConnectError, match="unknown host"):
        await AsyncQmpConnection(("no-such-host.invalid", 4444)).connect()


@pytest.mark.parametrize("greeting", [{"hello": 1}, b"220 mail.example ESMTP\r\n", {"return": {}}, b"\xff\x00\n"])
@in_loop
async def test_connect_with_invalid_greeting_raises_connect_error(path: Path, greeting: Any) -> None:
    with QmpStub(path, greeting=greeting), pytest.raises(ConnectError) as caught:
        await AsyncQmpConnection(path).connect()
    assert "greeting" in caught.value.reason or "JSON" in caught.value.reason


@in_loop
async def test_connect_without_greeting_raises_connect_error_at_the_deadline(path: Path) -> None:
    before = descriptors()
    began = time.monotonic()
    with QmpStub(path, greeting=None), pytest.raises(ConnectError, match=r"no greeting within 0\.2 s: busy"):
        await AsyncQmpConnection(path).connect(timeout=0.2)
    assert 0.15 < time.monotonic() - began < 2
    assert descriptors() == before


@in_loop
async def test_connect_with_full_backlog_does_not_block_the_loop(path: Path) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        ticking = asyncio.create_task(tick())
        with pytest.raises(ConnectError, match=r"the backlog of the socket stayed full for 0\.3 s"):
            await AsyncQmpConnection(path).connect(timeout=0.3)
        ticking.cancel()
        await asyncio.wait({ticking})
    assert ticks > 5


@in_loop
async def test_connect_with_full_backlog_succeeds_when_it_is_free(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        connecting = asyncio.create_task(AsyncQmpConnection(path).connect(timeout=5))
        await asyncio.sleep(0)
        listener.accept()[0].close()
        second, _ = await asyncio.to_thread(listener.accept)
        second.close()
        with pytest.raises(ConnectError, match="closed the connection"):
            await connecting


@pytest.mark.parametrize(
    ("stub", "reason"),
    [
        ({"greeting": CLOSE}, "closed the connection"),
        ({"capabilities_reply": {"error": {"class": "GenericError", "desc": "not you"}}}, "not you"),
        ({"capabilities_reply": SILENCE}, "no reply to qmp_capabilities"),
    ],
)
@in_loop
async def test_connect_with_failed_negotiation_names_the_reason(path: Path, stub: dict[str, Any], reason: str) -> None:
    with QmpStub(path, **stub), pytest.raises(ConnectError, match=reason):
        await AsyncQmpConnection(path).connect(timeout=0.3)


@pytest.mark.parametrize("reply", [{"return": {}}, {"return": []}])
@in_loop
async def test_connect_accepts_old_servers(path: Path, reply: dict[str, Any]) -> None:
    script = [(None, {"return": STATUS}), (None, {"error": {"class": "DeviceNotFound", "desc": "x", "data": {}}})]
    with QmpStub(path, script, greeting={"QMP": {"version": {}}}, capabilities_reply=reply, echo_ids=False):
        async with AsyncQmpConnection(path) as connection:
            assert (await connection.execute(QueryStatus())).running
            with pytest.raises(DeviceNotFound):
                await connection.execute("device_del", {"id": "x"})


@in_loop
async def test_connect_to_server_that_reads_lines_sends_a_newline() -> None:
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, theirs.makefile("rwb") as stream:
            stream.write(b'{"QMP": {"version": {}}}\n')
            stream.flush()
            for number in (1, 2):
                stream.readline()
                stream.write(b'{"return": {"n": %d}, "id": %d}\n' % (number, number))
                stream.flush()

    serving = asyncio.create_task(asyncio.to_thread(serve))
    connection = AsyncQmpConnection.from_socket(ours)
    await connection.connect()
    assert await connection.execute("ask") == {"n": 2}
    await serving
    await connection.close()


@in_loop
async def test_connect_works_with_all_kinds_of_addresses(path: Path) -> None:
    name = f"hvkit-aio-{os.getpid()}"
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0{name}")
    abstract.listen(1)
    tcp = socket.create_server(("127.0.0.1", 0))
    port = tcp.getsockname()[1]
    with QmpStub(abstract, [(None, {"return": STATUS})]), QmpStub(tcp, [(None, {"return": STATUS})]):
        for address in (f"@{name}", ("127.0.0.1", port)):
            async with AsyncQmpConnection(address) as connection:
                assert (await connection.execute(QueryStatus())).running
    with pytest.raises(ConnectError, match=f"127.0.0.1:{port}: no process listens"):
        await AsyncQmpConnection(("127.0.0.1", port)).connect()


@in_loop
async def test_from_socket_connects_only_once() -> None:
    ours, theirs = socket.socketpair()
    with QmpStub(theirs, [(None, {"return": STATUS})]):
        connection = AsyncQmpConnection.from_socket(ours)
        await connection.connect()
        assert (await connection.execute(QueryStatus())).running
        await connection.close()
        with pytest.raises(ProgrammerError, match="can be connected only once"):
            await connection.connect()
    ours, theirs = socket.socketpair()
    await AsyncQmpConnection.from_socket(ours).close()
    assert ours.fileno() == -1
    theirs.close()


@in_loop
async def test_connect_when_cancelled_leaves_nothing_open(path: Path) -> None:
    before = descriptors()
    tcp = socket.create_server(("127.0.0.1", 0))
    for address, greeting in ((path, None), (path, {"QMP": {}}), (tcp.getsockname(), None)):
        listener = tcp if isinstance(address, tuple) else path
        stub = QmpStub(listener, greeting=greeting, capabilities_reply=SILENCE, check_on_exit=False)
        with stub:
            connection = AsyncQmpConnection(address)
            connecting = asyncio.create_task(connection.connect())
            if greeting:
                await requests_of(stub, 1)
            else:
                await asyncio.sleep(0.05)
            with pytest.raises(ProgrammerError, match="connect"):
                await connection.connect()
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert not connection.is_connected
    tcp.close()
    assert descriptors() == before


@in_loop
async def test_close_ends_connect_that_negotiates(path: Path) -> None:
    with QmpStub(path, greeting=None):
        connection = AsyncQmpConnection(path)
        connecting = asyncio.create_task(connection.connect())
        await asyncio.sleep(0.05)
        await connection.close()
        with pytest.raises(ConnectError, match="was closed"):
            await connecting


@in_loop
async def test_close_ends_connect_that_waits_for_the_backlog(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        connection = AsyncQmpConnection(path)
        connecting = asyncio.create_task(connection.connect())
        await asyncio.sleep(0)
        with pytest.raises(ProgrammerError, match="another task connects"):
            await connection.connect()
        await connection.close()
        listener.accept()[0].close()
        with pytest.raises(ConnectError, match="was closed"):
            await connecting
        assert not connection.is_connected


@in_loop
async def test_connect_ended_by_close_leaves_the_next_one_alone(path: Path) -> None:
    with QmpStub(path, greeting=None):
        connection = AsyncQmpConnection(path)
        first = asyncio.create_task(connection.connect())
        await asyncio.sleep(0.05)
        await connection.close()
    with QmpStub(path, [(None, {"return": STATUS})]):
        await connection.connect()  # before the first task resumes
        with pytest.raises(ConnectError, match="was closed"):
            await first
        assert connection.is_connected
        assert await connection.execute("query-status") == STATUS
        await connection.close()


@in_loop
async def test_connect_ended_in_the_backlog_leaves_the_next_one_alone(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as occupant:
        listener.bind(str(path))
        listener.listen(0)
        occupant.connect(str(path))
        connection = AsyncQmpConnection(path)
        first = asyncio.create_task(connection.connect())
        await asyncio.sleep(0)
        await connection.close()
        second = asyncio.create_task(connection.connect())
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        peers = []
        listener.setblocking(False)
        for _ in range(3):
            peer, _ = await loop.sock_accept(listener)
            peers.append(peer)
            with contextlib.suppress(BrokenPipeError):
                peer.sendall(READY)
        with pytest.raises(ConnectError, match="was closed"):
            await first
        await second
        assert connection.is_connected
        await connection.close()
        for peer in peers:
            peer.close()


@pytest.mark.parametrize("chunk_size", [1, 7, 64])
@in_loop
async def test_execute_with_split_reply_returns_it(path: Path, chunk_size: int) -> None:
    script = [(None, [STOPPED, {"return": STATUS}, RESUMED]), (None, {"return": [1, 2]})]
    with QmpStub(path, script, chunk_size=chunk_size):
        async with AsyncQmpConnection(path) as connection:
            assert (await connection.execute(QueryStatus())).running
            assert await connection.execute("anything") == [1, 2]
            assert connection.take_events() == [StopEvent(), ResumeEvent()]


@in_loop
async def test_exchange_returns_replies_and_error_replies(path: Path) -> None:
    script = [
        ({"execute": "query-status", "id": "mine"}, {"return": STATUS}),
        ({"execute": "x"}, {"error": {"class": "CommandNotFound", "desc": "no"}}),
        ({"execute": "x"}, {"error": {"class": "CommandNotFound", "desc": "has not been found"}}),
    ]
    with QmpStub(path, script):
        async with AsyncQmpConnection(path) as connection:
            named = await connection.exchange(QmpMessage({"execute": "query-status", "id": "mine"}))
            assert named == {"return": STATUS, "id": "mine"}
            unnamed = await connection.exchange(QmpMessage({"execute": "x"}))
            assert unnamed == {"error": {"class": "CommandNotFound", "desc": "no"}}
            with pytest.raises(CommandNotFound, match="has not been found"):
                await connection.execute("x")


@in_loop
async def test_execute_of_invalid_command_raises_programmer_error_and_sends_nothing(path: Path) -> None:
    with QmpStub(path, [(None, {"return": STATUS})]):
        async with AsyncQmpConnection(path) as connection:
            with pytest.raises(ProgrammerError):
                await connection.execute("x", {"a": {1, 2}})
            with pytest.raises(ProgrammerError, match="contains its arguments"):
                await connection.execute(QueryStatus(), {"a": 1})  # type: ignore[call-overload]
            assert (await connection.execute(QueryStatus())).running


@pytest.mark.parametrize("garbage", [b"}{\r\n", b"\xff\xff\n", b"[]\n", b'{"QMP": {}}\n', b'{"id": 1}\n'])
@in_loop
async def test_execute_with_garbage_raises_and_keeps_the_connection(path: Path, garbage: bytes) -> None:
    with QmpStub(path, [(None, garbage), (None, {"return": STATUS})]):
        async with AsyncQmpConnection(path) as connection:
            with pytest.raises(HypervisorError) as caught:
                await connection.execute(QueryStatus())
            assert isinstance(caught.value, DataError | ProtocolError)
            assert (await connection.execute(QueryStatus())).running


@in_loop
async def test_execute_with_garbage_from_server_without_ids_ends_the_connection(path: Path) -> None:
    with QmpStub(path, [(None, b"}{\r\n")], echo_ids=False):
        async with AsyncQmpConnection(path) as connection:
            with pytest.raises(DataError):
                await connection.execute(QueryStatus())
            with pytest.raises(ConnectionLost, match="hvkit closed the connection: not JSON"):
                await connection.execute(QueryStatus())


@in_loop
async def test_peer_pid_after_connection_lost_is_that_read_before(path: Path) -> None:
    with QmpStub(path, [(None, CLOSE), (None, CLOSE)]):
        for pid in (os.getpid(), None):
            async with AsyncQmpConnection(path) as connection:
                if pid:
                    assert connection.peer_pid == pid
                with pytest.raises(ConnectionLost):
                    await connection.execute(QueryStatus())
                assert connection.peer_pid == pid


class LacksStop:
    """A check that rejects `stop`."""

    def check(self, command: str, arguments: Any, /) -> None:
        if command == "stop":
            raise NotInThisQemu({"stop": ""}, "7.2.0")


@in_loop
async def test_check_against_rejects_missing_command_before_sending(path: Path) -> None:
    with QmpStub(path, [({"execute": "query-status"}, {"return": STATUS})]):
        async with AsyncQmpConnection(path) as connection:
            connection.check_against(LacksStop())
            with pytest.raises(NotInThisQemu):
                await connection.execute("stop")
            assert (await connection.execute(QueryStatus())).running


@pytest.mark.parametrize("echo_ids", [True, False])
@in_loop
async def test_execute_after_timeout_drops_the_late_reply(
    path: Path, echo_ids: bool, released: threading.Event
) -> None:
    script = [(None, [WaitFor(released), {"return": "late"}]), (None, {"return": "right"})]
    with QmpStub(path, script, echo_ids=echo_ids):
        async with AsyncQmpConnection(path) as connection:
            with pytest.raises(CommandTimeout, match=r"slow: no reply within 0\.1 s") as caught:
                await connection.execute("slow", timeout=0.1)
            assert (caught.value.command, caught.value.timeout_s) == ("slow", 0.1)
            released.set()
            assert await connection.execute("next") == "right"


@in_loop
async def test_execute_timeout_is_that_of_call_connection_or_table(path: Path) -> None:
    with QmpStub(path, [(None, SILENCE)] * 2, check_on_exit=False):
        connection = AsyncQmpConnection(path, timeout=0.1, deadlines={"slow": 0.2})
        await connection.connect()
        for command, timeout_s in (("quick", 0.1), ("slow", 0.2)):
            with pytest.raises(CommandTimeout) as caught:
                await connection.execute(command)
            assert caught.value.timeout_s == timeout_s
        await connection.close()


@in_loop
async def test_execute_with_endless_events_keeps_its_deadline() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(READY)
    stop = threading.Event()

    def babble() -> None:
        try:
            while not stop.is_set():
                theirs.sendall(b'{"event": "STOP"}\n' * 100)
        except OSError:
            return

    babbling = asyncio.create_task(asyncio.to_thread(babble))
    connection = AsyncQmpConnection.from_socket(ours)
    await connection.connect()
    began = time.monotonic()
    with pytest.raises(CommandTimeout):
        await connection.execute("slow", timeout=0.2)
    with connection.subscribe(StopEvent) as events, pytest.raises(EventTimeout):
        await events.wait_for(lambda event: False, timeout=0.2)
    connection.take_events()
    assert time.monotonic() - began < 5
    stop.set()
    await connection.close()
    await babbling
    theirs.close()


@in_loop
async def test_execute_with_partial_reply_names_the_lost_command(path: Path) -> None:
    script = [(None, [STOPPED, CloseAfter(12, {"return": STATUS})])]
    with QmpStub(path, script):
        async with AsyncQmpConnection(path) as connection:
            with pytest.raises(ConnectionLost, match="unknown whether executed: query-status") as caught:
                await connection.execute(QueryStatus())
            assert caught.value.commands == ("query-status",)
            assert connection.take_events() == [StopEvent()]
            with pytest.raises(ConnectionLost):
                connection.take_events()
            with pytest.raises(ConnectionLost):
                await connection.execute(QueryStatus())
            with pytest.raises(ConnectionLost):
                connection.subscribe()
            assert not connection.is_connected


@in_loop
async def test_execute_after_server_closed_reads_its_last_messages() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(READY)
    connection = AsyncQmpConnection.from_socket(ours)
    await connection.connect()
    theirs.sendall(b'{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}\n')
    theirs.recv(4096)
    theirs.close()
    with pytest.raises(ConnectionLost, match=r"cannot send|closed the connection"):
        await connection.execute("query-status")
    assert connection.take_events() == [ShutdownEvent(guest=True, reason="guest-shutdown")]
    await connection.close()


@in_loop
async def test_execute_on_another_event_loop_raises_programmer_error(path: Path) -> None:
    with QmpStub(path, [(None, OK)], check_on_exit=False):
        async with AsyncQmpConnection(path) as connection:
            with pytest.raises(ProgrammerError, match="event loop"):
                await asyncio.to_thread(lambda: asyncio.run(connection.execute("query-status")))


@in_loop
async def test_take_events_with_invalid_event_drops_only_that(path: Path) -> None:
    misfit = {"event": "DEVICE_DELETED", "data": {"path": 5}}
    with QmpStub(path, [(None, [STOPPED, misfit, RESUMED, OK])]):
        async with AsyncQmpConnection(path) as connection:
            await connection.execute("one")
            assert connection.take_events() == [StopEvent()]
            with pytest.raises(DataError, match="DEVICE_DELETED"):
                connection.take_events()
            assert connection.take_events() == [ResumeEvent()]


@in_loop
async def test_large_reply_takes_linear_time(path: Path) -> None:
    large = "x" * (64 * 1024 * 1024)
    with QmpStub(path, [(None, {"return": large})]):
        async with AsyncQmpConnection(path) as connection:
            assert await connection.execute("large", timeout=60) == large


@settings(max_examples=40)
@given(pieces=st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_from_server_raise_qmp_error(pieces: list[bytes]) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        theirs.sendall(READY)
        connection = AsyncQmpConnection.from_socket(ours)
        await connection.connect()
        theirs.sendall(b"".join(pieces))
        theirs.close()
        with pytest.raises(QmpError):
            await connection.execute(QueryStatus(), timeout=5)
        await connection.close()

    asyncio.run(main())


@in_loop
async def test_transcript_has_every_message(path: Path, tmp_path: Path) -> None:
    with QmpStub(path, [(None, [Delay(0.01), OK])]):
        async with AsyncQmpConnection(path, transcript=tmp_path / "log") as connection:
            await connection.execute("set_password", {"protocol": "vnc", "password": "xyzzy"})
    text = (tmp_path / "log").read_text()
    assert "set_password" in text
    assert "xyzzy" not in text


@pytest.mark.parametrize("seconds", ["5", True, float("nan")])
@in_loop
async def test_timeout_that_is_not_a_number_raises_programmer_error(path: Path, seconds: Any) -> None:
    with QmpStub(path, [(None, {"return": STATUS})]):
        connection = AsyncQmpConnection(path)
        with pytest.raises(ProgrammerError, match="timeout must be a number"):
            await connection.connect(timeout=seconds)
        await connection.connect()
        with pytest.raises(ProgrammerError, match="timeout must be a number"):
            await connection.execute("stop", timeout=seconds)
        with pytest.raises(ProgrammerError, match="timeout must be a number"):
            await connection.exchange(QmpMessage({"execute": "stop"}), timeout=seconds)
        with connection.subscribe() as events, pytest.raises(ProgrammerError, match="timeout must be a number"):
            await events.get(timeout=seconds)
        assert (await connection.execute(QueryStatus())).running
        await connection.close()


@in_loop
async def test_errors_name_the_monitor(path: Path, released: threading.Event) -> None:
    script = [(None, {"error": {"class": "GenericError", "desc": "no"}}), (None, [WaitFor(released), OK])]
    with QmpStub(path, script, check_on_exit=False):
        async with AsyncQmpConnection(path) as connection:
            with pytest.raises(CommandError) as refused:
                await connection.execute("stop")
            with pytest.raises(CommandTimeout) as late:
                await connection.execute("stop", timeout=0.1)
            with connection.subscribe(StopEvent) as events, pytest.raises(EventTimeout) as silent:
                await events.get(timeout=0)
    for caught in (refused, late, silent):
        assert caught.value.monitor == str(path)
        assert str(caught.value) == f"{path}: {caught.value.reason}"
