# SPDX-License-Identifier: BSD-2-Clause
"""Whoever dies in the middle of a migration, the guest never runs twice, and is never taken for another's."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import attrs
import pytest

from faults import crash_at
from hvkit.errors import HypervisorError
from hvkit.hypervisor import Disk, Instance, InstanceNotFound, InstanceState, MigrationState
from hvkit.hypervisor.convergence import ConvergencePolicy
from hvkit.hypervisor.errors import MigrationError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.process import open_process, read_identity
from hvkit.hypervisor.kvm.host.state_file import to_plain
from hvkit.hypervisor.model.reports import MigrationInfo
from hvkit.qmp import QmpError
from hvkit.qmp.schema import MigrateContinue, MigrateSetParameters, QueryStatus
from hvkit.testing.toy_guest import write_disk

MakeInstance = Callable[..., Instance]

pytestmark = pytest.mark.qemu

NOWHERE = None
RUNNING, MIGRATING, CRASHED = InstanceState.RUNNING, InstanceState.MIGRATING, InstanceState.CRASHED
#: Gives up what does not move at once.
HASTY = ConvergencePolicy(stall_s=0.3)


def state_of(hypervisor: KvmHypervisor) -> InstanceState | None:
    try:
        return hypervisor.get_instance_info("web1").state
    except InstanceNotFound:
        return NOWHERE


def runs_guest(hypervisor: KvmHypervisor) -> bool:
    """Tell whether the processors of the guest run here, whatever hvkit says."""
    try:
        with hypervisor.monitor("web1") as monitor:
            return monitor.execute(QueryStatus()).running
    except (HypervisorError, QmpError):
        return False


@attrs.define
class Move:
    """An instance on its way, up to some phase."""

    source: KvmHypervisor
    destination: KvmHypervisor
    instance: Instance
    target: str
    info: MigrationInfo | None = None

    def reach(self, phase: str) -> None:
        """Go on until a phase, and no further."""
        self.info = self.source.migration_info("web1")
        self.destination.accept_instance(self.instance, self.info, self.target)
        if phase == "accepted":
            return
        self.source.migrate_instance("web1", self.target)
        if phase == "active":
            return
        if phase == "postcopy":
            with self.source.monitor("web1") as monitor:
                monitor.execute(MigrateSetParameters(max_postcopy_bandwidth=16 << 10))
            self.source.start_postcopy("web1")
        self.wait_for("pre-switchover")
        if phase == "pre-switchover":
            return
        with self.source.monitor("web1") as monitor:
            monitor.execute(MigrateContinue(state="pre-switchover"))
        if phase == "postcopy":
            self.wait_for("postcopy-active")
            self.wait_until(lambda: runs_guest(self.destination))
            return
        self.wait_for("completed")
        if phase == "half finalized":
            self.destination.finalize_migration_destination(self.instance, self.info, success=True)

    def wait_for(self, phase: str) -> None:
        self.wait_until(lambda: self.source.get_migration_status("web1").phase == phase)

    def wait_until(self, claim: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 30
        while not claim():
            assert time.monotonic() < deadline_s
            time.sleep(0.02)

    def settle(self) -> None:
        """Do what a cluster manager does that finds a migration: ask, and finalize what can be."""
        self.check()
        info = self.info or MigrationInfo(instance="web1", hypervisor="kvm")
        success = runs_guest(self.destination)
        if state_of(self.source) is MIGRATING:
            with contextlib.suppress(HypervisorError):
                success = self.source.follow_migration("web1", HASTY).status is MigrationState.COMPLETED
        self.check()
        with contextlib.suppress(HypervisorError):
            # The destination first: where it does not have the guest, the source may be all that is left of it.
            with contextlib.suppress(InstanceNotFound):
                self.destination.finalize_migration_destination(self.instance, info, success)
            self.check()
            self.source.finalize_migration_source("web1", success, live=True)
        self.check()

    def check(self) -> None:
        # The destination first: a guest that runs there has left, and one that has left does not come back.
        assert not (runs_guest(self.destination) and runs_guest(self.source))


@pytest.fixture
def make_move(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Move]]:
    destination = KvmHypervisor(run_dir=tmp_path / "other", lock_timeout_s=5.0)
    monkeypatch.setattr("hvkit.hypervisor.kvm.migration.destination.SETTLE_S", 1.0)

    def make(phase: str) -> Move:
        """Start an instance that can be held in a phase: it never arrives by itself, or waits before the switch."""
        dirties_memory = phase in ("active", "postcopy")
        caps = {"active": "", "postcopy": "pause-before-switchover:postcopy-ram"}.get(phase, "pause-before-switchover")
        disk = Disk(path=str(write_disk(tmp_path / f"{uuid4()}.img", dirties_memory=dirties_memory)))
        parameters = {"migration_bandwidth": int(dirties_memory), "migration_caps": caps}
        toy = make_toy(disks=(disk,), parameters=parameters)
        kvm.start_instance(toy)
        return Move(kvm, destination, toy, str(tmp_path / "migration.sock"))

    yield make
    for name in destination.list_instances():
        destination.stop_instance(name, force=True)
        destination.cleanup_instance(name)
    assert not (tmp_path / "migration.sock").exists()


def kill(hypervisor: KvmHypervisor) -> None:
    pid = hypervisor.get_instance_info("web1").pid
    assert pid is not None
    identity = read_identity(pid)
    assert identity is not None
    process = open_process(identity)
    assert process is not None
    with process:
        process.send_signal(signal.SIGKILL)
        assert process.wait(10)


#: What is left on the source and on the destination, after one of them died in a phase.
DEATHS = [
    ("accepted", "source", CRASHED, NOWHERE),
    ("accepted", "destination", RUNNING, NOWHERE),
    ("active", "source", CRASHED, NOWHERE),
    ("active", "destination", RUNNING, NOWHERE),
    ("pre-switchover", "source", CRASHED, NOWHERE),
    ("pre-switchover", "destination", RUNNING, NOWHERE),
    # The guest needed both, and is lost. What is left of it is not run, and not forgotten either.
    ("postcopy", "source", CRASHED, RUNNING),
    ("postcopy", "destination", MIGRATING, NOWHERE),
    ("completed", "source", NOWHERE, RUNNING),
    # It ran over there and died there: its disks are newer than its memory here.
    ("completed", "destination", MIGRATING, NOWHERE),
    ("half finalized", "source", NOWHERE, RUNNING),
    ("half finalized", "destination", NOWHERE, CRASHED),
]


@pytest.mark.parametrize(("phase", "victim", "here", "there"), DEATHS, ids=lambda value: str(value).replace(" ", "-"))
def test_death_of_an_end_leaves_one_guest_at_most(
    make_move: Callable[[str], Move],
    phase: str,
    victim: str,
    here: InstanceState | None,
    there: InstanceState | None,
) -> None:
    move = make_move(phase)
    move.reach(phase)
    kill(move.source if victim == "source" else move.destination)
    move.settle()
    if (phase, victim) == ("accepted", "destination"):
        # Nobody began to send it, so nobody has to end that.
        assert runs_guest(move.source)
    assert (state_of(move.source), state_of(move.destination)) == (here, there)
    assert runs_guest(move.source) is (here is RUNNING)
    if phase == "postcopy":
        with pytest.raises(MigrationError):
            move.source.finalize_migration_source("web1", success=False, live=True)


@pytest.mark.parametrize("phase", ["accepted", "active", "pre-switchover"])
def test_migration_can_be_ended_in_any_phase_before_the_guest_leaves(
    make_move: Callable[[str], Move], phase: str
) -> None:
    move = make_move(phase)
    move.reach(phase)
    assert move.info is not None
    move.source.abort_migration("web1")
    move.source.abort_migration("web1")
    if phase != "accepted":
        assert move.source.get_migration_status("web1").status is MigrationState.CANCELLED
        move.source.finalize_migration_source("web1", success=False, live=True)
    move.destination.finalize_migration_destination(move.instance, move.info, success=False)
    assert (state_of(move.source), state_of(move.destination)) == (RUNNING, NOWHERE)
    assert runs_guest(move.source)


@pytest.mark.parametrize(("phase", "problem"), [("postcopy", "fetches its memory"), ("completed", "on the other node")])
def test_guest_that_has_left_is_not_called_back(make_move: Callable[[str], Move], phase: str, problem: str) -> None:
    move = make_move(phase)
    move.reach(phase)
    with pytest.raises(MigrationError, match=problem):
        move.source.abort_migration("web1")
    assert runs_guest(move.destination)
    assert not runs_guest(move.source)


#: Where whoever carries a migration out dies: in front of a command to QEMU or behind it, and where the guest is then.
INTERRUPTIONS = [
    ("migrate-incoming", "before", "source"),
    ("migrate-incoming", "after", "source"),
    ("migrate-set-capabilities", "before", "source"),
    ("migrate", "before", "source"),
    ("migrate", "after", None),
    ("quit", "before", "destination"),
    ("quit", "after", "destination"),
]

#: Moves an instance, and kills itself before or after a command.
DRIVER = """
import json, os, signal, sys
from pathlib import Path
from hvkit.hypervisor import Instance
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.runtime import from_plain
from hvkit.qmp import QmpConnection

