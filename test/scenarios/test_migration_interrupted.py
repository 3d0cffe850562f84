# SPDX-License-Identifier: BSD-2-Clause
"""Migrations in which a QEMU or the driving process is killed: the guest never runs on both nodes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import attrs
import pytest
from waiting import wait_for

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
#: A policy that gives up at the first stall.
IMPATIENT = ConvergencePolicy(stall_s=0.3)


def state_of(hypervisor: KvmHypervisor) -> InstanceState | None:
    try:
        return hypervisor.get_instance_info("web1").state
    except InstanceNotFound:
        return NOWHERE


def runs_guest(hypervisor: KvmHypervisor) -> bool:
    """Return whether QEMU runs the guest here, independently of the state file."""
    try:
        with hypervisor.monitor("web1") as monitor:
            return monitor.execute(QueryStatus()).running
    except (HypervisorError, QmpError):
        return False


@attrs.define
class Migration:
    """A migration that is driven up to a given phase."""

    source: KvmHypervisor
    destination: KvmHypervisor
    instance: Instance
    target: str
    info: MigrationInfo | None = None

    def reach(self, phase: str) -> None:
        """Drive the migration to a phase, and no further."""
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
            wait_for(lambda: runs_guest(self.destination))
            return
        self.wait_for("completed")
        if phase == "half finalized":
            self.destination.finalize_migration_destination(self.instance, self.info, success=True)

    def wait_for(self, phase: str) -> None:
        wait_for(lambda: self.source.get_migration_status("web1"), lambda status: status.phase == phase)

    def recover(self) -> None:
        """Finalize both ends as far as possible, as a cluster manager does after a crash of the driving process."""
        self.check()
        info = self.info or MigrationInfo(instance="web1", hypervisor="kvm")
        success = runs_guest(self.destination)
        if state_of(self.source) is MIGRATING:
            with contextlib.suppress(HypervisorError):
                success = self.source.follow_migration("web1", IMPATIENT).status is MigrationState.COMPLETED
        self.check()
        with contextlib.suppress(HypervisorError):
            # The destination first: if the guest does not run there, the source may have its only copy.
            with contextlib.suppress(InstanceNotFound):
                self.destination.finalize_migration_destination(self.instance, info, success)
            self.check()
            self.source.finalize_migration_source("web1", success, live=True)
        self.check()

    def check(self) -> None:
        # The destination first: a guest that runs there never runs on the source again.
        assert not (runs_guest(self.destination) and runs_guest(self.source))


@pytest.fixture
def make_migration(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Migration]]:
    destination = KvmHypervisor(run_dir=tmp_path / "other", lock_timeout_s=5.0)
    monkeypatch.setattr("hvkit.hypervisor.kvm.migration.destination.CHANGE_S", 1.0)

    def make(phase: str) -> Migration:
        """Start an instance whose migration does not converge, or pauses before the switchover."""
        is_busy = phase in ("active", "postcopy")
        caps = {"active": "", "postcopy": "pause-before-switchover:postcopy-ram"}.get(phase, "pause-before-switchover")
        disk = Disk(path=str(write_disk(tmp_path / f"{uuid4()}.img", dirties_memory=is_busy)))
        parameters = {"migration_bandwidth": int(is_busy), "migration_caps": caps}
        toy = make_toy(disks=(disk,), parameters=parameters)
        kvm.start_instance(toy)
        return Migration(kvm, destination, toy, str(tmp_path / "migration.sock"))

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


#: The states on source and destination after one of the two QEMUs was killed in a phase.
KILLS = [
    ("accepted", "source", CRASHED, NOWHERE),
    ("accepted", "destination", RUNNING, NOWHERE),
    ("active", "source", CRASHED, NOWHERE),
    ("active", "destination", RUNNING, NOWHERE),
    ("pre-switchover", "source", CRASHED, NOWHERE),
    ("pre-switchover", "destination", RUNNING, NOWHERE),
    # The guest needed both nodes, and is lost. The surviving QEMU is neither resumed nor removed.
    ("postcopy", "source", CRASHED, RUNNING),
    ("postcopy", "destination", MIGRATING, NOWHERE),
    ("completed", "source", NOWHERE, RUNNING),
    # The guest ran on the destination: its disks are newer than its memory on the source.
    ("completed", "destination", MIGRATING, NOWHERE),
    ("half finalized", "source", NOWHERE, RUNNING),
    ("half finalized", "destination", NOWHERE, CRASHED),
]


@pytest.mark.parametrize(("phase", "victim", "here", "there"), KILLS, ids=lambda value: str(value).replace(" ", "-"))
def test_killed_end_leaves_at_most_one_guest(
    make_migration: Callable[[str], Migration],
    phase: str,
    victim: str,
    here: InstanceState | None,
    there: InstanceState | None,
) -> None:
    migration = make_migration(phase)
    migration.reach(phase)
    kill(migration.source if victim == "source" else migration.destination)
    migration.recover()
    if (phase, victim) == ("accepted", "destination"):
        # The migration was not started, so it needs no finalization on the source.
        assert runs_guest(migration.source)
    assert (state_of(migration.source), state_of(migration.destination)) == (here, there)
    assert runs_guest(migration.source) is (here is RUNNING)
    if phase == "postcopy":
        with pytest.raises(MigrationError):
            migration.source.finalize_migration_source("web1", success=False, live=True)


@pytest.mark.parametrize("phase", ["accepted", "active", "pre-switchover"])
def test_abort_before_switchover_leaves_guest_on_source(make_migration: Callable[[str], Migration], phase: str) -> None:
    migration = make_migration(phase)
    migration.reach(phase)
    assert migration.info is not None
    migration.source.abort_migration("web1")
    migration.source.abort_migration("web1")
    if phase != "accepted":
        assert migration.source.get_migration_status("web1").status is MigrationState.CANCELLED
        migration.source.finalize_migration_source("web1", success=False, live=True)
    migration.destination.finalize_migration_destination(migration.instance, migration.info, success=False)
    assert (state_of(migration.source), state_of(migration.destination)) == (RUNNING, NOWHERE)
    assert runs_guest(migration.source)


@pytest.mark.parametrize(
    ("phase", "problem"), [("postcopy", "fetches its memory"), ("completed", "has already completed")]
)
def test_abort_after_switchover_is_rejected(
    make_migration: Callable[[str], Migration], phase: str, problem: str
) -> None:
    migration = make_migration(phase)
    migration.reach(phase)
    with pytest.raises(MigrationError, match=problem):
        migration.source.abort_migration("web1")
    assert runs_guest(migration.destination)
    assert not runs_guest(migration.source)


#: The command before or after which the driving process is killed, and where the guest is then.
INTERRUPTIONS = [
    ("migrate-incoming", "before", "source"),
    ("migrate-incoming", "after", "source"),
    ("migrate-set-capabilities", "before", "source"),
    ("migrate", "before", "source"),
    ("migrate", "after", None),
    ("quit", "before", "destination"),
    ("quit", "after", "destination"),
]

#: A process that migrates an instance, and kills itself before or after a command.
DRIVER = """
import json, os, signal, sys
from pathlib import Path
from hvkit.hypervisor import Instance
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.state_file import from_plain
from hvkit.qmp import QmpConnection

