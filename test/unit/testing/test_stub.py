# SPDX-License-Identifier: BSD-2-Clause
"""QmpStub over raw sockets: what a client sees, and what the test is told."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import QmpConnection
from hvkit.testing import CLOSE, DEFAULT_GREETING, SILENCE, CloseAfter, Delay, QmpStub, WaitFor
from hvkit.testing.framing import Garbage

STATUS = {"execute": "query-status"}
RUNNING = {"return": {"status": "running"}}


class Client:
    """A client without any manners: lines of JSON and nothing else."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.socket.settimeout(5)
        self._buffer = b""

    def line(self) -> bytes:
        """Return the next line, or what there is before the end of the connection."""
        while b"\n" not in self._buffer:
            data = self.socket.recv(4096)
            if not data:
                rest, self._buffer = self._buffer, b""
                return rest
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def read(self) -> Any:
        return json.loads(self.line())

    def ask(self, request: dict[str, Any], end: str = "\n") -> Any:
        self.socket.sendall((json.dumps(request) + end).encode())
        return self.read()


@contextlib.contextmanager
def connected(path: Path) -> Iterator[Client]:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(5)
        raw.connect(str(path))
        yield Client(raw)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "qmp.sock"


def test_greets_and_answers_capabilities_by_itself(path: Path) -> None:
    with QmpStub(path) as stub, connected(path) as client:
        assert client.read() == DEFAULT_GREETING
        assert client.ask({"execute": "qmp_capabilities"}) == {"return": {}}
        assert stub.requests == [{"execute": "qmp_capabilities"}]


def test_plays_the_script_in_order_with_the_ids_of_the_requests(path: Path) -> None:
    script = [(STATUS, RUNNING), (None, {"error": {"class": "GenericError", "desc": "no"}})]
    with QmpStub(path, script) as stub, connected(path) as client:
        client.read()
        assert client.ask({**STATUS, "id": 1}) == {**RUNNING, "id": 1}
        assert client.ask({"execute": "x", "id": "two"})["id"] == "two"
    assert stub.requests == [{**STATUS, "id": 1}, {"execute": "x", "id": "two"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "", "  "])
def test_takes_requests_with_or_without_a_newline(path: Path, end: str) -> None:
    with QmpStub(path, [(STATUS, RUNNING)] * 2), connected(path) as client:
        client.read()
        assert client.ask(STATUS, end=end) == RUNNING
        assert client.ask(STATUS, end=end) == RUNNING


def test_takes_a_request_in_pieces_and_several_at_once(path: Path) -> None:
    wire = json.dumps({"execute": "é", "arguments": {"a": "}\n{"}}, ensure_ascii=False).encode() * 2
    with QmpStub(path, [(None, RUNNING)] * 2) as stub, connected(path) as client:
        client.read()
        for byte in wire[:-1]:
            client.socket.send(bytes([byte]))
        assert client.read() == RUNNING
        client.socket.send(wire[-1:])
        assert client.read() == RUNNING
    assert stub.requests[0] == stub.requests[1] == {"execute": "é", "arguments": {"a": "}\n{"}}


def test_an_expectation_with_an_id_wants_that_id(path: Path) -> None:
    with QmpStub(path, [({**STATUS, "id": 7}, RUNNING)], check_on_exit=False) as stub, connected(path) as client:
        client.read()
        assert "expects" in client.ask({**STATUS, "id": 8})["error"]["desc"]
        assert client.ask({**STATUS, "id": 7}) == {**RUNNING, "id": 7}
    assert stub.unexpected == [{**STATUS, "id": 8}]


def test_old_servers_do_not_echo_ids(path: Path) -> None:
    stub = QmpStub(path, [(STATUS, RUNNING)], capabilities_reply={"return": []}, echo_ids=False)
    with stub, connected(path) as client:
        client.read()
        assert client.ask({"execute": "qmp_capabilities", "id": 1}) == {"return": []}
        assert client.ask({**STATUS, "id": 2}) == RUNNING


def test_lists_may_hold_events_garbage_and_replies_to_anybody(path: Path) -> None:
    reply: list[Any] = [{"event": "STOP"}, b"garbage\n", {"return": 1, "id": "other"}, {"return": 2}]
    with QmpStub(path, [(STATUS, reply)]), connected(path) as client:
        client.read()
        assert client.ask({**STATUS, "id": 3}) == {"event": "STOP"}
        assert client.line() == b"garbage"
        assert client.read() == {"return": 1, "id": "other"}
        assert client.read() == {"return": 2, "id": 3}


