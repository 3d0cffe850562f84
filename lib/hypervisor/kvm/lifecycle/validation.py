# SPDX-License-Identifier: BSD-2-Clause
"""Checks of parameters against a QEMU program, without an instance.

Planning checks most parameters against the program. Therefore a machine without disks and NICs is planned, but not
started.
"""

import math
from collections.abc import Mapping
from typing import Any

from hvkit.hypervisor.errors import ParameterError, ProgramError
from hvkit.hypervisor.kvm.host.parameter_checks import NODE_TABLE
from hvkit.hypervisor.kvm.lifecycle.preparation import Preparation
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities
from hvkit.hypervisor.kvm.plan.parameters import DISK_DRIVERS, HUGE_PAGES, NIC_DRIVERS, parse_cpu_mask
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import Instance, check_kind


class ValidationVerbs(KvmSubject):
    """Validates parameters."""

    def validate_parameters(self, parameters: Mapping[str, object]) -> None:
        """Check parameters on this node, and against the capabilities of the QEMU program that they name."""
        check_kind(parameters, Mapping)
        filled = NODE_TABLE.validate({"kvm_path": self._kvm_path, **parameters})
        binary = filled["kvm_path"]
        try:
            capabilities = self._probe(binary)
        except ProgramError as error:
            raise ParameterError("kvm_path", binary, str(error)) from error
        check_program(filled, capabilities)


def check_program(parameters: Mapping[str, Any], capabilities: Capabilities) -> None:
    """Check parameters against the capabilities of a QEMU program on this node. Changes nothing.

    Args:
        parameters: filled, and checked on this node.
        capabilities: of the program.

    Raises:
        ParameterError: the program or this node lacks what a parameter requires.
    """
    disk_type, nic_type = parameters["disk_type"], parameters["nic_type"]
    machine = capabilities.find_machine(parameters["machine_version"])
    capabilities.check_device(DISK_DRIVERS[disk_type], "disk_type", disk_type)
    capabilities.check_device(NIC_DRIVERS.get(nic_type, nic_type), "nic_type", nic_type)
    least_mib = max(parameters["numa_nodes"], 1) * HUGE_PAGES.get(parameters["hugepages"], 1)
    instance = Instance(
        name="any",
        # Odd or even like memory_max_mib: the difference must be a multiple of 2 MiB, the block size of virtio-mem.
        memory_mib=least_mib * (1 + (parameters["memory_max_mib"] - least_mib) % 2),
        vcpus=1 if parameters["vcpus_max"] else min(_count_vcpus(parameters), machine.cpu_max),
        parameters=parameters,
    )
    Preparation.assemble(instance, parameters, capabilities).plan_with_placeholders()


def _count_vcpus(parameters: Mapping[str, Any]) -> int:
    """Return a number of vCPUs that matches the masks and the topology of the parameters."""
    masks = len(parse_cpu_mask(parameters["cpu_mask"]))
    shape = [parameters[name] for name in ("cpu_sockets", "cpu_cores", "cpu_threads")]
    product = math.prod(number or 1 for number in shape)
    if masks > 1:
        return masks
    return product if all(shape) else math.lcm(product, parameters["numa_nodes"] or 1)
