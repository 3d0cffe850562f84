# SPDX-License-Identifier: BSD-2-Clause
"""A monitor that plays a script, for unit tests of whatever talks QMP.

A test says what will be asked and what is answered; `QmpStub` serves that on a unix socket from a thread::

    script = [
        ({"execute": "query-status"}, {"return": {"status": "running", "running": True, "singlestep": False}}),
        ({"execute": "quit"}, [{"event": "SHUTDOWN", "data": {"guest": False}}, {"return": {}}, CLOSE]),
    ]
    with QmpStub(tmp_path / "qmp.sock", script), QmpConnection(tmp_path / "qmp.sock") as connection:
        assert connection.execute("query-status")["running"]
        connection.execute("quit")

Leaving the block raises AssertionError when a request was not the one expected, or was never made. Where a block does
not fit, in `setUp` and `tearDown`, there are `start`, `stop` and `check`.
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

#: What QEMU 7.2 says to a client it has time for.
DEFAULT_GREETING: Final[Mapping[str, Any]] = {
    "QMP": {
        "version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": "hvkit stub"},
        "capabilities": ["oob"],
    }
}
_SUCCESS: Final[Mapping[str, Any]] = {"return": {}}

#: A dict is sent as JSON on a line of its own, bytes as they are.
Message: TypeAlias = Mapping[str, Any] | bytes


@attrs.frozen
class Delay:
    """Wait before what follows.

    Attributes:
        seconds: for how long.
    """

    seconds: float


@attrs.frozen
class WaitFor:
    """Wait, before what follows, until the test sets an event.

    Attributes:
        event: the test's.
    """

    event: threading.Event


@attrs.frozen
class Close:
    """Close the connection; what follows is not sent."""


@attrs.frozen
class CloseAfter:
    """Send the beginning of a message and close the connection.

    Attributes:
        length: how many bytes of it are sent.
        message: the message; it gets the request's id like any other reply.
    """

    length: int
    message: Message


Action: TypeAlias = Delay | WaitFor | Close | CloseAfter
#: One message or action, or several in order.
Reply: TypeAlias = Message | Action | Sequence[Message | Action]
#: What is expected, a mapping or None for anything; and the `Reply`, or what makes it from the request. Not said to
#: type checkers: of a script in a variable of its own they infer a list of objects, and would refuse that.
ScriptEntry: TypeAlias = tuple[Any, Any]

#: Close the connection.
CLOSE: Final = Close()
#: The reply that never comes.
SILENCE: Final[Reply] = ()


class _ConnectionOver(Exception):
    """End the service of one client: the script, the client itself or `QmpStub.stop` closed the connection."""


class QmpStub:
    """A scripted monitor on a unix socket.

    Like QEMU it serves one client at a time; the next one waits unanswered until the first leaves, is greeted then,
    and the script goes on where it was. Requests may end in a newline or not.

    A request that is not as expected is answered with an error and does not use up its entry of the script.

    Attributes:
        requests: everything that clients asked, `qmp_capabilities` included, oldest first.
        unexpected: what was not as expected, oldest first; a `Garbage` for a line that is no request at all.
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
        """Prepare a stub; nothing listens before `start`.

        Args:
            socket_path: where to listen. Or a socket, listening or one end of a connection: it is the stub's own from
                now on.
            script: what is expected, in order, and what is answered. An expectation is compared without the request's
                id, unless it has an id itself. Replies without an id get the request's.
            greeting: said to every client at once, events before or after it included; None for no word.
            capabilities_reply: the answer to `qmp_capabilities`, which the script need not mention; None where the
                script does.
            chunk_size: send in pieces of this many bytes; None for whole messages.
            delay_s: how long every reply takes, in seconds.
            echo_ids: False to leave the ids out of replies, as very old servers do.
            check_on_exit: whether leaving the `with` block checks what `check` does.
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

    # ---- for the test

    def start(self) -> None:
        """Listen and serve; a client can connect when this returns.

        Raises:
            OSError: the socket cannot be made.
            ProgrammerError: the stub was started before.
        """
        if self._thread is not None:
            raise ProgrammerError("a QmpStub starts once")
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
        """Close everything and end the thread; a stub that is not running stays so.

        Raises:
            Exception: whatever went wrong inside the thread, such as a script that cannot be sent.
        """
        failure = self._end()
        if failure is not None:
            raise failure

    def _end(self) -> BaseException | None:
        """Do what `stop` does, and return what it raises; once only."""
        if self._thread is None:
            return None
        with self._ending:
            self._stopping.set()
            for each in (self._client, self._listener):
                if each is not None:
                    with contextlib.suppress(OSError):  # the client may be gone already
                        each.shutdown(socket.SHUT_RDWR)  # wakes the thread out of accept, recv and send
        self._thread.join(_JOIN_TIMEOUT_S)
        if self._thread.is_alive():
            return ProgrammerError("the script of a QmpStub called something that does not return")
        failure, self._failure = self._failure, None
        return failure

    def check(self) -> None:
        """Compare what was asked with the script.

        Raises:
            AssertionError: naming the requests that were not as expected, and the entries that nobody asked for.
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
        failure = self._end()  # the test's own error comes first; what is wrong here may explain it
        if failure is not None:
            error.add_note(f"QmpStub failed: {failure!r}")
        for problem in self._problems():
            error.add_note(problem)

    def send(self, message: Message) -> None:
        """Send a message to the client now, usually an event.

        Raises:
            ProgrammerError: no client is connected.
        """
        with self._ending:
            client = self._client
        if client is None:
            raise ProgrammerError("no client is connected to this QmpStub")
        with contextlib.suppress(_ConnectionOver):  # as with QEMU, a client that leaves misses the event
            self._transmit(client, message if isinstance(message, bytes) else encode(message))

    def wait_for_requests(self, count: int, timeout: float = 5.0) -> list[dict[str, Any]]:
        """Wait until clients asked this many things, and return them.

        Args:
            count: how many, `qmp_capabilities` included.
            timeout: how long to wait at most, in seconds.

        Raises:
            AssertionError: it did not come to that.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, timeout):
                raise AssertionError(f"{len(self.requests)} of {count} requests within {timeout:g} s: {self.requests}")
            return list(self.requests)

    def _problems(self) -> list[str]:
        with self._changed:
            problems = [f"unexpected: {request}" for request in self.unexpected]
            return problems + [f"never asked for: {expected}" for expected, _ in self._script[self._position :]]

    # ---- the thread

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
        """Wait for the next client; say whether there is one."""
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
        """Note a request and find what the script answers."""
        with self._changed:
            if isinstance(request, Garbage):
                self.unexpected.append(request)
                return _refusal(f"JSON parse error in {request.text!r}")
            self.requests.append(request)
            self._changed.notify_all()
            if request.get("execute") == "qmp_capabilities" and self._capabilities_reply is not None:
                return self._capabilities_reply
            if self._position == len(self._script):
                self.unexpected.append(request)
                return _refusal(f"the script is over and does not expect {request}")
            expected, reply = self._script[self._position]
            if not _matches(expected, request):
                self.unexpected.append(request)
                return _refusal(f"the script expects {expected}, not {request}")
            self._position += 1
        made: Reply = reply(request) if callable(reply) else reply
        return made

    def _play(self, client: socket.socket, reply: Reply, request: dict[str, Any]) -> None:
        for step in reply if isinstance(reply, Sequence) and not isinstance(reply, bytes) else [reply]:
            if isinstance(step, Delay):
                self._pause(step.seconds)
            elif isinstance(step, WaitFor):
                while not step.event.wait(0.02):  # the event is the test's; stop() cannot set it
                    self._pause(0)
            elif isinstance(step, Close):
                raise _ConnectionOver
            elif isinstance(step, CloseAfter):
                self._transmit(client, self._complete(step.message, request)[: step.length])
                raise _ConnectionOver
            else:
                self._transmit(client, self._complete(step, request))

    def _complete(self, message: Message, request: dict[str, Any]) -> bytes:
        """Return a message as bytes, a reply with the id of its request."""
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
    """Return what came, nothing at the end of the connection."""
    try:
        return client.recv(_RECEIVE_SIZE)
    except OSError:  # reset by a client that left without reading, or shut down by stop()
        return b""


def _matches(expected: Mapping[str, Any] | None, request: dict[str, Any]) -> bool:
    if expected is None:
        return True
    if "id" not in expected:
        request = {key: value for key, value in request.items() if key != "id"}
    return expected == request


def _refusal(description: str) -> dict[str, Any]:
    return {"error": {"class": "GenericError", "desc": f"QmpStub: {description}"}}
