# SPDX-License-Identifier: BSD-2-Clause
"""End a QEMU: by the guest's power button, then by QEMU's own command, then by signals."""

import contextlib
import logging
import signal
from typing import Final

import attrs

from hvkit.hypervisor.errors import InstanceStateError, RuntimeStateError
from hvkit.hypervisor.kvm.host.log import read_last_words
from hvkit.hypervisor.kvm.host.nics import take_down_nics, without_scripts
from hvkit.hypervisor.kvm.host.paths import InstancePaths, remove_socket
from hvkit.hypervisor.kvm.host.process import Process
from hvkit.hypervisor.kvm.host.runtime import Phase, Runtime
from hvkit.hypervisor.kvm.host.state_file import write_runtime
from hvkit.hypervisor.kvm.host.tpm import end_tpm
from hvkit.hypervisor.kvm.qemu.monitors import connect_monitor
from hvkit.hypervisor.model import InstanceState, StopCause
from hvkit.qmp import ConnectionLost, EventTimeout, QmpConnection, QmpError
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import QueryStatus, Quit, ShutdownEvent, SystemPowerdown

_log = logging.getLogger(__name__)

#: How often the button is pressed, in seconds: a guest that boots misses it.
_PRESS_AGAIN_S: Final = 3.0
#: Seconds that a monitor has to answer when there is no guest to wait for, and a stopped process to go on.
_ANSWER_S: Final = 2.0
#: How often a stopped process is looked at, in seconds.
_LOOK_AGAIN_S: Final = 0.1
#: Seconds that QEMU has to write out its disks and end after it was told to.
_QUIT_S: Final = 30.0
#: What is left when nothing else helps, with the seconds it has.
_TERMINATE: Final = (signal.SIGTERM, 3.0)
_KILL: Final = (signal.SIGKILL, 10.0)


@attrs.frozen
class Ending:
    """How a QEMU ended.

    Attributes:
        reason: in words.
        cause: what ended the instance; None where nobody knows.
    """

    reason: str
    cause: StopCause | None = StopCause.REQUEST


_BY_ITSELF: Final = Ending("QEMU ended by itself", None)


def stop_remembered(
    runtime: Runtime, process: Process, paths: InstancePaths, *, guest_timeout_s: float, press: bool
) -> None:
    """End the QEMU of an instance, as `stop_process` does, and remember how that went.

    What cannot be written, because a disk is full, does not keep a QEMU running: then its end is told later by what
    it left behind.

    Args:
        runtime: what is remembered of the instance, whose lock the caller holds.
        process: the QEMU.
        paths: the instance's files.
        guest_timeout_s: seconds that the guest has to shut down, if it has a power button and ever ran.
        press: whether to press that button, and not only to wait for the guest.

    Raises:
        InstanceStateError: not even SIGKILL ended it.
    """
    if not runtime.has_acpi or runtime.phase is Phase.STARTING:
        guest_timeout_s = 0.0
    runtime = attrs.evolve(runtime, process=process.identity)
    _note(paths, attrs.evolve(runtime, phase=Phase.STOPPING))
    try:
        ending = stop_process(process, paths, guest_timeout_s=guest_timeout_s, press=press)
    except BaseException:
        _note(paths, runtime)
        raise
    end_tpm(paths.tpm_dir)
    take_down_nics(runtime)
    remove_socket(runtime.incoming_socket)
    remove_socket(runtime.copies_target)
    if ending is _BY_ITSELF:
        ending = attrs.evolve(ending, cause=read_last_words(paths.log_file).cause)
    stopped = attrs.evolve(without_scripts(runtime), phase=Phase.STOPPED)
    _note(paths, attrs.evolve(stopped, reason=ending.reason, stop_cause=ending.cause))


def _note(paths: InstancePaths, runtime: Runtime) -> None:
    try:
        write_runtime(paths.runtime_file, runtime)
    except RuntimeStateError as error:
        _log.warning("%s", error)


