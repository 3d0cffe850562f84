# SPDX-License-Identifier: BSD-2-Clause
"""The tree of exception classes that `hvkit.errors` draws."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import hvkit
from hvkit import errors

_NAMES = re.compile(r"[A-Z]\w+")


def drawn_bases() -> dict[str, str]:
    """Return the base of each class in the drawing, by the names of both."""
    assert errors.__doc__ is not None
    bases: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        branch = re.match(r"    ([│├└─ ]*)((?:[A-Z]\w+(?:, )?)+)", line)
        if branch is None or not (branch[1] or branch[2] == "HvkitError"):
            continue
        depth = len(branch[1])
        while above and above[-1][0] >= depth:
            above.pop()
        for name in _NAMES.findall(branch[2]):
            bases[name] = above[-1][1] if above else "HvkitError"
        above.append((depth, _NAMES.findall(branch[2])[-1]))
    return bases


def defined_classes() -> Iterator[type[errors.HvkitError]]:
    for module in pkgutil.walk_packages(hvkit.__path__, "hvkit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[errors.HvkitError]] = [errors.HvkitError]
    for cls in found:
        yield cls
        found += [each for each in cls.__subclasses__() if _is_public(each) and each not in found]


def _is_public(cls: type) -> bool:
    return cls.__module__.startswith("hvkit.") and not cls.__name__.startswith("_")


def test_drawing_contains_every_exception_class_under_its_base() -> None:
    defined = {cls.__name__: [base.__name__ for base in cls.__mro__[1:]] for cls in defined_classes()}
    drawn = drawn_bases()
    assert drawn.keys() == defined.keys()
    assert {name: base for name, base in drawn.items() if base not in ["HvkitError", *defined[name]]} == {}


def test_only_data_error_is_in_both_families() -> None:
    both = {
        cls.__name__
        for cls in defined_classes()
        if issubclass(cls, errors.HypervisorError) and issubclass(cls, errors.ProgrammerError)
    }
    assert both == {"DataError"}
