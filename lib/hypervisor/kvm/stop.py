# SPDX-License-Identifier: BSD-2-Clause
"""End a QEMU: by the guest's power button, then by QEMU's own command, then by signals."""

import logging
import signal
from typing import Final

from hvkit.hypervisor.errors import InstanceStateError
from hvkit.hypervisor.kvm.monitors import connect_monitor
from hvkit.hypervisor.kvm.paths import InstancePaths
from hvkit.hypervisor.kvm.process import Process
from hvkit.hypervisor.model import InstanceState
from hvkit.qmp import ConnectionLost, EventTimeout, QmpConnection, QmpError
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import QueryStatus, Quit, ShutdownEvent, SystemPowerdown

_log = logging.getLogger(__name__)

#: How often the button is pressed, in seconds: a guest that boots misses it.
_PRESS_AGAIN_S: Final = 3.0
#: Seconds that a monitor has to answer when there is no guest to wait for.
_ANSWER_S: Final = 2.0
#: Seconds that QEMU has to write out its disks and end after it was told to.
_QUIT_S: Final = 30.0
#: What is left when nothing else helps, with the seconds it has. A process that is stopped only minds the last one.
_SIGNALS: Final = ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0))


def stop_process(process: Process, paths: InstancePaths, *, guest_timeout_s: float, press: bool = True) -> str:
    """End the QEMU of an instance, as gently as it lets us.

    After success the process has ended. After failure it is still there.

    Args:
        process: the QEMU.
        paths: the instance's files.
        guest_timeout_s: seconds that the guest has to shut down; 0 to do without it.
        press: whether to press the power button, and not only to wait for the guest.

    Returns:
        How it ended, in words.

    Raises:
        InstanceStateError: not even SIGKILL ended it.
    """
    how = _stop_by_monitor(process, paths, guest_timeout_s, press)
    if how and process.wait(_QUIT_S):
        return how
    if process.wait(0):
        return "QEMU ended by itself"
    if process.end(_SIGNALS):
        return "QEMU was killed: it did not answer" if not how else "QEMU was killed: it did not end when told to"
    raise InstanceStateError(
        paths.name,
        InstanceState.UNRESPONSIVE.value,
        f"process {process.identity.pid} cannot be ended, not even by SIGKILL: the kernel holds it",
    )


def _stop_by_monitor(process: Process, paths: InstancePaths, guest_timeout_s: float, press: bool) -> str:
    """Let the guest shut down and QEMU end; empty where no monitor takes part in that."""
    if guest_timeout_s <= 0 and process.is_stopped:
        return ""
    deadline = Deadline(guest_timeout_s)
    how = "it was ended without asking the guest" if guest_timeout_s <= 0 else "the guest did not shut down in time"
    try:
        monitor = connect_monitor(
            (paths.control_socket, paths.watch_socket), process, timeout_s=max(guest_timeout_s, _ANSWER_S)
        )
    except QmpError as error:
        _log.info("%s: %s", paths.name, error)
        return ""
    try:
        if guest_timeout_s > 0:
            how = _wait_for_guest(monitor, deadline, press) or how
        monitor.execute(Quit(), timeout=_ANSWER_S)
    except ConnectionLost:  # QEMU went before it could answer, as it should, or by itself
        return how
    except QmpError as error:
        _log.info("%s: %s", paths.name, error)
        return ""
    finally:
        monitor.close()
    return how


def _wait_for_guest(monitor: QmpConnection, deadline: Deadline, press: bool) -> str:
    """Have the guest shut down; say how that went, or nothing where it did not in time."""
    with monitor.subscribe(ShutdownEvent) as events:
        status = monitor.execute(QueryStatus())
        if status.status == "shutdown":
            return "the guest shut down"
        if not status.running:
            return f"its processors stood still ({status.status}): the guest could not be asked"
        while (remaining_s := deadline.remaining_s()) > 0:
            if press:
                monitor.execute(SystemPowerdown())
            try:
                event = events.get(timeout=min(_PRESS_AGAIN_S, remaining_s))
            except EventTimeout:
                continue
            return "the guest shut down" if event.guest else f"QEMU was told to end ({event.reason})"
    return ""
