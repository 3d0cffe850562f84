# SPDX-License-Identifier: BSD-2-Clause
"""Tests of `InstanceHandle`: its lock, its queries and its process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from hvkit.hypervisor import Instance, InstanceInfo, InstanceState, InstanceStateError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.log import KEPT_BYTES, MAX_BYTES
from hvkit.hypervisor.kvm.host.paths import InstancePaths, RunDirectory
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.instance.query import query_info
from hvkit.qmp.schema import Balloon

MakeInstance = Callable[..., Instance]


def handle_of(kvm: KvmHypervisor, name: str = "web1") -> InstanceHandle:
    return InstanceHandle(RunDirectory(kvm.run_dir).instance(name), 5.0)


def test_operation_trims_long_log(kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]) -> None:
    kvm.start_instance(make_simulated()())
    log = handle_of(kvm).paths.log_file
    with log.open("ab") as file:
        file.write(b"chatter\n" * (MAX_BYTES // 4))
    kvm.reboot_instance("web1")
    assert log.stat().st_size < 2 * KEPT_BYTES


def has_unused_balloon(kvm: KvmHypervisor) -> bool:
    return handle_of(kvm).paths.balloon_unused_file.exists()


def test_balloon_is_unused_until_it_is_changed(kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]) -> None:
    instance = make_simulated()(memory_mib=64)
    kvm.start_instance(instance)
    assert has_unused_balloon(kvm)
    kvm.balloon_instance_memory("web1", 32)
    assert not has_unused_balloon(kvm)
    kvm.stop_instance("web1", force=True)
    kvm.start_instance(instance)
    assert has_unused_balloon(kvm)
    kvm.stop_instance("web1", force=True)
    assert not has_unused_balloon(kvm)


def test_balloon_counts_as_used_after_access_to_monitor(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]
) -> None:
    kvm.start_instance(make_simulated()(memory_mib=64))
    with kvm.monitor("web1") as monitor:
        assert not has_unused_balloon(kvm)
        monitor.execute(Balloon(value=32 << 20))
        while (info := kvm.get_instance_info("web1")).memory_mib == 64:
            pass
        assert kvm.get_all_instances_info() == [info]
    assert info.memory_mib == 32


def test_balloon_counts_as_used_after_access_to_monitor_began_during_start(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark_unused, mark_used = InstanceHandle.mark_balloon_unused, InstanceHandle.mark_balloon_used
    is_marked = threading.Event()

    def access() -> bool:
        with kvm.monitor("web1"):
            return has_unused_balloon(kvm)

    def mark_unused_after_access_began(handle: InstanceHandle) -> None:
        waiting.append(pool.submit(access))
        is_marked.wait(0.5)  # it must not be: the start still holds the control monitor
        mark_unused(handle)

    def mark_used_and_tell(handle: InstanceHandle) -> None:
        mark_used(handle)
        is_marked.set()

    waiting: list[Future[bool]] = []
    monkeypatch.setattr(InstanceHandle, "mark_balloon_unused", mark_unused_after_access_began)
    monkeypatch.setattr(InstanceHandle, "mark_balloon_used", mark_used_and_tell)
    with ThreadPoolExecutor(1) as pool:
        kvm.start_instance(make_simulated()(memory_mib=64))
        assert not waiting[0].result(timeout=10)


@pytest.mark.qemu
def test_balloon_counts_as_used_with_extra_arguments(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(parameters={"kvm_extra": "-global isa-debugcon.iobase=0x402"}), start_paused=True)
    assert not has_unused_balloon(kvm)


def test_lock_file_is_removed_if_nothing_is_left_of_instance(kvm: KvmHypervisor) -> None:
    handle = handle_of(kvm)
    RunDirectory(kvm.run_dir).make()
    with handle.locked():
        assert handle.paths.lock_file.exists()
    assert not handle.paths.lock_file.exists()


@pytest.mark.parametrize("call", [KvmHypervisor.get_instance_console, lambda kvm, name: kvm.monitor(name).__enter__()])
def test_stopped_instance_has_neither_console_nor_monitor(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance], call: Callable[[KvmHypervisor, str], object]
) -> None:
    kvm.start_instance(make_simulated()())
    kvm.stop_instance("web1", force=True)
    with pytest.raises(InstanceStateError, match=r"^web1: QEMU is not running \(it is shutdown\)$") as caught:
        call(kvm, "web1")
    assert (caught.value.instance, caught.value.state) == ("web1", "shutdown")


def test_query_rereads_state_file_when_instance_appears_stopped(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = make_simulated()()
    kvm.start_instance(instance)
    kvm.stop_instance("web1", force=True)
    other = KvmHypervisor(run_dir=kvm.run_dir)
    queries = []

    def query_late(runtime: Runtime, paths: InstancePaths, **options: Any) -> InstanceInfo:
        info = query_info(runtime, paths, **options)
        queries.append(info)
        if len(queries) == 1:  # start_instance queries as well
            other.start_instance(instance)
        return info

    monkeypatch.setattr("hvkit.hypervisor.kvm.instance.handle.query_info", query_late)
    observer = KvmHypervisor(run_dir=kvm.run_dir)
    info = observer.get_instance_info("web1")
    assert queries[0].state is InstanceState.SHUTDOWN
    assert info.state is InstanceState.RUNNING
