# SPDX-License-Identifier: BSD-2-Clause
"""Describe how an instance's console is reached."""

from hvkit.hypervisor.kvm.host.paths import InstancePaths
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.model import ConsoleKind
from hvkit.hypervisor.model.reports import Console


def describe_console(runtime: Runtime, paths: InstancePaths) -> Console:
    """Return the serial console of an instance that has one.

    The socket serves one client at a time. Whoever is connected has to read: a guest that writes to a full socket
    stands still.
    """
    path = str(paths.serial_socket)
    # 0x1d is Ctrl-], which ends the session.
    command = ("socat", "STDIO,raw,echo=0,escape=0x1d", f"UNIX-CONNECT:{path}")
    return Console(instance=runtime.instance.name, kind=ConsoleKind.SERIAL, path=path, command=command)
