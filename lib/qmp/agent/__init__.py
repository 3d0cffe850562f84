# SPDX-License-Identifier: BSD-2-Clause
"""Typed client for the QEMU guest agent: commands, files, programs and frozen filesystems.

Start with `AgentConnection`. The commands and their replies are classes in `hvkit.qmp.schema`.
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
