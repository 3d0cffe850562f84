# SPDX-License-Identifier: BSD-2-Clause
"""Plug disks and NICs into a running machine, and take them out.

What is about to be done is remembered before it is done, and that it is done after. Whoever dies in between leaves a
device that is marked; the next one to plug on this instance settles it first, by what QEMU says: a device that the
machine has stays, what is left of one that it has not is removed. A NIC that was being changed is not given up: the new
one comes, or the old one comes back.
"""

import contextlib
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import HotplugCause, HotplugError, ParameterError
from hvkit.hypervisor.kvm.devices.limits import reconcile_limits, set_limits
from hvkit.hypervisor.kvm.devices.session import (
    HotplugSession,
    adding,
    is_loss,
    plugging,
    with_device,
    with_record,
    without_device,
)
from hvkit.hypervisor.kvm.host.disks import open_disk, read_block_devices
from hvkit.hypervisor.kvm.host.network import NetworkError
from hvkit.hypervisor.kvm.host.nics import check_nic, open_nic, plan_tap_options, take_down_nic
from hvkit.hypervisor.kvm.host.runtime import DeviceRecord, Pending, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.plan.devices import (
    DiskDevice,
    DiskSettings,
    TapFiles,
    build_disk,
    build_nic,
    disk_id,
    nic_id,
)
from hvkit.hypervisor.kvm.plan.drives import plan_drive_places
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.kvm.plan.topology import Address, BusKind
from hvkit.hypervisor.kvm.qemu.block_nodes import lending, read_nodes, take_back_files
from hvkit.hypervisor.kvm.qemu.jobs import find_jobs_on
from hvkit.hypervisor.kvm.qemu.unplug import await_release, is_plugged_in
from hvkit.hypervisor.model import DeviceKind, Disk, HotplugDevice, Nic
from hvkit.qmp import CommandError, QmpConnection, QmpError
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.descriptors import passed
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevDel,
    Closefd,
    NetdevAdd,
    NetdevDel,
)

_log: Final = logging.getLogger("hvkit.hypervisor.kvm")

_NO_IDE: Final = "IDE disks cannot be plugged while the machine runs"


def device_id(device: HotplugDevice) -> str:
    """Return the id by which QEMU knows a disk or a NIC."""
    return disk_id(device.uuid) if isinstance(device, Disk) else nic_id(device.uuid)


def hot_add(handle: InstanceHandle, device: HotplugDevice) -> None:
    """Plug a disk or a NIC in, as `BaseHypervisor.hot_add_device` says.

    Raises:
        HotplugError: the instance has it, has no room for it, or QEMU refuses it.
        ParameterError: it is a disk that this node does not have, or that somebody else uses.
    """
    with plugging(handle, "nothing can be plugged in", reconcile) as session:
        if session.runtime.device(device.uuid) is not None:
            raise session.error(device_id(device), "the instance has it already", HotplugCause.UNFIT)
        parameters = TABLE.fill(session.runtime.instance.parameters)
        if isinstance(device, Disk):
            _add_disk(session, device, parameters)
        else:
            address = _allocate(session.runtime, handle, device_id(device), BusKind.PCI)
            _add_nic(session, device, address, parameters)


def hot_del(handle: InstanceHandle, uuid: UUID, *, timeout_s: float) -> None:
    """Take a disk or a NIC out, as `BaseHypervisor.hot_del_device` says.

    One that the guest let go of since it was asked before is only forgotten. The guest is not asked for a disk that is
    being backed up or copied: what it stands on could not be taken from it.

    Args:
        instances: those of this node.
        handle: files of the instance.
        uuid: of the device.
        timeout_s: seconds that the guest has to let go.

    Raises:
        HotplugError: there is no such device, it is being worked on, or the guest refuses or does not answer. In the
            last two cases it is remembered as one that may go later.
    """
    before = handle.load().device(uuid)
    with plugging(handle, "nothing can be taken out", reconcile) as session:
        record = session.runtime.device(uuid)
        if record is None:
            if before is not None and before.pending is Pending.REMOVE:
                return
            raise session.error(str(uuid), "the instance has no such device", HotplugCause.UNFIT)
        record = attrs.evolve(record, successor=None, fallback=None)
        with session.translate_errors(record.device):
            if jobs := find_jobs_on(session.monitor, record.device):
                problem = f"it is being worked on, which has to be over, or aborted, before: {', '.join(jobs)}"
                raise session.error(record.device, problem, HotplugCause.UNFIT)
            _take_out(session, record, timeout_s=timeout_s)
            session.retry_once(lambda monitor: _forget(session, monitor, record))


