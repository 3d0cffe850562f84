# SPDX-License-Identifier: BSD-2-Clause
"""How tests type a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from hvkit.cli import main


@attrs.frozen
class Typed:
    """What came of a command.

    Attributes:
        code: its exit code.
        out: what it wrote to stdout.
        err: what it wrote to stderr.
    """

    code: int
    out: str
    err: str


TypeCommand = Callable[..., Typed]


@pytest.fixture
def type_command(capsys: pytest.CaptureFixture[str]) -> TypeCommand:
    """Type a command, given as words."""

    def type_it(*words: str | Path) -> Typed:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Typed(code, out, err)

    return type_it


@pytest.fixture
def type_fake(type_command: TypeCommand, tmp_path: Path) -> TypeCommand:
    """Type a command for the fake hypervisor, with a run directory of its own."""

    def type_it(*words: str | Path) -> Typed:
        return type_command("--hypervisor", "fake", "--run-dir", tmp_path / "run", *words)

    return type_it


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """The file of an instance, web1."""
    path = tmp_path / "web1.toml"
    path.write_text('[instance]\nname = "web1"\nmemory_mib = 64\nuuid = "11111111-2222-3333-4444-555555555555"\n')
    return path
