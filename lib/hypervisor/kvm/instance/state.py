# SPDX-License-Identifier: BSD-2-Clause
"""What an instance is doing, from three witnesses: what is remembered, its process, and what QEMU says.

Whoever looks changes nothing and takes no lock, so that a look is possible whatever else is going on.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

import attrs

from hvkit.errors import HypervisorError
from hvkit.hypervisor.kvm.host.listeners import find_listener, is_listening
from hvkit.hypervisor.kvm.host.locks import is_lock_held
from hvkit.hypervisor.kvm.host.log import read_last_words
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
from hvkit.hypervisor.kvm.plan.plugged import has_memory_device
from hvkit.hypervisor.kvm.qemu.monitors import connect_monitor, transient_monitors
from hvkit.hypervisor.model import Instance, InstanceState, StopCause
from hvkit.hypervisor.model.reports import InstanceInfo
from hvkit.qmp import Command, CommandError, ConnectError, QmpError
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.fleet import Fleet, Outcome
from hvkit.qmp.schema import QueryBalloon, QueryCpusFast, QueryMemorySizeSummary, QueryStatus

_log: Final = logging.getLogger("hvkit.hypervisor.kvm")


@attrs.frozen
class _Meaning:
    """What a status means: where the instance is, why in words, and what made it stop."""

    state: InstanceState
    reason: str = ""
    cause: StopCause | None = None


#: What each status of QEMU means for the instance. One that is newer than this table is told from `running` alone.
#: Source: QAPI module `run-state`, definition `RunState`.
STATES: Final = {
    "colo": _Meaning(InstanceState.RUNNING),
    "debug": _Meaning(InstanceState.PAUSED, "a debugger stopped it", StopCause.REQUEST),
    "finish-migrate": _Meaning(InstanceState.MIGRATING, "the last of it is being sent"),
    "guest-panicked": _Meaning(InstanceState.CRASHED, "the guest panicked", StopCause.PANIC),
    "inmigrate": _Meaning(InstanceState.MIGRATING, "it waits for its source"),
    "internal-error": _Meaning(InstanceState.CRASHED, "QEMU met an error that it cannot go on after", StopCause.QEMU),
    "io-error": _Meaning(InstanceState.PAUSED, "a disk failed or is full", StopCause.DISK),
    "paused": _Meaning(InstanceState.PAUSED, "", StopCause.REQUEST),
    "postmigrate": _Meaning(InstanceState.MIGRATING, "it was sent away"),
    "prelaunch": _Meaning(InstanceState.PAUSED, "it has not run yet"),
    "restore-vm": _Meaning(InstanceState.PAUSED, "a snapshot is being restored", StopCause.REQUEST),
    "running": _Meaning(InstanceState.RUNNING),
    "save-vm": _Meaning(InstanceState.PAUSED, "its memory is being saved", StopCause.REQUEST),
    "shutdown": _Meaning(InstanceState.SHUTDOWN, "the guest shut down", StopCause.GUEST),
    "suspended": _Meaning(InstanceState.PAUSED, "the guest sleeps", StopCause.GUEST),
    "watchdog": _Meaning(InstanceState.PAUSED, "the watchdog stopped it", StopCause.WATCHDOG),
}

_MIB: Final = 1 << 20
#: Seconds that all those together have to end who closed their monitors already.
_ENDING_S: Final = 0.5


#: The resource_queries about what a machine has. What can change is asked for, and no more.
_STATUS: Final = QueryStatus()
_BALLOON: Final = QueryBalloon()
_MEMORY: Final = QueryMemorySizeSummary()
_PROCESSORS: Final = QueryCpusFast()


@attrs.frozen
class Resources:
    """What a machine has now, as its QEMU says; that is the truth, whatever is remembered.

    Attributes:
        memory_mib: what the guest has left of its memory, in MiB; None where that is not known.
        vcpus: how many processors there are; None for as many as are remembered.
    """

    memory_mib: int | None = None
    vcpus: int | None = None


UNKNOWN_RESOURCES: Final = Resources()


def resource_queries(runtime: Runtime) -> tuple[Command[Any], ...]:
    """Return what a QEMU is asked to learn what its machine has."""
    parameters = runtime.instance.parameters
    more = {_MEMORY: parameters.get("memory_max_mib"), _PROCESSORS: parameters.get("vcpus_max")}
    return (_BALLOON, *(query for query, can_change in more.items() if can_change))


def parse_resources(runtime: Runtime, answers: Sequence[Any]) -> Resources:
    """Combine the replies to `resource_queries`; None stands for a reply that is missing, or no balloon yet."""
    said = dict(zip(resource_queries(runtime), answers, strict=True))
    balloon, memory, processors = (said.get(each) for each in (_BALLOON, _MEMORY, _PROCESSORS))
    memory_bytes = None if balloon is None else balloon.actual
    # The balloon counts DIMMs, and takes no notice of what a virtio-mem device gives.
    if memory is not None and memory_bytes is not None and has_memory_device(runtime.instance.parameters):
        memory_bytes += memory.plugged_memory or 0
    return Resources(
        memory_mib=None if memory_bytes is None else memory_bytes // _MIB,
        vcpus=None if processors is None else len(processors),
    )


@attrs.frozen
class ObservedState:
    """The part of an instance's information that is not remembered."""

    state: InstanceState
    reason: str = ""
    cause: StopCause | None = None
    pid: int | None = None
    resources: Resources = UNKNOWN_RESOURCES


