# SPDX-License-Identifier: BSD-2-Clause
"""CPU affinity of threads and processes."""

import os
from collections.abc import Collection

from hvkit.hypervisor.kvm.host.process import ProcessError


def set_affinity(thread_id: int, cpus: Collection[int]) -> None:
    """Set the CPU affinity of one thread. Threads that it creates later inherit the affinity.

    Raises:
        ProcessError: the thread has ended, or none of the CPUs is available.
    """
    try:
        os.sched_setaffinity(thread_id, cpus)
    except OSError as error:
        raise ProcessError(
            f"thread {thread_id}: cannot set affinity to CPUs {sorted(cpus)}: {error.strerror}"
        ) from error


def set_process_affinity(pid: int, cpus: Collection[int]) -> None:
    """Set the CPU affinity of all threads of a process.

    Raises:
        ProcessError: the process has ended, or none of the CPUs is available.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError as error:
        raise ProcessError(f"process {pid}: {error.strerror}") from error
    for thread in threads:
        set_affinity(int(thread), cpus)
