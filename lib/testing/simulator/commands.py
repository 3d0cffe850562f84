# SPDX-License-Identifier: BSD-2-Clause
"""All commands of the simulated QEMU."""

from typing import Final

from hvkit.qmp.schema import CommandInfo, QueryCommands
from hvkit.testing.simulator import device_commands, machine_commands, media_commands
from hvkit.testing.simulator.dispatch import Dispatcher
from hvkit.testing.simulator.machine import Machine

commands: Final = Dispatcher(machine_commands.commands, device_commands.commands, media_commands.commands)


@commands.runs(QueryCommands)
def _query_commands(machine: Machine, _: QueryCommands) -> list[CommandInfo]:
    return [CommandInfo(name=name) for name in ("qmp_capabilities", *commands.names)]
