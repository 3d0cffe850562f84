# SPDX-License-Identifier: BSD-2-Clause
"""The state of an instance, derived from its state file, its process and the status that QEMU reports.

Deriving a state takes no lock and changes nothing, so it is possible during any operation. The first row that applies
determines the state. "Lock held" means that another operation on the instance is running:

===================  ===========  ==============  ==================================================================
phase in state file  process      QEMU's status   state
===================  ===========  ==============  ==================================================================
STARTING             any          not queried     PAUSED while the lock is held, otherwise CRASHED
STOPPED              none         --              SHUTDOWN, with the reason that the stop recorded
STOPPING             none         --              SHUTDOWN while the lock is held
any                  earlier boot --              CRASHED: the node was restarted
any, adopted         none         --              CRASHED, cause unknown
any                  none         --              SHUTDOWN or CRASHED, from QEMU's log, exit status and pid file
any                  by SIGSTOP   no reply        UNRESPONSIVE
STOPPING             running      no reply        RUNNING while the lock is held: the stop uses the monitors
any                  running      no reply        UNRESPONSIVE
OUTGOING             running      running, paused MIGRATING
any                  running      any             as `STATES` says
===================  ===========  ==============  ==================================================================
"""

from typing import Final
from uuid import UUID

import attrs

from hvkit.errors import HypervisorError
from hvkit.hypervisor.errors import InstanceError, reason_of
from hvkit.hypervisor.kvm.host.listeners import find_listener, is_listening
from hvkit.hypervisor.kvm.host.locks import is_lock_held
from hvkit.hypervisor.kvm.host.log import read_log_end
from hvkit.hypervisor.kvm.host.paths import InstancePaths
from hvkit.hypervisor.kvm.host.process import (
    Process,
    ProcessError,
    children,
    describe_exit,
    open_process,
    read_boot_id,
)
from hvkit.hypervisor.kvm.host.runtime import Phase, Runtime
from hvkit.hypervisor.kvm.instance.resources import UNKNOWN_RESOURCES, Resources
from hvkit.hypervisor.model import InstanceState, StopCause
from hvkit.hypervisor.model.reports import InstanceInfo
from hvkit.qmp.deadlines import Deadline


@attrs.frozen
class Condition:
    """A state, with its reason for operators and what caused it.

    Attributes:
        state: the state.
        reason: why the instance is in this state; empty if there is no particular reason.
        cause: what paused or stopped the instance; None if it runs, or if the cause is unknown.
    """

    state: InstanceState
    reason: str = ""
    cause: StopCause | None = None


_PANICKED: Final = Condition(InstanceState.CRASHED, "guest panicked", StopCause.PANIC)

#: The condition of an instance for each status of QEMU. For a status that is newer than this table, `running` decides.
#: Source: QAPI module `run-state`, definition `RunState`.
STATES: Final = {
    "colo": Condition(InstanceState.RUNNING),
    "debug": Condition(InstanceState.PAUSED, "stopped by a debugger", StopCause.REQUEST),
    "finish-migrate": Condition(InstanceState.MIGRATING, "completing the outgoing migration"),
    "guest-panicked": _PANICKED,
    "inmigrate": Condition(InstanceState.MIGRATING, "waiting for the incoming migration"),
    "internal-error": Condition(InstanceState.CRASHED, "internal error in QEMU", StopCause.QEMU),
    "io-error": Condition(InstanceState.PAUSED, "disk error or disk full", StopCause.DISK),
    "paused": Condition(InstanceState.PAUSED, "paused by request", StopCause.REQUEST),
    "postmigrate": Condition(InstanceState.MIGRATING, "migrated to another node"),
    "prelaunch": Condition(InstanceState.PAUSED, "guest has not run yet"),
    "restore-vm": Condition(InstanceState.PAUSED, "reverting to an internal snapshot", StopCause.REQUEST),
    "running": Condition(InstanceState.RUNNING),
    "save-vm": Condition(InstanceState.PAUSED, "creating an internal snapshot", StopCause.REQUEST),
    "shutdown": Condition(InstanceState.SHUTDOWN, "shut down by the guest", StopCause.GUEST),
    "suspended": Condition(InstanceState.PAUSED, "suspended by the guest", StopCause.GUEST),
    "watchdog": Condition(InstanceState.PAUSED, "stopped by the watchdog device", StopCause.WATCHDOG),
}

