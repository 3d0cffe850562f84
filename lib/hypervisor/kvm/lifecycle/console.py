# SPDX-License-Identifier: BSD-2-Clause
"""The console of an instance: its serial console, or its VNC or SPICE display."""

import contextlib

from hvkit.hypervisor.errors import reason_of
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import ConsoleKind
from hvkit.hypervisor.model.reports import Console
from hvkit.qmp import CommandNotFound, QmpConnection, QmpError
from hvkit.qmp.schema import QuerySpice, QueryVncServers


class ConsoleVerbs(KvmSubject):
    """Describes the consoles of instances."""

    def get_instance_console(self, name: str) -> Console:
        """Return the serial console of an instance; without one, its VNC or SPICE display; else a message.

        The socket of a serial console serves one client at a time. A client must read from it, because a guest that
        writes to a full socket is blocked.
        """
        handle = self._instances.require(name)
        runtime = handle.load()
        handle.open_process(runtime).close()
        return _describe_serial_console(handle) if runtime.has_serial else _find_display(handle)


def _describe_serial_console(handle: InstanceHandle) -> Console:
    path = str(handle.paths.serial_socket)
    # 0x1d is Ctrl-], which ends the session.
    command = ("socat", "STDIO,raw,echo=0,escape=0x1d", f"UNIX-CONNECT:{path}")
    return Console(instance=handle.name, kind=ConsoleKind.SERIAL, path=path, command=command)


def _find_display(handle: InstanceHandle) -> Console:
    """Query the address of VNC or SPICE, whose port QEMU chooses."""
    try:
        with handle.connected() as monitor:
            return _query_display(monitor, handle.name)
    except QmpError as error:
        message = f"cannot query the display: {reason_of(error)}"
        return Console(instance=handle.name, kind=ConsoleKind.MESSAGE, message=message)


def _query_display(monitor: QmpConnection, name: str) -> Console:
    with contextlib.suppress(CommandNotFound):  # QEMU is built without VNC
        for server in monitor.execute(QueryVncServers()):
            for address in server.server or ():
                if address.family == "unix":
                    return Console(instance=name, kind=ConsoleKind.VNC, path=address.service or address.host)
                return Console(instance=name, kind=ConsoleKind.VNC, host=address.host, port=int(address.service))
    with contextlib.suppress(CommandNotFound):
        spice = monitor.execute(QuerySpice())
        port = spice.tls_port or spice.port
        if spice.enabled and port is not None:
            return Console(instance=name, kind=ConsoleKind.SPICE, host=spice.host, port=port)
    message = "no console: the instance has no serial console (serial_console), no VNC and no SPICE"
    return Console(instance=name, kind=ConsoleKind.MESSAGE, message=message)
