# SPDX-License-Identifier: BSD-2-Clause
"""The memory of running instances: hot-plugged DIMMs, or the size of a virtio-mem device.

A DIMM is marked as pending in the state file before the command is sent to QEMU, and unmarked afterwards. After a crash
in between, the next change of the memory reconciles the mark with the machine. The size of a virtio-mem device is not
persisted: it is part of QEMU's own state, also after a migration.
"""

import contextlib
from collections.abc import Mapping
from typing import Final

import attrs

from hvkit.hypervisor.errors import HotplugCause, ParameterError
from hvkit.hypervisor.kvm.devices.session import (
    RELEASE_S,
    HotplugSession,
    hotplug_session,
    rollback_on_failure,
    wait_for_event,
)
from hvkit.hypervisor.kvm.host.polling import poll_until
from hvkit.hypervisor.kvm.host.runtime import DimmRecord, Pending, Runtime
from hvkit.hypervisor.kvm.plan.memory import plan_dimm_backend
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.kvm.plan.planning import plan_memory_max
from hvkit.hypervisor.kvm.plan.plugged import (
    DEVICES_PATH,
    MEMORY_DEVICE_ID,
    Dimm,
    has_memory_device,
    plan_dimms,
    read_dimms,
)
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import check_integer, check_timeout
from hvkit.qmp import CommandError, QmpConnection
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import (
    MemoryDeviceSizeChangeEvent,
    ObjectAdd,
    ObjectDel,
    QomSet,
    QueryMemoryDevices,
    QueryMemorySizeSummary,
    VirtioMEMDeviceInfo,
    VirtioMEMDeviceInfoWrapper,
)

_NAME: Final = "memory_mib"
_MIB: Final = 1 << 20
#: Seconds between two queries of the size of a virtio-mem device: QEMU may report several changes as one event.
_POLL_S: Final = 0.5


class MemoryVerbs(KvmSubject):
    """The verb of the capability MEMORY."""

    def set_instance_memory(self, name: str, memory_mib: int, *, timeout: float | None = None) -> int:
        """Set the amount of memory of an instance.

        The parameter `memory_max_mib` limits the amount, and `memory_hotplug` selects the mechanism. The default
        timeout is 30 s.
        """
        timeout_s = check_timeout(timeout, default_s=RELEASE_S)
        handle = self._instances.require_managed(name)
        with hotplug_session(handle, "cannot change its memory", reconcile_dimms) as session:
            instance = session.runtime.instance
            parameters = TABLE.fill(instance.parameters)
            check_integer(_NAME, memory_mib, instance.memory_mib, plan_memory_max(instance, parameters))
            deadline = Deadline(timeout_s)
            with session.translate_errors(_NAME):
                if not parameters["memory_max_mib"]:
                    return memory_mib
                if has_memory_device(parameters):
                    _resize_virtio_mem(session, memory_mib, deadline)
                else:
                    _change_dimms(session, memory_mib, deadline)
                    # A DIMM of an earlier request may have been released since the session began.
                    session.retry_once(lambda _: reconcile_dimms(session))
                return read_memory_mib(session.monitor)


def read_memory_mib(monitor: QmpConnection) -> int:
    """Return the memory of a machine in MiB, including what the balloon has reclaimed.

    Raises:
        QmpError: QEMU does not answer.
    """
    memory = monitor.execute(QueryMemorySizeSummary())
    return (memory.base_memory + (memory.plugged_memory or 0)) // _MIB


def read_virtio_mem_bytes(monitor: QmpConnection, parameters: Mapping[str, object]) -> int:
    """Return the bytes that a virtio-mem device gives to the guest; 0 if the instance has no such device.

    Raises:
        QmpError: QEMU does not answer.
    """
    return _read_virtio_mem_size(monitor) if has_memory_device(parameters) else 0


def reconcile_dimms(session: HotplugSession) -> None:
    """Bring the persisted DIMMs and those of the machine into agreement.

    Raises:
        QmpError: QEMU does not answer.
    """
    if not session.runtime.dimms:
        return
    existing = {dimm.device: dimm for dimm in _read_dimms(session.monitor)}
    for record in session.runtime.dimms:
        dimm = existing.get(record.dimm.device)
        if dimm is None:
            _delete(session, session.monitor, record)
        elif record.pending is Pending.ADD:
            session.persist(_with_dimm(session.runtime, DimmRecord(dimm=dimm)))


def _read_dimms(monitor: QmpConnection) -> tuple[Dimm, ...]:
    return read_dimms(monitor.execute(QueryMemoryDevices()))


