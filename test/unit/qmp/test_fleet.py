# SPDX-License-Identifier: BSD-2-Clause
"""`Fleet` and `ask` against stubs."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import CommandError, CommandTimeout, ConnectError, ConnectionLost, DataError, DeviceNotActive
from hvkit.qmp.fleet import Fleet, Outcome, ask
from hvkit.qmp.protocol import Protocol
from hvkit.qmp.schema import QueryBalloon, QueryBlock, QueryName, QueryStatus, StatusInfo, Stop
from hvkit.testing import CLOSE, SILENCE, Delay, QmpStub
from hvkit.testing.stub import DEFAULT_GREETING

STATUS = {"return": {"status": "running", "running": True}}


RUNNING = StatusInfo(status="running", running=True)


def test_execute_returns_an_outcome_of_every_monitor(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        addresses = {}
        for number in range(20):
            addresses[f"m{number}"] = tmp_path / f"{number}"
            reply = {"return": {"status": "running", "running": True}}
            stack.enter_context(QmpStub(addresses[f"m{number}"], [({"execute": "query-status"}, reply)] * 3))
        with Fleet(addresses) as fleet:
            for _ in range(2):
                outcomes = fleet.execute(QueryStatus())
                assert list(outcomes) == list(addresses)
                assert all(outcome.value == RUNNING for outcome in outcomes.values())
        assert all(outcome.error is None for outcome in ask(addresses, QueryStatus()).values())


def test_execute_with_failing_monitors_returns_their_errors(tmp_path: Path) -> None:
    scripts: dict[str, Any] = {
        "right": STATUS,
        "refusing": {"error": {"class": "GenericError", "desc": "not now"}},
        "silent": SILENCE,
        "dying": CLOSE,
        "mistyped": {"return": {"status": 3, "running": True}},
        "garbage": b"}{\n",
    }
    addresses = {name: tmp_path / name for name in scripts}
    left_over = tmp_path / "left-over"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(left_over))
    with contextlib.ExitStack() as stack:
        for name, reply in scripts.items():
            stack.enter_context(QmpStub(addresses[name], [(None, reply)], check_on_exit=False))
        stack.enter_context(QmpStub(tmp_path / "mute", greeting=None))
        stack.enter_context(QmpStub(tmp_path / "web", greeting=b"HTTP/1.1 400 Bad Request\r\n"))
        addresses |= {name: tmp_path / name for name in ("mute", "web", "missing", "left-over")}
        began = time.monotonic()
        outcomes = ask(addresses, QueryStatus(), timeout=0.5)
        assert time.monotonic() - began < 2
    assert outcomes["right"].value == RUNNING
    assert outcomes["right"].after_s < 0.5 <= outcomes["silent"].after_s
    expected = {
        "refusing": (CommandError, "not now"),
        "silent": (CommandTimeout, "no reply within 0.5 s"),
        "dying": (ConnectionLost, "unknown whether executed: query-status"),
        "mistyped": (DataError, "query-status.status: expected str, got int"),
        "garbage": (DataError, "not JSON"),
        "mute": (ConnectError, "no greeting within 0.5 s"),
        "web": (ConnectError, "not JSON"),
        "missing": (ConnectError, "there is no such socket"),
        "left-over": (ConnectError, "no process listens"),
    }
    for name, (kind, text) in expected.items():
        error = outcomes[name].error
        assert isinstance(error, kind), name
        assert text in str(error)
        with pytest.raises(kind):
            _ = outcomes[name].value


def test_execute_after_timeout_drops_the_late_reply(tmp_path: Path) -> None:
    script = [(None, [Delay(0.2), {"return": {"status": "paused", "running": False}}]), (None, STATUS)]
    with QmpStub(tmp_path / "s", script), Fleet({"m": tmp_path / "s"}) as fleet:
        assert isinstance(fleet.execute(QueryStatus(), timeout=0.05)["m"].error, CommandTimeout)
        assert fleet.execute(QueryStatus())["m"].value == RUNNING


def test_execute_after_lost_connection_reconnects(tmp_path: Path) -> None:
    with QmpStub(tmp_path / "s", [(None, CLOSE), (None, STATUS)]), Fleet({"m": tmp_path / "s"}) as fleet:
        assert isinstance(fleet.execute(QueryStatus())["m"].error, ConnectionLost)
        assert fleet.execute(QueryStatus())["m"].value == RUNNING


def test_peer_pid_returns_the_process_of_a_connected_monitor(tmp_path: Path) -> None:
    with (
        QmpStub(tmp_path / "one", [(None, STATUS)]),
        Fleet({"one": tmp_path / "one", "none": tmp_path / "none"}) as fleet,
    ):
        assert fleet.peer_pid("one") is None
        fleet.execute(QueryStatus())
        assert (fleet.peer_pid("one"), fleet.peer_pid("none")) == (os.getpid(), None)
        with pytest.raises(ProgrammerError, match="unknown monitors: two"):
            fleet.peer_pid("two")


def test_execute_each_sends_a_different_command_to_each_monitor(tmp_path: Path) -> None:
    with (
        QmpStub(tmp_path / "a", [({"execute": "query-status"}, STATUS)]),
        QmpStub(tmp_path / "b", [({"execute": "stop"}, {"return": {}})]),
        Fleet({"a": tmp_path / "a", "b": tmp_path / "b"}) as fleet,
    ):
        outcomes = fleet.execute_each({"a": QueryStatus(), "b": Stop()})
        assert outcomes["a"].value == RUNNING
        assert outcomes["b"].value is None
        assert outcomes["b"].error is None


def test_execute_several_returns_an_outcome_of_each_command(tmp_path: Path) -> None:
    refusal = {"error": {"class": "DeviceNotActive", "desc": "no balloon"}}
    script = [({"execute": "query-balloon"}, refusal), ({"execute": "query-status"}, STATUS)]
    with QmpStub(tmp_path / "a", script), Fleet({"a": tmp_path / "a", "b": tmp_path / "b"}) as fleet:
        both = (QueryBalloon(), QueryStatus())
        outcomes = fleet.execute_several({"a": both, "b": both})
        assert isinstance(outcomes["a"][0].error, DeviceNotActive)
        assert outcomes["a"][1].value == RUNNING
        assert [type(outcome.error) for outcome in outcomes["b"]] == [ConnectError, ConnectError]
        with pytest.raises(ProgrammerError, match="b: no commands for this monitor"):
            fleet.execute_several({"a": both, "b": ()})


def test_execute_several_with_timeout_returns_the_replies_in_time(tmp_path: Path) -> None:
    with QmpStub(tmp_path / "s", [(None, STATUS), (None, SILENCE)]), Fleet({"m": tmp_path / "s"}) as fleet:
        status, late = fleet.execute_several({"m": (QueryStatus(), QueryName())}, timeout=0.2)["m"]
        assert status.value == RUNNING
        assert isinstance(late.error, CommandTimeout)
        assert late.error.command == "query-name"
        assert fleet.unanswered() == {"m"}


def test_receive_processes_a_late_reply(tmp_path: Path) -> None:
    with QmpStub(tmp_path / "s", [(None, [Delay(0.2), STATUS])]), Fleet({"m": tmp_path / "s"}) as fleet:
        assert fleet.unanswered() == set()
        fleet.execute(QueryStatus(), timeout=0.05)
        assert fleet.unanswered() == {"m"}
        assert select.select([fleet], [], [], 30)[0]
        fleet.receive()
        assert fleet.unanswered() == set()
        assert fleet.take_changed() == set()
        assert not select.select([fleet], [], [], 0)[0]


def test_execute_without_greeting_keeps_the_connection_until_it_comes(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    greeting = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}
    with socket.socket(socket.AF_UNIX) as listener, Fleet({"m": path}) as fleet:
        listener.bind(path)
        listener.listen(1)
        for _ in range(3):  # more often than the backlog has room
            assert "no greeting" in str(fleet.execute(QueryStatus(), timeout=0.05)["m"].error)
            assert fleet.unanswered() == {"m"}
        with listener.accept()[0] as client:

            def serve() -> None:
                client.sendall(json.dumps(greeting).encode() + b"\n")
                for reply in ({}, STATUS["return"]):
                    request = json.loads(client.recv(4096))
                    client.sendall(json.dumps({"return": reply, "id": request["id"]}).encode() + b"\n")

            server = threading.Thread(target=serve)
            server.start()
            assert fleet.execute(QueryStatus())["m"].value == RUNNING
            server.join()
        assert fleet.unanswered() == set()


def test_execute_after_timeout_does_not_send_the_command_later(tmp_path: Path) -> None:
    script: list[Any] = [({"execute": "query-name"}, {"return": {}})]
    late: list[Any] = [Delay(0.2), DEFAULT_GREETING]
    with QmpStub(tmp_path / "s", script, greeting=late) as stub, Fleet({"m": tmp_path / "s"}) as fleet:
        assert fleet.execute(QueryStatus(), timeout=0.05)["m"].error is not None
        while fleet.unanswered():
            assert select.select([fleet], [], [], 30)[0]
            fleet.receive()
        assert fleet.execute(QueryName())["m"].error is None
        assert [each["execute"] for each in stub.requests] == ["qmp_capabilities", "query-name"]


def test_take_changed_returns_a_changed_monitor_once(tmp_path: Path) -> None:
    event = {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 0}}
    with (
        QmpStub(tmp_path / "a", [(None, [STATUS, event])]),
        QmpStub(tmp_path / "b", [(None, STATUS)]),
        QmpStub(tmp_path / "c", [(None, [STATUS, CLOSE])]),
        Fleet({name: tmp_path / name for name in "abc"}) as fleet,
    ):
        assert all(outcome.error is None for outcome in fleet.execute(QueryStatus()).values())
        changed = fleet.take_changed()
        while len(changed) < 2:
            assert select.select([fleet], [], [], 30)[0]
            fleet.receive()
            changed |= fleet.take_changed()
        assert changed == {"a", "c"}
        assert fleet.take_changed() == set()


def test_take_changed_returns_a_lost_monitor_whose_socket_a_child_holds(tmp_path: Path) -> None:
    with (
        QmpStub(tmp_path / "a", [(None, STATUS)]) as machine,
        QmpStub(tmp_path / "b", [(None, STATUS)]),
        contextlib.ExitStack() as stack,
        Fleet({name: tmp_path / name for name in "ab"}) as fleet,
    ):
        assert all(outcome.error is None for outcome in fleet.execute(QueryStatus()).values())
        stack.enter_context(duplicate_of_socket_to(tmp_path / "a"))
        machine.stop()
        while "a" not in fleet.take_changed():
            assert select.select([fleet], [], [], 30)[0]
            fleet.receive()
        assert select.select([fleet], [], [], 0.1)[0] == []


def test_close_disconnects_the_peer_although_a_child_holds_the_socket(tmp_path: Path) -> None:
    with (
        QmpStub(tmp_path / "a", [(None, STATUS)]),
        contextlib.ExitStack() as stack,
        Fleet({"a": tmp_path / "a"}) as fleet,
    ):
        assert fleet.execute(QueryStatus())["a"].error is None
        shared = stack.enter_context(duplicate_of_socket_to(tmp_path / "a"))
        fleet.close()
        shared.settimeout(30)
        while shared.recv(1024):
            pass


def test_fleet_in_a_forked_child_raises_programmer_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with QmpStub(tmp_path / "a", [(None, STATUS)]), Fleet({"a": tmp_path / "a"}) as fleet:
        monkeypatch.setattr(os, "getpid", lambda: 1)
        for act in (lambda: fleet.execute(QueryStatus()), lambda: fleet.remove("a"), fleet.receive, fleet.fileno):
            with pytest.raises(ProgrammerError, match="from which this one was forked"):
                act()
        monkeypatch.undo()
        assert fleet.execute(QueryStatus())["a"].value == RUNNING


def test_add_and_remove_change_the_monitors(tmp_path: Path) -> None:
    with (
        QmpStub(tmp_path / "a", [(None, STATUS)]),
        QmpStub(tmp_path / "b", [(None, STATUS)]),
        Fleet({"m": tmp_path / "a"}) as fleet,
    ):
        assert fleet.execute(QueryStatus())["m"].value == RUNNING
        before = open_descriptors()
        fleet.remove("m")
        fleet.remove("m")
        assert set(fleet.names) == set()
        assert open_descriptors() < before  # the stub may have closed its end too
        fleet.add("m", tmp_path / "b")
        fleet.add("n", tmp_path / "missing")
        assert fleet.execute(QueryStatus())["m"].value == RUNNING
        assert set(fleet.names) == {"m", "n"}
        fleet.close()
        for act in (lambda: fleet.add("o", tmp_path / "a"), lambda: fleet.remove("m"), fleet.receive, fleet.fileno):
            with pytest.raises(ProgrammerError, match="closed"):
                act()


def test_execute_with_names_uses_only_these_monitors(tmp_path: Path) -> None:
    with QmpStub(tmp_path / "a", [(None, STATUS)]), Fleet({"a": tmp_path / "a", "b": tmp_path / "b"}) as fleet:
        assert list(fleet.execute("query-status", names=["a"])) == ["a"]
        with pytest.raises(ProgrammerError, match="unknown monitors: c"):
            fleet.execute(QueryStatus(), names=["a", "c"])


def test_execute_on_closed_fleet_raises_programmer_error(tmp_path: Path) -> None:
    fleet = Fleet({})
    assert fleet.execute(QueryStatus()) == {}
    fleet.close()
    fleet.close()
    with pytest.raises(ProgrammerError, match="closed"):
        fleet.execute(QueryStatus())


def test_execute_with_flooding_monitor_does_not_delay_the_others(tmp_path: Path) -> None:
    flood = [{"event": "STOP"}] * 20_000
    with (
        QmpStub(tmp_path / "flooding", [(None, [*flood, Delay(60)])], check_on_exit=False),
        QmpStub(tmp_path / "right", [(None, STATUS)]),
    ):
        outcomes = ask({name: tmp_path / name for name in ("flooding", "right")}, QueryStatus(), timeout=1)
    assert outcomes["right"].value == RUNNING
    assert isinstance(outcomes["flooding"].error, CommandTimeout)


def test_execute_on_line_buffered_server_returns_its_reply(tmp_path: Path) -> None:
    ready = threading.Event()

    def serve() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            listener.listen(1)
            ready.set()
            client, _ = listener.accept()
            with client, client.makefile("rwb", buffering=0) as stream:
                stream.write(b'{"QMP": {"version": {}}}\n')
                for line in stream:
                    stream.write(b'{"return": {"status": "running", "running": true}}\n' if line else b"")

    thread = threading.Thread(target=serve)
    thread.start()
    ready.wait(5)
    assert ask({"m": tmp_path / "s"}, QueryStatus())["m"].value == RUNNING
    thread.join()


def test_ask_over_tcp_returns_the_reply() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with QmpStub(listener, [(None, STATUS)]):
        assert ask({"m": ("127.0.0.1", port)}, QueryStatus())["m"].value == RUNNING
    outcome = ask({"m": ("127.0.0.1", port)}, QueryStatus(), timeout=1)["m"]
    assert isinstance(outcome.error, ConnectError)


@pytest.mark.parametrize(
    "address",
    ["a\0b", "\ud800", "x" * 300, ("a..b", 1), ("a" * 300, 1), ("127.0.0.1", 2**70), ("h\0", 1)],
    ids=["zero-byte", "surrogate", "long-path", "empty-label", "long-label", "port", "zero-byte-host"],
)
def test_ask_with_invalid_address_returns_connect_error(tmp_path: Path, address: Any) -> None:
    with QmpStub(tmp_path / "s", [(None, STATUS)]):
        outcomes = ask({"bad": address, "right": tmp_path / "s"}, QueryStatus(), timeout=2)
    assert outcomes["right"].value == RUNNING
    assert isinstance(outcomes["bad"].error, ConnectError)
    assert outcomes["bad"].error.reason


def resolving_to(*hosts: str) -> Any:
    def getaddrinfo(_: str, port: int, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
            for host in hosts
        ]

    return getaddrinfo


def test_execute_tries_every_address_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to("::1", "127.0.0.2", "127.0.0.1"))
    with QmpStub(listener, [(None, CLOSE), (None, STATUS)]), Fleet({"m": ("name", port)}) as fleet:
        assert isinstance(fleet.execute(QueryStatus(), timeout=2)["m"].error, ConnectionLost)
        assert fleet.execute(QueryStatus(), timeout=2)["m"].value == RUNNING
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to("127.0.0.2", "127.0.0.3"))
    error = ask({"m": ("name", port)}, QueryStatus(), timeout=2)["m"].error
    assert isinstance(error, ConnectError)
    assert "no process listens" in error.reason


def test_fleet_resolves_host_names_in_the_constructor(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with QmpStub(listener, [(None, STATUS)]), Fleet({"m": ("localhost", listener.getsockname()[1])}) as fleet:
        monkeypatch.setattr(socket, "getaddrinfo", None)
        assert fleet.execute(QueryStatus(), timeout=2)["m"].value == RUNNING


@contextlib.contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    """Use up all file descriptors of the process but some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(fd) for fd in os.listdir("/proc/self/fd")) + 10, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(number):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_fleet_without_free_descriptors_raises_connect_error() -> None:
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        listener.bind("")  # the kernel chooses an abstract name
        listener.listen()
        address = "@" + listener.getsockname()[1:].decode()
        with descriptors_left(0), pytest.raises(ConnectError, match="fleet: Too many open files"):
            Fleet({"m": address})
        with descriptors_left(1), Fleet({"m": address}) as fleet:
            error = fleet.execute(QueryStatus(), timeout=1)["m"].error
    assert isinstance(error, ConnectError)
    assert error.reason == "Too many open files"


