# SPDX-License-Identifier: BSD-2-Clause
"""The index of the schema package: lazy loading, lookups, and the stub for type checkers."""

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
    """Return the schema modules that a new process has loaded after some code."""
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


def test_import_of_the_package_loads_no_schema_module() -> None:
    assert loaded_after("import hvkit.qmp.schema") == ["_index"]


def test_import_of_a_name_loads_only_its_module() -> None:
    assert loaded_after("from hvkit.qmp.schema import StatusInfo") == ["_index", "run_state"]


def test_import_of_any_module_first_succeeds() -> None:
    code = """
import importlib, sys
from hvkit.qmp.schema._index import MODULES
for module in sorted(set(MODULES.values())):
    for name in [name for name in sys.modules if name.startswith("hvkit.qmp.schema.")]:
        del sys.modules[name]
    importlib.import_module(f"hvkit.qmp.schema.{module}")
"""
    assert "yank" in loaded_after(code)


def test_getattr_resolves_every_name_and_its_annotations() -> None:
    for name in MODULES:
        found = getattr(schema, name)
        assert not isinstance(found, str)
        if isinstance(found, type) and issubclass(found, Struct):
            assert found.__name__ == name
            for member in members_of(found).values():
                assert not isinstance(member.type, str)


def test_getattr_resolves_a_string_alias_to_a_type() -> None:
    assert schema.BlockdevRef == schema.BlockdevOptions | str


def test_dir_lists_all_names() -> None:
    assert {"StatusInfo", "GuestPing", "command"} <= set(dir(schema))


def test_getattr_of_unknown_name_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'QueryStatuss'"):
        _ = schema.QueryStatuss  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("find", "name", "text"),
    [
        (schema.command, "query-statu", "unknown command 'query-statu': did you mean query-stat"),
        (schema.command, "guest-pin", "did you mean guest-p"),
        (schema.command, "?", r"unknown command '\?'$"),
        (schema.event, "SHUTDOW", "unknown event 'SHUTDOW': did you mean SHUTDOWN"),
    ],
)
def test_lookup_of_unknown_wire_name_suggests_close_names(find: Any, name: str, text: str) -> None:
    with pytest.raises(ProgrammerError, match=text):
        find(name)


def test_find_event_of_unknown_name_returns_none() -> None:
    assert schema.find_event("SHUTDOWN") is schema.ShutdownEvent
    assert schema.find_event("FROM_THE_FUTURE") is None


def test_stub_has_every_name_with_its_module() -> None:
    told = {}
    for node in STUB.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hvkit.qmp.schema."):
            (name,) = node.names
            assert name.asname == name.name
            told[name.name] = node.module.removeprefix("hvkit.qmp.schema.")
    assert told == MODULES


def test_stub_has_the_functions_with_their_signatures() -> None:
    told = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}
    functions = {name: each for name, each in vars(schema).items() if inspect.isfunction(each) and name[0] != "_"}
    here = {name for name, each in functions.items() if each.__module__ == schema.__name__}
    assert told.keys() == here
    for name, node in told.items():
        assert [each.arg for each in node.args.args] == list(inspect.signature(functions[name]).parameters)


def test_getattr_by_many_threads_returns_one_class() -> None:
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
