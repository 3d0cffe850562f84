# SPDX-License-Identifier: BSD-2-Clause
"""Allocation of host resources without taps and swtpm."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from hvkit.hypervisor import Disk, Instance, ParameterError
from hvkit.hypervisor.kvm.host.listeners import is_listening
from hvkit.hypervisor.kvm.host.paths import InstancePaths, RunDirectory
from hvkit.hypervisor.kvm.host.resources import allocate
from hvkit.hypervisor.kvm.plan.capabilities import Accelerator, Capabilities
from hvkit.hypervisor.kvm.plan.confinement import Account, Confinement
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.kvm.plan.request import MachineRequest

CONFINED = Confinement(account=Account(uid=60000, gid=60000))


@pytest.fixture
def paths(tmp_path: Path) -> InstancePaths:
    directory = RunDirectory(tmp_path / "run")
    directory.make()
    paths = directory.instance("web1")
    paths.make()
    return paths


@pytest.fixture
def machine_request(tmp_path: Path, recorded: Callable[[str], Capabilities]) -> MachineRequest:
    for name in ("disk.img", "cd.iso"):
        (tmp_path / name).write_bytes(bytes(512))
    return MachineRequest(
        instance=Instance(name="web1", memory_mib=32, disks=(Disk(path=str(tmp_path / "disk.img")),)),
        parameters=TABLE.check_syntax({"use_guest_agent": True, "cdrom_image_path": str(tmp_path / "cd.iso")}),
        capabilities=recorded("7.2"),
        accelerator=Accelerator(name="tcg", best_cpu="max", reason=""),
    )


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_allocate_creates_listening_sockets(machine_request: MachineRequest, paths: InstancePaths) -> None:
    before = open_descriptors()
    with ExitStack() as inherited, ExitStack() as cleanup:
        resources = allocate(machine_request, Confinement(), paths, inherited=inherited, cleanup=cleanup)
        assert all(is_listening(path) for path in paths.sockets)
        assert len(set(resources.descriptors)) == len(paths.sockets)
        assert resources.sockets.pid_file == str(paths.pid_file)
        assert (resources.disk_files, resources.files) == ({}, {})
    assert open_descriptors() == before


def test_allocate_opens_disks_and_images_of_a_confined_qemu(
    machine_request: MachineRequest, paths: InstancePaths
) -> None:
    before = open_descriptors()
    with ExitStack() as inherited, ExitStack() as cleanup:
        resources = allocate(machine_request, CONFINED, paths, inherited=inherited, cleanup=cleanup)
        assert set(resources.disk_files) == {machine_request.instance.disks[0].uuid}
        assert set(resources.files) == {"cdrom1"}
        assert len({file_set.number for file_set in resources.file_sets}) == 2
        opened = {descriptor for file_set in resources.file_sets for descriptor in file_set.descriptors}
        assert opened < set(resources.descriptors)
        assert resources.sockets.pid_file == ""
    assert open_descriptors() == before


def test_allocate_that_fails_leaves_nothing_open(machine_request: MachineRequest, paths: InstancePaths) -> None:
    Path(machine_request.instance.disks[0].path).unlink()
    before = open_descriptors()
    with (
        pytest.raises(ParameterError, match=r"Disk\.path: .*No such file"),
        ExitStack() as inherited,
        ExitStack() as cleanup,
    ):
        allocate(machine_request, CONFINED, paths, inherited=inherited, cleanup=cleanup)
    assert open_descriptors() == before
