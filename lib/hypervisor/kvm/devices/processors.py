# SPDX-License-Identifier: BSD-2-Clause
"""The vCPUs of running instances.

A vCPU is marked as pending in the state file before the command is sent to QEMU, and unmarked afterwards. After a crash
in between, the next change of the vCPUs reconciles the mark with the machine.
"""

import contextlib
from typing import Final

import attrs

from hvkit.hypervisor.errors import HotplugCause
from hvkit.hypervisor.kvm.devices.session import RELEASE_S, HotplugSession, hotplug_session, rollback_on_failure
from hvkit.hypervisor.kvm.host.process import ProcessError
from hvkit.hypervisor.kvm.host.runtime import Pending, ProcessorRecord, Runtime
from hvkit.hypervisor.kvm.plan.parameters import TABLE, parse_cpu_mask
from hvkit.hypervisor.kvm.plan.planning import plan_vcpus_max
from hvkit.hypervisor.kvm.plan.plugged import Processor, ProcessorPlaces, plan_processors
from hvkit.hypervisor.kvm.qemu.pinning import bind_processors
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import check_integer, check_timeout
from hvkit.qmp import QmpConnection
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import QueryHotpluggableCpus

_NAME: Final = "vcpus"
#: The oldest QEMU that survives the removal of a vCPU without KVM. The removal damages the memory of
#: QEMU 7.2, which crashes at the next hot-add or migration; the versions in between were not tested.
_TCG_REMOVAL_VERSION: Final = (10, 0, 0)


class VcpuVerbs(KvmSubject):
    """The verb of the capability VCPUS."""

    def set_instance_vcpus(self, name: str, vcpus: int, *, timeout: float | None = None) -> int:
        """Set the number of vCPUs of an instance.

        The parameter `vcpus_max` limits the number. The default timeout is 30 s.

        Raises:
            HotplugError: also without KVM, if QEMU would not survive the change: the removal of a vCPU before QEMU 10,
                and the addition of more vCPUs over time than `vcpus_max`.
        """
        timeout_s = check_timeout(timeout, default_s=RELEASE_S)
        handle = self._instances.require_managed(name)
        with hotplug_session(handle, "cannot change its vCPUs", reconcile_vcpus) as session:
            instance = session.runtime.instance
            vcpus_max = plan_vcpus_max(instance, TABLE.fill(instance.parameters))
            check_integer(_NAME, vcpus, instance.vcpus, vcpus_max)
            with session.translate_errors(_NAME):
                places = _read_places(session.monitor)
                requested = [
                    each.processor.device for each in session.runtime.processors if each.pending is Pending.REMOVE
                ]
                change = plan_processors(places, vcpus, requested=requested)
                _check_tcg(session, change.added, change.removed, vcpus_max - places.count)
                for processor in change.added:
                    _add(session, processor)
                deadline = Deadline(timeout_s)
                for processor in change.removed:
                    _remove(session, processor, deadline)
                # A vCPU of an earlier request may have been released since the session began.
                session.retry_once(lambda _: reconcile_vcpus(session))
            return session.runtime.vcpus


def reconcile_vcpus(session: HotplugSession) -> None:
    """Bring the persisted vCPUs and those of the machine into agreement.

    Raises:
        QmpError: QEMU does not answer.
    """
    if not session.runtime.processors:
        return
    plugged = {processor.device for processor in _read_places(session.monitor).plugged}
    for record in session.runtime.processors:
        if record.processor.device not in plugged:
            session.persist(_without(session.runtime, record, was_removed=record.pending is not Pending.ADD))
        elif record.pending is Pending.ADD:
            with contextlib.suppress(ProcessError):
                _bind(session)
            session.persist(_with(session.runtime, attrs.evolve(record, pending=None)))


def _read_places(monitor: QmpConnection) -> ProcessorPlaces:
    return ProcessorPlaces.from_reply(monitor.execute(QueryHotpluggableCpus()))


def _check_tcg(
    session: HotplugSession, added: tuple[Processor, ...], removed: tuple[Processor, ...], free_places: int
) -> None:
    """Check that QEMU survives a change of the vCPUs if it emulates them (TCG).

    Raises:
        HotplugError: it does not.
    """
    runtime = session.runtime
    if runtime.accelerator != "tcg":
        return
    version = ".".join(map(str, runtime.qemu_version))
    if removed and runtime.qemu_version < _TCG_REMOVAL_VERSION:
        problem = f"QEMU {version} without KVM crashes when a vCPU is removed: use QEMU 10 or KVM"
        raise session.error(removed[0].device, problem, HotplugCause.UNFIT)
    # QEMU allocates one translation context for each possible vCPU, and does not reuse that of a removed one.
    available = free_places - runtime.processors_gone
    if len(added) > available:
        problem = (
            f"QEMU without KVM can add {available} more vCPUs, because {runtime.processors_gone} were removed:"
            " stop and start the instance"
        )
        raise session.error(added[0].device, problem, HotplugCause.UNFIT)


def _add(session: HotplugSession, processor: Processor) -> None:
    record = ProcessorRecord(processor=processor, pending=Pending.ADD)
    session.persist(_with(session.runtime, record))
    with rollback_on_failure(session, processor.device, lambda _: session.persist(_without(session.runtime, record))):
        session.monitor.execute(processor.build())
    try:
        session.retry_once(lambda _: _bind(session))
    except ProcessError as error:
        # The vCPU stays marked as pending: the next change binds it.
        raise session.error(
            processor.device, f"it was added, but could not be bound as cpu_mask requires: {error}"
        ) from error
    session.persist(_with(session.runtime, ProcessorRecord(processor=processor)))


def _bind(session: HotplugSession) -> None:
    """Bind each vCPU to the CPUs of the node that `cpu_mask` lists for it. May be repeated.

    A mask for the whole instance needs no action: new threads of QEMU inherit it.

    Raises:
        QmpError: QEMU does not answer.
        ProcessError: the kernel refused.
    """
    affinity = parse_cpu_mask(TABLE.fill(session.runtime.instance.parameters)["cpu_mask"])
    if len(affinity) > 1:
        bind_processors(session.monitor, affinity)


def _remove(session: HotplugSession, processor: Processor, deadline: Deadline) -> None:
    record = ProcessorRecord(processor=processor, pending=Pending.REMOVE)
    session.persist(_with(session.runtime, record))
    session.unplug(processor.device, deadline)
    session.persist(_without(session.runtime, record, was_removed=True))


def _without(runtime: Runtime, record: ProcessorRecord, *, was_removed: bool = False) -> Runtime:
    """Return the state without a vCPU that was removed, or that was never added."""
    device = record.processor.device
    return attrs.evolve(
        runtime,
        processors=tuple(each for each in runtime.processors if each.processor.device != device),
        processors_gone=runtime.processors_gone + was_removed,
    )


def _with(runtime: Runtime, record: ProcessorRecord) -> Runtime:
    return attrs.evolve(runtime, processors=(*_without(runtime, record).processors, record))
