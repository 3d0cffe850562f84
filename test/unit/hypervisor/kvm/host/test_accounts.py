# SPDX-License-Identifier: BSD-2-Clause
"""Accounts of this node that QEMU processes run as."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvkit.hypervisor import ParameterError
from hvkit.hypervisor.kvm.host.accounts import choose_account, find_account, kvm_groups
from hvkit.hypervisor.kvm.plan.confinement import Account, parse_account_pool

SOMEBODY = Account(uid=60001, gid=60001)


def test_pool_is_used_up_in_order() -> None:
    assert choose_account(parse_account_pool("60000-60002"), {60000}) == SOMEBODY
    with pytest.raises(ParameterError, match="all 1 accounts of the pool belong to instances"):
        choose_account(parse_account_pool("60000"), {60000})


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
