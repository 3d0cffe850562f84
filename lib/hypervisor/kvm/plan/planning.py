# SPDX-License-Identifier: BSD-2-Clause
"""From an instance and its parameters to the plan of the machine that will run it."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.capabilities import Accelerator, Capabilities, MachineType
from hvkit.hypervisor.kvm.plan.confinement import Confinement
from hvkit.hypervisor.kvm.plan.devices import (
    DiskDevice,
    DiskSettings,
    NicDevice,
    TapFiles,
    build_disk,
    build_nic,
    io_thread_id,
)
from hvkit.hypervisor.kvm.plan.display import plan_display
from hvkit.hypervisor.kvm.plan.drives import needs_scsi, plan_drives
from hvkit.hypervisor.kvm.plan.firmware import Firmware, plan_flash
from hvkit.hypervisor.kvm.plan.machine import (
    CONTROL_MONITOR_ID,
    SHARED_MONITOR_ID,
    VARIABLES,
    WATCH_MONITOR_ID,
    FileSet,
    LinuxBoot,
    Listener,
    MachinePlan,
    MachineSockets,
    Monitor,
    Placement,
    Processors,
    SocketChardev,
)
from hvkit.hypervisor.kvm.plan.machine_devices import AGENT_ID, SERIAL_ID, TPM_ID, plan_machine_devices
from hvkit.hypervisor.kvm.plan.memory import plan_dimm_backend, plan_memory, plan_reserve
from hvkit.hypervisor.kvm.plan.parameters import (
    DISK_DRIVERS,
    NIC_DRIVERS,
    SCSI_CONTROLLERS,
    CpuSet,
    parse_cpu_mask,
    parse_extra,
    plan_boot_index,
)
from hvkit.hypervisor.kvm.plan.plugged import DIMM_SLOTS, Processor, has_memory_device
from hvkit.hypervisor.kvm.plan.topology import FIRST_SLOT, Address, BusKind, Chipset, Topology
from hvkit.hypervisor.model import Instance
from hvkit.qmp.schema import (
    IothreadProperties,
    MonitorQMPProperties,
    ObjectOptions,
)

_NO_FILES: Final[Mapping[str, Any]] = MappingProxyType({})


def plan_machine(
    instance: Instance,
    parameters: Mapping[str, Any],
    capabilities: Capabilities,
    accelerator: Accelerator,
    sockets: MachineSockets,
    taps: Mapping[UUID, TapFiles] | None = None,
    *,
    block_devices: Collection[UUID] = (),
    disk_files: Mapping[UUID, FileSet] | None = None,
    firmware: Firmware | None = None,
    files: Mapping[str, str | FileSet] = _NO_FILES,
    confinement: Confinement | None = None,
    placement: Placement | None = None,
) -> MachinePlan:
    """Plan the machine of an instance.

    Args:
        instance: what its owner wants.
        parameters: its parameters, filled and checked by `hvkit.hypervisor.kvm.plan.parameters.TABLE`.
        capabilities: of the program that will run it.
        accelerator: what will run it.
        sockets: where it will be reached.
        taps: for each NIC that has a tap, by its uuid, the open files of that, which QEMU is to inherit.
        block_devices: uuids of the disks whose path is a block device and not a file.
        disk_files: for each disk that QEMU is given open, by its uuid, its open files.
        firmware: UEFI firmware that was found for it; None for QEMU's own BIOS.
        files: the file of the firmware's variables (`VARIABLES`), and the images of drives by their ids, by name or
            open. An image that is not here is opened by its own name.
        confinement: what QEMU is confined to; None for nothing.
        placement: where devices have to sit, for a machine that comes from another node; None for a new machine.

    Raises:
        ParameterError: parameters do not go together with the instance, with each other or with the program.
        ProgrammerError: a tap is missing, or there is one that nobody asked for.
    """
    machine = capabilities.find_machine(parameters["machine_version"])
    topology = _plan_topology(instance, parameters, machine) if placement is None else placement.topology
    addresses = {} if placement is None else placement.addresses
    filenames = {name: file.filename if isinstance(file, FileSet) else file for name, file in files.items()}
    drives = plan_drives(parameters, capabilities, topology, filenames)
    disks, nics = _plan_disks_and_nics(
        instance,
        parameters,
        capabilities,
        topology,
        addresses,
        taps or {},
        block_devices,
        disk_files or {},
        [drive.address for drive in drives if drive.address is not None],
    )
    dimms = () if placement is None else placement.dimms
    confinement = confinement or Confinement()
    display = plan_display(instance.name, parameters, capabilities, topology, opens_by_name=confinement.opens_by_name)
    chardevs = _plan_chardevs(parameters, sockets)
    return MachinePlan(
        binary=capabilities.binary,
        name=instance.name,
        uuid=instance.uuid,
        machine=machine,
        accelerator=accelerator,
        processors=_plan_processors(
            instance, parameters, capabilities, machine, accelerator, () if placement is None else placement.processors
        ),
        memory_mib=instance.memory_mib,
        memory=plan_memory(instance.memory_mib, plan_vcpus_max(instance, parameters), parameters),
        memory_max_mib=plan_memory_max(instance, parameters),
        memory_slots=DIMM_SLOTS if parameters["memory_max_mib"] and not has_memory_device(parameters) else 0,
        dimms=dimms,
        dimm_backends=tuple(plan_dimm_backend(dimm, parameters) for dimm in dimms),
        has_acpi=parameters["acpi"],
        has_local_time=parameters["use_localtime"],
        on_reboot="shutdown" if parameters["reboot_behavior"] == "exit" else "reset",
        linux=_plan_linux_boot(parameters),
        topology=topology,
        monitors=(
            _plan_monitor(CONTROL_MONITOR_ID, sockets.control, capabilities),
            _plan_monitor(SHARED_MONITOR_ID, sockets.shared, capabilities),
            _plan_monitor(WATCH_MONITOR_ID, sockets.watch, capabilities),
        ),
        chardevs=chardevs,
        firmware=None if firmware is None else plan_flash(firmware, filenames[VARIABLES]),
        objects=_plan_objects(instance, parameters),
        io_thread_affinity=_plan_io_thread_affinity(parameters),
        devices=plan_machine_devices(
            parameters,
            capabilities,
            topology,
            {chardev.id for chardev in chardevs},
            display=display,
            vsock=sockets.vsock,
        ),
        display=display,
        drives=drives,
        disks=disks,
        nics=nics,
        pid_file=sockets.pid_file,
        confinement=confinement,
        file_sets=(*(disk_files or {}).values(), *(each for each in files.values() if isinstance(each, FileSet))),
        is_incoming=placement is not None,
        extra=parse_extra(parameters["kvm_extra"]),
    )


def _plan_objects(instance: Instance, parameters: Mapping[str, Any]) -> tuple[ObjectOptions, ...]:
    objects: list[ObjectOptions] = [
        IothreadProperties(id=io_thread_id(number)) for number in range(parameters["io_threads"])
    ]
    if has_memory_device(parameters):
        size_mib = plan_memory_max(instance, parameters) - instance.memory_mib
        objects.append(plan_reserve(size_mib, parameters))
    return tuple(objects)


def plan_memory_max(instance: Instance, parameters: Mapping[str, Any]) -> int:
    """Return how much memory an instance can have while it runs, in MiB.

    Raises:
        ParameterError: that is no more than it starts with.
    """
    most: int = parameters["memory_max_mib"]
    if not most:
        return instance.memory_mib
    if most <= instance.memory_mib:
        problem = f"it starts with {instance.memory_mib} MiB, and this is no more"
        raise ParameterError("memory_max_mib", most, problem)
    return most


def plan_vcpus_max(instance: Instance, parameters: Mapping[str, Any]) -> int:
    """Return how many processors an instance can have while it runs.

    Raises:
        ParameterError: those are fewer than it starts with.
    """
    most: int = parameters["vcpus_max"] or instance.vcpus
    if most < instance.vcpus:
        raise ParameterError("vcpus_max", most, f"it starts with {instance.vcpus}, and this is less")
    return most


def _plan_io_thread_affinity(parameters: Mapping[str, Any]) -> tuple[CpuSet, ...]:
    mask: str = parameters["io_thread_mask"]
    count: int = parameters["io_threads"]
    affinity = parse_cpu_mask(mask, "io_thread_mask")
    if affinity == (None,):
        return affinity * count
    if not count or len(affinity) not in (1, count):
        raise ParameterError(
            "io_thread_mask", mask, f"it is for {len(affinity)} IOThreads and the instance has {count} (io_threads)"
        )
    return affinity if len(affinity) == count else affinity * count


def _plan_topology(instance: Instance, parameters: Mapping[str, Any], machine: MachineType) -> Topology:
    chipset = machine.chipset or Chipset.PC
    bus = DiskSettings.from_parameters(parameters).bus
    needs_scsi_controller = bus is BusKind.SCSI or needs_scsi(parameters)
    pci_devices = len(instance.nics) + (len(instance.disks) if bus is BusKind.PCI else 0)
    return Topology(
        chipset=chipset,
        first_slot=max(FIRST_SLOT, parameters["kvm_pci_reservations"]),
        port_count=pci_devices + parameters["hotplug_ports"] if chipset is Chipset.Q35 else 0,
        scsi_targets=SCSI_CONTROLLERS[parameters["scsi_controller_type"]][1] if needs_scsi_controller else 0,
    )


def _plan_disks_and_nics(
    instance: Instance,
    parameters: Mapping[str, Any],
    capabilities: Capabilities,
    topology: Topology,
    addresses: Mapping[UUID, Address],
    taps: Mapping[UUID, TapFiles],
    block_devices: Collection[UUID],
    disk_files: Mapping[UUID, FileSet],
    taken: Collection[Address],
) -> tuple[tuple[DiskDevice, ...], tuple[NicDevice, ...]]:
    settings = DiskSettings.from_parameters(parameters)
    nic_type = parameters["nic_type"]
    used = set(taken)
    disks: list[DiskDevice] = []
    nics: list[NicDevice] = []
    # NICs first: a guest may call its interfaces by where they sit, and a disk more must not move them.
    if instance.nics:
        capabilities.check_device(NIC_DRIVERS.get(nic_type, nic_type), "nic_type", nic_type)
    for nic in instance.nics:
        address = addresses.get(nic.uuid) or topology.allocate(BusKind.PCI, used)
        used.add(address)
        nics.append(
            build_nic(
                nic,
                nic_type,
                address,
                tap=taps.get(nic.uuid),
                boot_index=None if nics else plan_boot_index("network", parameters),
            )
        )
    if instance.disks:
        capabilities.check_device(DISK_DRIVERS[settings.type], "disk_type", settings.type)
    for disk in instance.disks:
        address = addresses.get(disk.uuid) or topology.allocate(settings.bus, used)
        used.add(address)
        disks.append(
            build_disk(
                disk,
                settings,
                address,
                is_block_device=disk.uuid in block_devices,
                filename=disk_files[disk.uuid].filename if disk.uuid in disk_files else None,
                boot_index=None if disks else plan_boot_index("disk", parameters),
            )
        )
    return tuple(disks), tuple(nics)


def _plan_processors(
    instance: Instance,
    parameters: Mapping[str, Any],
    capabilities: Capabilities,
    machine: MachineType,
    accelerator: Accelerator,
    plugged: tuple[Processor, ...],
) -> Processors:
    count = plan_vcpus_max(instance, parameters)
    name = "vcpus_max" if parameters["vcpus_max"] else "vcpus"
    if count > machine.cpu_max:
        raise ParameterError(name, count, f"{machine.name} has {machine.cpu_max} processors at most, not {count}")
    shape = {name: parameters[name] for name in ("cpu_sockets", "cpu_cores", "cpu_threads")}
    product = 1
    for number in shape.values():
        product *= number or 1
    if product != count if all(shape.values()) else count % product:
        given = " x ".join(f"{name}={number}" for name, number in shape.items() if number)
        raise ParameterError(name, count, f"{count} processors cannot be arranged as {given}")
    affinity = parse_cpu_mask(parameters["cpu_mask"])
    if len(affinity) not in (1, count):
        raise ParameterError(
            "cpu_mask", parameters["cpu_mask"], f"it is for {len(affinity)} processors and the instance has {count}"
        )
    return Processors(
        count=instance.vcpus,
        maximum=count,
        plugged=plugged,
        model=plan_cpu_model(parameters["cpu_type"], capabilities, accelerator),
        sockets=shape["cpu_sockets"],
        cores=shape["cpu_cores"],
        threads=shape["cpu_threads"],
        affinity=affinity,
    )


def plan_cpu_model(cpu_type: str, capabilities: Capabilities, accelerator: Accelerator) -> str:
    """Return the CPU model, with features as QEMU writes them, that a value of `cpu_type` means.

    Raises:
        ParameterError: the program has no such model.
    """
    base, comma, features = (cpu_type or "host").partition(",")
    if base == "host":
        base = accelerator.best_cpu
    capabilities.check_cpu_model(base)
    return f"{base}{comma}{features}"


def _plan_linux_boot(parameters: Mapping[str, Any]) -> LinuxBoot | None:
    if not parameters["kernel_path"]:
        return None
    arguments = [f"root={parameters['root_path']}"] if parameters["root_path"] else []
    if parameters["kernel_args"]:
        arguments.append(parameters["kernel_args"])
    if parameters["serial_console"]:
        arguments.append(f"console=ttyS0,{parameters['serial_speed']}")
    return LinuxBoot(kernel=parameters["kernel_path"], initrd=parameters["initrd_path"], arguments=" ".join(arguments))


def _plan_monitor(monitor_id: str, listener: Listener, capabilities: Capabilities) -> Monitor:
    chardev = SocketChardev(id=monitor_id, listener=listener)
    qom = None
    if "monitor-qmp" in capabilities.objects:  # 11.1, which warns of the option for it
        qom = MonitorQMPProperties(id=f"{monitor_id}-monitor", chardev=chardev.id)
    return Monitor(chardev=chardev, qom=qom)


def _plan_chardevs(parameters: Mapping[str, Any], sockets: MachineSockets) -> tuple[SocketChardev, ...]:
    chardevs = []
    if parameters["serial_console"] and sockets.serial is not None:
        chardevs.append(SocketChardev(id=SERIAL_ID, listener=sockets.serial, log_file=sockets.serial_log))
    if parameters["use_guest_agent"] and sockets.agent is not None:
        chardevs.append(SocketChardev(id=AGENT_ID, listener=sockets.agent))
    if parameters["tpm"] and sockets.tpm is not None:
        chardevs.append(SocketChardev(id=TPM_ID, listener=sockets.tpm, is_connected=True))
    return tuple(chardevs)