def hot_mod(handle: InstanceHandle, nic: Nic, *, timeout_s: float) -> None:
    """Change a NIC to what is given, as `BaseHypervisor.hot_mod_device` says: the old one goes, the new one comes.

    What would keep the new one from coming is looked for before the old one goes. Where it still cannot come, the old
    one comes back.

    Raises:
        HotplugError: the instance has no such NIC, or one of the steps failed; the error says where that leaves it.
        ParameterError: the instance cannot have such a NIC.
    """
    with plugging(handle, "no NIC can be changed", reconcile) as session:
        record = session.runtime.device(nic.uuid)
        old = _find_nic(session.runtime, nic.uuid)
        if record is None or old is None:
            raise session.error(nic_id(nic.uuid), "the instance has no such NIC", HotplugCause.UNFIT)
        if old == nic and record.pending is None:
            return
        with_device(session.runtime, nic, record)  # refuses twins
        options = plan_tap_options(TABLE.fill(session.runtime.instance.parameters))
        try:
            check_nic(nic, options, replaces=record.ifname)
        except NetworkError as error:
            raise session.error(record.device, f"{error}; the old one is as it was") from error
        with session.translate_errors(record.device):
            _take_out(session, attrs.evolve(record, successor=nic, fallback=None), timeout_s=timeout_s)
            _replace(session, record, nic, old)


def check_support(handle: InstanceHandle, kind: DeviceKind, *, needs_room: bool) -> None:
    """Return if devices of a kind can be plugged, as `BaseHypervisor.verify_hotplug_support` says.

    Raises:
        HotplugError: they cannot, and why.
    """
    state = handle.query().state
    if not state.is_alive:
        raise HotplugError(handle.name, kind.value, f"the instance is {state.value}", HotplugCause.UNFIT)
    runtime = handle.load()
    bus = BusKind.PCI
    if kind is DeviceKind.DISK:
        bus = DiskSettings.from_parameters(TABLE.fill(runtime.instance.parameters)).bus
    if bus is BusKind.IDE:
        raise HotplugError(handle.name, kind.value, _NO_IDE, HotplugCause.UNFIT)
    if needs_room:
        _allocate(runtime, handle, kind.value, bus)


# ---- what adding and removing have in common


def reconcile(session: HotplugSession) -> None:
    """Bring what is remembered and what the machine has together, where somebody died over a device.

    Raises:
        QmpError: the machine does not answer.
    """
    for record in session.runtime.devices:
        if record.pending is None:
            continue
        if is_plugged_in(session.monitor, record.device):
            if record.pending is Pending.ADD:  # one that was asked for may go at any time
                _settle_as_added(session, record)
            continue
        nic = _find_nic(session.runtime, record.uuid)
        try:
            if nic is not None and record.pending is Pending.REMOVE and record.successor is not None:
                _replace(session, record, record.successor, nic)
            elif nic is not None and record.pending is Pending.ADD and record.fallback is not None:
                _replace(session, record, nic, record.fallback)
            else:
                _forget(session, session.monitor, record)
        except (CommandError, HotplugError) as error:  # a job still uses what it stood on; the next one tries again
            _log.warning("%s: device %s: not settled: %s", session.handle.name, record.device, error)
    reconcile_limits(session)


def _find_nic(runtime: Runtime, uuid: UUID) -> Nic | None:
    return next((each for each in runtime.instance.nics if each.uuid == uuid), None)


def _settle_as_added(session: HotplugSession, record: DeviceRecord) -> None:
    session.persist(with_record(session.runtime, attrs.evolve(record, pending=None, successor=None, fallback=None)))


def _take_out(session: HotplugSession, record: DeviceRecord, *, timeout_s: float) -> None:
    """Have the guest let go of a device; what it stood on is still there afterwards.

    Raises:
        HotplugError: the guest does not. The device is remembered as one that may go later.
        QmpError: QEMU does not answer, or refuses.
    """
    session.persist(with_record(session.runtime, attrs.evolve(record, pending=Pending.REMOVE)))
    session.unplug(record.device, Deadline(timeout_s))


def _replace(session: HotplugSession, record: DeviceRecord, nic: Nic, fallback: Nic) -> None:
    """Plug a NIC in where another one was, or else the one to fall back on. One of the two comes, or is tried again.

    Raises:
        HotplugError: the NIC cannot come; the error says what became of the other one.
    """
    session.retry_once(lambda monitor: _clear_away(session, monitor, record))
    parameters = TABLE.fill(session.runtime.instance.parameters)
    try:
        _add_nic(session, nic, record.address, parameters, fallback=fallback)
    except HotplugError as error:
        if error.cause is HotplugCause.UNKNOWN:
            raise
        try:
            _add_nic(session, fallback, record.address, parameters, fallback=fallback)
        except HotplugError as problem:
            left = f"neither could the old one be put back, which is tried again later: {problem.reason}"
            raise session.error(record.device, f"{error.reason}; {left}", problem.cause) from error
        raise session.error(record.device, f"{error.reason}; the old one is back") from error


def _forget(session: HotplugSession, monitor: QmpConnection, record: DeviceRecord) -> None:
    """Remove what is left of a device that the machine does not have any more, and forget it."""
    _clear_away(session, monitor, record)
    session.persist(without_device(session.runtime, record.uuid))


