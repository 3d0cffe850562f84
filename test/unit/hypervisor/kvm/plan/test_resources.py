# SPDX-License-Identifier: BSD-2-Clause
"""Host resources as a plan refers to them."""

from __future__ import annotations

from hvkit.hypervisor import Disk, Instance, Nic
from hvkit.hypervisor.kvm.plan.confinement import Account, Confinement
from hvkit.hypervisor.kvm.plan.resources import VARIABLES, FileSet, HostResources, MachineSockets

SOCKETS = MachineSockets(control=5, shared=6, watch="/run/w", serial=None, tpm=8)


def test_descriptors_of_sockets_are_the_numbers() -> None:
    assert SOCKETS.descriptors == (5, 6, 8)


def test_file_sets_and_file_names_come_from_disks_and_files() -> None:
    disk, variables = (FileSet(number=number, descriptors=(number,), label="") for number in (1, 2))
    instance = Instance(name="web1", memory_mib=32, disks=(Disk(path="/srv/a.img"),))
    files: dict[str, str | FileSet] = {VARIABLES: variables, "cdrom1": "/srv/cd.iso"}
    resources = HostResources(sockets=SOCKETS, disk_files={instance.disks[0].uuid: disk}, files=files)
    assert resources.file_sets == (disk, variables)
    assert resources.filenames == {VARIABLES: "/dev/fdset/2", "cdrom1": "/srv/cd.iso"}


def test_placeholder_has_a_tap_for_each_nic_that_needs_one() -> None:
    tap, user = Nic(mac="52:54:00:00:00:01"), Nic(mac="52:54:00:00:00:02", mode="user")
    confinement = Confinement(account=Account(uid=1, gid=1))
    resources = HostResources.placeholder(Instance(name="web1", memory_mib=32, nics=(tap, user)), confinement)
    assert set(resources.taps) == {tap.uuid}
    assert resources.confinement is confinement
    assert resources.descriptors == ()
