# SPDX-License-Identifier: BSD-2-Clause
"""What a QEMU may still do, as planned and as the kernel sees it."""

from __future__ import annotations

import os
import signal
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import attrs
import pytest

from hvkit.hypervisor import Disk, Instance, InstanceState, ParameterError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.process import open_process, read_identity
from hvkit.hypervisor.kvm.plan.accounts import choose_account, find_account, kvm_groups
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities
from hvkit.hypervisor.kvm.plan.command_line import build_argv
from hvkit.hypervisor.kvm.plan.confinement import Account, Confinement, parse_account_pool, plan_confinement
from hvkit.hypervisor.kvm.plan.devices import disk_id
from hvkit.hypervisor.kvm.plan.machine import FileSet
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.qmp.descriptors import fdset
from hvkit.qmp.jobs import run_job
from hvkit.qmp.schema import BlockdevAdd, BlockdevBackup, BlockdevDel, BlockdevOptionsFile
from hvkit.testing.toy_guest import write_disk

#: As made by the fixture `make_toy`.
MakeInstance = Callable[..., Instance]

DISK_UUID = UUID("d15c0000-0000-4000-8000-000000000001")
SOMEBODY = Account(uid=60001, gid=60001)
POOL = {"security_model": "pool", "security_pool": "60000-60001"}


# ---- plans


def _plan(capabilities: Capabilities, parameters: dict[str, object], **members: Any) -> Confinement:
    given = {"account": None, "root_dir": "/empty", "can_open_devices": True, **members}
    return plan_confinement({**TABLE.fill({}), **parameters}, capabilities, **given)


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_sandbox_is_on_where_the_program_has_it(recorded: Callable[[str], Capabilities], version: str) -> None:
    assert _plan(recorded(version), {}).is_sandboxed
    assert not _plan(recorded(version), {"sandbox": "disabled"}).is_sandboxed


def test_sandbox_that_is_demanded_and_missing_is_named(recorded: Callable[[str], Capabilities]) -> None:
    without = attrs.evolve(recorded("7.2"), options=frozenset())
    assert not _plan(without, {}).is_sandboxed
    with pytest.raises(ParameterError, match=r"sandbox: .* was built without a sandbox"):
        _plan(without, {"sandbox": "enabled"})


def _options(plan: Callable[..., Any], version: str, confinement: Confinement) -> dict[str, str]:
    argv = build_argv(attrs.evolve(plan(version), confinement=confinement))
    return {name: argv[argv.index(name) + 1] for name in ("-sandbox", "-run-with", "-runas", "-chroot") if name in argv}


ALL_DENIED = "on,obsolete=deny,spawn=deny,resourcecontrol=deny,elevateprivileges=deny"


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_account_that_we_give_is_no_business_of_qemu(
    recorded: Callable[[str], Capabilities], plan: Callable[..., Any], version: str
) -> None:
    confinement = _plan(recorded(version), {}, account=SOMEBODY)
    assert not confinement.opens_by_name
    assert _options(plan, version, confinement) == {"-sandbox": ALL_DENIED}


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("7.2", {"-runas": "60001:60001", "-chroot": "/empty"}),
        ("10.0", {"-run-with": "chroot=/empty,user=60001:60001"}),
        ("11.1", {"-run-with": "chroot=/empty,user=60001:60001"}),
    ],
)
def test_who_changes_the_root_directory_gives_up_its_account_itself(
    recorded: Callable[[str], Capabilities], plan: Callable[..., Any], version: str, options: dict[str, str]
) -> None:
    confinement = _plan(recorded(version), {"use_chroot": True}, account=SOMEBODY)
    sandbox = ALL_DENIED.replace(",elevateprivileges=deny", "")
    assert _options(plan, version, confinement) == {"-sandbox": sandbox, **options}


def test_who_must_open_a_device_first_gives_up_its_account_itself(recorded: Callable[[str], Capabilities]) -> None:
    assert _plan(recorded("7.2"), {}, account=SOMEBODY, can_open_devices=False).drops_account_itself
    assert not _plan(recorded("7.2"), {}, can_open_devices=False).drops_account_itself


