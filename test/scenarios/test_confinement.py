# SPDX-License-Identifier: BSD-2-Clause
"""Confined instances on real QEMU: accounts, root directory and sandbox as the kernel reports them."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import attrs
import pytest
from waiting import wait_for

from hvkit.hypervisor import Disk, Instance, InstanceState, ParameterError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.process import open_process, read_identity
from hvkit.hypervisor.kvm.plan.devices import disk_id
from hvkit.qmp.descriptors import fdset
from hvkit.qmp.jobs import run_job
from hvkit.qmp.schema import BlockdevAdd, BlockdevBackup, BlockdevDel, BlockdevOptionsFile
from hvkit.testing.toy_guest import write_disk

#: As made by the fixture `make_toy`.
MakeInstance = Callable[..., Instance]

POOL = {"security_model": "pool", "security_pool": "60000-60001"}


@pytest.fixture
def may_change_account(unavailable: Callable[[str], NoReturn]) -> None:
    if os.geteuid() != 0:
        unavailable("only root can start QEMU as another user, so confinement is NOT tested here")


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _pid(kvm: KvmHypervisor, name: str = "web1") -> int:
    pid = kvm.get_instance_info(name).pid
    assert pid is not None
    return pid


@pytest.mark.qemu
@pytest.mark.usefixtures("may_change_account")
@pytest.mark.parametrize("parameters", [POOL, {**POOL, "use_chroot": True}], ids=["account", "account-and-root"])
def test_instance_with_all_confinement_runs(
    kvm: KvmHypervisor, make_toy: MakeInstance, parameters: dict[str, object]
) -> None:
    toy = make_toy(parameters={"sandbox": "enabled", **parameters})
    os.chmod(toy.disks[0].path, 0o600)
    kvm.start_instance(toy)
    pid = _pid(kvm)
    status = _status(pid)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"60000"}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    root = os.readlink(f"/proc/{pid}/root")
    assert root == (str(kvm.run_dir / "instances/web1/root") if "use_chroot" in parameters else "/")
    with kvm.monitor("web1") as monitor:
        assert monitor.execute("query-status")["status"] == "running"
    kvm.stop_instance("web1", timeout=30)
    info = kvm.get_instance_info("web1")
    assert (info.state, info.reason) == (InstanceState.SHUTDOWN, "guest shut down on request")


@pytest.mark.qemu
@pytest.mark.usefixtures("may_change_account")
def test_instances_have_different_accounts_of_a_pool(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    for name in ("web1", "web2"):
        kvm.start_instance(make_toy(name, parameters=POOL))
    assert {_status(_pid(kvm, name))["Uid"].split()[0] for name in ("web1", "web2")} == {"60000", "60001"}
    with pytest.raises(ParameterError, match="all 2 accounts of the pool are in use"):
        kvm.start_instance(make_toy("web3", parameters=POOL))
    assert kvm.list_instances() == ["web1", "web2"]
    kvm.stop_instance("web1", force=True)
    kvm.cleanup_instance("web1")
    kvm.start_instance(make_toy("web3", parameters=POOL))


@pytest.mark.qemu
@pytest.mark.usefixtures("may_change_account")
def test_killed_instance_with_an_account_has_crashed(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(parameters=POOL))
    identity = read_identity(_pid(kvm))
    assert identity is not None
    process = open_process(identity)
    assert process is not None
    with process:
        process.send_signal(signal.SIGKILL)
        assert process.wait(10)
    assert kvm.get_instance_info("web1").state is InstanceState.CRASHED


@pytest.mark.qemu
@pytest.mark.usefixtures("may_change_account")
def test_files_of_an_instance_are_private(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(parameters={**POOL, "use_chroot": True}))
    assert stat.S_IMODE(kvm.run_dir.stat().st_mode) == 0o700
    for path in kvm.run_dir.rglob("*"):
        if path.is_file() or path.is_socket():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.qemu
@pytest.mark.usefixtures("may_change_account")
def test_instance_with_all_confinement_supports_hotplug_backup_and_migration(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    parameters = {"sandbox": "enabled", **POOL, "use_chroot": True, "migration_bandwidth": 0}
    toy = make_toy(parameters=parameters)
    kvm.start_instance(toy)
    more = Disk(path=str(write_disk(tmp_path / "more.img")))
    os.chmod(more.path, 0o600)
    kvm.hot_add_device("web1", more)
    _back_up(kvm, disk_id(toy.disks[0].uuid), tmp_path / "copy.img")
    assert (tmp_path / "copy.img").read_bytes() == Path(toy.disks[0].path).read_bytes()

    other = KvmHypervisor(run_dir=tmp_path / "other")
    now = attrs.evolve(toy, disks=(*toy.disks, more))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{probe.getsockname()[1]}"
    info = kvm.migration_info("web1")
    other.accept_instance(now, info, target)
    try:
        kvm.migrate_instance("web1", target)
        wait_for(lambda: kvm.get_migration_status("web1"), lambda status: status.status.is_over)
        other.finalize_migration_destination(now, info, success=True)
        kvm.finalize_migration_source("web1", success=True, live=True)
        assert kvm.list_instances() == []
        assert other.get_instance_info("web1").state is InstanceState.RUNNING
        assert _status(_pid(other))["Uid"].split()[0] == "60000"
        other.hot_del_device("web1", more)
    finally:
        other.stop_instance("web1", force=True)
        other.cleanup_instance("web1")


def _back_up(kvm: KvmHypervisor, device: str, path: Path) -> None:
    """Copy a disk of an instance whose QEMU cannot open files by name."""
    write_disk(path)
    opened = [os.open(path, os.O_RDONLY), os.open(path, os.O_RDWR)]
    try:
        with kvm.monitor("web1") as monitor, fdset(monitor, *opened) as filename:
            monitor.execute(BlockdevAdd(BlockdevOptionsFile(driver="file", node_name="copy", filename=filename)))
            job = BlockdevBackup(job_id="backup", device=f"{device}-format", target="copy", sync="full")
            run_job(monitor, job, timeout=30)
            monitor.execute(BlockdevDel(node_name="copy"))
    finally:
        for descriptor in opened:
            os.close(descriptor)
