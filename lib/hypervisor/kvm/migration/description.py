# SPDX-License-Identifier: BSD-2-Clause
"""The description of a machine that a source gives to a destination.

QEMU does not compare the machines at both ends of a migration: it reports success even if a device is missing. So the
source describes its machine, with the slot of every device, and the destination builds the same machine or refuses.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final, Literal
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import MigrationError, translate_errors
from hvkit.hypervisor.kvm.devices.media import read_media
from hvkit.hypervisor.kvm.host.probe import read_processor_flags
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.host.state_file import from_plain, to_plain
from hvkit.hypervisor.kvm.plan.memory import backend_ids
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.kvm.plan.plugged import DEVICES_PATH, Dimm, Processor, ProcessorPlaces, read_dimms
from hvkit.hypervisor.kvm.plan.topology import Address, Topology
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import Instance
from hvkit.hypervisor.model.reports import MigrationInfo
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import QomList, QueryHotpluggableCpus, QueryMemoryDevices, QueryStatus

#: The version of the format of a description.
FORMAT: Final = 3
#: Parameters that change what the guest sees, or the migration stream, and that no other member describes.
SAME_PARAMETERS: Final = (
    *("acpi", "firmware", "kvm_extra", "migration_caps", "migration_tls"),
    *("virtio_net_queues", "vsock_cid", "vcpus_max", "memory_max_mib", "memory_hotplug"),
)
#: Parameters whose values may differ as long as some of their effects are the same, which the destination compares.
CONSEQUENTIAL_PARAMETERS: Final = ("boot_order", "hugepages", "kernel_path")

#: CPU models with the features of the CPUs of the node.
_NODE_MODELS: Final = ("host", "max")


@attrs.frozen(kw_only=True)
class MachineDescription:
    """The machine of an instance on the source.

    Attributes:
        format: the version of this format.
        uuid: the uuid of the instance.
        qemu_version: the version of its QEMU.
        machine_type: the machine type, with its version.
        accelerator: the accelerator, which cannot change in a migration.
        cpu_model: the CPU model with features, in QEMU's syntax; empty if it is not known.
        node_flags: the CPU flags of the node, if the guest may use all of them; otherwise empty.
        memory_mib: the initial memory.
        memory_backends: the ids of the memory backends, which QEMU uses as names in the stream; empty if QEMU has a
            default backend.
        vcpus: the initial number of vCPUs.
        cpu_shape: sockets, cores and threads; 0 means that QEMU decides.
        devices: the drivers of the devices, by their ids.
        parameters: those that must be the same on both ends, and that no other member describes.
        topology: the buses.
        addresses: the addresses of disks and NICs, by their uuids.
        is_running: whether the guest is to run after the migration.
        media: the media in the drives, by the names of their parameters.
        processors: the vCPUs that were added to `vcpus`.
        dimms: the DIMMs that were added to `memory_mib`. The size of a virtio-mem device is part of QEMU's stream.
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


class MigrationInfoVerbs(KvmSubject):
    """The verb of the capability MIGRATION that describes the machine of an instance."""

    def migration_info(self, name: str) -> MigrationInfo:
        handle = self._instances.require_managed(name)
        runtime = handle.load()
        with translate_errors(partial(MigrationError, name)), handle.connected() as monitor:
            described = describe_machine(runtime, monitor, read_media(monitor, runtime))
        return MigrationInfo(instance=name, hypervisor=self.name, data=to_plain(described))


def describe_machine(runtime: Runtime, monitor: QmpConnection, media: Mapping[str, str]) -> MachineDescription:
    """Describe the machine of a running instance.

    Args:
        runtime: the persisted state of the instance.
        monitor: its monitor.
        media: the media in its drives, by the names of their parameters.

    Raises:
        QmpError: QEMU does not answer.
    """
    instance = runtime.instance
    parameters = TABLE.fill(instance.parameters)
    children = monitor.execute(QomList(path=DEVICES_PATH))
    return MachineDescription(
        format=FORMAT,
        uuid=instance.uuid,
        qemu_version=runtime.qemu_version,
        machine_type=runtime.machine_type,
        accelerator=runtime.accelerator,
        cpu_model=runtime.cpu_model,
        node_flags=read_node_flags(runtime.accelerator, runtime.cpu_model),
        memory_mib=instance.memory_mib,
        memory_backends=backend_ids(parameters),
        vcpus=instance.vcpus,
        cpu_shape=(parameters["cpu_sockets"], parameters["cpu_cores"], parameters["cpu_threads"]),
        devices={
            child.name: child.type.removeprefix("child<").removesuffix(">")
            for child in children
            if child.type.startswith("child<")
        },
        parameters={name: parameters[name] for name in (*SAME_PARAMETERS, *CONSEQUENTIAL_PARAMETERS)},
        topology=runtime.topology,
        addresses={str(record.uuid): record.address for record in runtime.devices},
        is_running=monitor.execute(QueryStatus()).running,
        media=dict(media),
        processors=_read_processors(monitor) if parameters["vcpus_max"] else (),
        dimms=read_dimms(monitor.execute(QueryMemoryDevices())) if parameters["memory_max_mib"] else (),
    )


def _read_processors(monitor: QmpConnection) -> tuple[Processor, ...]:
    return ProcessorPlaces.from_reply(monitor.execute(QueryHotpluggableCpus())).plugged


def read_node_flags(accelerator: str, cpu_model: str) -> tuple[str, ...]:
    """Return the CPU flags of this node if a guest with this CPU model sees all of them; otherwise none."""
    if accelerator != "kvm" or cpu_model.partition(",")[0] not in _NODE_MODELS:
        return ()
    return tuple(sorted(read_processor_flags()))


def check_owner(info: MigrationInfo, instance: Instance, hypervisor: str) -> None:
    """Check that a description is of an instance, and made by the same hypervisor.

    Raises:
        MigrationError: it is not.
    """
    if (info.instance, info.hypervisor) != (instance.name, hypervisor):
        problem = f"the description is of instance {info.instance} of hypervisor {info.hypervisor!r}"
        raise MigrationError(instance.name, problem)


def parse_description(info: MigrationInfo, instance: Instance, hypervisor: str) -> MachineDescription:
    """Parse the description of an instance.

    Raises:
        MigrationError: it is not valid, has another format, or describes another instance.
    """
    check_owner(info, instance, hypervisor)
    format_version = info.data.get("format")
    if format_version != FORMAT:
        problem = f"the source describes machines in format {format_version}, this node in format {FORMAT}"
        raise MigrationError(instance.name, problem)
    try:
        description = from_plain(dict(info.data), MachineDescription)
    except ValueError as error:
        raise MigrationError(instance.name, f"the description of the source is not valid: {error}") from error
    if description.uuid != instance.uuid:
        problem = f"the description is of the instance with uuid {description.uuid}, not {instance.uuid}"
        raise MigrationError(instance.name, problem)
    return description
