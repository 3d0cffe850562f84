# SPDX-License-Identifier: BSD-2-Clause
"""Conformance of the KVM plugin, on real QEMU and on the simulated QEMU."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hvkit.errors import ProgrammerError
from hvkit.hypervisor import BaseHypervisor, Disk, Instance, ParameterError, get_hypervisor
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.locks import instance_lock
from hvkit.hypervisor.kvm.host.paths import RunDirectory
from hvkit.testing.conformance import HypervisorConformance, Subject

MakeInstance = Callable[..., Instance]


def subject_of(make_instance: MakeInstance, tmp_path: Path) -> Subject:
    def make_broken(name: str) -> Instance:
        return make_instance(name, disks=(Disk(path="/nonexistent/disk"),))

    def open_kvm() -> Any:
        return get_hypervisor("kvm", run_dir=tmp_path / "run")

    @contextlib.contextmanager
    def hold_lock(name: str) -> Iterator[BaseHypervisor]:
        run_dir = tmp_path / "run"
        with instance_lock(name, RunDirectory(run_dir).instance(name).lock_file, timeout_s=5.0):
            yield KvmHypervisor(run_dir=run_dir, lock_timeout_s=0.1)

    return Subject(open=open_kvm, make_instance=make_instance, make_broken=make_broken, hold_lock=hold_lock)


@pytest.mark.qemu
class TestConformanceOverQemu(HypervisorConformance):
    @pytest.fixture
    def subject(self, make_toy: MakeInstance, tmp_path: Path) -> Subject:
        return subject_of(make_toy, tmp_path)


class TestConformanceOverSimulator(HypervisorConformance):
    @pytest.fixture
    def subject(self, make_simulated: Callable[..., MakeInstance], tmp_path: Path) -> Subject:
        return subject_of(make_simulated(), tmp_path)


@pytest.mark.parametrize("timeout", [-1, math.nan])
def test_constructor_rejects_lock_timeout_that_is_negative_or_nan(tmp_path: Path, timeout: float) -> None:
    with pytest.raises(ParameterError, match="lock_timeout_s: expected a number of seconds >= 0"):
        KvmHypervisor(run_dir=tmp_path, lock_timeout_s=timeout)


@pytest.mark.parametrize("timeout", ["5", True])
def test_constructor_rejects_lock_timeout_of_wrong_type(tmp_path: Path, timeout: Any) -> None:
    with pytest.raises(ProgrammerError, match="lock_timeout_s: expected a number of seconds"):
        KvmHypervisor(run_dir=tmp_path, lock_timeout_s=timeout)
