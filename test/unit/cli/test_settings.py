# SPDX-License-Identifier: BSD-2-Clause
"""The run directory, the state directory, and the choice of QEMU."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hvkit.cli import EXIT_OK, EXIT_USAGE
from hvkit.cli.settings import Settings, default_run_dir, default_state_dir
from hvkit.hypervisor.kvm import KvmHypervisor

RunCommand = Callable[..., Any]


def test_default_state_dir_of_root_survives_reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_state_dir("kvm", None) == Path("/var/lib/hvkit/kvm")
    assert default_state_dir("kvm", Path("/elsewhere")) is None
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert default_state_dir("kvm", None) is None


def test_given_directories_are_passed_to_hypervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, object] = {}
    monkeypatch.setattr(KvmHypervisor, "__init__", lambda self, **given: options.update(given))
    Settings(hypervisor="kvm", run_dir=tmp_path / "run", state_dir=tmp_path / "state").open()
    assert (options["run_dir"], options["state_dir"]) == (tmp_path / "run", tmp_path / "state")


def test_run_dir_is_read_from_environment(
    run_command: RunCommand, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVKIT_RUN_DIR", str(tmp_path / "elsewhere"))
    assert run_command("--hypervisor", "fake", "start", spec).code == EXIT_OK
    assert (tmp_path / "elsewhere" / "web1.json").exists()


def test_default_run_dir_of_root_is_below_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_run_dir("kvm") == Path("/run/hvkit/kvm")


def test_default_run_dir_of_user_uses_xdg_runtime_dir(monkeypatch: pytest.MonkeyPatch, run_command: RunCommand) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_run_dir("kvm") == Path("/run/user/1000/hvkit/kvm")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.delenv("HVKIT_RUN_DIR", raising=False)
    result = run_command("--hypervisor", "fake", "list")
    assert result.code == EXIT_USAGE
    assert "--run-dir" in result.err
