# SPDX-License-Identifier: BSD-2-Clause
"""The blocking connection to a guest agent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar, overload

from hvkit.qmp.agent.files import CHUNK_BYTES, read_chunks, write_chunks
from hvkit.qmp.agent.freeze import Freeze, hold_frozen
from hvkit.qmp.agent.programs import PROGRAM_TIMEOUT_S, ProgramResult, run_program
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
    """A connection to the guest agent of one instance.

    Any number of threads may use the connection. The agent executes one command at a time, so the threads take turns.
    After `close` or a lost connection, `connect` connects again. QEMU serves one client of an agent socket at a time:
    connect for a task, then close. The agent sends no greeting; `guest-info` returns its version.

    Args:
        address: of the agent's character device in QEMU: the path of a unix socket, ``@name`` for an abstract socket,
            or a TCP host and port.
        timeout: seconds for `connect` and for each command, `math.inf` for no limit. None: the default, which is 5
            for `connect`, and for each command the value in `hvkit.qmp.deadlines`.
        deadlines: seconds by the wire name of a command; takes precedence over `timeout`.
        transcript: a file to which every message is appended, as for `QmpConnection`. Contents of files, and input and
            output of programs, are left out.

    Raises:
        ProgrammerError: a timeout is not a number.
    """

    def connect(self, *, timeout: float | None = None) -> None:
        """Connect to the agent's socket and synchronize with the agent; replies to earlier clients are dropped.

        On success the connection is ready for commands. On failure the socket is closed.

        Args:
            timeout: seconds in total, `math.inf` for no limit. None: the connection's default, or 5. A guest that is
                still booting answers as soon as its agent runs.

        Raises:
            AgentNotResponding: the socket accepted the connection, but the agent did not answer in time.
            ConnectError: the socket does not exist, no process listens on it, or the peer closed it.
            ProgrammerError: the connection is already open, another thread is connecting it, `timeout` is not a
                number, or the connection was made from a socket and has been used before.
        """
        super().connect(timeout=timeout)

    def _new_session(self, transport: Transport) -> AgentSession:
        return AgentSession(transport, AgentProtocol(self._name, trace=self._trace()))

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
        """Execute a guest agent command and return its reply.

        `guest-shutdown` and the `guest-suspend-*` commands send no reply on success. For these, `execute` returns
        shortly after sending the command; QMP events on the instance's monitor show whether the guest acted on it.

        If the previous command timed out, the agent is synchronized first, within this command's timeout.

        Args:
            command: a typed command of the agent's schema, or the wire name of a command.
            arguments: plain data or schema values by wire name; only with a wire name.
            timeout: seconds in total, `math.inf` for no limit. None: the connection's default, or the command's value
                in `hvkit.qmp.deadlines`.

        Returns:
            For a typed command a value of its `reply_type`; otherwise plain data.

        Raises:
            AgentCommandDisabled: the agent's configuration disables the command, or filesystems are frozen.
            CommandError: the agent does not have the command, or the command failed.
            AgentNotResponding: the agent does not answer; the command was not sent.
            CommandTimeout: no reply in time. The outcome of the command is unknown; the connection stays usable.
            ConnectionLost: the connection ended; the outcome of the commands in `.commands` is unknown.
            DataError: the reply is not JSON, or does not match its type.
            ProtocolError: the agent broke the protocol instead of replying; the outcome of the command is unknown.
            NotInThisQemu: the agent lacks the command or an argument; only after `check_against`.
            ProgrammerError: the connection is not open, the arguments cannot be sent, or `timeout` is not a number.
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
                session.require_sync()
                raise
        except QmpError as error:
            error.set_monitor(self._name)
            raise

    def frozen(
        self, *, limit_s: float = 30.0, mountpoints: Sequence[str] | None = None
    ) -> AbstractContextManager[Freeze]:
        """Keep the guest's filesystems frozen for the length of a `with` block, to take a snapshot of their disks.

        The block starts once the guest has flushed its filesystems and blocks all writes. The filesystems are thawed
        at the end of the block, however it ends, and at the limit, even if the block is still running.

        A separate thread thaws. It retries for one minute and reconnects if the connection was lost. An interrupt
        leaves the block at once; the process then exits only after the thread is done. If the process is killed, the
        filesystems stay frozen: execute `guest-fsfreeze-thaw` from another process.

        A snapshot is consistent only if the block ends without an exception. `AgentFreezeExpired` reports that the
        limit passed, or that another client thawed the filesystems.

        Args:
            limit_s: seconds after which the filesystems are thawed, counted from the start of freezing.
            mountpoints: mount points in the guest; None: every filesystem that can be frozen.

        Raises:
            AgentFreezeExpired: at the end of the block: the filesystems were thawed before the block ended.
            AgentCommandDisabled: another client has frozen the filesystems, or the agent's configuration disables
                freezing; nothing was changed.
            CommandError: freezing failed; no filesystem is frozen.
            AgentNotResponding: the agent does not answer. At the end of the block: thawing failed.
            CommandTimeout: freezing took longer than the limit; the filesystems are thawed. At the end of the block:
                thawing failed.
            ConnectionLost: the connection ended. At the end of the block: thawing failed.
            ProgrammerError: the connection is not open, or `limit_s` is not a number.
        """
        check_timeout(limit_s)
        return self._hold_frozen(limit_s, mountpoints)

    @contextlib.contextmanager
    def _hold_frozen(self, limit_s: float, mountpoints: Sequence[str] | None) -> Iterator[Freeze]:
        with self._set_monitor(), hold_frozen(_ReconnectingAgent(self), limit_s, mountpoints) as freeze:
            yield freeze

    @contextlib.contextmanager
    def _set_monitor(self) -> Iterator[None]:
        """Set the monitor of the errors that a block raises."""
        try:
            yield
        except QmpError as error:
            error.set_monitor(self._name)
            raise

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,  # noqa: A002 - as subprocess.run calls it
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> ProgramResult:
        """Run a program in the guest, wait until it exits, and return its exit status and output.

        The program is executed without a shell. The agent keeps 16 MiB of stdout and of stderr and drops the rest.

        Args:
            argv: the program, as a path or a name in the agent's PATH, and its arguments.
            input: data for its standard input; None: no input.
            env: its environment; None: the agent's environment.
            timeout: seconds in total, `math.inf` for no limit. None: the default, 60.

        Raises:
            AgentProgramTimeout: the program did not exit in time; it is still running.
            CommandError: the program could not be started.
            AgentNotResponding: the agent does not answer; the program was not started.
            CommandTimeout: no reply to the start in time; the program may be running.
            ConnectionLost: the connection ended; the program may be running.
            DataError: a reply does not match its type, or the output is not base64.
            ProgrammerError: the connection is not open, `argv` is empty or a string, or `timeout` is not a number.
        """
        if timeout is None:
            timeout = PROGRAM_TIMEOUT_S
        check_timeout(timeout)
        with self._set_monitor():
            return run_program(self, argv, input, env, timeout)

    def read_file(self, path: str, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Read a file in the guest, in chunks.

        The file is opened when the first chunk is read. It is closed after the last chunk, or when the iterator is
        closed or garbage collected, for example after `break`. If reading fails, the file is closed too, provided the
        agent still answers.

        Args:
            path: of the file in the guest.
            chunk_bytes: the number of bytes to request at a time; chunks may be shorter.

        Raises:
            CommandError: the file cannot be opened or read.
            ProtocolError: the agent returned no data without reporting the end of the file.
            QmpError: as for `execute`.
            ProgrammerError: `chunk_bytes` is less than 1.
        """
        return self._read_chunks(read_chunks(self, path, chunk_bytes))

    def _read_chunks(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        with self._set_monitor():
            yield from chunks

    def write_file(self, path: str, data: bytes | Iterable[bytes], *, append: bool = False) -> int:
        """Write a file in the guest and return the number of bytes written.

        On success the guest has the data, but not necessarily on its disk. After a failure the file may be incomplete;
        it is closed, provided the agent still answers.

        Args:
            path: of the file in the guest; created if missing.
            data: the contents, as one object or in chunks of any size.
            append: append to the file instead of replacing its contents.

        Raises:
            CommandError: the file cannot be opened, written or closed; for example, its filesystem is full.
            ProtocolError: the agent reported an impossible number of bytes.
            QmpError: as for `execute`.
        """
        with self._set_monitor():
            return write_chunks(self, path, data, append)


class _ReconnectingAgent:
    """An adapter of the connection for `Freeze`; it reconnects if the connection was closed or lost."""

    def __init__(self, connection: AgentConnection) -> None:
        self._connection = connection

    @property
    def address(self) -> str:
        return self._connection.name

    def execute(self, command: Command[R], /, *, timeout: float | None = None) -> R:
        return self._connection.execute(command, timeout=timeout)

    def reconnect(self, *, timeout: float) -> None:
        connection = self._connection
        if connection.is_connected:
            return
        if connection.is_from_socket:
            raise ConnectError(
                self.address, "connection lost; a connection made from a socket cannot be connected again"
            )
        connection.connect(timeout=timeout)
