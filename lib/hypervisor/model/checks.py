# SPDX-License-Identifier: BSD-2-Clause
"""Checks of arguments and of members of the model's classes."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.errors import ProgrammerError
from hvkit.hypervisor.errors import ParameterError

_INSTANCE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,253}")
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
#: The kernel's rule for interface names, without the characters that break shell scripts. 15 is IFNAMSIZ without NUL.
_INTERFACE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}")


def check_kind(value: object, *kinds: type) -> None:
    """Check the type of an argument.

    Raises:
        ProgrammerError: it is not an instance of one of these types.
    """
    if not isinstance(value, kinds):
        raise ProgrammerError(f"expected {' or '.join(kind.__name__ for kind in kinds)}, got {value!r}")


def check_integer(name: str, value: object, minimum: int, maximum: int) -> int:
    """Return the value if it is an integer from `minimum` to `maximum`.

    Raises:
        ParameterError: it is not.
    """
    if type(value) is int and minimum <= value <= maximum:
        return value
    raise ParameterError(name, value, f"expected an integer from {minimum} to {maximum}, got {value!r}")


def check_timeout(value: Any, *, default_s: float, name: str = "timeout") -> float:
    """Return a timeout in seconds, which may be ``math.inf`` (no limit).

    Args:
        value: the timeout that the caller gave; None stands for the default.
        default_s: the default, in seconds.
        name: the parameter, for errors.

    Raises:
        ParameterError: the timeout is negative or NaN.
        ProgrammerError: the timeout is not a number.
    """
    if value is None:
        return default_s
    if type(value) not in (int, float):
        raise ProgrammerError(f"{name}: expected a number of seconds or None, got {value!r}")
    if not value >= 0:
        raise ParameterError(name, value, f"expected a number of seconds >= 0, got {value!r}")
    try:
        return float(value)
    except OverflowError:  # an int beyond the range of a float
        return math.inf


def check_instance_name(name: object) -> str:
    """Return the name if it is valid for an instance.

    Names become parts of file names and of a command line. They consist of ASCII letters, digits, ``.``, ``_`` and
    ``-``, begin with a letter or digit, have at most 254 characters, and do not contain ``..``.

    Raises:
        ParameterError: the name is not valid for an instance.
    """
    if is_instance_name(name):
        return str(name)
    rule = "use letters, digits, '.', '_' and '-', and start with a letter or digit"
    raise ParameterError("Instance.name", name, f"not a valid name for an instance: {name!r}; {rule}")


def is_instance_name(name: object) -> bool:
    """Return whether a name is valid for an instance; see `check_instance_name`."""
    return isinstance(name, str) and _INSTANCE_NAME.fullmatch(name) is not None and ".." not in name


def is_text(value: object) -> bool:
    """Return whether this is a string without lone surrogates, which UTF-8, and so JSON and QEMU, cannot represent."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def is_absolute_path(value: object) -> bool:
    """Return whether this is an absolute path that both the kernel and QEMU accept."""
    return is_text(value) and str(value).startswith("/") and "\0" not in str(value)


def is_positive(value: object) -> bool:
    """Return whether this is an integer of at least 1."""
    return type(value) is int and value > 0


def is_unicast_mac(value: Any) -> bool:
    """Return whether this is a MAC address for a NIC. QEMU replaces an address of zeros, so it is not accepted."""
    is_mac = isinstance(value, str) and _MAC.fullmatch(value) is not None
    return is_mac and not int(value[:2], 16) & 1 and value != "00:00:00:00:00:00"


def is_interface_name_or_empty(value: object) -> bool:
    """Return whether this is a name that a network interface can have, or empty."""
    return isinstance(value, str) and (value == "" or _INTERFACE_NAME.fullmatch(value) is not None)


def is_ip_or_empty(value: object) -> bool:
    """Return whether this is an IPv4 or IPv6 address without a zone, or empty."""
    if value == "":
        return True
    try:
        return isinstance(value, str) and "%" not in value and bool(ipaddress.ip_address(value))
    except ValueError:
        return False


def is_mtu_or_zero(value: object) -> bool:
    """Return whether this is 0 or an MTU: from the minimum of IPv4 to the maximum of the kernel's tap driver."""
    return type(value) is int and (value == 0 or 68 <= value <= 65521)


# Validators and converters of attrs fields.

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def require(accepts: Callable[[Any], bool], expected: str) -> Validator:
    """Make a validator that raises `ParameterError` for a value that is not accepted."""

    def validate(owner: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if not accepts(value):
            raise ParameterError(field_name(owner, field), value, f"expected {expected}, got {value!r}")

    return validate


def field_name(owner: object, field: attrs.Attribute[Any]) -> str:
    """Return the name of a field for an error, such as ``Nic.mac`` or ``Instance(web1).vcpus``."""
    name = getattr(owner, "name", "") if type(owner).__name__ == "Instance" and field.name != "name" else ""
    return f"{type(owner).__name__}{f'({name})' if name else ''}.{field.name}"


require_uuid = require(lambda value: isinstance(value, UUID), "a UUID")
require_bool = require(lambda value: type(value) is bool, "true or false")
require_text = require(is_text, "text")


def tuple_of(kind: type) -> Callable[[Any], bool]:
    """Return a function that tells whether a value is a tuple of one type."""
    return lambda value: isinstance(value, tuple) and all(isinstance(each, kind) for each in value)


def to_lower(value: Any) -> Any:
    """Convert text to lower case; leave another type to the validator."""
    return value.lower() if isinstance(value, str) else value


def to_path_text(value: Any) -> Any:
    """Convert a path object to text; leave another type to the validator."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def to_uuid(value: Any) -> Any:
    """Convert text to a UUID; leave what is not one to the validator."""
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            return value
    return value


def to_tuple(value: Any) -> Any:
    """Convert a list to a tuple; leave another type to the validator."""
    return tuple(value) if isinstance(value, list) else value


def to_dict(value: Any) -> Any:
    """Convert a mapping to a dict; leave another type to the validator."""
    return dict(value) if isinstance(value, Mapping) else value
