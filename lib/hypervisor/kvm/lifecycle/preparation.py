# SPDX-License-Identifier: BSD-2-Clause
"""Preparation of a start: every check that needs no change on the node."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import InstanceStartError, ProgramError
from hvkit.hypervisor.kvm.host.accounts import kvm_groups
from hvkit.hypervisor.kvm.host.disks import read_block_devices
from hvkit.hypervisor.kvm.host.firmware import choose_firmware
from hvkit.hypervisor.kvm.host.parameter_checks import NODE_TABLE, resolve_interfaces
from hvkit.hypervisor.kvm.host.probe import probe_capabilities, read_kvm_host
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities, choose_accelerator
from hvkit.hypervisor.kvm.plan.confinement import Account, Confinement, plan_confinement
from hvkit.hypervisor.kvm.plan.machine import MachinePlan
from hvkit.hypervisor.kvm.plan.planning import plan_machine
from hvkit.hypervisor.kvm.plan.request import MachineRequest, Placement
from hvkit.hypervisor.kvm.plan.resources import HostResources
from hvkit.hypervisor.kvm.qemu.passwords import read_passwords
from hvkit.hypervisor.model import Instance


@attrs.frozen(kw_only=True)
class Preparation:
    """The result of the checks before a start.

    Attributes:
        request: the input of `plan_machine`.
        incoming_socket: for an incoming instance, the unix socket on which it waits for the migration; empty for none.
        copies_target: for an incoming instance, the address to which its disks are copied; empty for none.
    """

    request: MachineRequest
    incoming_socket: str = ""
    copies_target: str = ""

    @classmethod
    def assemble(
        cls,
        instance: Instance,
        parameters: Mapping[str, Any],
        capabilities: Capabilities,
        *,
        block_devices: frozenset[UUID] = frozenset(),
        placement: Placement | None = None,
    ) -> Self:
        """Make the preparation of an instance: choose the accelerator and the firmware of this node.

        Args:
            instance: the instance.
            parameters: its parameters, filled and checked on this node.
            capabilities: of the QEMU program.
            block_devices: uuids of the disks that are block devices.
            placement: the device addresses of an incoming instance; None for a new instance.

        Raises:
            ParameterError: KVM is required and does not work, or there is no firmware of the kind.
        """
        return cls(
            request=MachineRequest(
                instance=instance,
                parameters=resolve_interfaces(parameters),
                capabilities=capabilities,
                accelerator=choose_accelerator(parameters["kvm_flag"], read_kvm_host(), capabilities),
                block_devices=block_devices,
                firmware=choose_firmware(parameters, capabilities),
                placement=placement,
            )
        )

    @property
    def instance(self) -> Instance:
        """The instance."""
        return self.request.instance

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The parameters of the instance, filled and checked, with addresses in place of network interfaces."""
        return self.request.parameters

    def plan(self, resources: HostResources) -> MachinePlan:
        """Plan the machine with `plan_machine`. Whether it succeeds does not depend on the resources."""
        return plan_machine(self.request, resources)

    def plan_with_placeholders(self) -> MachinePlan:
        """Plan the machine with placeholders for its host resources, to check or describe it.

        Raises:
            ParameterError: parameters contradict the instance, each other or the QEMU program.
        """
        return self.plan(HostResources.placeholder(self.instance, self.confine(None)))

    def confine(self, account: Account | None, *, root_dir: str = "") -> Confinement:
        """Plan the confinement of QEMU.

        Args:
            account: the account that it runs as; None for that of this process.
            root_dir: the empty directory that becomes its root directory, if the parameters ask for one.

        Raises:
            ParameterError: the program does not support the confinement that the parameters require.
        """
        has_kvm = self.request.accelerator.name == "kvm"
        return plan_confinement(
            self.parameters,
            self.request.capabilities,
            account=account,
            root_dir=root_dir,
            can_open_devices=not has_kvm or account is None or kvm_groups(account) is not None,
        )


def prepare(instance: Instance, *, cache_dir: Path | None) -> Preparation:
    """Check everything that an instance needs on this node, and plan its machine. Changes nothing but the cache.

    Args:
        instance: the instance to start.
        cache_dir: where to cache the capabilities of QEMU programs; None: nowhere.

    Raises:
        ParameterError: a parameter, a password file or a disk is not usable on this node, or they contradict each
            other.
        InstanceStartError: the program is not QEMU, or is too old.
    """
    parameters = NODE_TABLE.validate(instance.parameters)
    block_devices = read_block_devices(instance.disks)
    try:
        capabilities = probe_capabilities(parameters["kvm_path"], cache_dir=cache_dir)
    except ProgramError as error:
        raise InstanceStartError(instance.name, error.reason, error.log) from error
    preparation = Preparation.assemble(instance, parameters, capabilities, block_devices=block_devices)
    read_passwords(parameters)
    # Plan here to detect errors before the files of a previous run of the instance are removed.
    preparation.plan_with_placeholders()
    return preparation
