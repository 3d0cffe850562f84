# SPDX-License-Identifier: BSD-2-Clause
"""Definitions of a hypervisor's parameters: name, type, default, documentation, and checks in two phases.

The first phase checks the syntax of values and needs no node. The second phase runs on the node that will use the
parameters, and checks whether that node supports the values.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from hvkit.errors import ProgrammerError
from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.model import check_kind

_KIND_NAMES: Final[dict[type, str]] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@attrs.frozen
class Check:
    """A condition on a parameter's value.

    Attributes:
        condition: the valid values, as a phrase that follows "expected" and is true on every node.
        accepts: whether a value of the parameter's type meets the condition.
        choices: all valid values, if they can be listed.
        problem: the error message for a value that fails; empty: "expected" with the condition and the value.
    """

    condition: str
    accepts: Callable[[Any], bool]
    choices: tuple[str, ...] = ()
    problem: str = ""


def one_of(*choices: str) -> Check:
    """Return a check that the value is one of these."""
    return Check(f"one of {', '.join(repr(choice) for choice in choices)}", choices.__contains__, choices)


def between(low: float, high: float) -> Check:
    """Return a check that the value is in this range, both ends included."""
    return Check(f"a number from {low} to {high}", lambda value: low <= value <= high)


def at_least(low: float) -> Check:
    """Return a check that the value is not below a minimum."""
    return Check(f"a number not below {low}", lambda value: bool(value >= low))


ABSOLUTE_PATH: Final = Check("an absolute path", lambda value: value.startswith("/") and "\0" not in value)

#: Node checks. os.access uses the permissions of this process, which are those of the hypervisor.
READABLE_FILE: Final = Check(
    "a readable file on this node", lambda value: os.path.isfile(value) and os.access(value, os.R_OK)
)
EXECUTABLE_FILE: Final = Check(
    "an executable file on this node", lambda value: os.path.isfile(value) and os.access(value, os.X_OK)
)
DIRECTORY: Final = Check("a directory on this node", os.path.isdir)


@attrs.frozen(kw_only=True)
class Parameter:
    """One parameter of a hypervisor.

    If the default is empty text, empty text means "not set" and passes every check.

    Attributes:
        name: its name.
        kind: the type of its value. Values are not coerced: 1 is not true and "1" is not 1. A float may be given as an
            integer.
        default: its value if it is not given.
        doc: a sentence about its effect, with units.
        syntax: the check of its syntax; None: every value of the type is valid.
        node: the check on the node that will use it, which may access the node; None: no check.
        advice: returns advice for operators about a valid value, or None.
    """

    name: str
    kind: type
    default: bool | int | float | str
    doc: str
    syntax: Check | None = None
    node: Check | None = None
    advice: Callable[[Any], str | None] | None = None

    def __attrs_post_init__(self) -> None:
        if self.kind not in _KIND_NAMES or type(self.default) is not self.kind:
            raise ProgrammerError(f"parameter {self.name}: the default {self.default!r} is not of type {self.kind}")
        if self.syntax is not None:
            self.check(self.syntax, self.default)

    def typed(self, value: object) -> Any:
        """Return a value in the type of the parameter.

        Raises:
            ParameterError: it has another type.
        """
        if type(value) is self.kind:
            return value
        if self.kind is float and type(value) is int:
            return float(value)
        raise ParameterError(
            self.name, value, f"expected {_KIND_NAMES[self.kind]}, got {value!r} ({type(value).__name__})"
        )

    def check(self, check: Check | None, value: Any) -> None:
        """Apply a check to a typed value.

        Raises:
            ParameterError: the check fails.
        """
        if check is None or (value == "" and self.default == "") or check.accepts(value):
            return
        matches = difflib.get_close_matches(value, check.choices, n=2) if isinstance(value, str) else []
        raise ParameterError(self.name, value, check.problem or f"expected {check.condition}, got {value!r}", matches)


#: A check of a combination of values. It is passed all values, typed and with defaults, and raises ParameterError.
Rule = Callable[[Mapping[str, Any]], None]

#: Returns advice for operators about a valid combination of values: pairs of the name of a parameter and a sentence.
Advisor = Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]]


class ParameterTable(Mapping[str, Parameter]):
    """All parameters of a hypervisor by name, in the order of their documentation."""

    def __init__(
        self, parameters: Iterable[Parameter], rules: Iterable[Rule] = (), advisors: Iterable[Advisor] = ()
    ) -> None:
        """Make a table.

        Args:
            parameters: in the order of their documentation.
            rules: checks of combinations, applied after the syntax of each value.
            advisors: advice about combinations.

        Raises:
            ProgrammerError: two parameters have the same name.
        """
        self._rules = tuple(rules)
        self._advisors = tuple(advisors)
        self._parameters: dict[str, Parameter] = {}
        for parameter in parameters:
            if parameter.name in self._parameters:
                raise ProgrammerError(f"parameter {parameter.name} is defined twice")
            self._parameters[parameter.name] = parameter

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def with_node_checks(self, checks: Mapping[str, Check]) -> ParameterTable:
        """Return a copy of this table whose parameters have node checks.

        Args:
            checks: the node check of each parameter that gets one, by name.

        Raises:
            ProgrammerError: the table has no parameter of such a name.
        """
        if unknown := sorted(checks.keys() - self._parameters.keys()):
            raise ProgrammerError(f"node checks of unknown parameters: {', '.join(unknown)}")
        parameters = (attrs.evolve(each, node=checks.get(each.name, each.node)) for each in self.values())
        return ParameterTable(parameters, self._rules, self._advisors)

    def fill(self, given: Mapping[str, object]) -> dict[str, Any]:
        """Return all parameters, typed: the given ones, and the defaults of the others.

        Raises:
            ParameterError: a name is unknown, or a value has the wrong type.
            ProgrammerError: the parameters are not a mapping.
        """
        check_kind(given, Mapping)
        for name in given:
            if name not in self._parameters:
                matches = difflib.get_close_matches(str(name), self._parameters, n=2)
                raise ParameterError(str(name), "", "no such parameter", matches)
        return {
            name: parameter.typed(given[name]) if name in given else parameter.default
            for name, parameter in self._parameters.items()
        }

    def check_syntax(self, given: Mapping[str, object]) -> dict[str, Any]:
        """Check the syntax of parameters, and return all of them, typed.

        Raises:
            ParameterError: a name is unknown, a value is invalid, or a combination is.
        """
        filled = self.fill(given)
        for name, parameter in self._parameters.items():
            parameter.check(parameter.syntax, filled[name])
        for rule in self._rules:
            rule(filled)
        return filled

    def validate(self, given: Mapping[str, object]) -> dict[str, Any]:
        """Check parameters on the node that will use them, and return all of them, typed.

        Raises:
            ParameterError: the syntax is wrong, or this node does not support a value.
        """
        filled = self.check_syntax(given)
        for name, parameter in self._parameters.items():
            parameter.check(parameter.node, filled[name])
        return filled

    def assess(self, given: Mapping[str, object]) -> list[str]:
        """Return advice for operators about valid parameters, one sentence each.

        Raises:
            ParameterError: the syntax is wrong.
        """
        filled = self.check_syntax(given)
        advice = []
        for name, parameter in self._parameters.items():
            text = parameter.advice(filled[name]) if parameter.advice else None
            if text:
                advice.append(f"{name}: {text}")
        for advisor in self._advisors:
            advice += [f"{name}: {text}" for name, text in advisor(filled)]
        return advice
