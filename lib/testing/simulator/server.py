# SPDX-License-Identifier: BSD-2-Clause
"""The event loop of the simulated QEMU: sockets, signals and the clock."""

import contextlib
import os
import selectors
import signal
import socket
import time
from pathlib import Path
from typing import Any, Final, Protocol

from hvkit.testing.simulator.behavior import Behavior
from hvkit.testing.simulator.commands import commands
from hvkit.testing.simulator.machine import Machine
from hvkit.testing.simulator.monitor import Outcome, Session, encode_event
from hvkit.testing.simulator.options import Chardev, OptionError

_RECEIVE_SIZE: Final = 65536
_FLUSH_TIMEOUT_S: Final = 1.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Link(Protocol):
    """The byte stream of a client."""

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


class StdioLink:
    """A client on standard input and output."""

    def fileno(self) -> int:
        return 0

    def receive(self) -> bytes:
        return os.read(0, _RECEIVE_SIZE)

    def send(self, data: bytearray) -> int:
        return os.write(1, data)

    def close(self) -> None:
        """Leave both streams open: the process does not own them."""


def listen(chardev: Chardev) -> socket.socket:
    """Return the listening socket of a chardev.

    Raises:
        OptionError: the socket cannot be created. The message is QEMU's.
    """
    if chardev.fd is not None:
        try:
            return socket.socket(fileno=chardev.fd)
        except OSError:
            raise OptionError(f"{chardev.option}: File descriptor '{chardev.fd}' is not a socket") from None
    listener = socket.socket(socket.AF_UNIX)
    try:
        Path(chardev.path).unlink(missing_ok=True)  # as QEMU does: a killed process leaves its socket file
        listener.bind(chardev.path)
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise OptionError(f"{chardev.option}: Failed to bind socket to {chardev.path}: {error.strerror}") from None
    return listener


class Port:
    """An open chardev: a monitor, or a serial port without output.

    Attributes:
        listener: the listening socket, which accepts one client at a time; None for stdio.
        session: the QMP session; None without a client, and on a serial port.
        link: the byte stream of the client; None without a client.
    """

    def __init__(self, chardev: Chardev, *, is_monitor: bool) -> None:
        self.chardev = chardev
        self.is_monitor = is_monitor
        self.listener = listen(chardev) if chardev.backend == "socket" else None
        self.session: Session | None = None
        self.link: Link | None = None

    def close(self) -> None:
        """Close all sockets and remove the socket file, as QEMU does at a regular exit."""
        if self.link is not None:
            self.link.close()
        if self.listener is not None:
            self.listener.close()
            if self.chardev.path:
                Path(self.chardev.path).unlink(missing_ok=True)


