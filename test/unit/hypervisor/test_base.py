# SPDX-License-Identifier: BSD-2-Clause
"""Arguments that `BaseHypervisor` rejects for every plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hvkit.errors import ProgrammerError
from hvkit.hypervisor import BaseHypervisor, ParameterError
from hvkit.hypervisor.fake import FakeHypervisor
from hvkit.hypervisor.kvm import KvmHypervisor

every_plugin = pytest.mark.parametrize("plugin", [FakeHypervisor, KvmHypervisor])


@every_plugin
@pytest.mark.parametrize("run_dir", ["", "/a\0b", "/\ud800"])
def test_constructor_rejects_invalid_run_dir(plugin: type[BaseHypervisor], run_dir: str) -> None:
    with pytest.raises(ParameterError) as caught:
        plugin(run_dir=run_dir)
    assert caught.value.name == "run_dir"


@every_plugin
@pytest.mark.parametrize("run_dir", [3, None, b"/run"])
def test_constructor_rejects_run_dir_of_wrong_type(plugin: type[BaseHypervisor], run_dir: Any) -> None:
    with pytest.raises(ProgrammerError):
        plugin(run_dir=run_dir)


@every_plugin
def test_constructor_makes_run_dir_absolute(
    plugin: type[BaseHypervisor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plugin(run_dir="run").run_dir == tmp_path / "run"
