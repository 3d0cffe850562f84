# SPDX-License-Identifier: BSD-2-Clause
"""Give a running machine more memory, or have its guest give some back.

DIMMs are plugged: what is about to be done is remembered before it is done, and that it is done after; whoever dies in
between leaves one that is marked, and the next change settles it by what the machine has. A virtio-mem device is told
how much it is to give its guest; it knows that by itself, also on another node, so that nothing is remembered.
"""

import contextlib
from collections.abc import Mapping
from typing import Final

import attrs

from hvkit.hypervisor.errors import HotplugCause, ParameterError
from hvkit.hypervisor.kvm.devices.session import HotplugSession, adding, plugging
from hvkit.hypervisor.kvm.host.runtime import DimmRecord, Pending, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
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
from hvkit.hypervisor.model import check_integer
from hvkit.qmp import CommandError, EventTimeout, QmpConnection
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
#: Seconds after which a virtio-mem device is looked at, though it said nothing: it says several changes as one.
_LOOK_AGAIN_S: Final = 0.5


def set_memory(handle: InstanceHandle, memory_mib: int, *, timeout_s: float) -> int:
    """Have an instance have an amount of memory, as `BaseHypervisor.set_instance_memory` says.

    Args:
        instances: those of this node.
        handle: files of the instance.
        memory_mib: how much, in MiB.
        timeout_s: seconds that the guest has to do its part.

    Returns:
        How much it has, in MiB.

    Raises:
        HotplugError: the machine does not, or the guest does not do its part.
        ParameterError: it cannot have so much, or so little.
    """
    with plugging(handle, "its memory cannot be changed", reconcile) as session:
        instance = session.runtime.instance
        parameters = TABLE.fill(instance.parameters)
        check_integer(_NAME, memory_mib, instance.memory_mib, plan_memory_max(instance, parameters))
        with session.translate_errors(_NAME):
            if not parameters["memory_max_mib"]:
                return memory_mib
            if has_memory_device(parameters):
                _resize(session, memory_mib, Deadline(timeout_s))
            else:
                _plug_dimms(session, memory_mib, Deadline(timeout_s))
            return read_memory_mib(session.monitor)


def read_memory_mib(monitor: QmpConnection) -> int:
    """Return the memory that a machine has, in MiB, whatever the balloon took of it.

    Raises:
        QmpError: it does not say.
    """
    memory = monitor.execute(QueryMemorySizeSummary())
    return (memory.base_memory + (memory.plugged_memory or 0)) // _MIB


def reconcile(session: HotplugSession) -> None:
    """Bring the DIMMs that are remembered, and those that the machine has, together.

    Raises:
        QmpError: the machine does not answer.
    """
    if not session.runtime.dimms:
        return
    there = {dimm.device: dimm for dimm in _read_dimms(session.monitor)}
    for record in session.runtime.dimms:
        dimm = there.get(record.dimm.device)
        if dimm is None:
            _forget(session, session.monitor, record)
        elif record.pending is Pending.ADD:
            session.persist(_with(session.runtime, DimmRecord(dimm=dimm)))


def _read_dimms(monitor: QmpConnection) -> tuple[Dimm, ...]:
    return read_dimms(monitor.execute(QueryMemoryDevices()))


# ---- DIMMs


def _plug_dimms(session: HotplugSession, memory_mib: int, deadline: Deadline) -> None:
    asked = [each.dimm.device for each in session.runtime.dimms if each.pending is Pending.REMOVE]
    try:
        change = plan_dimms(_read_dimms(session.monitor), session.runtime.instance.memory_mib, memory_mib, asked=asked)
    except ParameterError as error:
        raise session.error(_NAME, error.problem, HotplugCause.UNFIT) from error
    for dimm in change.coming:
        _add(session, dimm)
    for dimm in change.going:
        _remove(session, dimm, deadline)


def _add(session: HotplugSession, dimm: Dimm) -> None:
    record = DimmRecord(dimm=dimm, pending=Pending.ADD)
    session.persist(_with(session.runtime, record))
    with adding(session, dimm.device, lambda monitor: _forget(session, monitor, record)):
        session.monitor.execute(ObjectAdd(plan_dimm_backend(dimm, TABLE.fill(session.runtime.instance.parameters))))
        session.monitor.execute(dimm.build())
    for placed in session.retry_once(_read_dimms):
        if placed.device == dimm.device:
            session.persist(_with(session.runtime, DimmRecord(dimm=placed)))


