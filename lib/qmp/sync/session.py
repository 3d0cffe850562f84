# SPDX-License-Identifier: BSD-2-Clause
"""The session of a blocking connection, which threads share.

There is no reader thread. One of the waiting threads reads from the socket, and passes the results to the others. When
it has its own result, another waiting thread continues to read. Threads that send take turns. If the server stops
reading, it delays only the threads that send.
"""

from __future__ import annotations

import contextlib
import threading
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hvkit.errors import ProgrammerError
from hvkit.qmp.base import Event
from hvkit.qmp.common.session import BaseSession
from hvkit.qmp.deadlines import QUICK, TIMEOUT_CLASSES, Deadline
from hvkit.qmp.errors import CommandTimeout, ConnectionLost, QmpError
from hvkit.qmp.protocol import ENDED, READY, Exchange, Protocol
from hvkit.qmp.sync.subscription import Subscription
from hvkit.qmp.sync.transport import Transport


class Waitable(typing.Protocol):
    """An object that a thread can wait for. It becomes ready while the lock of the session is held."""

    @property
    def is_ready(self) -> bool:
        """Whether the wait is over."""


class _NegotiationStep:
    """Ready when the driver has to send data, or the negotiation has ended."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    @property
    def is_ready(self) -> bool:
        return self._protocol.has_data_to_send or not self._protocol.is_negotiating


class _Never:
    """Never ready: a wait with an expired deadline only reads the available data."""

    is_ready = False


_NEVER: Final = _Never()


class Session(BaseSession):
    """A conversation over a transport, which it owns."""

    def __init__(self, transport: Transport, protocol: Protocol) -> None:
        super().__init__(transport.address, protocol)
        self._transport = transport
        #: Guards all state; not held while a thread sends and waits. Reentrant, so that a signal handler can close the
        #: connection.
        self._lock = threading.RLock()
        #: Notified when a sleeping thread has to check its condition again; created by the first thread that sleeps.
        self._changed: threading.Condition | None = None
        self._sleepers = 0
        #: Identify the reading and the sending thread. Neither holds the lock while it reads or sends.
        self._reader: object | None = None
        self._sender: object | None = None
        #: The rest of a message that was sent in part; it is sent before the next message.
        self._unsent = b""
        self._peer_pid: int | None = None

    @property
    def peer_pid(self) -> int | None:
        with self._lock:
            if self._peer_pid is None and self._protocol.state is not ENDED:
                self._peer_pid = self._transport.peer_pid
            return self._peer_pid

    def negotiate(self, deadline: Deadline) -> None:
        """Complete the greeting and the negotiation.

        Raises:
            ConnectError: the server sent an invalid message or no message; the session has ended.
        """
        try:
            if not self._negotiate(deadline):
                self.end(self._negotiation_timeout(deadline))
                raise self._lost_error()
        except ConnectionLost as error:
            raise self._connect_error() from (self._protocol.failure or error)
        except BaseException:
            self.end("connecting was interrupted")
            raise

    def _negotiate(self, deadline: Deadline) -> bool:
        """Send the data of the protocol, and call its timer, until the negotiation has ended.

        Returns:
            False if the deadline passed.

        Raises:
            ConnectionLost: the session ended.
        """
        protocol = self._protocol
        step = _NegotiationStep(protocol)
        while True:
            if protocol.has_data_to_send:
                self._send_outgoing(deadline)
            if not protocol.is_negotiating:
                break
            timer_s = protocol.next_timer()
            if self._wait(step, deadline if timer_s is None else deadline.sooner(timer_s)):
                continue
            if deadline.remaining_s() <= 0:
                return False
            with self._lock:
                protocol.handle_timer()
        if protocol.state is ENDED:
            raise self._lost_error()
        return True

    def _send_outgoing(self, deadline: Deadline) -> None:
        """Send the data of the protocol during the negotiation.

        Raises:
            CommandTimeout: another thread was sending until the deadline.
            ConnectionLost: the session has ended.
        """
        try:
            with self._lock:
                self._wait_for_turn("negotiation", deadline)
                data = self._protocol.data_to_send()
                self._unsent += data[0 if self._unsent else self._transport.try_send(data) :]
        except QmpError:
            raise
        except OSError as error:
            self._end_on_send_error(error)
        except BaseException:
            self.end("interrupted while sending")
            raise
        if self._unsent:
            self._send_unsent(deadline)

    def end(self, reason: str) -> None:
        """End the session; waiting threads raise ConnectionLost with this reason. Does nothing if it has ended."""
        with self._lock:
            self._end(reason)

    def _end(self, reason: str) -> None:
        self._end_protocol(reason)
        self._transport.shut_down()
        self._close_if_unused()
        self._notify()

    def _notify(self) -> None:
        """Wake the sleeping threads; the lock is held."""
        if self._changed is not None and self._sleepers:
            self._changed.notify_all()

    def _close_if_unused(self) -> None:
        """Close the descriptor after the end, unless a thread reads or sends: its number may be reused."""
        if self._protocol.state is ENDED and self._reader is None and self._sender is None:
            self._transport.close()

    def try_exchange(self, command: str, arguments: Mapping[str, Any] | None, timeout_s: float) -> Exchange | None:
        """Send a command if that is possible without waiting, and wait until its exchange is ready.

        This is the fast path of `exchange`. Usually no other thread sends or reads, and the next message is the reply,
        so the thread that sends also becomes the reader.

        Args:
            command: wire name of the command.
            arguments: the arguments as plain data.
            timeout_s: seconds from the moment of sending.

        Returns:
            The exchange; None if no byte was sent, because another thread is sending, the kernel accepts no bytes, or
            the session is not ready for commands.

        Raises:
            CommandTimeout: no reply in time; a late reply will be dropped.
            ConnectionLost: the session ended.
            ProgrammerError: the command cannot be sent.
        """
        exchange: Exchange | None = None
        try:
            with self._lock:
                protocol = self._protocol
                if self._sender is not None or self._unsent or protocol.state is not READY:
                    return None
                exchange, data = protocol.open_unchecked(command, arguments)
                try:
                    sent = self._transport.try_send(data)
                except OSError as error:
                    self._end_on_send_error(error)
                else:
                    if sent == len(data):
                        if self._reader is None:
                            self._reader = exchange
                    elif sent:
                        self._unsent = data[sent:]
                    else:
                        protocol.discard(exchange)
                        return None
            deadline = Deadline(timeout_s)  # after sending, while QEMU works
            if self._reader is exchange:
                try:
                    received = self._transport.receive(deadline)
                    with self._lock:
                        has_ended = self._process(received)
                        self._reader = None
                        if has_ended:
                            self._close_if_unused()
                except OSError as error:
                    self._release_reader(exchange)
                    self.end(f"the connection failed: {error.strerror}")
        except ProgrammerError:
            raise
        except BaseException:
            # nothing may have been sent, and received data may be lost
            self._release_reader(exchange)
            self.end("interrupted while executing a command")
            raise
        if not exchange.is_ready:
            self.wait_for_reply(exchange, deadline)
        elif deadline.elapsed_s() > TIMEOUT_CLASSES.get(command, QUICK).slow_s:
            self._warn_slow(exchange, deadline)
        return exchange

    def exchange(
        self,
        command: str,
        start: Callable[[Protocol], tuple[Exchange, bytes]],
        deadline: Deadline,
        *,
        has_reply: bool = True,
        grace_s: float = 0.0,
        fds: Sequence[int] = (),
    ) -> Exchange:
        """Send a command when no other thread sends, and wait until its exchange is ready.

        Args:
            command: wire name of the command, for errors.
            start: opens the exchange in the protocol; returns it and its bytes.
            deadline: for sending and waiting.
            has_reply: False to return after sending.
            grace_s: seconds to wait for an error reply to a command without reply.
            fds: descriptors to send with the command.

        Raises:
            CommandTimeout: no reply in time.
            ConnectionLost: the session had ended before.
            ProgrammerError: the command cannot be sent.
        """
        me = object()
        try:
            with self._lock:
                self._wait_for_turn(command, deadline)
                exchange, data = start(self._protocol)
                self._sender = me
            if not self._send(data, deadline, fds):
                with self._lock:
                    self._protocol.discard(exchange)
                raise CommandTimeout(exchange.command, deadline.timeout_s, was_sent=False)
        except (QmpError, ProgrammerError):
            raise
        except BaseException:
            # an exchange may be open whose request was not sent, or only in part
            self.end("interrupted while sending")
            raise
        finally:
            self._end_turn(me)
        if has_reply:
            self.wait_for_reply(exchange, deadline)
        else:
            self._wait_for_refusal(exchange, grace_s)
        return exchange

    def _wait_for_refusal(self, exchange: Exchange, grace_s: float) -> None:
        """Wait a while for the error reply to a command that has no other reply."""
        try:
            if self._protocol.state is ENDED:
                raise self._lost_error()
            if grace_s:
                with contextlib.suppress(ConnectionLost):  # the command may end the server
                    self._wait(exchange, Deadline(grace_s))
        finally:
            with self._lock:
                self._protocol.discard(exchange)

    def wait_for_reply(self, exchange: Exchange, deadline: Deadline) -> None:
        """Wait until an exchange is ready.

        Raises:
            CommandTimeout: no reply in time; a late reply will be dropped.
            ConnectionLost: the session ended.
        """
        is_ready_in_time = False
        try:
            if self._unsent:
                self._send_unsent(deadline)
            is_ready_in_time = self._wait(exchange, deadline)
        finally:
            if not is_ready_in_time:
                with self._lock:
                    self._protocol.abandon(exchange)
        if not is_ready_in_time:
            raise CommandTimeout(exchange.command, deadline.timeout_s, self._protocol.replies_owed(exchange))
        if deadline.elapsed_s() > TIMEOUT_CLASSES.get(exchange.command, QUICK).slow_s:
            self._warn_slow(exchange, deadline)

    def _send_unsent(self, deadline: Deadline) -> None:
        """Send the rest of a message that was sent in part, unless another thread does."""
        me = object()
        try:
            with self._lock:
                while self._sender is not None and self._unsent:
                    if not self._sleep(deadline):
                        return
                if not self._unsent or self._protocol.state is ENDED:
                    return
                self._sender = me
            self._send(b"", deadline)
        except BaseException:
            self.end("interrupted while sending")
            raise
        finally:
            self._end_turn(me)

    def _send(self, data: bytes, deadline: Deadline, fds: Sequence[int] = ()) -> bool:
        """Send a message, after the rest of the previous one; the calling thread is the sender.

        Returns:
            False if no byte of the message was sent before the deadline. The rest of a message that was sent in part
            is sent before the next one.
        """
        try:
            if self._unsent:
                self._unsent = self._unsent[self._transport.send(self._unsent, deadline) :]
                if self._unsent:
                    return False
            sent = self._transport.send(data, deadline, fds)
            self._unsent = data[sent:] if sent else b""
            return sent > 0
        except OSError as error:
            self._end_on_send_error(error)
            return True

    def _end_on_send_error(self, error: OSError) -> None:
        """End the session after a failure to send; first read the data that the server has sent."""
        self._drain()
        self.end(f"cannot send: {error.strerror}")

    def _wait_for_turn(self, command: str, deadline: Deadline) -> None:
        """Wait until no thread sends; the lock is held.

        Raises:
            CommandTimeout: another thread was sending until the deadline.
            ConnectionLost: the session has ended.
        """
        while self._sender is not None and self._protocol.state is not ENDED:
            if not self._sleep(deadline):
                raise CommandTimeout(command, deadline.timeout_s, was_sent=False)
        if self._protocol.state is ENDED:
            raise self._lost_error()

    def _end_turn(self, me: object) -> None:
        """Stop being the sender, even if an interrupt arrives meanwhile."""
        try:
            self._release_sender(me)
        except BaseException:  # interrupted before it took effect
            self._release_sender(me)
            raise

    def _release_sender(self, me: object) -> None:
        with self._lock:
            if self._sender is me:
                self._sender = None
                self._notify()
                self._close_if_unused()

    def _wait(self, awaited: Waitable, deadline: Deadline) -> bool:
        """Wait until something is ready; read from the socket unless another thread does.

        Returns:
            False if the deadline passed.

        Raises:
            ConnectionLost: the session ended before it was ready.
        """
        while True:
            me = object()
            try:
                with self._lock:
                    if awaited.is_ready:
                        return True
                    if self._protocol.state is ENDED:
                        raise self._lost_error()
                    if self._reader is not None:
                        if not self._sleep(deadline):
                            return awaited.is_ready
                        continue
                    self._reader = me
                data = self._transport.receive(deadline)
                with self._lock:
                    has_ended = self._process(data)
                    self._reader = None  # only now: an interrupt before this line has to end the session
                    if has_ended:
                        self._close_if_unused()
                    if awaited.is_ready:
                        return True  # type: ignore[unreachable]  # the received data made it ready
                    if data is None:
                        return False
            except OSError as error:
                self._release_reader(me)
                self.end(f"the connection failed: {error.strerror}")
            except ConnectionLost:
                raise
            except BaseException:
                # data already received from the kernel may be lost
                if self._release_reader(me):
                    self.end("interrupted while receiving")
                raise

    def _read_available(self) -> None:
        """Read the available data, without waiting."""
        self._wait(_NEVER, Deadline(0))

    def _sleep(self, deadline: Deadline) -> bool:
        remaining_s = deadline.remaining_s()
        if remaining_s <= 0:
            return False
        if self._changed is None:
            self._changed = threading.Condition(self._lock)
        self._sleepers += 1
        try:
            return self._changed.wait(min(remaining_s, threading.TIMEOUT_MAX))
        finally:
            self._sleepers -= 1

    def _release_reader(self, me: object | None) -> bool:
        """Stop being the reader; return whether this thread was."""
        with self._lock:
            was_reader = me is not None and self._reader is me
            if was_reader:
                self._reader = None
            return was_reader

    def _process(self, data: bytes | None) -> bool:
        """Process received data, dispatch events, and wake sleeping threads; return whether the session has ended."""
        protocol = self._protocol
        if data:
            protocol.receive_data(data)
            if protocol.has_events:
                for event in protocol.take_events():
                    self._dispatch(event)
            if protocol.state is ENDED:
                self._end(str(protocol.failure))
        elif data is not None:
            self._end("the server closed the connection")
        if self._sleepers:
            self._notify()
        return protocol.state is ENDED

    def _drain(self) -> None:
        """Read the last events and replies of a server that has stopped reading."""
        now = Deadline(0)
        with self._lock:
            if self._reader is not None:
                return
            try:
                while data := self._transport.receive(now):
                    self._process(data)
            except OSError:
                return

    def add_subscription(self, subscription: Subscription[Any]) -> None:
        """Deliver events to a subscription from now on.

        Raises:
            ConnectionLost: the session has ended.
        """
        with self._lock:
            if self._protocol.state is ENDED:
                raise self._lost_error()
            self._subscriptions.append(subscription)

    def unsubscribe(self, subscription: Subscription[Any]) -> None:
        """Stop delivering to a subscription."""
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    def wait_for_event(self, subscription: Subscription[Any], deadline: Deadline) -> bool:
        """Wait until a subscription has an event; return False if the deadline passed.

        Raises:
            ConnectionLost: the session ended, and no event is left.
        """
        return self._wait(subscription, deadline)

    def take_unclaimed(self) -> list[Event]:
        try:
            self._read_available()
        except ConnectionLost:
            if not self._unclaimed:
                raise
        with self._lock:
            return self._pop_unclaimed()
