# SPDX-License-Identifier: BSD-2-Clause
"""All commands, events and types of QEMU's monitor and of its guest agent.

Importing the package loads no other module: the module of a name is loaded on first access. ``make schema`` generates
the modules from `tools/qapi/qapi-facts.json`. For type checkers, `__init__.pyi` lists all names.
"""

import functools
import importlib
from typing import Any

from hvkit.errors import ProgrammerError
from hvkit.qmp.base import resolve
from hvkit.qmp.schema._index import MODULES


def __getattr__(name: str) -> Any:
    module_name = MODULES.get(name)
    if module_name is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{module_name}")
    found = resolve(getattr(module, name), module.__name__)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES})


@functools.cache
def _tables() -> Any:
    """Return the module with the tables by wire name; a process that uses only class names does not need it."""
    return importlib.import_module(f"{__name__}._wire_names")


def _load(name: str) -> Any:
    found = globals().get(name)
    return __getattr__(name) if found is None else found


def _unknown(kind: str, wire_name: str, known: dict[str, str]) -> ProgrammerError:
    from difflib import get_close_matches  # slow to import, and needed for this error only

    close = ", ".join(get_close_matches(wire_name, known))
    return ProgrammerError(f"unknown {kind} {wire_name!r}" + (f": did you mean {close}?" if close else ""))


def command(wire_name: str) -> Any:
    """Return the class of a command of the monitor or of the guest agent, by its wire name.

    Raises:
        ProgrammerError: the schema does not have the command.
    """
    known = {**_tables().COMMANDS, **_tables().AGENT_COMMANDS}
    name = known.get(wire_name)
    if name is None:
        raise _unknown("command", wire_name, known)
    return _load(name)


def event(wire_name: str) -> Any:
    """Return the class of an event, by its wire name.

    Raises:
        ProgrammerError: the schema does not have the event.
    """
    found = find_event(wire_name)
    if found is None:
        raise _unknown("event", wire_name, _tables().EVENTS)
    return found


def find_event(wire_name: str) -> Any:
    """Return the class of an event, by its wire name; None if the schema does not have the event."""
    name = _tables().EVENTS.get(wire_name)
    return None if name is None else _load(name)


def commands() -> tuple[str, ...]:
    """Return the wire names of the monitor's commands."""
    return tuple(_tables().COMMANDS)


def agent_commands() -> tuple[str, ...]:
    """Return the wire names of the guest agent's commands."""
    return tuple(_tables().AGENT_COMMANDS)


def events() -> tuple[str, ...]:
    """Return the wire names of the events."""
    return tuple(_tables().EVENTS)