def _remove(session: HotplugSession, dimm: Dimm, deadline: Deadline) -> None:
    record = DimmRecord(dimm=dimm, pending=Pending.REMOVE)
    session.persist(_with(session.runtime, record))
    session.unplug(dimm.device, deadline)
    session.retry_once(lambda monitor: _forget(session, monitor, record))


def _forget(session: HotplugSession, monitor: QmpConnection, record: DimmRecord) -> None:
    """Remove what is left of a DIMM that the machine does not have, and forget it. May be done twice."""
    with contextlib.suppress(CommandError):  # it was never made, or has gone
        monitor.execute(ObjectDel(id=record.dimm.backend))
    session.persist(_drop(session.runtime, record))


def _drop(runtime: Runtime, record: DimmRecord) -> Runtime:
    return attrs.evolve(runtime, dimms=tuple(each for each in runtime.dimms if each.dimm.device != record.dimm.device))


def _with(runtime: Runtime, record: DimmRecord) -> Runtime:
    return attrs.evolve(runtime, dimms=(*_drop(runtime, record).dimms, record))


# ---- virtio-mem


def _resize(session: HotplugSession, memory_mib: int, deadline: Deadline) -> None:
    """Tell the device how much to give its guest, and wait until the guest has just that.

    Raises:
        HotplugError: the guest is not there in time. The device goes on to ask for it.
        QmpError: QEMU does not answer, or refuses.
    """
    wanted = (memory_mib - session.runtime.instance.memory_mib) * _MIB
    device = session.retry_once(_find_device)
    if device is None:
        problem = "the guest let go of the device that gives it memory, and has it again when it is started anew"
        raise session.error(MEMORY_DEVICE_ID, problem, HotplugCause.UNFIT)
    if wanted % device.block_size:
        problem = f"memory comes in steps of {device.block_size // _MIB} MiB"
        raise session.error(MEMORY_DEVICE_ID, problem, HotplugCause.UNFIT)
    reached = session.retry_once(lambda monitor: _await_size(monitor, wanted, deadline))
    if reached != wanted:
        reached_mib = session.runtime.instance.memory_mib + reached // _MIB
        problem = f"the guest has {reached_mib} MiB of {memory_mib} after {deadline.timeout_s:g} s, and may go on"
        raise session.error(MEMORY_DEVICE_ID, problem, HotplugCause.GUEST_SILENT)


def read_beyond_balloon(monitor: QmpConnection, parameters: Mapping[str, object]) -> int:
    """Return the bytes that an instance's guest has and that its balloon takes no notice of: those of virtio-mem.

    Raises:
        QmpError: QEMU does not say.
    """
    return _read_given(monitor) if has_memory_device(parameters) else 0


def _find_device(monitor: QmpConnection) -> VirtioMEMDeviceInfo | None:
    """Return what QEMU says of the device; None where it has gone: a guest of the board pc can eject what it wants."""
    for info in monitor.execute(QueryMemoryDevices()):
        if isinstance(info, VirtioMEMDeviceInfoWrapper) and info.data.id == MEMORY_DEVICE_ID:
            return info.data
    return None


def _read_given(monitor: QmpConnection) -> int:
    """Return the bytes that the device gives to its guest."""
    device = _find_device(monitor)
    return 0 if device is None else device.size


def _await_size(monitor: QmpConnection, wanted: int, deadline: Deadline) -> int:
    """Ask for a size, and return the one that was reached in time. May be done twice."""
    with monitor.subscribe(MemoryDeviceSizeChangeEvent) as events:
        path = f"{DEVICES_PATH}/{MEMORY_DEVICE_ID}"
        monitor.execute(QomSet(path=path, property="requested-size", value=wanted))
        while True:
            reached = _read_given(monitor)
            left_s = deadline.remaining_s()
            if reached == wanted or left_s <= 0:
                return reached
            with contextlib.suppress(EventTimeout):
                events.get(timeout=min(left_s, _LOOK_AGAIN_S))