@pytest.mark.parametrize("depth", [980, 5000])
def test_ask_with_too_deeply_nested_reply_does_not_affect_the_others(tmp_path: Path, depth: int) -> None:
    numbers = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr", "write_threshold", "backing_file_depth")
    inserted = {"file": "f", "ro": False, "drv": "raw", "encrypted": False, "detect_zeroes": "off"}
    inserted |= {"cache": {"writeback": True, "direct": False, "no-flush": False}, **dict.fromkeys(numbers, 0)}
    device = {"device": "d", "type": "t", "removable": False, "locked": False}
    image = {"filename": "f", "format": "raw", "virtual-size": 1}
    flat = {"return": [{**device, "inserted": {**inserted, "image": image}}], "id": 2}
    opening = json.dumps(image)[:-1] + ', "backing-image": '
    innermost = json.dumps(image)
    deep = json.dumps(flat).replace(innermost, opening * depth + innermost + "}" * depth)
    with (
        QmpStub(tmp_path / "deep", [(None, deep.encode() + b"\n")]),
        QmpStub(tmp_path / "right", [(None, flat)]),
    ):
        outcomes = ask({name: tmp_path / name for name in ("deep", "right")}, QueryBlock(), timeout=5)
    assert isinstance(outcomes["deep"].error, DataError)
    assert outcomes["right"].value[0].inserted is not None


