# SPDX-License-Identifier: BSD-2-Clause
"""The end of a QEMU process: graceful shutdown of the guest, then `quit`, then signals."""

import contextlib
import logging
import signal
from typing import Final

import attrs

from hvkit.hypervisor.errors import InstanceStateError
from hvkit.hypervisor.kvm.host.paths import InstancePaths
from hvkit.hypervisor.kvm.host.polling import poll_until
from hvkit.hypervisor.kvm.host.process import Process
from hvkit.hypervisor.kvm.qemu.monitors import connect_monitor
from hvkit.hypervisor.model import InstanceState, StopCause
from hvkit.qmp import ConnectionLost, EventTimeout, QmpConnection, QmpError
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import QueryStatus, Quit, ShutdownEvent, SystemPowerdown

_log = logging.getLogger(__name__)

#: Seconds between two ACPI power button events: a guest that is booting misses them.
_POWERDOWN_INTERVAL_S: Final = 3.0
#: Seconds for a monitor to answer, and for a process that is stopped by a signal to continue.
_ANSWER_S: Final = 2.0
#: Seconds between two checks of a process that is stopped by a signal.
_CHECK_INTERVAL_S: Final = 0.1
#: Seconds for QEMU to flush its disks and exit after `quit`.
_QUIT_S: Final = 30.0
#: The signals for a QEMU that does not exit, each with its timeout in seconds.
_TERMINATE: Final = (signal.SIGTERM, 3.0)
_KILL: Final = (signal.SIGKILL, 10.0)


@attrs.frozen
class StopResult:
    """The reason for the end of a QEMU.

    Attributes:
        reason: for operators.
        cause: what ended the instance; None if unknown.
    """

    reason: str
    cause: StopCause | None = StopCause.REQUEST


#: QEMU exited before it was told to quit; its log may have the cause.
ENDED_BY_ITSELF: Final = StopResult("QEMU ended by itself", None)


def stop_process(
    process: Process, paths: InstancePaths, *, guest_timeout_s: float, sends_powerdown: bool = True
) -> StopResult:
    """End the QEMU of an instance: by graceful shutdown, then ``quit``, then SIGTERM and SIGKILL.

    After success the process has ended. After failure it still exists.

    Args:
        process: the QEMU.
        paths: the files of the instance.
        guest_timeout_s: seconds for the guest to shut down; 0 to quit without a graceful shutdown.
        sends_powerdown: whether to send ACPI power button events, and not only to wait for the guest.

    Returns:
        Why it ended.

    Raises:
        InstanceStateError: the process survives SIGKILL.
    """
    result = _stop_by_monitor(process, paths, guest_timeout_s, sends_powerdown)
    if result and process.wait(_QUIT_S):
        return result
    if process.wait(0):
        return ENDED_BY_ITSELF
    # A process that is stopped by a signal only reacts to SIGKILL.
    if process.end((_KILL,) if process.is_stopped else (_TERMINATE, _KILL)):
        problem = "did not exit after quit" if result else "did not answer"
        return StopResult(f"QEMU {problem} and was ended by a signal")
    raise InstanceStateError(
        paths.name,
        InstanceState.UNRESPONSIVE.value,
        f"process {process.identity.pid} survives SIGKILL: it is blocked in the kernel",
    )


def _stop_by_monitor(
    process: Process, paths: InstancePaths, guest_timeout_s: float, sends_powerdown: bool
) -> StopResult | None:
    """Shut the guest down and tell QEMU to quit; None if no monitor answers."""
    if _is_stopped_for(process, min(guest_timeout_s, _ANSWER_S)):
        return None
    deadline = Deadline(guest_timeout_s)
    # After a lost connection the power button may have been pressed: the second attempt only waits.
    for may_send in (sends_powerdown, False):
        try:
            return _shut_down_and_quit(process, paths, deadline, may_send)
        except ConnectionLost as error:
            _log.info("%s: %s", paths.name, error)
            if process.wait(_ANSWER_S):
                break
        except QmpError as error:
            _log.info("%s: %s", paths.name, error)
            break
    return None


def _is_stopped_for(process: Process, timeout_s: float) -> bool:
    """Whether a process is stopped by a signal, and does not continue within the timeout."""
    has_continued = poll_until(
        lambda: not process.is_stopped, Deadline(timeout_s), interval_s=_CHECK_INTERVAL_S, wait=process.wait
    )
    return not has_continued


def _shut_down_and_quit(
    process: Process, paths: InstancePaths, deadline: Deadline, sends_powerdown: bool
) -> StopResult:
    sockets = (paths.control_socket, paths.shared_socket)
    monitor = connect_monitor(sockets, process, timeout_s=max(deadline.remaining_s(), _ANSWER_S))
    with contextlib.closing(monitor):
        if deadline.timeout_s > 0:
            result = _shut_down_guest(monitor, deadline, sends_powerdown) or StopResult(
                "guest did not shut down in time"
            )
        else:
            result = _read_result(monitor) or StopResult("stopped without a graceful shutdown")
        with contextlib.suppress(ConnectionLost):  # QEMU may exit before it replies
            monitor.execute(Quit(), timeout=_ANSWER_S)
    return result


def _read_result(monitor: QmpConnection) -> StopResult | None:
    """Return the result if the guest has ended before the stop; otherwise None."""
    match monitor.execute(QueryStatus(), timeout=_ANSWER_S).status:
        case "shutdown":
            return StopResult("shut down by the guest", StopCause.GUEST)
        case "guest-panicked":
            return StopResult("guest panicked", StopCause.PANIC)
    return None


def _shut_down_guest(monitor: QmpConnection, deadline: Deadline, sends_powerdown: bool) -> StopResult | None:
    """Shut the guest down gracefully; None if it does not shut down in time."""
    with monitor.subscribe(ShutdownEvent) as events:
        result = _read_result(monitor)
        if result is not None:
            return result
        status = monitor.execute(QueryStatus())
        if not status.running:
            return StopResult(f"stopped without a graceful shutdown: the vCPUs were stopped (status {status.status})")
        while (remaining_s := deadline.remaining_s()) > 0:
            if sends_powerdown:
                monitor.execute(SystemPowerdown())
            try:
                event = events.get(timeout=min(_POWERDOWN_INTERVAL_S, remaining_s))
            except EventTimeout:
                continue
            return StopResult(
                "guest shut down on request" if event.guest else f"QEMU was told to quit ({event.reason})"
            )
    return None
