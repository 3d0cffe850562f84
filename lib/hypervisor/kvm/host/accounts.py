# SPDX-License-Identifier: BSD-2-Clause
"""Accounts of this node that QEMU processes run as."""

import os
import pwd
from collections.abc import Collection
from pathlib import Path
from typing import Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.confinement import Account

_KVM: Final = Path("/dev/kvm")
_READ_WRITE: Final = 0o6


def find_account(user: str) -> Account:
    """Return the account of a user of this node.

    Raises:
        ParameterError: there is no such user, or it is root, who cannot be confined.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ParameterError("security_domain", user, f"this node has no user {user!r}") from None
    if entry.pw_uid == 0:
        raise ParameterError("security_domain", user, "root cannot be confined; name another user")
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def choose_account(pool: range, taken: Collection[int]) -> Account:
    """Return a free account of a pool. Its group id is the same number as its user id.

    Args:
        pool: the user ids.
        taken: the user ids that instances use.

    Raises:
        ParameterError: all are in use.
    """
    for uid in pool:
        if uid not in taken:
            return Account(uid=uid, gid=uid)
    problem = f"all {len(pool)} accounts of the pool are in use"
    raise ParameterError("security_pool", f"{pool[0]}-{pool[-1]}", problem)


def can_change_account() -> bool:
    """Return whether this process may start processes as another user."""
    return os.geteuid() == 0


def kvm_groups(account: Account, device: Path = _KVM) -> tuple[int, ...] | None:
    """Return the supplementary groups with which an account can open /dev/kvm; None if no group is sufficient."""
    try:
        status = device.stat()
    except OSError:
        return None
    if status.st_mode & _READ_WRITE == _READ_WRITE or (
        status.st_uid == account.uid and (status.st_mode >> 6) & _READ_WRITE == _READ_WRITE
    ):
        return ()
    if (status.st_mode >> 3) & _READ_WRITE == _READ_WRITE and status.st_gid:
        return () if status.st_gid == account.gid else (status.st_gid,)
    return None
