# SPDX-License-Identifier: BSD-2-Clause
"""From an instance and its parameters to the machine that will run it.

A plan is made of typed pieces, not of an option's text: how it is written on a command line is the business of
`hvkit.hypervisor.kvm.command_line`. It says everything; two QEMUs given the same plan are the same machine.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.capabilities import Accelerator, Capabilities, MachineType
from hvkit.hypervisor.kvm.confinement import Confinement
from hvkit.hypervisor.kvm.devices import (
    DiskDevice,
    DiskSettings,
    NicDevice,
    TapFiles,
    build_disk,
    build_nic,
    io_thread_id,
)
from hvkit.hypervisor.kvm.display import Display, plan_display
from hvkit.hypervisor.kvm.drives import Drive, needs_scsi, plan_drives
from hvkit.hypervisor.kvm.firmware import Firmware, Flash, plan_flash
from hvkit.hypervisor.kvm.machine_devices import AGENT_ID, SERIAL_ID, TPM_ID, plan_machine_devices
from hvkit.hypervisor.kvm.parameters import (
    DISK_DRIVERS,
    NIC_DRIVERS,
    SCSI_CONTROLLERS,
    CpuSet,
    parse_cpu_mask,
    parse_extra,
)
from hvkit.hypervisor.kvm.topology import Address, BusKind, Chipset, Topology
from hvkit.hypervisor.model import Instance
from hvkit.qmp.schema import (
    DeviceAdd,
    IothreadProperties,
    MemoryBackendFileProperties,
    MonitorQMPProperties,
    ObjectOptions,
)

CONTROL_MONITOR_ID: Final = "control"
WATCH_MONITOR_ID: Final = "watch"
_MEMORY_ID: Final = "memory"

#: Stands for the variables of its firmware among a machine's files.
VARIABLES: Final = "variables"
_NO_FILES: Final[Mapping[str, Any]] = MappingProxyType({})

#: Where a unix socket listens: its path, or the number of a descriptor that QEMU inherits and that listens already.
Listener = str | int


@attrs.frozen(kw_only=True)
class MachineSockets:
    """The ends through which a machine is reached from outside.

    Attributes:
        control: the monitor of the hypervisor.
        watch: the monitor of whoever watches.
        serial: the serial console; None for an instance without one.
        serial_log: file that the console's output is appended to; empty for none.
        agent: the guest agent's port; None for an instance without one.
        tpm: descriptor of the end of its TPM; None for an instance without one.
        vsock: an open /dev/vhost-vsock; None for an instance without one.
        pid_file: file that QEMU writes its pid to; empty for none.
    """

    control: Listener
    watch: Listener
    serial: Listener | None = None
    serial_log: str = ""
    agent: Listener | None = None
    tpm: int | None = None
    vsock: int | None = None
    pid_file: str = ""


@attrs.frozen(kw_only=True)
class SocketChardev:
    """A character device on a unix socket.

    Attributes:
        id: its name.
        listener: where it listens, or the number of a descriptor that is connected.
        is_connected: whether it is connected, and does not listen.
        log_file: file that its output is appended to; empty for none.
    """

    id: str
    listener: Listener
    is_connected: bool = False
    log_file: str = ""


@attrs.frozen(kw_only=True)
class Monitor:
    """A QMP monitor.

    Attributes:
        chardev: where it is reached.
        qom: what makes it; None for a QEMU that has no such objects and makes it by an option of its own.
    """

    chardev: SocketChardev
    qom: ObjectOptions | None


@attrs.frozen(kw_only=True)
class FileSet:
    """Open files that QEMU inherits, and that it opens again as one file of the name that it has here.

    Attributes:
        number: of the set; no other has it.
        descriptors: one for each way in which it is opened.
        label: what it is, for people.
    """

    number: int
    descriptors: tuple[int, ...]
    label: str

    @property
    def filename(self) -> str:
        """The name by which QEMU opens it."""
        return f"/dev/fdset/{self.number}"


@attrs.frozen(kw_only=True)
class Placement:
    """Where the devices of a machine sit on another node, which this one has to be like.

    Attributes:
        topology: its buses.
        addresses: of its disks and NICs, by their uuids.
        was_running: whether its guest ran there, and is to run here.
    """

    topology: Topology
    addresses: Mapping[UUID, Address]
    was_running: bool


@attrs.frozen(kw_only=True)
class Processors:
    """The virtual processors.

    Attributes:
        count: how many there are.
        model: CPU model with features, as QEMU writes it.
        sockets: packages; 0: QEMU decides.
        cores: cores of a socket; 0: QEMU decides.
        threads: threads of a core; 0: QEMU decides.
        affinity: the host's processors that they may run on: one entry for the instance, or one for each of them.
    """

    count: int
    model: str
    sockets: int = 0
    cores: int = 0
    threads: int = 0
    affinity: tuple[CpuSet, ...] = (None,)


@attrs.frozen(kw_only=True)
class LinuxBoot:
    """A kernel that is loaded without the guest's own boot loader.

    Attributes:
        kernel: its file.
        initrd: file of the initial RAM disk; empty for none.
        arguments: its command line.
    """

    kernel: str
    initrd: str
    arguments: str


@attrs.frozen(kw_only=True)
class MachinePlan:
    """A machine, complete.

    Attributes:
        binary: the QEMU program.
        name: of the instance.
        uuid: of the instance.
        machine: its type, with the version. It is the instance's until it is started anew.
        accelerator: what runs the guest's instructions.
        processors: its virtual processors.
        memory_mib: its memory, in MiB.
        memory: what holds that memory; None for ordinary memory.
        has_acpi: whether the guest has ACPI.
        has_local_time: whether its clock starts with local time, not UTC.
        on_reboot: what QEMU does when the guest reboots. When the guest powers off, QEMU always stays, stopped, so that
            whoever looks later can tell that from a crash.
        linux: the kernel to boot; None for the guest's own boot loader.
        topology: its buses.
        monitors: the QMP monitors.
        chardevs: other character devices.
        firmware: UEFI firmware; None for QEMU's own BIOS.
        objects: what its devices need beside memory: IOThreads.
        devices: devices of the machine itself, each after those it needs.
        display: how it is looked at.
        drives: its CD and floppy drives.
        disks: in the order of the instance.
        nics: in the order of the instance.
        pid_file: file that QEMU writes its pid to; empty for none.
        confinement: what QEMU is confined to.
        file_sets: files that it inherits.
        is_incoming: whether its guest comes from another machine, and not from its disks.
        extra: words to add to the command line.
    """

    binary: str
    name: str
    uuid: UUID
    machine: MachineType
    accelerator: Accelerator
    processors: Processors
    memory_mib: int
    memory: ObjectOptions | None = None
    has_acpi: bool = True
    has_local_time: bool = False
    on_reboot: Literal["reset", "shutdown"] = "reset"
    linux: LinuxBoot | None = None
    topology: Topology
    monitors: tuple[Monitor, ...]
    chardevs: tuple[SocketChardev, ...] = ()
    firmware: Flash | None = None
    objects: tuple[ObjectOptions, ...] = ()
    devices: tuple[DeviceAdd, ...] = ()
    display: Display = attrs.field(factory=Display)
    drives: tuple[Drive, ...] = ()
    disks: tuple[DiskDevice, ...] = ()
    nics: tuple[NicDevice, ...] = ()
    pid_file: str = ""
    confinement: Confinement = attrs.field(factory=Confinement)
    file_sets: tuple[FileSet, ...] = ()
    is_incoming: bool = False
    extra: tuple[str, ...] = ()

    @property
    def used_addresses(self) -> frozenset[Address]:
        """The places that its disks and NICs take."""
        return frozenset([disk.address for disk in self.disks] + [nic.address for nic in self.nics])


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
        parameters: its parameters, filled and checked by `hvkit.hypervisor.kvm.parameters.TABLE`.
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
    drives = plan_drives(parameters, capabilities, topology, filenames, boots_itself=not parameters["kernel_path"])
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
    confinement = confinement or Confinement()
    display = plan_display(instance.name, parameters, capabilities, topology, opens_by_name=confinement.opens_by_name)
    chardevs = _plan_chardevs(parameters, sockets)
    return MachinePlan(
        binary=capabilities.binary,
        name=instance.name,
        uuid=instance.uuid,
        machine=machine,
        accelerator=accelerator,
        processors=_plan_processors(instance, parameters, capabilities, machine, accelerator),
        memory_mib=instance.memory_mib,
        memory=_plan_memory(instance, parameters),
        has_acpi=parameters["acpi"],
        has_local_time=parameters["use_localtime"],
        on_reboot="shutdown" if parameters["reboot_behavior"] == "exit" else "reset",
        linux=_plan_linux_boot(parameters),
        topology=topology,
        monitors=(
            _plan_monitor(CONTROL_MONITOR_ID, sockets.control, capabilities),
            _plan_monitor(WATCH_MONITOR_ID, sockets.watch, capabilities),
        ),
        chardevs=chardevs,
        firmware=None if firmware is None else plan_flash(firmware, filenames[VARIABLES]),
        objects=_plan_objects(parameters),
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


def _plan_objects(parameters: Mapping[str, Any]) -> tuple[ObjectOptions, ...]:
    return tuple(IothreadProperties(id=io_thread_id(number)) for number in range(parameters["io_threads"]))


def _plan_topology(instance: Instance, parameters: Mapping[str, Any], machine: MachineType) -> Topology:
    chipset = machine.chipset or Chipset.PC
    bus = DiskSettings.from_parameters(parameters).bus
    needs_scsi_controller = bus is BusKind.SCSI or needs_scsi(parameters)
    pci_devices = len(instance.nics) + (len(instance.disks) if bus is BusKind.PCI else 0)
    return Topology(
        chipset=chipset,
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
    boots_itself = not parameters["kernel_path"]
    used = set(taken)
    disks: list[DiskDevice] = []
    nics: list[NicDevice] = []
    # NICs first: a guest may call its interfaces by where they sit, and a disk more must not move them.
    if instance.nics:
        capabilities.check_device(NIC_DRIVERS.get(nic_type, nic_type), "nic_type", nic_type)
    for nic in instance.nics:
        boots = boots_itself and parameters["boot_order"] == "network" and not nics
        address = addresses.get(nic.uuid) or topology.allocate(BusKind.PCI, used)
        used.add(address)
        nics.append(
            build_nic(
                nic,
                nic_type,
                address,
                tap=taps.get(nic.uuid),
                boot_index=1 if boots else None,
            )
        )
    if instance.disks:
        capabilities.check_device(DISK_DRIVERS[settings.type], "disk_type", settings.type)
    for disk in instance.disks:
        boots = boots_itself and parameters["boot_order"] == "disk" and not disks
        address = addresses.get(disk.uuid) or topology.allocate(settings.bus, used)
        used.add(address)
        disks.append(
            build_disk(
                disk,
                settings,
                address,
                is_block_device=disk.uuid in block_devices,
                filename=disk_files[disk.uuid].filename if disk.uuid in disk_files else None,
                boot_index=1 if boots else None,
            )
        )
    return tuple(disks), tuple(nics)


def _plan_processors(
    instance: Instance,
    parameters: Mapping[str, Any],
    capabilities: Capabilities,
    machine: MachineType,
    accelerator: Accelerator,
) -> Processors:
    count = instance.vcpus
    if count > machine.cpu_max:
        raise ParameterError("vcpus", count, f"{machine.name} has {machine.cpu_max} processors at most, not {count}")
    shape = {name: parameters[name] for name in ("cpu_sockets", "cpu_cores", "cpu_threads")}
    product = 1
    for number in shape.values():
        product *= number or 1
    if product != count if all(shape.values()) else count % product:
        given = " x ".join(f"{name}={number}" for name, number in shape.items() if number)
        raise ParameterError("vcpus", count, f"{count} processors cannot be arranged as {given}")
    affinity = parse_cpu_mask(parameters["cpu_mask"])
    if len(affinity) not in (1, count):
        raise ParameterError(
            "cpu_mask", parameters["cpu_mask"], f"it is for {len(affinity)} processors and the instance has {count}"
        )
    return Processors(
        count=count,
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


def _plan_memory(instance: Instance, parameters: Mapping[str, Any]) -> ObjectOptions | None:
    if not parameters["mem_path"]:
        return None
    return MemoryBackendFileProperties(
        id=_MEMORY_ID,
        size=instance.memory_mib << 20,
        mem_path=parameters["mem_path"],
        # Taken at the start: a page that is missing later kills the guest.
        prealloc=True,
    )


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