def test_a_reply_can_be_made_from_the_request(path: Path) -> None:
    script = [(None, lambda request: {"return": request["execute"]})]
    with QmpStub(path, script), connected(path) as client:
        client.read()
        assert client.ask(STATUS) == {"return": "query-status"}


def test_events_before_the_greeting(path: Path) -> None:
    with QmpStub(path, greeting=[{"event": "RESUME"}, DEFAULT_GREETING]), connected(path) as client:
        assert client.read() == {"event": "RESUME"}
        assert client.read() == DEFAULT_GREETING


def test_no_greeting_and_silence_say_nothing(path: Path) -> None:
    with QmpStub(path, [(STATUS, SILENCE), (STATUS, RUNNING)], greeting=None), connected(path) as client:
        client.socket.sendall(json.dumps({**STATUS, "id": 1}).encode())
        assert client.ask({**STATUS, "id": 2}) == {**RUNNING, "id": 2}


def test_chunks_arrive_one_by_one_and_whole(path: Path) -> None:
    with QmpStub(path, [(STATUS, RUNNING)], chunk_size=1), connected(path) as client:
        assert client.read() == DEFAULT_GREETING
        assert client.ask(STATUS) == RUNNING


def test_delays_come_before_what_follows(path: Path) -> None:
    with QmpStub(path, [(STATUS, [{"event": "STOP"}, Delay(0.1), RUNNING])], delay_s=0.1), connected(path) as client:
        client.read()
        started = time.monotonic()
        assert client.ask(STATUS) == {"event": "STOP"}
        assert time.monotonic() - started >= 0.1
        assert client.read() == RUNNING
        assert time.monotonic() - started >= 0.2


def test_a_reply_can_wait_for_the_test(path: Path) -> None:
    go_on = threading.Event()
    with QmpStub(path, [(STATUS, [WaitFor(go_on), RUNNING])]) as stub, connected(path) as client:
        client.read()
        client.socket.sendall(json.dumps(STATUS).encode())
        assert stub.wait_for_requests(1) == [STATUS]
        client.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.line()
        client.socket.settimeout(5)
        go_on.set()
        assert client.read() == RUNNING


def test_closes_when_told(path: Path) -> None:
    with QmpStub(path, [(STATUS, [RUNNING, CLOSE, {"event": "NEVER"}])]), connected(path) as client:
        client.read()
        assert client.ask(STATUS) == RUNNING
        assert client.line() == b""


def test_closes_in_the_middle_of_a_message(path: Path) -> None:
    with QmpStub(path, [(STATUS, CloseAfter(5, RUNNING))]), connected(path) as client:
        client.read()
        client.socket.sendall(json.dumps(STATUS).encode())
        assert client.line() == b'{"ret'


def test_reconnects_are_greeted_again_and_the_script_goes_on(path: Path) -> None:
    with QmpStub(path, [(STATUS, CLOSE), (STATUS, RUNNING)]):
        with connected(path) as client:
            client.read()
            client.socket.sendall(json.dumps(STATUS).encode())
            assert client.line() == b""
        with connected(path) as client:
            assert client.read() == DEFAULT_GREETING
            assert client.ask(STATUS) == RUNNING


def test_the_second_client_waits_for_the_first_to_leave(path: Path) -> None:
    with QmpStub(path), connected(path) as first:
        first.read()
        with connected(path) as second:
            second.socket.settimeout(0.05)
            with pytest.raises(TimeoutError):
                second.line()
            first.socket.close()
            second.socket.settimeout(5)
            assert second.read() == DEFAULT_GREETING


def test_events_can_be_sent_at_any_time(path: Path) -> None:
    with QmpStub(path) as stub:
        with pytest.raises(ProgrammerError):
            stub.send({"event": "STOP"})
        with connected(path) as client:
            client.read()
            stub.send({"event": "STOP"})
            assert client.read() == {"event": "STOP"}


