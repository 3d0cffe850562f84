# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures that run the command ``hvkit``."""

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
class Result:
    """The result of a command.

    Attributes:
        code: the exit code.
        out: the output on stdout.
        err: the output on stderr.
    """

    code: int
    out: str
    err: str

    @property
    def has_one_error_line(self) -> bool:
        """Whether stderr is one error message on one line."""
        return self.err.startswith("hvkit: ") and self.err.endswith("\n") and self.err.count("\n") == 1


RunCommand = Callable[..., Result]


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Run a command given as words."""

    def run(*words: str | Path) -> Result:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run


@pytest.fixture
def run_fake(run_command: RunCommand, tmp_path: Path) -> RunCommand:
    """Run a command on the fake hypervisor, with its own run directory."""

    def run(*words: str | Path) -> Result:
        return run_command("--hypervisor", "fake", "--run-dir", tmp_path / "run", *words)

    return run


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory with a path short enough for unix sockets, independent of the test's name."""
    with tempfile.TemporaryDirectory(prefix="hv-") as directory:
        yield Path(directory)


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[None]:
    """Run as the user nobody, who cannot enter `tmp_path`."""
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
    """A SPEC file of the instance web1."""
    path = tmp_path / "web1.toml"
    path.write_text('[instance]\nname = "web1"\nmemory_mib = 64\nuuid = "11111111-2222-3333-4444-555555555555"\n')
    return path
