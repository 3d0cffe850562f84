# SPDX-License-Identifier: BSD-2-Clause
"""Give a machine the passwords of its displays, which stand in no command line, log or file of ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import SetPassword, SetPasswordOptions

if TYPE_CHECKING:
    from hvkit.qmp.schema import DisplayProtocol


_PLACES: Final["dict[DisplayProtocol, str]"] = {"vnc": "vnc_bind_address", "spice": "spice_bind"}


def give_passwords(monitor: QmpConnection, parameters: Mapping[str, Any]) -> None:
    """Set the passwords of VNC and SPICE. A display that asks for one lets nobody in before.

    Args:
        monitor: of the machine.
        parameters: of the instance, filled and checked.

    Raises:
        ParameterError: a file cannot be read, or has no password in its first line.
        QmpError: the machine did not take one.
    """
    for protocol, place in _PLACES.items():
        file = parameters[f"{protocol}_password_file"]
        if parameters[place] and file:
            password = _read_password(f"{protocol}_password_file", file)
            monitor.execute(SetPassword(SetPasswordOptions(protocol=protocol, password=password)))


def _read_password(parameter: str, file: str) -> str:
    try:
        password, *_ = Path(file).read_text().split("\n", 1)
    except (OSError, ValueError) as error:
        raise ParameterError(parameter, file, f"{file} cannot be read: {getattr(error, 'strerror', error)}") from error
    if not password:
        raise ParameterError(parameter, file, f"{file} has no password in its first line")
    return password
