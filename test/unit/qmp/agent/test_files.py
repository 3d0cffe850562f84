# SPDX-License-Identifier: BSD-2-Clause
"""Reading and writing files in the guest, against a stub."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from scripted_agent import (
    OK,
    SYNC,
    Scripted,
    agent_stub,
    b64,
)

from hvkit.qmp import CommandError, CommandTimeout, ProtocolError
from hvkit.qmp.agent import (
    AgentConnection,
)
from hvkit.testing import SILENCE

OPEN: Final = {"execute": "guest-file-open", "arguments": {"path": "/f", "mode": "r"}}


CLOSE_FILE: Final = {"execute": "guest-file-close", "arguments": {"handle": 7}}


def piece(data: bytes, *, eof: bool = False) -> tuple[None, dict[str, Any]]:
    return None, {"return": {"count": len(data), "buf-b64": b64(data), "eof": eof}}


def test_read_file_yields_chunks_until_the_end(scripted: Scripted) -> None:
    script = [SYNC, (OPEN, {"return": 7}), piece(b"ab"), piece(b"c", eof=True), (CLOSE_FILE, OK)]
    agent = scripted(script)
    assert list(agent.read_file("/f", chunk_bytes=2)) == [b"ab", b"c"]


def test_read_file_left_early_closes_the_file(path: Path) -> None:
    with (
        agent_stub(path, [SYNC, (OPEN, {"return": 7}), piece(b"ab"), (CLOSE_FILE, OK)]),
        AgentConnection(path) as agent,
    ):
        for data in agent.read_file("/f"):
            assert data == b"ab"
            break


def test_read_file_failure_closes_the_file(scripted: Scripted) -> None:
    failure = {"error": {"class": "GenericError", "desc": "failed to read file"}}
    script = [SYNC, (OPEN, {"return": 7}), (None, failure), (CLOSE_FILE, OK)]
    agent = scripted(script)
    with pytest.raises(CommandError, match="failed to read"):
        list(agent.read_file("/f"))


def test_read_file_timeout_closes_the_file(scripted: Scripted) -> None:
    script = [SYNC, (OPEN, {"return": 7}), (None, SILENCE), SYNC, (CLOSE_FILE, OK)]
    agent = scripted(script, deadlines={"guest-file-read": 0.1})
    with pytest.raises(CommandTimeout):
        list(agent.read_file("/f"))


def test_read_file_without_data_before_the_end_raises_protocol_error(scripted: Scripted) -> None:
    script = [SYNC, (OPEN, {"return": 7}), piece(b""), (CLOSE_FILE, OK)]
    agent = scripted(script)
    with pytest.raises(ProtocolError, match="cannot read /f: guest-file-read returned no data"):
        list(agent.read_file("/f"))


def test_write_file_continues_after_a_partial_write(scripted: Scripted) -> None:
    def write(data: bytes) -> dict[str, Any]:
        return {"execute": "guest-file-write", "arguments": {"handle": 7, "buf-b64": b64(data)}}

    script = [
        SYNC,
        ({"execute": "guest-file-open", "arguments": {"path": "/f", "mode": "a"}}, {"return": 7}),
        (write(b"abc"), {"return": {"count": 1, "eof": False}}),
        (write(b"bc"), {"return": {"count": 2, "eof": False}}),
        (write(b"d"), {"return": {"count": 1, "eof": False}}),
        (CLOSE_FILE, OK),
    ]
    agent = scripted(script)
    assert agent.write_file("/f", iter([b"abc", b"", b"d"]), append=True) == 4


@pytest.mark.parametrize("count", [0, 4, -1])
def test_write_file_with_impossible_count_raises_protocol_error(scripted: Scripted, count: int) -> None:
    reply = {"return": {"count": count, "eof": False}}
    script = [SYNC, (None, {"return": 7}), (None, reply), (CLOSE_FILE, OK)]
    agent = scripted(script)
    with pytest.raises(ProtocolError, match=f"cannot write /f: guest-file-write reported {count} of 3 bytes"):
        agent.write_file("/f", b"abc")


def test_write_file_raises_the_error_of_closing(scripted: Scripted) -> None:
    full = {"error": {"class": "GenericError", "desc": "failed to close handle: No space left on device"}}
    script = [SYNC, (None, {"return": 7}), (None, {"return": {"count": 3, "eof": False}}), (CLOSE_FILE, full)]
    agent = scripted(script)
    with pytest.raises(CommandError, match="No space"):
        agent.write_file("/f", b"abc")
