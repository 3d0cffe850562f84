# SPDX-License-Identifier: BSD-2-Clause
"""Where the command keeps what outlives instances."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvkit.cli.settings import Settings, default_state_dir
from hvkit.hypervisor.kvm import KvmHypervisor


def test_state_of_root_outlives_the_reboot_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_state_dir("kvm", None) == Path("/var/lib/hvkit/kvm")
    assert default_state_dir("kvm", Path("/elsewhere")) is None
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert default_state_dir("kvm", None) is None


def test_given_places_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr(KvmHypervisor, "__init__", lambda self, **options: seen.update(options))
    Settings(hypervisor="kvm", run_dir=tmp_path / "run", state_dir=tmp_path / "state").open()
    assert (seen["run_dir"], seen["state_dir"]) == (tmp_path / "run", tmp_path / "state")
