# SPDX-License-Identifier: BSD-2-Clause
"""The connection to a guest agent: typed commands, and what takes several of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar, overload

from hvkit.qmp.agent.files import CHUNK_BYTES, read_chunks, write_chunks
from hvkit.qmp.agent.freeze import Freeze, hold_frozen
from hvkit.qmp.agent.programs import ProgramResult, run_program
from hvkit.qmp.agent.protocol import AgentProtocol
from hvkit.qmp.agent.session import AgentSession
from hvkit.qmp.base import Command
from hvkit.qmp.codec import structure_reply, unstructure_command
from hvkit.qmp.deadlines import check_timeout
from hvkit.qmp.errors import ConnectError, DataError, QmpError
from hvkit.qmp.sync.connection import SyncConnection
from hvkit.qmp.sync.transport import Transport

R = TypeVar("R")


class AgentConnection(SyncConnection[AgentSession]):
    """A connection to the agent in one guest.

    Any number of threads may use it; the agent works on one command at a time, so they take turns. A connection that
    was closed or lost can be connected again. QEMU lets one client at a time talk to an agent's socket: connect for
    what is to be done, and close. An agent does not greet: its version is what `guest-info` says.

    Args:
        address: where QEMU offers the agent's channel: the path of a unix socket, ``@name`` for an abstract one, or a
            TCP host and port.
        timeout: seconds that connecting and every command may take; None: 5 for connecting, and for commands what
            `hvkit.qmp.deadlines` says.
        deadlines: seconds by the wire name of a command; goes before `timeout`.
        transcript: a file to which every message is appended, as `QmpConnection` does; without the contents of files
            and what programs read and say.
    """

    def connect(self, *, timeout: float | None = None) -> None:
        """Connect and synchronize with the agent, dropping what it still had to say to earlier clients.

        Afterwards commands can be executed. After a failure nothing is left open.

        Args:
            timeout: seconds for all of it; None: the connection's own, or 5. A guest that boots meanwhile answers as
                soon as its agent runs.

        Raises:
            AgentNotResponding: the socket is there, and no answer came.
            ConnectError: there is no such socket, nobody listens, or it was closed.
            ProgrammerError: it is connected already or another thread is connecting it, or it was made of a socket
                that has been used up.
        """
        super().connect(timeout=timeout)

    def _new_session(self, transport: Transport) -> AgentSession:
        return AgentSession(transport, AgentProtocol(self._name, trace=self._trace()))

    # ---- commands

    @overload
    def execute(self, command: Command[R], /, *, timeout: float | None = None) -> R: ...
    @overload
    def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, /, *, timeout: float | None = None
    ) -> Any: ...
    def execute(
        self,
        command: Command[Any] | str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float | None = None,
    ) -> Any:
        """Execute a command in the guest and return what it returns.

        A command that gets no reply when it succeeds (`guest-shutdown`, `guest-suspend-disk` and its kin) returns
        shortly after it was sent; whether the guest obeys is seen on its monitor.

        After a command that timed out the agent is synchronized first, within this command's deadline.

        Args:
            command: a typed command of the agent's schema, or the wire name of one.
            arguments: plain data or schema values by wire name, for a command given by its name.
            timeout: seconds for all of it, `math.inf` for no end; None: the connection's own, or what
                `hvkit.qmp.deadlines` has for the command.

        Returns:
            For a typed command a value of its `reply_type`; otherwise plain data.

        Raises:
            AgentCommandDisabled: the agent has the command and will not execute it: by its configuration, or because
                filesystems are frozen.
            CommandError: the agent does not have the command, or it failed.
            AgentNotResponding: the agent does not answer, and the command was not sent.
            CommandTimeout: no reply in time. The fate of the command is unknown; the connection stays usable.
            ConnectionLost: the connection ended; the fate of the commands it names is unknown.
            DataError: the reply does not have the shape of its type, or is no JSON.
            ProtocolError: something senseless came in place of the reply; the fate of the command is unknown.
            NotInThisQemu: the peer lacks something that the command carries; only after `check_against`.
            ProgrammerError: there is no connection, or the arguments cannot be sent.
        """
        session = self._session or self._open_session("execute()")
        name, plain, has_reply, reply_type = unstructure_command(command, arguments)
        if timeout is not None:
            check_timeout(timeout)
        try:
            if self._command_check is not None:
                self._command_check.check(name, plain)
            exchange = session.exchange(
                name,
                lambda protocol: protocol.open_exchange(name, plain),
                self._deadline(name, timeout),
                has_reply=has_reply,
            )
            try:
                return structure_reply(exchange, reply_type)
            except DataError:
                session.doubt()
                raise
        except QmpError as error:
            error.set_monitor(self._name)
            raise

    # ---- what takes several commands

    def frozen(
        self, *, limit_s: float = 30.0, mountpoints: Sequence[str] | None = None
    ) -> AbstractContextManager[Freeze]:
        """Keep the guest's filesystems frozen for the length of a `with` block, to take a snapshot of their disks.

        The block is entered when everything is written out and all writing in the guest waits. However the block is
        left, the filesystems are thawed; and at the limit they are, even while the block is still running. Thawing is
        tried for a minute, over a new connection where this one was lost, by a thread of its own: an interrupt goes out
        of the block at once, and the process does not end before that minute. Only a process that is killed thaws
        nothing: whoever takes over from it executes `guest-fsfreeze-thaw`.

        What was done in a block that did not end well is worthless: a block that outlived its limit, and one whose
        filesystems turn out to have been thawed by somebody else, ends with `AgentFreezeExpired`.

        Args:
            limit_s: seconds from the beginning of freezing after which the filesystems are thawed whatever happens.
            mountpoints: which filesystems, by where the guest has them mounted; None for all that can be.

        Raises:
            AgentFreezeExpired: by the end of the block, the filesystems had been thawed before.
            AgentCommandDisabled: they are frozen already, by somebody else, or the agent may not; they are left alone.
            CommandError: they could not be frozen; none is.
            AgentNotResponding: the agent does not answer. At the end of the block: they could not be thawed.
            CommandTimeout: freezing took longer than the limit; they are thawed. At the end of the block: they could
                not be thawed.
            ConnectionLost: the connection ended. At the end of the block: they could not be thawed.
        """
        return self._hold_frozen(limit_s, mountpoints)

    @contextlib.contextmanager
    def _hold_frozen(self, limit_s: float, mountpoints: Sequence[str] | None) -> Iterator[Freeze]:
        with self._set_monitor(), hold_frozen(self, self._connect_again, limit_s, mountpoints) as freeze:
            yield freeze

    @contextlib.contextmanager
    def _set_monitor(self) -> Iterator[None]:
        """Set the monitor of the errors that a block raises."""
        try:
            yield
        except QmpError as error:
            error.set_monitor(self._name)
            raise

    def _connect_again(self, timeout: float) -> None:
        if self.is_connected:
            return
        if self._is_given:
            raise ConnectError(self._name, "the connection was lost; made of a socket, it cannot be made again")
        self.connect(timeout=timeout)

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,  # noqa: A002 - as subprocess.run calls it
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> ProgramResult:
        """Run a program in the guest, wait for its end and return what it said.

        No shell takes part. The agent keeps 16 MiB of either output and drops the rest.

        Args:
            argv: the program, by its path or its name in the agent's PATH, and its arguments.
            input: what it reads; None for nothing.
            env: its environment; None for the agent's own.
            timeout: seconds for all of it.

        Raises:
            AgentProgramTimeout: it did not end in time, and goes on running.
            CommandError: it could not be started.
            AgentNotResponding: the agent does not answer; nothing was started.
            CommandTimeout: no word on whether it was started.
            ConnectionLost: the connection ended; the program may be running.
            DataError: what came is no base64, or has not the shape it should have.
        """
        with self._set_monitor():
            return run_program(self, argv, input, env, timeout)

    def read_file(self, path: str, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Read a file in the guest, piece by piece.

        The file is opened when the first piece is asked for, and closed after the last one or when the iterator is
        closed; a loop that ends early closes it by dropping the iterator.

        Args:
            path: of the file.
            chunk_bytes: how much is asked for at once; pieces may be shorter.

        Raises:
            CommandError: the file cannot be opened or read.
            QmpError: as `execute` does. Where the agent answers again, the file has been closed all the same.
        """
        return self._read_chunks(read_chunks(self, path, chunk_bytes))

    def _read_chunks(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        with self._set_monitor():
            yield from chunks

    def write_file(self, path: str, data: bytes | Iterable[bytes], *, append: bool = False) -> int:
        """Write a file in the guest, and return the number of bytes.

        It is there when this returns, though not necessarily on the guest's disk. After a failure part of it may be.

        Args:
            path: of the file; what it holds is dropped, where it is missing it is made.
            data: the contents, whole or in pieces of any size.
            append: add to what the file holds.

        Raises:
            CommandError: the file cannot be opened, written or closed; its filesystem may be full.
            QmpError: as `execute` does. Where the agent answers again, the file has been closed all the same.
        """
        with self._set_monitor():
            return write_chunks(self, path, data, append)
