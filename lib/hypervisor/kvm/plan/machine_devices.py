# SPDX-License-Identifier: BSD-2-Clause
"""The built-in devices of a machine: everything but disks, NICs, CD and floppy drives."""

from collections.abc import Collection, Iterator
from typing import Any, Final

import attrs

from hvkit.hypervisor.kvm.plan.devices import check_has_io_threads, io_thread_id
from hvkit.hypervisor.kvm.plan.display import Display
from hvkit.hypervisor.kvm.plan.memory import is_preallocated
from hvkit.hypervisor.kvm.plan.parameters import DISPLAY_DRIVERS, SCSI_CONTROLLERS
from hvkit.hypervisor.kvm.plan.plugged import MEMORY_DEVICE_BACKEND, MEMORY_DEVICE_ID, has_memory_device
from hvkit.hypervisor.kvm.plan.request import MachineRequest
from hvkit.hypervisor.kvm.plan.resources import HostResources
from hvkit.hypervisor.kvm.plan.topology import SCSI_CONTROLLER_ID, FixedSlot, Topology
from hvkit.qmp.schema import DeviceAdd

BALLOON_ID: Final = "balloon"
SERIAL_ID: Final = "serial0"
AGENT_ID: Final = "agent"
#: The id of the chardev and of the backend of the TPM.
TPM_ID: Final = "tpm"
#: The id of the chardev of the SPICE agent.
VDAGENT_ID: Final = "vdagent"
_SERIAL_BUS_ID: Final = "virtserial0"
_RNG_DRIVER: Final = "virtio-rng-pci"
#: The device through which a guest reports a panic. It takes no slot.
_PANIC_DRIVER: Final = "pvpanic"
_TPM_DRIVER: Final = "tpm-crb"
_VSOCK_DRIVER: Final = "vhost-vsock-pci"
_MEMORY_DRIVER: Final = "virtio-mem-pci"


def plan_machine_devices(
    request: MachineRequest,
    topology: Topology,
    display: Display,
    chardevs: Collection[str],
    resources: HostResources,
) -> tuple[DeviceAdd, ...]:
    """Plan the built-in devices, each after the devices that it refers to.

    Args:
        request: the input of planning.
        topology: the buses of the machine.
        display: VNC, SPICE, USB and sound.
        chardevs: the ids of the character devices.
        resources: the host resources.

    Raises:
        ParameterError: the program lacks a device.
    """
    planner = _Planner(request, topology)
    return (
        *planner.plan_root_ports(),
        *planner.plan_display_adapter(display),
        *planner.plan_balloon_and_memory(),
        *planner.plan_virtio_rng(),
        *planner.plan_vsock(resources.sockets.vsock),
        *planner.plan_scsi_controller(),
        *planner.plan_panic_device(),
        *planner.plan_ports(chardevs, has_vdagent=bool(display.spice) and request.parameters["spice_use_vdagent"]),
        *display.devices,
        *planner.plan_tpm(chardevs),
    )


