# SPDX-License-Identifier: BSD-2-Clause
"""Guest agents that follow a script, and connections to them."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from hvkit.qmp.agent import (
    AgentConnection,
)
from hvkit.testing import QmpStub

OK: Final[dict[str, Any]] = {"return": {}}


PING: Final = {"execute": "guest-ping"}


FREEZE: Final = {"execute": "guest-fsfreeze-freeze"}


THAW: Final = {"execute": "guest-fsfreeze-thaw"}


FROZEN: Final = {
    "error": {
        "class": "CommandNotFound",
        "desc": "Command guest-exec has been disabled: the agent is in frozen state",
    }
}


def sync_reply(number: int) -> bytes:
    """Return the reply of an agent to a synchronization."""
    return b'\xff{"return": %d}\n' % number


def synced(request: dict[str, Any]) -> bytes:
    return sync_reply(request["arguments"]["id"])


#: The script entry for a synchronization.
SYNC: Final[Any] = (None, synced)


def synced_after(*noise: Any) -> Callable[[dict[str, Any]], list[Any]]:
    return lambda request: [*noise, synced(request)]


def agent_stub(path: Path, script: list[Any], **options: Any) -> QmpStub:
    return QmpStub(path, script, greeting=None, **options)


class Scripted:
    """Connects to agent stubs; at the end of the test each stub checks that its script was completed."""

    def __init__(self, path: Path, stack: contextlib.ExitStack) -> None:
        self._path = path
        self._stack = stack
        self.stub = QmpStub(path, greeting=None)

    def __call__(self, script: list[Any], *, check_on_exit: bool = True, **options: Any) -> AgentConnection:
        self.stub = self._stack.enter_context(agent_stub(self._path, script, check_on_exit=check_on_exit))
        return self._stack.enter_context(AgentConnection(self._path, **options))


def names_of(stub: QmpStub) -> list[str]:
    return [request["execute"].removeprefix("guest-") for request in stub.requests]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
