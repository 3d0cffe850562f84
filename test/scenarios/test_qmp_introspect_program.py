# SPDX-License-Identifier: BSD-2-Clause
"""Schemas of programs that a test writes: running them, caching, and failures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from hvkit.qmp import (
    ConnectError,
    introspection,
)
from hvkit.qmp.introspection import introspect_program

#: A program that answers like a QEMU with one command, and records each run.
ANSWERING = """#!{python}
import json, os, sys
open({runs!r}, "a").write(f"{{os.getpid()}}\\n")
version = {{"qemu": {{"major": 9, "minor": 1, "micro": 2}}, "package": "made up"}}
print(json.dumps({{"QMP": {{"version": version, "capabilities": []}}}}), flush=True)
answers = {{"query-qmp-schema": {schema!r}}}
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({{"return": answers.get(request["execute"], {{}}), "id": request["id"]}}), flush=True)
"""


SMALL: Final[list[dict[str, Any]]] = [
    {"name": "stop", "meta-type": "command", "arg-type": "0", "ret-type": "0"},
    {"name": "0", "meta-type": "object", "members": []},
]


@pytest.fixture(autouse=True)
def empty_memory_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty the cache of this process before each test."""
    monkeypatch.setattr(introspection, "_cached", {})


class Program:
    """A program that a test writes and replaces."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "qemu"
        self._runs_file = directory / "runs"

    def write(self, reply: Any) -> str:
        made = self.path.with_suffix(".new")
        made.write_text(ANSWERING.format(python=sys.executable, runs=str(self._runs_file), schema=reply))
        made.chmod(0o755)
        made.rename(self.path)
        return str(self.path)

    @property
    def runs(self) -> int:
        return len(self._runs_file.read_text().split()) if self._runs_file.exists() else 0


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_introspect_program_runs_the_program_once(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program.write(SMALL)
    first = introspect_program(path, cache_dir=tmp_path / "cache")
    assert introspect_program(path) is first
    monkeypatch.setattr(introspection, "_cached", {})
    again = introspect_program(path, cache_dir=tmp_path / "cache")
    assert program.runs == 1
    assert again.version == first.version == (9, 1, 2, "made up")
    assert again.commands() == first.commands() == ("stop",)


def test_introspect_program_after_an_upgrade_runs_it_again(program: Program, tmp_path: Path) -> None:
    introspect_program(program.write(SMALL), cache_dir=tmp_path / "cache")
    path = program.write([{**SMALL[0], "name": "cont"}, SMALL[1]])
    assert introspect_program(path, cache_dir=tmp_path / "cache").commands() == ("cont",)
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\x00", None], ids=["empty", "other", "no-text", "cut"])
def test_introspect_program_replaces_a_damaged_cache_entry(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    path = program.write(SMALL)
    introspect_program(path, cache_dir=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-10] if damage is None else damage)
    monkeypatch.setattr(introspection, "_cached", {})
    assert introspect_program(path, cache_dir=tmp_path / "cache").commands() == ("stop",)
    assert program.runs == 2
    assert file.read_bytes() == whole


def test_introspect_program_from_many_processes_leaves_one_complete_entry(program: Program, tmp_path: Path) -> None:
    path = program.write(SMALL)
    code = (
        "import sys; from hvkit.qmp.introspection import introspect_program;"
        "print(introspect_program(sys.argv[1], cache_dir=sys.argv[2], timeout_s=60).commands())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, path, str(tmp_path / "cache")]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(6)]
    said = [writer.communicate(timeout=60)[0] for writer in writers]
    assert said == [b"('stop',)\n"] * 6
    asked = program.runs
    assert introspect_program(path, cache_dir=tmp_path / "cache").commands() == ("stop",)
    assert program.runs == asked, "the entry could not be read"
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (None, "there is no such program"),
        ("\x7fELF not really", "cannot run it: Exec format error"),
        ("#!/bin/sh\necho this is not QEMU >&2\n", "cannot query its schema: .*; stderr: this is not QEMU"),
        ("#!/bin/sh\nexec cat >/dev/null\n", "cannot query its schema: "),
    ],
    ids=["missing", "no-program", "no-qemu", "silent"],
)
def test_introspect_program_that_is_not_qemu_raises_connect_error(
    tmp_path: Path, source: str | None, problem: str
) -> None:
    path = tmp_path / "qemu"
    if source is not None:
        path.write_text(source)
        path.chmod(0o755)
    with pytest.raises(ConnectError, match=f"^{path}: {problem}"):
        introspect_program(str(path), timeout_s=1.0, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
