# SPDX-License-Identifier: BSD-2-Clause
"""A scripted QMP monitor for unit tests of QMP clients.

A test lists the expected requests and their replies; `QmpStub` serves them on a unix socket from a thread::

    script = [
        ({"execute": "query-status"}, {"return": {"status": "running", "running": True, "singlestep": False}}),
        ({"execute": "quit"}, [{"event": "SHUTDOWN", "data": {"guest": False}}, {"return": {}}, CLOSE]),
    ]
    with QmpStub(tmp_path / "qmp.sock", script), QmpConnection(tmp_path / "qmp.sock") as connection:
        assert connection.execute("query-status")["running"]
        connection.execute("quit")

At the end of the block an AssertionError reports unexpected requests and unused script entries. The methods `start`,
`stop` and `check` do the same without a block, for example in `setUp` and `tearDown`.
"""

import contextlib
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import attrs

from hvkit.errors import ProgrammerError
from hvkit.testing.framing import Garbage, RequestReader, encode

__all__ = ["CLOSE", "DEFAULT_GREETING", "SILENCE", "Close", "CloseAfter", "Delay", "QmpStub", "WaitFor"]

_RECEIVE_SIZE: Final = 65536
_JOIN_TIMEOUT_S: Final = 5.0

#: The greeting of QEMU 7.2.
DEFAULT_GREETING: Final[Mapping[str, Any]] = {
    "QMP": {
        "version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": "hvkit stub"},
        "capabilities": ["oob"],
    }
}
_SUCCESS: Final[Mapping[str, Any]] = {"return": {}}

#: A dict is sent as one line of JSON; bytes are sent unchanged.
Message: TypeAlias = Mapping[str, Any] | bytes


@attrs.frozen
class Delay:
    """Wait before the next message or action.

    Attributes:
        seconds: the delay.
    """

    seconds: float


@attrs.frozen
class WaitFor:
    """Wait until the test sets an event, before the next message or action.

    Attributes:
        event: the event.
    """

    event: threading.Event


@attrs.frozen
class Close:
    """Close the connection. The rest of the reply is not sent."""


@attrs.frozen
class CloseAfter:
    """Send the first bytes of a message and close the connection.

    Attributes:
        length: the number of bytes to send.
        message: the message. A reply gets the id of its request.
    """

    length: int
    message: Message


Action: TypeAlias = Delay | WaitFor | Close | CloseAfter
#: One message or action, or several in order.
Reply: TypeAlias = Message | Action | Sequence[Message | Action]
#: The expected request (a mapping, or None for any request), and the `Reply` or a function from the request to it.
#: Typed as Any, because type checkers infer a list of objects for a script that is a variable.
ScriptEntry: TypeAlias = tuple[Any, Any]

#: Close the connection.
CLOSE: Final = Close()
#: Send no reply.
SILENCE: Final[Reply] = ()


class _ConnectionOver(Exception):
    """Raised when the script, the client or `QmpStub.stop` closes the connection."""


