# SPDX-License-Identifier: BSD-2-Clause
"""Hypervisor plugins by name: the built-in ones and those of the entry point group ``hvkit.hypervisors``."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from hvkit.errors import ProgrammerError
from hvkit.hypervisor.base import BaseHypervisor
from hvkit.hypervisor.errors import PluginError

GROUP: Final = "hvkit.hypervisors"

#: The built-in plugins. They are listed here so that they are found in a source tree without package metadata.
_BUILT_IN: Final = (
    EntryPoint("fake", "hvkit.hypervisor.fake:FakeHypervisor", GROUP),
    EntryPoint("kvm", "hvkit.hypervisor.kvm:KvmHypervisor", GROUP),
)


def _plugins() -> dict[str, dict[str, EntryPoint]]:
    """Return all plugins by name and by target. A name with several targets is ambiguous."""
    plugins: dict[str, dict[str, EntryPoint]] = {}
    for plugin in (*_BUILT_IN, *entry_points(group=GROUP)):
        plugins.setdefault(plugin.name, {}).setdefault(plugin.value, plugin)
    return plugins


def hypervisor_names() -> list[str]:
    """List the names of all hypervisors, sorted. Loads none of them."""
    return sorted(_plugins())


def get_hypervisor_class(name: str) -> type[BaseHypervisor]:
    """Load the class of a hypervisor.

    Raises:
        PluginError: there is no plugin of that name, or more than one, or it cannot be loaded.
    """
    plugins = _plugins()
    if name not in plugins:
        raise PluginError(name, f"unknown{_hint(name, plugins)}; available: {', '.join(sorted(plugins))}")
    candidates = list(plugins[name].values())
    if len(candidates) > 1:
        raise PluginError(name, f"several plugins have this name: {' and '.join(map(_origin, candidates))}")
    return _load(candidates[0])


def get_hypervisor(name: str, **options: Any) -> BaseHypervisor:
    """Make a hypervisor. Nothing on this node changes.

    Args:
        name: one of `hypervisor_names`.
        options: arguments of its constructor; all have `run_dir`.

    Raises:
        PluginError: there is no plugin of that name, or more than one, or it cannot be loaded.
        ProgrammerError: its constructor does not accept these options.
    """
    cls = get_hypervisor_class(name)
    try:
        inspect.signature(cls).bind(**options)
    except TypeError as error:
        raise ProgrammerError(f"hypervisor {name!r}: {error}") from None
    return cls(**options)


def _load(plugin: EntryPoint) -> type[BaseHypervisor]:
    try:
        loaded = plugin.load()
    # The import of a third-party module may raise anything.
    except Exception as error:
        raise PluginError(
            plugin.name, f"{_origin(plugin)} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, BaseHypervisor)):
        raise PluginError(plugin.name, f"{_origin(plugin)} is not a subclass of BaseHypervisor")
    if inspect.isabstract(loaded):
        raise PluginError(
            plugin.name, f"{_origin(plugin)} does not implement {', '.join(sorted(loaded.__abstractmethods__))}"
        )
    return loaded


def _origin(plugin: EntryPoint) -> str:
    return f"{plugin.value} ({plugin.dist.name if plugin.dist else 'hvkit'})"


def _hint(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {matches[0]}?" if matches else ""
