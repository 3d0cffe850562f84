# SPDX-License-Identifier: BSD-2-Clause
"""CPU affinity of threads and processes."""

from __future__ import annotations

import os

import pytest
from spawner import Spawner

from hvkit.hypervisor.kvm.host.affinity import set_affinity, set_process_affinity
from hvkit.hypervisor.kvm.host.process import ProcessError


def test_set_affinity_binds_a_thread_to_cpus(start: Spawner) -> None:
    identity = start("/bin/sleep", "60")
    set_affinity(identity.pid, {0})
    assert os.sched_getaffinity(identity.pid) == {0}
    with pytest.raises(ProcessError, match=r"cannot set affinity to CPUs \[9999\]"):
        set_affinity(identity.pid, {9999})


def test_set_process_affinity_binds_a_process_to_cpus(start: Spawner) -> None:
    identity = start("/bin/sleep", "60")
    set_process_affinity(identity.pid, {0})
    assert os.sched_getaffinity(identity.pid) == {0}
    start.end_all()
    with pytest.raises(ProcessError, match=f"process {identity.pid}: "):
        set_process_affinity(identity.pid, {0})
