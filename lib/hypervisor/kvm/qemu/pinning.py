# SPDX-License-Identifier: BSD-2-Clause
"""CPU affinity of the vCPU threads and IOThreads of a QEMU."""

from collections.abc import Sequence

from hvkit.hypervisor.kvm.host.affinity import set_affinity, set_process_affinity
from hvkit.hypervisor.kvm.host.process import Process
from hvkit.hypervisor.kvm.plan.devices import io_thread_id
from hvkit.hypervisor.kvm.plan.machine import MachinePlan
from hvkit.hypervisor.kvm.plan.parameters import CpuSet
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import QueryCpusFast, QueryIothreads


def bind_threads(monitor: QmpConnection, process: Process, plan: MachinePlan) -> None:
    """Set the CPU affinity of the whole QEMU or of each vCPU, and then of its IOThreads, as planned.

    Raises:
        ProcessError: a thread has ended, or the node has none of its CPUs.
        QmpError: QEMU does not answer.
    """
    affinity = plan.processors.affinity
    if len(affinity) == 1:
        if affinity[0] is not None:
            set_process_affinity(process.identity.pid, affinity[0])
    else:
        bind_processors(monitor, affinity)
    if any(cpus is not None for cpus in plan.io_thread_affinity):
        threads = {thread.id: thread.thread_id for thread in monitor.execute(QueryIothreads())}
        for number, cpus in enumerate(plan.io_thread_affinity):
            if cpus is not None:
                set_affinity(threads[io_thread_id(number)], cpus)


def bind_processors(monitor: QmpConnection, affinity: Sequence[CpuSet]) -> None:
    """Set the CPU affinity of each vCPU. Call it again after vCPUs were added.

    Args:
        monitor: a monitor of the instance.
        affinity: the CPUs of the node for each vCPU index; None for all CPUs.

    Raises:
        ProcessError: a thread has ended, or the node has none of its CPUs.
        QmpError: QEMU does not answer.
    """
    for processor in monitor.execute(QueryCpusFast()):
        cpus = affinity[processor.cpu_index]
        if cpus is not None:
            set_affinity(processor.thread_id, cpus)
