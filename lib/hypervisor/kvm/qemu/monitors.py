# SPDX-License-Identifier: BSD-2-Clause
"""Connections to the monitors of a running instance.

An instance has a control monitor, a shared monitor and a watch monitor; the last one is only used by watches. A monitor
serves one client. A monitor in use cannot be distinguished from one that hangs: it does not send a greeting. Therefore
both the control and the shared monitor are tried before the instance counts as unresponsive.

The monitors of an adopted instance are symlinks to external sockets. Another QEMU may listen there in the meantime, so
the process at the other end of the connection is checked.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hvkit.hypervisor.kvm.host.paths import InstancePaths
from hvkit.hypervisor.kvm.host.process import Process
from hvkit.hypervisor.kvm.host.runtime import Phase, Runtime
from hvkit.qmp import ConnectError, QmpConnection
from hvkit.qmp.deadlines import Deadline

#: The timeout of one connection attempt in seconds, before the next monitor is tried; doubled each round.
_FIRST_WAIT_S: Final = 0.5


def transient_monitors(runtime: Runtime, paths: InstancePaths) -> tuple[Path, Path]:
    """Return the monitors of an instance in the order in which a short query tries them.

    The control monitor is used by callers of `BaseHypervisor.monitor` and by a stop. During an outgoing migration the
    shared monitor is used by the process that follows the migration.
    """
    if runtime.phase is Phase.OUTGOING:
        return paths.control_socket, paths.shared_socket
    return paths.shared_socket, paths.control_socket


def connect_monitor(
    sockets: Sequence[Path], process: Process, *, timeout_s: float, out_of_band: bool = False
) -> QmpConnection:
    """Connect to the first of several monitors of a process that answers.

    Args:
        sockets: the monitors, the preferred one first.
        process: the QEMU behind them; the attempts end when it does.
        timeout_s: seconds for all attempts together.
        out_of_band: negotiate out-of-band execution of commands.

    Raises:
        ConnectError: none of them answered.
    """
    deadline = Deadline(timeout_s)
    wait_s = _FIRST_WAIT_S
    while True:
        for socket in sockets:
            attempt = Deadline(min(wait_s, deadline.remaining_s()))
            try:
                return open_monitor(socket, process, timeout_s=attempt.timeout_s, out_of_band=out_of_band)
            except ConnectError:
                # Wait even if the connection was refused at once, because a retry at once would be refused as well.
                if process.wait(attempt.remaining_s()) or deadline.remaining_s() <= 0:
                    raise
        wait_s *= 2


def open_monitor(
    socket: Path, process: Process, *, timeout_s: float | None = None, out_of_band: bool = False
) -> QmpConnection:
    """Connect to a monitor of a process.

    Args:
        socket: the monitor.
        process: the QEMU behind it.
        timeout_s: seconds to connect; None for the default of the connection.
        out_of_band: negotiate out-of-band execution of commands.

    Raises:
        ConnectError: it does not answer, or another process listens on it.
    """
    connection = QmpConnection(socket, out_of_band=out_of_band)
    connection.connect(timeout=timeout_s)
    listener = connection.peer_pid
    if is_external(socket) and listener != process.identity.pid:
        connection.close()
        raise ConnectError(str(socket), f"process {listener} listens on it, not process {process.identity.pid}")
    return connection


def is_external(socket: Path) -> bool:
    """Whether a monitor is that of an adopted instance: a symlink to a socket on which any process may listen."""
    return os.path.islink(socket)