_STARTING: Final = Condition(InstanceState.PAUSED, "being started")
_START_INTERRUPTED: Final = Condition(InstanceState.CRASHED, "start was interrupted")
_OUTGOING: Final = "being migrated to another node"
#: QEMU with `-no-reboot` reports a reboot as a shutdown.
_SHUT_DOWN_OR_REBOOTED: Final = "shut down or rebooted by the guest (reboot_behavior=exit)"

#: The process runs, and no monitor answers.
_STOPPED_BY_SIGNAL: Final = Condition(InstanceState.UNRESPONSIVE, "QEMU process stopped by a signal")
_BEING_STOPPED: Final = Condition(InstanceState.RUNNING, "being stopped; the stop uses the monitors")
_NO_REPLY: Final = Condition(InstanceState.UNRESPONSIVE, "no monitor answers, but the QEMU process is running")

#: The process has ended. Its log has the cause if the end was requested.
_ENDED_DURING_STOP: Final = Condition(InstanceState.SHUTDOWN, "ended while being stopped", StopCause.REQUEST)
_NODE_RESTARTED: Final = Condition(InstanceState.CRASHED, "node was restarted", StopCause.NODE)
_ADOPTED_ENDED: Final = Condition(InstanceState.CRASHED, "QEMU ended; cause unknown, as the instance was adopted")
_ENDED_BY: Final = {
    StopCause.GUEST: Condition(InstanceState.SHUTDOWN, "shut down by the guest; QEMU ended", StopCause.GUEST),
    StopCause.REQUEST: Condition(InstanceState.SHUTDOWN, "QEMU was told to quit", StopCause.REQUEST),
    StopCause.PANIC: _PANICKED,
}
_ENDED_CLEANLY: Final = Condition(InstanceState.SHUTDOWN, "QEMU ended cleanly")


@attrs.frozen
class Answer:
    """The replies of QEMU to the queries for a state.

    Attributes:
        status: its `RunState`, or a newer one.
        is_running: whether the vCPUs run.
        resources: the current resources of the instance.
    """

    status: str
    is_running: bool
    resources: Resources


def describe_without_query(runtime: Runtime, paths: InstancePaths, *, is_locked: bool) -> InstanceInfo:
    """Describe an instance that is being started, or that has no process.

    Args:
        runtime: its persisted state.
        paths: its files.
        is_locked: whether the caller holds the lock, so that no other operation can be running.
    """
    if is_starting(runtime):
        is_interrupted = is_locked or not is_lock_held(paths.name, paths.lock_file)
        pid = runtime.process.pid if runtime.process else None
        return _describe(runtime, _START_INTERRUPTED if is_interrupted else _STARTING, pid)
    return _describe(runtime, _derive_without_process(runtime, paths, is_locked))


def describe_queried(
    runtime: Runtime,
    paths: InstancePaths,
    process: Process,
    answer: Answer | None,
    exit_deadline: Deadline,
    *,
    is_locked: bool,
) -> InstanceInfo:
    """Describe an instance whose monitors were queried.

    Args:
        runtime: its persisted state.
        paths: its files.
        process: its QEMU, which may have ended during the query.
        answer: the replies; None if there are none.
        exit_deadline: how long to wait for the end of a process that has closed its monitors already.
        is_locked: whether the caller holds the lock, so that no other operation can be running.
    """
    if process.wait(0) or (answer is None and _is_exiting(process, paths, exit_deadline)):
        return _describe(runtime, _derive_without_process(runtime, paths, is_locked))
    pid = process.identity.pid
    if answer is None:
        return _describe(runtime, _derive_without_answer(runtime, paths, process, is_locked), pid)
    return _describe(runtime, _derive_from_answer(runtime, answer), pid, answer.resources)


def describe_damage(paths: InstancePaths, damage: HypervisorError) -> InstanceInfo:
    """Describe an instance whose state cannot be derived, such as one whose state file is damaged.

    It counts as stopped if no process listens on its control monitor, which QEMU keeps open until it ends.
    """
    try:
        is_alive = is_listening(paths.control_socket)
    except ProcessError:  # unknown: assume that it runs
        is_alive = True
    return InstanceInfo(
        name=paths.name,
        uuid=UUID(int=0),
        state=InstanceState.UNRESPONSIVE if is_alive else InstanceState.CRASHED,
        reason=reason_of(damage),
        memory_mib=0,
        vcpus=0,
    )


def is_starting(runtime: Runtime) -> bool:
    """Whether an instance is being started, so that its monitors are not to be queried."""
    return runtime.phase is Phase.STARTING


