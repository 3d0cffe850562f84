# SPDX-License-Identifier: BSD-2-Clause
"""What the doctor finds, and what it advises."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from hvkit.cli import EXIT_OK, EXIT_WORLD, doctor
from hvkit.cli.doctor import Finding, is_healthy, to_text
from hvkit.cli.settings import Settings
from hvkit.hypervisor.kvm.plan.capabilities import KvmHost
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.testing.simulator import write_executable

TypeCommand = Callable[..., Any]


def test_text_has_columns_and_remedies() -> None:
    findings = [
        Finding(subject="QEMU", verdict="bad", text="is not installed", remedy="install it"),
        Finding(subject="tap", verdict="ok", text="fine"),
    ]
    assert to_text(findings).splitlines() == [
        "bad   QEMU  is not installed",
        "            -> install it",
        "ok    tap   fine",
    ]


@pytest.mark.parametrize(("verdict", "healthy"), [("ok", True), ("note", True), ("bad", False)])
def test_only_what_is_bad_makes_a_node_ill(verdict: Any, healthy: bool) -> None:
    assert is_healthy([Finding(subject="x", verdict=verdict, text="x")]) is healthy


def test_node_without_qemu_is_told_what_to_type(
    type_command: TypeCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("HVKIT_QEMU", raising=False)
    typed = type_command("--run-dir", tmp_path / "run", "doctor", "--json")
    assert typed.code == EXIT_WORLD
    findings = {finding["subject"]: finding for finding in json.loads(typed.out)}
    assert (findings["QEMU"]["verdict"], findings["QEMU"]["remedy"]) == ("bad", doctor.INSTALL_QEMU)
    assert findings["qemu-img"]["verdict"] == "note"
    assert findings["python"]["verdict"] == "ok"


def test_program_that_is_no_qemu_is_found_out(tmp_path: Path) -> None:
    finding = doctor.examine_qemu(Settings(hypervisor="kvm", run_dir=tmp_path, qemu="/bin/true"))
    assert finding.verdict == "bad"
    assert "/bin/true" in finding.text


@pytest.mark.parametrize(
    ("host", "verdict", "text"),
    [
        (KvmHost(), "ok", "works"),
        (KvmHost(is_emulated=True), "note", "only emulates"),
        (KvmHost(problem="/dev/kvm: No such file"), "note", "/dev/kvm: No such file"),
    ],
)
def test_kvm(host: KvmHost, verdict: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "read_kvm_host", lambda: host)
    finding = doctor.examine_kvm()
    assert finding.verdict == verdict
    assert text in finding.text


def test_tap_without_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TUN", tmp_path / "tun")
    finding = doctor.examine_tap()
    assert (finding.verdict, finding.remedy) == ("note", "modprobe tun")


def test_run_dir_that_is_to_be_made(tmp_path: Path) -> None:
    finding = doctor.examine_run_dir(Settings(hypervisor="fake", run_dir=tmp_path / "run"))
    assert (finding.verdict, finding.text) == ("ok", f"{tmp_path}/run, made when first needed")
    assert not (tmp_path / "run").exists()


def test_run_dir_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    finding = doctor.examine_run_dir(Settings(hypervisor="fake", run_dir=tmp_path / "run"))
    assert finding.verdict == "bad"
    assert f"{tmp_path} cannot be written to" in finding.text


@pytest.mark.parametrize("hypervisor", ["fake", "kvm"])
@pytest.mark.parametrize("way", ["file", "file/x", "loop/x"])
def test_run_dir_that_cannot_be_is_a_finding(tmp_path: Path, hypervisor: str, way: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    finding = doctor.examine_run_dir(Settings(hypervisor=hypervisor, run_dir=tmp_path / way))
    assert finding.verdict == "bad"
    assert str(tmp_path / way.partition("/")[0]) in finding.text


def test_run_dir_that_this_user_may_not_look_at(tmp_path: Path, as_nobody: None) -> None:
    finding = doctor.examine_run_dir(Settings(hypervisor="fake", run_dir=tmp_path / "a" / "b"))
    assert (finding.verdict, finding.text) == ("bad", f"{tmp_path}/a/b cannot be accessed: Permission denied")


def test_unknown_hypervisor_is_a_finding(tmp_path: Path) -> None:
    finding = doctor.examine_run_dir(Settings(hypervisor="xen", run_dir=tmp_path))
    assert finding.verdict == "bad"
    assert "'xen': not known" in finding.text


@pytest.mark.qemu
def test_this_node_is_healthy(type_command: TypeCommand, tmp_path: Path, qemu_binary: str) -> None:
    typed = type_command("--run-dir", tmp_path / "run", "doctor")
    assert typed.code == EXIT_OK, typed.out
    assert qemu_binary in typed.out


@pytest.mark.parametrize("way", ["option", "environment"])
def test_chosen_qemu_is_looked_at_and_no_other(
    type_command: TypeCommand, short_dir: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    chosen = str(write_executable(short_dir))
    if way == "environment":
        monkeypatch.setenv("HVKIT_QEMU", chosen)
    words = ("--qemu", chosen) if way == "option" else ()
    with_default = attrs.evolve(TABLE["kvm_path"], default="/nonexistent/qemu")
    monkeypatch.setitem(TABLE._parameters, "kvm_path", with_default)
    typed = type_command("--run-dir", short_dir / "run", *words, "doctor")
    assert typed.code == EXIT_OK, typed.out
    assert chosen in typed.out
    assert "/nonexistent/qemu" not in typed.out


def test_chosen_qemu_that_is_missing_is_not_replaced(type_command: TypeCommand, short_dir: Path) -> None:
    typed = type_command("--run-dir", short_dir / "run", "--qemu", "/nonexistent/qemu", "doctor", "--json")
    assert typed.code == EXIT_WORLD
    findings = {finding["subject"]: finding for finding in json.loads(typed.out)}
    assert findings["QEMU"]["verdict"] == "bad"
    assert "/nonexistent/qemu" in findings["QEMU"]["text"]
