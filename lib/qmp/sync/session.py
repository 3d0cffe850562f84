# SPDX-License-Identifier: BSD-2-Clause
"""One life of a blocking connection, shared by threads: from the connected socket to its end.

There is no reader thread. Of the threads that wait for something, one reads; what it reads it hands to the others, and
when it has what it waited for, another one goes on reading. Those who send take turns, so that a peer that does not
read keeps nobody but them.
"""

from __future__ import annotations

import contextlib
import threading
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hvkit.errors import ProgrammerError
from hvkit.qmp.base import Event
from hvkit.qmp.common.connection import Conversation
from hvkit.qmp.deadlines import Deadline, pace_of
from hvkit.qmp.errors import CommandTimeout, ConnectionLost, QmpError
from hvkit.qmp.events import Subscription
from hvkit.qmp.protocol import ENDED, LINE_END_GRACE_S, READY, Exchange, Protocol, State
from hvkit.qmp.sync.transport import Transport


class Awaited(typing.Protocol):
    """What a thread can wait for; becomes ready while the session's lock is held."""

    @property
    def is_ready(self) -> bool:
        """Whether the wait is over."""


class _Beyond:
    """The end of a state of the protocol."""

    def __init__(self, protocol: Protocol, state: State) -> None:
        self._protocol = protocol
        self._state = state

    @property
    def is_ready(self) -> bool:
        return self._protocol.state is not self._state


class _Never:
    """What does not come: a wait for it reads what there is to read."""

    is_ready = False


_NEVER: Final = _Never()