def find_process(runtime: Runtime | None, paths: InstancePaths) -> Process | None:
    """Open the process of an instance; None if it has none.

    Args:
        runtime: its persisted state; None if that cannot be read.
        paths: its files.

    Raises:
        InstanceError: there is a process, and it cannot be identified.
    """
    try:
        if runtime is not None and runtime.process is not None:
            return open_process(runtime.process)
        if runtime is not None and runtime.phase is not Phase.STARTING:
            return None
        identity = find_listener(paths.control_socket, paths.pid_file)
        return None if identity is None else open_process(identity)
    except ProcessError as error:
        raise InstanceError(paths.name, f"cannot identify its process: {error}") from error


def _describe(
    runtime: Runtime, condition: Condition, pid: int | None = None, resources: Resources = UNKNOWN_RESOURCES
) -> InstanceInfo:
    instance = runtime.instance
    return InstanceInfo(
        name=instance.name,
        uuid=instance.uuid,
        state=condition.state,
        reason=condition.reason,
        cause=condition.cause,
        is_adopted=runtime.adoption is not None,
        is_user_shutdown=condition.cause is StopCause.GUEST and instance.parameters.get("user_shutdown") is True,
        pid=pid,
        memory_mib=runtime.memory_mib if resources.memory_mib is None else resources.memory_mib,
        vcpus=runtime.vcpus if resources.vcpus is None else resources.vcpus,
    )


def _derive_from_answer(runtime: Runtime, answer: Answer) -> Condition:
    condition = STATES.get(answer.status)
    if condition is None:
        state = InstanceState.RUNNING if answer.is_running else InstanceState.PAUSED
        condition = Condition(state, f"QEMU reports status {answer.status}")
    if runtime.phase is Phase.OUTGOING and condition.state.is_alive:
        return attrs.evolve(condition, state=InstanceState.MIGRATING, reason=_OUTGOING)
    if answer.status == "shutdown" and runtime.instance.parameters.get("reboot_behavior") == "exit":
        return attrs.evolve(condition, reason=_SHUT_DOWN_OR_REBOOTED)
    return condition


def _derive_without_answer(runtime: Runtime, paths: InstancePaths, process: Process, is_locked: bool) -> Condition:
    if process.is_stopped:
        return _STOPPED_BY_SIGNAL
    # A stop keeps one monitor busy until it is done, and the other one may be in use as well.
    return _BEING_STOPPED if _is_being_stopped(runtime, paths, is_locked) else _NO_REPLY


def _derive_without_process(runtime: Runtime, paths: InstancePaths, is_locked: bool) -> Condition:
    """Distinguish a clean end of QEMU from a crash.

    A QEMU that ends cleanly has logged the request to end, and removed its pid file. Either may be missing: the log may
    not be writable, and a confined QEMU cannot access its pid file. A QEMU that was killed did neither.
    """
    if runtime.phase is Phase.STOPPED:
        return Condition(InstanceState.SHUTDOWN, runtime.reason, runtime.stop_cause)
    if _is_being_stopped(runtime, paths, is_locked):
        return _ENDED_DURING_STOP
    process = runtime.process
    if process is not None and process.boot_id != read_boot_id():
        return _NODE_RESTARTED
    if runtime.adoption is not None:  # its log is not known
        return _ADOPTED_ENDED
    log_end = read_log_end(paths.log_file)
    if log_end.cause in _ENDED_BY:
        return _ENDED_BY[log_end.cause]
    status = children.exit_status(process) if process is not None else None
    if status == 0 or (status is None and runtime.has_pid_file and not paths.pid_file.exists()):
        return _ENDED_CLEANLY
    reason = describe_exit(process) if process is not None else "QEMU has ended"
    text = f"{reason}: {log_end.message}" if log_end.message else reason
    return Condition(InstanceState.CRASHED, text, StopCause.QEMU)


def _is_exiting(process: Process, paths: InstancePaths, exit_deadline: Deadline) -> bool:
    """Whether a process that does not answer is ending: QEMU closes its monitors some time before it exits."""
    return (
        not process.is_stopped and not is_listening(paths.control_socket) and process.wait(exit_deadline.remaining_s())
    )


def _is_being_stopped(runtime: Runtime, paths: InstancePaths, is_locked: bool) -> bool:
    return runtime.phase is Phase.STOPPING and not is_locked and is_lock_held(paths.name, paths.lock_file)
