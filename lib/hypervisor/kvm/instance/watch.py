# SPDX-License-Identifier: BSD-2-Clause
"""Look at all instances over connections that are kept from one look to the next.

Every instance has a monitor for this alone, the lookout: whoever looks in passing, or works on the instance, is not
kept waiting. A monitor serves one client, so one watch at a time has the lookouts of a run directory, by a lock that
the kernel gives up when its holder dies. They stay with the process that took them: in a child that it forks a watch
goes on without. What is seen is judged by the same functions as everywhere.

Only the answers are got in another way. Whether a machine runs it is asked in every look, because QEMU tells of some
changes by no event, and because one that hangs tells of nothing. What the balloon left of its memory is asked when the
machine said anything of late, and from time to time. A machine that was silent last time, and has not said a word
since, is waited for shortly; one whose process is stopped by a signal is not asked at all until that goes on.
"""

from __future__ import annotations

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
from hvkit.hypervisor.kvm.instance.state import (
    UNKNOWN_RESOURCES,
    Answer,
    Candidate,
    Resources,
    find_process,
    parse_resources,
    query_transiently,
    resource_queries,
    value_of,
)
from hvkit.hypervisor.model.reports import InstanceInfo
from hvkit.hypervisor.watch import InstanceWatch
from hvkit.qmp import CommandError, ConnectError
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.fleet import Fleet
from hvkit.qmp.schema import QueryStatus

#: The part of the time for a look in which the lookouts have to answer; the rest is for the other monitors.
_SHARE: Final = 0.5
#: Seconds that one has to answer that was silent last time.
_AGAIN_S: Final = 0.1
#: Seconds after an event in which another one may be held back. QEMU sends one of a kind in a second, and the last one
#: late. Source: QAPI module `balloon`, event `BALLOON_CHANGE`.
_HELD_BACK_S: Final = 2.0
#: Seconds after which what the balloon left is asked for again, though nothing was heard: memory that somebody plugged
#: into a guest that stands still.
_TRUSTED_S: Final = 30.0
#: Seconds between two looks of one who waits, however much there is to see: a disk that fails has an event each time.
_PAUSE_S: Final = 0.05

_STATUS: Final = QueryStatus()


class KvmWatch(InstanceWatch):
    """Looks at the instances of a run directory, as `InstanceWatch` says."""

    def __init__(self, instances: Instances) -> None:
        super().__init__(self._query_all)
        self._instances = instances
        self._pool: _MonitorPool | None = None
        self._waited_at_s = 0.0

    def _query_all(self) -> list[InstanceInfo]:
        if self._pool is not None and not self._pool.is_owned:
            self._release_pool()
        if self._pool is None:
            self._pool = _acquire_pool(self._instances.directory)
        return self._instances.query_all(self._pool)

    def _wait_for_event(self, timeout_s: float) -> None:
        if self._pool is None:  # there is nothing that would tell
            super()._wait_for_event(timeout_s)
            return
        pause_s = min(timeout_s, max(self._waited_at_s + _PAUSE_S - time.monotonic(), 0.0))
        time.sleep(pause_s)
        self._pool.wait(timeout_s - pause_s)
        self._waited_at_s = time.monotonic()

    def close(self) -> None:
        """Let go of the lookouts; another watch may have them. Closing again does nothing."""
        super().close()
        self._release_pool()

    def _release_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def _acquire_pool(directory: RunDirectory) -> _MonitorPool | None:
    """Take the lookouts of a run directory; None where somebody has them, nothing ever ran, or it cannot be done."""
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
    """What is watched of an instance from one look to the next.

    Attributes:
        process: its QEMU.
        runtime: what was remembered of it at the last look; None before the first.
        has: what the machine had when last asked.
        queried_at_s: when that was.
        changed_at_s: when it last said anything unasked, was lost, was changed by us, or became watched.
        is_silent: whether all its monitors were silent last time.
    """

    process: Process
    runtime: Runtime | None = None
    resources: Resources = UNKNOWN_RESOURCES
    queried_at_s: float = 0.0
    changed_at_s: float = attrs.field(factory=time.monotonic)
    is_silent: bool = False

    def has_current_resources(self, now_s: float) -> bool:
        """Whether what its machine had is what it has."""
        return self.queried_at_s > self.changed_at_s + _HELD_BACK_S and now_s < self.queried_at_s + _TRUSTED_S

    def mark_changed(self) -> None:
        """Note that what is watched may not be so any more."""
        self.changed_at_s = time.monotonic()


