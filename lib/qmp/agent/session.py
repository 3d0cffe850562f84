# SPDX-License-Identifier: BSD-2-Clause
"""One life of a connection to a guest agent: one command at a time, and only where the order of replies is certain."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

from hvkit.qmp import schema
from hvkit.qmp.agent.protocol import AgentProtocol
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.errors import AgentNotResponding, CommandTimeout, ConnectError, ConnectionLost, QmpError
from hvkit.qmp.protocol import ENDED, Exchange, Protocol
from hvkit.qmp.sync.session import Session
from hvkit.qmp.sync.transport import Transport

#: How long an agent may take to refuse a command that has no reply otherwise, in seconds.
_REFUSAL_GRACE_S: Final = 0.3


class AgentSession(Session):
    """A conversation with a guest agent over a transport, which it owns."""

    def __init__(self, transport: Transport, protocol: AgentProtocol) -> None:
        super().__init__(transport, protocol)
        self._agent = protocol
        #: Held from before a command is sent until it is over; and from the beginning until we are synchronized.
        self._turn = threading.Lock()
        self._turn.acquire()

    def negotiate(self, deadline: Deadline) -> None:
        """Synchronize with the agent.

        Raises:
            AgentNotResponding: it does not answer; the session has ended.
            ConnectError: the socket was closed, or is no agent's; the session has ended.
        """
        try:
            self._synchronize(deadline)
        except AgentNotResponding as error:
            self.end(error.reason)
            raise
        except QmpError as error:
            reason = error.reason if isinstance(error, ConnectionLost) else str(error)
            self.end(reason)
            raise ConnectError(self.address, reason) from error
        except BaseException:
            self.end("connecting was interrupted")
            raise
        finally:
            self._turn.release()

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
        """Do what a session does, when it is this command's turn and the agent is synchronized.

        A command without reply is over when it was sent, and not refused at once.

        Raises:
            AgentNotResponding: the deadline passed before the command could be sent.
            CommandTimeout: no reply in time.
            ConnectionLost: the session had ended before.
            CommandError: a command without reply was refused.
            ProgrammerError: the command cannot be sent.
        """
        wait_s = min(max(deadline.remaining_s(), 0.0), threading.TIMEOUT_MAX)
        has_turn = False
        try:  # around the acquire, too: an interrupt after it must not keep the turn
            has_turn = self._turn.acquire(timeout=wait_s)
            if not has_turn:
                raise AgentNotResponding(self.address, f"busy with another command for {deadline.timeout_s:g} s")
            self._read_available()
            if not self._agent.is_synchronized:
                self._synchronize(deadline)
            if has_reply and _is_answered(command):
                return super().exchange(command, start, deadline, fds=fds)
            exchange = super().exchange(command, start, deadline, has_reply=False, grace_s=_REFUSAL_GRACE_S, fds=fds)
            if exchange.reply is not None:
                exchange.result()
            exchange.succeed({"return": {}})
            return exchange
        finally:
            if has_turn:
                self._turn.release()

    def doubt(self) -> None:
        """Synchronize before the next command: the last reply was perhaps that to another one."""
        with self._lock:
            self._agent.doubt()

    def _synchronize(self, deadline: Deadline) -> None:
        """Have the agent's next reply be that to our next command; what it still had to say is dropped.

        Raises:
            AgentNotResponding: it does not answer.
            ConnectionLost: the session ended.
            ProtocolError: it sent a message without end; the session has ended.
        """
        with self._lock:
            if self._protocol.state is not ENDED:
                self._agent.start_sync(int.from_bytes(os.urandom(4), "big") >> 1)
        is_synchronized = False
        with contextlib.suppress(CommandTimeout):  # another thread was sending until the deadline
            is_synchronized = self._negotiate(deadline)
        if not is_synchronized:
            raise AgentNotResponding(
                self.address,
                f"no answer within {deadline.timeout_s:g} s: the guest has not booted or is stopped, no agent "
                "runs in it, or another client holds the agent's socket",
            )


@functools.cache
def _is_answered(command: str) -> bool:
    """Whether the agent answers a command that succeeds; it does so to those that the schema does not know."""
    return command not in schema.agent_commands() or bool(schema.command(command).has_reply)
