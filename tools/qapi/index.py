# SPDX-License-Identifier: BSD-2-Clause
"""Write the index of the schema package: where every name is, for Python and for type checkers."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from tools.qapi.classes import Classes, quoted
from tools.qapi.render import LICENSE_LINE, LINE_LENGTH, PACKAGE, import_order

_INDEX_HEAD = f'''{LICENSE_LINE}
"""Where every name of the schema is. Made by `make schema`: do not edit.

The names of a module are one text: a dictionary of them all takes longer to load than the rest of the package.
"""

from typing import Final

_NAMES: Final = {{
'''

_INDEX_TAIL = """}

#: The module of each name.
MODULES: Final = {name: module for module, names in _NAMES.items() for name in names.split()}
"""

_WIRE_NAMES_HEAD = f'''{LICENSE_LINE}
"""The class of every command and event by its wire name. Made by `make schema`: do not edit."""

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


def _by_module(schemas: Iterable[Classes]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, module in places(schemas).items():
        found.setdefault(module, []).append(name)
    return dict(sorted(found.items()))


def index_text(monitor: Classes, agent: Classes) -> str:
    """Return the text of the table that the package looks its names up in."""
    entries = []
    for module, names in _by_module((monitor, agent)).items():
        lines = textwrap.wrap(" ".join(names), LINE_LENGTH - 12, break_on_hyphens=False)
        text = [f"{line} " for line in lines[:-1]] + lines[-1:]
        if len(text) == 1 and len(f'    "{module}": "{text[0]}",') <= LINE_LENGTH:
            entries.append(f"    {quoted(module)}: {quoted(text[0])},\n")
        else:
            body = "".join(f"        {quoted(line)}\n" for line in text)
            entries.append(f"    {quoted(module)}: (\n{body}    ),\n")
    return _INDEX_HEAD + "".join(entries) + _INDEX_TAIL


def wire_names_text(monitor: Classes, agent: Classes) -> str:
    """Return the text of the tables that commands and events are looked up in."""
    return (
        _WIRE_NAMES_HEAD
        + _table("The class of each command of the monitor.", "COMMANDS", monitor.commands)
        + _table("The class of each command of the guest agent.", "AGENT_COMMANDS", agent.commands)
        + _table("The class of each event.", "EVENTS", monitor.events)
    )


def stub_text(schemas: Sequence[Classes]) -> str:
    """Return the package's stub, which has every name."""
    lines = []
    for module, names in _by_module(schemas).items():
        for name in sorted(names, key=import_order):
            line = f"from {PACKAGE}.{module} import {name} as {name}"
            if len(line) > LINE_LENGTH:
                line = f"from {PACKAGE}.{module} import (\n    {name} as {name},\n)"
            lines.append(line)
    return _STUB_HEAD + "\n".join(lines) + "\n" + _STUB_TAIL