@attrs.frozen
class Answer:
    """What QEMU says of its machine.

    Attributes:
        status: its `RunState`, or one that is newer.
        is_running: whether its processors run.
        has: what it has now.
    """

    status: str
    is_running: bool
    resources: Resources


def query_info(runtime: Runtime, paths: InstancePaths, *, timeout_s: float, is_locked: bool = False) -> InstanceInfo:
    """Return what an instance is doing.

    Args:
        runtime: what is remembered of it.
        paths: its files.
        timeout_s: seconds that its monitors have to answer.
        is_locked: whether the caller holds the instance's lock, so that nobody else can be working on it.
    """
    process = None if _is_starting(runtime) else find_process(runtime, paths)
    if process is None:
        return _describe(runtime, _derive_unqueried(runtime, paths, is_locked))
    with process:
        answer = _query_monitor(runtime, paths, process, timeout_s)
        return _describe(runtime, _derive(runtime, paths, process, answer, Deadline(_ENDING_S), is_locked))


@attrs.frozen
class Candidate:
    """An instance whose process is there, and which is to be asked what it is doing.

    Attributes:
        runtime: what is remembered of it.
        paths: its files.
        process: its QEMU.
    """

    runtime: Runtime
    paths: InstancePaths
    process: Process


class StatusSource(Protocol):
    """How many instances are asked: by whom their processes are held, and over which connections."""

    def find_process(self, runtime: Runtime, paths: InstancePaths) -> Process | None:
        """Get hold of an instance's process, as `find_process` does; whoever asks lets go of it."""

    def query(self, candidates: Mapping[str, Candidate], timeout_s: float) -> Mapping[str, Answer]:
        """Ask instances what they are doing, all before any is waited for, and leave out those that do not say."""


class TransientStatusSource(ExitStack, StatusSource):
    """Asks over connections that are made for that; at the end of the ``with`` block nothing is left of it."""

    def find_process(self, runtime: Runtime, paths: InstancePaths) -> Process | None:
        process = find_process(runtime, paths)
        return None if process is None else self.enter_context(process)

    def query(self, candidates: Mapping[str, Candidate], timeout_s: float) -> Mapping[str, Answer]:
        return query_transiently(candidates, timeout_s)


def query_all(
    remembered: Sequence[tuple[Runtime, InstancePaths]], source: StatusSource, *, timeout_s: float
) -> list[InstanceInfo]:
    """Return what many instances are doing, in their order: all are asked before any is waited for.

    Args:
        remembered: of each instance what is remembered, and its files.
        source: who asks them.
        timeout_s: seconds that all of them together have to answer.
    """
    infos: dict[str, InstanceInfo] = {}
    candidates: dict[str, Candidate] = {}
    for runtime, paths in remembered:
        with _reporting_damage(paths, infos):
            process = None if _is_starting(runtime) else source.find_process(runtime, paths)
            if process is None:
                infos[paths.name] = _describe(runtime, _derive_unqueried(runtime, paths, is_locked=False))
            else:
                candidates[paths.name] = Candidate(runtime, paths, process)
    answers = source.query(candidates, timeout_s)
    ending = Deadline(_ENDING_S)
    for name, candidate in candidates.items():
        runtime, paths = candidate.runtime, candidate.paths
        with _reporting_damage(paths, infos):
            observed = _derive(runtime, paths, candidate.process, answers.get(name), ending, is_locked=False)
            infos[name] = _describe(runtime, observed)
    return [infos[paths.name] for _, paths in remembered]


@contextmanager
def _reporting_damage(paths: InstancePaths, infos: dict[str, InstanceInfo]) -> Iterator[None]:
    """Tell of one instance what goes wrong with it, instead of failing for all."""
    try:
        yield
    except HypervisorError as error:
        infos[paths.name] = describe_damage(paths, error)


