# SPDX-License-Identifier: BSD-2-Clause
"""Plug disks and NICs into a running machine, and take them out.

What is about to be done is remembered before it is done, and that it is done after. Whoever dies in between leaves a
device that is marked; the next one to plug on this instance settles it first, by what QEMU says: a device that the
machine has stays, what is left of one that it has not is removed.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.errors import HypervisorError, ProgrammerError
from hvkit.hypervisor.errors import HotplugError, InstanceStateError, ParameterError, RuntimeStateError
from hvkit.hypervisor.kvm.devices import (
    DiskDevice,
    DiskSettings,
    TapFiles,
    build_disk,
    build_nic,
    disk_id,
    nic_id,
)
from hvkit.hypervisor.kvm.disks import open_disk, read_block_devices
from hvkit.hypervisor.kvm.instances import Instances
from hvkit.hypervisor.kvm.network import NetworkError
from hvkit.hypervisor.kvm.nics import open_nic, plan_interface, plan_tap_options, take_down_nic
from hvkit.hypervisor.kvm.parameters import TABLE
from hvkit.hypervisor.kvm.paths import InstancePaths
from hvkit.hypervisor.kvm.runtime import DeviceRecord, Pending, Runtime, write_runtime
from hvkit.hypervisor.kvm.topology import Address, BusKind
from hvkit.hypervisor.kvm.unplug import is_plugged_in, unplug
from hvkit.hypervisor.model import DeviceKind, Disk, HotplugDevice, InstanceState, Nic
from hvkit.qmp import CommandError, QmpConnection, QmpError
from hvkit.qmp.descriptors import fdset, passed
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevDel,
    NetdevAdd,
    NetdevDel,
    QueryFdsets,
    QueryNamedBlockNodes,
    RemoveFd,
)

_ALIVE: Final = (InstanceState.RUNNING, InstanceState.PAUSED)
_NO_IDE: Final = "IDE disks cannot be plugged while the machine runs"


def device_id(device: HotplugDevice) -> str:
    """Return the id by which QEMU knows a disk or a NIC."""
    return disk_id(device.uuid) if isinstance(device, Disk) else nic_id(device.uuid)


def hot_add(instances: Instances, paths: InstancePaths, device: HotplugDevice) -> None:
    """Plug a disk or a NIC in, as `BaseHypervisor.hot_add_device` says.

    Raises:
        HotplugError: the instance has it, has no room for it, or QEMU refuses it.
        ParameterError: it is a disk that this node does not have, or that somebody else uses.
    """
    with _plugging(instances, paths, "nothing can be plugged in") as (runtime, monitor):
        if runtime.device(device.uuid) is not None:
            raise HotplugError(paths.name, device_id(device), "the instance has it already")
        _refuse_twins(runtime, device)
        parameters = TABLE.fill(runtime.instance.parameters)
        try:
            if isinstance(device, Disk):
                _add_disk(runtime, paths, monitor, device, parameters)
            else:
                _add_nic(runtime, paths, monitor, device, parameters)
        except (QmpError, NetworkError) as error:
            raise HotplugError(paths.name, device_id(device), str(error)) from error


def hot_del(instances: Instances, paths: InstancePaths, uuid: UUID, *, timeout_s: float) -> None:
    """Take a disk or a NIC out, as `BaseHypervisor.hot_del_device` says.

    Args:
        instances: those of this node.
        paths: files of the instance.
        uuid: of the device.
        timeout_s: seconds that the guest has to let go.

    Raises:
        HotplugError: there is no such device, or the guest refuses or does not answer. The device is remembered as one
            that may go later.
    """
    with _plugging(instances, paths, "nothing can be taken out") as (runtime, monitor):
        record = runtime.device(uuid)
        if record is None:
            raise HotplugError(paths.name, str(uuid), "the instance has no such device")
        write_runtime(paths.runtime_file, _with_record(runtime, attrs.evolve(record, pending=Pending.REMOVE)))
        try:
            refusal = unplug(monitor, record.device, timeout_s=timeout_s)
            if not refusal:
                _forget(runtime, paths, monitor, record)
        except QmpError as error:
            raise HotplugError(paths.name, record.device, str(error)) from error
        if refusal:
            raise HotplugError(paths.name, record.device, refusal)


def hot_mod(instances: Instances, paths: InstancePaths, nic: Nic, *, timeout_s: float) -> None:
    """Change a NIC to what is given, as `BaseHypervisor.hot_mod_device` says: the old one goes, the new one comes.

    Where the new one cannot come, the old one comes back.

    Raises:
        HotplugError: the instance has no such NIC, or one of the steps failed; the error says where that leaves it.
    """
    old = next((each for each in instances.recall(paths).instance.nics if each.uuid == nic.uuid), None)
    if old is None:
        raise HotplugError(paths.name, nic_id(nic.uuid), "the instance has no such NIC")
    if old == nic:
        return
    hot_del(instances, paths, nic.uuid, timeout_s=timeout_s)
    try:
        hot_add(instances, paths, nic)
    except HypervisorError as error:
        try:
            hot_add(instances, paths, old)
        except HypervisorError as problem:
            reason = f"{error}; neither could the old one be put back, so that there is none: {problem}"
            raise HotplugError(paths.name, nic_id(nic.uuid), reason) from error
        raise HotplugError(paths.name, nic_id(nic.uuid), f"{error}; the old one is back") from error


def check_support(instances: Instances, paths: InstancePaths, kind: DeviceKind, *, needs_room: bool) -> None:
    """Return if devices of a kind can be plugged, as `BaseHypervisor.verify_hotplug_support` says.

    Raises:
        HotplugError: they cannot, and why.
    """
    state = instances.look(paths).state
    if state not in _ALIVE:
        raise HotplugError(paths.name, kind.value, f"the instance is {state.value}")
    runtime = instances.recall(paths)
    bus = BusKind.PCI
    if kind is DeviceKind.DISK:
        bus = DiskSettings.from_parameters(TABLE.fill(runtime.instance.parameters)).bus
    if bus is BusKind.IDE:
        raise HotplugError(paths.name, kind.value, _NO_IDE)
    if needs_room:
        _allocate(runtime, paths, kind.value, bus)


# ---- what adding and removing have in common


@contextlib.contextmanager
def _plugging(instances: Instances, paths: InstancePaths, problem: str) -> Iterator[tuple[Runtime, QmpConnection]]:
    """Hold an instance that is alive, settled, and give what is remembered of it and a monitor."""
    with instances.locked(paths):
        instances.need_state(paths, _ALIVE, problem)
        with instances.connected(paths) as monitor:
            try:
                runtime = _settle(instances.recall(paths), paths, monitor)
            except QmpError as error:
                raise InstanceStateError(paths.name, InstanceState.UNRESPONSIVE.value, str(error)) from error
            yield runtime, monitor


def _settle(runtime: Runtime, paths: InstancePaths, monitor: QmpConnection) -> Runtime:
    """Bring what is remembered and what the machine has together, where somebody died over a device."""
    for record in runtime.devices:
        if record.pending is None:
            continue
        if not is_plugged_in(monitor, record.device):
            with contextlib.suppress(CommandError):  # a job still uses what it stood on; the next one tries again
                runtime = _forget(runtime, paths, monitor, record)
        elif record.pending is Pending.ADD:  # one that was asked for may go at any time
            runtime = _with_record(runtime, attrs.evolve(record, pending=None))
            write_runtime(paths.runtime_file, runtime)
    return runtime


def _forget(runtime: Runtime, paths: InstancePaths, monitor: QmpConnection, record: DeviceRecord) -> Runtime:
    """Remove what is left of a device that the machine does not have any more, and return what is remembered then."""
    nic = next((each for each in runtime.instance.nics if each.uuid == record.uuid), None)
    if nic is None:
        _remove_nodes(monitor, record)
    else:
        for backend in record.backends:
            with contextlib.suppress(CommandError):  # it was never made
                monitor.execute(NetdevDel(id=backend))
        take_down_nic(runtime.instance, nic, script=record.script)
    runtime = _without(runtime, record.uuid)
    write_runtime(paths.runtime_file, runtime)
    return runtime


def _remove_nodes(monitor: QmpConnection, record: DeviceRecord) -> None:
    there = {node.node_name for node in monitor.execute(QueryNamedBlockNodes(flat=True))}
    for backend in reversed(record.backends):
        if backend in there:
            monitor.execute(BlockdevDel(node_name=backend))
    for files in monitor.execute(QueryFdsets()):
        if any(each.opaque == record.device for each in files.fds):
            with contextlib.suppress(CommandError):  # QEMU dropped it by itself
                monitor.execute(RemoveFd(fdset_id=files.fdset_id))


def _with_record(runtime: Runtime, record: DeviceRecord) -> Runtime:
    """Return what is to be remembered with one record replaced, or added."""
    devices = tuple(record if each.uuid == record.uuid else each for each in runtime.devices)
    return attrs.evolve(runtime, devices=devices if record in devices else (*devices, record))


def _with_device(runtime: Runtime, device: HotplugDevice, record: DeviceRecord) -> Runtime:
    instance = runtime.instance
    if isinstance(device, Disk):
        instance = attrs.evolve(instance, disks=(*instance.disks, device))
    else:
        instance = attrs.evolve(instance, nics=(*instance.nics, device))
    return _with_record(attrs.evolve(runtime, instance=instance), record)


def _without(runtime: Runtime, uuid: UUID) -> Runtime:
    instance = attrs.evolve(
        runtime.instance,
        disks=tuple(each for each in runtime.instance.disks if each.uuid != uuid),
        nics=tuple(each for each in runtime.instance.nics if each.uuid != uuid),
    )
    return attrs.evolve(
        runtime, instance=instance, devices=tuple(each for each in runtime.devices if each.uuid != uuid)
    )


# ---- adding


def _used(runtime: Runtime) -> frozenset[Any]:
    return frozenset(record.address for record in runtime.devices)


def _allocate(runtime: Runtime, paths: InstancePaths, device: str, bus: BusKind) -> Address:
    try:
        return runtime.topology.allocate(bus, _used(runtime))
    except ParameterError as error:
        raise HotplugError(paths.name, device, error.problem) from error


@contextlib.contextmanager
def _remembering(
    runtime: Runtime, paths: InstancePaths, monitor: QmpConnection, device: HotplugDevice, record: DeviceRecord
) -> Iterator[None]:
    """Remember a device while it is added, and after; forget it and remove what was made where the block fails.

    Where that cannot be done either, because the machine does not answer, the device stays marked.
    """
    runtime = _with_device(runtime, device, record)
    write_runtime(paths.runtime_file, runtime)
    try:
        yield
    except BaseException as error:
        try:
            if not is_plugged_in(monitor, record.device):
                _forget(runtime, paths, monitor, record)
        except (QmpError, ProgrammerError, RuntimeStateError) as problem:
            error.add_note(f"what became of {record.device} is settled when the instance is next plugged on: {problem}")
        raise
    write_runtime(paths.runtime_file, _with_record(runtime, attrs.evolve(record, pending=None)))


def _refuse_twins(runtime: Runtime, device: HotplugDevice) -> None:
    """Refuse a device that an instance could not have been started with beside those that it has.

    Raises:
        ParameterError: it has the path, the address or the interface of another one.
    """
    instance = runtime.instance
    if isinstance(device, Disk):
        attrs.evolve(instance, disks=(*instance.disks, device))
    else:
        attrs.evolve(instance, nics=(*instance.nics, device))


def _add_disk(
    runtime: Runtime, paths: InstancePaths, monitor: QmpConnection, disk: Disk, parameters: dict[str, Any]
) -> None:
    settings = DiskSettings.from_parameters(parameters)
    if settings.bus is BusKind.IDE:
        raise HotplugError(paths.name, disk_id(disk.uuid), _NO_IDE)
    is_block_device = disk.uuid in read_block_devices([disk])
    address = _allocate(runtime, paths, disk_id(disk.uuid), settings.bus)

    def build(filename: str | None) -> DiskDevice:
        return build_disk(disk, settings, address, is_block_device=is_block_device, filename=filename)

    planned = build(None)
    record = DeviceRecord(
        uuid=disk.uuid, device=disk_id(disk.uuid), backends=planned.node_names, address=address, pending=Pending.ADD
    )
    with _remembering(runtime, paths, monitor, disk, record), ExitStack() as lent:
        if not runtime.has_pid_file:  # it opens nothing by name
            opened = open_disk(disk)
            for descriptor in opened:
                lent.callback(os.close, descriptor)
            planned = build(lent.enter_context(fdset(monitor, *opened, opaque=record.device)))
        for node in planned.nodes:
            monitor.execute(BlockdevAdd(node))
        monitor.execute(planned.device)


def _add_nic(
    runtime: Runtime, paths: InstancePaths, monitor: QmpConnection, nic: Nic, parameters: dict[str, Any]
) -> None:
    address = _allocate(runtime, paths, nic_id(nic.uuid), BusKind.PCI)
    script = parameters["network_script"] if nic.has_tap else ""
    record = DeviceRecord(
        uuid=nic.uuid,
        device=nic_id(nic.uuid),
        backends=(f"{nic_id(nic.uuid)}-net",),
        address=address,
        ifname=plan_interface(nic),
        script=script,
        pending=Pending.ADD,
    )
    with _remembering(runtime, paths, monitor, nic, record), ExitStack() as lent:
        files = None
        if nic.has_tap:
            tap = open_nic(runtime.instance, nic, plan_tap_options(parameters), script=script)
            lent.callback(tap.close)
            queues = tuple(lent.enter_context(passed(monitor, fd)) for fd in tap.queues)
            vhosts = tuple(lent.enter_context(passed(monitor, fd)) for fd in tap.vhosts)
            files = TapFiles(queues=queues, vhosts=vhosts)
        planned = build_nic(nic, parameters["nic_type"], address, tap=files)
        monitor.execute(NetdevAdd(planned.netdev))
        monitor.execute(planned.device)