def test_disk_that_is_given_open_is_opened_by_its_set(plan: Callable[..., Any]) -> None:
    files = FileSet(number=3, descriptors=(7, 8), label="disk-1")
    argv = build_argv(plan(disk_files={DISK_UUID: files}))
    given = [argv[index + 1] for index, word in enumerate(argv) if word == "-add-fd"]
    assert given == ["fd=7,set=3,opaque=disk-1", "fd=8,set=3,opaque=disk-1"]
    assert any('"filename":"/dev/fdset/3"' in word for word in argv)


# ---- accounts


def test_pool_is_used_up_in_order() -> None:
    assert choose_account(parse_account_pool("60000-60002"), {60000}) == SOMEBODY
    with pytest.raises(ParameterError, match="all 1 accounts of the pool belong to instances"):
        choose_account(parse_account_pool("60000"), {60000})


@pytest.mark.parametrize("text", ["", "0-5", "a-b", "7-5", "-5", "5-", "1-4294967295", "1-2-3"])
def test_pool_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="security_pool: expected user ids such as"):
        parse_account_pool(text)


def test_account_of_a_user() -> None:
    assert find_account("nobody").uid == 65534
    with pytest.raises(ParameterError, match="this node has no user 'no-such-user'"):
        find_account("no-such-user")
    with pytest.raises(ParameterError, match="no confinement"):
        find_account("root")


def test_groups_that_open_the_device(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    assert kvm_groups(SOMEBODY, device) is None
    device.touch()
    device.chmod(0o666)
    assert kvm_groups(SOMEBODY, device) == ()
    device.chmod(0o600)
    assert kvm_groups(SOMEBODY, device) is None
    device.chmod(0o660)
    group = device.stat().st_gid
    assert kvm_groups(SOMEBODY, device) == ((group,) if group else None)
    assert kvm_groups(Account(uid=60001, gid=group or 1), device) == (() if group else None)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"security_model": "user"}, "security_domain"),
        ({"security_model": "pool"}, "security_pool"),
        ({"security_domain": "nobody"}, "security_domain"),
        ({"security_pool": "60000"}, "security_pool"),
    ],
)
def test_model_and_its_accounts_go_together(parameters: dict[str, object], name: str) -> None:
    with pytest.raises(ParameterError) as caught:
        TABLE.check_syntax(parameters)
    assert caught.value.name == name


# ---- as the kernel sees it


@pytest.fixture
def may_change_account(unavailable: Callable[[str], NoReturn]) -> None:
    if os.geteuid() != 0:
        unavailable("only root can start QEMU as somebody else, so confinement is NOT tested here")


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
def test_machine_with_every_restriction_runs(
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
def test_accounts_of_a_pool_are_each_ones_own(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    for name in ("web1", "web2"):
        kvm.start_instance(make_toy(name, parameters=POOL))
    assert {_status(_pid(kvm, name))["Uid"].split()[0] for name in ("web1", "web2")} == {"60000", "60001"}
    with pytest.raises(ParameterError, match="all 2 accounts of the pool belong to instances"):
        kvm.start_instance(make_toy("web3", parameters=POOL))
    assert kvm.list_instances() == ["web1", "web2"]
    kvm.stop_instance("web1", force=True)
    kvm.cleanup_instance("web1")
    kvm.start_instance(make_toy("web3", parameters=POOL))


@pytest.mark.qemu
@pytest.mark.usefixtures("may_change_account")
def test_machine_of_another_account_that_is_killed_has_crashed(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
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
def test_others_see_nothing_of_an_instance(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(parameters={**POOL, "use_chroot": True}))
    assert stat.S_IMODE(kvm.run_dir.stat().st_mode) == 0o700
    for path in kvm.run_dir.rglob("*"):
        if path.is_file() or path.is_socket():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.qemu
@pytest.mark.usefixtures("may_change_account")
def test_machine_with_every_restriction_is_plugged_on_backed_up_and_sent(
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
        deadline_s = time.monotonic() + 30
        while not (status := kvm.get_migration_status("web1")).status.is_over:
            assert time.monotonic() < deadline_s, status
            time.sleep(0.02)
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
    """Copy a disk of a machine that can open nothing by name."""
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
