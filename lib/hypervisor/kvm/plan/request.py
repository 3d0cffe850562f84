# SPDX-License-Identifier: BSD-2-Clause
"""The input of planning: an instance, its checked parameters, and the facts about the node that decide its machine."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import attrs

from hvkit.hypervisor.kvm.plan.capabilities import Accelerator, Capabilities
from hvkit.hypervisor.kvm.plan.firmware import Firmware
from hvkit.hypervisor.kvm.plan.plugged import Dimm, Processor
from hvkit.hypervisor.kvm.plan.topology import Address, Topology
from hvkit.hypervisor.model import Instance


@attrs.frozen(kw_only=True)
class Placement:
    """The buses and bus addresses of an incoming machine, which have to be the same as on the source.

    Attributes:
        topology: its buses.
        addresses: of its disks and NICs, by their uuids.
        was_running: whether the guest runs on the source, and is to run here after the migration.
        processors: the vCPUs that were hot-added on the source.
        dimms: the DIMMs that were hot-added on the source.
    """

    topology: Topology
    addresses: Mapping[UUID, Address]
    was_running: bool
    processors: tuple[Processor, ...] = ()
    dimms: tuple[Dimm, ...] = ()


@attrs.frozen(kw_only=True)
class MachineRequest:
    """The input of `plan_machine`.

    Attributes:
        instance: the instance.
        parameters: its parameters, filled and checked, with addresses in place of network interfaces.
        capabilities: of the QEMU program.
        accelerator: the accelerator.
        block_devices: uuids of the disks whose path is a block device, not a file.
        firmware: the UEFI firmware; None for QEMU's own BIOS.
        placement: the addresses that an incoming machine has to use; None for a new machine.
    """

    instance: Instance
    parameters: Mapping[str, Any]
    capabilities: Capabilities
    accelerator: Accelerator
    block_devices: frozenset[UUID] = frozenset()
    firmware: Firmware | None = None
    placement: Placement | None = None

    @property
    def addresses(self) -> Mapping[UUID, Address]:
        """The addresses that are decided already, by the uuids of disks and NICs."""
        return {} if self.placement is None else self.placement.addresses

    @property
    def hot_added_processors(self) -> tuple[Processor, ...]:
        """The vCPUs that were hot-added on the source of a migration."""
        return () if self.placement is None else self.placement.processors

    @property
    def hot_added_dimms(self) -> tuple[Dimm, ...]:
        """The DIMMs that were hot-added on the source of a migration."""
        return () if self.placement is None else self.placement.dimms
