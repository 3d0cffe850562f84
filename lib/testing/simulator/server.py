# SPDX-License-Identifier: BSD-2-Clause
"""The sockets, the signals and the clock of a simulated QEMU: the only part of it that waits."""

import contextlib
import os
import selectors
import signal
import socket
import time
from pathlib import Path
from typing import Any, Final, Protocol

from hvkit.testing.simulator.commands import commands
from hvkit.testing.simulator.knobs import Behavior
from hvkit.testing.simulator.machine import Machine
from hvkit.testing.simulator.monitor import Outcome, Session, encode_event
from hvkit.testing.simulator.options import Chardev, OptionError

_RECEIVE_SIZE: Final = 65536
_FLUSH_TIMEOUT_S: Final = 1.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Link(Protocol):
    """A client's bytes, on whatever they travel."""

    def fileno(self) -> int: ...
    def receive(self) -> bytes: ...
    def send(self, data: bytearray) -> int: ...
    def close(self) -> None: ...


class SocketLink:
    """A client on a socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        connected.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> bytes:
        return self._socket.recv(_RECEIVE_SIZE)

    def send(self, data: bytearray) -> int:
        return self._socket.send(data)

    def close(self) -> None:
        self._socket.close()


class StandardLink:
    """The client at the other end of standard input and output."""

    def fileno(self) -> int:
        return 0

    def receive(self) -> bytes:
        return os.read(0, _RECEIVE_SIZE)

    def send(self, data: bytearray) -> int:
        return os.write(1, data)

    def close(self) -> None:
        """Leave both open: they are not ours."""


def listen(chardev: Chardev) -> socket.socket:
    """Listen where a chardev says.

    Raises:
        OptionError: that cannot be done, in QEMU's words.
    """
    if chardev.fd is not None:
        try:
            return socket.socket(fileno=chardev.fd)
        except OSError:
            raise OptionError(f"{chardev.option}: File descriptor '{chardev.fd}' is not a socket") from None
    listener = socket.socket(socket.AF_UNIX)
    try:
        Path(chardev.path).unlink(missing_ok=True)  # QEMU takes over what a killed one left behind
        listener.bind(chardev.path)
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise OptionError(f"{chardev.option}: Failed to bind socket to {chardev.path}: {error.strerror}") from None
    return listener


class Port:
    """A chardev: a monitor, or a serial line on which nobody ever says anything.

    Attributes:
        listener: where clients come from, one at a time; None for a client that is there from the beginning.
        session: the conversation with the client; None without one, and on a serial line.
        link: the client; None without one.
    """

    def __init__(self, chardev: Chardev, *, is_monitor: bool) -> None:
        self.chardev = chardev
        self.is_monitor = is_monitor
        self.listener = listen(chardev) if chardev.backend == "socket" else None
        self.session: Session | None = None
        self.link: Link | None = None

    def close(self) -> None:
        """Close everything, and remove the socket's file, as QEMU does when it ends by itself."""
        if self.link is not None:
            self.link.close()
        if self.listener is not None:
            self.listener.close()
            if self.chardev.path:
                Path(self.chardev.path).unlink(missing_ok=True)


