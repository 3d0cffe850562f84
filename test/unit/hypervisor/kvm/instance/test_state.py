# SPDX-License-Identifier: BSD-2-Clause
"""Tests of the derived state: every status of QEMU, and an instance that is being started."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import get_args

from hvkit.hypervisor import Instance, InstanceState
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.instance.state import STATES
from hvkit.qmp.schema import RunState


def test_states_cover_every_status_of_qemu() -> None:
    assert set(STATES) == set(get_args(RunState))


def test_states_other_than_running_have_a_reason() -> None:
    assert {status for status, condition in STATES.items() if not condition.reason} == {"running", "colo"}


def test_states_have_a_cause_if_stopped_and_none_if_running() -> None:
    assert all(each.cause is None for each in STATES.values() if each.state is InstanceState.RUNNING)
    assert all(each.cause is not None for each in STATES.values() if each.state.is_over)


def test_state_is_paused_with_reason_while_instance_is_being_started(
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
    assert (info.state, info.reason) == (InstanceState.PAUSED, "being started")
    starter.join()
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING
