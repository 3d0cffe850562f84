# SPDX-License-Identifier: BSD-2-Clause
"""The watch over all instances: queries over connections that are kept open between the queries.

A monitor serves one client. Every instance therefore has a monitor for watches alone, the watch monitor, so that a
watch never blocks other clients. One watch at a time holds the watch monitors of a run directory, by a lock that the
kernel releases when its holder dies. They belong to the process that opened them; a forked child queries without them.
States are derived as for any other query (`hvkit.hypervisor.kvm.instance.state`).

Each query includes the status, because QEMU sends no event for some changes, and none if it hangs. The resources are
queried only after an event of the instance, and every 30 seconds. An instance that did not answer the last query, and
has not sent anything since, gets a short timeout, and is not queried while its process is stopped by a signal.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from typing import Final

import attrs

from hvkit.errors import HypervisorError
from hvkit.hypervisor.errors import InstanceBusy, RuntimeStateError
from hvkit.hypervisor.kvm.host.locks import instance_lock
from hvkit.hypervisor.kvm.host.paths import InstancePaths, RunDirectory
from hvkit.hypervisor.kvm.host.process import Process
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.instance.instances import Instances
from hvkit.hypervisor.kvm.instance.query import Candidate, query_transiently, value_of
from hvkit.hypervisor.kvm.instance.resources import UNKNOWN_RESOURCES, Resources, parse_resources, resource_queries
from hvkit.hypervisor.kvm.instance.state import Answer, find_process
from hvkit.hypervisor.model.reports import InstanceInfo
from hvkit.hypervisor.watch import InstanceWatch
from hvkit.qmp import CommandError, ConnectError
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.fleet import Fleet
from hvkit.qmp.schema import QueryStatus

#: The share of the timeout for the watch monitors; the rest is for the control and shared monitors.
_SHARE: Final = 0.5
#: The timeout in seconds for an instance that did not answer the last query.
_RETRY_S: Final = 0.1
#: Seconds for which QEMU may delay an event: it sends at most one event of a kind per second.
#: Source: QAPI module `balloon`, event `BALLOON_CHANGE`.
_EVENT_DELAY_S: Final = 2.0
#: Seconds after which the resources are queried again without an event: QEMU sends none if memory is added while the
#: guest is paused.
_RESOURCES_VALID_S: Final = 30.0
#: The minimum time between two queries during a wait, in seconds: a failing disk causes an event for each request.
_MIN_INTERVAL_S: Final = 0.05
#: Seconds between two times that the logs are trimmed.
_TRIM_INTERVAL_S: Final = 60.0

_STATUS: Final = QueryStatus()


class KvmWatch(InstanceWatch):
    """A watch over the instances of a run directory. It trims their logs at its first query, and once a minute."""

    def __init__(self, instances: Instances) -> None:
        super().__init__(self._query_all)
        self._instances = instances
        self._pool: _MonitorPool | None = None
        self._waited_at_s = 0.0
        self._trimmed_at_s = -math.inf

    def _query_all(self) -> list[InstanceInfo]:
        if self._pool is not None and not self._pool.is_owned:
            self._release_pool()
        if self._pool is None:
            self._pool = _acquire_pool(self._instances.directory)
        if time.monotonic() >= self._trimmed_at_s + _TRIM_INTERVAL_S:
            self._instances.trim_logs()
            self._trimmed_at_s = time.monotonic()
        return self._instances.query_all(self._pool)

    def _wait_for_event(self, timeout_s: float) -> None:
        if self._pool is None:  # no events without the watch monitors
            super()._wait_for_event(timeout_s)
            return
        pause_s = min(timeout_s, max(self._waited_at_s + _MIN_INTERVAL_S - time.monotonic(), 0.0))
        time.sleep(pause_s)
        self._pool.wait(timeout_s - pause_s)
        self._waited_at_s = time.monotonic()

    def close(self) -> None:
        """Release the watch monitors, so that another watch can use them. A second call does nothing."""
        super().close()
        self._release_pool()

    def _release_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def _acquire_pool(directory: RunDirectory) -> _MonitorPool | None:
    """Acquire the watch monitors; None if another watch holds them, or if they cannot be used."""
    directory.check()
    with ExitStack() as stack:
        try:
            stack.enter_context(instance_lock("the watch", directory.watching_lock_file, timeout_s=0))
            fleet = stack.enter_context(Fleet({}))
        except (InstanceBusy, RuntimeStateError, ConnectError):
            return None
        return _MonitorPool(fleet, stack.pop_all())


@attrs.define
class _WatchedInstance:
    """An instance, with the data that a watch keeps from one query to the next.

    Attributes:
        process: its QEMU.
        paths: its files.
        runtime: its persisted state at the last query; None before the first.
        resources: its resources when they were last queried.
        queried_at_s: the time of that query.
        changed_at_s: the time of the last event, loss of the connection or operation, or of the start of the watch.
        is_silent: whether no monitor answered the last query.
    """

    process: Process
    paths: InstancePaths
    runtime: Runtime | None = None
    resources: Resources = UNKNOWN_RESOURCES
    queried_at_s: float = 0.0
    changed_at_s: float = attrs.field(factory=time.monotonic)
    is_silent: bool = False

    def has_current_resources(self, now_s: float) -> bool:
        """Whether the resources need not be queried."""
        return self.queried_at_s > self.changed_at_s + _EVENT_DELAY_S and now_s < self.queried_at_s + _RESOURCES_VALID_S

    def mark_changed(self) -> None:
        """Record that the resources may have changed."""
        self.changed_at_s = time.monotonic()


class _MonitorPool:
    """The processes and the watch monitors of all instances, open between the queries. A `StatusSource`.

    Args:
        fleet: an empty fleet.
        cleanup: releases the lock of the watch monitors and closes the fleet.
    """

    def __init__(self, fleet: Fleet, cleanup: ExitStack) -> None:
        self._fleet = fleet
        self._cleanup = cleanup
        self._owner = os.getpid()
        self._watched: dict[str, _WatchedInstance] = {}

    @property
    def is_owned(self) -> bool:
        """Whether this process has opened the pool. A process that was forked from it has not."""
        return os.getpid() == self._owner

    def find_process(self, runtime: Runtime, paths: InstancePaths) -> Process | None:
        """Return the process of an instance. An open process is reused if it is still the right one and runs."""
        watched = self._watched.get(paths.name)
        if watched is not None:
            if watched.process.identity == runtime.process and not watched.process.wait(0):
                return watched.process
            self._drop(paths.name)
        process = find_process(runtime, paths)
        if process is not None:
            self._watched[paths.name] = _WatchedInstance(process, paths)
            self._fleet.add(paths.name, paths.watch_socket)
        return process

    def query(self, candidates: Mapping[str, Candidate], timeout_s: float) -> Mapping[str, Answer]:
        """Query instances. If a watch monitor does not answer, try the other monitors by `query_transiently`."""
        deadline = Deadline(timeout_s)
        for name in self._watched.keys() - candidates.keys():
            self._drop(name)
        for name, candidate in candidates.items():
            watched = self._watched[name]
            if watched.runtime is not candidate.runtime:
                watched.runtime = candidate.runtime
                watched.mark_changed()
        self._fleet.receive()
        self._note_changed()
        unanswered = self._fleet.unanswered()  # they are sent no second command
        silent = {name for name in unanswered if self._watched[name].is_silent}
        names = self._watched.keys() - {name for name in silent if _is_stopped(self._watched[name].process)}
        answers = self._query_pool(names - unanswered, deadline.timeout_s * _SHARE)
        left = names - answers.keys()
        for group, wait_s in ((left - silent, deadline.remaining_s()), (left & silent, _RETRY_S)):
            answers |= query_transiently({name: candidates[name] for name in group}, max(wait_s, _RETRY_S))
        for name in names:
            self._watched[name].is_silent = name not in answers
        return answers

    def _query_pool(self, names: Collection[str], timeout_s: float) -> dict[str, Answer]:
        """Query over the watch monitors, each instance only for what may have changed."""
        deadline = Deadline(timeout_s)
        now_s = time.monotonic()
        current = {name for name in names if self._watched[name].has_current_resources(now_s)}
        answers = self._query_round(names, current, timeout_s)
        # An event that arrived during the query may be about the resources.
        again = self._note_changed() & current & answers.keys()
        if again:
            answers |= self._query_round(again, (), max(deadline.remaining_s(), _RETRY_S))
        return answers

    def _query_round(self, names: Collection[str], current: Collection[str], timeout_s: float) -> dict[str, Answer]:
        """Query each instance once. Those with current resources are queried only for the status."""
        now_s = time.monotonic()
        runtimes = {name: runtime for name in names if (runtime := self._watched[name].runtime) is not None}
        queries = {
            name: () if name in current else resource_queries(runtime, self._watched[name].paths)
            for name, runtime in runtimes.items()
        }
        commands = {name: (_STATUS, *several) for name, several in queries.items()}
        answers = {}
        for name, (status, *rest) in self._fleet.execute_several(commands, timeout=timeout_s).items():
            watched = self._watched[name]
            if status.error is not None:
                watched.mark_changed()
                continue
            if rest:
                watched.resources = parse_resources(runtimes[name], queries[name], [value_of(each) for each in rest])
                # If a reply is missing, it may only be late: query the resources again.
                if all(each.error is None or isinstance(each.error, CommandError) for each in rest):
                    watched.queried_at_s = now_s
            answers[name] = Answer(status.value.status, status.value.running, watched.resources)
        return answers

    def _note_changed(self) -> set[str]:
        """Return the instances that sent an event or lost their connection since the last call, and mark them."""
        changed = self._fleet.take_changed()
        for name in changed:
            self._watched[name].mark_changed()
        return changed

    def wait(self, timeout_s: float) -> None:
        """Wait until an instance sends an event or its process ends, at most `timeout_s` seconds."""
        poller = select.poll()
        poller.register(self._fleet, select.POLLIN)
        for watched in self._watched.values():
            poller.register(watched.process, select.POLLIN)
        poller.poll(timeout_s * 1000)

    def _drop(self, name: str) -> None:
        self._fleet.remove(name)
        self._watched.pop(name).process.close()

    def close(self) -> None:
        """Close all connections and process descriptors, and release the lock."""
        for watched in self._watched.values():
            watched.process.close()
        self._watched.clear()
        self._cleanup.close()


def _is_stopped(process: Process) -> bool:
    try:
        return process.is_stopped
    except HypervisorError:  # unknown: query it
        return False
