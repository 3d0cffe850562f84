# SPDX-License-Identifier: BSD-2-Clause
"""Planning: from a `MachineRequest` and host resources to a `MachinePlan`."""

from collections.abc import Mapping
from typing import Any

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.capabilities import Accelerator, Capabilities, MachineType
from hvkit.hypervisor.kvm.plan.devices import (
    DiskDevice,
    DiskSettings,
    NicDevice,
    build_disk,
    build_nic,
    io_thread_id,
)
from hvkit.hypervisor.kvm.plan.display import plan_display
from hvkit.hypervisor.kvm.plan.drives import needs_scsi, plan_drives
from hvkit.hypervisor.kvm.plan.firmware import plan_flash
from hvkit.hypervisor.kvm.plan.machine import (
    CONTROL_MONITOR_ID,
    SHARED_MONITOR_ID,
    WATCH_MONITOR_ID,
    LinuxBoot,
    MachinePlan,
    Monitor,
    Processors,
    SocketChardev,
)
from hvkit.hypervisor.kvm.plan.machine_devices import AGENT_ID, SERIAL_ID, TPM_ID, plan_machine_devices
from hvkit.hypervisor.kvm.plan.memory import plan_dimm_backend, plan_memory, plan_virtio_mem_backend
from hvkit.hypervisor.kvm.plan.parameters import (
    DISK_DRIVERS,
    NIC_DRIVERS,
    SCSI_CONTROLLERS,
    CpuSet,
    parse_cpu_mask,
    parse_extra,
    plan_boot_index,
)
from hvkit.hypervisor.kvm.plan.plugged import DIMM_SLOTS, has_memory_device
from hvkit.hypervisor.kvm.plan.request import MachineRequest
from hvkit.hypervisor.kvm.plan.resources import VARIABLES, HostResources, MachineSockets
from hvkit.hypervisor.kvm.plan.topology import FIRST_SLOT, Address, BusKind, Chipset, Topology
from hvkit.hypervisor.model import Instance
from hvkit.qmp.schema import (
    IothreadProperties,
    MonitorQMPProperties,
    ObjectOptions,
)


def plan_machine(request: MachineRequest, resources: HostResources) -> MachinePlan:
    """Plan the machine of an instance.

    Raises:
        ParameterError: parameters contradict the instance, each other or the QEMU program.
        ProgrammerError: `resources` lacks the tap of a NIC, or has a tap for a NIC without one.
    """
    instance, parameters, capabilities = request.instance, request.parameters, request.capabilities
    machine = capabilities.find_machine(parameters["machine_version"])
    topology = _plan_topology(request, machine)
    opens_by_name = resources.confinement.opens_by_name
    display = plan_display(instance.name, parameters, capabilities, topology, opens_by_name=opens_by_name)
    chardevs = _plan_chardevs(parameters, resources.sockets)
    drives = plan_drives(parameters, capabilities, topology, resources.filenames)
    used = {drive.address for drive in drives if drive.address is not None}
    # NICs first: guests name interfaces by their bus addresses, and an additional disk must not move a NIC.
    nics = _plan_nics(request, resources, topology, used)
    disks = _plan_disks(request, resources, topology, used)
    return MachinePlan(
        binary=capabilities.binary,
        name=instance.name,
        uuid=instance.uuid,
        machine=machine,
        accelerator=request.accelerator,
        processors=_plan_processors(request, machine),
        memory_mib=instance.memory_mib,
        memory=plan_memory(instance.memory_mib, plan_vcpus_max(instance, parameters), parameters),
        memory_max_mib=plan_memory_max(instance, parameters),
        memory_slots=DIMM_SLOTS if parameters["memory_max_mib"] and not has_memory_device(parameters) else 0,
        dimms=request.hot_added_dimms,
        dimm_backends=tuple(plan_dimm_backend(dimm, parameters) for dimm in request.hot_added_dimms),
        has_acpi=parameters["acpi"],
        has_local_time=parameters["use_localtime"],
        on_reboot="shutdown" if parameters["reboot_behavior"] == "exit" else "reset",
        linux=_plan_linux_boot(parameters),
        topology=topology,
        monitors=_plan_monitors(resources.sockets, capabilities),
        chardevs=chardevs,
        firmware=None if request.firmware is None else plan_flash(request.firmware, resources.filenames[VARIABLES]),
        objects=_plan_objects(instance, parameters),
        io_thread_affinity=_plan_io_thread_affinity(parameters),
        devices=plan_machine_devices(request, topology, display, {chardev.id for chardev in chardevs}, resources),
        display=display,
        drives=drives,
        disks=disks,
        nics=nics,
        pid_file=resources.sockets.pid_file,
        confinement=resources.confinement,
        file_sets=resources.file_sets,
        is_incoming=request.placement is not None,
        extra=parse_extra(parameters["kvm_extra"]),
    )


