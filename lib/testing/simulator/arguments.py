# SPDX-License-Identifier: BSD-2-Clause
"""Checks of command arguments against the QAPI schema, with QEMU's error messages."""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

from hvkit.qmp.base import Command, Struct, Union, members_of, resolve
from hvkit.qmp.converter import structure
from hvkit.qmp.errors import DataError
from hvkit.testing.simulator.qmp_refusal import QmpRefusal

T = TypeVar("T", bound=Struct)

_QAPI_NAMES: Final = {"str": "string", "int": "integer", "bool": "boolean"}

_SWITCHES: Final = {"on": True, "yes": True, "off": False, "no": False}


def check_arguments(data: Any, kind: type[T]) -> T:
    """Convert plain data to a class of the schema, as strictly as QEMU does.

    Raises:
        QmpRefusal: a parameter is missing, unknown, or of the wrong type. The message is QEMU's.
    """
    try:
        value = structure(data, kind)
    except DataError as error:
        if error.problem == "member is missing":
            raise QmpRefusal(f"Parameter '{error.path}' is missing") from None
        expected = error.problem.removeprefix("expected ").partition(",")[0]
        name = _QAPI_NAMES.get(expected, expected)
        raise QmpRefusal(f"Invalid parameter type for '{error.path}', expected: {name}") from None
    _check_known(
        getattr(value, value.whole_argument) if isinstance(value, Command) and value.whole_argument else value, ""
    )
    return value


def _check_known(value: Any, path: str) -> None:
    """Raise `QmpRefusal` for unknown members and enum values, which the converter keeps for newer peers."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_known(item, f"{path}[{index}].")
    if not isinstance(value, Struct):
        return
    for name, member in members_of(type(value)).items():
        item = getattr(value, name)
        if item is None:
            continue
        kind = member.type
        literals = [each for each in (kind, *get_args(kind)) if get_origin(each) is Literal]
        if literals and isinstance(item, str) and item not in get_args(literals[0]):
            raise QmpRefusal(f"Parameter '{path}{member.wire_name}' does not accept value '{item}'")
        _check_known(item, f"{path}{member.wire_name}.")
    for name in value.unknown:
        raise QmpRefusal(f"Parameter '{path}{name}' is unexpected")


def convert_strings(data: Mapping[str, Any], kind: type[Struct]) -> dict[str, Any]:
    """Convert ``key=value`` strings to the JSON types of the schema. A value that does not fit stays a string."""
    converted = dict(data)
    if issubclass(kind, Union) and isinstance(tag := data.get(kind.tag), str) and tag in kind.branches:
        kind = resolve(kind.branches[tag], kind.__module__)
    for member in members_of(kind).values():
        value = data.get(member.wire_name)
        kinds = (member.type, *get_args(member.type))
        structs = [each for each in kinds if isinstance(each, type) and issubclass(each, Struct)]
        if isinstance(value, dict) and structs:
            converted[member.wire_name] = convert_strings(value, structs[0])
        elif isinstance(value, str) and str not in kinds:
            if bool in kinds:
                converted[member.wire_name] = _SWITCHES.get(value, value)
            elif int in kinds and value.isdigit():
                converted[member.wire_name] = int(value)
    return converted
