# SPDX-License-Identifier: BSD-2-Clause
"""Pause and resume of instances on real QEMU, in states that allow it and in states that do not."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from guest.console import GuestConsole
from hvkit.hypervisor import (
    Disk,
    Instance,
    InstanceBusy,
    InstanceError,
    InstanceNotFound,
    InstanceState,
    InstanceStateError,
    StopCause,
)
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.paths import RunDirectory
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.qmp import EventTimeout
from hvkit.qmp.schema import GuestPanickedEvent, QueryStatus, ResumeEvent, Stop, StopEvent, SystemPowerdown
from hvkit.testing.toy_guest import FAREWELL, GREETING, PowerdownAction, write_disk

pytestmark = pytest.mark.qemu

MakeInstance = Callable[..., Instance]
OpenConsole = Callable[[str], GuestConsole]

GUEST_S: Final = 60.0

VERBS: Final = pytest.mark.parametrize(
    "verb", [KvmHypervisor.pause_instance, KvmHypervisor.resume_instance], ids=["pause", "resume"]
)
Verb = Callable[[KvmHypervisor, str], None]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[KvmHypervisor]:
    """The hypervisor of another node."""
    hypervisor = KvmHypervisor(run_dir=tmp_path / "other", lock_timeout_s=5.0)
    yield hypervisor
    for name in hypervisor.list_instances():
        hypervisor.stop_instance(name, force=True)
        hypervisor.cleanup_instance(name)


def start_with_console(kvm: KvmHypervisor, instance: Instance, open_console: OpenConsole) -> GuestConsole:
    """Start an instance paused, and open its console before it prints anything."""
    kvm.start_instance(instance, start_paused=True)
    path = kvm.get_instance_console(instance.name).path
    assert path is not None
    return open_console(path)


def state_of(kvm: KvmHypervisor, name: str = "web1") -> tuple[InstanceState, str, StopCause | None]:
    info = kvm.get_instance_info(name)
    return info.state, info.reason, info.cause


PAUSED: Final = (InstanceState.PAUSED, "paused by request", StopCause.REQUEST)
RUNNING: Final = (InstanceState.RUNNING, "", None)


def test_paused_guest_makes_no_progress_until_resumed(
    kvm: KvmHypervisor, make_toy: MakeInstance, guest_console: OpenConsole
) -> None:
    console = start_with_console(kvm, make_toy(), guest_console)
    kvm.resume_instance("web1")
    console.wait_for(GREETING, GUEST_S)
    kvm.pause_instance("web1")
    assert state_of(kvm) == PAUSED
    with kvm.monitor("web1") as monitor:
        monitor.execute(SystemPowerdown())
    with pytest.raises(AssertionError):
        console.wait_for(FAREWELL, 1.0)
    kvm.resume_instance("web1")
    console.wait_for(FAREWELL, GUEST_S)


def test_pause_and_resume_are_idempotent(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(disks=()))
    pid = kvm.get_instance_info("web1").pid
    with kvm.monitor("web1") as monitor, monitor.subscribe(StopEvent, ResumeEvent) as events:
        for _ in range(2):
            kvm.pause_instance("web1")
            assert state_of(kvm) == PAUSED
        for _ in range(2):
            kvm.resume_instance("web1")
            assert state_of(kvm) == RUNNING
        assert isinstance(events.get(timeout=GUEST_S), StopEvent)
        assert isinstance(events.get(timeout=GUEST_S), ResumeEvent)
        monitor.execute(QueryStatus())
        with pytest.raises(EventTimeout):
            events.get(timeout=0)
    assert kvm.get_instance_info("web1").pid == pid


def test_instance_started_paused_stays_so_until_resumed(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(), start_paused=True)
    kvm.pause_instance("web1")
    assert state_of(kvm) == (InstanceState.PAUSED, "guest has not run yet", None)
    kvm.resume_instance("web1")
    assert state_of(kvm) == RUNNING


def test_instance_paused_by_disk_error_is_resumed(
    kvm: KvmHypervisor, make_toy: MakeInstance, guest_console: OpenConsole, tmp_path: Path
) -> None:
    failing = {
        "driver": "blkdebug",
        "node-name": "failing",
        "image": {"driver": "file", "filename": str(write_disk(tmp_path / "boot.img"))},
        "inject-error": [{"event": "none", "iotype": "read", "errno": 5, "once": True}],
    }
    # With an explicit geometry, QEMU does not read the boot sector itself: the first read is that of the BIOS.
    device = "virtio-blk-pci,drive=failing,rerror=stop,bootindex=0,bus=pcie.0,addr=0x1e,cyls=2,heads=16,secs=63"
    extra = shlex.join(("-blockdev", json.dumps(failing), "-device", device))
    parameters = {"kvm_extra": extra, "machine_version": "q35"}
    console = start_with_console(kvm, make_toy(disks=(), parameters=parameters), guest_console)
    with kvm.monitor("web1") as monitor, monitor.subscribe(StopEvent) as stops:
        kvm.resume_instance("web1")
        stops.get(timeout=GUEST_S)
    failed = (InstanceState.PAUSED, "disk error or disk full", StopCause.DISK)
    assert state_of(kvm) == failed
    kvm.pause_instance("web1")
    assert state_of(kvm) == failed
    kvm.resume_instance("web1")
    console.wait_for(GREETING, GUEST_S)


def test_pause_holds_while_another_process_manages_the_instance(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy())
    kvm.pause_instance("web1")
    another = KvmHypervisor(run_dir=kvm.run_dir)
    assert state_of(another) == PAUSED
    another.resume_instance("web1")
    assert state_of(kvm) == RUNNING


@VERBS
def test_verb_rejects_guest_that_panicked(
    kvm: KvmHypervisor, make_toy: MakeInstance, guest_console: OpenConsole, tmp_path: Path, verb: Verb
) -> None:
    disk = Disk(path=str(write_disk(tmp_path / "panics.img", on_powerdown=PowerdownAction.PANIC)))
    console = start_with_console(kvm, make_toy(disks=(disk,)), guest_console)
    with kvm.monitor("web1") as monitor, monitor.subscribe(GuestPanickedEvent) as events:
        kvm.resume_instance("web1")
        console.wait_for(GREETING, GUEST_S)
        monitor.execute(SystemPowerdown())
        events.get(timeout=GUEST_S)
    before = kvm.get_instance_info("web1")
    with pytest.raises(InstanceStateError, match=r"^web1: cannot be \w+: guest panicked \(it is crashed\)$"):
        verb(kvm, "web1")
    assert kvm.get_instance_info("web1") == before


@VERBS
def test_verb_rejects_stopped_and_unknown_instance(kvm: KvmHypervisor, make_toy: MakeInstance, verb: Verb) -> None:
    with pytest.raises(InstanceNotFound):
        verb(kvm, "web1")
    kvm.start_instance(make_toy())
    kvm.stop_instance("web1", force=True)
    before = kvm.get_instance_info("web1")
    with pytest.raises(InstanceStateError, match=r"^web1: cannot be .* \(it is shutdown\)$"):
        verb(kvm, "web1")
    assert kvm.get_instance_info("web1") == before


@VERBS
def test_verb_rejects_busy_instance(kvm: KvmHypervisor, make_toy: MakeInstance, verb: Verb) -> None:
    kvm.start_instance(make_toy())
    impatient = KvmHypervisor(run_dir=kvm.run_dir, lock_timeout_s=0.1)
    with InstanceHandle(RunDirectory(kvm.run_dir).instance("web1"), 1.0).locked(), pytest.raises(InstanceBusy):
        verb(impatient, "web1")
    assert state_of(kvm) == RUNNING


@VERBS
def test_verb_rejects_unresponsive_instance(kvm: KvmHypervisor, make_toy: MakeInstance, verb: Verb) -> None:
    kvm.start_instance(make_toy())
    pid = kvm.get_instance_info("web1").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(InstanceStateError, match=r"stopped by a signal \(it is unresponsive\)$"):
        verb(kvm, "web1")
    os.kill(pid, signal.SIGCONT)


@VERBS
def test_verb_rejects_both_ends_of_migration(
    kvm: KvmHypervisor, other: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, verb: Verb
) -> None:
    instance, target = make_toy(), str(tmp_path / "migration.sock")
    kvm.start_instance(instance)
    info = kvm.migration_info("web1")
    other.accept_instance(instance, info, target)
    with pytest.raises(InstanceStateError, match=r"waiting for the incoming migration \(it is migrating\)$"):
        verb(other, "web1")
    kvm.migrate_instance("web1", target)
    kvm.follow_migration("web1")
    with pytest.raises(InstanceStateError, match=r"^web1: cannot be .* \(it is migrating\)$"):
        verb(kvm, "web1")
    with pytest.raises(InstanceStateError, match=r"^web1: cannot be .*: the migration is not finalized"):
        verb(other, "web1")
    other.finalize_migration_destination(instance, info, success=True)
    kvm.finalize_migration_source("web1", success=True, live=True)
    other.pause_instance("web1")
    assert state_of(other) == PAUSED
    other.resume_instance("web1")
    assert state_of(other) == RUNNING


def test_resume_during_memory_dump_names_the_instance_once(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    kvm.start_instance(make_toy())
    refused: list[InstanceError] = []

    def resume(_: object) -> None:
        if not refused:
            with pytest.raises(InstanceError) as caught:
                kvm.resume_instance("web1")
            refused.append(caught.value)

    kvm.dump_instance_memory("web1", tmp_path / "dump", on_progress=resume)
    assert str(refused[0]).count("web1") == 1
    assert state_of(kvm) == RUNNING


def test_resume_after_pause_over_the_monitor(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy())
    with kvm.monitor("web1") as monitor:
        monitor.execute(Stop())
        kvm.resume_instance("web1")
        assert monitor.execute(QueryStatus()).running
