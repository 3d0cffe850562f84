# SPDX-License-Identifier: BSD-2-Clause
"""Programs in the guest, from their start to what they said."""

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

#: The agent tells nobody that a program ended: it is asked after this many seconds, then less and less often.
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0


@attrs.frozen
class ProgramResult:
    """How a program in the guest ended, and what it said.

    Attributes:
        exit_code: what it exited with; None where a signal ended it.
        signal: the signal's number (on Windows the code of an exception); None where it exited.
        stdout: its standard output.
        stderr: its standard error.
        is_truncated: whether it said more than the agent keeps.
    """

    exit_code: int | None
    signal: int | None
    stdout: bytes = attrs.field(repr=False)
    stderr: bytes = attrs.field(repr=False)
    is_truncated: bool


def run_program(
    agent: Executor, argv: Sequence[str], stdin: bytes | None, env: Mapping[str, str] | None, timeout: float
) -> ProgramResult:
    """Do what `AgentConnection.run` promises."""
    if isinstance(argv, str) or not argv:
        raise ProgrammerError("a program is run by a list: its path, then its arguments")
    deadline = Deadline(timeout)
    command = GuestExec(
        path=argv[0],
        arg=list(argv[1:]) or None,
        env=None if env is None else [f"{name}={value}" for name, value in env.items()],
        input_data=None if stdin is None else to_base64(stdin),
        capture_output=True,
    )
    pid = agent.execute(command, timeout=timeout).pid
    pause_s = _FIRST_PAUSE_S
    while True:
        status = _ask(agent, pid, deadline)
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
        time.sleep(min(pause_s, max(deadline.remaining_s(), 0.0)))
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


def _ask(agent: Executor, pid: int, deadline: Deadline) -> GuestExecStatusReply:
    # The agent tells of an end only once. A question that is given up may take the answer with it, so each may wait as
    # long as there is time at all.
    try:
        return agent.execute(GuestExecStatus(pid=pid), timeout=max(deadline.remaining_s(), 0.0))
    except CommandTimeout as error:
        raise AgentProgramTimeout(GuestExec.wire_name, deadline.timeout_s, pid) from error
