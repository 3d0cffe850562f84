# SPDX-License-Identifier: BSD-2-Clause
"""`tools/setup/environment.sh`: replacing the virtual environment atomically."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[3]

#: An interpreter whose environments contain only itself, and whose pip exits with $PIP_EXITS.
PYTHON: Final = """#!/bin/sh
case "$1 $2" in
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip") echo "no network" && exit "$PIP_EXITS" ;;
    *) exec '{python}' "$@" ;;
esac
"""


class Tree:
    """A source tree with only the files that the setup needs."""

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


def test_setup_runs_once_for_each_state_of_the_requirements(tree: Tree) -> None:
    assert "preparing" in tree.set_up("dev").stdout
    assert (tree.venv / "bin" / "python").exists()
    again = tree.set_up("dev")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert tree.set_up("run").stdout == ""  # dev includes run
    tree.require("cattrs")
    assert "preparing" in tree.set_up("dev").stdout
    assert tree.environments() == [tree.venv.resolve()]


def test_setup_failure_keeps_the_old_environment(tree: Tree) -> None:
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


def test_setup_failure_without_old_environment_leaves_nothing(tree: Tree) -> None:
    assert tree.set_up("run", pip_exits=1).returncode == 1
    assert not tree.venv.exists()
    assert tree.environments() == []


def test_setup_replaces_an_environment_that_is_a_directory(tree: Tree) -> None:
    tree.venv.mkdir(parents=True)
    assert tree.set_up("run").returncode == 0
    assert tree.venv.is_symlink()
    assert len(tree.environments()) == 1
