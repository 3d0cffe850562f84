# SPDX-License-Identifier: BSD-2-Clause
"""The promises of the base class, held against the plugin: over real QEMU, and over the simulator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hvkit.hypervisor import Disk, Instance, get_hypervisor
from hvkit.testing.conformance import HypervisorConformance, Subject

MakeInstance = Callable[..., Instance]


def subject_of(make_instance: MakeInstance, tmp_path: Path) -> Subject:
    def make_broken(name: str) -> Instance:
        return make_instance(name, disks=(Disk(path="/nonexistent/disk"),))

    def open_kvm() -> Any:
        return get_hypervisor("kvm", run_dir=tmp_path / "run")

    return Subject(open=open_kvm, make_instance=make_instance, make_broken=make_broken)


@pytest.mark.qemu
class TestConformanceOverQemu(HypervisorConformance):
    @pytest.fixture
    def subject(self, make_toy: MakeInstance, tmp_path: Path) -> Subject:
        return subject_of(make_toy, tmp_path)


class TestConformanceOverSimulator(HypervisorConformance):
    @pytest.fixture
    def subject(self, make_simulated: Callable[..., MakeInstance], tmp_path: Path) -> Subject:
        return subject_of(make_simulated(), tmp_path)
