# SPDX-License-Identifier: BSD-2-Clause
"""Running programs in the guest and collecting their output."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from hvkit.errors import ProgrammerError
from hvkit.qmp.agent.executor import Executor, from_base64, to_base64
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.errors import AgentProgramTimeout, CommandTimeout
from hvkit.qmp.schema import GuestExec, GuestExecStatus, GuestExecStatusReply

#: The default timeout of running a program, in seconds.
PROGRAM_TIMEOUT_S: Final = 60.0
#: The agent does not report when a program exits. It is polled, at intervals that grow between these, in seconds.
_MIN_INTERVAL_S: Final = 0.02
_MAX_INTERVAL_S: Final = 1.0


@attrs.frozen
class ProgramResult:
    """The exit status and the output of a program in the guest.

    Attributes:
        exit_code: the exit code; None if a signal ended the program.
        signal: the signal's number, on Windows the exception's code; None if the program exited.
        stdout: its standard output.
        stderr: its standard error.
        is_truncated: whether the agent dropped part of the output.
    """

    exit_code: int | None
    signal: int | None
    stdout: bytes = attrs.field(repr=False)
    stderr: bytes = attrs.field(repr=False)
    is_truncated: bool


def run_program(
    agent: Executor, argv: Sequence[str], stdin: bytes | None, env: Mapping[str, str] | None, timeout: float
) -> ProgramResult:
    """Run a program and wait until it exits; see `AgentConnection.run`."""
    if isinstance(argv, str) or not argv:
        raise ProgrammerError("argv must be a list: the program's path, then its arguments")
    deadline = Deadline(timeout)
    command = GuestExec(
        path=argv[0],
        arg=list(argv[1:]) or None,
        env=None if env is None else [f"{name}={value}" for name, value in env.items()],
        input_data=None if stdin is None else to_base64(stdin),
        capture_output=True,
    )
    pid = agent.execute(command, timeout=timeout).pid
    interval_s = _MIN_INTERVAL_S
    while True:
        status = _query_status(agent, pid, deadline)
        if status.exited:
            return ProgramResult(
                exit_code=status.exitcode,
                signal=status.signal,
                stdout=from_base64(status.out_data or "", "guest-exec-status.out-data"),
                stderr=from_base64(status.err_data or "", "guest-exec-status.err-data"),
                is_truncated=bool(status.out_truncated or status.err_truncated),
            )
        if deadline.remaining_s() <= 0:
            raise AgentProgramTimeout(command.wire_name, timeout, pid)
        time.sleep(min(interval_s, deadline.remaining_s()))
        interval_s = min(interval_s * 1.5, _MAX_INTERVAL_S)


def _query_status(agent: Executor, pid: int, deadline: Deadline) -> GuestExecStatusReply:
    # The agent reports an exit only once. A query that timed out may lose that report, so each query may take all of
    # the remaining time.
    try:
        return agent.execute(GuestExecStatus(pid=pid), timeout=deadline.remaining_s())
    except CommandTimeout as error:
        raise AgentProgramTimeout(GuestExec.wire_name, deadline.timeout_s, pid) from error
