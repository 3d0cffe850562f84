# SPDX-License-Identifier: BSD-2-Clause
"""Running programs in the guest, against a stub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripted_agent import (
    SYNC,
    Scripted,
    b64,
)

from hvkit.errors import ProgrammerError
from hvkit.qmp import DataError
from hvkit.qmp.agent import (
    AgentConnection,
    AgentProgramTimeout,
    ProgramResult,
)
from hvkit.testing import SILENCE


def test_run_polls_until_the_program_exits(scripted: Scripted) -> None:
    exec_ = {
        "execute": "guest-exec",
        "arguments": {
            "path": "sort",
            "arg": ["-r"],
            "env": ["LANG=C"],
            "input-data": b64(b"a\nb\n"),
            "capture-output": True,
        },
    }
    status = {"execute": "guest-exec-status", "arguments": {"pid": 42}}
    ended = {"exited": True, "exitcode": 3, "out-data": b64(b"b\na\n"), "err-data": b64(b"\x00"), "out-truncated": True}
    running = {"return": {"exited": False}}
    script = [SYNC, (exec_, {"return": {"pid": 42}}), (status, running), (status, running), (status, {"return": ended})]
    agent = scripted(script)
    result = agent.run(["sort", "-r"], input=b"a\nb\n", env={"LANG": "C"})
    assert result == ProgramResult(exit_code=3, signal=None, stdout=b"b\na\n", stderr=b"\x00", is_truncated=True)


@pytest.mark.parametrize("reply", [{"return": {"exited": False}}, SILENCE])
def test_run_timeout_names_the_process(scripted: Scripted, reply: Any) -> None:
    script = [SYNC, (None, {"return": {"pid": 42}}), *[(None, reply)] * 100]
    agent = scripted(script, check_on_exit=False)
    with pytest.raises(AgentProgramTimeout, match="process 42 of the guest did not end") as caught:
        agent.run(["sleep", "1000"], timeout=0.3)
    assert (caught.value.pid, caught.value.timeout_s) == (42, 0.3)


def test_run_with_output_that_is_not_base64_raises_data_error(scripted: Scripted) -> None:
    script = [SYNC, (None, {"return": {"pid": 1}}), (None, {"return": {"exited": True, "out-data": "!"}})]
    agent = scripted(script)
    with pytest.raises(DataError, match="out-data"):
        agent.run(["true"])


def test_run_without_an_argument_list_raises_programmer_error(path: Path) -> None:
    agent = AgentConnection(path)
    with pytest.raises(ProgrammerError, match="list"):
        agent.run("ls -l")
    with pytest.raises(ProgrammerError, match="list"):
        agent.run([])
