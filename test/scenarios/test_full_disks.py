# SPDX-License-Identifier: BSD-2-Clause
"""Full filesystems: below the disk of a guest, and below the run directory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from waiting import wait_for

from guest.console import GuestConsole
from guest.fixtures import TinyGuest
from hvkit.hypervisor import Disk, Instance, InstanceStartError, InstanceState, Nic, RuntimeStateError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.model import StopCause
from hvkit.qmp.schema import Cont

MakeInstance = Callable[..., Instance]

pytestmark = pytest.mark.qemu

MIB = 1 << 20


class SmallDisk:
    """A separate filesystem of a few MiB."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, size_mib: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size_mib}m", self.path], check=True)

    def fill(self) -> None:
        descriptor = os.open(self.path / "fill", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while True:
                os.write(descriptor, bytes(4096))
        except OSError:
            return
        finally:
            os.close(descriptor)

    def free(self) -> None:
        (self.path / "fill").unlink()


@pytest.fixture
def small_disk(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[SmallDisk]:
    path = tmp_path / "small"
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", path], capture_output=True, text=True
    )
    if made.returncode:
        unavailable(f"cannot mount a tmpfs here: {made.stderr.strip()}")
    yield SmallDisk(path)
    subprocess.run(["umount", path], check=True)


@pytest.fixture
def kvm_on_small_disk(small_disk: SmallDisk) -> Iterator[KvmHypervisor]:
    """A hypervisor whose run directory is on the small disk."""
    hypervisor = KvmHypervisor(run_dir=small_disk.path / "run", lock_timeout_s=5.0)
    yield hypervisor
    for name in hypervisor.list_instances():
        hypervisor.stop_instance(name, force=True)
        hypervisor.cleanup_instance(name)


def test_guest_with_a_full_disk_is_paused_until_there_is_space(
    small_disk: SmallDisk, kvm: KvmHypervisor, tiny_guest: TinyGuest
) -> None:
    image = small_disk.path / "disk.raw"
    image.touch()
    os.truncate(image, 8 * MIB)
    kvm.start_instance(
        Instance(name="web1", memory_mib=192, disks=(Disk(path=str(image)),), parameters=tiny_guest.parameters())
    )
    console = kvm.get_instance_console("web1").path
    assert console is not None
    with GuestConsole(console) as guest:
        guest.wait_until_ready()
        guest.run("(head -c 8388608 /dev/urandom | dd of=/dev/vda bs=64k conv=fsync; echo all is written) 2>&1 & true")
        wait_for(lambda: kvm.get_instance_info("web1").state is not InstanceState.RUNNING, timeout_s=60)
        info = kvm.get_instance_info("web1")
        assert (info.state, info.cause) == (InstanceState.PAUSED, StopCause.DISK)
        assert info.reason == "disk error or disk full"
        small_disk.resize(16)
        with kvm.monitor("web1") as monitor:
            monitor.execute(Cont())
        guest.wait_for("all is written", 60)
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING


def test_operation_that_cannot_be_persisted_is_not_performed(
    kvm_on_small_disk: KvmHypervisor, make_toy: MakeInstance, small_disk: SmallDisk, tmp_path: Path
) -> None:
    kvm, toy = kvm_on_small_disk, make_toy()
    kvm.start_instance(toy)
    kvm.stop_instance("web1", force=True)
    kvm.cleanup_instance("web1")
    small_disk.fill()
    with pytest.raises(InstanceStartError, match="No space left on device"):
        kvm.start_instance(toy)
    assert kvm.get_all_instances_info() == []
    small_disk.free()
    kvm.start_instance(toy)
    addresses = kvm.migration_info("web1").data["addresses"]
    small_disk.fill()
    overlay = str(tmp_path / "overlay")
    for act in (
        lambda: kvm.hot_add_device("web1", Nic(mac="52:54:00:12:34:56", mode="user")),
        lambda: kvm.hot_del_device("web1", toy.disks[0]),
        lambda: kvm.add_overlays("web1", {toy.disks[0].uuid: overlay}),
        lambda: kvm.migrate_instance("web1", str(tmp_path / "target.sock")),
    ):
        with pytest.raises(RuntimeStateError, match="No space left on device"):
            act()
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING
    assert kvm.migration_info("web1").data["addresses"] == addresses
    assert not Path(overlay).exists()
    # Stopping needs no space: the instance can still be stopped and cleaned up.
    kvm.stop_instance("web1", force=True)
    assert kvm.get_instance_info("web1").state is InstanceState.SHUTDOWN
    kvm.cleanup_instance("web1")
    assert kvm.list_instances() == []
    small_disk.free()
