# SPDX-License-Identifier: BSD-2-Clause
"""Have a guest's filesystems stand still for the moment at which its disks are kept."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hvkit.qmp.agent import AgentConnection

#: Seconds that filesystems are frozen at most.
_FREEZE_S: Final = 20.0


@contextlib.contextmanager
def frozen(agent_socket: Path, *, freezes: bool) -> Iterator[None]:
    """Keep the guest's filesystems frozen, if that is wanted, while the block lasts.

    Raises:
        QmpError: the guest's agent does not answer, or cannot freeze them.
    """
    if not freezes:
        yield
        return
    with AgentConnection(agent_socket) as agent, agent.frozen(limit_s=_FREEZE_S):
        yield
