# SPDX-License-Identifier: BSD-2-Clause
"""Find out whether a node can be what an instance is on another one, before anything is made.

QEMU does not compare the machines at both ends of a migration: it says "completed" where a device is missing. So the
source says what its machine is, down to the slot of each device, and the destination makes that machine or tells every
reason why it cannot.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import (
    MigrationError,
    MigrationObstacle,
    MigrationRefused,
    ObstacleKind,
    ParameterError,
    ProgramError,
)
from hvkit.hypervisor.kvm.host.disks import read_block_devices
from hvkit.hypervisor.kvm.host.parameter_checks import NODE_TABLE
from hvkit.hypervisor.kvm.host.probe import probe_capabilities, read_processor_flags
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.host.state_file import from_plain, to_plain
from hvkit.hypervisor.kvm.lifecycle.preparation import Preparation
from hvkit.hypervisor.kvm.plan.machine import MachinePlan
from hvkit.hypervisor.kvm.plan.memory import backend_ids
from hvkit.hypervisor.kvm.plan.parameters import TABLE, plan_boot_index
from hvkit.hypervisor.kvm.plan.plugged import DEVICES_PATH, Dimm, Processor, ProcessorPlaces, read_dimms
from hvkit.hypervisor.kvm.plan.request import Placement
from hvkit.hypervisor.kvm.plan.topology import Address, Topology
from hvkit.hypervisor.model import Instance
from hvkit.hypervisor.model.reports import MigrationInfo
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import QomList, QueryHotpluggableCpus, QueryMemoryDevices, QueryStatus

#: The form of what the source tells the destination.
_FORMAT: Final = 3
_NO_MEDIA: Final[Mapping[str, str]] = MappingProxyType({})
#: CPU models that are whatever the node's own processors are.
_NODE_MODELS: Final = ("host", "max")

#: Parameters that change what the guest sees, or what is sent, and that neither a device nor anything else tells of.
_SAME_PARAMETERS: Final = (
    *("acpi", "firmware", "kvm_extra", "migration_caps", "migration_tls"),
    *("virtio_net_queues", "vsock_cid", "vcpus_max", "memory_max_mib", "memory_hotplug"),
)
#: Parameters of which not the value matters, but a consequence.
_CONSEQUENTIAL: Final = ("boot_order", "hugepages", "kernel_path")

#: What a parameter that cannot be used on this node is about.
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


@attrs.frozen(kw_only=True)
class MachineDescription:
    """What a source tells of its machine.

    Attributes:
        format: the form of all this.
        uuid: of the instance.
        qemu_version: of the QEMU that runs it.
        machine_type: with its version.
        accelerator: what runs the guest's instructions; a guest cannot change that on its way.
        cpu_model: with features, as QEMU writes it; empty where it is not remembered.
        node_flags: what the node's own processors can do, where the guest may use all of that; otherwise empty.
        memory_mib: the guest's memory.
        memory_backends: ids of the objects that hold that, which are what QEMU calls it; none where it is QEMU's own.
        vcpus: how many processors there are.
        cpu_shape: sockets, cores and threads; 0: QEMU decides.
        devices: drivers of the devices, by their ids.
        parameters: those that have to be the same on both ends, and that no other member is about.
        topology: the buses.
        addresses: of disks and NICs, by their uuids.
        is_running: whether the guest is to run when it has come.
        media: what is in the drives, by the parameters that say so.
        processors: those that were plugged in, beyond `vcpus`.
        dimms: the memory that was plugged in, beyond `memory_mib`. What a virtio-mem device gives is sent by QEMU.
    """

    format: int
    uuid: UUID
    qemu_version: tuple[int, int, int]
    machine_type: str
    accelerator: Literal["kvm", "tcg"]
    cpu_model: str
    node_flags: tuple[str, ...]
    memory_mib: int
    memory_backends: tuple[str, ...]
    vcpus: int
    cpu_shape: tuple[int, int, int]
    devices: dict[str, str]
    parameters: dict[str, object]
    topology: Topology
    addresses: dict[str, Address]
    is_running: bool
    media: dict[str, str] = attrs.field(factory=dict)
    processors: tuple[Processor, ...] = ()
    dimms: tuple[Dimm, ...] = ()


# ---- on the source


def describe_machine(
    runtime: Runtime, monitor: QmpConnection, hypervisor: str, media: Mapping[str, str] = _NO_MEDIA
) -> MigrationInfo:
    """Say what a destination must know of a machine that runs here.

    Args:
        runtime: what is remembered of it.
        monitor: of it.
        hypervisor: the name of this hypervisor.
        media: what is in its drives, by the parameters that say so.

    Raises:
        QmpError: its QEMU does not say.
    """
    instance = runtime.instance
    parameters = TABLE.fill(instance.parameters)
    children = monitor.execute(QomList(path=DEVICES_PATH))
    sent = MachineDescription(
        format=_FORMAT,
        uuid=instance.uuid,
        qemu_version=runtime.qemu_version,
        machine_type=runtime.machine_type,
        accelerator=runtime.accelerator,
        cpu_model=runtime.cpu_model,
        node_flags=_node_flags(runtime.accelerator, runtime.cpu_model),
        memory_mib=instance.memory_mib,
        memory_backends=backend_ids(parameters),
        vcpus=instance.vcpus,
        cpu_shape=(parameters["cpu_sockets"], parameters["cpu_cores"], parameters["cpu_threads"]),
        devices={
            child.name: child.type.removeprefix("child<").removesuffix(">")
            for child in children
            if child.type.startswith("child<")
        },
        parameters={name: parameters[name] for name in (*_SAME_PARAMETERS, *_CONSEQUENTIAL)},
        topology=runtime.topology,
        addresses={str(record.uuid): record.address for record in runtime.devices},
        is_running=monitor.execute(QueryStatus()).running,
        media=dict(media),
        processors=_read_processors(monitor) if parameters["vcpus_max"] else (),
        dimms=read_dimms(monitor.execute(QueryMemoryDevices())) if parameters["memory_max_mib"] else (),
    )
    return MigrationInfo(instance=instance.name, hypervisor=hypervisor, data=to_plain(sent))


def _read_processors(monitor: QmpConnection) -> tuple[Processor, ...]:
    return ProcessorPlaces.from_answer(monitor.execute(QueryHotpluggableCpus())).plugged


def _node_flags(accelerator: str, cpu_model: str) -> tuple[str, ...]:
    """Return what this node's processors can do, if a guest with such a CPU sees all of it."""
    if accelerator != "kvm" or cpu_model.partition(",")[0] not in _NODE_MODELS:
        return ()
    return tuple(sorted(read_processor_flags()))


