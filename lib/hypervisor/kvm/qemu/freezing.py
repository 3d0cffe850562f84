# SPDX-License-Identifier: BSD-2-Clause
"""Freezing of the guest's filesystems by the guest agent, while a snapshot or a backup begins."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hvkit.qmp.agent import AgentConnection

#: The longest time for which the filesystems are frozen, in seconds.
_FREEZE_S: Final = 20.0


@contextlib.contextmanager
def frozen(agent_socket: Path, *, freezes: bool) -> Iterator[None]:
    """Keep the filesystems of the guest frozen for the duration of the block, if `freezes`.

    Raises:
        QmpError: the guest agent does not answer, or cannot freeze them.
    """
    if not freezes:
        yield
        return
    with AgentConnection(agent_socket) as agent, agent.frozen(limit_s=_FREEZE_S):
        yield
