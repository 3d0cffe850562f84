# SPDX-License-Identifier: BSD-2-Clause
"""Passwords of displays. They are set over a monitor, and appear in no command line, log or file of hvkit."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import SetPassword, SetPasswordOptions

if TYPE_CHECKING:
    from hvkit.qmp.schema import DisplayProtocol


#: The parameter that enables each display.
_PARAMETERS: Final["dict[DisplayProtocol, str]"] = {"vnc": "vnc_bind_address", "spice": "spice_bind"}


def set_passwords(monitor: QmpConnection, parameters: Mapping[str, Any]) -> None:
    """Set the passwords of VNC and SPICE. A display with password authentication refuses all clients until then.

    Args:
        monitor: a monitor of the instance.
        parameters: the parameters of the instance, filled and checked.

    Raises:
        ParameterError: a password file cannot be read, or its first line is empty.
        QmpError: QEMU refuses a password, or does not answer.
    """
    for protocol, password in read_passwords(parameters).items():
        monitor.execute(SetPassword(SetPasswordOptions(protocol=protocol, password=password)))


def read_passwords(parameters: Mapping[str, Any]) -> "dict[DisplayProtocol, str]":
    """Read the passwords of the enabled displays from their files.

    Args:
        parameters: the parameters of the instance, filled and checked.

    Raises:
        ParameterError: a password file cannot be read, or its first line is empty.
    """
    passwords: dict[DisplayProtocol, str] = {}
    for protocol, parameter in _PARAMETERS.items():
        file = parameters[f"{protocol}_password_file"]
        if parameters[parameter] and file:
            passwords[protocol] = _read_password(f"{protocol}_password_file", file)
    return passwords


def _read_password(parameter: str, file: str) -> str:
    try:
        password, *_ = Path(file).read_text().split("\n", 1)
    except (OSError, ValueError) as error:
        raise ParameterError(parameter, file, f"cannot read {file}: {getattr(error, 'strerror', error)}") from error
    if not password:
        raise ParameterError(parameter, file, f"{file}: the first line must hold the password, and is empty")
    return password
