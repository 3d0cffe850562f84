# SPDX-License-Identifier: BSD-2-Clause
"""Which function runs which command."""

from collections.abc import Callable
from typing import Any, TypeVar

from hvkit.qmp.base import Command
from hvkit.qmp.converter import unstructure
from hvkit.testing.simulator.machine import Machine
from hvkit.testing.simulator.refusal import QmpRefusal, check_arguments

C = TypeVar("C", bound=Command[Any])
R = TypeVar("R")

#: Takes the machine and the command, and returns the reply.
Handler = Callable[[Machine, C], R]


class Dispatcher:
    """The commands of a part of the machine.

    Functions say with ``@commands.runs(QueryStatus)`` what they run.
    """

    def __init__(self, *parts: "Dispatcher") -> None:
        self._handlers: dict[str, tuple[type[Command[Any]], Callable[[Machine, Any], Any]]] = {}
        for part in parts:
            self._handlers |= part._handlers

    @property
    def names(self) -> list[str]:
        """The wire names of all commands."""
        return list(self._handlers)

    def runs(self, command: type[C]) -> Callable[[Handler[C, R]], Handler[C, R]]:
        """Have a function run a command."""

        def register(handler: Handler[C, R]) -> Handler[C, R]:
            self._handlers[command.wire_name] = (command, handler)
            return handler

        return register

    def execute(self, machine: Machine, name: str, arguments: Any) -> Any:
        """Run a command, and return its reply as plain data.

        Raises:
            QmpRefusal: there is no such command, its arguments are wrong, or it cannot be done.
        """
        if name not in self._handlers:
            raise QmpRefusal(f"The command {name} has not been found", "CommandNotFound")
        command, handler = self._handlers[name]
        reply = handler(machine, check_arguments(arguments, command))
        return {} if reply is None else unstructure(reply)
