# SPDX-License-Identifier: BSD-2-Clause
"""End jobs of a QEMU that nobody waits for any more."""

import contextlib
import time
from typing import Final

from hvkit.errors import HypervisorError
from hvkit.qmp import CommandError, QmpConnection
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import JobCancel, JobDismiss, JobInfo, QueryJobs

#: Seconds between two looks, and for all of them to end.
_LOOK_AGAIN_S: Final = 0.1
_CANCEL_S: Final = 30.0


def find_jobs(monitor: QmpConnection, prefix: str) -> list[JobInfo]:
    """Return the jobs whose id begins in a certain way.

    Raises:
        QmpError: QEMU does not answer.
    """
    return [job for job in monitor.execute(QueryJobs()) if job.id.startswith(prefix)]


def find_jobs_on(monitor: QmpConnection, device: str) -> list[str]:
    """Return the jobs that work on a disk, known by its device, and are not over. Their ids end with it.

    Raises:
        QmpError: QEMU does not answer.
    """
    jobs = monitor.execute(QueryJobs())
    return [job.id for job in jobs if job.id.endswith(f"-{device}") and job.status != "concluded"]


def end_jobs(monitor: QmpConnection, prefix: str) -> None:
    """Cancel all jobs whose id begins in a certain way, wait for their end and have QEMU forget them.

    Raises:
        QmpError: QEMU does not answer.
        HypervisorError: one does not end.
    """
    deadline = Deadline(_CANCEL_S)
    while jobs := find_jobs(monitor, prefix):
        for job in jobs:
            with contextlib.suppress(CommandError):  # it changes while we look
                monitor.execute(JobDismiss(id=job.id) if job.status == "concluded" else JobCancel(id=job.id))
        if deadline.remaining_s() <= 0:
            names = ", ".join(job.id for job in jobs)
            raise HypervisorError(f"{names} was cancelled and goes on after {_CANCEL_S:g} s")
        if any(job.status != "concluded" for job in jobs):
            time.sleep(_LOOK_AGAIN_S)
