# SPDX-License-Identifier: BSD-2-Clause
"""The state of a simulated machine and its guest.

This module never waits and never reads a clock. Delayed actions are timers; `Machine.advance` runs those that are due.
"""

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from hvkit.qmp.base import Event
from hvkit.qmp.schema import (
    BalloonChangeEvent,
    BlockdevOptions,
    DeviceAdd,
    DeviceTrayMovedEvent,
    Netdev,
    NetdevTapOptions,
    ObjectOptions,
    PowerdownEvent,
    ResetEvent,
    ResumeEvent,
    RunState,
    ShutdownEvent,
    StopEvent,
)
from hvkit.testing.simulator.arguments import check_arguments, convert_strings
from hvkit.testing.simulator.behavior import Behavior
from hvkit.testing.simulator.blocks import BlockGraph, Image
from hvkit.testing.simulator.devices import Device, DeviceTree
from hvkit.testing.simulator.options import Description, OptionError, Options
from hvkit.testing.simulator.qmp_refusal import QmpRefusal

_BALLOON_PERIOD_S = 0.1
#: Delay between the reply to system_reset and the removal of devices with a pending unplug.
_RESET_S = 0.01


class Host(Protocol):
    """The host side of a machine; `hvkit.testing.simulator.host` is the real one."""

    def open_image(self, path: str, *, is_read_only: bool) -> Image: ...
    def has_fd(self, fd: int) -> bool: ...


@attrs.frozen
class MachineType:
    """A machine type.

    Attributes:
        name: the versioned name.
        alias: the short name; empty for none.
        chipset: q35 or pc; empty for a machine without buses.
        cpu_max: the maximum number of vCPUs.
    """

    name: str
    alias: str
    chipset: str
    cpu_max: int


def machine_types(version: tuple[int, int, int]) -> list[MachineType]:
    """Return the machine types of a QEMU version."""
    release = f"{version[0]}.{version[1]}"
    return [
        MachineType(f"pc-q35-{release}", "q35", "q35", 288),
        MachineType(f"pc-i440fx-{release}", "pc", "pc", 255),
        MachineType("microvm", "", "", 288),
        MachineType("none", "", "", 1),
    ]


