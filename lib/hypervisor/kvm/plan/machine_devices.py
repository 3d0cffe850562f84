# SPDX-License-Identifier: BSD-2-Clause
"""The devices of a machine that are neither disks nor NICs."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from hvkit.hypervisor.kvm.plan.capabilities import Capabilities
from hvkit.hypervisor.kvm.plan.devices import check_has_io_threads, io_thread_id
from hvkit.hypervisor.kvm.plan.display import Display
from hvkit.hypervisor.kvm.plan.memory import is_taken
from hvkit.hypervisor.kvm.plan.parameters import DISPLAY_DRIVERS, SCSI_CONTROLLERS
from hvkit.hypervisor.kvm.plan.plugged import MEMORY_DEVICE_BACKEND, MEMORY_DEVICE_ID, has_memory_device
from hvkit.hypervisor.kvm.plan.topology import SCSI_CONTROLLER_ID, FixedSlot, Topology
from hvkit.qmp.schema import DeviceAdd

BALLOON_ID: Final = "balloon"
SERIAL_ID: Final = "serial0"
AGENT_ID: Final = "agent"
#: Of the TPM's character device and of its backend.
TPM_ID: Final = "tpm"
#: Of the character device that leads to an agent for SPICE.
VDAGENT_ID: Final = "vdagent"
_AGENT_BUS_ID: Final = "virtserial0"
_RNG_DRIVER: Final = "virtio-rng-pci"
#: Where a guest says that it panicked. It takes no slot.
_PANIC_DRIVER: Final = "pvpanic"
_TPM_DRIVER: Final = "tpm-crb"
_VSOCK_DRIVER: Final = "vhost-vsock-pci"
_MEMORY_DRIVER: Final = "virtio-mem-pci"


def plan_machine_devices(
    parameters: Mapping[str, Any],
    capabilities: Capabilities,
    topology: Topology,
    chardevs: Collection[str],
    *,
    display: Display,
    vsock: int | None = None,
) -> tuple[DeviceAdd, ...]:
    """Plan the devices that are the machine's own, each after those it needs.

    Args:
        parameters: of the instance, filled and checked.
        capabilities: of the program.
        topology: of the machine.
        chardevs: ids of the character devices that there are.
        display: how the machine is looked at.
        vsock: an open /dev/vhost-vsock that QEMU inherits, if the instance has a vsock.

    Raises:
        ParameterError: the program lacks a device.
    """
    root_bus = topology.root_bus

    def at(slot: FixedSlot, driver: str, device_id: str) -> DeviceAdd:
        return DeviceAdd(driver=driver, id=device_id, bus=root_bus, properties=topology.fixed(slot).properties)

    devices = [
        DeviceAdd(driver="pcie-root-port", id=port.id, bus=root_bus, properties=port.properties)
        for port in topology.root_ports
    ]
    vga = parameters["vga"] or display.default_vga
    if vga in DISPLAY_DRIVERS:
        capabilities.check_device(DISPLAY_DRIVERS[vga], "vga", vga)
        devices.append(at(FixedSlot.DISPLAY, DISPLAY_DRIVERS[vga], "display"))
    devices += _plan_memory_devices(at(FixedSlot.BALLOON, "virtio-balloon-pci", BALLOON_ID), parameters, capabilities)
    if parameters["virtio_rng"]:
        capabilities.check_device(_RNG_DRIVER, "virtio_rng", "enabled")
        devices.append(at(FixedSlot.RNG, _RNG_DRIVER, "rng"))
    if parameters["vsock_cid"]:
        capabilities.check_device(_VSOCK_DRIVER, "vsock_cid", str(parameters["vsock_cid"]))
        device = at(FixedSlot.VSOCK, _VSOCK_DRIVER, "vsock")
        own = {"guest-cid": parameters["vsock_cid"], "vhostfd": str(vsock)}
        devices.append(device.evolve(properties={**device.properties, **own}))
    if topology.scsi_targets:
        controller = parameters["scsi_controller_type"]
        driver = SCSI_CONTROLLERS[controller][0]
        capabilities.check_device(driver, "scsi_controller_type", controller)
        device = at(FixedSlot.SCSI, driver, SCSI_CONTROLLER_ID)
        if parameters["io_threads"]:
            check_has_io_threads(driver, "scsi_controller_type", controller)
            device = device.evolve(properties={**device.properties, "iothread": io_thread_id(0)})
        devices.append(device)
    if _PANIC_DRIVER in capabilities.devices:
        devices.append(DeviceAdd(driver=_PANIC_DRIVER, id="panic"))
    if SERIAL_ID in chardevs:
        devices.append(DeviceAdd(driver="isa-serial", id="console", properties={"chardev": SERIAL_ID}))
    has_vdagent = bool(display.spice) and parameters["spice_use_vdagent"]
    if AGENT_ID in chardevs or has_vdagent:
        devices.append(at(FixedSlot.SERIAL, "virtio-serial-pci", _AGENT_BUS_ID))
    if AGENT_ID in chardevs:
        devices.append(
            DeviceAdd(
                driver="virtserialport",
                # Without an id QEMU never tells that the agent opened its end.
                id="agent-port",
                bus=f"{_AGENT_BUS_ID}.0",
                properties={"chardev": AGENT_ID, "name": "org.qemu.guest_agent.0"},
            )
        )
    if has_vdagent:
        devices.append(
            DeviceAdd(
                driver="virtserialport",
                id="vdagent-port",
                bus=f"{_AGENT_BUS_ID}.0",
                properties={"chardev": VDAGENT_ID, "name": "com.redhat.spice.0"},
            )
        )
    devices += display.devices
    if TPM_ID in chardevs:
        capabilities.check_device(_TPM_DRIVER, "tpm", "enabled")
        devices.append(DeviceAdd(driver=_TPM_DRIVER, id="tpm-device", properties={"tpmdev": TPM_ID}))
    return tuple(devices)


def _plan_memory_devices(
    balloon: DeviceAdd, parameters: Mapping[str, Any], capabilities: Capabilities
) -> Iterator[DeviceAdd]:
    """Plan the balloon, and beside it, as another function of its slot, what gives the guest more memory."""
    if not has_memory_device(parameters):
        yield balloon
        return
    capabilities.check_device(_MEMORY_DRIVER, "memory_hotplug", "virtio-mem")
    yield balloon.evolve(properties={**balloon.properties, "multifunction": True})
    own: dict[str, Any] = {"memdev": MEMORY_DEVICE_BACKEND, "addr": f"{balloon.properties['addr']}.1"}
    if is_taken(parameters):
        own["prealloc"] = True
    yield DeviceAdd(driver=_MEMORY_DRIVER, id=MEMORY_DEVICE_ID, bus=balloon.bus, properties=own)