settings = json.loads(sys.argv[1])
execute = QmpConnection.execute

def execute_or_die(self, command, *arguments, **keywords):
    is_match = getattr(command, "wire_name", command) == settings["command"]
    if is_match and settings["moment"] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    answer = execute(self, command, *arguments, **keywords)
    if is_match:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

QmpConnection.execute = execute_or_die
source, destination = KvmHypervisor(run_dir=settings["source"]), KvmHypervisor(run_dir=settings["destination"])
instance = from_plain(settings["instance"], Instance)
info = source.migration_info(instance.name)
destination.accept_instance(instance, info, settings["target"])
source.migrate_instance(instance.name, settings["target"])
source.follow_migration(instance.name)
destination.finalize_migration_destination(instance, info, True)
source.finalize_migration_source(instance.name, True, True)
"""


@pytest.mark.parametrize(("command", "moment", "place"), INTERRUPTIONS)
def test_killed_driver_process_leaves_one_guest(
    make_migration: Callable[[str], Migration], command: str, moment: str, place: str | None
) -> None:
    migration = make_migration("plain")
    plain = attrs.evolve(migration.instance, parameters={**migration.instance.parameters, "migration_caps": ""})
    migration.source.stop_instance("web1", force=True)
    migration.source.start_instance(plain)
    migration.instance = plain
    settings = {
        "command": command,
        "moment": moment,
        "source": str(migration.source.run_dir),
        "destination": str(migration.destination.run_dir),
        "instance": to_plain(plain),
        "target": migration.target,
    }
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(settings)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    migration.recover()
    # An interrupted start of the destination needs a cleanup.
    if state_of(migration.destination) is CRASHED:
        migration.destination.cleanup_instance("web1")
    states = (state_of(migration.source), state_of(migration.destination))
    assert states in ((RUNNING, NOWHERE), (NOWHERE, RUNNING))
    if place is not None:
        assert states[0 if place == "source" else 1] is RUNNING
    assert runs_guest(migration.source) is not runs_guest(migration.destination)
    if states[0] is RUNNING:  # the migration can be repeated
        migration.info = migration.source.migration_info("web1")
        migration.destination.accept_instance(plain, migration.info, migration.target)
        migration.source.migrate_instance("web1", migration.target)
        assert migration.source.follow_migration("web1").status is MigrationState.COMPLETED
        migration.recover()
    assert (state_of(migration.source), state_of(migration.destination)) == (NOWHERE, RUNNING)


#: The steps of a migration, in order.
STEPS = ["accept", "migrate", "follow", "finalize destination", "finalize source"]


def step_of(migration: Migration, name: str) -> Callable[[], object]:
    """Return one step of a migration, which requires the steps before it."""
    source, destination, instance, info = migration.source, migration.destination, migration.instance, migration.info
    assert info is not None
    steps: dict[str, Callable[[], object]] = {
        "accept": lambda: destination.accept_instance(instance, info, migration.target),
        "migrate": lambda: source.migrate_instance("web1", migration.target),
        "follow": lambda: source.follow_migration("web1"),
        "finalize destination": lambda: destination.finalize_migration_destination(instance, info, success=True),
        "finalize source": lambda: source.finalize_migration_source("web1", success=True, live=True),
    }
    return steps[name]


@pytest.mark.parametrize("step", STEPS)
def test_crash_at_every_step_leaves_one_guest(make_migration: Callable[[str], Migration], step: str) -> None:
    migration = make_migration("plain")
    migration.instance = attrs.evolve(
        migration.instance, parameters={**migration.instance.parameters, "migration_caps": ""}
    )
    outcomes = set()
    for number in itertools.count(1):
        for node in (migration.source, migration.destination):
            for name in node.list_instances():
                node.stop_instance(name, force=True)
                node.cleanup_instance(name)
        migration.source.start_instance(migration.instance)
        migration.info = migration.source.migration_info("web1")
        for earlier in STEPS[: STEPS.index(step)]:
            step_of(migration, earlier)()
        has_crashed = crash_at(number, step_of(migration, step))
        migration.recover()
        if state_of(migration.destination) is CRASHED:  # its start was interrupted
            migration.destination.cleanup_instance("web1")
        states = (state_of(migration.source), state_of(migration.destination))
        assert states in ((RUNNING, NOWHERE), (NOWHERE, RUNNING)), number
        assert runs_guest(migration.source) is not runs_guest(migration.destination)
        assert not Path(migration.target).exists()
        outcomes.add(states)
        if not has_crashed:
            break
    assert number > 1
    if step != "accept" and step != "migrate":
        assert outcomes == {(NOWHERE, RUNNING)}