def _plan_objects(instance: Instance, parameters: Mapping[str, Any]) -> tuple[ObjectOptions, ...]:
    objects: list[ObjectOptions] = [
        IothreadProperties(id=io_thread_id(number)) for number in range(parameters["io_threads"])
    ]
    if has_memory_device(parameters):
        size_mib = plan_memory_max(instance, parameters) - instance.memory_mib
        objects.append(plan_virtio_mem_backend(size_mib, parameters))
    return tuple(objects)


def plan_memory_max(instance: Instance, parameters: Mapping[str, Any]) -> int:
    """Return the largest amount of memory of an instance while it runs, in MiB.

    Raises:
        ParameterError: `memory_max_mib` is not larger than the memory at boot.
    """
    most: int = parameters["memory_max_mib"]
    if not most:
        return instance.memory_mib
    if most <= instance.memory_mib:
        problem = f"expected more than the {instance.memory_mib} MiB at boot, got {most}"
        raise ParameterError("memory_max_mib", most, problem)
    return most


def plan_vcpus_max(instance: Instance, parameters: Mapping[str, Any]) -> int:
    """Return the largest number of vCPUs of an instance while it runs.

    Raises:
        ParameterError: `vcpus_max` is smaller than the number of vCPUs at boot.
    """
    most: int = parameters["vcpus_max"] or instance.vcpus
    if most < instance.vcpus:
        raise ParameterError("vcpus_max", most, f"expected at least the {instance.vcpus} vCPUs at boot, got {most}")
    return most


def _plan_io_thread_affinity(parameters: Mapping[str, Any]) -> tuple[CpuSet, ...]:
    mask: str = parameters["io_thread_mask"]
    count: int = parameters["io_threads"]
    affinity = parse_cpu_mask(mask, "io_thread_mask")
    if affinity == (None,):
        return affinity * count
    if not count or len(affinity) not in (1, count):
        raise ParameterError(
            "io_thread_mask", mask, f"names {len(affinity)} IOThreads and the instance has {count} (io_threads)"
        )
    return affinity if len(affinity) == count else affinity * count


def _plan_topology(request: MachineRequest, machine: MachineType) -> Topology:
    if request.placement is not None:
        return request.placement.topology
    instance, parameters = request.instance, request.parameters
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


def _plan_nics(
    request: MachineRequest, resources: HostResources, topology: Topology, used: set[Address]
) -> tuple[NicDevice, ...]:
    """Plan the NICs, and add their addresses to those in use."""
    nic_type = request.parameters["nic_type"]
    nics: list[NicDevice] = []
    if request.instance.nics:
        request.capabilities.check_device(NIC_DRIVERS.get(nic_type, nic_type), "nic_type", nic_type)
    for nic in request.instance.nics:
        address = request.addresses.get(nic.uuid) or topology.allocate(BusKind.PCI, used)
        used.add(address)
        nics.append(
            build_nic(
                nic,
                nic_type,
                address,
                tap=resources.taps.get(nic.uuid),
                boot_index=None if nics else plan_boot_index("network", request.parameters),
            )
        )
    return tuple(nics)


