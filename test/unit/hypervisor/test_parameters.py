# SPDX-License-Identifier: BSD-2-Clause
"""Definitions of parameters: types, syntax and node checks, rules, advice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hvkit.errors import ProgrammerError
from hvkit.hypervisor import ParameterError
from hvkit.hypervisor.parameters import (
    ABSOLUTE_PATH,
    DIRECTORY,
    EXECUTABLE_FILE,
    READABLE_FILE,
    Check,
    Parameter,
    ParameterTable,
    at_least,
    between,
    one_of,
)


def native_needs_none(values: Mapping[str, Any]) -> None:
    if values["disk_aio"] == "native" and values["disk_cache"] != "none":
        raise ParameterError("disk_aio", "native", "needs disk_cache none")


TABLE = ParameterTable(
    (
        Parameter(name="kernel_path", kind=str, default="", doc="Kernel.", syntax=ABSOLUTE_PATH, node=READABLE_FILE),
        Parameter(
            name="disk_cache", kind=str, default="default", doc="Cache.", syntax=one_of("default", "none", "writeback")
        ),
        Parameter(name="disk_aio", kind=str, default="threads", doc="AIO.", syntax=one_of("threads", "native")),
        Parameter(
            name="acpi",
            kind=bool,
            default=True,
            doc="ACPI.",
            advice=lambda value: None if value else "the power button does nothing",
        ),
        Parameter(name="cpu_cores", kind=int, default=0, doc="Cores.", syntax=at_least(0)),
        Parameter(name="share", kind=float, default=0.5, doc="Share.", syntax=between(0, 1)),
    ),
    rules=(native_needs_none,),
)


def test_fill_returns_all_parameters_typed() -> None:
    assert TABLE.fill({"cpu_cores": 2, "share": 1}) == {
        "kernel_path": "",
        "disk_cache": "default",
        "disk_aio": "threads",
        "acpi": True,
        "cpu_cores": 2,
        "share": 1.0,
    }
    assert type(TABLE.fill({"share": 1})["share"]) is float


def test_unknown_name_suggests_similar_names() -> None:
    with pytest.raises(ParameterError) as caught:
        TABLE.fill({"disk_cash": "none"})
    assert caught.value.name == "disk_cash"
    assert caught.value.close_matches[0] == "disk_cache"
    assert str(caught.value) == "disk_cash: no such parameter; did you mean disk_cache or disk_aio?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("acpi", 1),
        ("acpi", "yes"),
        ("acpi", None),
        ("cpu_cores", True),
        ("cpu_cores", "2"),
        ("cpu_cores", 2.0),
        ("disk_cache", None),
        ("disk_cache", Path("/x")),
        ("share", "0.5"),
        ("share", True),
    ],
)
def test_fill_does_not_coerce_values(name: str, value: object) -> None:
    with pytest.raises(ParameterError) as caught:
        TABLE.fill({name: value})
    assert caught.value.name == name
    assert repr(value) in str(caught.value)


def test_invalid_choice_lists_and_suggests_choices() -> None:
    with pytest.raises(ParameterError) as caught:
        TABLE.check_syntax({"disk_cache": "nome"})
    assert (caught.value.name, caught.value.value, caught.value.close_matches) == ("disk_cache", "nome", ("none",))
    assert "expected one of 'default', 'none', 'writeback', got 'nome'" in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("cpu_cores", -1), ("share", 1.1), ("kernel_path", "boot/vmlinuz")])
def test_check_syntax_rejects_invalid_values(name: str, value: object) -> None:
    assert TABLE.fill({name: value})[name] == value
    with pytest.raises(ParameterError) as caught:
        TABLE.check_syntax({name: value})
    assert caught.value.name == name


def test_rules_receive_all_values_with_defaults() -> None:
    TABLE.check_syntax({"disk_aio": "native", "disk_cache": "none"})
    with pytest.raises(ParameterError, match="disk_aio: needs disk_cache none"):
        TABLE.check_syntax({"disk_aio": "native"})


def test_only_validate_runs_node_checks(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    given = {"kernel_path": str(kernel)}
    TABLE.check_syntax(given)
    with pytest.raises(ParameterError, match="kernel_path: expected a readable file on this node"):
        TABLE.validate(given)
    kernel.touch()
    assert TABLE.validate(given)["kernel_path"] == str(kernel)


def test_empty_text_means_unset_if_it_is_the_default() -> None:
    TABLE.validate({"kernel_path": ""})
    with pytest.raises(ParameterError):
        TABLE.check_syntax({"disk_cache": ""})


def test_assess_returns_advice() -> None:
    assert TABLE.assess({"acpi": False}) == ["acpi: the power button does nothing"]
    assert TABLE.assess({}) == []


def test_node_checks_of_files_and_directories(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.touch(mode=0o600)
    assert READABLE_FILE.accepts(str(file))
    assert not READABLE_FILE.accepts(str(tmp_path))
    assert not EXECUTABLE_FILE.accepts(str(file))
    file.chmod(0o700)
    assert EXECUTABLE_FILE.accepts(str(file))
    assert DIRECTORY.accepts(str(tmp_path))
    assert not DIRECTORY.accepts(str(file))


def test_table_is_an_ordered_mapping() -> None:
    assert list(TABLE)[:2] == ["kernel_path", "disk_cache"]
    assert TABLE["acpi"].default is True
    assert len(TABLE) == 6


@pytest.mark.parametrize(
    "definition",
    [
        {"kind": bool, "default": 1},
        {"kind": int, "default": True},
        {"kind": list, "default": "a"},
    ],
)
def test_default_of_wrong_type_raises_programmer_error(definition: dict[str, Any]) -> None:
    with pytest.raises(ProgrammerError, match="parameter x"):
        Parameter(name="x", doc="X.", **definition)


def test_default_that_fails_its_check_raises() -> None:
    with pytest.raises(ParameterError, match="x: expected more"):
        Parameter(name="x", kind=int, default=1, doc="X.", syntax=Check("more", lambda value: value > 1))


def test_duplicate_name_raises_programmer_error() -> None:
    parameter = Parameter(name="x", kind=int, default=1, doc="X.")
    with pytest.raises(ProgrammerError, match="x is defined twice"):
        ParameterTable((parameter, parameter))


def test_failed_check_raises_problem_instead_of_condition() -> None:
    check = Check("true only if swtpm is installed", lambda value: not value, problem="swtpm is not installed")
    parameter = Parameter(name="tpm", kind=bool, default=False, doc="X.", node=check)
    with pytest.raises(ParameterError, match=r"^tpm: swtpm is not installed$"):
        parameter.check(parameter.node, True)
