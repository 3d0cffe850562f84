# SPDX-License-Identifier: BSD-2-Clause
"""Optional methods of the hypervisor interface, and the capabilities that they belong to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeVar

from hvkit.errors import ProgrammerError
from hvkit.hypervisor.errors import NotSupported
from hvkit.hypervisor.model import Capability

F = TypeVar("F", bound=Callable[..., Any])

_MARK: Final = "__capability__"


def optional(capability: Capability) -> Callable[[F], F]:
    """Declare an optional method of the interface and its capability.

    The body of the method is never executed: unless a plugin overrides the method, a call raises `NotSupported`.
    CONTRIBUTING.md lists the files that a new optional method needs.
    """

    def declare(method: F) -> F:
        @functools.wraps(method)
        def refuse(self: OptionalMethods, *args: object, **options: object) -> Any:
            raise NotSupported(self.name, capability.value)

        setattr(refuse, _MARK, capability)
        return refuse  # type: ignore[return-value]

    return declare


class OptionalMethods:
    """Base of the classes that declare `optional` methods, and of every plugin.

    Attributes:
        name: the name of the hypervisor.
        CAPABILITIES: the capabilities whose methods the class overrides, all of them. Computed for each class.
    """

    name: ClassVar[str]
    CAPABILITIES: ClassVar[frozenset[Capability]] = frozenset()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "CAPABILITIES" in vars(cls):
            raise ProgrammerError(f"{cls.__name__}.CAPABILITIES is computed from the methods of the class: remove it")
        capabilities = set()
        for capability, methods in optional_methods(cls).items():
            missing = [method for method in methods if _declared_capability(getattr(cls, method)) is not None]
            if not missing:
                capabilities.add(capability)
            elif len(missing) < len(methods):
                raise ProgrammerError(f"{cls.__name__} has a part of {capability}, but not {', '.join(missing)}()")
        cls.CAPABILITIES = frozenset(capabilities)


def optional_methods(cls: type[OptionalMethods]) -> dict[Capability, list[str]]:
    """Return the names of the optional methods that a class and its bases declare, by capability."""
    declared: dict[Capability, list[str]] = {}
    for base in reversed(cls.__mro__):
        for name, method in vars(base).items():
            capability = _declared_capability(method)
            if capability is not None:
                declared.setdefault(capability, []).append(name)
    return declared


def _declared_capability(method: object) -> Capability | None:
    """Return the capability that a method declares; None for an implementation.

    `functools.wraps` copies the mark of a declaration to an implementation that wraps it.
    """
    is_implementation = hasattr(getattr(method, "__wrapped__", None), _MARK)
    return None if is_implementation else getattr(method, _MARK, None)