class Server:
    """Runs a machine until it ends."""

    def __init__(self, machine: Machine, knobs: Behavior, ports: list[Port], program: str) -> None:
        self._machine = machine
        self._knobs = knobs
        self._ports = ports
        self._program = program
        self._selector = selectors.DefaultSelector()
        self._is_hung = False

    def run(self) -> int:
        """Serve until the machine ends; return the process's exit status."""
        wake_reader, wake_writer = socket.socketpair()
        with wake_reader, wake_writer:
            wake_writer.setblocking(False)
            signal.set_wakeup_fd(wake_writer.fileno())
            for number in _SIGNALS:
                signal.signal(number, lambda *_: None)
            self._selector.register(wake_reader, selectors.EVENT_READ)
            for port in self._ports:
                self._open(port)
            if self._knobs.is_silent:
                self._hang()
            while self._machine.exit_status is None:
                self._turn(wake_reader)
            self._flush()
        return self._machine.exit_status

    def _hang(self) -> None:
        """Listen to signals and to the clock, and to nobody else from now on."""
        self._is_hung = True
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                self._selector.unregister(key.fileobj)

    def _open(self, port: Port) -> None:
        """Wait for the port's next client, or begin with the one that is there."""
        if port.listener is not None:
            self._selector.register(port.listener, selectors.EVENT_READ, port)
        elif port.chardev.backend == "stdio":
            self._begin(port, StandardLink())

    def _begin(self, port: Port, link: Link) -> None:
        port.link = link
        if port.is_monitor:
            port.session = Session(self._knobs, self._execute)
        self._selector.register(link, selectors.EVENT_READ, port)
        self._send(port)

    def _end(self, port: Port) -> None:
        if port.link is None:
            return
        self._selector.unregister(port.link)
        port.link.close()
        port.link = port.session = None
        if port.listener is not None:
            self._selector.register(port.listener, selectors.EVENT_READ, port)

    def _turn(self, wake_reader: socket.socket) -> None:
        """Wait for something to happen, and let it."""
        due = self._machine.next_due
        timeout = None if due is None else max(due - time.monotonic(), 0.0)
        ready = self._selector.select(timeout)
        self._machine.advance(time.monotonic())
        self._report()
        for key, mask in ready:
            if key.fileobj is wake_reader:
                number = wake_reader.recv(1)[0]
                _complain(self._program, f"terminating on signal {number}")
                self._machine.take_signal()
                self._report()
            elif not self._is_hung:
                self._serve(key.data, mask, is_new=key.fileobj is key.data.listener)
        for port in self._ports:
            self._send(port)

    def _serve(self, port: Port, mask: int, *, is_new: bool) -> None:
        if is_new:
            assert port.listener is not None
            self._selector.unregister(port.listener)
            self._begin(port, SocketLink(port.listener.accept()[0]))
        elif mask & selectors.EVENT_READ and port.link is not None:
            try:
                data = port.link.receive()
            except OSError:
                data = b""
            if not data:
                self._end(port)
            elif port.session is not None:
                self._answer(port, port.session, data)

    def _answer(self, port: Port, session: Session, data: bytes) -> None:
        for request in session.feed(data):
            outcome = session.answer(request)
            self._send(port)
            if outcome is Outcome.CRASHES:
                os.kill(os.getpid(), signal.SIGKILL)
            if outcome is Outcome.HANGS:
                self._hang()
            if outcome is Outcome.IS_CLOSED:
                self._end(port)
            if outcome is not Outcome.GOES_ON or self._machine.exit_status is not None:
                return

    def _execute(self, name: str, arguments: Any) -> Any:
        time.sleep(self._knobs.latency_s + self._knobs.slow_commands.get(name, 0.0))
        self._machine.advance(time.monotonic())
        try:
            return commands.execute(self._machine, name, arguments)
        finally:
            self._report()

    def _report(self) -> None:
        """Tell all clients what happened."""
        for event in self._machine.take_events():
            if event.wire_name in self._knobs.drop_events:
                continue
            message = encode_event(event, time.time()) * (1 + (event.wire_name in self._knobs.double_events))
            for port in self._ports:
                if port.session is not None:
                    port.session.report(message)

    def _send(self, port: Port) -> None:
        """Send a client what fits, the rest when there is room."""
        if port.session is None or port.link is None or self._is_hung:
            return
        output = port.session.output
        try:
            while output:
                del output[: port.link.send(output)]
        except BlockingIOError:
            self._selector.modify(port.link, selectors.EVENT_READ | selectors.EVENT_WRITE, port)
        except OSError:
            self._end(port)
        else:
            self._selector.modify(port.link, selectors.EVENT_READ, port)

    def _flush(self) -> None:
        """Give clients a moment to take the last words, and no longer."""
        deadline = time.monotonic() + _FLUSH_TIMEOUT_S
        while time.monotonic() < deadline and any(port.session and port.session.output for port in self._ports):
            for port in self._ports:
                self._send(port)
            self._selector.select(0.01)


def _complain(program: str, text: str) -> None:
    """Write to standard error; who does not listen misses it."""
    with contextlib.suppress(OSError):
        os.write(2, f"{program}: {text}\n".encode())