class Session(Conversation):
    """A conversation over a transport, which it owns."""

    def __init__(self, transport: Transport, protocol: Protocol) -> None:
        super().__init__(transport.address, protocol, transport.peer_pid)
        self._transport = transport
        #: Guards everything here but sending that waits. Reentrant, for a signal handler that closes the connection.
        self._lock = threading.RLock()
        #: Those who wait while somebody else reads or sends sleep on this.
        self._news = threading.Condition(self._lock)
        self._sleepers = 0
        #: Who is reading, and who is sending; neither holds the lock meanwhile.
        self._reader: object | None = None
        self._sender: object | None = None
        #: The rest of a message that a peer stopped reading in the middle of; it goes before the next message.
        self._unsent = b""

    # ---- the beginning and the end

    def negotiate(self, deadline: Deadline) -> None:
        """Have the protocol get over greeting and negotiation.

        Raises:
            ConnectError: the peer did not say the right thing, or nothing; the session has ended.
        """
        try:
            self._pass(State.GREETING, deadline)
            self._send_outgoing(deadline)
            if not self._wait(_Beyond(self._protocol, State.NEGOTIATING), deadline.sooner(LINE_END_GRACE_S)):
                self._protocol.end_lines()
                self._send_outgoing(deadline)
            self._pass(State.NEGOTIATING, deadline)
        except ConnectionLost as error:
            raise self._never_ready() from (self._protocol.failure or error)
        except BaseException:
            self.end("connecting was interrupted")
            raise

    def _pass(self, state: State, deadline: Deadline) -> None:
        """Wait for the end of a state of the negotiation."""
        if not self._wait(_Beyond(self._protocol, state), deadline):
            self.end(self._silence(deadline))
        if self._protocol.state is ENDED:
            raise self._lost()

    def _send_outgoing(self, deadline: Deadline) -> None:
        me = object()
        try:
            with self._lock:
                self._await_turn("qmp_capabilities", deadline)
                self._sender = me
            self._send(self._protocol.data_to_send(), deadline)
        finally:
            self._end_turn_surely(me)

    def end(self, reason: str) -> None:
        """End the session; whoever waits on it gets ConnectionLost with this reason. Ending again does nothing."""
        with self._lock:
            self._end(reason)

    def _end(self, reason: str) -> None:
        self._note_end(reason)
        self._transport.shut_down()
        self._close_if_unused()
        self._news.notify_all()

    def _close_if_unused(self) -> None:
        """Free the descriptor after the end, once nobody reads or writes: its number may be given out again."""
        if self._protocol.state is ENDED and self._reader is None and self._sender is None:
            self._transport.close()

    # ---- exchanges

    def send_at_once(self, command: str, arguments: Mapping[str, Any] | None) -> Exchange | None:
        """Send a command if nobody has to be waited for; `wait_for_reply` next.

        Returns:
            Its exchange; None where nothing was sent: another thread sends, the kernel takes nothing, or the session
            is not ready for commands.

        Raises:
            ProgrammerError: the command cannot be sent.
        """
        try:
            with self._lock:
                protocol = self._protocol
                if self._sender is not None or self._unsent or protocol.state is not READY:
                    return None
                exchange, data = protocol.open_unchecked(command, arguments)
                try:
                    sent = self._transport.send_at_once(data)
                except OSError as error:
                    self._end_unheard(error)
                    return exchange
                if sent < len(data):
                    if not sent:
                        protocol.forget(exchange)
                        return None
                    self._unsent = data[sent:]
                return exchange
        except ProgrammerError:
            raise
        except BaseException:
            # An exchange may be open of which the peer has seen nothing.
            self.end("interrupted while sending")
            raise

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
        """Send a command when it is its turn, and wait until its exchange is over.

        Args:
            command: its wire name, for errors.
            start: opens the exchange in the protocol and returns it with its bytes.
            deadline: for all of it.
            has_reply: False to return once it is sent.
            grace_s: how long, in seconds, a command without reply may be refused: its reply is there then.
            fds: descriptors that travel with the command.

        Raises:
            CommandTimeout: no reply in time.
            ConnectionLost: the session had ended before.
            ProgrammerError: the command cannot be sent.
        """
        me = object()
        try:
            with self._lock:
                self._await_turn(command, deadline)
                exchange, data = start(self._protocol)
                self._sender = me
            if not self._send(data, deadline, fds):
                with self._lock:
                    self._protocol.forget(exchange)
                raise CommandTimeout(exchange.command, deadline.timeout_s, was_sent=False)
        except (QmpError, ProgrammerError):
            raise
        except BaseException:
            # An exchange may be open of which the peer has seen nothing, or half a message.
            self.end("interrupted while sending")
            raise
        finally:
            self._end_turn_surely(me)
        if has_reply:
            self.wait_for_reply(exchange, deadline)
        else:
            self._wait_for_refusal(exchange, grace_s)
        return exchange

    def _wait_for_refusal(self, exchange: Exchange, grace_s: float) -> None:
        """Wait a while for the error reply to a command that has no other."""
        try:
            if self._protocol.state is ENDED:
                raise self._lost()
            if grace_s:
                with contextlib.suppress(ConnectionLost):  # what was asked for may well end the peer
                    self._wait(exchange, Deadline(grace_s))
        finally:
            with self._lock:
                self._protocol.forget(exchange)

    def wait_for_reply(self, exchange: Exchange, deadline: Deadline) -> None:
        """Wait until an exchange is over.

        Raises:
            CommandTimeout: no reply in time; a late one will be dropped.
            ConnectionLost: the session ended.
        """
        slow_s = pace_of(exchange.command).slow_s
        is_there = False
        try:
            if self._unsent:
                self._send_unsent(deadline)
            is_there = self._wait(exchange, deadline)
        finally:
            if not is_there:
                with self._lock:
                    self._protocol.give_up(exchange)
        if not is_there:
            raise CommandTimeout(exchange.command, deadline.timeout_s, self._protocol.replies_owed(exchange))
        if deadline.elapsed_s() > slow_s:
            self._warn_of_slowness(exchange, deadline)

    def _send_unsent(self, deadline: Deadline) -> None:
        """Send what is left of a message that was sent in part, unless somebody else does."""
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
            self._end_turn_surely(me)

    def _send(self, data: bytes, deadline: Deadline, fds: Sequence[int] = ()) -> bool:
        """Send a message, after what is left of the one before; by whoever has the turn.

        Returns:
            False when not one byte of the message was sent before the deadline. What is left of a message that was
            sent in part is sent before the next one.
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
            self._end_unheard(error)
            return True

    def _end_unheard(self, error: OSError) -> None:
        """End the session since it cannot be sent on."""
        self._take_last_words()
        self.end(f"the peer is gone: {error.strerror}")

    def _await_turn(self, command: str, deadline: Deadline) -> None:
        """Wait until nobody sends; called with the lock.

        Raises:
            CommandTimeout: somebody else sent until the deadline.
            ConnectionLost: the session has ended.
        """
        while self._sender is not None and self._protocol.state is not ENDED:
            if not self._sleep(deadline):
                raise CommandTimeout(command, deadline.timeout_s, was_sent=False)
        if self._protocol.state is ENDED:
            raise self._lost()

    def _end_turn_surely(self, me: object) -> None:
        try:
            self._end_turn(me)
        except BaseException:  # interrupted at its very beginning; nobody else would do it
            self._end_turn(me)
            raise

    def _end_turn(self, me: object) -> None:
        with self._lock:
            if self._sender is me:
                self._sender = None
                if self._sleepers:
                    self._news.notify_all()
                self._close_if_unused()

    # ---- receiving

    def _wait(self, awaited: Awaited, deadline: Deadline) -> bool:
        """Wait until something is ready, reading for everybody unless somebody else does.

        Returns:
            False when the deadline passed.

        Raises:
            ConnectionLost: the session ended and it is not ready.
        """
        while True:
            me = object()
            try:
                with self._lock:
                    if awaited.is_ready:
                        return True
                    if self._protocol.state is ENDED:
                        raise self._lost()
                    if self._reader is not None:
                        if not self._sleep(deadline):
                            return awaited.is_ready
                        continue
                    self._reader = me
                data = self._transport.receive(deadline)
                with self._lock:
                    self._absorb(data)
                    self._reader = None  # not before: whoever is interrupted as the reader ends the session
                    self._close_if_unused()
                    if awaited.is_ready:
                        return True  # type: ignore[unreachable]  # what was read made it so
                    if data is None:
                        return False
            except OSError as error:
                self._release_reader(me)
                self.end(f"the connection broke: {error.strerror}")
            except ConnectionLost:
                raise
            except BaseException:
                # What was read may have been lost between the kernel and us.
                if self._release_reader(me):
                    self.end("interrupted while receiving")
                raise

    def _read_what_came(self) -> None:
        """Read all that is there, and wait for nothing."""
        self._wait(_NEVER, Deadline(0))

    def _sleep(self, deadline: Deadline) -> bool:
        remaining_s = deadline.remaining_s()
        if remaining_s <= 0:
            return False
        self._sleepers += 1
        try:
            return self._news.wait(min(remaining_s, threading.TIMEOUT_MAX))
        finally:
            self._sleepers -= 1

    def _release_reader(self, me: object) -> bool:
        """Stop being the reader; whether we were."""
        with self._lock:
            was_reader = self._reader is me
            if was_reader:
                self._reader = None
            return was_reader

    def _absorb(self, data: bytes | None) -> None:
        """Give what was read to the protocol, and what it makes of it to those concerned."""
        if data:
            protocol = self._protocol
            protocol.receive_data(data)
            if protocol.has_notices:
                for notice in protocol.take_notices():
                    self._deliver(notice)
            if protocol.state is ENDED:
                self._end(str(protocol.failure))
        elif data is not None:
            self._end("the peer closed the connection")
        if self._sleepers:
            self._news.notify_all()

    def _take_last_words(self) -> None:
        """Read what a peer that is gone has said before: its last events, and the replies on their way."""
        now = Deadline(0)
        with self._lock:
            if self._reader is not None:
                return
            try:
                while data := self._transport.receive(now):
                    self._absorb(data)
            except OSError:
                return

    # ---- events

    def add_subscription(self, subscription: Subscription[Any]) -> None:
        """Deliver events to a subscription from now on."""
        with self._lock:
            if self._protocol.state is ENDED:
                raise self._lost()
            self._subscriptions.append(subscription)

    def unsubscribe(self, subscription: Subscription[Any]) -> None:
        """Stop delivering to a subscription."""
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    def wait_for_event(self, subscription: Subscription[Any], deadline: Deadline) -> bool:
        """Wait until a subscription has an event; False when the deadline passed.

        Raises:
            ConnectionLost: the session ended and there is none.
        """
        return self._wait(subscription, deadline)

    def take_unclaimed(self) -> list[Event]:
        """Take the events that no subscription wanted, after reading what has come.

        Raises:
            ConnectionLost: the session ended and there are none.
            DataError: the oldest does not have the shape of its class; it is consumed.
        """
        try:
            self._read_what_came()
        except ConnectionLost:
            if not self._unclaimed:
                raise
        with self._lock:
            return self._take_kept()
