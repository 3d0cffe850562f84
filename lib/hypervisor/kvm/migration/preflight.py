# SPDX-License-Identifier: BSD-2-Clause
"""Checks whether this node can provide the machine of an instance on another node, before anything is created."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import (
    MigrationObstacle,
    MigrationRefused,
    ObstacleKind,
    ParameterError,
    ProgramError,
)
from hvkit.hypervisor.kvm.host.disks import read_block_devices
from hvkit.hypervisor.kvm.host.parameter_checks import NODE_TABLE
from hvkit.hypervisor.kvm.lifecycle.preparation import Preparation
from hvkit.hypervisor.kvm.migration.description import (
    CONSEQUENTIAL_PARAMETERS,
    SAME_PARAMETERS,
    MachineDescription,
    parse_description,
    read_node_flags,
)
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities
from hvkit.hypervisor.kvm.plan.machine import MachinePlan
from hvkit.hypervisor.kvm.plan.parameters import TABLE, plan_boot_index
from hvkit.hypervisor.kvm.plan.request import Placement
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import Instance, check_kind
from hvkit.hypervisor.model.reports import MigrationInfo

#: The kind of obstacle for a parameter whose value this node cannot provide; PARAMETER for all others.
_KINDS: Final = {
    "cpu_type": ObstacleKind.CPU,
    "kvm_flag": ObstacleKind.ACCELERATOR,
    "kvm_path": ObstacleKind.VERSION,
    "machine_version": ObstacleKind.MACHINE,
    "memory_hotplug": ObstacleKind.MEMORY,
    "memory_max_mib": ObstacleKind.MEMORY,
    "vcpus": ObstacleKind.VCPUS,
    "vcpus_max": ObstacleKind.VCPUS,
}


@attrs.frozen
class _Examination:
    """The result of comparing the machine on the source with what this node can provide.

    Attributes:
        preparation: the preparation of the start; None only if there is an obstacle.
        obstacles: every obstacle.
    """

    preparation: Preparation | None
    obstacles: tuple[MigrationObstacle, ...]


#: Returns the capabilities of the QEMU program at a path.
ProbeProgram = Callable[[str], Capabilities]


class MigrationObstacleVerbs(KvmSubject):
    """The verb of the capability MIGRATION that finds obstacles."""

    def find_migration_obstacles(self, instance: Instance, info: MigrationInfo) -> tuple[MigrationObstacle, ...]:
        check_kind(instance, Instance)
        check_kind(info, MigrationInfo)
        return _examine(self._with_program(instance), info, self.name, self._probe).obstacles


def prepare_destination(instance: Instance, info: MigrationInfo, hypervisor: str, probe: ProbeProgram) -> Preparation:
    """Prepare the start of an instance with the machine that the source describes. Creates nothing.

    Args:
        instance: the instance, as it is to be on this node.
        info: the description by the source.
        hypervisor: the name of this hypervisor.
        probe: returns the capabilities of a QEMU program.

    Raises:
        MigrationRefused: this node cannot provide the machine; carries every reason.
        MigrationError: the description is not valid, or describes another instance.
    """
    found = _examine(instance, info, hypervisor, probe)
    if found.obstacles or found.preparation is None:
        raise MigrationRefused(instance.name, found.obstacles)
    return found.preparation


def _examine(instance: Instance, info: MigrationInfo, hypervisor: str, probe: ProbeProgram) -> _Examination:
    """Compare the machine on the source with what this node can provide.

    Raises:
        MigrationError: the description is not valid, or describes another instance.
    """
    sent = parse_description(info, instance, hypervisor)
    placement = Placement(
        topology=sent.topology,
        addresses={UUID(uuid): address for uuid, address in sent.addresses.items()},
        was_running=sent.is_running,
        processors=sent.processors,
        dimms=sent.dimms,
    )
    # The media that the guest has on the source, which may differ from those that the cluster manager knows.
    same = {**sent.media, "machine_version": sent.machine_type}
    instance = attrs.evolve(instance, parameters={**instance.parameters, **same})
    obstacles = [*_compare_instance(sent, instance)]
    block_devices: frozenset[UUID] = frozenset()
    for disk in instance.disks:
        try:
            block_devices |= read_block_devices((disk,))
        except ParameterError as error:
            obstacles.append(MigrationObstacle(ObstacleKind.DISK, str(error)))
    preparation = None
    try:
        parameters = NODE_TABLE.validate(instance.parameters)
        capabilities = probe(parameters["kvm_path"])
        preparation = Preparation.assemble(
            instance, parameters, capabilities, block_devices=block_devices, placement=placement
        )
        obstacles += _compare_program(sent, preparation)
        plan = preparation.plan_with_placeholders()
        obstacles += compare_plan(sent, plan, node_flags=frozenset(read_node_flags(sent.accelerator, sent.cpu_model)))
    except ParameterError as error:
        obstacles.append(MigrationObstacle(_KINDS.get(error.name, ObstacleKind.PARAMETER), str(error)))
    except ProgramError as error:
        obstacles.append(MigrationObstacle(ObstacleKind.VERSION, str(error)))
    return _Examination(preparation, tuple(obstacles))


def _compare_instance(sent: MachineDescription, instance: Instance) -> Iterator[MigrationObstacle]:
    """Compare everything that needs no QEMU: memory, vCPUs, parameters and uuids."""
    parameters = TABLE.fill(instance.parameters)
    if sent.memory_mib != instance.memory_mib:
        yield _differs(ObstacleKind.MEMORY, "memory", f"{sent.memory_mib} MiB", f"{instance.memory_mib} MiB")
    if sent.vcpus != instance.vcpus:
        yield _differs(ObstacleKind.VCPUS, "vCPUs", sent.vcpus, instance.vcpus)
    shape = (parameters["cpu_sockets"], parameters["cpu_cores"], parameters["cpu_threads"])
    if sent.cpu_shape != shape:
        there, here = ("x".join(map(str, each)) for each in (sent.cpu_shape, shape))
        yield _differs(ObstacleKind.VCPUS, "sockets, cores and threads", there, here)
    for name in SAME_PARAMETERS:
        value = sent.parameters.get(name, TABLE[name].default)
        if value != parameters[name]:
            yield _differs(ObstacleKind.PARAMETER, name, repr(value), repr(parameters[name]))
    yield from _compare_consequences(
        {name: sent.parameters.get(name, TABLE[name].default) for name in CONSEQUENTIAL_PARAMETERS}, parameters
    )
    uuids = {str(disk.uuid) for disk in instance.disks} | {str(nic.uuid) for nic in instance.nics}
    if uuids != set(sent.addresses):
        other = ", ".join(sorted(uuids ^ set(sent.addresses)))
        problem = f"disks or NICs differ from those on the source: {other}"
        yield MigrationObstacle(ObstacleKind.DEVICES, problem)


def _compare_consequences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[MigrationObstacle]:
    """Compare the consequences of parameters whose values may differ."""
    # The first NIC has a boot ROM only if the instance can boot from it, and the ROM is part of the stream.
    if (plan_boot_index("network", there) is None) is not (plan_boot_index("network", here) is None):
        yield _differs(ObstacleKind.PARAMETER, "boot_order", repr(there["boot_order"]), repr(here["boot_order"]))
    # Postcopy requests memory page by page, so both ends need the same page size.
    if "postcopy-ram" in here["migration_caps"].split(":") and there["hugepages"] != here["hugepages"]:
        yield _differs(ObstacleKind.MEMORY, "hugepages", repr(there["hugepages"]), repr(here["hugepages"]))


def _compare_program(sent: MachineDescription, preparation: Preparation) -> Iterator[MigrationObstacle]:
    """Compare the QEMU programs. An older QEMU may not understand the stream of a newer one."""
    capabilities, accelerator = preparation.request.capabilities, preparation.request.accelerator
    if capabilities.version[:2] < sent.qemu_version[:2]:
        there = ".".join(map(str, sent.qemu_version))
        problem = f"QEMU version: {there} on the source, and the older {capabilities.version_text} here"
        yield MigrationObstacle(ObstacleKind.VERSION, problem)
    if accelerator.name != sent.accelerator:
        problem = f"accelerator: {sent.accelerator} on the source, and {accelerator.name} here: {accelerator.reason}"
        yield MigrationObstacle(ObstacleKind.ACCELERATOR, problem)


def compare_plan(
    sent: MachineDescription, plan: MachinePlan, *, node_flags: frozenset[str]
) -> Iterator[MigrationObstacle]:
    """Compare the machine on the source with the one planned on this node.

    Args:
        sent: the machine on the source.
        plan: the machine on this node.
        node_flags: the CPU flags of this node, if the guest may use all of those of the source.
    """
    model = plan.processors.model
    if sent.cpu_model and sent.cpu_model != model:
        yield _differs(ObstacleKind.CPU, "CPU model", sent.cpu_model, model)
    elif missing := sorted(set(sent.node_flags) - node_flags):
        problem = f"CPU flags of the source that are missing on this node: {' '.join(missing)}"
        yield MigrationObstacle(ObstacleKind.CPU, problem)
    backends = tuple(backend.id for backend in plan.memory.backends)
    if sent.memory_backends != backends:
        there, here = (" ".join(each) or "QEMU's default" for each in (sent.memory_backends, backends))
        yield _differs(ObstacleKind.MEMORY, "memory backends", there, here)
    drives = (device for drive in plan.drives for device in drive.devices)
    disks, nics = (disk.device for disk in plan.disks), (nic.device for nic in plan.nics)
    planned = (*plan.plugged_devices, *plan.devices, *drives, *disks, *nics)
    drivers = {each.id: each.driver for each in planned if each.id is not None}
    for device in sorted({*sent.devices, *drivers}):
        there, here = sent.devices.get(device, "missing"), drivers.get(device, "missing")
        # Devices from kvm_extra are not part of the plan.
        if there != here and not (sent.parameters.get("kvm_extra") and here == "missing"):
            yield _differs(ObstacleKind.DEVICES, f"device {device}", there, here)


def _differs(kind: ObstacleKind, what: str, there: object, here: object) -> MigrationObstacle:
    return MigrationObstacle(kind, f"{what}: {there} on the source, and {here} here")
