# SPDX-License-Identifier: BSD-2-Clause
"""The rules of the house that no other checker knows."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPDX = "# SPDX-License-Identifier: BSD-2-Clause"
MAX_LINES = 800
GENERATED = ROOT / "lib" / "qmp" / "schema"


def python_files() -> list[Path]:
    tops = ("lib", "test", "tools", "benchmark", "examples", "docs")
    return sorted(path for top in tops for path in (ROOT / top).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_python_file = pytest.mark.parametrize("path", python_files(), ids=name_of)


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def words(option: str) -> set[str]:
    return set(option.split())


@every_python_file
def test_names_its_license_first(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert SPDX in lines[:2], f"the first line, or the one below #!, must be: {SPDX}"
    assert lines[0] == SPDX or lines[0].startswith("#!")


@pytest.mark.parametrize("path", [ROOT / "Makefile", ROOT / ".ci/run", *(ROOT / "tools").rglob("*.sh")], ids=name_of)
def test_scripts_name_their_license_first(path: Path) -> None:
    assert SPDX in path.read_text(encoding="utf-8").splitlines()[:2]


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


@every_python_file
def test_imports_hvkit_by_its_name(path: Path) -> None:
    assert not [name for name in imported_modules(path) if name.split(".")[0] == "lib"]


def hand_written_modules() -> list[Path]:
    return [path for path in sorted((ROOT / "lib").rglob("*.py")) if not path.is_relative_to(GENERATED)]


@pytest.mark.parametrize("path", hand_written_modules(), ids=name_of)
def test_module_is_short_enough_to_be_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_setup_cfg_lists_every_package() -> None:
    packages = {path.parent.relative_to(ROOT / "lib") for path in (ROOT / "lib").rglob("__init__.py")}
    assert words(setup_cfg()["options"]["packages"]) == {".".join(("hvkit", *package.parts)) for package in packages}


def test_every_directory_of_modules_is_a_package() -> None:
    directories = {path.parent for path in (ROOT / "lib").rglob("*.py")}
    assert not [name_of(directory) for directory in directories if not (directory / "__init__.py").exists()]


def test_the_typing_marker_is_shipped() -> None:
    assert (ROOT / "lib" / "py.typed").exists()
    assert "py.typed" in setup_cfg()["options.package_data"]["*"]


def modules_loaded_by(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after a statement, and had not before."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT / "build" / "link"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return words(run.stdout)


def test_importing_hvkit_imports_neither_half() -> None:
    assert {name for name in modules_loaded_by("import hvkit") if name.startswith("hvkit.")} == set()


def test_importing_qmp_needs_attrs_and_cattrs_only() -> None:
    tops = {name.split(".")[0] for name in modules_loaded_by("import hvkit.qmp")}
    allowed = {"hvkit", "attr", "attrs", "cattr", "cattrs", "typing_extensions"}
    assert tops - allowed <= sys.stdlib_module_names


def test_importing_qmp_does_not_import_the_layers_above() -> None:
    above = ("hvkit.hypervisor", "hvkit.testing", "hvkit.cli")
    assert [name for name in modules_loaded_by("import hvkit.qmp") if name.startswith(above)] == []
