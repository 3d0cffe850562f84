# SPDX-License-Identifier: BSD-2-Clause
"""Confinement of QEMU: limits on a guest that has taken over its QEMU process.

Three independent mechanisms: a seccomp sandbox forbids system calls that a running machine does not need; an account of
its own has no access to files of the node and of other instances; an empty root directory hides all files. With an
account or a root directory, QEMU cannot open files by name and inherits disks, taps and sockets open.
"""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities

#: A member of the option -sandbox. A QEMU that was built without seccomp does not have the option.
_SANDBOX: Final = "sandbox.elevateprivileges"


@attrs.frozen(kw_only=True)
class Account:
    """The user and group of a process.

    Attributes:
        uid: the user id.
        gid: the group id.
    """

    uid: int
    gid: int


@attrs.frozen(kw_only=True)
class Confinement:
    """The confinement of a QEMU process.

    Attributes:
        is_sandboxed: whether it has a seccomp sandbox, which forbids starting programs, gaining privileges, changing
            priorities and CPU affinity, and obsolete system calls.
        account: the account that it runs as; None for that of hvkit.
        root_dir: its root directory, after the machine was created; empty for that of the node.
        drops_account_itself: whether it is started as the user of hvkit and changes to the account itself, after it has
            opened files that the account cannot open. Then the sandbox cannot forbid changing the account. The kernel
            still grants no new privileges.
        has_run_with: whether account and root directory are set by -run-with (since QEMU 9.0), not by -runas and
            -chroot.
    """

    is_sandboxed: bool = False
    account: Account | None = None
    root_dir: str = ""
    drops_account_itself: bool = False
    has_run_with: bool = False

    @property
    def opens_by_name(self) -> bool:
        """Whether it can open files of the node by name."""
        return self.account is None and not self.root_dir


def plan_confinement(
    parameters: Mapping[str, Any],
    capabilities: Capabilities,
    *,
    account: Account | None,
    root_dir: str,
    can_open_devices: bool,
) -> Confinement:
    """Plan the confinement of QEMU.

    Args:
        parameters: of the instance, filled and checked.
        capabilities: of the program.
        account: the account that it runs as; None for that of hvkit.
        root_dir: the empty directory that becomes its root directory if the parameters ask for one.
        can_open_devices: whether the account can open the devices that the machine needs, such as /dev/kvm.

    Raises:
        ParameterError: `sandbox` is enabled and the program was built without seccomp.
    """
    wanted = parameters["sandbox"]
    can_sandbox = _SANDBOX in capabilities.options
    if wanted == "enabled" and not can_sandbox:
        raise ParameterError("sandbox", wanted, f"{capabilities.binary} was built without a sandbox")
    has_root_dir = parameters["use_chroot"]
    return Confinement(
        is_sandboxed=can_sandbox and wanted != "disabled",
        account=account,
        root_dir=root_dir if has_root_dir else "",
        # Only root can change the root directory, and open devices that the account cannot open.
        drops_account_itself=account is not None and (has_root_dir or not can_open_devices),
        has_run_with={"run-with.user", "run-with.chroot"} <= capabilities.options,
    )


def parse_account_pool(text: str) -> range:
    """Parse a pool of user ids such as ``60000-60999``.

    Raises:
        ParameterError: the text has another form.
    """
    first, dash, last = text.partition("-")
    numbers = [int(part) for part in (first, last if dash else first) if part.isascii() and part.isdigit()]
    # 0 is root. The largest number is -1 in the kernel's interfaces, which means no change.
    if len(numbers) != 2 or not 0 < numbers[0] <= numbers[1] < (1 << 32) - 1:
        raise ParameterError("security_pool", text, f"expected user ids such as 60000-60999, got {text!r}")
    return range(numbers[0], numbers[1] + 1)