class Server:
    """Runs a machine until it exits."""

    def __init__(self, machine: Machine, behavior: Behavior, ports: list[Port], program: str) -> None:
        self._machine = machine
        self._behavior = behavior
        self._ports = ports
        self._program = program
        self._selector = selectors.DefaultSelector()
        self._is_hung = False

    def run(self) -> int:
        """Serve until the machine exits, and return the exit status."""
        wake_reader, wake_writer = socket.socketpair()
        with wake_reader, wake_writer:
            wake_writer.setblocking(False)
            signal.set_wakeup_fd(wake_writer.fileno())
            for number in _SIGNALS:
                signal.signal(number, lambda *_: None)
            self._selector.register(wake_reader, selectors.EVENT_READ)
            for port in self._ports:
                self._open(port)
            if self._behavior.is_silent:
                self._hang()
            while self._machine.exit_status is None:
                self._process_ready(wake_reader)
            self._flush()
        return self._machine.exit_status

    def _hang(self) -> None:
        """Stop serving all clients. Signals and timers still work."""
        self._is_hung = True
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                self._selector.unregister(key.fileobj)

    def _open(self, port: Port) -> None:
        """Wait for the next client of a port, or attach to stdio."""
        if port.listener is not None:
            self._selector.register(port.listener, selectors.EVENT_READ, port)
        elif port.chardev.backend == "stdio":
            self._attach_client(port, StdioLink())

    def _attach_client(self, port: Port, link: Link) -> None:
        port.link = link
        if port.is_monitor:
            port.session = Session(self._behavior, self._execute)
        self._selector.register(link, selectors.EVENT_READ, port)
        self._send(port)

    def _detach_client(self, port: Port) -> None:
        if port.link is None:
            return
        self._selector.unregister(port.link)
        port.link.close()
        port.link = port.session = None
        if port.listener is not None:
            self._selector.register(port.listener, selectors.EVENT_READ, port)

    def _process_ready(self, wake_reader: socket.socket) -> None:
        """Wait for the next timer, signal or input, and process it."""
        due = self._machine.next_due
        timeout = None if due is None else max(due - time.monotonic(), 0.0)
        ready = self._selector.select(timeout)
        self._machine.advance(time.monotonic())
        self._broadcast_events()
        for key, mask in ready:
            if key.fileobj is wake_reader:
                number = wake_reader.recv(1)[0]
                _print_error(self._program, f"terminating on signal {number}")
                self._machine.handle_signal()
                self._broadcast_events()
            elif not self._is_hung:
                self._serve(key.data, mask, is_new=key.fileobj is key.data.listener)
        for port in self._ports:
            self._send(port)

    def _serve(self, port: Port, mask: int, *, is_new: bool) -> None:
        if is_new:
            assert port.listener is not None
            self._selector.unregister(port.listener)
            self._attach_client(port, SocketLink(port.listener.accept()[0]))
        elif mask & selectors.EVENT_READ and port.link is not None:
            try:
                data = port.link.receive()
            except OSError:
                data = b""
            if not data:
                self._detach_client(port)
            elif port.session is not None:
                self._answer(port, port.session, data)

    def _answer(self, port: Port, session: Session, data: bytes) -> None:
        for request in session.feed(data):
            outcome = session.answer(request)
            self._send(port)
            if outcome is Outcome.CRASH:
                os.kill(os.getpid(), signal.SIGKILL)
            if outcome is Outcome.HANG:
                self._hang()
            if outcome is Outcome.CLOSE:
                self._detach_client(port)
            if outcome is not Outcome.CONTINUE or self._machine.exit_status is not None:
                return

    def _execute(self, name: str, arguments: Any) -> Any:
        time.sleep(self._behavior.latency_s + self._behavior.slow_commands.get(name, 0.0))
        self._machine.advance(time.monotonic())
        try:
            return commands.execute(self._machine, name, arguments)
        finally:
            self._broadcast_events()

    def _broadcast_events(self) -> None:
        """Send the events of the machine to all clients."""
        for event in self._machine.take_events():
            if event.wire_name in self._behavior.drop_events:
                continue
            message = encode_event(event, time.time()) * (1 + (event.wire_name in self._behavior.double_events))
            for port in self._ports:
                if port.session is not None:
                    port.session.report(message)

    def _send(self, port: Port) -> None:
        """Send pending output to a client. The rest is sent when the socket is writable again."""
        if port.session is None or port.link is None or self._is_hung:
            return
        output = port.session.output
        try:
            while output:
                del output[: port.link.send(output)]
        except BlockingIOError:
            self._selector.modify(port.link, selectors.EVENT_READ | selectors.EVENT_WRITE, port)
        except OSError:
            self._detach_client(port)
        else:
            self._selector.modify(port.link, selectors.EVENT_READ, port)

    def _flush(self) -> None:
        """Send pending output to all clients, for at most `_FLUSH_TIMEOUT_S`."""
        deadline = time.monotonic() + _FLUSH_TIMEOUT_S
        while time.monotonic() < deadline and any(port.session and port.session.output for port in self._ports):
            for port in self._ports:
                self._send(port)
            self._selector.select(0.01)


def _print_error(program: str, text: str) -> None:
    """Write an error message to standard error; ignore a closed standard error."""
    with contextlib.suppress(OSError):
        os.write(2, f"{program}: {text}\n".encode())
