# SPDX-License-Identifier: BSD-2-Clause
"""Commands about block nodes, devices, network backends and other objects."""

from collections.abc import Mapping
from typing import Any, Final

from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevDel,
    BlockInfo,
    BlockResize,
    BlockSetIoThrottle,
    ChardevInfo,
    DeviceAdd,
    DeviceDel,
    FdsetInfo,
    IOThreadInfo,
    NetdevAdd,
    NetdevDel,
    ObjectAdd,
    ObjectDel,
    ObjectPropertyInfo,
    ObjectTypeInfo,
    PciBridgeInfo,
    PciBusInfo,
    PciDeviceClass,
    PciDeviceId,
    PciDeviceInfo,
    PciInfo,
    PciMemoryRange,
    QomGet,
    QomList,
    QomListTypes,
    QueryBlock,
    QueryChardev,
    QueryFdsets,
    QueryIothreads,
    QueryNamedBlockNodes,
    QueryPci,
)
from hvkit.testing.simulator.blocks import describe_nodes, describe_used
from hvkit.testing.simulator.devices import DEVICE_NAMES
from hvkit.testing.simulator.dispatch import Dispatcher
from hvkit.testing.simulator.machine import Machine
from hvkit.testing.simulator.machine_commands import CPU_MODELS
from hvkit.testing.simulator.qmp_refusal import QmpRefusal

#: The types that qom-list-types returns, by the type they implement.
_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "device": DEVICE_NAMES,
    "accel": ("kvm-accel", "tcg-accel"),
    "cpu": tuple(f"{model}-x86_64-cpu" for model in CPU_MODELS),
}

commands: Final = Dispatcher()


@commands.runs(QueryBlock)
def _query_block(machine: Machine, _: QueryBlock) -> list[BlockInfo]:
    described = []
    for device in machine.devices:
        node = machine.graph.used_by(device.block_name)
        if node is None and not device.is_drive:
            continue
        described.append(
            BlockInfo(
                device="",
                qdev=device.block_name,
                type="unknown",
                removable=device.is_drive,
                locked=False,
                tray_open=device.is_open if device.is_drive else None,
                io_status="ok",
                inserted=None if node is None else describe_used(node),
            )
        )
    return described


@commands.runs(QueryNamedBlockNodes)
def _query_named_block_nodes(machine: Machine, _: QueryNamedBlockNodes) -> list[Any]:
    return describe_nodes(machine.graph)


@commands.runs(QueryFdsets)
def _query_fdsets(machine: Machine, _: QueryFdsets) -> list[FdsetInfo]:
    return []  # add-fd is not simulated


@commands.runs(BlockdevAdd)
def _blockdev_add(machine: Machine, command: BlockdevAdd) -> None:
    machine.graph.add(command.arguments)


@commands.runs(BlockdevDel)
def _blockdev_del(machine: Machine, command: BlockdevDel) -> None:
    machine.graph.remove(command.node_name)


@commands.runs(BlockResize)
def _block_resize(machine: Machine, command: BlockResize) -> None:
    machine.graph.resize(command.node_name or "", command.size)


@commands.runs(BlockSetIoThrottle)
def _block_set_io_throttle(machine: Machine, command: BlockSetIoThrottle) -> None:
    machine.graph.limit(command)


@commands.runs(DeviceAdd)
def _device_add(machine: Machine, command: DeviceAdd) -> None:
    machine.devices.add(command, is_hotplug=True)


@commands.runs(DeviceDel)
def _device_del(machine: Machine, command: DeviceDel) -> None:
    machine.unplug(command.id)


@commands.runs(NetdevAdd)
def _netdev_add(machine: Machine, command: NetdevAdd) -> None:
    machine.add_netdev(command.arguments)


@commands.runs(NetdevDel)
def _netdev_del(machine: Machine, command: NetdevDel) -> None:
    machine.devices.remove_netdev(command.id)


