# SPDX-License-Identifier: BSD-2-Clause
"""Plugins by name, and errors of broken plugins; computed capabilities."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hvkit.errors import ProgrammerError
from hvkit.hypervisor import (
    BaseHypervisor,
    Capability,
    PluginError,
    get_hypervisor,
    get_hypervisor_class,
    hypervisor_names,
    plugins,
)
from hvkit.hypervisor.fake import FakeHypervisor
from hvkit.hypervisor.parameters import ParameterTable

InstallPlugin = Callable[..., None]

PLUGIN = """
from hvkit.hypervisor.fake import FakeHypervisor

class Hypervisor(FakeHypervisor):
    name = "other"
"""


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstallPlugin:
    """Install a distribution with one plugin on the module search path."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, module: str, source: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        metadata = tmp_path / f"{module}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[hvkit.hypervisors]\n{name} = {module}:Hypervisor\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


def test_built_in_plugins_are_found_without_metadata() -> None:
    assert {"fake", "kvm"} <= set(hypervisor_names())


def test_get_hypervisor_passes_options(tmp_path: Path) -> None:
    fake = get_hypervisor("fake", run_dir=tmp_path)
    assert type(fake) is FakeHypervisor
    assert fake.run_dir == tmp_path


def test_get_hypervisor_makes_run_dir_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert get_hypervisor("fake", run_dir="run").run_dir == tmp_path / "run"


def test_unknown_name_lists_available_plugins() -> None:
    with pytest.raises(PluginError) as caught:
        get_hypervisor("kwm", run_dir="/run/x")
    assert caught.value.hypervisor == "kwm"
    assert str(caught.value).startswith("hypervisor 'kwm': unknown, did you mean kvm?; available: fake, kvm")


@pytest.mark.parametrize("options", [{}, {"run_dir": "/run/x", "colour": "red"}])
def test_wrong_options_raise_programmer_error(options: dict[str, Any]) -> None:
    with pytest.raises(ProgrammerError, match="hypervisor 'fake'"):
        get_hypervisor("fake", **options)


def test_third_party_plugin_is_loaded(install_plugin: InstallPlugin, tmp_path: Path) -> None:
    install_plugin("other", "hvkit_test_other", PLUGIN)
    assert "other" in hypervisor_names()
    assert get_hypervisor("other", run_dir=tmp_path).name == "other"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module_of_anybody", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module"),
        ("x = ", "cannot be loaded: SyntaxError"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError"),
        ("", "cannot be loaded: AttributeError"),
        ("Hypervisor = 5", "is not a subclass of BaseHypervisor"),
        ("class Hypervisor: pass", "is not a subclass of BaseHypervisor"),
        (
            "from hvkit.hypervisor import BaseHypervisor\nclass Hypervisor(BaseHypervisor): pass",
            "does not implement cleanup_instance, get_all_instances_info",
        ),
    ],
)
def test_broken_plugin_raises_error_with_reason(install_plugin: InstallPlugin, source: str, reason: str) -> None:
    install_plugin("broken", "hvkit_test_broken", source)
    with pytest.raises(PluginError) as caught:
        get_hypervisor_class("broken")
    assert f"hypervisor 'broken': hvkit_test_broken:Hypervisor (hvkit_test_broken) {reason}" in str(caught.value)


def test_broken_plugin_does_not_affect_others(install_plugin: InstallPlugin) -> None:
    install_plugin("broken", "hvkit_test_broken", "1 / 0")
    assert get_hypervisor_class("fake") is FakeHypervisor


def test_own_entry_point_is_not_a_duplicate(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = EntryPoint("fake", "hvkit.hypervisor.fake:FakeHypervisor", plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [ours])
    assert get_hypervisor_class("fake") is FakeHypervisor


def test_duplicate_name_names_both_plugins(install_plugin: InstallPlugin) -> None:
    install_plugin("fake", "hvkit_test_rival", PLUGIN)
    with pytest.raises(PluginError) as caught:
        get_hypervisor_class("fake")
    assert "hvkit.hypervisor.fake:FakeHypervisor (hvkit)" in str(caught.value)
    assert "hvkit_test_rival:Hypervisor (hvkit_test_rival)" in str(caught.value)


def test_capabilities_are_computed_from_overridden_methods() -> None:
    class Monitored(FakeHypervisor):
        def monitor(self, name: str) -> Any:
            return name

    assert FakeHypervisor.CAPABILITIES | {Capability.MONITOR} == Monitored.CAPABILITIES


def test_method_that_wraps_a_declaration_counts_as_overridden() -> None:
    wrapping = functools.wraps(BaseHypervisor.monitor)(lambda self, name: name)
    monitored: type[FakeHypervisor] = type("Monitored", (FakeHypervisor,), {"monitor": wrapping})
    assert Capability.MONITOR in monitored.CAPABILITIES


def test_capability_without_one_of_its_methods_is_rejected() -> None:
    with pytest.raises(ProgrammerError, match=r"Partial has a part of Capability.RESTORE, but not restore_in"):
        type("Partial", (FakeHypervisor,), {"verify_instance": lambda self, name: True})


def test_declared_capabilities_are_rejected() -> None:
    with pytest.raises(ProgrammerError, match=r"Declared.CAPABILITIES is computed"):
        type("Declared", (FakeHypervisor,), {"CAPABILITIES": frozenset({Capability.CONSOLE})})


def test_class_without_abstract_methods_cannot_be_instantiated() -> None:
    class Abstract(BaseHypervisor):
        name = "abstract"
        PARAMETERS: ClassVar = ParameterTable(())

    with pytest.raises(TypeError, match="abstract"):
        Abstract(run_dir="/run/x")  # type: ignore[abstract]


def test_has_returns_capabilities(tmp_path: Path) -> None:
    fake = FakeHypervisor(run_dir=tmp_path)
    assert fake.has(Capability.BALLOON)
    assert not fake.has(Capability.MIGRATION)
    assert fake.get_ancillary_files().required == ()
