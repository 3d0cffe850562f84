# SPDX-License-Identifier: BSD-2-Clause
"""Commands about drives and removable media. The simulated guest never locks a tray."""

from typing import Final

from hvkit.qmp.schema import (
    BlockdevCloseTray,
    BlockdevInsertMedium,
    BlockdevOpenTray,
    BlockdevRemoveMedium,
)
from hvkit.testing.simulator.devices import Device
from hvkit.testing.simulator.dispatch import Dispatcher
from hvkit.testing.simulator.machine import Machine
from hvkit.testing.simulator.qmp_refusal import QmpRefusal

commands: Final = Dispatcher()


def _find_drive(machine: Machine, device_id: str | None) -> Device:
    device = machine.devices.find(device_id or "")
    if device.block_name != device_id:  # block commands use the name of the backend
        raise QmpRefusal("Device does not have a block device backend")
    if not device.is_drive:
        raise QmpRefusal(f"Device '{device_id}' is not removable")
    return device


@commands.runs(BlockdevOpenTray)
def _open_tray(machine: Machine, command: BlockdevOpenTray) -> None:
    machine.move_tray(_find_drive(machine, command.id), is_open=True)


@commands.runs(BlockdevCloseTray)
def _close_tray(machine: Machine, command: BlockdevCloseTray) -> None:
    machine.move_tray(_find_drive(machine, command.id), is_open=False)


@commands.runs(BlockdevRemoveMedium)
def _remove_medium(machine: Machine, command: BlockdevRemoveMedium) -> None:
    drive = _find_drive(machine, command.id)
    if not drive.is_open:
        raise QmpRefusal(f"Tray of device '{command.id}' is not open")
    machine.graph.detach(drive.block_name)


@commands.runs(BlockdevInsertMedium)
def _insert_medium(machine: Machine, command: BlockdevInsertMedium) -> None:
    drive = _find_drive(machine, command.id)
    if all(node.name != command.node_name for node in machine.graph):
        raise QmpRefusal(f"Node '{command.node_name}' not found")
    if not drive.is_open:
        raise QmpRefusal("Tray of the device is not open")
    if machine.graph.used_by(drive.block_name) is not None:
        raise QmpRefusal("There already is a medium in the device")
    machine.graph.attach(command.node_name, drive.block_name, is_shared=False)