told = json.loads(sys.argv[1])
execute = QmpConnection.execute

def execute_or_die(self, command, *arguments, **keywords):
    is_it = getattr(command, "wire_name", command) == told["command"]
    if is_it and told["moment"] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    answer = execute(self, command, *arguments, **keywords)
    if is_it:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

QmpConnection.execute = execute_or_die
source, destination = KvmHypervisor(run_dir=told["source"]), KvmHypervisor(run_dir=told["destination"])
instance = from_plain(told["instance"], Instance)
info = source.migration_info(instance.name)
destination.accept_instance(instance, info, told["target"])
source.migrate_instance(instance.name, told["target"])
source.follow_migration(instance.name)
destination.finalize_migration_destination(instance, info, True)
source.finalize_migration_source(instance.name, True, True)
"""


@pytest.mark.parametrize(("command", "moment", "place"), INTERRUPTIONS)
def test_death_of_who_carries_it_out_leaves_one_guest(
    make_move: Callable[[str], Move], command: str, moment: str, place: str | None
) -> None:
    move = make_move("plain")
    plain = attrs.evolve(move.instance, parameters={**move.instance.parameters, "migration_caps": ""})
    move.source.stop_instance("web1", force=True)
    move.source.start_instance(plain)
    move.instance = plain
    told = {
        "command": command,
        "moment": moment,
        "source": str(move.source.run_dir),
        "destination": str(move.destination.run_dir),
        "instance": to_plain(plain),
        "target": move.target,
    }
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(told)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    move.settle()
    # A destination that was never ready is what any failed start is.
    if state_of(move.destination) is CRASHED:
        move.destination.cleanup_instance("web1")
    states = (state_of(move.source), state_of(move.destination))
    assert states in ((RUNNING, NOWHERE), (NOWHERE, RUNNING))
    if place is not None:
        assert states[0 if place == "source" else 1] is RUNNING
    assert runs_guest(move.source) is not runs_guest(move.destination)
    if states[0] is RUNNING:  # and it can be sent again
        move.info = move.source.migration_info("web1")
        move.destination.accept_instance(plain, move.info, move.target)
        move.source.migrate_instance("web1", move.target)
        assert move.source.follow_migration("web1").status is MigrationState.COMPLETED
        move.settle()
    assert (state_of(move.source), state_of(move.destination)) == (NOWHERE, RUNNING)


#: The acts of a migration, in their order.
ACTS = ["accept", "migrate", "follow", "finalize destination", "finalize source"]


def act_of(move: Move, name: str) -> Callable[[], object]:
    """Return one act of a migration, to be done when those before are done."""
    source, destination, instance, info = move.source, move.destination, move.instance, move.info
    assert info is not None
    acts: dict[str, Callable[[], object]] = {
        "accept": lambda: destination.accept_instance(instance, info, move.target),
        "migrate": lambda: source.migrate_instance("web1", move.target),
        "follow": lambda: source.follow_migration("web1"),
        "finalize destination": lambda: destination.finalize_migration_destination(instance, info, success=True),
        "finalize source": lambda: source.finalize_migration_source("web1", success=True, live=True),
    }
    return acts[name]


@pytest.mark.parametrize("act", ACTS)
def test_wherever_in_an_act_somebody_dies_one_guest_is_left(make_move: Callable[[str], Move], act: str) -> None:
    move = make_move("plain")
    move.instance = attrs.evolve(move.instance, parameters={**move.instance.parameters, "migration_caps": ""})
    outcomes = set()
    for number in itertools.count(1):
        for node in (move.source, move.destination):
            for name in node.list_instances():
                node.stop_instance(name, force=True)
                node.cleanup_instance(name)
        move.source.start_instance(move.instance)
        move.info = move.source.migration_info("web1")
        for earlier in ACTS[: ACTS.index(act)]:
            act_of(move, earlier)()
        is_dead = crash_at(number, act_of(move, act))
        move.settle()
        if state_of(move.destination) is CRASHED:  # a start that did not come to its end, as any other
            move.destination.cleanup_instance("web1")
        states = (state_of(move.source), state_of(move.destination))
        assert states in ((RUNNING, NOWHERE), (NOWHERE, RUNNING)), number
        assert runs_guest(move.source) is not runs_guest(move.destination)
        assert not Path(move.target).exists()
        outcomes.add(states)
        if not is_dead:
            break
    assert number > 1
    if act != "accept" and act != "migrate":
        assert outcomes == {(NOWHERE, RUNNING)}
