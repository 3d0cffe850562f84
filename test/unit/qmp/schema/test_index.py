# SPDX-License-Identifier: BSD-2-Clause
"""The index of the schema: what it loads, what it finds, what it tells type checkers."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import schema
from hvkit.qmp.base import Struct, members_of
from hvkit.qmp.schema._index import MODULES

STUB = ast.parse(Path(schema.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))


def loaded_after(code: str) -> list[str]:
    """The schema's modules that are loaded in a fresh process after some code."""
    code += (
        "\nimport sys, json; print(json.dumps([name for name in sys.modules if name.startswith('hvkit.qmp.schema.')]))"
    )
    path = str(Path(schema.__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r})\n{code}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return [name.removeprefix("hvkit.qmp.schema.") for name in json.loads(done.stdout)]


def test_importing_the_index_loads_no_module_of_the_schema() -> None:
    assert loaded_after("import hvkit.qmp.schema") == ["_index"]


def test_importing_a_name_loads_its_module_only() -> None:
    assert loaded_after("from hvkit.qmp.schema import StatusInfo") == ["_index", "run_state"]


def test_any_module_may_be_the_first_to_load() -> None:
    code = """
import importlib, sys
from hvkit.qmp.schema._index import MODULES
for module in sorted(set(MODULES.values())):
    for name in [name for name in sys.modules if name.startswith("hvkit.qmp.schema.")]:
        del sys.modules[name]
    importlib.import_module(f"hvkit.qmp.schema.{module}")
"""
    assert "yank" in loaded_after(code)


def test_every_name_is_found_and_everything_its_annotations_name() -> None:
    for name in MODULES:
        found = getattr(schema, name)
        assert not isinstance(found, str)
        if isinstance(found, type) and issubclass(found, Struct):
            assert found.__name__ == name
            for member in members_of(found).values():
                assert not isinstance(member.type, str)


def test_an_alias_that_is_text_is_found_as_a_type() -> None:
    assert schema.BlockdevRef == schema.BlockdevOptions | str


def test_all_names_are_listed() -> None:
    assert {"StatusInfo", "GuestPing", "command"} <= set(dir(schema))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'QueryStatuss'"):
        _ = schema.QueryStatuss  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("find", "name", "text"),
    [
        (schema.command, "query-statu", "no command 'query-statu': did you mean query-stat"),
        (schema.command, "guest-pin", "did you mean guest-p"),
        (schema.command, "?", r"no command '\?'$"),
        (schema.event, "SHUTDOW", "no event 'SHUTDOW': did you mean SHUTDOWN"),
    ],
)
def test_an_unknown_wire_name_gives_close_ones(find: Any, name: str, text: str) -> None:
    with pytest.raises(ProgrammerError, match=text):
        find(name)


def test_finding_an_event_does_not_fail() -> None:
    assert schema.find_event("SHUTDOWN") is schema.ShutdownEvent
    assert schema.find_event("FROM_THE_FUTURE") is None


def test_the_stub_has_every_name_from_its_module() -> None:
    told = {}
    for node in STUB.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hvkit.qmp.schema."):
            (name,) = node.names
            assert name.asname == name.name
            told[name.name] = node.module.removeprefix("hvkit.qmp.schema.")
    assert told == MODULES


def test_the_stub_has_the_functions_as_they_are() -> None:
    told = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}
    functions = {name: each for name, each in vars(schema).items() if inspect.isfunction(each) and name[0] != "_"}
    here = {name for name, each in functions.items() if each.__module__ == schema.__name__}
    assert told.keys() == here
    for name, node in told.items():
        assert [each.arg for each in node.args.args] == list(inspect.signature(functions[name]).parameters)


def test_many_threads_may_ask_for_one_name_first() -> None:
    code = """
import threading
from hvkit.qmp import schema
start, found = threading.Barrier(8), []
def ask():
    start.wait(10)
    found.append((schema.BlockdevOptions, schema.BlockdevRef, schema.QueryBlock()))
threads = [threading.Thread(target=ask) for _ in range(8)]
[each.start() for each in threads], [each.join() for each in threads]
assert len(found) == 8 and all(each == found[0] for each in found), found
"""
    assert threading.active_count() < 100
    assert "block_core" in loaded_after(code)
