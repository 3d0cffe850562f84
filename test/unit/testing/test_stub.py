# SPDX-License-Identifier: BSD-2-Clause
"""`QmpStub` over raw sockets: what the client receives and what the test can check."""

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
    """A raw client that sends and receives lines of JSON."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.socket.settimeout(5)
        self._buffer = b""

    def line(self) -> bytes:
        """Return the next line, or the rest before the end of the connection."""
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


def test_stub_without_script_sends_greeting_and_negotiates(path: Path) -> None:
    with QmpStub(path) as stub, connected(path) as client:
        assert client.read() == DEFAULT_GREETING
        assert client.ask({"execute": "qmp_capabilities"}) == {"return": {}}
        assert stub.requests == [{"execute": "qmp_capabilities"}]


def test_replies_follow_script_order_and_carry_request_ids(path: Path) -> None:
    script = [(STATUS, RUNNING), (None, {"error": {"class": "GenericError", "desc": "no"}})]
    with QmpStub(path, script) as stub, connected(path) as client:
        client.read()
        assert client.ask({**STATUS, "id": 1}) == {**RUNNING, "id": 1}
        assert client.ask({"execute": "x", "id": "two"})["id"] == "two"
    assert stub.requests == [{**STATUS, "id": 1}, {"execute": "x", "id": "two"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "", "  "])
def test_request_is_accepted_with_and_without_newline(path: Path, end: str) -> None:
    with QmpStub(path, [(STATUS, RUNNING)] * 2), connected(path) as client:
        client.read()
        assert client.ask(STATUS, end=end) == RUNNING
        assert client.ask(STATUS, end=end) == RUNNING


def test_requests_are_accepted_split_and_batched(path: Path) -> None:
    wire = json.dumps({"execute": "é", "arguments": {"a": "}\n{"}}, ensure_ascii=False).encode() * 2
    with QmpStub(path, [(None, RUNNING)] * 2) as stub, connected(path) as client:
        client.read()
        for byte in wire[:-1]:
            client.socket.send(bytes([byte]))
        assert client.read() == RUNNING
        client.socket.send(wire[-1:])
        assert client.read() == RUNNING
    assert stub.requests[0] == stub.requests[1] == {"execute": "é", "arguments": {"a": "}\n{"}}


def test_expectation_with_id_matches_only_that_id(path: Path) -> None:
    with QmpStub(path, [({**STATUS, "id": 7}, RUNNING)], check_on_exit=False) as stub, connected(path) as client:
        client.read()
        assert "expects" in client.ask({**STATUS, "id": 8})["error"]["desc"]
        assert client.ask({**STATUS, "id": 7}) == {**RUNNING, "id": 7}
    assert stub.unexpected == [{**STATUS, "id": 8}]


def test_replies_have_no_id_without_echo_ids(path: Path) -> None:
    stub = QmpStub(path, [(STATUS, RUNNING)], capabilities_reply={"return": []}, echo_ids=False)
    with stub, connected(path) as client:
        client.read()
        assert client.ask({"execute": "qmp_capabilities", "id": 1}) == {"return": []}
        assert client.ask({**STATUS, "id": 2}) == RUNNING


def test_reply_list_sends_events_bytes_and_other_ids(path: Path) -> None:
    reply: list[Any] = [{"event": "STOP"}, b"garbage\n", {"return": 1, "id": "other"}, {"return": 2}]
    with QmpStub(path, [(STATUS, reply)]), connected(path) as client:
        client.read()
        assert client.ask({**STATUS, "id": 3}) == {"event": "STOP"}
        assert client.line() == b"garbage"
        assert client.read() == {"return": 1, "id": "other"}
        assert client.read() == {"return": 2, "id": 3}


def test_reply_function_receives_request(path: Path) -> None:
    script = [(None, lambda request: {"return": request["execute"]})]
    with QmpStub(path, script), connected(path) as client:
        client.read()
        assert client.ask(STATUS) == {"return": "query-status"}


def test_greeting_list_sends_event_first(path: Path) -> None:
    with QmpStub(path, greeting=[{"event": "RESUME"}, DEFAULT_GREETING]), connected(path) as client:
        assert client.read() == {"event": "RESUME"}
        assert client.read() == DEFAULT_GREETING


def test_no_greeting_and_silence_send_nothing(path: Path) -> None:
    with QmpStub(path, [(STATUS, SILENCE), (STATUS, RUNNING)], greeting=None), connected(path) as client:
        client.socket.sendall(json.dumps({**STATUS, "id": 1}).encode())
        assert client.ask({**STATUS, "id": 2}) == {**RUNNING, "id": 2}


def test_chunk_size_splits_messages_without_loss(path: Path) -> None:
    with QmpStub(path, [(STATUS, RUNNING)], chunk_size=1), connected(path) as client:
        assert client.read() == DEFAULT_GREETING
        assert client.ask(STATUS) == RUNNING


def test_delay_precedes_next_message(path: Path) -> None:
    with QmpStub(path, [(STATUS, [{"event": "STOP"}, Delay(0.1), RUNNING])], delay_s=0.1), connected(path) as client:
        client.read()
        started = time.monotonic()
        assert client.ask(STATUS) == {"event": "STOP"}
        assert time.monotonic() - started >= 0.1
        assert client.read() == RUNNING
        assert time.monotonic() - started >= 0.2


def test_wait_for_delays_reply_until_event_is_set(path: Path) -> None:
    proceed = threading.Event()
    with QmpStub(path, [(STATUS, [WaitFor(proceed), RUNNING])]) as stub, connected(path) as client:
        client.read()
        client.socket.sendall(json.dumps(STATUS).encode())
        assert stub.wait_for_requests(1) == [STATUS]
        client.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.line()
        client.socket.settimeout(5)
        proceed.set()
        assert client.read() == RUNNING


def test_close_ends_connection(path: Path) -> None:
    with QmpStub(path, [(STATUS, [RUNNING, CLOSE, {"event": "NEVER"}])]), connected(path) as client:
        client.read()
        assert client.ask(STATUS) == RUNNING
        assert client.line() == b""


def test_close_after_sends_part_of_message(path: Path) -> None:
    with QmpStub(path, [(STATUS, CloseAfter(5, RUNNING))]), connected(path) as client:
        client.read()
        client.socket.sendall(json.dumps(STATUS).encode())
        assert client.line() == b'{"ret'


def test_reconnected_client_gets_greeting_and_script_continues(path: Path) -> None:
    with QmpStub(path, [(STATUS, CLOSE), (STATUS, RUNNING)]):
        with connected(path) as client:
            client.read()
            client.socket.sendall(json.dumps(STATUS).encode())
            assert client.line() == b""
        with connected(path) as client:
            assert client.read() == DEFAULT_GREETING
            assert client.ask(STATUS) == RUNNING


def test_second_client_waits_until_first_disconnects(path: Path) -> None:
    with QmpStub(path), connected(path) as first:
        first.read()
        with connected(path) as second:
            second.socket.settimeout(0.05)
            with pytest.raises(TimeoutError):
                second.line()
            first.socket.close()
            second.socket.settimeout(5)
            assert second.read() == DEFAULT_GREETING


def test_send_delivers_event_between_requests(path: Path) -> None:
    with QmpStub(path) as stub:
        with pytest.raises(ProgrammerError):
            stub.send({"event": "STOP"})
        with connected(path) as client:
            client.read()
            stub.send({"event": "STOP"})
            assert client.read() == {"event": "STOP"}


def test_unexpected_request_gets_error_and_fails_check(path: Path) -> None:
    stub = QmpStub(path, [(STATUS, RUNNING)], check_on_exit=False)
    with stub, connected(path) as client:
        client.read()
        assert client.ask({"execute": "quit"})["error"]["class"] == "GenericError"
        assert client.ask(STATUS) == RUNNING
        assert "no more requests" in client.ask(STATUS)["error"]["desc"]
    with pytest.raises(AssertionError) as caught:
        stub.check()
    assert str(caught.value).splitlines() == [
        "unexpected: {'execute': 'quit'}",
        "unexpected: {'execute': 'query-status'}",
    ]


def test_unused_script_entry_fails_check(path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=r"unused script entry: \{'execute': 'query-status'\}"),
        QmpStub(path, [(STATUS, RUNNING)]),
    ):
        pass
    with QmpStub(path, [(STATUS, RUNNING)], check_on_exit=False):
        pass


@pytest.mark.parametrize(("line", "text"), [(b"what?\n", "what?"), (b"[1]", "[1]")])
def test_garbage_gets_error_and_fails_check(path: Path, line: bytes, text: str) -> None:
    with QmpStub(path, [(STATUS, RUNNING)], check_on_exit=False) as stub, connected(path) as client:
        client.read()
        client.socket.sendall(line)
        assert "id" not in client.read()
        assert client.ask(STATUS) == RUNNING
    assert stub.unexpected == [Garbage(text)]


def test_error_of_block_is_kept_with_notes(path: Path) -> None:
    with pytest.raises(KeyError) as caught, QmpStub(path, [(STATUS, RUNNING)]):
        raise KeyError("the test's own")
    assert caught.value.__notes__ == ["unused script entry: {'execute': 'query-status'}"]


def test_unserializable_script_raises_on_exit(path: Path) -> None:
    stub = QmpStub(path, [(STATUS, {"return": object()})])
    stub.start()
    with connected(path) as client:
        client.read()
        client.socket.sendall(json.dumps(STATUS).encode())
        assert client.line() == b""
    with pytest.raises(TypeError, match="not JSON serializable"):
        stub.stop()
    assert not path.exists()


def test_wait_for_requests_timeout_raises(path: Path) -> None:
    with QmpStub(path) as stub, pytest.raises(AssertionError, match="0 of 1 requests"):
        stub.wait_for_requests(1, timeout=0.01)


def test_start_and_stop_work_without_block(path: Path) -> None:
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
def test_stop_interrupts_pending_action(path: Path, busy_with: Any) -> None:
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


def test_stub_serves_connected_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, QmpStub(theirs, [(STATUS, RUNNING)]):
        client = Client(ours)
        assert client.read() == DEFAULT_GREETING
        assert client.ask(STATUS) == RUNNING


def test_stub_serves_listening_socket(path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    with QmpStub(listener, [(STATUS, RUNNING)]), connected(path) as client:
        client.read()
        assert client.ask(STATUS) == RUNNING
    assert listener.fileno() == -1


def test_example_of_module_docstring_runs(path: Path) -> None:
    script: list[Any] = [
        ({"execute": "query-status"}, {"return": {"status": "running", "running": True, "singlestep": False}}),
        ({"execute": "quit"}, [{"event": "SHUTDOWN", "data": {"guest": False}}, {"return": {}}, CLOSE]),
    ]
    with QmpStub(path, script), QmpConnection(path) as connection:
        assert connection.execute("query-status")["running"]
        connection.execute("quit")


def test_start_on_path_in_use_raises(path: Path) -> None:
    with QmpStub(path):
        with pytest.raises(OSError, match="in use"):
            QmpStub(path).start()
        assert path.exists()