def stop_process(process: Process, paths: InstancePaths, *, guest_timeout_s: float, press: bool = True) -> Ending:
    """End the QEMU of an instance, as gently as it lets us.

    After success the process has ended. After failure it is still there.

    Args:
        process: the QEMU.
        paths: the instance's files.
        guest_timeout_s: seconds that the guest has to shut down; 0 to do without it.
        press: whether to press the power button, and not only to wait for the guest.

    Returns:
        How it ended.

    Raises:
        InstanceStateError: not even SIGKILL ended it.
    """
    how = _stop_by_monitor(process, paths, guest_timeout_s, press)
    if how and process.wait(_QUIT_S):
        return how
    if process.wait(0):
        return _BY_ITSELF
    # A process that was stopped minds nothing but SIGKILL.
    if process.end((_KILL,) if process.is_stopped else (_TERMINATE, _KILL)):
        return Ending("QEMU was ended by a signal: " + ("it did not end when told to" if how else "it did not answer"))
    raise InstanceStateError(
        paths.name,
        InstanceState.UNRESPONSIVE.value,
        f"process {process.identity.pid} cannot be ended, not even by SIGKILL: the kernel holds it",
    )


def _stop_by_monitor(process: Process, paths: InstancePaths, guest_timeout_s: float, press: bool) -> Ending | None:
    """Let the guest shut down and tell QEMU to quit; say how that went; None where no monitor took part."""
    if _stands_still(process, min(guest_timeout_s, _ANSWER_S)):
        return None
    deadline = Deadline(guest_timeout_s)
    # If a monitor breaks off, the button may have been pressed: the second time we only wait.
    for may_press in (press, False):
        try:
            return _talk(process, paths, deadline, may_press)
        except ConnectionLost as error:
            _log.info("%s: %s", paths.name, error)
            if process.wait(_ANSWER_S):
                break
        except QmpError as error:
            _log.info("%s: %s", paths.name, error)
            break
    return None


def _stands_still(process: Process, timeout_s: float) -> bool:
    """Tell whether a signal has stopped a process, and it does not go on in time."""
    deadline = Deadline(timeout_s)
    while process.is_stopped:
        remaining_s = deadline.remaining_s()
        if remaining_s <= 0:
            return True
        process.wait(min(_LOOK_AGAIN_S, remaining_s))
    return False


def _talk(process: Process, paths: InstancePaths, deadline: Deadline, press: bool) -> Ending:
    sockets = (paths.control_socket, paths.shared_socket)
    monitor = connect_monitor(sockets, process, timeout_s=max(deadline.remaining_s(), _ANSWER_S))
    with contextlib.closing(monitor):
        if deadline.timeout_s > 0:
            how = _wait_for_guest(monitor, deadline, press) or Ending("the guest did not shut down in time")
        else:
            how = _read_ending(monitor) or Ending("it was ended without asking the guest")
        with contextlib.suppress(ConnectionLost):  # QEMU may be gone before it could answer
            monitor.execute(Quit(), timeout=_ANSWER_S)
    return how


def _read_ending(monitor: QmpConnection) -> Ending | None:
    """Return how a guest ended before anybody asked it to; None where it did not."""
    match monitor.execute(QueryStatus(), timeout=_ANSWER_S).status:
        case "shutdown":
            return Ending("the guest shut down", StopCause.GUEST)
        case "guest-panicked":
            return Ending("the guest had panicked", StopCause.PANIC)
    return None


def _wait_for_guest(monitor: QmpConnection, deadline: Deadline, press: bool) -> Ending | None:
    """Have the guest shut down; say how that went, None where it did not in time."""
    with monitor.subscribe(ShutdownEvent) as events:
        ending = _read_ending(monitor)
        if ending is not None:
            return ending
        status = monitor.execute(QueryStatus())
        if not status.running:
            return Ending(f"its processors stood still ({status.status}): the guest could not be asked")
        while (remaining_s := deadline.remaining_s()) > 0:
            if press:
                monitor.execute(SystemPowerdown())
            try:
                event = events.get(timeout=min(_PRESS_AGAIN_S, remaining_s))
            except EventTimeout:
                continue
            return Ending("the guest shut down" if event.guest else f"QEMU was told to end ({event.reason})")
    return None