class _MonitorPool:
    """The processes and the lookouts of all instances, held from one look to the next.

    Args:
        fleet: of no machines.
        holding: gives up what keeps others out, and closes the fleet.
    """

    def __init__(self, fleet: Fleet, holding: ExitStack) -> None:
        self._fleet = fleet
        self._holding = holding
        self._owner = os.getpid()
        self._watched: dict[str, _WatchedInstance] = {}

    @property
    def is_owned(self) -> bool:
        """Whether it was this process that took them, and not one that it was forked from."""
        return os.getpid() == self._owner

    def find_process(self, runtime: Runtime, paths: InstancePaths) -> Process | None:
        """Return an instance's process, the one that is held where it is still that."""
        watched = self._watched.get(paths.name)
        if watched is not None:
            if watched.process.identity == runtime.process and not watched.process.wait(0):
                return watched.process
            self._drop(paths.name)
        process = find_process(runtime, paths)
        if process is not None:
            self._watched[paths.name] = _WatchedInstance(process)
            self._fleet.add(paths.name, paths.watch_socket)
        return process

    def query(self, candidates: Mapping[str, Candidate], timeout_s: float) -> Mapping[str, Answer]:
        """Ask instances what they are doing, as `query_transiently` does where a lookout does not answer."""
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
        unanswered = self._fleet.owing()  # who never answered the last question is not sent another one
        silent = {name for name in unanswered if self._watched[name].is_silent}
        asked = self._watched.keys() - {name for name in silent if _is_stopped(self._watched[name].process)}
        answers = self._ask_pool(asked - unanswered, deadline.timeout_s * _SHARE)
        left = asked - answers.keys()
        for names, wait_s in ((left - silent, deadline.remaining_s()), (left & silent, _AGAIN_S)):
            answers |= query_transiently({name: candidates[name] for name in names}, max(wait_s, _AGAIN_S))
        for name in asked:
            self._watched[name].is_silent = name not in answers
        return answers

    def _ask_pool(self, names: Collection[str], timeout_s: float) -> dict[str, Answer]:
        """Ask over the lookouts, each machine only what is not watched."""
        deadline = Deadline(timeout_s)
        now_s = time.monotonic()
        trusted = {name for name in names if self._watched[name].has_current_resources(now_s)}
        answers = self._ask_round(names, trusted, timeout_s)
        # What was watched may have changed in the very moment of asking for the rest.
        again = self._note_changed() & trusted & answers.keys()
        if again:
            answers |= self._ask_round(again, (), max(deadline.remaining_s(), _AGAIN_S))
        return answers

    def _ask_round(self, names: Collection[str], trusted: Collection[str], timeout_s: float) -> dict[str, Answer]:
        now_s = time.monotonic()
        runtimes = {name: runtime for name in names if (runtime := self._watched[name].runtime) is not None}
        wanted = {
            name: (_STATUS,) if name in trusted else (_STATUS, *resource_queries(runtime))
            for name, runtime in runtimes.items()
        }
        answers = {}
        for name, (status, *rest) in self._fleet.execute_several(wanted, timeout=timeout_s).items():
            watched = self._watched[name]
            if status.error is not None:
                watched.mark_changed()
                continue
            if rest:
                watched.resources = parse_resources(runtimes[name], [value_of(each) for each in rest])
                # Not, if one of them only was late.
                if all(each.error is None or isinstance(each.error, CommandError) for each in rest):
                    watched.queried_at_s = now_s
            answers[name] = Answer(status.value.status, status.value.running, watched.resources)
        return answers

    def _note_changed(self) -> set[str]:
        changed = self._fleet.take_stirred()
        for name in changed:
            self._watched[name].mark_changed()
        return changed

    def wait(self, timeout_s: float) -> None:
        """Wait until an instance said something or its process ended, at most for some seconds."""
        poller = select.poll()
        poller.register(self._fleet, select.POLLIN)
        for watched in self._watched.values():
            poller.register(watched.process, select.POLLIN)
        poller.poll(timeout_s * 1000)

    def _drop(self, name: str) -> None:
        self._fleet.remove(name)
        self._watched.pop(name).process.close()

    def close(self) -> None:
        """Close all connections, and let go of the processes. What is somebody else's stays that."""
        for watched in self._watched.values():
            watched.process.close()
        self._watched.clear()
        self._holding.close()


def _is_stopped(process: Process) -> bool:
    try:
        return process.is_stopped
    except HypervisorError:  # it cannot be found out: it is asked
        return False
