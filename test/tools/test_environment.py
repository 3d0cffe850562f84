# SPDX-License-Identifier: BSD-2-Clause
"""The environment that `make` sets up is replaced by a whole one, or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

#: An interpreter that makes environments of nothing but itself, and installs nothing, as $PIP_EXITS says.
PYTHON: Final = """#!/bin/sh
case "$1 $2" in
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip") echo "no network" && exit "$PIP_EXITS" ;;
    *) exec '{python}' "$@" ;;
esac
"""


class Tree:
    """A source tree with nothing in it but what setting up takes."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.venv = top / "build" / "venv"
        (top / "tools" / "setup").mkdir(parents=True)
        shutil.copy(ROOT / "tools" / "setup" / "environment.sh", top / "tools" / "setup")
        self.python = top / "python3"
        self.python.write_text(PYTHON.format(python=sys.executable))
        self.python.chmod(0o755)
        (top / "pyproject.toml").touch()
        self.require("attrs")

    def require(self, package: str) -> None:
        (self.top / "setup.cfg").write_text(package)

    def set_up(self, goal: str, *, pip_exits: int = 0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", self.top / "tools" / "setup" / "environment.sh", goal],
            env={**os.environ, "PYTHON": str(self.python), "PIP_EXITS": str(pip_exits)},
            capture_output=True,
            text=True,
        )

    def environments(self) -> list[Path]:
        return [path for path in self.venv.parent.glob("venv*") if not path.is_symlink()]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_environment_is_made_once_for_each_state(tree: Tree) -> None:
    assert "preparing" in tree.set_up("dev").stdout
    assert (tree.venv / "bin" / "python").exists()
    again = tree.set_up("dev")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert tree.set_up("run").stdout == ""  # dev has all that run needs
    tree.require("cattrs")
    assert "preparing" in tree.set_up("dev").stdout
    assert tree.environments() == [tree.venv.resolve()]


def test_environment_that_cannot_be_made_leaves_the_old_one(tree: Tree) -> None:
    tree.set_up("dev")
    before = tree.venv.resolve()
    tree.require("cattrs")
    failed = tree.set_up("dev", pip_exits=1)
    assert failed.returncode == 1
    assert "no network" in failed.stderr
    assert "build/venv was not changed" in failed.stderr
    assert tree.environments() == [before] == [tree.venv.resolve()]
    tree.require("attrs")
    assert tree.set_up("dev", pip_exits=1).returncode == 0


def test_first_environment_that_cannot_be_made_leaves_nothing(tree: Tree) -> None:
    assert tree.set_up("run", pip_exits=1).returncode == 1
    assert not tree.venv.exists()
    assert tree.environments() == []


def test_environment_that_is_a_directory_gives_way(tree: Tree) -> None:
    tree.venv.mkdir(parents=True)
    assert tree.set_up("run").returncode == 0
    assert tree.venv.is_symlink()
    assert len(tree.environments()) == 1
