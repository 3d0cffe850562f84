# SPDX-License-Identifier: BSD-2-Clause
"""A machine without hardware: its state, and a guest that does what guests do, by a clock that is handed in.

Nothing here waits or reads a clock. What happens later stands in an agenda, and happens when `Machine.advance` is told
that it is time.
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
from hvkit.testing.simulator.blocks import BlockGraph, Image
from hvkit.testing.simulator.devices import Device, DeviceTree
from hvkit.testing.simulator.knobs import Behavior
from hvkit.testing.simulator.options import Described, OptionError, Options
from hvkit.testing.simulator.refusal import QmpRefusal, check_arguments, convert_strings

_BALLOON_PERIOD_S = 0.1
#: How long after the reply to system_reset the machine is seen to have been reset.
_RESET_S = 0.01


class Host(Protocol):
    """What a machine has of its host; `hvkit.testing.simulator.host` is one."""

    def open_image(self, path: str, *, is_read_only: bool) -> Image: ...
    def has_fd(self, fd: int) -> bool: ...


@attrs.frozen
class MachineType:
    """A machine type.

    Attributes:
        name: its full name.
        alias: its short name; empty for none.
        chipset: q35, pc, or empty where it has no buses.
        cpu_max: how many processors it can have.
    """

    name: str
    alias: str
    chipset: str
    cpu_max: int


def machine_types(version: tuple[int, int, int]) -> list[MachineType]:
    """Return the machine types that a QEMU of this version has."""
    release = f"{version[0]}.{version[1]}"
    return [
        MachineType(f"pc-q35-{release}", "q35", "q35", 288),
        MachineType(f"pc-i440fx-{release}", "pc", "pc", 255),
        MachineType("microvm", "", "", 288),
        MachineType("none", "", "", 1),
    ]


class Machine:
    """A machine, as its monitors know it.

    Attributes:
        status: the run state, in QEMU's words.
        exit_status: what the process exits with; None while it lives.
        graph: its block nodes.
        devices: its devices and network backends.
        objects: types of its other objects, by id.
        balloon_bytes: the memory that the guest has now.
    """

    def __init__(
        self, options: Options, knobs: Behavior, host: Host, *, thread_ids: Sequence[int] = (), now: float = 0.0
    ) -> None:
        """Make the machine that a command line describes.

        Args:
            options: the command line.
            knobs: how it behaves.
            host: what it has of its host.
            thread_ids: one for each processor.
            now: what time it is, in seconds.

        Raises:
            OptionError: it cannot be made, in QEMU's words.
        """
        self.options = options
        self.knobs = knobs
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
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._boot = 0  # counts resets: what an earlier guest was about to do is dropped
        self._is_booting = False
        self._guest_is_up = False
        self._is_ballooning = False
        self._is_kept_after_shutdown = options.is_kept_after_shutdown
        self._is_ended_by_reboot = options.is_ended_by_reboot
        self._held: list[Callable[[], None]] = []  # what the guest will do once it runs
        self._build()
        if not options.is_paused and not options.is_incoming:
            self.cont()
            self._events.clear()

    def _find_type(self) -> MachineType:
        for each in machine_types(self.knobs.version):
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

    def _build_each(self, described: Described, kind: Any, add: Callable[[Any], object]) -> None:
        """Add one thing of the command line; a wrong one is QEMU's end."""
        try:
            data = described.data if described.is_json else convert_strings(described.data, kind)
            add(check_arguments(data, kind))
        except QmpRefusal as refusal:
            raise OptionError(f"{described.option}: {refusal.description}") from None

    # ---- time

    @property
    def next_due(self) -> float | None:
        """When something happens next, in seconds; None for never."""
        return self._agenda[0][0] if self._agenda else None

    def advance(self, now: float) -> None:
        """Let happen what is due."""
        while self._agenda and self._agenda[0][0] <= now and self.exit_status is None:
            self._now, _, action = heapq.heappop(self._agenda)
            action()
        self._now = now

    def take_events(self) -> list[Event]:
        """Return what was reported since the last call, in order."""
        events, self._events = self._events, []
        return events

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self._now + delay_s, next(self._order), action))

    def _guest_does(self, delay_s: float, action: Callable[[], None]) -> None:
        """Have the guest do something, unless it is reset before; a paused one does it when it goes on."""
        boot = self._boot

        def act() -> None:
            if boot != self._boot:
                return
            if self.status == "running":
                action()
            else:
                self._held.append(act)

        self._later(delay_s, act)

    # ---- what people do to it

    def stop(self) -> None:
        """Pause."""
        if self.status == "running":
            self.status = "paused"
            self._events.append(StopEvent())

    def cont(self) -> None:
        """Run, or go on.

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
        held, self._held = self._held, []
        for act in held:
            act()

    def _start_guest(self) -> None:
        self._is_booting = True
        self._guest_does(self.knobs.guest_boot_delay_s, self._finish_boot)

    def _finish_boot(self) -> None:
        self._is_booting = False
        self._guest_is_up = True
        self._step_balloon(is_first=True)

    def power_down(self) -> None:
        """Press the power button. A guest that has not booted yet does not hear it."""
        self._events.append(PowerdownEvent())
        if self._guest_is_up and not self.knobs.guest_ignores_powerdown:
            self._guest_does(self.knobs.guest_shutdown_delay_s, self._shut_down_by_guest)

    def _shut_down_by_guest(self) -> None:
        self._shut_down(ShutdownEvent(guest=True, reason="guest-shutdown"))

    def _shut_down(self, event: ShutdownEvent) -> None:
        self._events.append(event)
        if self._is_kept_after_shutdown:
            self.status = "shutdown"
            self._events.append(StopEvent())
        else:
            self.exit_status = 0

    def reset(self) -> None:
        """Press the reset button. What was about to be unplugged goes then."""
        if self._is_ended_by_reboot:
            self._shut_down(ShutdownEvent(guest=False, reason="host-qmp-system-reset"))
            return
        self._boot += 1
        self._guest_is_up = self._is_booting = self._is_ballooning = False
        self._held.clear()
        self._events.append(ResetEvent(guest=False, reason="host-qmp-system-reset"))
        self._later(_RESET_S, self._drop_leaving_devices)
        if self.status == "running":
            self._start_guest()
        elif self.status != "inmigrate":
            self.status = "prelaunch"

    def _drop_leaving_devices(self) -> None:
        for device in [each for each in self.devices if each.is_leaving]:
            self._finish_unplug(device)

    def quit(self) -> None:
        """End, as the monitor asks."""
        self._events.append(ShutdownEvent(guest=False, reason="host-qmp-quit"))
        self.exit_status = 0

    def take_signal(self) -> None:
        """End, as a signal asks."""
        if self.exit_status is None:
            self._events.append(ShutdownEvent(guest=False, reason="host-signal"))
            self.exit_status = 0

    def set_actions(self, *, reboot: str | None, shutdown: str | None) -> None:
        """Say what a reset and a shutdown of the guest mean; None leaves it as it is."""
        if reboot is not None:
            self._is_ended_by_reboot = reboot == "shutdown"
        if shutdown is not None:
            self._is_kept_after_shutdown = shutdown == "pause"

    def move_tray(self, drive: Device, *, is_open: bool) -> None:
        """Open or close a drive."""
        if drive.is_open is not is_open:
            drive.is_open = is_open
            self._events.append(DeviceTrayMovedEvent(device="", id=drive.block_name, tray_open=is_open))

    # ---- memory

    def check_balloon(self) -> None:
        """Refuse, where there is no balloon.

        Raises:
            QmpRefusal: there is none.
        """
        if not any(device.driver == "virtio-balloon-pci" for device in self.devices):
            raise QmpRefusal("No balloon device has been activated", "DeviceNotActive")

    def set_balloon(self, target_bytes: int) -> None:
        """Ask the guest to make do with so much memory, or to take so much.

        Raises:
            QmpRefusal: there is no balloon, or that is no size.
        """
        self.check_balloon()
        if target_bytes <= 0:
            raise QmpRefusal("Parameter 'target' expects a size")
        self._balloon_target = min(target_bytes, self.options.memory_bytes)
        if self._guest_is_up and not self._is_ballooning:
            self._is_ballooning = True
            self._guest_does(_BALLOON_PERIOD_S, lambda: self._step_balloon(is_first=True))

    def _step_balloon(self, *, is_first: bool) -> None:
        """Move towards the target. As QEMU spares its clients, the steps between the first and the last are silent."""
        distance = self._balloon_target - self.balloon_bytes
        self._is_ballooning = bool(distance)
        if not distance:
            return
        step = min(abs(distance), self.knobs.guest_balloon_step_bytes)
        self.balloon_bytes += step if distance > 0 else -step
        if is_first or self.balloon_bytes == self._balloon_target:
            self._events.append(BalloonChangeEvent(actual=self.balloon_bytes))
        self._guest_does(_BALLOON_PERIOD_S, lambda: self._step_balloon(is_first=False))

    # ---- devices

    def add_object(self, object_id: str, kind: str) -> None:
        """Add an object that is no device.

        Raises:
            QmpRefusal: its id is taken.
        """
        if object_id in self.objects:
            raise QmpRefusal(f"attempt to add duplicate property '{object_id}' to object (type 'container')")
        self.objects[object_id] = kind

    def remove_object(self, object_id: str) -> None:
        """Remove an object that is no device.

        Raises:
            QmpRefusal: there is none.
        """
        if object_id not in self.objects:
            raise QmpRefusal(f"object '{object_id}' not found")
        del self.objects[object_id]

    def add_netdev(self, netdev: Netdev) -> None:
        """Add a network backend.

        Raises:
            QmpRefusal: its id is taken, or the tap it was promised was not inherited.
        """
        if isinstance(netdev, NetdevTapOptions) and netdev.fd is not None:
            if not netdev.fd.isdigit():
                raise QmpRefusal(f"File descriptor named '{netdev.fd}' has not been found")
            if not self._host.has_fd(int(netdev.fd)):
                raise QmpRefusal(f"{netdev.id}: Can't use file descriptor {netdev.fd}: Bad file descriptor")
        self.devices.add_netdev(netdev.id, netdev.type)

    def unplug(self, device_id: str) -> None:
        """Ask a device to go. The guest lets it when it has booted and runs; the request is lost on one that boots.

        Raises:
            QmpRefusal: there is no such device.
        """
        device = self.devices.find(device_id)
        if device.bus is not None and not device.bus.is_hotpluggable:
            raise QmpRefusal(f"Bus '{device.bus.name}' does not support hotplugging")
        if not device.needs_guest_to_leave:
            self._events.extend(self.devices.remove(device))
            return
        device.is_leaving = True
        if self._guest_is_up and not self.knobs.guest_ignores_unplug:
            self._guest_does(self.knobs.guest_unplug_delay_s, lambda: self._finish_unplug(device))

    def _finish_unplug(self, device: Device) -> None:
        if device in self.devices:
            self._events.extend(self.devices.remove(device))