@attrs.frozen
class _Planner:
    request: MachineRequest
    topology: Topology

    def _at(self, slot: FixedSlot, driver: str, device_id: str, **properties: Any) -> DeviceAdd:
        """Describe a device in a slot of its own on the root bus."""
        place = self.topology.fixed(slot)
        return DeviceAdd(driver=driver, id=device_id, bus=place.bus, properties={**place.properties, **properties})

    def plan_root_ports(self) -> Iterator[DeviceAdd]:
        for port in self.topology.root_ports:
            yield DeviceAdd(driver="pcie-root-port", id=port.id, bus=self.topology.root_bus, properties=port.properties)

    def plan_display_adapter(self, display: Display) -> Iterator[DeviceAdd]:
        vga = self.request.parameters["vga"] or display.default_vga
        if vga in DISPLAY_DRIVERS:
            self.request.capabilities.check_device(DISPLAY_DRIVERS[vga], "vga", vga)
            yield self._at(FixedSlot.DISPLAY, DISPLAY_DRIVERS[vga], "display")

    def plan_balloon_and_memory(self) -> Iterator[DeviceAdd]:
        """Plan the balloon and, as another function of its slot, the virtio-mem device."""
        parameters = self.request.parameters
        balloon = self._at(FixedSlot.BALLOON, "virtio-balloon-pci", BALLOON_ID)
        if not has_memory_device(parameters):
            yield balloon
            return
        self.request.capabilities.check_device(_MEMORY_DRIVER, "memory_hotplug", "virtio-mem")
        yield balloon.evolve(properties={**balloon.properties, "multifunction": True})
        own: dict[str, Any] = {"memdev": MEMORY_DEVICE_BACKEND, "addr": f"{balloon.properties['addr']}.1"}
        if is_preallocated(parameters):
            own["prealloc"] = True
        yield DeviceAdd(driver=_MEMORY_DRIVER, id=MEMORY_DEVICE_ID, bus=balloon.bus, properties=own)

    def plan_virtio_rng(self) -> Iterator[DeviceAdd]:
        if self.request.parameters["virtio_rng"]:
            self.request.capabilities.check_device(_RNG_DRIVER, "virtio_rng", "enabled")
            yield self._at(FixedSlot.RNG, _RNG_DRIVER, "rng")

    def plan_vsock(self, descriptor: int | None) -> Iterator[DeviceAdd]:
        cid = self.request.parameters["vsock_cid"]
        if cid:
            self.request.capabilities.check_device(_VSOCK_DRIVER, "vsock_cid", str(cid))
            own = {"guest-cid": cid, "vhostfd": str(descriptor)}
            yield self._at(FixedSlot.VSOCK, _VSOCK_DRIVER, "vsock", **own)

    def plan_scsi_controller(self) -> Iterator[DeviceAdd]:
        if not self.topology.scsi_targets:
            return
        controller = self.request.parameters["scsi_controller_type"]
        driver = SCSI_CONTROLLERS[controller][0]
        self.request.capabilities.check_device(driver, "scsi_controller_type", controller)
        own = {}
        if self.request.parameters["io_threads"]:
            check_has_io_threads(driver, "scsi_controller_type", controller)
            own["iothread"] = io_thread_id(0)
        yield self._at(FixedSlot.SCSI, driver, SCSI_CONTROLLER_ID, **own)

    def plan_panic_device(self) -> Iterator[DeviceAdd]:
        if _PANIC_DRIVER in self.request.capabilities.devices:
            yield DeviceAdd(driver=_PANIC_DRIVER, id="panic")

    def plan_ports(self, chardevs: Collection[str], *, has_vdagent: bool) -> Iterator[DeviceAdd]:
        """Plan the serial console and the ports of the guest agent and the SPICE agent."""
        if SERIAL_ID in chardevs:
            yield DeviceAdd(driver="isa-serial", id="console", properties={"chardev": SERIAL_ID})
        if AGENT_ID in chardevs or has_vdagent:
            yield self._at(FixedSlot.SERIAL, "virtio-serial-pci", _SERIAL_BUS_ID)
        if AGENT_ID in chardevs:
            # Without an id QEMU sends no event when the agent opens its port.
            yield _agent_port("agent-port", AGENT_ID, "org.qemu.guest_agent.0")
        if has_vdagent:
            yield _agent_port("vdagent-port", VDAGENT_ID, "com.redhat.spice.0")

    def plan_tpm(self, chardevs: Collection[str]) -> Iterator[DeviceAdd]:
        if TPM_ID in chardevs:
            self.request.capabilities.check_device(_TPM_DRIVER, "tpm", "enabled")
            yield DeviceAdd(driver=_TPM_DRIVER, id="tpm-device", properties={"tpmdev": TPM_ID})


def _agent_port(device_id: str, chardev: str, name: str) -> DeviceAdd:
    return DeviceAdd(
        driver="virtserialport",
        id=device_id,
        bus=f"{_SERIAL_BUS_ID}.0",
        properties={"chardev": chardev, "name": name},
    )
