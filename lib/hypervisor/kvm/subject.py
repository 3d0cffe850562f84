# SPDX-License-Identifier: BSD-2-Clause
"""What all parts of the KVM hypervisor stand on."""

import attrs

from hvkit.hypervisor.kvm.instance.instances import Instances
from hvkit.hypervisor.model import Instance


class KvmSubject:
    """A part of the KVM hypervisor.

    Attributes:
        name: what the hypervisor is called.
    """

    name = "kvm"
    _instances: Instances
    _kvm_path: str

    def _with_program(self, instance: Instance) -> Instance:
        """Note down with an instance what runs it: what the next one to look at it takes for the default may differ."""
        return attrs.evolve(instance, parameters={"kvm_path": self._kvm_path, **instance.parameters})