def _plan_disks(
    request: MachineRequest, resources: HostResources, topology: Topology, used: set[Address]
) -> tuple[DiskDevice, ...]:
    """Plan the disks, and add their addresses to those in use."""
    settings = DiskSettings.from_parameters(request.parameters)
    disks: list[DiskDevice] = []
    if request.instance.disks:
        request.capabilities.check_device(DISK_DRIVERS[settings.type], "disk_type", settings.type)
    for disk in request.instance.disks:
        address = request.addresses.get(disk.uuid) or topology.allocate(settings.bus, used)
        used.add(address)
        file_set = resources.disk_files.get(disk.uuid)
        disks.append(
            build_disk(
                disk,
                settings,
                address,
                is_block_device=disk.uuid in request.block_devices,
                filename=None if file_set is None else file_set.filename,
                boot_index=None if disks else plan_boot_index("disk", request.parameters),
            )
        )
    return tuple(disks)


def _plan_processors(request: MachineRequest, machine: MachineType) -> Processors:
    parameters = request.parameters
    count = plan_vcpus_max(request.instance, parameters)
    name = "vcpus_max" if parameters["vcpus_max"] else "vcpus"
    if count > machine.cpu_max:
        raise ParameterError(name, count, f"{machine.name} has at most {machine.cpu_max} vCPUs, not {count}")
    shape = {name: parameters[name] for name in ("cpu_sockets", "cpu_cores", "cpu_threads")}
    product = 1
    for number in shape.values():
        product *= number or 1
    if product != count if all(shape.values()) else count % product:
        given = " x ".join(f"{name}={number}" for name, number in shape.items() if number)
        raise ParameterError(name, count, f"{count} vCPUs cannot be arranged as {given}")
    affinity = parse_cpu_mask(parameters["cpu_mask"])
    if len(affinity) not in (1, count):
        problem = f"names {len(affinity)} vCPUs and the instance has {count}"
        raise ParameterError("cpu_mask", parameters["cpu_mask"], problem)
    return Processors(
        count=request.instance.vcpus,
        maximum=count,
        plugged=request.hot_added_processors,
        model=_plan_cpu_model(parameters["cpu_type"], request.capabilities, request.accelerator),
        sockets=shape["cpu_sockets"],
        cores=shape["cpu_cores"],
        threads=shape["cpu_threads"],
        affinity=affinity,
    )


def _plan_cpu_model(cpu_type: str, capabilities: Capabilities, accelerator: Accelerator) -> str:
    """Return the CPU model with features, as QEMU writes it, for a value of `cpu_type`.

    Raises:
        ParameterError: the program does not have the model.
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


def _plan_monitors(sockets: MachineSockets, capabilities: Capabilities) -> tuple[Monitor, ...]:
    monitors = []
    listeners = {
        CONTROL_MONITOR_ID: sockets.control,
        SHARED_MONITOR_ID: sockets.shared,
        WATCH_MONITOR_ID: sockets.watch,
    }
    for monitor_id, listener in listeners.items():
        qom = None
        if "monitor-qmp" in capabilities.objects:  # since QEMU 11.1, which warns about the option -mon
            qom = MonitorQMPProperties(id=f"{monitor_id}-monitor", chardev=monitor_id)
        monitors.append(Monitor(chardev=SocketChardev(id=monitor_id, listener=listener), qom=qom))
    return tuple(monitors)


def _plan_chardevs(parameters: Mapping[str, Any], sockets: MachineSockets) -> tuple[SocketChardev, ...]:
    chardevs = []
    if parameters["serial_console"] and sockets.serial is not None:
        chardevs.append(SocketChardev(id=SERIAL_ID, listener=sockets.serial, log_file=sockets.serial_log))
    if parameters["use_guest_agent"] and sockets.agent is not None:
        chardevs.append(SocketChardev(id=AGENT_ID, listener=sockets.agent))
    if parameters["tpm"] and sockets.tpm is not None:
        chardevs.append(SocketChardev(id=TPM_ID, listener=sockets.tpm, is_connected=True))
    return tuple(chardevs)