def _describe(runtime: Runtime, observed: ObservedState) -> InstanceInfo:
    instance = runtime.instance
    return InstanceInfo(
        name=instance.name,
        uuid=instance.uuid,
        state=observed.state,
        reason=observed.reason,
        cause=observed.cause,
        is_adopted=runtime.adoption is not None,
        is_user_shutdown=observed.cause is StopCause.GUEST and _may_shut_down(runtime.instance),
        pid=observed.pid,
        memory_mib=runtime.memory_mib if observed.resources.memory_mib is None else observed.resources.memory_mib,
        vcpus=runtime.vcpus if observed.resources.vcpus is None else observed.resources.vcpus,
    )


def _may_shut_down(instance: Instance) -> bool:
    """Tell whether the user of an instance may shut it down from within."""
    return instance.parameters.get("user_shutdown") is True


def _derive_starting(runtime: Runtime, paths: InstancePaths, is_locked: bool) -> ObservedState:
    pid = runtime.process.pid if runtime.process else None
    if is_locked or not is_lock_held(paths.name, paths.lock_file):
        return ObservedState(InstanceState.CRASHED, "its start was interrupted", pid=pid)
    return ObservedState(InstanceState.PAUSED, "it is being started", pid=pid)


def _is_starting(runtime: Runtime) -> bool:
    """Whether an instance is not asked, be its process there or not: it is being started, and has no answers yet."""
    return runtime.phase is Phase.STARTING


def _derive_unqueried(runtime: Runtime, paths: InstancePaths, is_locked: bool) -> ObservedState:
    if _is_starting(runtime):
        return _derive_starting(runtime, paths, is_locked)
    return _derive_without_process(runtime, paths, is_locked)


def _derive(
    runtime: Runtime, paths: InstancePaths, process: Process, answer: Answer | None, ending: Deadline, is_locked: bool
) -> ObservedState:
    if process.wait(0) or (answer is None and _has_ended_by(ending, process, paths)):
        return _derive_without_process(runtime, paths, is_locked)
    if answer is not None:
        observed = _derive_from_answer(answer, process, runtime)
        if runtime.phase is Phase.OUTGOING and observed.state.is_alive:
            return attrs.evolve(observed, state=InstanceState.MIGRATING, reason="it is being sent to another node")
        return observed
    return _derive_without_answer(runtime, paths, process, is_locked)


def _has_ended_by(ending: Deadline, process: Process, paths: InstancePaths) -> bool:
    """Tell whether a process that does not answer has ended: one that ends closes its monitors some time before."""
    return not process.is_stopped and not is_listening(paths.control_socket) and process.wait(ending.remaining_s())


def _is_being_stopped(runtime: Runtime, paths: InstancePaths, is_locked: bool) -> bool:
    return runtime.phase is Phase.STOPPING and not is_locked and is_lock_held(paths.name, paths.lock_file)


def describe_damage(paths: InstancePaths, damage: HypervisorError) -> InstanceInfo:
    """Return what can be said of an instance that nothing sensible is remembered of.

    It is over if nobody listens on its control monitor, which lasts exactly as long as its QEMU.
    """
    try:
        is_there = is_listening(paths.control_socket)
    except ProcessError:  # it may be
        is_there = True
    return InstanceInfo(
        name=paths.name,
        uuid=UUID(int=0),
        state=InstanceState.UNRESPONSIVE if is_there else InstanceState.CRASHED,
        reason=str(damage),
        memory_mib=0,
        vcpus=0,
    )


def find_process(runtime: Runtime | None, paths: InstancePaths) -> Process | None:
    """Get hold of an instance's process; None where it has none any more.

    Args:
        runtime: what is remembered of it; None where that cannot be read.
        paths: its files.

    Raises:
        ProcessError: it has one, and which cannot be found out.
    """
    if runtime is not None and runtime.process is not None:
        return open_process(runtime.process)
    if runtime is not None and runtime.phase is not Phase.STARTING:
        return None
    identity = find_listener(paths.control_socket, paths.pid_file)
    return None if identity is None else open_process(identity)


def _query_monitor(runtime: Runtime, paths: InstancePaths, process: Process, timeout_s: float) -> Answer | None:
    """Ask QEMU what its machine is doing; None where it does not say."""
    deadline = Deadline(timeout_s)
    try:
        monitor = connect_monitor(transient_monitors(runtime, paths), process, timeout_s=timeout_s)
    except QmpError:
        return None
    try:
        status = monitor.execute(_STATUS, timeout=max(deadline.remaining_s(), 0.1))
        answers = []
        for query in resource_queries(runtime):
            try:
                answers.append(monitor.execute(query, timeout=max(deadline.remaining_s(), 0.1)))
            except CommandError:  # it has no balloon, or not yet
                answers.append(None)
        return Answer(status.status, status.running, parse_resources(runtime, answers))
    except QmpError:
        return None
    finally:
        monitor.close()


