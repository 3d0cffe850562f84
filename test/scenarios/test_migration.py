# SPDX-License-Identifier: BSD-2-Clause
"""Migrations between two hypervisors on this node: success, failure and killed processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest
from waiting import wait_for

from hvkit.hypervisor import (
    Disk,
    DiskCopies,
    Instance,
    InstanceInfo,
    InstanceNotFound,
    InstanceState,
    InstanceStateError,
    Nic,
)
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

#: Seconds for which QEMU does not answer: longer than a query waits.
SILENT_S = QUERY_S + 1


@pytest.fixture
def target(tmp_path: Path) -> str:
    return str(tmp_path / "migration.sock")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[KvmHypervisor]:
    """A second hypervisor, in the role of another node."""
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


def wait_until_over(source: KvmHypervisor) -> MigrationStatus:
    return wait_for(lambda: source.get_migration_status("web1"), lambda status: status.status.is_over)


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
    """Begin a migration, and wait until it is paused before the switchover."""
    info = begin(source, other, toy, target)
    status = wait_for(lambda: source.get_migration_status("web1"), lambda status: status.phase == "pre-switchover")
    assert status.status is MigrationState.ACTIVE
    assert state_of(source) is InstanceState.MIGRATING
    return info


def continue_migration(source: KvmHypervisor) -> None:
    with source.monitor("web1") as monitor:
        monitor.execute(MigrateContinue(state="pre-switchover"))


@pytest.fixture
def toy(kvm: KvmHypervisor, make_toy: MakeInstance) -> Instance:
    """A running instance whose migration pauses before the switchover."""
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


@pytest.mark.parametrize("way", ["unix", "tcp"])
@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
def test_migration_completes_over_unix_socket_and_tcp(
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


def test_migration_keeps_paused_instance_paused(
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


def test_migration_of_instance_with_numa_nodes_completes(
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


def test_migration_there_and_back_keeps_slots(
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


def test_migration_sets_capabilities_of_parameters_on_both_ends(
    kvm: KvmHypervisor, other: KvmHypervisor, make_toy: MakeInstance, target: str
) -> None:
    toy = make_toy(parameters={"migration_bandwidth": 0, "migration_caps": "multifd:auto-converge"})
    kvm.start_instance(toy)
    with kvm.monitor("web1") as monitor:  # as an attempt with other parameters leaves them
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


def test_aborted_migration_leaves_guest_on_source(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    kvm.abort_migration("web1")
    kvm.finalize_migration_source("web1", success=False, live=True)
    other.finalize_migration_destination(toy, info, success=False)
    assert outcome(kvm, other) == (InstanceState.RUNNING, None)
    kvm.stop_instance("web1", timeout=30)
    assert kvm.get_instance_info("web1").reason == "guest shut down on request"


def test_migration_after_failed_one_completes(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    kvm.finalize_migration_source("web1", success=False, live=True)
    other.finalize_migration_destination(toy, info, success=False)
    info = begin_and_pause(kvm, other, toy, target)
    continue_migration(kvm)
    assert wait_until_over(kvm).status is MigrationState.COMPLETED
    other.finalize_migration_destination(toy, info, success=True)
    kvm.finalize_migration_source("web1", success=True, live=True)
    assert outcome(kvm, other) == (None, InstanceState.RUNNING)


def test_killed_destination_leaves_guest_on_source(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    kill(other)
    continue_migration(kvm)
    assert wait_until_over(kvm).status is MigrationState.FAILED
    with pytest.raises(MigrationError, match="its process has ended"):
        other.finalize_migration_destination(toy, info, success=True)
    with pytest.raises(MigrationError, match="QEMU reports the status failed"):
        kvm.finalize_migration_source("web1", success=True, live=True)
    kvm.finalize_migration_source("web1", success=False, live=True)
    assert outcome(kvm, other) == (InstanceState.RUNNING, None)


def test_killed_source_is_reported_as_lost_guest(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    kill(kvm)
    with pytest.raises(MigrationError, match="its process has ended: the guest does not run on this node"):
        kvm.finalize_migration_source("web1", success=False, live=True)
    other.finalize_migration_destination(toy, info, success=False)
    assert outcome(kvm, other) == (InstanceState.CRASHED, None)


def test_finalize_as_failed_after_completion_is_rejected(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance, target: str
) -> None:
    info = begin(kvm, other, quick_toy, target)
    assert wait_until_over(kvm).status is MigrationState.COMPLETED
    with pytest.raises(MigrationError, match="the guest may run on the destination"):
        kvm.finalize_migration_source("web1", success=False, live=True)
    with pytest.raises(MigrationError, match="the migration has already completed"):
        kvm.abort_migration("web1")
    with pytest.raises(MigrationError, match="the switchover is complete: the guest may run on this node"):
        other.finalize_migration_destination(quick_toy, info, success=False)
    assert outcome(kvm, other) == (InstanceState.MIGRATING, InstanceState.RUNNING)
    other.finalize_migration_destination(quick_toy, info, success=True)
    kvm.finalize_migration_source("web1", success=True, live=True)
    assert outcome(kvm, other) == (None, InstanceState.RUNNING)


def test_another_process_can_finalize_migration(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance, target: str
) -> None:
    info = begin(kvm, other, quick_toy, target)
    again, other_again = KvmHypervisor(run_dir=kvm.run_dir), KvmHypervisor(run_dir=other.run_dir)
    assert wait_until_over(again).status is MigrationState.COMPLETED
    other_again.finalize_migration_destination(quick_toy, info, success=True)
    again.finalize_migration_source("web1", success=True, live=True)
    assert outcome(kvm, other) == (None, InstanceState.RUNNING)


def test_migration_without_destination_fails(kvm: KvmHypervisor, quick_toy: Instance, target: str) -> None:
    kvm.migrate_instance("web1", target)
    status = wait_until_over(kvm)
    assert status.status is MigrationState.FAILED
    assert "No such file" in status.reason
    kvm.finalize_migration_source("web1", success=False, live=True)
    assert state_of(kvm) is InstanceState.RUNNING


def test_finalize_destination_returns_reason_of_failure(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = kvm.migration_info("web1")
    other.accept_instance(toy, info, target)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(target)
        stranger.sendall(b"this is not a migration stream")
        log = other.finalize_migration_destination(toy, info, success=False)
    assert re.search("Not a migration stream|unknown channel magic", log)
    assert outcome(kvm, other) == (InstanceState.RUNNING, None)


@pytest.mark.parametrize("end", ["finalize", "stop and clean up", "clean up"])
def test_killed_destination_leaves_no_socket(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str, end: str
) -> None:
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


@pytest.mark.parametrize("target", ["", "host:", "host:0", "host:65536", "host,x:1", ":1"])
def test_migrate_rejects_invalid_target(kvm: KvmHypervisor, quick_toy: Instance, target: str) -> None:
    with pytest.raises(MigrationError, match="expected an absolute path or host:port"):
        kvm.migrate_instance("web1", target)
    assert state_of(kvm) is InstanceState.RUNNING


def test_accept_rejects_invalid_description(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance, target: str
) -> None:
    info = kvm.migration_info("web1")

    def refused(instance: Instance = quick_toy, **changed: Any) -> str:
        with pytest.raises(MigrationError) as caught:
            other.accept_instance(instance, attrs.evolve(info, data={**info.data, **changed}), target)
        assert other.list_instances() == []
        return caught.value.reason

    assert "format 99" in refused(format=99)
    assert "topology: expected object" in refused(topology=[])
    assert "with uuid" in refused(attrs.evolve(quick_toy, uuid=uuid4()))
    with pytest.raises(MigrationError, match="the description is of instance web2"):
        other.accept_instance(quick_toy, attrs.evolve(info, instance="web2"), target)


def test_accept_rejects_socket_in_use(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance, target: str
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(target)
        listener.listen()
        with pytest.raises(MigrationError, match="another process listens on"):
            other.accept_instance(quick_toy, kvm.migration_info("web1"), target)
        assert Path(target).is_socket()
    assert other.list_instances() == []


def test_accept_on_unusable_target_leaves_nothing(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance
) -> None:
    with pytest.raises(MigrationError, match=r"^web1: migration: cannot accept the instance: ") as caught:
        other.accept_instance(quick_toy, kvm.migration_info("web1"), "/no/such/directory/socket")
    assert "web1: did not start" not in str(caught.value)
    assert other.list_instances() == []


def test_finalize_without_migration_is_rejected(kvm: KvmHypervisor, quick_toy: Instance) -> None:
    with pytest.raises(MigrationError, match="there is no outgoing migration"):
        kvm.finalize_migration_source("web1", success=True, live=True)
    with pytest.raises(MigrationError, match="there is no incoming migration"):
        kvm.finalize_migration_destination(quick_toy, kvm.migration_info("web1"), success=False)
    assert state_of(kvm) is InstanceState.RUNNING


def test_migration_verbs_on_stopped_instance_raise_state_error(
    kvm: KvmHypervisor, quick_toy: Instance, target: str
) -> None:
    info = kvm.migration_info("web1")
    kvm.stop_instance("web1", force=True)
    verbs: tuple[Callable[[], object], ...] = (
        lambda: kvm.migration_info("web1"),
        lambda: kvm.copy_disks("web1", DiskCopies(target=target)),
        lambda: kvm.get_disk_copies("web1"),
        lambda: kvm.migrate_instance("web1", target),
        lambda: kvm.get_migration_status("web1"),
        lambda: kvm.follow_migration("web1"),
        lambda: kvm.abort_migration("web1"),
        lambda: kvm.start_postcopy("web1"),
        lambda: kvm.pause_migration("web1"),
        lambda: kvm.resume_migration_destination("web1", target),
        lambda: kvm.resume_migration_source("web1", target),
        lambda: kvm.finalize_migration_source("web1", success=False, live=True),
        lambda: kvm.finalize_migration_destination(quick_toy, info, success=True),
    )
    for verb in verbs:
        with pytest.raises(InstanceStateError, match=r"^web1: [^:]* \(it is shutdown\)$"):
            verb()


def test_finalize_destination_rejects_description_of_another_instance(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance, target: str
) -> None:
    info = kvm.migration_info("web1")
    other.accept_instance(quick_toy, info, target)
    for success in (True, False):
        with pytest.raises(MigrationError, match="the description is of instance web2 of hypervisor 'kvm'"):
            other.finalize_migration_destination(quick_toy, attrs.evolve(info, instance="web2"), success)
    assert state_of(other) is InstanceState.MIGRATING
    other.finalize_migration_destination(quick_toy, info, success=False)


def test_migrating_instance_rejects_other_operations(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    acts: tuple[Callable[[], None], ...] = (
        lambda: kvm.migrate_instance("web1", target),
        lambda: kvm.hot_add_device("web1", Nic(mac="52:54:00:12:34:56", mode="user")),
        lambda: kvm.drop_checkpoint("web1", "base"),
        lambda: other.accept_instance(toy, info, target),
        lambda: kvm.start_instance(toy),
    )
    for refused in acts:
        with pytest.raises(InstanceStateError):
            refused()
    kvm.finalize_migration_source("web1", success=False, live=True)
    other.finalize_migration_destination(toy, info, success=False)


@pytest.mark.parametrize("capability", ["no-such", "x-colo", "mapped-ram"])
def test_unsupported_migration_capability_is_rejected(kvm: KvmHypervisor, capability: str) -> None:
    with pytest.raises(ParameterError, match="migration_caps: expected migration capabilities"):
        kvm.check_parameter_syntax({"migration_caps": f"events:{capability}"})


def test_follow_migration_returns_final_status(
    kvm: KvmHypervisor, other: KvmHypervisor, quick_toy: Instance, target: str
) -> None:
    info = begin(kvm, other, quick_toy, target)
    seen: list[MigrationStatus] = []
    status = kvm.follow_migration("web1", on_progress=seen.append)
    assert status.status is MigrationState.COMPLETED
    assert seen[-1] == status
    other.finalize_migration_destination(quick_toy, info, success=True)
    kvm.finalize_migration_source("web1", success=True, live=True)


def test_follow_migration_gives_up_stalled_migration(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    status = kvm.follow_migration("web1", ConvergencePolicy(stall_s=0.3))
    assert status.status is MigrationState.CANCELLED
    assert status.reason.startswith("aborted: nothing was sent for")
    kvm.finalize_migration_source("web1", success=False, live=True)
    other.finalize_migration_destination(toy, info, success=False)
    assert outcome(kvm, other) == (InstanceState.RUNNING, None)


def test_follow_migration_reports_completion_during_give_up(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)

    class TooLate:
        """A policy that gives up when the migration has completed."""

        def decide(
            self, samples: Sequence[Sample], downtime_ms: int, changed_at_s: float = 0.0, *, can_postcopy: bool = False
        ) -> Decision:
            del samples, changed_at_s, can_postcopy
            continue_migration(kvm)
            wait_until_over(kvm)
            return Decision(Step.GIVE_UP, downtime_ms, "too late")

        def decide_postcopy(self, samples: Sequence[Sample], downtime_ms: int) -> Decision:
            raise AssertionError(f"the guest has not left: {samples}, {downtime_ms}")

    status = kvm.follow_migration("web1", TooLate())
    assert (status.status, status.reason) == (MigrationState.COMPLETED, "")
    other.finalize_migration_destination(toy, info, success=True)
    kvm.finalize_migration_source("web1", success=True, live=True)
    assert outcome(kvm, other) == (None, InstanceState.RUNNING)


def test_follow_migration_survives_unresponsive_source(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    pid = kvm.get_instance_info("web1").pid
    assert pid is not None
    timers: list[threading.Timer] = []

    def suspend(_status: MigrationStatus) -> None:
        if not timers:
            os.kill(pid, signal.SIGSTOP)
            timers.append(threading.Timer(SILENT_S, os.kill, (pid, signal.SIGCONT)))
            timers[0].start()

    status = kvm.follow_migration("web1", ConvergencePolicy(stall_s=SILENT_S), suspend)
    timers[0].join()
    assert status.reason.startswith("aborted: nothing was sent for")
    kvm.finalize_migration_source("web1", success=False, live=True)
    other.finalize_migration_destination(toy, info, success=False)
    assert outcome(kvm, other) == (InstanceState.RUNNING, None)


def test_follow_migration_raises_downtime_without_progress(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, target: str
) -> None:
    info = begin_and_pause(kvm, other, toy, target)
    status = kvm.follow_migration("web1", ConvergencePolicy(patience_s=0.3, max_downtime_ms=60))
    assert status.status is MigrationState.CANCELLED
    assert "the downtime limit is 60 ms already" in status.reason
    with kvm.monitor("web1") as monitor:
        assert monitor.execute("query-migrate-parameters")["downtime-limit"] == 60
    kvm.finalize_migration_source("web1", success=False, live=True)
    other.finalize_migration_destination(toy, info, success=False)
