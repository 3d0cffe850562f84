# SPDX-License-Identifier: BSD-2-Clause
"""Write the index of the schema package: where every name is, for Python and for type checkers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tools.qapi.classes import Classes, quoted
from tools.qapi.render import LICENSE_LINE, LINE_LENGTH, PACKAGE, import_order

_INDEX_HEAD = f'''{LICENSE_LINE}
"""Where every name of the schema is. Made by `make schema`: do not edit."""

from typing import Final
'''

_STUB_HEAD = f'''{LICENSE_LINE}
"""The names of the schema for type checkers. Made by `make schema`: do not edit."""

from typing import Any

from hvkit.qmp.base import Command, Event
'''

_STUB_TAIL = """
def command(wire_name: str) -> type[Command[Any]]: ...
def event(wire_name: str) -> type[Event]: ...
def find_event(wire_name: str) -> type[Event] | None: ...
def commands() -> tuple[str, ...]: ...
def agent_commands() -> tuple[str, ...]: ...
def events() -> tuple[str, ...]: ...
"""


def places(schemas: Iterable[Classes]) -> dict[str, str]:
    """Return the module of every name.

    Raises:
        ValueError: two schemas have the same name.
    """
    found: dict[str, str] = {}
    for classes in schemas:
        for each in classes.everything():
            if each.name in found:
                raise ValueError(f"{each.name} is in {found[each.name]} and in {each.module}")
            found[each.name] = each.module
    return dict(sorted(found.items()))


def _table(comment: str, name: str, entries: Mapping[str, str]) -> str:
    lines = [f"    {quoted(key)}: {quoted(value)},\n" for key, value in entries.items()]
    return f"\n#: {comment}\n{name}: Final = {{\n{''.join(lines)}}}\n"


def index_text(monitor: Classes, agent: Classes) -> str:
    """Return the text of the tables that the package looks its names up in."""
    return (
        _INDEX_HEAD
        + _table("The module of each name.", "MODULES", places((monitor, agent)))
        + _table("The class of each command of the monitor, by wire name.", "COMMANDS", monitor.commands)
        + _table("The class of each command of the guest agent, by wire name.", "AGENT_COMMANDS", agent.commands)
        + _table("The class of each event, by wire name.", "EVENTS", monitor.events)
    )


def stub_text(schemas: Sequence[Classes]) -> str:
    """Return the package's stub, which has every name."""
    by_module: dict[str, list[str]] = {}
    for name, module in places(schemas).items():
        by_module.setdefault(module, []).append(name)
    lines = []
    for module in sorted(by_module):
        for name in sorted(by_module[module], key=import_order):
            line = f"from {PACKAGE}.{module} import {name} as {name}"
            if len(line) > LINE_LENGTH:
                line = f"from {PACKAGE}.{module} import (\n    {name} as {name},\n)"
            lines.append(line)
    return _STUB_HEAD + "\n".join(lines) + "\n" + _STUB_TAIL