def query_transiently(candidates: Mapping[str, Candidate], timeout_s: float) -> dict[str, Answer]:
    """Connect to many QEMUs and ask what their machines are doing, and leave out those that do not say.

    As in `_query_monitor`, the second monitor is for those whose first one does not answer. Of one that was
    adopted no other process than its own is believed.
    """
    deadline = Deadline(timeout_s)
    answers: dict[str, Answer] = {}
    for turn, share in enumerate((0.5, 1.0)):
        left: dict[str, Path] = {}
        for name in candidates.keys() - answers.keys():
            left[name] = transient_monitors(candidates[name].runtime, candidates[name].paths)[turn]
        if not left:
            break
        try:
            with Fleet(left) as fleet:
                wanted = {name: (_STATUS, *resource_queries(candidates[name].runtime)) for name in left}
                asked = fleet.execute_several(wanted, timeout=deadline.remaining_s() * share)
                adopted = {name: candidates[name].process for name in left if candidates[name].runtime.adoption}
                strangers = {name for name, own in adopted.items() if fleet.peer_pid(name) != own.identity.pid}
        except ConnectError as error:  # there is no descriptor left to ask with
            _log.warning("not asked: %s: %s", ", ".join(left), error)
            break
        for name, (status, *rest) in asked.items():
            if status.error is None and name not in strangers:
                has = parse_resources(candidates[name].runtime, [value_of(each) for each in rest])
                answers[name] = Answer(status.value.status, status.value.running, has)
    return answers


def value_of(outcome: Outcome[Any]) -> Any:
    """Return an answer; None where there is none."""
    return outcome.value if outcome.error is None else None


def _derive_from_answer(answer: Answer, process: Process, runtime: Runtime) -> ObservedState:
    by_running = InstanceState.RUNNING if answer.is_running else InstanceState.PAUSED
    meaning = STATES.get(answer.status, _Meaning(by_running, f"QEMU says: {answer.status}"))
    reason = meaning.reason
    if answer.status == "shutdown" and runtime.instance.parameters.get("reboot_behavior") == "exit":
        reason = "the guest shut down or rebooted, which ends it"
    return ObservedState(meaning.state, reason, meaning.cause, process.identity.pid, answer.resources)


def _derive_without_answer(runtime: Runtime, paths: InstancePaths, process: Process, is_locked: bool) -> ObservedState:
    pid = process.identity.pid
    if process.is_stopped:
        return ObservedState(InstanceState.UNRESPONSIVE, "its process was stopped by a signal", pid=pid)
    if _is_being_stopped(runtime, paths, is_locked):
        # Who stops it has a monitor for as long as that takes, and somebody else may well have the other.
        return ObservedState(InstanceState.RUNNING, "it is being stopped, and its monitors are taken", pid=pid)
    return ObservedState(InstanceState.UNRESPONSIVE, "its process is there, and no monitor answers", pid=pid)


def _derive_without_process(runtime: Runtime, paths: InstancePaths, is_locked: bool) -> ObservedState:
    """Tell a good end from a bad one.

    A QEMU that was asked to end said so in its log, unless it cannot or somebody removed that; and it removed its pid
    file, unless it could not reach it. One that was killed did neither.
    """
    if runtime.phase is Phase.STOPPED:
        return ObservedState(InstanceState.SHUTDOWN, runtime.reason, runtime.stop_cause)
    if _is_being_stopped(runtime, paths, is_locked):
        return ObservedState(InstanceState.SHUTDOWN, "it ended while it was being stopped", StopCause.REQUEST)
    process = runtime.process
    if process is not None and process.boot_id != read_boot_id():
        return ObservedState(InstanceState.CRASHED, "the node was restarted", StopCause.NODE)
    if runtime.adoption is not None:  # it left nothing that would say why
        return ObservedState(InstanceState.CRASHED, "QEMU is gone, and why is not known: it was adopted")
    last_words = read_last_words(paths.log_file)
    match last_words.cause:
        case StopCause.GUEST:
            return ObservedState(InstanceState.SHUTDOWN, "the guest shut down, and QEMU ended", StopCause.GUEST)
        case StopCause.REQUEST:
            return ObservedState(InstanceState.SHUTDOWN, "QEMU was told to end", StopCause.REQUEST)
        case StopCause.PANIC:
            return ObservedState(InstanceState.CRASHED, "the guest panicked", StopCause.PANIC)
    status = children.exit_status(process) if process is not None else None
    if status == 0 or (status is None and runtime.has_pid_file and not paths.pid_file.exists()):
        return ObservedState(InstanceState.SHUTDOWN, "QEMU ended in good order")
    reason = describe_exit(process) if process is not None else "QEMU is gone"
    complaint = last_words.complaint
    return ObservedState(InstanceState.CRASHED, f"{reason}: {complaint}" if complaint else reason, StopCause.QEMU)