def _change_dimms(session: HotplugSession, memory_mib: int, deadline: Deadline) -> None:
    requested = [each.dimm.device for each in session.runtime.dimms if each.pending is Pending.REMOVE]
    try:
        change = plan_dimms(
            _read_dimms(session.monitor), session.runtime.instance.memory_mib, memory_mib, requested=requested
        )
    except ParameterError as error:
        raise session.error(_NAME, error.problem, HotplugCause.UNFIT) from error
    for dimm in change.added:
        _add_dimm(session, dimm)
    for dimm in change.removed:
        _remove_dimm(session, dimm, deadline)


def _add_dimm(session: HotplugSession, dimm: Dimm) -> None:
    record = DimmRecord(dimm=dimm, pending=Pending.ADD)
    session.persist(_with_dimm(session.runtime, record))
    with rollback_on_failure(session, dimm.device, lambda monitor: _delete(session, monitor, record)):
        session.monitor.execute(ObjectAdd(plan_dimm_backend(dimm, TABLE.fill(session.runtime.instance.parameters))))
        session.monitor.execute(dimm.build())
    for placed in session.retry_once(_read_dimms):
        if placed.device == dimm.device:
            session.persist(_with_dimm(session.runtime, DimmRecord(dimm=placed)))


def _remove_dimm(session: HotplugSession, dimm: Dimm, deadline: Deadline) -> None:
    record = DimmRecord(dimm=dimm, pending=Pending.REMOVE)
    session.persist(_with_dimm(session.runtime, record))
    session.unplug(dimm.device, deadline)
    session.retry_once(lambda monitor: _delete(session, monitor, record))


def _delete(session: HotplugSession, monitor: QmpConnection, record: DimmRecord) -> None:
    """Delete the backend and the record of a DIMM that the machine does not have. May be repeated."""
    with contextlib.suppress(CommandError):  # the backend does not exist
        monitor.execute(ObjectDel(id=record.dimm.backend))
    session.persist(_without_dimm(session.runtime, record))


def _without_dimm(runtime: Runtime, record: DimmRecord) -> Runtime:
    return attrs.evolve(runtime, dimms=tuple(each for each in runtime.dimms if each.dimm.device != record.dimm.device))


def _with_dimm(runtime: Runtime, record: DimmRecord) -> Runtime:
    return attrs.evolve(runtime, dimms=(*_without_dimm(runtime, record).dimms, record))


def _resize_virtio_mem(session: HotplugSession, memory_mib: int, deadline: Deadline) -> None:
    """Set the requested size of the virtio-mem device, and wait until the guest has reached it.

    Raises:
        HotplugError: the guest has another amount at the deadline. The device keeps requesting the new size.
        QmpError: QEMU refused, or does not answer.
    """
    wanted = (memory_mib - session.runtime.instance.memory_mib) * _MIB
    device = session.retry_once(_find_virtio_mem)
    if device is None:
        problem = "the guest released its virtio-mem device; it has the device again after the next start"
        raise session.error(MEMORY_DEVICE_ID, problem, HotplugCause.UNFIT)
    if wanted % device.block_size:
        problem = f"memory can only change in steps of {device.block_size // _MIB} MiB"
        raise session.error(MEMORY_DEVICE_ID, problem, HotplugCause.UNFIT)
    reached = session.retry_once(lambda monitor: _request_size(monitor, wanted, deadline))
    if reached != wanted:
        reached_mib = session.runtime.instance.memory_mib + reached // _MIB
        problem = (
            f"the guest has {reached_mib} MiB of {memory_mib} after {deadline.timeout_s:g} s, and may reach it later"
        )
        raise session.error(MEMORY_DEVICE_ID, problem, HotplugCause.GUEST_SILENT)


def _find_virtio_mem(monitor: QmpConnection) -> VirtioMEMDeviceInfo | None:
    """Return the state of the virtio-mem device; None without one: with machine type pc, a guest can eject it."""
    for info in monitor.execute(QueryMemoryDevices()):
        if isinstance(info, VirtioMEMDeviceInfoWrapper) and info.data.id == MEMORY_DEVICE_ID:
            return info.data
    return None


def _read_virtio_mem_size(monitor: QmpConnection) -> int:
    device = _find_virtio_mem(monitor)
    return 0 if device is None else device.size


def _request_size(monitor: QmpConnection, wanted: int, deadline: Deadline) -> int:
    """Request a size in bytes, and return the size at the deadline, or earlier if it is reached. May be repeated."""
    with monitor.subscribe(MemoryDeviceSizeChangeEvent) as events:
        path = f"{DEVICES_PATH}/{MEMORY_DEVICE_ID}"
        monitor.execute(QomSet(path=path, property="requested-size", value=wanted))
        poll_until(
            lambda: _read_virtio_mem_size(monitor) == wanted,
            deadline,
            interval_s=_POLL_S,
            wait=wait_for_event(events),
        )
        return _read_virtio_mem_size(monitor)