def test_outcome_repr_of_deeply_nested_value_succeeds() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert repr(Outcome(value, None)) == "Outcome(value=<list, nested too deeply to be shown>)"
    assert repr(Outcome([[1]], None)) == "Outcome(value=[[1]])"


@pytest.mark.parametrize(("place", "following"), [("receive_data", 3), ("open_exchange", 2)])
def test_execute_after_interrupt_returns_its_own_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, following: int
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    script = [(None, {"return": number}) for number in (1, 2, 3)]
    with (
        QmpStub(tmp_path / "s", script, echo_ids=False, check_on_exit=False),
        Fleet({"m": tmp_path / "s"}) as fleet,
    ):
        assert fleet.execute("x", timeout=2)["m"].value == 1
        with monkeypatch.context() as patched:
            patched.setattr(Protocol, place, interrupt)
            with pytest.raises(KeyboardInterrupt):
                fleet.execute("x", timeout=2)
        assert fleet.execute("x", timeout=2)["m"].value == following


@pytest.mark.parametrize("timeout", ["5", True, float("nan")])
def test_execute_with_timeout_that_is_not_a_number_raises_programmer_error(tmp_path: Path, timeout: Any) -> None:
    with Fleet({"m": tmp_path / "s"}) as fleet, pytest.raises(ProgrammerError, match="timeout must be a number"):
        fleet.execute(QueryStatus(), timeout=timeout)


