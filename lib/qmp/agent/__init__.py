# SPDX-License-Identifier: BSD-2-Clause
"""A typed client of the guest agent: commands in the guest, its files, its programs, its filesystems held still.

`AgentConnection` is the place to start; the commands and their replies are in `hvkit.qmp.schema`.
"""

from hvkit.qmp.agent.connection import AgentConnection
from hvkit.qmp.agent.freeze import Freeze
from hvkit.qmp.agent.programs import ProgramResult
from hvkit.qmp.errors import AgentCommandDisabled, AgentFreezeExpired, AgentNotResponding, AgentProgramTimeout

__all__ = [
    "AgentCommandDisabled",
    "AgentConnection",
    "AgentFreezeExpired",
    "AgentNotResponding",
    "AgentProgramTimeout",
    "Freeze",
    "ProgramResult",
]
