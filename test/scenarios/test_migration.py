# SPDX-License-Identifier: BSD-2-Clause
"""Instances move between two hypervisors of this node, and whatever dies on the way, one guest runs at most."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest

from hvkit.hypervisor import Disk, Instance, InstanceInfo, InstanceNotFound, InstanceState, InstanceStateError, Nic
from hvkit.hypervisor.convergence import ConvergencePolicy, Decision, Sample, Step
from hvkit.hypervisor.errors import MigrationError, ParameterError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.process import open_process, read_identity
from hvkit.hypervisor.kvm.instance.handle import QUERY_S
from hvkit.hypervisor.model import MigrationState
from hvkit.hypervisor.model.reports import MigrationInfo, MigrationStatus
from hvkit.qmp.schema import MigrateContinue, MigrateSetCapabilities, MigrationCapabilityStatus

MakeInstance = Callable[..., Instance]

pytestmark = pytest.mark.qemu

#: Seconds for which a QEMU is silent: more than a mere look would wait.
SILENT_S = QUERY_S + 1


@pytest.fixture
def target(tmp_path: Path) -> str:
    return str(tmp_path / "migration.sock")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[KvmHypervisor]:
    """The hypervisor of another node, as far as this one can be two."""
    hypervisor = KvmHypervisor(run_dir=tmp_path / "other", lock_timeout_s=5.0)
    yield hypervisor
    for name in hypervisor.list_instances():
        hypervisor.stop_instance(name, force=True)
        hypervisor.cleanup_instance(name)


def info_of(hypervisor: KvmHypervisor) -> InstanceInfo | None:
    try:
        return hypervisor.get_instance_info("web1")
    except InstanceNotFound:
        return None


def state_of(hypervisor: KvmHypervisor) -> InstanceState | None:
    info = info_of(hypervisor)
    return None if info is None else info.state


def outcome(source: KvmHypervisor, other: KvmHypervisor) -> tuple[InstanceState | None, InstanceState | None]:
    return state_of(source), state_of(other)


def wait_until_over(source: KvmHypervisor, timeout_s: float = 30.0) -> MigrationStatus:
    deadline_s = time.monotonic() + timeout_s
    while not (status := source.get_migration_status("web1")).status.is_over:
        assert time.monotonic() < deadline_s, status
        time.sleep(0.02)
    return status


def kill(hypervisor: KvmHypervisor) -> None:
    info = info_of(hypervisor)
    assert info is not None
    assert info.pid is not None
    identity = read_identity(info.pid)
    assert identity is not None
    process = open_process(identity)
    assert process is not None
    with process:
        process.send_signal(signal.SIGKILL)
        assert process.wait(10)


def begin(source: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str, **keywords: Any) -> MigrationInfo:
    info = source.migration_info("web1")
    other.accept_instance(toy, info, target)
    assert state_of(other) is InstanceState.MIGRATING
    source.migrate_instance("web1", target, **keywords)
    return info


def begin_and_pause(source: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str) -> MigrationInfo:
    """Begin a migration and wait until nothing but the switch to the destination is left, which QEMU is not to make."""
    info = begin(source, other, toy, target)
    deadline_s = time.monotonic() + 30
    while (status := source.get_migration_status("web1")).phase != "pre-switchover":
        assert time.monotonic() < deadline_s, status
        time.sleep(0.02)
    assert status.status is MigrationState.ACTIVE
    assert state_of(source) is InstanceState.MIGRATING
    return info


def go_on(source: KvmHypervisor) -> None:
    with source.monitor("web1") as monitor:
        monitor.execute(MigrateContinue(state="pre-switchover"))


@pytest.fixture
def toy(kvm: KvmHypervisor, make_toy: MakeInstance) -> Instance:
    """An instance that runs, and whose migration waits before the last step until it is told to go on."""
    toy = make_toy(parameters={"migration_bandwidth": 0, "migration_caps": "pause-before-switchover"})
    kvm.start_instance(toy)
    return toy


@pytest.fixture
def quick_toy(kvm: KvmHypervisor, make_toy: MakeInstance) -> Instance:
    toy = make_toy(parameters={"migration_bandwidth": 0})
    kvm.start_instance(toy)
    return toy


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# ---- it arrives


@pytest.mark.parametrize("way", ["unix", "tcp"])
@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
def test_instance_moves(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance, target: str, way: str, live: bool
) -> None:
    if way == "tcp":
        target = f"127.0.0.1:{_free_port()}"
    info = begin(kvm, other, quick_toy, target, live=live)
    status = wait_until_over(kvm)
    assert status.status is MigrationState.COMPLETED
    assert status.total_time_ms
    assert status.downtime_ms is not None
    assert status.transferred_bytes
    other.finalize_migration_destination(quick_toy, info, success=True)
    kvm.finalize_migration_source("web1", success=True, live=live)
    assert outcome(kvm, other) == (None, InstanceState.RUNNING)
    other.stop_instance("web1", timeout=30)
    arrived = other.get_instance_info("web1")
    assert (arrived.state, arrived.reason) == (InstanceState.SHUTDOWN, "guest shut down on request")


def test_paused_instance_stays_paused(
    kvm: KvmHypervisor, other: KvmHypervisor, make_toy: MakeInstance, target: str
) -> None:
    toy = make_toy(parameters={"migration_bandwidth": 0})
    kvm.start_instance(toy)
    with kvm.monitor("web1") as monitor:
        monitor.execute("stop")
    info = begin(kvm, other, toy, target)
    assert wait_until_over(kvm).status is MigrationState.COMPLETED
    other.finalize_migration_destination(toy, info, success=True)
    kvm.finalize_migration_source("web1", success=True, live=True)
    assert outcome(kvm, other) == (None, InstanceState.PAUSED)


def test_guest_with_numa_nodes_moves(
    kvm: KvmHypervisor, other: KvmHypervisor, make_toy: MakeInstance, target: str
) -> None:
    numa = {"numa_nodes": 2, "numa_host_nodes": "0", "mem_prealloc": True, "boot_order": "disk,network"}
    nics = (Nic(mac="52:54:00:12:34:56", mode="user"),)
    toy = make_toy(vcpus=2, nics=nics, parameters={"migration_bandwidth": 0, **numa})
    kvm.start_instance(toy)
    info = begin(kvm, other, toy, target)
    assert wait_until_over(kvm).status is MigrationState.COMPLETED
    other.finalize_migration_destination(toy, info, success=True)
    kvm.finalize_migration_source("web1", success=True, live=True)
    assert outcome(kvm, other) == (None, InstanceState.RUNNING)


def test_machine_keeps_its_slots_and_goes_there_and_back(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance, target: str, tmp_path: Path
) -> None:
    more = Disk(path=str(tmp_path / "more.img"))
    Path(more.path).write_bytes(bytes(1 << 20))
    nic = Nic(mac="52:54:00:12:34:56", mode="user")
    kvm.hot_add_device("web1", more)
    kvm.hot_add_device("web1", nic)
    kvm.hot_del_device("web1", more)
    now = attrs.evolve(quick_toy, nics=(nic,))
    slots = kvm.migration_info("web1").data["addresses"]
    for source, destination in ((kvm, other), (other, kvm)):
        info = begin(source, destination, now, target)
        assert wait_until_over(source).status is MigrationState.COMPLETED
        destination.finalize_migration_destination(now, info, success=True)
        source.finalize_migration_source("web1", success=True, live=True)
        assert outcome(source, destination) == (None, InstanceState.RUNNING)
        assert destination.migration_info("web1").data["addresses"] == slots
        destination.hot_add_device("web1", more)
        destination.hot_del_device("web1", more)


def test_capabilities_of_both_ends_are_those_of_the_parameters(
    kvm: KvmHypervisor, other: KvmHypervisor, make_toy: MakeInstance, target: str
) -> None:
    toy = make_toy(parameters={"migration_bandwidth": 0, "migration_caps": "multifd:auto-converge"})
    kvm.start_instance(toy)
    with kvm.monitor("web1") as monitor:  # what an attempt with other parameters left behind
        monitor.execute(
            MigrateSetCapabilities(capabilities=[MigrationCapabilityStatus(capability="xbzrle", state=True)])
        )
    info = begin(kvm, other, toy, target)
    assert wait_until_over(kvm).status is MigrationState.COMPLETED
    for hypervisor in (kvm, other):
        with hypervisor.monitor("web1") as monitor:
            capabilities = monitor.execute("query-migrate-capabilities")
        switched_on = {each["capability"] for each in capabilities if each["state"]}
        assert switched_on == {"multifd", "auto-converge", "events", "return-path"}
    other.finalize_migration_destination(toy, info, success=True)
    kvm.finalize_migration_source("web1", success=True, live=True)


# ---- it does not


def test_aborted_migration_leaves_the_guest_with_its_source(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    kvm.abort_migration("web1")
    kvm.finalize_migration_source("web1", success=False, live=True)
    other.finalize_migration_destination(toy, info, success=False)
    assert outcome(kvm, other) == (InstanceState.RUNNING, None)
    kvm.stop_instance("web1", timeout=30)
    assert kvm.get_instance_info("web1").reason == "guest shut down on request"


def test_instance_can_be_sent_again_after_a_failure(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    kvm.finalize_migration_source("web1", success=False, live=True)
    other.finalize_migration_destination(toy, info, success=False)
    info = begin_and_pause(kvm, other, toy, target)
    go_on(kvm)
    assert wait_until_over(kvm).status is MigrationState.COMPLETED
    other.finalize_migration_destination(toy, info, success=True)
    kvm.finalize_migration_source("web1", success=True, live=True)
    assert outcome(kvm, other) == (None, InstanceState.RUNNING)


def test_killed_destination_leaves_the_guest_with_its_source(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    kill(other)
    go_on(kvm)
    assert wait_until_over(kvm).status is MigrationState.FAILED
    with pytest.raises(MigrationError, match="its process has gone"):
        other.finalize_migration_destination(toy, info, success=True)
    with pytest.raises(MigrationError, match="QEMU says that it is failed"):
        kvm.finalize_migration_source("web1", success=True, live=True)
    kvm.finalize_migration_source("web1", success=False, live=True)
    assert outcome(kvm, other) == (InstanceState.RUNNING, None)


def test_killed_source_loses_the_guest_and_says_so(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    kill(kvm)
    with pytest.raises(MigrationError, match="its process has gone: it does not run here"):
        kvm.finalize_migration_source("web1", success=False, live=True)
    other.finalize_migration_destination(toy, info, success=False)
    assert outcome(kvm, other) == (InstanceState.CRASHED, None)


def test_guest_that_has_left_is_not_run_again(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance, target: str
) -> None:
    info = begin(kvm, other, quick_toy, target)
    assert wait_until_over(kvm).status is MigrationState.COMPLETED
    with pytest.raises(MigrationError, match="it may run on the other node"):
        kvm.finalize_migration_source("web1", success=False, live=True)
    with pytest.raises(MigrationError, match="on the other node already"):
        kvm.abort_migration("web1")
    with pytest.raises(MigrationError, match="it has come, and may run here"):
        other.finalize_migration_destination(quick_toy, info, success=False)
    assert outcome(kvm, other) == (InstanceState.MIGRATING, InstanceState.RUNNING)
    other.finalize_migration_destination(quick_toy, info, success=True)
    kvm.finalize_migration_source("web1", success=True, live=True)
    assert outcome(kvm, other) == (None, InstanceState.RUNNING)


def test_another_process_takes_a_migration_up(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance, target: str
) -> None:
    info = begin(kvm, other, quick_toy, target)
    again, other_again = KvmHypervisor(run_dir=kvm.run_dir), KvmHypervisor(run_dir=other.run_dir)
    assert wait_until_over(again).status is MigrationState.COMPLETED
    other_again.finalize_migration_destination(quick_toy, info, success=True)
    again.finalize_migration_source("web1", success=True, live=True)
    assert outcome(kvm, other) == (None, InstanceState.RUNNING)


def test_nobody_listens(kvm: KvmHypervisor, quick_toy: Instance, target: str) -> None:
    kvm.migrate_instance("web1", target)
    status = wait_until_over(kvm)
    assert status.status is MigrationState.FAILED
    assert "No such file" in status.reason
    kvm.finalize_migration_source("web1", success=False, live=True)
    assert state_of(kvm) is InstanceState.RUNNING


def test_destination_says_why_it_took_nothing_in(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = kvm.migration_info("web1")
    other.accept_instance(toy, info, target)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(target)
        stranger.sendall(b"this is no stream of a migration")
        said = other.finalize_migration_destination(toy, info, success=False)
    assert re.search("Not a migration stream|unknown channel magic", said)
    assert outcome(kvm, other) == (InstanceState.RUNNING, None)


@pytest.mark.parametrize("end", ["finalize", "stop and clean up", "clean up"])
def test_no_socket_stays_behind(kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str, end: str) -> None:
    info = kvm.migration_info("web1")
    other.accept_instance(toy, info, target)
    assert Path(target).is_socket()
    kill(other)
    if end == "finalize":
        other.finalize_migration_destination(toy, info, success=False)
    else:
        if end.startswith("stop"):
            other.stop_instance("web1")
        other.cleanup_instance("web1")
    assert not Path(target).exists()
    assert other.list_instances() == []


# ---- it is refused


@pytest.mark.parametrize("target", ["", "host:", "host:0", "host:65536", "host,x:1", ":1"])
def test_address_that_is_none_is_refused(kvm: KvmHypervisor, quick_toy: Instance, target: str) -> None:
    with pytest.raises(MigrationError, match="expected an absolute path or host:port"):
        kvm.migrate_instance("web1", target)
    assert state_of(kvm) is InstanceState.RUNNING


def test_what_the_source_says_has_to_be_understood(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance, target: str
) -> None:
    info = kvm.migration_info("web1")

    def refused(instance: Instance = quick_toy, **changed: Any) -> str:
        with pytest.raises(MigrationError) as caught:
            other.accept_instance(instance, attrs.evolve(info, data={**info.data, **changed}), target)
        assert other.list_instances() == []
        return caught.value.reason

    assert "form 99" in refused(format=99)
    assert "topology: expected object" in refused(topology=[])
    assert "said of instance" in refused(attrs.evolve(quick_toy, uuid=uuid4()))
    with pytest.raises(MigrationError, match="said of web2"):
        other.accept_instance(quick_toy, attrs.evolve(info, instance="web2"), target)


def test_address_that_somebody_listens_on_is_not_taken_away(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance, target: str
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(target)
        listener.listen()
        with pytest.raises(MigrationError, match="somebody listens on"):
            other.accept_instance(quick_toy, kvm.migration_info("web1"), target)
        assert Path(target).is_socket()
    assert other.list_instances() == []


def test_address_that_cannot_be_waited_on_leaves_nothing(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance
) -> None:
    with pytest.raises(MigrationError, match="kvm cannot accept it"):
        other.accept_instance(quick_toy, kvm.migration_info("web1"), "/no/such/directory/socket")
    assert other.list_instances() == []


def test_only_what_migrates_is_finalized(kvm: KvmHypervisor, quick_toy: Instance) -> None:
    with pytest.raises(MigrationError, match="not being sent from here"):
        kvm.finalize_migration_source("web1", success=True, live=True)
    with pytest.raises(MigrationError, match="not coming here"):
        kvm.finalize_migration_destination(quick_toy, kvm.migration_info("web1"), success=False)
    assert state_of(kvm) is InstanceState.RUNNING


def test_what_migrates_is_left_alone(kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    acts: tuple[Callable[[], None], ...] = (
        lambda: kvm.migrate_instance("web1", target),
        lambda: kvm.hot_add_device("web1", Nic(mac="52:54:00:12:34:56", mode="user")),
        lambda: other.accept_instance(toy, info, target),
        lambda: kvm.start_instance(toy),
    )
    for refused in acts:
        with pytest.raises(InstanceStateError):
            refused()
    kvm.finalize_migration_source("web1", success=False, live=True)
    other.finalize_migration_destination(toy, info, success=False)


@pytest.mark.parametrize("capability", ["no-such", "x-colo", "mapped-ram"])
def test_capability_that_nothing_makes_use_of_is_refused(kvm: KvmHypervisor, capability: str) -> None:
    with pytest.raises(ParameterError, match="migration_caps: expected migration capabilities"):
        kvm.check_parameter_syntax({"migration_caps": f"events:{capability}"})


# ---- it is followed


def test_migration_is_followed_to_its_end(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance, target: str
) -> None:
    info = begin(kvm, other, quick_toy, target)
    seen: list[MigrationStatus] = []
    status = kvm.follow_migration("web1", on_progress=seen.append)
    assert status.status is MigrationState.COMPLETED
    assert seen[-1] == status
    other.finalize_migration_destination(quick_toy, info, success=True)
    kvm.finalize_migration_source("web1", success=True, live=True)


def test_migration_that_stands_still_is_given_up(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    status = kvm.follow_migration("web1", ConvergencePolicy(stall_s=0.3))
    assert status.status is MigrationState.CANCELLED
    assert status.reason.startswith("it was given up: nothing was sent for")
    kvm.finalize_migration_source("web1", success=False, live=True)
    other.finalize_migration_destination(toy, info, success=False)
    assert outcome(kvm, other) == (InstanceState.RUNNING, None)


def test_guest_that_arrives_while_it_is_given_up_has_arrived(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)

    class TooLate:
        """A policy of its own: it gives up, and the guest arrives between that and what is done about it."""

        def decide(
            self, samples: Sequence[Sample], downtime_ms: int, changed_at_s: float = 0.0, *, can_postcopy: bool = False
        ) -> Decision:
            del samples, changed_at_s, can_postcopy
            go_on(kvm)
            wait_until_over(kvm)
            return Decision(Step.GIVE_UP, downtime_ms, "too late")

        def decide_postcopy(self, samples: Sequence[Sample], downtime_ms: int) -> Decision:
            raise AssertionError(f"its guest has not left: {samples}, {downtime_ms}")

    status = kvm.follow_migration("web1", TooLate())
    assert (status.status, status.reason) == (MigrationState.COMPLETED, "")
    other.finalize_migration_destination(toy, info, success=True)
    kvm.finalize_migration_source("web1", success=True, live=True)
    assert outcome(kvm, other) == (None, InstanceState.RUNNING)


def test_source_that_is_silent_for_a_while_costs_no_migration(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    pid = kvm.get_instance_info("web1").pid
    assert pid is not None
    timers: list[threading.Timer] = []

    def fall_silent(_status: MigrationStatus) -> None:
        if not timers:
            os.kill(pid, signal.SIGSTOP)
            timers.append(threading.Timer(SILENT_S, os.kill, (pid, signal.SIGCONT)))
            timers[0].start()

    status = kvm.follow_migration("web1", ConvergencePolicy(stall_s=SILENT_S), fall_silent)
    timers[0].join()
    assert status.reason.startswith("it was given up: nothing was sent for")
    kvm.finalize_migration_source("web1", success=False, live=True)
    other.finalize_migration_destination(toy, info, success=False)
    assert outcome(kvm, other) == (InstanceState.RUNNING, None)


def test_guest_that_makes_no_progress_may_stand_still_for_longer(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    status = kvm.follow_migration("web1", ConvergencePolicy(patience_s=0.3, max_downtime_ms=60))
    assert status.status is MigrationState.CANCELLED
    assert "may stand still for 60 ms at most" in status.reason
    with kvm.monitor("web1") as monitor:
        assert monitor.execute("query-migrate-parameters")["downtime-limit"] == 60
    kvm.finalize_migration_source("web1", success=False, live=True)
    other.finalize_migration_destination(toy, info, success=False)