def test_execute_of_a_non_command_raises_programmer_error(tmp_path: Path) -> None:
    with Fleet({"m": tmp_path / "s"}) as fleet, pytest.raises(ProgrammerError, match="neither a command"):
        fleet.execute(RUNNING)  # type: ignore[call-overload]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def duplicate_of_socket_to(peer: Path) -> socket.socket:
    # As a child process forked now would have it.
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # not a socket, or not connected
            found = socket.socket(fileno=number)
            try:
                if found.getpeername() == str(peer):
                    return found.dup()
            finally:
                found.detach()
    raise LookupError(peer)


def test_ask_closes_every_descriptor(tmp_path: Path) -> None:
    before = open_descriptors()
    with QmpStub(tmp_path / "mute", greeting=None):
        ask({"mute": tmp_path / "mute", "missing": tmp_path / "missing"}, QueryStatus(), timeout=0.05)
    assert open_descriptors() == before


def test_ask_with_descriptors_above_1024_succeeds(tmp_path: Path) -> None:
    """The socket has a number above 1,100, which select() cannot handle."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    try:
        with QmpStub(tmp_path / "s", [(None, STATUS)]):
            padding = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
            try:
                assert ask({"m": tmp_path / "s"}, QueryStatus())["m"].value == RUNNING
            finally:
                for fd in padding:
                    os.close(fd)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