def test_what_is_not_expected_is_refused_and_named(path: Path) -> None:
    stub = QmpStub(path, [(STATUS, RUNNING)], check_on_exit=False)
    with stub, connected(path) as client:
        client.read()
        assert client.ask({"execute": "quit"})["error"]["class"] == "GenericError"
        assert client.ask(STATUS) == RUNNING
        assert "over" in client.ask(STATUS)["error"]["desc"]
    with pytest.raises(AssertionError) as caught:
        stub.check()
    assert str(caught.value).splitlines() == [
        "unexpected: {'execute': 'quit'}",
        "unexpected: {'execute': 'query-status'}",
    ]


def test_what_was_never_asked_for_is_named(path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=r"never asked for: \{'execute': 'query-status'\}"),
        QmpStub(path, [(STATUS, RUNNING)]),
    ):
        pass
    with QmpStub(path, [(STATUS, RUNNING)], check_on_exit=False):
        pass


@pytest.mark.parametrize(("line", "text"), [(b"what?\n", "what?"), (b"[1]", "[1]")])
def test_what_is_no_request_is_refused_and_named(path: Path, line: bytes, text: str) -> None:
    with QmpStub(path, [(STATUS, RUNNING)], check_on_exit=False) as stub, connected(path) as client:
        client.read()
        client.socket.sendall(line)
        assert "id" not in client.read()
        assert client.ask(STATUS) == RUNNING
    assert stub.unexpected == [Garbage(text)]


def test_the_error_of_the_block_is_kept_and_explained(path: Path) -> None:
    with pytest.raises(KeyError) as caught, QmpStub(path, [(STATUS, RUNNING)]):
        raise KeyError("the test's own")
    assert caught.value.__notes__ == ["never asked for: {'execute': 'query-status'}"]


def test_a_script_that_cannot_be_sent_fails_the_test(path: Path) -> None:
    stub = QmpStub(path, [(STATUS, {"return": object()})])
    stub.start()
    with connected(path) as client:
        client.read()
        client.socket.sendall(json.dumps(STATUS).encode())
        assert client.line() == b""
    with pytest.raises(TypeError, match="not JSON serializable"):
        stub.stop()
    assert not path.exists()


def test_wait_for_requests_gives_up(path: Path) -> None:
    with QmpStub(path) as stub, pytest.raises(AssertionError, match="0 of 1 requests"):
        stub.wait_for_requests(1, timeout=0.01)


def test_start_and_stop_without_a_block(path: Path) -> None:
    stub = QmpStub(path)
    stub.stop()
    stub.start()
    assert path.exists()
    stub.stop()
    stub.stop()
    assert not path.exists()
    stub.check()
    with pytest.raises(ProgrammerError):
        stub.start()


@pytest.mark.parametrize(
    "busy_with",
    [Delay(3600), WaitFor(threading.Event()), {"return": "x" * 10_000_000}, SILENCE],
    ids=["delay", "event", "a client that does not read", "silence"],
)
def test_stop_interrupts_whatever_goes_on(path: Path, busy_with: Any) -> None:
    stub = QmpStub(path, [(STATUS, busy_with)])
    stub.start()
    with connected(path) as client:
        client.read()
        client.socket.sendall(json.dumps(STATUS).encode())
        stub.wait_for_requests(1)
        started = time.monotonic()
        stub.stop()
        assert time.monotonic() - started < 2
    assert not path.exists()


def test_serves_a_socketpair() -> None:
    ours, theirs = socket.socketpair()
    with ours, QmpStub(theirs, [(STATUS, RUNNING)]):
        client = Client(ours)
        assert client.read() == DEFAULT_GREETING
        assert client.ask(STATUS) == RUNNING


def test_serves_a_listening_socket(path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    with QmpStub(listener, [(STATUS, RUNNING)]), connected(path) as client:
        client.read()
        assert client.ask(STATUS) == RUNNING
    assert listener.fileno() == -1


def test_the_example_of_its_documentation_works(path: Path) -> None:
    script: list[Any] = [
        ({"execute": "query-status"}, {"return": {"status": "running", "running": True, "singlestep": False}}),
        ({"execute": "quit"}, [{"event": "SHUTDOWN", "data": {"guest": False}}, {"return": {}}, CLOSE]),
    ]
    with QmpStub(path, script), QmpConnection(path) as connection:
        assert connection.execute("query-status")["running"]
        connection.execute("quit")


def test_a_path_in_use_is_refused_to_the_caller(path: Path) -> None:
    with QmpStub(path):
        with pytest.raises(OSError, match="in use"):
            QmpStub(path).start()
        assert path.exists()
