# SPDX-License-Identifier: BSD-2-Clause
"""What a QEMU may still do on its node, should its guest take it over.

Three walls, each of which stands alone: the kernel refuses system calls that a running machine does not need; the
process has an account of its own, so that files of the node and of other instances are closed to it; and its root
directory is an empty one. Whoever is confined to an account or a root directory opens nothing by name: disks, taps and
sockets are given to it open.
"""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities

#: A member of -sandbox that tells whether the program has it.
_SANDBOX: Final = "sandbox.elevateprivileges"


@attrs.frozen(kw_only=True)
class Account:
    """Who a process is to the kernel.

    Attributes:
        uid: user.
        gid: group.
    """

    uid: int
    gid: int


@attrs.frozen(kw_only=True)
class Confinement:
    """What a QEMU is confined to.

    Attributes:
        is_sandboxed: whether the kernel refuses it what it does not need: starting programs, getting more privileges,
            changing its priority and processors, system calls that nobody uses any more.
        account: who it runs as; None for whoever starts it.
        root_dir: its root directory, once its machine is made; empty for the node's.
        drops_account_itself: whether it is started with our rights and gives them up once it has opened what only
            they open. It cannot be refused the way to another account then; the kernel gives it no privileges any more
            all the same.
        has_run_with: whether the program is told so by -run-with, as since QEMU 9.0, or by options of their own.
    """

    is_sandboxed: bool = False
    account: Account | None = None
    root_dir: str = ""
    drops_account_itself: bool = False
    has_run_with: bool = False

    @property
    def opens_by_name(self) -> bool:
        """Whether it can open files of the node by their names."""
        return self.account is None and not self.root_dir


def plan_confinement(
    parameters: Mapping[str, Any],
    capabilities: Capabilities,
    *,
    account: Account | None,
    root_dir: str,
    can_open_devices: bool,
) -> Confinement:
    """Plan what a QEMU is confined to.

    Args:
        parameters: of the instance, filled and checked.
        capabilities: of the program.
        account: who it is to run as; None for whoever starts it.
        root_dir: the empty directory for it; used if the parameters want one.
        can_open_devices: whether the account can open the devices that the machine needs, such as /dev/kvm.

    Raises:
        ParameterError: the program cannot be confined as the parameters demand.
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
        # Only who has our rights can change its root directory, and open what the account cannot.
        drops_account_itself=account is not None and (has_root_dir or not can_open_devices),
        has_run_with={"run-with.user", "run-with.chroot"} <= capabilities.options,
    )


def parse_account_pool(text: str) -> range:
    """Take apart a pool of user ids such as ``60000-60999``.

    Raises:
        ParameterError: it is written in another way.
    """
    first, dash, last = text.partition("-")
    numbers = [int(part) for part in (first, last if dash else first) if part.isascii() and part.isdigit()]
    # 0 is root, and -1, which the kernel takes for no change, the largest number there is.
    if len(numbers) != 2 or not 0 < numbers[0] <= numbers[1] < (1 << 32) - 1:
        raise ParameterError("security_pool", text, f"expected user ids such as 60000-60999, got {text!r}")
    return range(numbers[0], numbers[1] + 1)
