# SPDX-License-Identifier: BSD-2-Clause
"""Project rules that no other checker enforces: licenses, imports, module sizes, packages, and the layout of tests."""

from __future__ import annotations

import ast
import configparser
import re
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
def test_module_starts_with_license_line(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert SPDX in lines[:2], f"the first line, or the line after #!, must be: {SPDX}"
    assert lines[0] == SPDX or lines[0].startswith("#!")


@pytest.mark.parametrize("path", [ROOT / "Makefile", ROOT / ".ci/run", *(ROOT / "tools").rglob("*.sh")], ids=name_of)
def test_script_starts_with_license_line(path: Path) -> None:
    assert SPDX in path.read_text(encoding="utf-8").splitlines()[:2]


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


@every_python_file
def test_module_does_not_import_lib(path: Path) -> None:
    assert not [name for name in imported_modules(path) if name.split(".")[0] == "lib"]


def hand_written_modules() -> list[Path]:
    return [path for path in sorted((ROOT / "lib").rglob("*.py")) if not path.is_relative_to(GENERATED)]


@pytest.mark.parametrize("path", hand_written_modules(), ids=name_of)
def test_module_is_within_line_limit(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_setup_cfg_lists_all_packages() -> None:
    packages = {path.parent.relative_to(ROOT / "lib") for path in (ROOT / "lib").rglob("__init__.py")}
    assert words(setup_cfg()["options"]["packages"]) == {".".join(("hvkit", *package.parts)) for package in packages}


def test_directories_of_modules_are_packages() -> None:
    directories = {path.parent for path in (ROOT / "lib").rglob("*.py")}
    assert not [name_of(directory) for directory in directories if not (directory / "__init__.py").exists()]


def test_typing_marker_is_packaged() -> None:
    assert (ROOT / "lib" / "py.typed").exists()
    assert "py.typed" in setup_cfg()["options.package_data"]["*"]


def modules_loaded_by(statement: str) -> set[str]:
    """Return the names of the modules that a statement loads in a new interpreter."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT / "build" / "link"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return words(run.stdout)


def test_import_of_hvkit_loads_no_submodule() -> None:
    assert {name for name in modules_loaded_by("import hvkit") if name.startswith("hvkit.")} == set()


def test_import_of_qmp_needs_only_attrs_and_cattrs() -> None:
    tops = {name.split(".")[0] for name in modules_loaded_by("import hvkit.qmp")}
    allowed = {"hvkit", "attr", "attrs", "cattr", "cattrs", "typing_extensions"}
    assert tops - allowed <= sys.stdlib_module_names


def test_import_of_qmp_loads_no_upper_layer() -> None:
    above = ("hvkit.hypervisor", "hvkit.testing", "hvkit.cli")
    assert [name for name in modules_loaded_by("import hvkit.qmp") if name.startswith(above)] == []


#: The directory whose modules a directory of tests mirrors; the most specific first.
MIRRORED = {
    ROOT / "test/unit/support": ROOT / "test/support",
    ROOT / "test/unit": ROOT / "lib",
    ROOT / "test/tools": ROOT / "tools",
}


def mirrored_test_files() -> list[Path]:
    return sorted(path for root in ("unit", "tools") for path in (ROOT / "test" / root).rglob("test_*.py"))


@pytest.mark.parametrize("path", mirrored_test_files(), ids=name_of)
def test_unit_test_mirrors_module_or_package(path: Path) -> None:
    root = next(root for root in MIRRORED if path.is_relative_to(root))
    directory, name = MIRRORED[root] / path.parent.relative_to(root), path.stem.removeprefix("test_")
    candidates = [directory / each for each in (name, f"{name}.py", f"_{name}.py", f"{name}.sh")]
    assert any(candidate.exists() for candidate in candidates), f"{name_of(directory)} has no module or package {name}"


def test_helpers_are_in_test_support() -> None:
    outside = [path for path in (ROOT / "test").rglob("*.py") if not path.is_relative_to(ROOT / "test" / "support")]
    assert [name_of(path) for path in outside if not re.fullmatch(r"conftest|test_\w+", path.stem)] == []
    assert [name_of(path) for path in (ROOT / "test" / "support").rglob("test_*.py")] == []


def modules_with_tests() -> list[Path]:
    return [*sorted((ROOT / "test").rglob("test_*.py")), *sorted((ROOT / "lib/testing/conformance").glob("*.py"))]


@pytest.mark.parametrize("path", modules_with_tests(), ids=name_of)
def test_name_has_subject_condition_and_expectation(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names = [node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    tests = [name for name in names if name.startswith("test")]
    assert [name for name in tests if not re.fullmatch(r"test(_[a-z0-9]+){3,}", name)] == []


@every_python_file
def test_module_has_no_banner_comment(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [number for number, line in enumerate(lines, 1) if re.match(r"\s*# ?([-=#*])\1", line)] == []