def _clear_away(session: HotplugSession, monitor: QmpConnection, record: DeviceRecord) -> None:
    """Remove what is left of a device that the machine does not have any more. May be done twice."""
    nic = _find_nic(session.runtime, record.uuid)
    if nic is None:
        _remove_nodes(monitor, record)
        return
    queues = plan_tap_options(TABLE.fill(session.runtime.instance.parameters)).queues if nic.has_tap else 0
    commands = [
        *(NetdevDel(id=backend) for backend in record.backends),
        *(Closefd(fdname=name) for name in _lent_names(record.device, queues)),
    ]
    for command in commands:
        with contextlib.suppress(CommandError):  # it was never made, or has gone
            monitor.execute(command)
    take_down_nic(session.runtime.instance, nic, script=record.script)


def _lent_names(device: str, queues: int) -> tuple[str, ...]:
    """Return the names under which the files of a tap are lent: those of its queues, then the kernel's halves."""
    return tuple(f"{device}-{kind}{number}" for kind in ("queue", "vhost") for number in range(queues))


def _remove_nodes(monitor: QmpConnection, record: DeviceRecord) -> None:
    await_release(monitor, record.backends)
    there = read_nodes(monitor)
    for backend in reversed(record.backends):
        if backend in there:
            monitor.execute(BlockdevDel(node_name=backend))
    take_back_files(monitor, lambda label: label == record.device)


# ---- adding


def _allocate(runtime: Runtime, handle: InstanceHandle, device: str, bus: BusKind) -> Address:
    drives = plan_drive_places(TABLE.fill(runtime.instance.parameters), runtime.topology)
    used = {*drives.values(), *(record.address for record in runtime.devices)}
    try:
        return runtime.topology.allocate(bus, used)
    except ParameterError as error:
        raise HotplugError(handle.name, device, error.problem, HotplugCause.UNFIT) from error


@contextlib.contextmanager
def _remembering(session: HotplugSession, device: HotplugDevice, record: DeviceRecord) -> Iterator[None]:
    """Remember a device while it is added, and after; undo it where the block fails, as `adding` says.

    One that has a fallback stays marked where it could not come.
    """
    undo = _forget if record.fallback is None else _clear_away
    session.persist(with_device(session.runtime, device, record))
    with adding(session, record.device, lambda monitor: undo(session, monitor, record)):
        yield
    _settle_as_added(session, record)


def _add_disk(session: HotplugSession, disk: Disk, parameters: dict[str, Any]) -> None:
    settings = DiskSettings.from_parameters(parameters)
    if settings.bus is BusKind.IDE:
        raise session.error(disk_id(disk.uuid), _NO_IDE, HotplugCause.UNFIT)
    is_block_device = disk.uuid in read_block_devices([disk])
    address = _allocate(session.runtime, session.handle, disk_id(disk.uuid), settings.bus)

    def build(filename: str | None) -> DiskDevice:
        return build_disk(disk, settings, address, is_block_device=is_block_device, filename=filename)

    planned = build(None)
    record = DeviceRecord.of_disk(planned, pending=Pending.ADD, awaits_limits=disk.limits is not None)
    with _remembering(session, disk, record), ExitStack() as lent:
        if not session.runtime.opens_by_name:
            planned = build(lent.enter_context(lending(session.monitor, open_disk(disk), record.device)))
        for node in planned.nodes:
            session.monitor.execute(BlockdevAdd(node))
        session.monitor.execute(planned.device)
    if disk.limits is not None:
        # They are the device's, and cannot be there before it.
        try:
            set_limits(session, attrs.evolve(record, pending=None))
        except QmpError as error:
            problem = f"it is there, and is limited when the instance is next worked on: {error}"
            raise session.error(
                record.device, problem, HotplugCause.UNKNOWN if is_loss(error) else HotplugCause.REFUSED
            ) from error


def _add_nic(
    session: HotplugSession, nic: Nic, address: Address, parameters: dict[str, Any], *, fallback: Nic | None = None
) -> None:
    script = parameters["network_script"]
    record = DeviceRecord.of_nic(nic, address, script=script, pending=Pending.ADD, fallback=fallback)
    with _remembering(session, nic, record), ExitStack() as lent:
        files = None
        if nic.has_tap:
            tap = open_nic(session.runtime.instance, nic, plan_tap_options(parameters), script=script)
            lent.callback(tap.close)
            names = _lent_names(record.device, len(tap.queues))
            lend = [
                lent.enter_context(passed(session.monitor, *each)) for each in zip(tap.descriptors, names, strict=False)
            ]
            files = TapFiles(queues=tuple(lend[: len(tap.queues)]), vhosts=tuple(lend[len(tap.queues) :]))
        planned = build_nic(nic, parameters["nic_type"], address, tap=files)
        session.monitor.execute(NetdevAdd(planned.netdev))
        session.monitor.execute(planned.device)
