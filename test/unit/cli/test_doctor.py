# SPDX-License-Identifier: BSD-2-Clause
"""The checks of ``hvkit doctor``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from hvkit.cli import EXIT_FAILED, EXIT_OK, doctor
from hvkit.cli.doctor import is_healthy, to_text
from hvkit.cli.settings import Settings
from hvkit.hypervisor import NodeCheck
from hvkit.hypervisor.kvm.host.node_checks import INSTALL_QEMU
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.testing.simulator import write_executable

RunCommand = Callable[..., Any]


def test_text_aligns_columns_and_shows_remedies() -> None:
    checks = [
        NodeCheck(subject="QEMU", verdict="bad", text="is not installed", remedy="install it"),
        NodeCheck(subject="tap", verdict="ok", text="fine"),
    ]
    assert to_text(checks).splitlines() == [
        "bad   QEMU  is not installed",
        "            -> install it",
        "ok    tap   fine",
    ]


@pytest.mark.parametrize(("verdict", "healthy"), [("ok", True), ("note", True), ("bad", False)])
def test_node_is_unhealthy_only_with_bad_check(verdict: Any, healthy: bool) -> None:
    assert is_healthy([NodeCheck(subject="x", verdict=verdict, text="x")]) is healthy


def test_doctor_without_qemu_prints_install_command(
    run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("HVKIT_QEMU", raising=False)
    result = run_command("--run-dir", tmp_path / "run", "doctor", "--json")
    assert result.code == EXIT_FAILED
    checks = {check["subject"]: check for check in json.loads(result.out)}
    assert (checks["QEMU"]["verdict"], checks["QEMU"]["remedy"]) == ("bad", INSTALL_QEMU)
    assert checks["qemu-img"]["verdict"] == "note"
    assert checks["python"]["verdict"] == "ok"


def test_doctor_reports_program_that_is_not_qemu(tmp_path: Path) -> None:
    (check, *_) = doctor.probe_hypervisor(Settings(hypervisor="kvm", run_dir=tmp_path, qemu="/bin/true"))
    assert check.verdict == "bad"
    assert "/bin/true" in check.text


def test_doctor_runs_no_kvm_checks_for_other_hypervisor(tmp_path: Path) -> None:
    assert doctor.probe_hypervisor(Settings(hypervisor="fake", run_dir=tmp_path)) == []
    assert doctor.probe_hypervisor(Settings(hypervisor="xen", run_dir=tmp_path)) == []


def test_run_dir_check_accepts_missing_directory(tmp_path: Path) -> None:
    check = doctor.probe_run_dir(Settings(hypervisor="fake", run_dir=tmp_path / "run"))
    assert (check.verdict, check.text) == ("ok", f"{tmp_path}/run, created at the first start")
    assert not (tmp_path / "run").exists()


def test_run_dir_check_reports_missing_write_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    check = doctor.probe_run_dir(Settings(hypervisor="fake", run_dir=tmp_path / "run"))
    assert check.verdict == "bad"
    assert f"{tmp_path} is not writable" in check.text


@pytest.mark.parametrize("hypervisor", ["fake", "kvm"])
@pytest.mark.parametrize("way", ["file", "file/x", "loop/x"])
def test_run_dir_check_reports_impossible_path(tmp_path: Path, hypervisor: str, way: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    check = doctor.probe_run_dir(Settings(hypervisor=hypervisor, run_dir=tmp_path / way))
    assert check.verdict == "bad"
    assert str(tmp_path / way.partition("/")[0]) in check.text


def test_run_dir_check_reports_missing_permission(tmp_path: Path, as_nobody: None) -> None:
    check = doctor.probe_run_dir(Settings(hypervisor="fake", run_dir=tmp_path / "a" / "b"))
    assert (check.verdict, check.text) == ("bad", f"{tmp_path}/a/b cannot be accessed: Permission denied")


def test_run_dir_check_reports_unknown_hypervisor(tmp_path: Path) -> None:
    check = doctor.probe_run_dir(Settings(hypervisor="xen", run_dir=tmp_path))
    assert check.verdict == "bad"
    assert "'xen': unknown" in check.text


@pytest.mark.qemu
def test_doctor_on_test_node_reports_healthy(run_command: RunCommand, tmp_path: Path, qemu_binary: str) -> None:
    result = run_command("--run-dir", tmp_path / "run", "doctor")
    assert result.code == EXIT_OK, result.out
    assert qemu_binary in result.out


@pytest.mark.parametrize("way", ["option", "environment"])
def test_doctor_checks_only_chosen_qemu(
    run_command: RunCommand, short_dir: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    chosen = str(write_executable(short_dir))
    if way == "environment":
        monkeypatch.setenv("HVKIT_QEMU", chosen)
    words = ("--qemu", chosen) if way == "option" else ()
    with_default = attrs.evolve(TABLE["kvm_path"], default="/nonexistent/qemu")
    monkeypatch.setitem(TABLE._parameters, "kvm_path", with_default)
    result = run_command("--run-dir", short_dir / "run", *words, "doctor")
    assert result.code == EXIT_OK, result.out
    assert chosen in result.out
    assert "/nonexistent/qemu" not in result.out


def test_doctor_with_missing_chosen_qemu_reports_it(run_command: RunCommand, short_dir: Path) -> None:
    result = run_command("--run-dir", short_dir / "run", "--qemu", "/nonexistent/qemu", "doctor", "--json")
    assert result.code == EXIT_FAILED
    checks = {check["subject"]: check for check in json.loads(result.out)}
    assert checks["QEMU"]["verdict"] == "bad"
    assert "/nonexistent/qemu" in checks["QEMU"]["text"]
    assert checks["run dir"]["verdict"] == "ok"
