# SPDX-License-Identifier: BSD-2-Clause
"""Bind the threads of a QEMU to processors of the node."""

from collections.abc import Sequence

from hvkit.hypervisor.kvm.host.affinity import set_affinity, set_process_affinity
from hvkit.hypervisor.kvm.host.process import Process
from hvkit.hypervisor.kvm.plan.devices import io_thread_id
from hvkit.hypervisor.kvm.plan.machine import MachinePlan
from hvkit.hypervisor.kvm.plan.parameters import CpuSet
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import QueryCpusFast, QueryIothreads


def bind_threads(monitor: QmpConnection, process: Process, plan: MachinePlan) -> None:
    """Bind the whole instance, or each of its processors, and after that its IOThreads, as the plan says.

    Its guest does not run yet.

    Raises:
        ProcessError: a thread is gone, or the node has none of the processors for it.
        QmpError: QEMU does not say which threads it has.
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
    """Bind each processor that a machine has. May be done again when there are more.

    Args:
        monitor: of the machine.
        affinity: for each place of a processor the node's processors that it may run on; None for all.

    Raises:
        ProcessError: a thread is gone, or the node has none of the processors for it.
        QmpError: QEMU does not say which threads it has.
    """
    for processor in monitor.execute(QueryCpusFast()):
        cpus = affinity[processor.cpu_index]
        if cpus is not None:
            set_affinity(processor.thread_id, cpus)
