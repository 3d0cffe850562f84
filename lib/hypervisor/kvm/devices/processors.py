# SPDX-License-Identifier: BSD-2-Clause
"""Plug processors into a running machine, and have its guest let go of them.

What is about to be done is remembered before it is done, and that it is done after; whoever dies in between leaves a
processor that is marked, and the next change settles it by what the machine has.
"""

import contextlib
from typing import Final

import attrs

from hvkit.hypervisor.errors import HotplugCause
from hvkit.hypervisor.kvm.devices.session import HotplugSession, adding, plugging
from hvkit.hypervisor.kvm.host.process import ProcessError
from hvkit.hypervisor.kvm.host.runtime import Pending, ProcessorRecord, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.plan.parameters import TABLE, parse_cpu_mask
from hvkit.hypervisor.kvm.plan.planning import plan_vcpus_max
from hvkit.hypervisor.kvm.plan.plugged import Processor, ProcessorPlaces, plan_processors
from hvkit.hypervisor.kvm.qemu.pinning import bind_processors
from hvkit.hypervisor.model import check_integer
from hvkit.qmp import QmpConnection
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import QueryHotpluggableCpus

_NAME: Final = "vcpus"
#: The oldest QEMU that survives, without KVM, that a processor is taken out. 7.2 is left with damaged memory and dies
#: of whatever is plugged next, or of a migration; those in between were not tried.
_SURVIVES_WITHOUT_KVM: Final = (10, 0, 0)


def set_vcpus(handle: InstanceHandle, vcpus: int, *, timeout_s: float) -> int:
    """Have an instance have a number of processors, as `BaseHypervisor.set_instance_vcpus` says.

    Args:
        instances: those of this node.
        handle: files of the instance.
        vcpus: how many.
        timeout_s: seconds that the guest has to let go of those that are too many.

    Returns:
        How many it has.

    Raises:
        HotplugError: the machine does not, or the guest does not let go.
        ParameterError: there can be no such number of them.
    """
    with plugging(handle, "its processors cannot be changed", reconcile) as session:
        instance = session.runtime.instance
        most = plan_vcpus_max(instance, TABLE.fill(instance.parameters))
        check_integer(_NAME, vcpus, instance.vcpus, most)
        with session.translate_errors(_NAME):
            places = _read_places(session.monitor)
            asked = [each.processor.device for each in session.runtime.processors if each.pending is Pending.REMOVE]
            change = plan_processors(places, vcpus, asked=asked)
            _check_emulator(session, change.coming, change.going, places.count, most)
            for processor in change.coming:
                _add(session, processor)
            deadline = Deadline(timeout_s)
            for processor in change.going:
                _remove(session, processor, deadline)
        return session.runtime.vcpus


def reconcile(session: HotplugSession) -> None:
    """Bring the processors that are remembered, and those that the machine has, together.

    Raises:
        QmpError: the machine does not answer.
    """
    if not session.runtime.processors:
        return
    there = {processor.device for processor in _read_places(session.monitor).plugged}
    for record in session.runtime.processors:
        if record.processor.device not in there:
            session.persist(_drop(session.runtime, record, has_gone=record.pending is not Pending.ADD))
        elif record.pending is Pending.ADD:
            with contextlib.suppress(ProcessError):
                _bind(session)
            session.persist(_with(session.runtime, attrs.evolve(record, pending=None)))


def _read_places(monitor: QmpConnection) -> ProcessorPlaces:
    return ProcessorPlaces.from_answer(monitor.execute(QueryHotpluggableCpus()))


def _check_emulator(
    session: HotplugSession, coming: tuple[Processor, ...], going: tuple[Processor, ...], there: int, most: int
) -> None:
    """Refuse what a QEMU that emulates the processors would not survive.

    Raises:
        HotplugError: it would not.
    """
    runtime = session.runtime
    if runtime.accelerator != "tcg":
        return
    version = ".".join(map(str, runtime.qemu_version))
    if going and runtime.qemu_version < _SURVIVES_WITHOUT_KVM:
        problem = f"QEMU {version} does not survive that a processor is taken out where it runs without KVM"
        raise session.error(going[0].device, problem, HotplugCause.UNFIT)
    # It can translate for as many processors as there can be, and what it has for one that went is lost.
    room = most - there - runtime.processors_gone
    if len(coming) > room:
        problem = f"QEMU without KVM can make {room} processors more: {runtime.processors_gone} were taken out"
        raise session.error(coming[0].device, problem, HotplugCause.UNFIT)


def _add(session: HotplugSession, processor: Processor) -> None:
    record = ProcessorRecord(processor=processor, pending=Pending.ADD)
    session.persist(_with(session.runtime, record))
    with adding(session, processor.device, lambda _: session.persist(_drop(session.runtime, record))):
        session.monitor.execute(processor.build())
    try:
        session.retry_once(lambda _: _bind(session))
    except ProcessError as error:
        # It stays marked: the next change tries again.
        raise session.error(processor.device, f"it has come, and is not bound as cpu_mask says: {error}") from error
    session.persist(_with(session.runtime, ProcessorRecord(processor=processor)))


def _bind(session: HotplugSession) -> None:
    """Bind the processors to what the instance's `cpu_mask` has for each of them. May be done twice.

    Where the mask is for the instance as a whole, QEMU's new threads have it from the one that made them.

    Raises:
        QmpError: the machine does not answer.
        ProcessError: the kernel refuses.
    """
    affinity = parse_cpu_mask(TABLE.fill(session.runtime.instance.parameters)["cpu_mask"])
    if len(affinity) > 1:
        bind_processors(session.monitor, affinity)


def _remove(session: HotplugSession, processor: Processor, deadline: Deadline) -> None:
    record = ProcessorRecord(processor=processor, pending=Pending.REMOVE)
    session.persist(_with(session.runtime, record))
    session.unplug(processor.device, deadline)
    session.persist(_drop(session.runtime, record, has_gone=True))


# ---- what is remembered, changed by one processor


def _drop(runtime: Runtime, record: ProcessorRecord, *, has_gone: bool = False) -> Runtime:
    """Forget one that the machine does not have: that has gone, or never came."""
    device = record.processor.device
    return attrs.evolve(
        runtime,
        processors=tuple(each for each in runtime.processors if each.processor.device != device),
        processors_gone=runtime.processors_gone + has_gone,
    )


def _with(runtime: Runtime, record: ProcessorRecord) -> Runtime:
    return attrs.evolve(runtime, processors=(*_drop(runtime, record).processors, record))