@commands.runs(ObjectAdd)
def _object_add(machine: Machine, command: ObjectAdd) -> None:
    machine.add_object(command.arguments.id, command.arguments.qom_type)


@commands.runs(ObjectDel)
def _object_del(machine: Machine, command: ObjectDel) -> None:
    machine.remove_object(command.id)


@commands.runs(QueryPci)
def _query_pci(machine: Machine, _: QueryPci) -> list[PciInfo]:
    if not machine.type.chipset:
        return []
    root = "pcie.0" if machine.type.chipset == "q35" else "pci.0"
    return [PciInfo(bus=0, devices=_pci_devices(machine, root, 0))]


def _pci_devices(machine: Machine, bus: str, number: int) -> list[PciDeviceInfo]:
    """Describe the devices on a PCI bus and behind its root ports."""
    here = [device for device in machine.devices if device.bus is not None and device.bus.name == bus]
    ports = {device.id: index for index, device in enumerate(here, number + 1) if device.driver == "pcie-root-port"}
    return [
        PciDeviceInfo(
            bus=number,
            slot=device.address[0],
            function=device.address[1],
            class_info=PciDeviceClass(class_=0, desc=device.driver),
            id=PciDeviceId(device=0, vendor=0x1AF4),
            irq_pin=1,
            qdev_id=device.id,
            pci_bridge=_pci_bridge(machine, device.id, ports[device.id]) if device.id in ports else None,
            regions=[],
        )
        for device in here
    ]


def _pci_bridge(machine: Machine, port: str, number: int) -> PciBridgeInfo:
    nothing = PciMemoryRange(base=0, limit=0)
    return PciBridgeInfo(
        bus=PciBusInfo(
            number=0,
            secondary=number,
            subordinate=number,
            io_range=nothing,
            memory_range=nothing,
            prefetchable_range=nothing,
        ),
        devices=_pci_devices(machine, port, number),
    )


@commands.runs(QueryIothreads)
def _query_iothreads(machine: Machine, _: QueryIothreads) -> list[IOThreadInfo]:
    return [
        IOThreadInfo(
            id=name, thread_id=machine.thread_ids[0], poll_max_ns=0, poll_grow=0, poll_shrink=0, aio_max_batch=0
        )
        for name, kind in machine.objects.items()
        if kind == "iothread"
    ]


@commands.runs(QueryChardev)
def _query_chardev(machine: Machine, _: QueryChardev) -> list[ChardevInfo]:
    return [
        ChardevInfo(
            label=chardev.label,
            filename=f"unix:{chardev.path}" if chardev.path else chardev.backend,
            frontend_open=True,
        )
        for chardev in machine.options.chardevs.values()
    ]


@commands.runs(QomListTypes)
def _qom_list_types(machine: Machine, command: QomListTypes) -> list[ObjectTypeInfo]:
    kinds = _TYPES if command.implements is None else [command.implements]
    return [ObjectTypeInfo(name=name, parent=kind) for kind in kinds for name in _TYPES.get(kind, ())]


@commands.runs(QomList)
def _qom_list(machine: Machine, command: QomList) -> list[ObjectPropertyInfo]:
    if command.path == "/machine/peripheral":
        children = {device.id: device.driver for device in machine.devices if device.id}
    elif command.path == "/objects":
        children = machine.objects
    else:
        raise QmpRefusal(f"Device '{command.path}' not found", "DeviceNotFound")
    listed = [ObjectPropertyInfo(name=name, type=f"child<{kind}>") for name, kind in children.items()]
    return [ObjectPropertyInfo(name="type", type="string"), *listed]


@commands.runs(QomGet)
def _qom_get(machine: Machine, command: QomGet) -> Any:
    if command.path != "/machine":
        raise QmpRefusal(f"Device '{command.path}' not found", "DeviceNotFound")
    if command.property != "type":
        raise QmpRefusal(f"Property '{machine.type.name}-machine.{command.property}' not found")
    return f"{machine.type.name}-machine"