class QmpStub:
    """A scripted QMP monitor on a unix socket.

    Like QEMU, it serves one client at a time. A second client gets its greeting after the first one disconnects, and
    the script continues at the same entry. Requests may end with a newline or not.

    An unexpected request is answered with an error and does not consume its script entry.

    Attributes:
        requests: all requests of all clients, including `qmp_capabilities`, oldest first.
        unexpected: the unexpected requests, oldest first; `Garbage` for input that is not a request.
    """

    def __init__(
        self,
        socket_path: str | Path | socket.socket,
        script: Sequence[ScriptEntry] = (),
        *,
        greeting: Reply | None = DEFAULT_GREETING,
        capabilities_reply: Reply | None = _SUCCESS,
        chunk_size: int | None = None,
        delay_s: float = 0.0,
        echo_ids: bool = True,
        check_on_exit: bool = True,
    ) -> None:
        """Create a stub. It listens after `start`.

        Args:
            socket_path: the path to listen on. Alternatively a listening or connected socket; the stub closes it.
            script: the expected requests in order, with their replies. The id of a request is ignored unless the
                expectation has one. A reply without an id gets the id of its request.
            greeting: the greeting for every client, optionally with events before or after it; None for none.
            capabilities_reply: the reply to `qmp_capabilities`, which then is not part of the script; None if the
                script contains it.
            chunk_size: send messages in pieces of this many bytes; None for whole messages.
            delay_s: delay of every reply, in seconds.
            echo_ids: False to omit the ids in replies, as very old servers do.
            check_on_exit: call `check` at the end of the `with` block.
        """
        self.requests: list[dict[str, Any]] = []
        self.unexpected: list[dict[str, Any] | Garbage] = []
        self._address = socket_path
        self._script = list(script)
        self._position = 0
        self._greeting = greeting
        self._capabilities_reply = capabilities_reply
        self._chunk_size = chunk_size
        self._delay_s = delay_s
        self._echo_ids = echo_ids
        self._check_on_exit = check_on_exit
        self._changed = threading.Condition()  # guards requests, unexpected, _position
        self._ending = threading.Lock()  # guards _client against stop()
        self._sending = threading.Lock()  # keeps messages of several threads whole
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._client: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Listen and serve. Clients can connect when this returns.

        Raises:
            OSError: the socket cannot be created.
            ProgrammerError: the stub was started before.
        """
        if self._thread is not None:
            raise ProgrammerError("QmpStub: start() was called twice")
        if not isinstance(self._address, socket.socket):
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._listener.bind(str(self._address))
                self._listener.listen(1)  # as QEMU does: two clients can wait, a third is refused
            except OSError:
                self._listener.close()
                raise
        elif self._address.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            self._listener = self._address
        else:
            self._client = self._address
        self._thread = threading.Thread(target=self._run, name="QmpStub", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close all sockets and end the thread. Does nothing if the stub is not running.

        Raises:
            Exception: the exception that ended the thread, for example for a reply that cannot be encoded.
        """
        failure = self._end()
        if failure is not None:
            raise failure

    def _end(self) -> BaseException | None:
        """Close all sockets, end the thread, and return its exception. The second call returns None."""
        if self._thread is None:
            return None
        with self._ending:
            self._stopping.set()
            for each in (self._client, self._listener):
                if each is not None:
                    with contextlib.suppress(OSError):  # the client may have disconnected
                        each.shutdown(socket.SHUT_RDWR)  # wakes the thread from accept, recv and send
        self._thread.join(_JOIN_TIMEOUT_S)
        if self._thread.is_alive():
            return ProgrammerError("QmpStub: a function in the script does not return")
        failure, self._failure = self._failure, None
        return failure

    def check(self) -> None:
        """Check that all requests were expected and that the script was used up.

        Raises:
            AssertionError: lists the unexpected requests and the unused script entries.
        """
        problems = self._problems()
        if problems:
            raise AssertionError("\n".join(problems))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
            if self._check_on_exit:
                self.check()
            return
        failure = self._end()  # keep the test's error; a note may explain it
        if failure is not None:
            error.add_note(f"QmpStub failed: {failure!r}")
        for problem in self._problems():
            error.add_note(problem)

    def send(self, message: Message) -> None:
        """Send a message, usually an event, to the connected client.

        Raises:
            ProgrammerError: no client is connected.
        """
        with self._ending:
            client = self._client
        if client is None:
            raise ProgrammerError("QmpStub: cannot send: no client is connected")
        with contextlib.suppress(_ConnectionOver):  # as with QEMU, a disconnected client misses the event
            self._transmit(client, message if isinstance(message, bytes) else encode(message))

    def wait_for_requests(self, count: int, timeout: float = 5.0) -> list[dict[str, Any]]:
        """Wait until this many requests have arrived, and return all of them.

        Args:
            count: the number of requests, including `qmp_capabilities`.
            timeout: the maximum wait in seconds.

        Raises:
            AssertionError: fewer requests arrived before the timeout.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, timeout):
                raise AssertionError(f"{len(self.requests)} of {count} requests within {timeout:g} s: {self.requests}")
            return list(self.requests)

    def _problems(self) -> list[str]:
        with self._changed:
            problems = [f"unexpected: {request}" for request in self.unexpected]
            return problems + [f"unused script entry: {expected}" for expected, _ in self._script[self._position :]]

    def _run(self) -> None:
        try:
            if self._listener is None:
                self._serve_client()
            while self._listener is not None and self._accept(self._listener):
                self._serve_client()
        except BaseException as error:  # noqa: BLE001 - stop() raises it where the test sees it
            self._failure = error
        finally:
            if self._listener is not None:
                self._listener.close()
                if not isinstance(self._address, socket.socket):
                    Path(self._address).unlink(missing_ok=True)

    def _accept(self, listener: socket.socket) -> bool:
        """Wait for the next client. Return False if the stub was stopped."""
        try:
            client, _ = listener.accept()
        except OSError:
            if self._stopping.is_set():
                return False
            raise
        with self._ending:
            if self._stopping.is_set():
                client.close()
                return False
            self._client = client
        return True

    def _serve_client(self) -> None:
        assert self._client is not None
        client = self._client
        reader = RequestReader()
        try:
            if self._greeting is not None:
                self._play(client, self._greeting, {})
            while data := _receive(client):
                for request in reader.feed(data):
                    self._answer(client, request)
        except _ConnectionOver:
            pass
        finally:
            with self._ending:
                self._client = None
            client.close()

    def _answer(self, client: socket.socket, request: dict[str, Any] | Garbage) -> None:
        reply = self._next_reply(request)
        self._pause(self._delay_s)
        self._play(client, reply, request if isinstance(request, dict) else {})

    def _next_reply(self, request: dict[str, Any] | Garbage) -> Reply:
        """Record a request and return its reply."""
        with self._changed:
            if isinstance(request, Garbage):
                self.unexpected.append(request)
                return _error_reply(f"JSON parse error in {request.text!r}")
            self.requests.append(request)
            self._changed.notify_all()
            if request.get("execute") == "qmp_capabilities" and self._capabilities_reply is not None:
                return self._capabilities_reply
            if self._position == len(self._script):
                self.unexpected.append(request)
                return _error_reply(f"the script has no more requests, got {request}")
            expected, reply = self._script[self._position]
            if not _matches(expected, request):
                self.unexpected.append(request)
                return _error_reply(f"the script expects {expected}, got {request}")
            self._position += 1
        made: Reply = reply(request) if callable(reply) else reply
        return made

    def _play(self, client: socket.socket, reply: Reply, request: dict[str, Any]) -> None:
        for step in reply if isinstance(reply, Sequence) and not isinstance(reply, bytes) else [reply]:
            if isinstance(step, Delay):
                self._pause(step.seconds)
            elif isinstance(step, WaitFor):
                while not step.event.wait(0.02):  # polls, because stop() must not set the test's event
                    self._pause(0)
            elif isinstance(step, Close):
                raise _ConnectionOver
            elif isinstance(step, CloseAfter):
                self._transmit(client, self._complete(step.message, request)[: step.length])
                raise _ConnectionOver
            else:
                self._transmit(client, self._complete(step, request))

    def _complete(self, message: Message, request: dict[str, Any]) -> bytes:
        """Encode a message; a reply gets the id of its request."""
        if isinstance(message, bytes):
            return message
        if self._echo_ids and "id" in request and ("return" in message or "error" in message):
            message = {"id": request["id"], **message}
        return encode(message)

    def _pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds) if seconds else self._stopping.is_set():
            raise _ConnectionOver

    def _transmit(self, client: socket.socket, data: bytes) -> None:
        size = self._chunk_size or max(len(data), 1)
        try:
            with self._sending:
                for start in range(0, len(data), size):
                    client.sendall(data[start : start + size])
        except OSError:
            raise _ConnectionOver from None


def _receive(client: socket.socket) -> bytes:
    """Return received bytes; empty at the end of the connection."""
    try:
        return client.recv(_RECEIVE_SIZE)
    except OSError:  # reset by the client, or shut down by stop()
        return b""


def _matches(expected: Mapping[str, Any] | None, request: dict[str, Any]) -> bool:
    if expected is None:
        return True
    if "id" not in expected:
        request = {key: value for key, value in request.items() if key != "id"}
    return expected == request


def _error_reply(description: str) -> dict[str, Any]:
    return {"error": {"class": "GenericError", "desc": f"QmpStub: {description}"}}
