# SPDX-License-Identifier: BSD-2-Clause
"""Reach the monitors of a running instance.

Each has two for whoever needs one; a third belongs to a watch alone. Either may be taken by somebody for a while, and a
monitor that is taken looks like one that hangs: so whoever needs an answer tries both in turn before calling the
machine unresponsive.

Those of an adopted instance are links to sockets elsewhere, where another QEMU may listen by now: there the kernel is
asked who does.
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

#: Seconds that the first attempt at a monitor waits before the next one has its turn; doubled each round.
_FIRST_WAIT_S: Final = 0.5


def transient_monitors(runtime: Runtime, paths: InstancePaths) -> tuple[Path, Path]:
    """Return the monitors of an instance in the order in which somebody who comes by tries them.

    The control monitor is what `monitor` gives to callers, and what somebody has who stops the instance. Of one that is
    being sent away, whoever follows that has the other one.
    """
    if runtime.phase is Phase.OUTGOING:
        return paths.control_socket, paths.shared_socket
    return paths.shared_socket, paths.control_socket


def connect_monitor(
    sockets: Sequence[Path], process: Process, *, timeout_s: float, out_of_band: bool = False
) -> QmpConnection:
    """Connect to one of several monitors of a process, whichever answers first.

    Args:
        sockets: the monitors, the preferred one first.
        process: the QEMU behind them; once it has ended, nobody waits any longer.
        timeout_s: seconds for all attempts together.
        out_of_band: negotiate that commands may be executed out of band.

    Raises:
        ConnectError: none of them answered.
    """
    deadline = Deadline(timeout_s)
    wait_s = _FIRST_WAIT_S
    while True:
        for socket in sockets:
            attempt = Deadline(min(wait_s, max(deadline.remaining_s(), 0.0)))
            try:
                return open_monitor(socket, process, timeout_s=attempt.timeout_s, out_of_band=out_of_band)
            except ConnectError:
                # One that failed at once would fail again at once, unless it was the end of the process.
                if process.wait(max(attempt.remaining_s(), 0.0)) or deadline.remaining_s() <= 0:
                    raise
        wait_s *= 2


def open_monitor(
    socket: Path, process: Process, *, timeout_s: float | None = None, out_of_band: bool = False
) -> QmpConnection:
    """Connect to a monitor of a process.

    Args:
        socket: the monitor.
        process: the QEMU that is to be behind it.
        timeout_s: seconds for that; None for the connection's own idea.
        out_of_band: negotiate that commands may be executed out of band.

    Raises:
        ConnectError: it does not answer, or belongs to another process by now.
    """
    connection = QmpConnection(socket, out_of_band=out_of_band)
    connection.connect(timeout=timeout_s)
    listener = connection.peer_pid
    if is_external(socket) and listener != process.identity.pid:
        connection.close()
        raise ConnectError(str(socket), f"process {listener} listens there now, and not {process.identity.pid}")
    return connection


def is_external(socket: Path) -> bool:
    """Tell whether a monitor is one that was not made by us, so that it may be anybody's."""
    return os.path.islink(socket)
