# SPDX-License-Identifier: BSD-2-Clause
"""Planned confinement of QEMU, and the command line for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import attrs
import pytest

from hvkit.hypervisor import ParameterError
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities
from hvkit.hypervisor.kvm.plan.command_line import build_argv
from hvkit.hypervisor.kvm.plan.confinement import Account, Confinement, parse_account_pool, plan_confinement
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.kvm.plan.resources import FileSet

DISK_UUID = UUID("d15c0000-0000-4000-8000-000000000001")
ACCOUNT = Account(uid=60001, gid=60001)


def _plan(capabilities: Capabilities, parameters: dict[str, object], **members: Any) -> Confinement:
    given = {"account": None, "root_dir": "/empty", "can_open_devices": True, **members}
    return plan_confinement({**TABLE.fill({}), **parameters}, capabilities, **given)


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_sandbox_is_used_if_the_program_supports_it(recorded: Callable[[str], Capabilities], version: str) -> None:
    assert _plan(recorded(version), {}).is_sandboxed
    assert not _plan(recorded(version), {"sandbox": "disabled"}).is_sandboxed


def test_required_sandbox_that_is_missing_is_refused(recorded: Callable[[str], Capabilities]) -> None:
    without = attrs.evolve(recorded("7.2"), options=frozenset())
    assert not _plan(without, {}).is_sandboxed
    with pytest.raises(ParameterError, match=r"sandbox: .* was built without a sandbox"):
        _plan(without, {"sandbox": "enabled"})


def _options(plan: Callable[..., Any], version: str, confinement: Confinement) -> dict[str, str]:
    argv = build_argv(attrs.evolve(plan(version), confinement=confinement))
    return {name: argv[argv.index(name) + 1] for name in ("-sandbox", "-run-with", "-runas", "-chroot") if name in argv}


ALL_DENIED = "on,obsolete=deny,spawn=deny,resourcecontrol=deny,elevateprivileges=deny"


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_account_set_by_hvkit_is_not_on_the_command_line(
    recorded: Callable[[str], Capabilities], plan: Callable[..., Any], version: str
) -> None:
    confinement = _plan(recorded(version), {}, account=ACCOUNT)
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
def test_qemu_with_a_root_directory_changes_its_account_itself(
    recorded: Callable[[str], Capabilities], plan: Callable[..., Any], version: str, options: dict[str, str]
) -> None:
    confinement = _plan(recorded(version), {"use_chroot": True}, account=ACCOUNT)
    sandbox = ALL_DENIED.replace(",elevateprivileges=deny", "")
    assert _options(plan, version, confinement) == {"-sandbox": sandbox, **options}


def test_qemu_that_opens_a_device_first_changes_its_account_itself(recorded: Callable[[str], Capabilities]) -> None:
    assert _plan(recorded("7.2"), {}, account=ACCOUNT, can_open_devices=False).drops_account_itself
    assert not _plan(recorded("7.2"), {}, can_open_devices=False).drops_account_itself


def test_inherited_disk_is_opened_by_its_fdset(plan: Callable[..., Any]) -> None:
    files = FileSet(number=3, descriptors=(7, 8), label="disk-1")
    argv = build_argv(plan(disk_files={DISK_UUID: files}))
    given = [argv[index + 1] for index, word in enumerate(argv) if word == "-add-fd"]
    assert given == ["fd=7,set=3,opaque=disk-1", "fd=8,set=3,opaque=disk-1"]
    assert any('"filename":"/dev/fdset/3"' in word for word in argv)


@pytest.mark.parametrize("text", ["", "0-5", "a-b", "7-5", "-5", "5-", "1-4294967295", "1-2-3"])
def test_invalid_account_pool_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="security_pool: expected user ids such as"):
        parse_account_pool(text)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"security_model": "user"}, "security_domain"),
        ({"security_model": "pool"}, "security_pool"),
        ({"security_domain": "nobody"}, "security_domain"),
        ({"security_pool": "60000"}, "security_pool"),
    ],
)
def test_security_model_requires_its_account_parameter(parameters: dict[str, object], name: str) -> None:
    with pytest.raises(ParameterError) as caught:
        TABLE.check_syntax(parameters)
    assert caught.value.name == name
