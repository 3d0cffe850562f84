# SPDX-License-Identifier: BSD-2-Clause
"""The part of the KVM hypervisor that takes over machines of somebody else."""

import os

from hvkit.hypervisor.adoption import AdoptionMethods
from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.adoption.adopt import adopt
from hvkit.hypervisor.kvm.adoption.inspect import examine
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import check_kind, is_absolute_path
from hvkit.hypervisor.model.reports import ExternalInstance


class KvmAdoption(KvmSubject, AdoptionMethods):
    """Takes over machines of somebody else."""

    def inspect_monitor(self, monitor: str | os.PathLike[str]) -> ExternalInstance:
        """Return what a QEMU is, as `BaseHypervisor.inspect_monitor` says, also one of ours."""
        return examine(_path_of("monitor", monitor))

    def adopt_instance(
        self,
        external: ExternalInstance,
        *,
        name: str | None = None,
        shared_monitor: str | os.PathLike[str] | None = None,
    ) -> str:
        """Take over a QEMU, as `BaseHypervisor.adopt_instance` says.

        Whether somebody else looks after it, such as libvirt, is not known here: they must not. A QEMU without a uuid
        has one here. When it ends by itself, it is CRASHED without a cause. Its first reboot by
        us has it reset by every later one, whatever it was told to do about them.
        """
        check_kind(external, ExternalInstance)
        second = "" if shared_monitor is None else _path_of("shared_monitor", shared_monitor)
        return adopt(self._instances, external, name, second)


def _path_of(what: str, path: str | os.PathLike[str]) -> str:
    check_kind(path, str, os.PathLike)
    text = os.fspath(path)
    if not is_absolute_path(text):
        raise ParameterError(what, text, f"expected an absolute path, got {text!r}")
    return text
