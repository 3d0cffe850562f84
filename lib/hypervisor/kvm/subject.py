# SPDX-License-Identifier: BSD-2-Clause
"""The base class of the classes that `KvmHypervisor` combines."""

import attrs

from hvkit.hypervisor.kvm.host.probe import probe_capabilities
from hvkit.hypervisor.kvm.instance.instances import Instances
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities
from hvkit.hypervisor.model import Instance


class KvmSubject:
    """Base of the classes that implement the verbs of one subject, such as migration.

    Attributes:
        name: the name of the hypervisor.
    """

    name = "kvm"
    _instances: Instances
    _kvm_path: str

    def _with_program(self, instance: Instance) -> Instance:
        """Return the instance with an explicit parameter `kvm_path`.

        It is persisted, so that a process with another default uses the same program for the instance.
        """
        return attrs.evolve(instance, parameters={"kvm_path": self._kvm_path, **instance.parameters})

    def _probe(self, binary: str) -> Capabilities:
        """Return the capabilities of a QEMU program, without writing them to the cache of the run directory."""
        return probe_capabilities(binary, cache_dir=self._instances.find_cache_dir(), keeps=False)
