# SPDX-License-Identifier: BSD-2-Clause
"""The accounts that QEMUs run as, on this node."""

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
    """Return the account of a user of this node, by name.

    Raises:
        ParameterError: there is no such user, or it is root, which is no confinement.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ParameterError("security_domain", user, f"this node has no user {user!r}") from None
    if entry.pw_uid == 0:
        raise ParameterError("security_domain", user, "root may do everything: that is no confinement")
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def choose_account(pool: range, taken: Collection[int]) -> Account:
    """Return an account of a pool that no instance has. Its group has the same number as its user.

    Args:
        pool: user ids.
        taken: those that instances have.

    Raises:
        ParameterError: they all have owners.
    """
    for uid in pool:
        if uid not in taken:
            return Account(uid=uid, gid=uid)
    problem = f"all {len(pool)} accounts of the pool belong to instances"
    raise ParameterError("security_pool", f"{pool[0]}-{pool[-1]}", problem)


def can_change_account() -> bool:
    """Tell whether this process may start others under another account."""
    return os.geteuid() == 0


def kvm_groups(account: Account, device: Path = _KVM) -> tuple[int, ...] | None:
    """Return the groups that an account must be in to open KVM's device; None where no group helps."""
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
