# SPDX-License-Identifier: BSD-2-Clause
"""The table that maps commands to the functions that run them."""

from collections.abc import Callable
from typing import Any, TypeVar

from hvkit.qmp.base import Command
from hvkit.qmp.converter import unstructure
from hvkit.testing.simulator.arguments import check_arguments
from hvkit.testing.simulator.machine import Machine
from hvkit.testing.simulator.qmp_refusal import QmpRefusal

C = TypeVar("C", bound=Command[Any])
R = TypeVar("R")

#: A function that runs a command on the machine and returns its reply.
Handler = Callable[[Machine, C], R]


class Dispatcher:
    """A table of commands. The decorator ``@commands.runs(QueryStatus)`` registers a function for a command."""

    def __init__(self, *parts: "Dispatcher") -> None:
        self._handlers: dict[str, tuple[type[Command[Any]], Callable[[Machine, Any], Any]]] = {}
        for part in parts:
            self._handlers |= part._handlers

    @property
    def names(self) -> list[str]:
        """The wire names of all commands."""
        return list(self._handlers)

    def runs(self, command: type[C]) -> Callable[[Handler[C, R]], Handler[C, R]]:
        """Return a decorator that registers a function for a command."""

        def register(handler: Handler[C, R]) -> Handler[C, R]:
            self._handlers[command.wire_name] = (command, handler)
            return handler

        return register

    def execute(self, machine: Machine, name: str, arguments: Any) -> Any:
        """Run a command, and return its reply as plain data.

        Raises:
            QmpRefusal: the command does not exist, its arguments are invalid, or it failed.
        """
        if name not in self._handlers:
            raise QmpRefusal(f"The command {name} has not been found", "CommandNotFound")
        command, handler = self._handlers[name]
        reply = handler(machine, check_arguments(arguments, command))
        return {} if reply is None else unstructure(reply)
