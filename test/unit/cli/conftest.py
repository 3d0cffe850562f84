# SPDX-License-Identifier: BSD-2-Clause
"""How tests type a command."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Callable, Iterator
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
def short_dir() -> Iterator[Path]:
    """A directory whose path is short enough for sockets below it, whatever the test is called."""
    with tempfile.TemporaryDirectory(prefix="hv-") as directory:
        yield Path(directory)


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[None]:
    """Be a user who may not enter the directories of root's tests, of which `tmp_path` is one."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    tmp_path.chmod(0o700)
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """The file of an instance, web1."""
    path = tmp_path / "web1.toml"
    path.write_text('[instance]\nname = "web1"\nmemory_mib = 64\nuuid = "11111111-2222-3333-4444-555555555555"\n')
    return path
