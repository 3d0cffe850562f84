# SPDX-License-Identifier: BSD-2-Clause
"""Accounts of this node that QEMU processes run as."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvkit.hypervisor import ParameterError
from hvkit.hypervisor.kvm.host.accounts import choose_account, find_account, kvm_groups
from hvkit.hypervisor.kvm.plan.confinement import Account, parse_account_pool

ACCOUNT = Account(uid=60001, gid=60001)


def test_choose_account_returns_the_first_free_account() -> None:
    assert choose_account(parse_account_pool("60000-60002"), {60000}) == ACCOUNT
    with pytest.raises(ParameterError, match="all 1 accounts of the pool are in use"):
        choose_account(parse_account_pool("60000"), {60000})


def test_find_account_returns_a_user_other_than_root() -> None:
    assert find_account("nobody").uid == 65534
    with pytest.raises(ParameterError, match="this node has no user 'no-such-user'"):
        find_account("no-such-user")
    with pytest.raises(ParameterError, match="root cannot be confined"):
        find_account("root")


def test_kvm_groups_returns_groups_with_access_to_the_device(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    assert kvm_groups(ACCOUNT, device) is None
    device.touch()
    device.chmod(0o666)
    assert kvm_groups(ACCOUNT, device) == ()
    device.chmod(0o600)
    assert kvm_groups(ACCOUNT, device) is None
    device.chmod(0o660)
    group = device.stat().st_gid
    assert kvm_groups(ACCOUNT, device) == ((group,) if group else None)
    assert kvm_groups(Account(uid=60001, gid=group or 1), device) == (() if group else None)
