# SPDX-License-Identifier: BSD-2-Clause
"""Queries for the state of one or of many instances, over monitors that are opened for the query or kept open."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from hvkit.errors import HypervisorError
from hvkit.hypervisor.kvm.host.paths import InstancePaths
from hvkit.hypervisor.kvm.host.process import Process
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.instance.resources import parse_resources, resource_queries
from hvkit.hypervisor.kvm.instance.state import (
    Answer,
    describe_damage,
    describe_queried,
    describe_without_query,
    find_process,
    is_starting,
)
from hvkit.hypervisor.kvm.qemu.monitors import connect_monitor, transient_monitors
from hvkit.hypervisor.model.reports import InstanceInfo
from hvkit.qmp import CommandError, ConnectError, QmpError
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.fleet import Fleet, Outcome
from hvkit.qmp.schema import QueryStatus

_log: Final = logging.getLogger("hvkit.hypervisor.kvm")

#: Seconds for all processes together that have closed their monitors to exit.
_EXIT_S: Final = 0.5
#: The minimum of the timeout of one command in seconds, also after the deadline of the whole query.
_LEAST_S: Final = 0.1

_STATUS: Final = QueryStatus()


def query_info(runtime: Runtime, paths: InstancePaths, *, timeout_s: float, is_locked: bool = False) -> InstanceInfo:
    """Return the current state of an instance.

    Args:
        runtime: its persisted state.
        paths: its files.
        timeout_s: seconds for its monitors to answer.
        is_locked: whether the caller holds the lock, so that no other operation can be running.
    """
    process = None if is_starting(runtime) else find_process(runtime, paths)
    if process is None:
        return describe_without_query(runtime, paths, is_locked=is_locked)
    with process:
        answer = _query_monitor(runtime, paths, process, timeout_s)
        return describe_queried(runtime, paths, process, answer, Deadline(_EXIT_S), is_locked=is_locked)


@attrs.frozen
class Candidate:
    """An instance that has a process, and is to be queried.

    Attributes:
        runtime: its persisted state.
        paths: its files.
        process: its QEMU.
    """

    runtime: Runtime
    paths: InstancePaths
    process: Process


class StatusSource(Protocol):
    """The interface to the processes and monitors of many instances. A source owns the processes that it returns."""

    def find_process(self, runtime: Runtime, paths: InstancePaths) -> Process | None:
        """Open the process of an instance, as `hvkit.hypervisor.kvm.instance.state.find_process` does."""

    def query(self, candidates: Mapping[str, Candidate], timeout_s: float) -> Mapping[str, Answer]:
        """Query all candidates before awaiting any reply. Those that do not answer are missing in the result."""


class TransientStatusSource(ExitStack, StatusSource):
    """A source that connects for each query. It closes the processes at the end of its ``with`` block."""

    def find_process(self, runtime: Runtime, paths: InstancePaths) -> Process | None:
        process = find_process(runtime, paths)
        return None if process is None else self.enter_context(process)

    def query(self, candidates: Mapping[str, Candidate], timeout_s: float) -> Mapping[str, Answer]:
        return query_transiently(candidates, timeout_s)


def query_all(
    loaded: Sequence[tuple[Runtime, InstancePaths]], source: StatusSource, *, timeout_s: float
) -> list[InstanceInfo]:
    """Return the current states of many instances, in their order. All are queried before any reply is awaited.

    Args:
        loaded: the persisted state and the files of each instance.
        source: queries them.
        timeout_s: seconds for all monitors together to answer.
    """
    infos: dict[str, InstanceInfo] = {}
    candidates: dict[str, Candidate] = {}
    for runtime, paths in loaded:
        with _describing_damage(paths, infos):
            process = None if is_starting(runtime) else source.find_process(runtime, paths)
            if process is None:
                infos[paths.name] = describe_without_query(runtime, paths, is_locked=False)
            else:
                candidates[paths.name] = Candidate(runtime, paths, process)
    answers = source.query(candidates, timeout_s)
    exit_deadline = Deadline(_EXIT_S)
    for name, candidate in candidates.items():
        with _describing_damage(candidate.paths, infos):
            infos[name] = describe_queried(
                candidate.runtime,
                candidate.paths,
                candidate.process,
                answers.get(name),
                exit_deadline,
                is_locked=False,
            )
    return [infos[paths.name] for _, paths in loaded]


@contextmanager
def _describing_damage(paths: InstancePaths, infos: dict[str, InstanceInfo]) -> Iterator[None]:
    """Turn a failure inside the block into the description of its instance, so that it does not affect the others."""
    try:
        yield
    except HypervisorError as error:
        infos[paths.name] = describe_damage(paths, error)


def _query_monitor(runtime: Runtime, paths: InstancePaths, process: Process, timeout_s: float) -> Answer | None:
    """Query one instance; None if QEMU does not answer."""
    deadline = Deadline(timeout_s)
    try:
        monitor = connect_monitor(transient_monitors(runtime, paths), process, timeout_s=timeout_s)
    except QmpError:
        return None
    try:
        status = monitor.execute(_STATUS, timeout=max(deadline.remaining_s(), _LEAST_S))
        replies = []
        queries = resource_queries(runtime, paths)
        for query in queries:
            try:
                replies.append(monitor.execute(query, timeout=max(deadline.remaining_s(), _LEAST_S)))
            except CommandError:  # no balloon, or not active yet
                replies.append(None)
        return Answer(status.status, status.running, parse_resources(runtime, queries, replies))
    except QmpError:
        return None
    finally:
        monitor.close()


def query_transiently(candidates: Mapping[str, Candidate], timeout_s: float) -> dict[str, Answer]:
    """Query many instances over new connections. Those that do not answer are missing in the result.

    The second monitor of an instance is tried if the first one does not answer, as in `connect_monitor`. Replies for an
    adopted instance are ignored if another process sent them.
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
                queries = {name: resource_queries(candidates[name].runtime, candidates[name].paths) for name in left}
                commands = {name: (_STATUS, *queries[name]) for name in left}
                replies = fleet.execute_several(commands, timeout=deadline.remaining_s() * share)
                adopted = {name: candidates[name].process for name in left if candidates[name].runtime.adoption}
                others = {name for name, own in adopted.items() if fleet.peer_pid(name) != own.identity.pid}
        except ConnectError as error:  # no file descriptor left
            _log.warning("cannot query instances %s: %s", ", ".join(left), error)
            break
        for name, (status, *rest) in replies.items():
            if status.error is None and name not in others:
                values = [value_of(each) for each in rest]
                resources = parse_resources(candidates[name].runtime, queries[name], values)
                answers[name] = Answer(status.value.status, status.value.running, resources)
    return answers


def value_of(outcome: Outcome[Any]) -> Any:
    """Return the value of an outcome; None for an error."""
    return outcome.value if outcome.error is None else None
