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
    NOTHING_SAID,
    Answer,
    Holdings,
    Suspect,
    ask_in_passing,
    find_process,
    questions,
    understand,
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
        super().__init__(self._look_at_all)
        self._instances = instances
        self._lookouts: _Lookouts | None = None
        self._rested_at_s = 0.0

    def _look_at_all(self) -> list[InstanceInfo]:
        if self._lookouts is not None and not self._lookouts.are_ours:
            self._let_go()
        if self._lookouts is None:
            self._lookouts = _take_lookouts(self._instances.directory)
        return self._instances.look_at_all(self._lookouts)

    def _rest(self, timeout_s: float) -> None:
        if self._lookouts is None:  # there is nothing that would tell
            super()._rest(timeout_s)
            return
        pause_s = min(timeout_s, max(self._rested_at_s + _PAUSE_S - time.monotonic(), 0.0))
        time.sleep(pause_s)
        self._lookouts.wait(timeout_s - pause_s)
        self._rested_at_s = time.monotonic()

    def close(self) -> None:
        """Let go of the lookouts; another watch may have them. Closing again does nothing."""
        super().close()
        self._let_go()

    def _let_go(self) -> None:
        if self._lookouts is not None:
            self._lookouts.close()
            self._lookouts = None


def _take_lookouts(directory: RunDirectory) -> _Lookouts | None:
    """Take the lookouts of a run directory; None where somebody has them, nothing ever ran, or it cannot be done."""
    directory.check()
    with ExitStack() as stack:
        try:
            stack.enter_context(instance_lock("the watch", directory.watching_lock_file, timeout_s=0))
            fleet = stack.enter_context(Fleet({}))
        except (InstanceBusy, RuntimeStateError, ConnectError):
            return None
        return _Lookouts(fleet, stack.pop_all())


@attrs.define
class _Acquaintance:
    """What is known of an instance from one look to the next.

    Attributes:
        process: its QEMU.
        runtime: what was remembered of it at the last look; None before the first.
        has: what the machine had when last asked.
        asked_at_s: when that was.
        stirred_at_s: when it last said anything unasked, was lost, was changed by us, or became known.
        is_mute: whether all its monitors were silent last time.
    """

    process: Process
    runtime: Runtime | None = None
    has: Holdings = NOTHING_SAID
    asked_at_s: float = 0.0
    stirred_at_s: float = attrs.field(factory=time.monotonic)
    is_mute: bool = False

    def knows_holdings(self, now_s: float) -> bool:
        """Whether what its machine had is what it has."""
        return self.asked_at_s > self.stirred_at_s + _HELD_BACK_S and now_s < self.asked_at_s + _TRUSTED_S

    def stir(self) -> None:
        """Note that what is known may not be so any more."""
        self.stirred_at_s = time.monotonic()


class _Lookouts:
    """The processes and the lookouts of all instances, held from one look to the next.

    Args:
        fleet: of no machines.
        holding: gives up what keeps others out, and closes the fleet.
    """

    def __init__(self, fleet: Fleet, holding: ExitStack) -> None:
        self._fleet = fleet
        self._holding = holding
        self._owner = os.getpid()
        self._known: dict[str, _Acquaintance] = {}

    @property
    def are_ours(self) -> bool:
        """Whether it was this process that took them, and not one that it was forked from."""
        return os.getpid() == self._owner

    def find_process(self, runtime: Runtime, paths: InstancePaths) -> Process | None:
        """Return an instance's process, the one that is held where it is still that."""
        known = self._known.get(paths.name)
        if known is not None:
            if known.process.identity == runtime.process and not known.process.wait(0):
                return known.process
            self._forget(paths.name)
        process = find_process(runtime, paths)
        if process is not None:
            self._known[paths.name] = _Acquaintance(process)
            self._fleet.add(paths.name, paths.lookout_socket)
        return process

    def ask(self, suspects: Mapping[str, Suspect], timeout_s: float) -> Mapping[str, Answer]:
        """Ask instances what they are doing, as `ask_in_passing` does where a lookout does not answer."""
        deadline = Deadline(timeout_s)
        for name in self._known.keys() - suspects.keys():
            self._forget(name)
        for name, suspect in suspects.items():
            known = self._known[name]
            if known.runtime is not suspect.runtime:
                known.runtime = suspect.runtime
                known.stir()
        self._fleet.receive()
        self._note_stirred()
        owing = self._fleet.unanswered()  # who never answered the last question is not sent another one
        mute = {name for name in owing if self._known[name].is_mute}
        asked = self._known.keys() - {name for name in mute if _is_stopped(self._known[name].process)}
        answers = self._ask_lookouts(asked - owing, deadline.timeout_s * _SHARE)
        left = asked - answers.keys()
        for names, wait_s in ((left - mute, deadline.remaining_s()), (left & mute, _AGAIN_S)):
            answers |= ask_in_passing({name: suspects[name] for name in names}, max(wait_s, _AGAIN_S))
        for name in asked:
            self._known[name].is_mute = name not in answers
        return answers

    def _ask_lookouts(self, names: Collection[str], timeout_s: float) -> dict[str, Answer]:
        """Ask over the lookouts, each machine only what is not known."""
        deadline = Deadline(timeout_s)
        now_s = time.monotonic()
        trusted = {name for name in names if self._known[name].knows_holdings(now_s)}
        answers = self._ask_round(names, trusted, timeout_s)
        # What was known may have changed in the very moment of asking for the rest.
        again = self._note_stirred() & trusted & answers.keys()
        if again:
            answers |= self._ask_round(again, (), max(deadline.remaining_s(), _AGAIN_S))
        return answers

    def _ask_round(self, names: Collection[str], trusted: Collection[str], timeout_s: float) -> dict[str, Answer]:
        now_s = time.monotonic()
        runtimes = {name: runtime for name in names if (runtime := self._known[name].runtime) is not None}
        wanted = {
            name: (_STATUS,) if name in trusted else (_STATUS, *questions(runtime))
            for name, runtime in runtimes.items()
        }
        answers = {}
        for name, (status, *rest) in self._fleet.execute_several(wanted, timeout=timeout_s).items():
            known = self._known[name]
            if status.error is not None:
                known.stir()
                continue
            if rest:
                known.has = understand(runtimes[name], [value_of(each) for each in rest])
                # Not, if one of them only was late.
                if all(each.error is None or isinstance(each.error, CommandError) for each in rest):
                    known.asked_at_s = now_s
            answers[name] = Answer(status.value.status, status.value.running, known.has)
        return answers

    def _note_stirred(self) -> set[str]:
        stirred = self._fleet.take_changed()
        for name in stirred:
            self._known[name].stir()
        return stirred

    def wait(self, timeout_s: float) -> None:
        """Wait until an instance said something or its process ended, at most for some seconds."""
        poller = select.poll()
        poller.register(self._fleet, select.POLLIN)
        for known in self._known.values():
            poller.register(known.process, select.POLLIN)
        poller.poll(timeout_s * 1000)

    def _forget(self, name: str) -> None:
        self._fleet.remove(name)
        self._known.pop(name).process.close()

    def close(self) -> None:
        """Close all connections, and let go of the processes. What is somebody else's stays that."""
        for known in self._known.values():
            known.process.close()
        self._known.clear()
        self._holding.close()


def _is_stopped(process: Process) -> bool:
    try:
        return process.is_stopped
    except HypervisorError:  # it cannot be found out: it is asked
        return False