class Machine:
    """A machine with its guest.

    Attributes:
        status: the QEMU run state.
        exit_status: the exit status of the process; None while it runs.
        graph: the block nodes.
        devices: the devices and network backends.
        objects: the types of the other user-created objects, by id.
        balloon_bytes: the memory that the balloon leaves to the guest.
    """

    def __init__(
        self, options: Options, behavior: Behavior, host: Host, *, thread_ids: Sequence[int] = (), now: float = 0.0
    ) -> None:
        """Create the machine that a command line describes.

        Args:
            options: the command line.
            behavior: the behavior of QEMU and the guest.
            host: the host side.
            thread_ids: one thread id per vCPU.
            now: the current time in seconds.

        Raises:
            OptionError: the machine cannot be created. The message is QEMU's.
        """
        self.options = options
        self.behavior = behavior
        self.thread_ids = list(thread_ids)
        self.type = self._find_type()
        self.status: RunState = "inmigrate" if options.is_incoming else "prelaunch"
        self.exit_status: int | None = None
        self.graph = BlockGraph(host.open_image)
        self.devices = DeviceTree(self.type.chipset, self.graph)
        self.objects: dict[str, str] = {}
        self.balloon_bytes = options.memory_bytes
        self._balloon_target = options.memory_bytes
        self._host = host
        self._now = now
        self._events: list[Event] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._boot = 0  # counts resets: a reset cancels the guest actions scheduled before it
        self._is_booting = False
        self._guest_is_up = False
        self._is_ballooning = False
        self._no_shutdown = options.no_shutdown
        self._no_reboot = options.no_reboot
        self._suspended_actions: list[Callable[[], None]] = []  # guest actions that became due while it was paused
        self._build()
        if not options.is_paused and not options.is_incoming:
            self.cont()
            self._events.clear()

    def _find_type(self) -> MachineType:
        for each in machine_types(self.behavior.version):
            if self.options.machine in (each.name, each.alias):
                return each
        raise OptionError("unsupported machine type\nUse -machine help to list supported machines")

    def _build(self) -> None:
        for described in self.options.objects:
            self._build_each(described, ObjectOptions, lambda it: self.add_object(it.id, it.qom_type))
        for described in self.options.nodes:
            self._build_each(described, BlockdevOptions, self.graph.add)
        for described in self.options.netdevs:
            self._build_each(described, Netdev, self.add_netdev)
        for described in self.options.devices:
            self._build_each(described, DeviceAdd, lambda it: self.devices.add(it, is_hotplug=False))

    def _build_each(self, described: Description, kind: Any, add: Callable[[Any], object]) -> None:
        """Add one object of the command line; an invalid one is a fatal error."""
        try:
            data = described.data if described.is_json else convert_strings(described.data, kind)
            add(check_arguments(data, kind))
        except QmpRefusal as refusal:
            raise OptionError(f"{described.option}: {refusal.description}") from None

    @property
    def next_due(self) -> float | None:
        """The time at which the next timer is due, in seconds; None without timers."""
        return self._timers[0][0] if self._timers else None

    def advance(self, now: float) -> None:
        """Set the current time and run the timers that are due."""
        while self._timers and self._timers[0][0] <= now and self.exit_status is None:
            self._now, _, action = heapq.heappop(self._timers)
            action()
        self._now = now

    def take_events(self) -> list[Event]:
        """Return the events since the last call, oldest first."""
        events, self._events = self._events, []
        return events

    def _schedule(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self._now + delay_s, next(self._order), action))

    def _schedule_guest_action(self, delay_s: float, action: Callable[[], None]) -> None:
        """Schedule a guest action. A reset cancels it; a pause delays it until the guest continues."""
        boot = self._boot

        def act() -> None:
            if boot != self._boot:
                return
            if self.status == "running":
                action()
            else:
                self._suspended_actions.append(act)

        self._schedule(delay_s, act)

    def stop(self) -> None:
        """Pause the guest."""
        if self.status == "running":
            self.status = "paused"
            self._events.append(StopEvent())

    def cont(self) -> None:
        """Start or continue the guest.

        Raises:
            QmpRefusal: the guest has shut down.
        """
        if self.status == "shutdown":
            raise QmpRefusal("Resetting the Virtual Machine is required")
        if self.status == "running":
            return
        self.status = "running"
        self._events.append(ResumeEvent())
        if not self._guest_is_up and not self._is_booting:
            self._start_guest()
        actions, self._suspended_actions = self._suspended_actions, []
        for act in actions:
            act()

    def _start_guest(self) -> None:
        self._is_booting = True
        self._schedule_guest_action(self.behavior.guest_boot_delay_s, self._finish_boot)

    def _finish_boot(self) -> None:
        self._is_booting = False
        self._guest_is_up = True
        self._step_balloon(is_first=True)

    def power_down(self) -> None:
        """Press the power button. A guest that has not booted ignores it."""
        self._events.append(PowerdownEvent())
        if self._guest_is_up and not self.behavior.guest_ignores_powerdown:
            self._schedule_guest_action(self.behavior.guest_shutdown_delay_s, self._shut_down_by_guest)

    def _shut_down_by_guest(self) -> None:
        self._shut_down(ShutdownEvent(guest=True, reason="guest-shutdown"))

    def _shut_down(self, event: ShutdownEvent) -> None:
        self._events.append(event)
        if self._no_shutdown:
            self.status = "shutdown"
            self._events.append(StopEvent())
        else:
            self.exit_status = 0

    def reset(self) -> None:
        """Reset the machine. Devices with a pending unplug are removed."""
        if self._no_reboot:
            self._shut_down(ShutdownEvent(guest=False, reason="host-qmp-system-reset"))
            return
        self._boot += 1
        self._guest_is_up = self._is_booting = self._is_ballooning = False
        self._suspended_actions.clear()
        self._events.append(ResetEvent(guest=False, reason="host-qmp-system-reset"))
        self._schedule(_RESET_S, self._finish_pending_unplugs)
        if self.status == "running":
            self._start_guest()
        elif self.status != "inmigrate":
            self.status = "prelaunch"

    def _finish_pending_unplugs(self) -> None:
        for device in [each for each in self.devices if each.is_unplug_pending]:
            self._finish_unplug(device)

    def quit(self) -> None:
        """Exit for the command quit."""
        self._events.append(ShutdownEvent(guest=False, reason="host-qmp-quit"))
        self.exit_status = 0

    def handle_signal(self) -> None:
        """Exit for a signal."""
        if self.exit_status is None:
            self._events.append(ShutdownEvent(guest=False, reason="host-signal"))
            self.exit_status = 0

    def set_actions(self, *, reboot: str | None, shutdown: str | None) -> None:
        """Set the actions for a reset and a shutdown of the guest; None keeps the current one."""
        if reboot is not None:
            self._no_reboot = reboot == "shutdown"
        if shutdown is not None:
            self._no_shutdown = shutdown == "pause"

    def move_tray(self, drive: Device, *, is_open: bool) -> None:
        """Open or close the tray of a drive."""
        if drive.is_open is not is_open:
            drive.is_open = is_open
            self._events.append(DeviceTrayMovedEvent(device="", id=drive.block_name, tray_open=is_open))

    def check_balloon(self) -> None:
        """Check that the machine has a balloon device.

        Raises:
            QmpRefusal: it has none.
        """
        if not any(device.driver == "virtio-balloon-pci" for device in self.devices):
            raise QmpRefusal("No balloon device has been activated", "DeviceNotActive")

    def set_balloon(self, target_bytes: int) -> None:
        """Set the target size of the guest's memory.

        Raises:
            QmpRefusal: there is no balloon device, or the size is not positive.
        """
        self.check_balloon()
        if target_bytes <= 0:
            raise QmpRefusal("Parameter 'target' expects a size")
        self._balloon_target = min(target_bytes, self.options.memory_bytes)
        if self._guest_is_up and not self._is_ballooning:
            self._is_ballooning = True
            self._schedule_guest_action(_BALLOON_PERIOD_S, lambda: self._step_balloon(is_first=True))

    def _step_balloon(self, *, is_first: bool) -> None:
        """Move one step towards the target. Only the first and the last step send an event: QEMU limits their rate."""
        distance = self._balloon_target - self.balloon_bytes
        self._is_ballooning = bool(distance)
        if not distance:
            return
        step = min(abs(distance), self.behavior.guest_balloon_step_bytes)
        self.balloon_bytes += step if distance > 0 else -step
        if is_first or self.balloon_bytes == self._balloon_target:
            self._events.append(BalloonChangeEvent(actual=self.balloon_bytes))
        self._schedule_guest_action(_BALLOON_PERIOD_S, lambda: self._step_balloon(is_first=False))

    def add_object(self, object_id: str, kind: str) -> None:
        """Add a user-created object, such as an iothread.

        Raises:
            QmpRefusal: the id is in use.
        """
        if object_id in self.objects:
            raise QmpRefusal(f"attempt to add duplicate property '{object_id}' to object (type 'container')")
        self.objects[object_id] = kind

    def remove_object(self, object_id: str) -> None:
        """Remove a user-created object.

        Raises:
            QmpRefusal: no object has this id.
        """
        if object_id not in self.objects:
            raise QmpRefusal(f"object '{object_id}' not found")
        del self.objects[object_id]

    def add_netdev(self, netdev: Netdev) -> None:
        """Add a network backend.

        Raises:
            QmpRefusal: the id is in use, or the descriptor of the tap was not inherited.
        """
        if isinstance(netdev, NetdevTapOptions) and netdev.fd is not None:
            if not netdev.fd.isdigit():
                raise QmpRefusal(f"File descriptor named '{netdev.fd}' has not been found")
            if not self._host.has_fd(int(netdev.fd)):
                raise QmpRefusal(f"{netdev.id}: Can't use file descriptor {netdev.fd}: Bad file descriptor")
        self.devices.add_netdev(netdev.id, netdev.type)

    def unplug(self, device_id: str) -> None:
        """Request the removal of a device. A running guest releases it; a booting guest loses the request.

        Raises:
            QmpRefusal: the device does not exist, or its bus does not support hotplugging.
        """
        device = self.devices.find(device_id)
        if device.bus is not None and not device.bus.is_hotpluggable:
            raise QmpRefusal(f"Bus '{device.bus.name}' does not support hotplugging")
        if not device.needs_guest_to_unplug:
            self._events.extend(self.devices.remove(device))
            return
        device.is_unplug_pending = True
        if self._guest_is_up and not self.behavior.guest_ignores_unplug:
            self._schedule_guest_action(self.behavior.guest_unplug_delay_s, lambda: self._finish_unplug(device))

    def _finish_unplug(self, device: Device) -> None:
        if device in self.devices:
            self._events.extend(self.devices.remove(device))
