# SPDX-License-Identifier: BSD-2-Clause
"""Inspection and adoption of external instances: QEMUs that hvkit did not start."""

from hvkit.hypervisor.adoption import AdoptionMethods
from hvkit.hypervisor.kvm.adoption.adopt import AdoptVerbs
from hvkit.hypervisor.kvm.adoption.inspect import InspectVerbs


class KvmAdoption(InspectVerbs, AdoptVerbs, AdoptionMethods):
    """The adoption verbs of the KVM hypervisor."""
