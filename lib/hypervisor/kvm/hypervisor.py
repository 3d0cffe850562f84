# SPDX-License-Identifier: BSD-2-Clause
"""`KvmHypervisor`, the class that combines the verbs of all subjects."""

import os
from pathlib import Path
from typing import ClassVar, Final

from hvkit.hypervisor.base import BaseHypervisor
from hvkit.hypervisor.kvm.adoption import KvmAdoption
from hvkit.hypervisor.kvm.capture import KvmCapture
from hvkit.hypervisor.kvm.devices import KvmDevices
from hvkit.hypervisor.kvm.host.parameter_checks import NODE_TABLE
from hvkit.hypervisor.kvm.host.paths import RunDirectory
from hvkit.hypervisor.kvm.instance.instances import Instances
from hvkit.hypervisor.kvm.lifecycle import KvmLifecycle
from hvkit.hypervisor.kvm.migration import KvmMigration
from hvkit.hypervisor.kvm.storage import KvmStorage
from hvkit.hypervisor.model import check_timeout

#: The default number of seconds to wait for the lock of an instance.
_LOCK_S: Final = 10.0


class KvmHypervisor(KvmLifecycle, KvmAdoption, KvmCapture, KvmDevices, KvmMigration, KvmStorage, BaseHypervisor):
    """Runs instances as QEMU processes on this node, accelerated by KVM if it is available.

    The files of an instance are in `run_dir`; `hvkit.hypervisor.kvm.host.paths` describes them. An instance whose guest
    has powered off is SHUTDOWN and still has a process, which keeps its disks open until `stop_instance`,
    `cleanup_instance` or `start_instance` ends it.
    """

    PARAMETERS: ClassVar = NODE_TABLE

    def __init__(
        self,
        *,
        run_dir: str | os.PathLike[str],
        state_dir: str | os.PathLike[str] | None = None,
        lock_timeout_s: float | None = None,
        kvm_path: str | None = None,
    ) -> None:
        """Use a run directory. Nothing on the node is read or written before the first call of a method.

        Args:
            run_dir: the directory for the state of running instances. It is created when it is first needed, with mode
                0700.
            state_dir: the directory for UEFI variables and TPM state, which outlive instances. It should survive a
                restart of the node, and must not be accessible to other users. None: ``state`` in `run_dir`.
            lock_timeout_s: seconds to wait for the lock of an instance before raising InstanceBusy; None: 10.
            kvm_path: the QEMU program of instances that have no parameter `kvm_path`; None: the default of that
                parameter.

        Raises:
            ParameterError: the path is too long for the addresses of unix sockets, or the timeout is negative.
        """
        super().__init__(run_dir=run_dir)
        self._instances = Instances(
            RunDirectory(self.run_dir, None if state_dir is None else Path(state_dir)),
            check_timeout(lock_timeout_s, default_s=_LOCK_S, name="lock_timeout_s"),
        )
        self._kvm_path = str(NODE_TABLE["kvm_path"].default) if kvm_path is None else kvm_path
