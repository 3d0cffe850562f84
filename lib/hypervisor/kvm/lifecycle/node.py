# SPDX-License-Identifier: BSD-2-Clause
"""Resources of the node, and checks of the software and devices that the hypervisor needs."""

import contextlib
from collections.abc import Iterator
from typing import Any

from hvkit.errors import HypervisorError
from hvkit.hypervisor.errors import ProgramError
from hvkit.hypervisor.kvm.host.node_checks import probe_kvm, probe_qemu, probe_qemu_img, probe_tap
from hvkit.hypervisor.kvm.host.parameter_checks import NODE_TABLE
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model.reports import NodeCheck, NodeInfo
from hvkit.hypervisor.node import read_node_info


class NodeVerbs(KvmSubject):
    """Reports the resources and the problems of the node."""

    def get_node_info(self) -> NodeInfo:
        try:
            version = self._probe(self._kvm_path).version
        except ProgramError:
            version = None
        return read_node_info(hypervisor_version=version)

    @classmethod
    def get_node_checks(cls, *, kvm_path: str | None = None, **options: Any) -> list[NodeCheck]:
        """Check QEMU, qemu-img, KVM and tap devices.

        Args:
            kvm_path: the QEMU program; None for the default of the parameter kvm_path.
            options: ignored.
        """
        return [
            probe_qemu(str(NODE_TABLE["kvm_path"].default) if kvm_path is None else kvm_path),
            probe_qemu_img(),
            probe_kvm(),
            probe_tap(),
        ]

    def verify(self) -> list[str]:
        problems: list[str] = []
        with _collecting(problems):
            self._probe(self._kvm_path)
        with _collecting(problems):
            directory = self._instances.directory
            problems += [f"{stray}: not a valid name for an instance" for stray in directory.strays()]
            for handle in self._instances.handles():
                with _collecting(problems):
                    handle.load()
        return problems


@contextlib.contextmanager
def _collecting(problems: list[str]) -> Iterator[None]:
    """Append the error raised inside the block to the problems, instead of raising it."""
    try:
        yield
    except HypervisorError as error:
        problems.append(str(error))
