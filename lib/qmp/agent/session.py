# SPDX-License-Identifier: BSD-2-Clause
"""The blocking session with a guest agent: one command at a time, after synchronization."""

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
from hvkit.qmp.errors import AgentNotResponding, CommandTimeout, ConnectError, QmpError
from hvkit.qmp.protocol import ENDED, Exchange, Protocol
from hvkit.qmp.sync.session import Session
from hvkit.qmp.sync.transport import Transport

#: How long to wait for the error reply of a command that has no reply on success, in seconds.
_REFUSAL_GRACE_S: Final = 0.3


class AgentSession(Session):
    """A session with a guest agent over a transport. The session owns the transport."""

    def __init__(self, transport: Transport, protocol: AgentProtocol) -> None:
        super().__init__(transport, protocol)
        self._agent = protocol
        #: Held while a command is in flight, and from the start until the first synchronization.
        self._turn = threading.Lock()
        self._turn.acquire()

    def negotiate(self, deadline: Deadline) -> None:
        """Synchronize with the agent.

        Raises:
            AgentNotResponding: the agent does not answer; the session has ended.
            ConnectError: the peer closed the socket, or is not a guest agent; the session has ended.
        """
        try:
            self._synchronize(deadline)
        except AgentNotResponding as error:
            self.end(error.reason)
            raise
        except QmpError as error:
            self.end(error.reason)
            raise ConnectError(self.address, error.reason) from error
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
        """Wait for other commands to end, synchronize if required, send the command and wait for its reply.

        A command without a reply succeeds if the agent sends no error within a short grace period.

        Raises:
            AgentNotResponding: the deadline passed before the command was sent.
            CommandTimeout: no reply in time.
            ConnectionLost: the session has ended.
            CommandError: the agent refused a command that has no reply on success.
            ProgrammerError: the command cannot be sent.
        """
        wait_s = min(deadline.remaining_s(), threading.TIMEOUT_MAX)
        has_turn = False
        try:  # includes acquire(): an interrupt right after it must release the lock
            has_turn = self._turn.acquire(timeout=wait_s)
            if not has_turn:
                raise AgentNotResponding(
                    self.address, f"{command} not sent: busy with another command for {deadline.timeout_s:g} s"
                )
            self._read_available()
            if not self._agent.is_synchronized:
                self._synchronize(deadline)
            if has_reply and _replies_on_success(command):
                return super().exchange(command, start, deadline, fds=fds)
            exchange = super().exchange(command, start, deadline, has_reply=False, grace_s=_REFUSAL_GRACE_S, fds=fds)
            if exchange.reply is not None:
                exchange.result()
            exchange.succeed({"return": {}})
            return exchange
        finally:
            if has_turn:
                self._turn.release()

    def require_sync(self) -> None:
        """Synchronize before the next command: the last reply may belong to another command."""
        with self._lock:
            self._agent.require_sync()

    def _synchronize(self, deadline: Deadline) -> None:
        """Synchronize with the agent, in several attempts if necessary; replies to earlier commands are dropped.

        Raises:
            AgentNotResponding: the agent does not answer before the deadline.
            ConnectionLost: the session ended.
            ProtocolError: the agent sent an oversized message; the session has ended.
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
                f"no answer within {deadline.timeout_s:g} s: the guest has not booted or is paused, no agent runs in "
                "it, or another client is connected to the agent's socket",
            )


@functools.cache
def _replies_on_success(command: str) -> bool:
    """Whether the agent replies to a command that succeeds; assumed for commands that are not in the schema."""
    return command not in schema.agent_commands() or bool(schema.command(command).has_reply)
