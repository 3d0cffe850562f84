# SPDX-License-Identifier: BSD-2-Clause
"""Reach the monitors of a running instance.

Each has two for whoever needs one; a third belongs to a watch alone. Either may be taken by somebody for a while, and a
monitor that is taken looks like one that hangs: so whoever needs an answer tries both in turn before calling the
machine unresponsive.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hvkit.hypervisor.kvm.process import Process
from hvkit.qmp import ConnectError, QmpConnection
from hvkit.qmp.deadlines import Deadline

#: Seconds that the first attempt at a monitor waits before the next one has its turn; doubled each round.
_FIRST_WAIT_S: Final = 0.5


def connect_monitor(sockets: Sequence[Path], process: Process, *, timeout_s: float) -> QmpConnection:
    """Connect to one of several monitors of a process, whichever answers first.

    Args:
        sockets: the monitors, the preferred one first.
        process: the QEMU behind them; once it has ended, nobody waits any longer.
        timeout_s: seconds for all attempts together.

    Raises:
        ConnectError: none of them answered.
    """
    deadline = Deadline(timeout_s)
    wait_s = _FIRST_WAIT_S
    while True:
        for socket in sockets:
            connection = QmpConnection(socket)
            attempt = Deadline(min(wait_s, max(deadline.remaining_s(), 0.0)))
            try:
                connection.connect(timeout=attempt.timeout_s)
            except ConnectError:
                # One that failed at once would fail again at once, unless it was the end of the process.
                if process.wait(max(attempt.remaining_s(), 0.0)) or deadline.remaining_s() <= 0:
                    raise
            else:
                return connection
        wait_s *= 2
