# SPDX-License-Identifier: BSD-2-Clause
"""What is said of an instance: every status of QEMU, and what is true while others work on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, get_args

import pytest

from hvkit.hypervisor import Instance, InstanceInfo, InstanceState
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.paths import InstancePaths
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.instance.state import STATES, query_info
from hvkit.qmp.schema import RunState


def test_every_status_of_qemu_has_a_meaning() -> None:
    assert set(STATES) == set(get_args(RunState))


def test_every_state_but_running_has_a_reason() -> None:
    assert {status for status, meaning in STATES.items() if not meaning.reason} == {"running", "paused", "colo"}


def test_what_runs_has_no_cause_and_what_ended_has_one() -> None:
    assert all(meaning.cause is None for meaning in STATES.values() if meaning.state is InstanceState.RUNNING)
    assert all(meaning.cause is not None for meaning in STATES.values() if meaning.state.is_over)


def test_instance_that_is_being_started_says_so(
    kvm: KvmHypervisor, make_simulated: Callable[..., Callable[..., Instance]]
) -> None:
    instance = make_simulated(start_delay_s=1.0)()
    starter = threading.Thread(target=lambda: kvm.start_instance(instance))
    starter.start()
    deadline = time.monotonic() + 30
    while not kvm.list_instances():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    info = kvm.get_instance_info("web1")
    assert (info.state, info.reason) == (InstanceState.PAUSED, "it is being started")
    starter.join()
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING


def test_query_rereads_state_file_when_instance_appears_stopped(
    kvm: KvmHypervisor, make_simulated: Callable[..., Callable[..., Instance]], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = make_simulated()()
    kvm.start_instance(instance)
    kvm.stop_instance("web1", force=True)
    other = KvmHypervisor(run_dir=kvm.run_dir)
    queries = []

    def query_late(runtime: Runtime, paths: InstancePaths, **options: Any) -> InstanceInfo:
        info = query_info(runtime, paths, **options)
        queries.append(info)
        if len(queries) == 1:  # the starter queries as well, and must not start again
            other.start_instance(instance)
        return info

    monkeypatch.setattr("hvkit.hypervisor.kvm.instance.handle.query_info", query_late)
    looker = KvmHypervisor(run_dir=kvm.run_dir)
    info = looker.get_instance_info("web1")
    assert queries[0].state is InstanceState.SHUTDOWN
    assert info.state is InstanceState.RUNNING
