# SPDX-License-Identifier: BSD-2-Clause
"""`AgentProtocol`: properties for any input, and redaction of secrets in logs."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_agent import (
    OK,
    SYNC,
    Scripted,
    b64,
    sync_reply,
)

from hvkit.qmp import ConnectionLost, QmpError
from hvkit.qmp.agent.protocol import AgentProtocol
from hvkit.qmp.schema import GuestSetUserPassword


@given(
    noise=st.lists(st.binary(max_size=40) | st.just(b'{"return": {}}\n') | st.just(b"\xff"), max_size=8),
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=20),
)
def test_protocol_drops_any_bytes_before_the_sync_reply(noise: list[bytes], sizes: list[int]) -> None:
    protocol = AgentProtocol()
    exchange, said = protocol.open_sync(4711)
    assert said[:1] == b"\xff"
    stream = b"".join(noise) + sync_reply(4711)
    position = 0
    for number in range(len(stream)):
        size = sizes[number % len(sizes)]
        protocol.receive_data(stream[position : position + size])
        position += size
    assert exchange.is_ready
    assert exchange.result() == 4711
    assert protocol.is_synchronized
    ping, _ = protocol.open_exchange("guest-ping")
    protocol.receive_data(b'{"return": {}}\n')
    assert ping.result() == {}


@given(st.lists(st.sampled_from(["answer", "give up", "late", "nonsense", "old sync"]), max_size=30))
def test_protocol_never_returns_the_reply_of_another_command(steps: list[str]) -> None:
    """The agent replies in order, in some cases after the client stopped waiting."""
    protocol = AgentProtocol()
    owed: list[bytes] = []
    number = 0
    for step in steps:
        if not protocol.is_synchronized:
            number += 1
            sync, _ = protocol.open_sync(number)
            owed.append(sync_reply(number))
            protocol.receive_data(b"".join(owed))
            owed.clear()
            assert sync.result() == number
        number += 1
        exchange, _ = protocol.open_exchange("guest-echo", {"n": number})
        owed.append(b'{"return": %d}\n' % number)
        if step == "nonsense":
            protocol.receive_data(b"{]\n")
        elif step == "old sync":
            protocol.receive_data(sync_reply(number + 1000))
        if step in ("give up", "late"):
            protocol.abandon(exchange)
        if step != "give up":
            protocol.receive_data(b"".join(owed))
            owed.clear()
        if exchange.reply is not None:
            assert exchange.result() == number
        assert exchange.is_ready is (step not in ("give up", "late"))


SCRAPS: Final = st.sampled_from(
    [
        b'{"return": ',
        b'{"error": ',
        b'{"event": "X"',
        b'"id": 1',
        b"{}",
        b"[]",
        b"1",
        b", ",
        b"}",
        b"\n",
        b"\xff",
        b"[" * 2000,
    ]
)


@given(st.lists(st.binary(max_size=9) | SCRAPS, max_size=20), st.booleans())
def test_protocol_turns_any_bytes_into_a_reply_or_an_error(said: list[bytes], is_synchronized: bool) -> None:
    seen: list[Any] = []
    protocol = AgentProtocol(trace=lambda direction, message: seen.append(message))
    exchange, _ = protocol.open_sync(1)
    if is_synchronized:
        protocol.receive_data(sync_reply(1))
        exchange, _ = protocol.open_exchange("guest-exec", {"path": "x", "env": ["a=b"]})
    for data in said:
        protocol.receive_data(data)
    protocol.receive_eof(ConnectionLost("agent", "the peer closed the connection"))
    with contextlib.suppress(QmpError):
        exchange.result()


def piece(data: bytes, *, eof: bool = False) -> tuple[None, dict[str, Any]]:
    return None, {"return": {"count": len(data), "buf-b64": b64(data), "eof": eof}}


def test_log_and_transcript_hide_secrets_and_contents(
    scripted: Scripted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = b"hunter2" * 3
    transcript = tmp_path / "transcript"
    script = [
        SYNC,
        (None, OK),
        (None, {"return": {"pid": 1}}),
        (None, {"return": {"exited": True, "exitcode": 0, "out-data": b64(secret)}}),
        (None, {"return": 7}),
        (None, {"return": {"count": len(secret), "eof": False}}),
        (None, OK),
        (None, {"return": 7}),
        piece(secret, eof=True),
        (None, OK),
    ]
    with caplog.at_level(logging.DEBUG, "hvkit.qmp"):
        agent = scripted(script, transcript=transcript)
        agent.execute(GuestSetUserPassword(username="root", password=b64(secret), crypted=False))
        assert agent.run(["cat"], input=secret, env={"KEY": secret.decode()}).stdout == secret
        agent.write_file("/secret", secret)
        assert b"".join(agent.read_file("/secret")) == secret
    for text in (caplog.text, transcript.read_text()):
        assert "guest-file-write" in text
        assert "28 hidden" in text
        assert b64(secret) not in text
        assert secret.decode() not in text
    assert [json.loads(line)["direction"] for line in transcript.read_text().splitlines()[:2]] == ["->", "<-"]
