# SPDX-License-Identifier: BSD-2-Clause
"""Say where the display of an instance without a serial console is: the machine knows which port it took."""

import contextlib

from hvkit.hypervisor.errors import InstanceStateError
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.model import ConsoleKind
from hvkit.hypervisor.model.reports import Console
from hvkit.qmp import CommandNotFound, QmpConnection, QmpError
from hvkit.qmp.schema import QuerySpice, QueryVncServers


def find_display(handle: InstanceHandle) -> Console:
    """Return where VNC or SPICE of an instance listens, or a message where neither does, or it does not say."""
    try:
        with handle.connected() as monitor:
            return _ask(monitor, handle.name)
    except (QmpError, InstanceStateError) as error:
        return Console(
            instance=handle.name, kind=ConsoleKind.MESSAGE, message=f"where its display is, is not known: {error}"
        )


def _ask(monitor: QmpConnection, name: str) -> Console:
    with contextlib.suppress(CommandNotFound):  # built without it
        for server in monitor.execute(QueryVncServers()):
            for place in server.server or ():
                if place.family == "unix":
                    return Console(instance=name, kind=ConsoleKind.VNC, path=place.service or place.host)
                return Console(instance=name, kind=ConsoleKind.VNC, host=place.host, port=int(place.service))
    with contextlib.suppress(CommandNotFound):
        spice = monitor.execute(QuerySpice())
        port = spice.tls_port or spice.port
        if spice.enabled and port is not None:
            return Console(instance=name, kind=ConsoleKind.SPICE, host=spice.host, port=port)
    message = "it has no console: parameter serial_console is off, and there is neither VNC nor SPICE"
    return Console(instance=name, kind=ConsoleKind.MESSAGE, message=message)