# ---- on the destination


def prepare_destination(
    instance: Instance, info: MigrationInfo, hypervisor: str, *, cache_dir: Path | None
) -> Preparation:
    """Find out whether this node can be what the source describes. Makes nothing.

    Args:
        instance: what is to come.
        info: what the source says of it.
        hypervisor: the name of this hypervisor.
        cache_dir: where to keep what a QEMU program can do; None: nowhere.

    Raises:
        MigrationRefused: it cannot; carries every reason.
        MigrationError: the description is none, or of another instance.
    """
    preparation, obstacles = examine(instance, info, hypervisor, cache_dir=cache_dir)
    if obstacles or preparation is None:
        raise MigrationRefused(instance.name, obstacles)
    return preparation


def examine(
    instance: Instance, info: MigrationInfo, hypervisor: str, *, cache_dir: Path | None
) -> tuple[Preparation | None, tuple[MigrationObstacle, ...]]:
    """Look for all that keeps an instance from coming here, as `prepare_destination` does, and return it.

    The preparation is None only if there is an obstacle.

    Raises:
        MigrationError: the description is none, or of another instance.
    """
    sent = _understand(instance, info, hypervisor)
    placement = Placement(
        topology=sent.topology,
        addresses={UUID(uuid): address for uuid, address in sent.addresses.items()},
        was_running=sent.is_running,
        processors=sent.processors,
        dimms=sent.dimms,
    )
    # What is in the drives may have been changed since the instance was described; the guest has seen what is there.
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
        capabilities = probe_capabilities(parameters["kvm_path"], cache_dir=cache_dir)
        preparation = Preparation.assemble(
            instance, parameters, capabilities, block_devices=block_devices, placement=placement
        )
        obstacles += _compare_program(sent, preparation)
        plan = preparation.plan_with_placeholders()
        obstacles += compare_plan(sent, plan, node_flags=frozenset(_node_flags(sent.accelerator, sent.cpu_model)))
    except ParameterError as error:
        obstacles.append(MigrationObstacle(_KINDS.get(error.name, ObstacleKind.PARAMETER), str(error)))
    except ProgramError as error:
        obstacles.append(MigrationObstacle(ObstacleKind.VERSION, str(error)))
    return preparation, tuple(obstacles)


def _understand(instance: Instance, info: MigrationInfo, hypervisor: str) -> MachineDescription:
    if (info.instance, info.hypervisor) != (instance.name, hypervisor):
        raise MigrationError(instance.name, f"this is said of {info.instance}, by {info.hypervisor}")
    spoken = info.data.get("format")
    if spoken != _FORMAT:
        raise MigrationError(instance.name, f"the source speaks form {spoken}, and this node {_FORMAT}")
    try:
        sent = from_plain(dict(info.data), MachineDescription)
    except ValueError as error:
        raise MigrationError(instance.name, f"what the source says cannot be understood: {error}") from error
    if sent.uuid != instance.uuid:
        raise MigrationError(instance.name, f"this is said of instance {sent.uuid}, not of {instance.uuid}")
    return sent


