# SPDX-License-Identifier: BSD-2-Clause
"""Validation of parameters on a node, by planning a machine with them that is not started."""

import math
from collections.abc import Mapping
from typing import Any

from hvkit.hypervisor.errors import ParameterError, ProgramError
from hvkit.hypervisor.kvm.host.firmware import choose_firmware
from hvkit.hypervisor.kvm.host.probe import read_kvm_host
from hvkit.hypervisor.kvm.lifecycle.start import Preparation
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities, choose_accelerator
from hvkit.hypervisor.kvm.plan.parameters import (
    DISK_DRIVERS,
    HUGE_PAGES,
    NIC_DRIVERS,
    TABLE,
    parse_cpu_mask,
    resolve_places,
)
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import Instance


class ValidationVerbs(KvmSubject):
    """Validates parameters."""

    def validate_parameters(self, parameters: Mapping[str, object]) -> None:
        """Check parameters on this node, and against the capabilities of the QEMU program that they name."""
        filled = TABLE.validate({"kvm_path": self._kvm_path, **parameters})
        binary = filled["kvm_path"]
        try:
            capabilities = self._probe(binary)
        except ProgramError as error:
            raise ParameterError("kvm_path", binary, str(error)) from error
        check_program(filled, capabilities)


def check_program(parameters: Mapping[str, Any], capabilities: Capabilities) -> None:
    """Check parameters against what a QEMU program can do on this node. Makes nothing.

    Args:
        parameters: filled and checked by `hvkit.hypervisor.kvm.plan.parameters.TABLE`, on this node.
        capabilities: of the program.

    Raises:
        ParameterError: the program, or this node, lacks what one of them asks for.
    """
    disk_type, nic_type = parameters["disk_type"], parameters["nic_type"]
    machine = capabilities.find_machine(parameters["machine_version"])
    capabilities.check_device(DISK_DRIVERS[disk_type], "disk_type", disk_type)
    capabilities.check_device(NIC_DRIVERS.get(nic_type, nic_type), "nic_type", nic_type)
    least_mib = max(parameters["numa_nodes"], 1) * HUGE_PAGES.get(parameters["hugepages"], 1)
    preparation = Preparation(
        instance=Instance(
            name="any",
            # Odd or even, for there are such instances: what comes on top of it does so in pieces of 2 MiB.
            memory_mib=least_mib * (1 + (parameters["memory_max_mib"] - least_mib) % 2),
            vcpus=1 if parameters["vcpus_max"] else min(_count_processors(parameters), machine.cpu_max),
            parameters=parameters,
        ),
        parameters=resolve_places(parameters),
        capabilities=capabilities,
        accelerator=choose_accelerator(parameters["kvm_flag"], read_kvm_host(), capabilities),
        block_devices=frozenset(),
        firmware=choose_firmware(parameters, capabilities),
    )
    preparation.plan(preparation.imagine_ends())


def _count_processors(parameters: Mapping[str, Any]) -> int:
    """Return the number of processors that the parameters are right for, if there is one."""
    masks = len(parse_cpu_mask(parameters["cpu_mask"]))
    shape = [parameters[name] for name in ("cpu_sockets", "cpu_cores", "cpu_threads")]
    product = math.prod(number or 1 for number in shape)
    if masks > 1:
        return masks
    return product if all(shape) else math.lcm(product, parameters["numa_nodes"] or 1)
