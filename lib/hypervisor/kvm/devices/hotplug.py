# SPDX-License-Identifier: BSD-2-Clause
"""Hot-add, hot-remove and modification of the disks and NICs of running instances.

A device is marked as pending in the state file before QEMU is told, and unmarked afterwards. A crash in between leaves
the mark; the next operation on the devices of the instance reconciles it with what QEMU has: a device of the machine is
kept, the backends of a missing device are deleted. A NIC that was being modified is never dropped: the new one is
added, or the old one is restored.
"""

import contextlib
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import HotplugCause, HotplugError, InstanceStateError, ParameterError, reason_of
from hvkit.hypervisor.kvm.devices.limits import reconcile_limits, set_limits
from hvkit.hypervisor.kvm.devices.session import (
    RELEASE_S,
    HotplugSession,
    hotplug_session,
    is_outcome_unknown,
    rollback_on_failure,
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
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import DeviceAction, DeviceKind, Disk, HotplugDevice, Nic, check_kind
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

_NO_IDE: Final = "IDE disks cannot be hot-added or hot-removed"
_NO_DISK_MODIFICATION: Final = "a disk cannot be modified: hot-remove it and hot-add the new one"


class HotplugVerbs(KvmSubject):
    """The verbs of the capability HOTPLUG."""

    def verify_hotplug_support(self, name: str, action: DeviceAction, kind: DeviceKind) -> None:
        check_kind(action, DeviceAction)
        check_kind(kind, DeviceKind)
        handle = self._instances.require_managed(name)
        state = handle.query().state
        if not state.is_alive:
            raise InstanceStateError(name, state.value, "cannot change devices")
        if kind is DeviceKind.DISK and action is DeviceAction.MODIFY:
            raise HotplugError(name, kind.value, _NO_DISK_MODIFICATION, HotplugCause.UNFIT)
        runtime = handle.load()
        bus = BusKind.PCI
        if kind is DeviceKind.DISK:
            bus = DiskSettings.from_parameters(TABLE.fill(runtime.instance.parameters)).bus
        if bus is BusKind.IDE:
            raise HotplugError(name, kind.value, _NO_IDE, HotplugCause.UNFIT)
        if action is DeviceAction.ADD:
            _allocate(runtime, handle, kind.value, bus)

    def hot_add_device(self, name: str, device: HotplugDevice) -> None:
        """Add a disk or a NIC.

        The limits of a disk are set just after it was added. If that fails the disk stays, and the error says so; the
        next operation on the devices of the instance sets the limits.

        Raises:
            ParameterError: the image of the disk cannot be used, or the device conflicts with another one.
        """
        check_kind(device, Disk, Nic)
        handle = self._instances.require_managed(name)
        with hotplug_session(handle, "cannot hot-add a device", reconcile_devices) as session:
            if session.runtime.device(device.uuid) is not None:
                raise session.error(device_id(device), "the instance already has this device", HotplugCause.UNFIT)
            parameters = TABLE.fill(session.runtime.instance.parameters)
            with session.translate_errors(device_id(device)):
                if isinstance(device, Disk):
                    _add_disk(session, device, parameters)
                else:
                    address = _allocate(session.runtime, handle, device_id(device), BusKind.PCI)
                    _add_nic(session, device, address, parameters)

    def hot_del_device(self, name: str, device: HotplugDevice) -> None:
        """Remove a disk or a NIC. The guest has 30 s to release it.

        The request is repeated every few seconds, because a guest that boots misses it. A paused guest cannot release
        most devices. If the guest releases the device after the timeout, the next operation on the devices of the
        instance deletes its backends. A disk that a backup, snapshot or copy job uses is refused without asking the
        guest, because its block nodes could not be deleted.

        Raises:
            HotplugError: there is no such device, a job uses it, or the guest refuses or does not answer. In the last
                two cases the device stays marked as pending removal.
        """
        check_kind(device, Disk, Nic)
        handle = self._instances.require_managed(name)
        before = handle.load().device(device.uuid)
        with hotplug_session(handle, "cannot hot-remove a device", reconcile_devices) as session:
            record = session.runtime.device(device.uuid)
            if record is None:
                if before is not None and before.pending is Pending.REMOVE:
                    return  # the guest released it after an earlier request
                raise session.error(device_id(device), "the instance has no such device", HotplugCause.UNFIT)
            record = attrs.evolve(record, successor=None, fallback=None)
            with session.translate_errors(record.device):
                if jobs := find_jobs_on(session.monitor, record.device):
                    problem = f"used by jobs that must finish or be aborted first: {', '.join(jobs)}"
                    raise session.error(record.device, problem, HotplugCause.UNFIT)
                _unplug(session, record)
                session.retry_once(lambda monitor: _delete(session, monitor, record))

    def hot_mod_device(self, name: str, device: HotplugDevice) -> None:
        """Replace a NIC by another one with the same uuid. A disk cannot be modified.

        Everything that can be checked about the new NIC is checked before the old one is removed. If the new one cannot
        be added after all, the old one is restored.

        Raises:
            ParameterError: the new NIC conflicts with another device.
        """
        check_kind(device, Disk, Nic)
        handle = self._instances.require_managed(name)
        with hotplug_session(handle, "cannot modify a device", reconcile_devices) as session:
            if isinstance(device, Disk):
                raise session.error(device_id(device), _NO_DISK_MODIFICATION, HotplugCause.UNFIT)
            record = session.runtime.device(device.uuid)
            old = _find_nic(session.runtime, device.uuid)
            if record is None or old is None:
                raise session.error(nic_id(device.uuid), "the instance has no such NIC", HotplugCause.UNFIT)
            if old == device and record.pending is None:
                return
            with_device(session.runtime, device, record)  # raises ParameterError for a conflict
            options = plan_tap_options(TABLE.fill(session.runtime.instance.parameters))
            try:
                check_nic(device, options, replaces=record.ifname)
            except NetworkError as error:
                raise session.error(record.device, f"{error}; the NIC was not modified") from error
            with session.translate_errors(record.device):
                _unplug(session, attrs.evolve(record, successor=device, fallback=None))
                _replace(session, record, device, old)


def device_id(device: HotplugDevice) -> str:
    """Return the id of a disk or a NIC in QEMU."""
    return disk_id(device.uuid) if isinstance(device, Disk) else nic_id(device.uuid)


def reconcile_devices(session: HotplugSession) -> None:
    """Bring the persisted disks and NICs and those of the machine into agreement.

    Raises:
        QmpError: QEMU does not answer.
    """
    for record in session.runtime.devices:
        if record.pending is None:
            continue
        if is_plugged_in(session.monitor, record.device):
            if record.pending is Pending.ADD:  # a device pending removal may still be released at any time
                _mark_added(session, record)
            continue
        nic = _find_nic(session.runtime, record.uuid)
        try:
            if nic is not None and record.pending is Pending.REMOVE and record.successor is not None:
                _replace(session, record, record.successor, nic)
            elif nic is not None and record.pending is Pending.ADD and record.fallback is not None:
                _replace(session, record, nic, record.fallback)
            else:
                _delete(session, session.monitor, record)
        except (CommandError, HotplugError) as error:  # a job still uses the block nodes: the next operation retries
            _log.warning("%s: device %s: not reconciled: %s", session.handle.name, record.device, error)
    reconcile_limits(session)


def _find_nic(runtime: Runtime, uuid: UUID) -> Nic | None:
    return next((each for each in runtime.instance.nics if each.uuid == uuid), None)


def _mark_added(session: HotplugSession, record: DeviceRecord) -> None:
    session.persist(with_record(session.runtime, attrs.evolve(record, pending=None, successor=None, fallback=None)))


def _unplug(session: HotplugSession, record: DeviceRecord) -> None:
    """Remove a device from the machine. Its backends remain.

    Raises:
        HotplugError: the guest does not release it. The device stays marked as pending removal.
        QmpError: QEMU refused, or does not answer.
    """
    session.persist(with_record(session.runtime, attrs.evolve(record, pending=Pending.REMOVE)))
    session.unplug(record.device, Deadline(RELEASE_S))


def _replace(session: HotplugSession, record: DeviceRecord, nic: Nic, fallback: Nic) -> None:
    """Add a NIC in place of one that was removed; if that fails, add the fallback.

    If both fail, the device stays marked as pending addition, and the next operation tries again.

    Raises:
        HotplugError: the NIC was not added; the error says whether the fallback was.
    """
    session.retry_once(lambda monitor: _delete_backends(session, monitor, record))
    parameters = TABLE.fill(session.runtime.instance.parameters)
    try:
        _add_nic(session, nic, record.address, parameters, fallback=fallback)
    except HotplugError as error:
        if error.cause is HotplugCause.UNKNOWN:
            raise
        try:
            _add_nic(session, fallback, record.address, parameters, fallback=fallback)
        except HotplugError as problem:
            outcome = f"the old NIC was not restored, which the next hotplug operation retries: {problem.reason}"
            raise session.error(record.device, f"{error.reason}; {outcome}", problem.cause) from error
        raise session.error(record.device, f"{error.reason}; the old NIC was restored") from error


def _delete(session: HotplugSession, monitor: QmpConnection, record: DeviceRecord) -> None:
    """Delete the backends and the record of a device that the machine does not have. May be repeated."""
    _delete_backends(session, monitor, record)
    session.persist(without_device(session.runtime, record.uuid))


def _delete_backends(session: HotplugSession, monitor: QmpConnection, record: DeviceRecord) -> None:
    """Delete the backends of a device that the machine does not have. May be repeated."""
    nic = _find_nic(session.runtime, record.uuid)
    if nic is None:
        _delete_nodes(monitor, record)
        return
    queues = plan_tap_options(TABLE.fill(session.runtime.instance.parameters)).queues if nic.has_tap else 0
    commands = [
        *(NetdevDel(id=backend) for backend in record.backends),
        *(Closefd(fdname=name) for name in _tap_file_names(record.device, queues)),
    ]
    for command in commands:
        with contextlib.suppress(CommandError):  # it does not exist
            monitor.execute(command)
    take_down_nic(session.runtime.instance, nic, script=record.script)


def _tap_file_names(device: str, queues: int) -> tuple[str, ...]:
    """Return the names under which the fds of a tap are passed to QEMU: its queues, then their vhost fds."""
    return tuple(f"{device}-{kind}{number}" for kind in ("queue", "vhost") for number in range(queues))


def _delete_nodes(monitor: QmpConnection, record: DeviceRecord) -> None:
    await_release(monitor, record.backends)
    existing = read_nodes(monitor)
    for backend in reversed(record.backends):
        if backend in existing:
            monitor.execute(BlockdevDel(node_name=backend))
    take_back_files(monitor, lambda label: label == record.device)


def _allocate(runtime: Runtime, handle: InstanceHandle, device: str, bus: BusKind) -> Address:
    drives = plan_drive_places(TABLE.fill(runtime.instance.parameters), runtime.topology)
    used = {*drives.values(), *(record.address for record in runtime.devices)}
    try:
        return runtime.topology.allocate(bus, used)
    except ParameterError as error:
        raise HotplugError(handle.name, device, error.problem, HotplugCause.UNFIT) from error


@contextlib.contextmanager
def _pending_addition(session: HotplugSession, device: HotplugDevice, record: DeviceRecord) -> Iterator[None]:
    """Persist a device as pending addition for the duration of the block, and roll it back if the block fails.

    A device that has a fallback keeps its mark after a failure.
    """
    undo = _delete if record.fallback is None else _delete_backends
    session.persist(with_device(session.runtime, device, record))
    with rollback_on_failure(session, record.device, lambda monitor: undo(session, monitor, record)):
        yield
    _mark_added(session, record)


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
    with _pending_addition(session, disk, record), ExitStack() as stack:
        if not session.runtime.opens_by_name:
            planned = build(stack.enter_context(lending(session.monitor, open_disk(disk), record.device)))
        for node in planned.nodes:
            session.monitor.execute(BlockdevAdd(node))
        session.monitor.execute(planned.device)
    if disk.limits is not None:
        # Limits belong to the device in QEMU, so they cannot be set earlier.
        try:
            set_limits(session, attrs.evolve(record, pending=None))
        except QmpError as error:
            reason = reason_of(error)
            problem = f"it was added, but its limits are not set, which the next hotplug operation retries: {reason}"
            cause = HotplugCause.UNKNOWN if is_outcome_unknown(error) else HotplugCause.REFUSED
            raise session.error(record.device, problem, cause) from error


def _add_nic(
    session: HotplugSession, nic: Nic, address: Address, parameters: dict[str, Any], *, fallback: Nic | None = None
) -> None:
    script = parameters["network_script"]
    record = DeviceRecord.of_nic(nic, address, script=script, pending=Pending.ADD, fallback=fallback)
    with _pending_addition(session, nic, record), ExitStack() as stack:
        files = None
        if nic.has_tap:
            tap = open_nic(session.runtime.instance, nic, plan_tap_options(parameters), script=script)
            stack.callback(tap.close)
            names = _tap_file_names(record.device, len(tap.queues))
            passed_names = [
                stack.enter_context(passed(session.monitor, *each))
                for each in zip(tap.descriptors, names, strict=False)
            ]
            count = len(tap.queues)
            files = TapFiles(queues=tuple(passed_names[:count]), vhosts=tuple(passed_names[count:]))
        planned = build_nic(nic, parameters["nic_type"], address, tap=files)
        session.monitor.execute(NetdevAdd(planned.netdev))
        session.monitor.execute(planned.device)
