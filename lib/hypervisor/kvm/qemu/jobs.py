# SPDX-License-Identifier: BSD-2-Clause
"""Jobs of a QEMU: find them by id, and cancel those that are left over."""

import contextlib
from typing import Final

from hvkit.errors import HypervisorError
from hvkit.hypervisor.kvm.host.polling import poll_until
from hvkit.qmp import CommandError, QmpConnection
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import JobCancel, JobDismiss, JobInfo, QueryJobs

#: Seconds between two queries of cancelled jobs, and for all of them to end.
_QUERY_INTERVAL_S: Final = 0.1
_CANCEL_S: Final = 30.0


def find_jobs(monitor: QmpConnection, prefix: str) -> list[JobInfo]:
    """Return the jobs whose id has a prefix.

    Raises:
        QmpError: QEMU does not answer.
    """
    return [job for job in monitor.execute(QueryJobs()) if job.id.startswith(prefix)]


def find_jobs_on(monitor: QmpConnection, device: str) -> list[str]:
    """Return the ids of the jobs on a disk that are not concluded. The id of such a job ends with that of the device.

    Raises:
        QmpError: QEMU does not answer.
    """
    jobs = monitor.execute(QueryJobs())
    return [job.id for job in jobs if job.id.endswith(f"-{device}") and job.status != "concluded"]


def end_jobs(monitor: QmpConnection, prefix: str) -> None:
    """Cancel and dismiss all jobs whose id has a prefix, and wait until there are none.

    Raises:
        QmpError: QEMU does not answer.
        HypervisorError: a job does not end in time.
    """

    def cancel_or_dismiss() -> bool:
        jobs = find_jobs(monitor, prefix)
        for job in jobs:
            with contextlib.suppress(CommandError):  # its status may have changed since the query
                monitor.execute(JobDismiss(id=job.id) if job.status == "concluded" else JobCancel(id=job.id))
        return not jobs or not find_jobs(monitor, prefix)

    if not poll_until(cancel_or_dismiss, Deadline(_CANCEL_S), interval_s=_QUERY_INTERVAL_S):
        ids = ", ".join(job.id for job in find_jobs(monitor, prefix))
        raise HypervisorError(f"cannot cancel jobs {ids}: still running after {_CANCEL_S:g} s")