def _compare_instance(sent: MachineDescription, instance: Instance) -> Iterator[MigrationObstacle]:
    """Compare what needs no QEMU: how much of everything there is."""
    parameters = TABLE.fill(instance.parameters)
    if sent.memory_mib != instance.memory_mib:
        yield _differs(ObstacleKind.MEMORY, "memory", f"{sent.memory_mib} MiB", f"{instance.memory_mib} MiB")
    if sent.vcpus != instance.vcpus:
        yield _differs(ObstacleKind.VCPUS, "processors", sent.vcpus, instance.vcpus)
    shape = (parameters["cpu_sockets"], parameters["cpu_cores"], parameters["cpu_threads"])
    if sent.cpu_shape != shape:
        there, here = ("x".join(map(str, each)) for each in (sent.cpu_shape, shape))
        yield _differs(ObstacleKind.VCPUS, "sockets, cores and threads", there, here)
    for name in _SAME_PARAMETERS:
        value = sent.parameters.get(name, TABLE[name].default)
        if value != parameters[name]:
            yield _differs(ObstacleKind.PARAMETER, name, repr(value), repr(parameters[name]))
    yield from _compare_consequences(
        {name: sent.parameters.get(name, TABLE[name].default) for name in _CONSEQUENTIAL}, parameters
    )
    uuids = {str(disk.uuid) for disk in instance.disks} | {str(nic.uuid) for nic in instance.nics}
    if uuids != set(sent.addresses):
        other = ", ".join(sorted(uuids ^ set(sent.addresses)))
        problem = f"its devices are not those that it has on the source: {other}"
        yield MigrationObstacle(ObstacleKind.DEVICES, problem)


def _compare_consequences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[MigrationObstacle]:
    """Compare what follows from parameters that may differ otherwise."""
    # The first NIC has code to boot from only where it is booted from; its place in the guest's memory is sent.
    if (plan_boot_index("network", there) is None) is not (plan_boot_index("network", here) is None):
        yield _differs(ObstacleKind.PARAMETER, "boot_order", repr(there["boot_order"]), repr(here["boot_order"]))
    # Afterwards memory is asked for by the page, which has to be of one size.
    if "postcopy-ram" in here["migration_caps"].split(":") and there["hugepages"] != here["hugepages"]:
        yield _differs(ObstacleKind.MEMORY, "hugepages", repr(there["hugepages"]), repr(here["hugepages"]))


def _compare_program(sent: MachineDescription, preparation: Preparation) -> Iterator[MigrationObstacle]:
    """Compare the QEMU programs. One that is older may not know all that the newer one sends."""
    capabilities, accelerator = preparation.request.capabilities, preparation.request.accelerator
    if capabilities.version[:2] < sent.qemu_version[:2]:
        there = ".".join(map(str, sent.qemu_version))
        problem = f"its QEMU on the source is {there}, and here is an older one: {capabilities.version_text}"
        yield MigrationObstacle(ObstacleKind.VERSION, problem)
    if accelerator.name != sent.accelerator:
        problem = f"it runs by {sent.accelerator} on the source, and would by {accelerator.name} here: "
        yield MigrationObstacle(ObstacleKind.ACCELERATOR, problem + accelerator.reason)


def compare_plan(
    sent: MachineDescription, plan: MachinePlan, *, node_flags: frozenset[str]
) -> Iterator[MigrationObstacle]:
    """Compare a machine on the source with the one planned here.

    Args:
        sent: the source's.
        plan: this node's.
        node_flags: what this node's processors can do, if the guest may use all that the source's can.
    """
    model = plan.processors.model
    if sent.cpu_model and sent.cpu_model != model:
        yield _differs(ObstacleKind.CPU, "CPU model", sent.cpu_model, model)
    elif missing := sorted(set(sent.node_flags) - node_flags):
        problem = f"the guest may use all of the source's processor, and this node's lacks: {' '.join(missing)}"
        yield MigrationObstacle(ObstacleKind.CPU, problem)
    backends = tuple(backend.id for backend in plan.memory.backends)
    if sent.memory_backends != backends:
        there, here = (" ".join(each) or "QEMU's own" for each in (sent.memory_backends, backends))
        yield _differs(ObstacleKind.MEMORY, "what holds its memory", there, here)
    drives = (device for drive in plan.drives for device in drive.devices)
    disks, nics = (disk.device for disk in plan.disks), (nic.device for nic in plan.nics)
    planned = (*plan.plugged_devices, *plan.devices, *drives, *disks, *nics)
    drivers = {each.id: each.driver for each in planned if each.id is not None}
    for device in sorted({*sent.devices, *drivers}):
        there, here = sent.devices.get(device, "missing"), drivers.get(device, "missing")
        # What somebody added to the command line is in no plan.
        if there != here and not (sent.parameters.get("kvm_extra") and here == "missing"):
            yield _differs(ObstacleKind.DEVICES, f"device {device}", there, here)


def _differs(kind: ObstacleKind, what: str, there: object, here: object) -> MigrationObstacle:
    return MigrationObstacle(kind, f"{what}: {there} on the source, and {here} here")
