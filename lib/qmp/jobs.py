# SPDX-License-Identifier: BSD-2-Clause
"""QEMU jobs, block jobs included: start, track, wait, complete, cancel.

`Job` and `run_job` are for a blocking connection, `AsyncJob` and `run_async_job` for an asyncio connection. The steps
of every operation are in `hvkit.qmp.job_steps`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar

from hvkit.qmp.base import Command
from hvkit.qmp.deadlines import Deadline, check_timeout
from hvkit.qmp.errors import EventTimeout, JobCancelled, JobError, JobTimeout, QmpError
from hvkit.qmp.job_steps import (
    EVENTS,
    BoundedCommand,
    JobGenerator,
    JobProgress,
    JobTracker,
    NextEvent,
    is_about,
    prepare_command,
)
from hvkit.qmp.schema import JobFinalize, JobPause, JobResume

if TYPE_CHECKING:
    from hvkit.qmp.aio import AsyncQmpConnection
    from hvkit.qmp.schema import JobStatus
    from hvkit.qmp.sync.connection import QmpConnection

__all__ = ["AsyncJob", "Job", "JobCancelled", "JobError", "JobProgress", "JobTimeout", "run_async_job", "run_job"]

T = TypeVar("T")


def _deadline(timeout: float | None) -> Deadline:
    if timeout is None:
        return Deadline(math.inf)
    check_timeout(timeout)
    return Deadline(timeout)


class Job(JobTracker):
    """A QEMU job, tracked over a blocking connection; made by `start` or `find`.

    Any thread may pause, resume, complete, finalize or cancel the job. Only one thread at a time may call `wait`,
    `wait_for` or `progress`.

    After CommandTimeout or ConnectionLost the state of the job is unknown. Connect again and use `find`.

    Every timeout is in seconds, `math.inf` for no limit. A timeout that is not a number raises ProgrammerError.
    """

    def __init__(self, connection: QmpConnection, job_id: str, *, exists: bool = True) -> None:
        self._events = connection.subscribe(*EVENTS, match=is_about(job_id))
        super().__init__(job_id, self._events, exists=exists)
        self._connection = connection

    @classmethod
    def start(cls, connection: QmpConnection, command: Command[Any], *, timeout: float | None = None) -> Self:
        """Start a job and track it.

        After its end the job stays in status ``concluded`` until `wait` or `dismiss` dismisses it, unless the command
        sets `auto_dismiss`. A command without a job id gets a generated id.

        Args:
            connection: to the QEMU that runs the job.
            command: a command that starts a job, such as `BlockdevBackup`, `BlockStream` or `SnapshotSave`.
            timeout: of the command; None: the default, as for `QmpConnection.execute`.

        Raises:
            CommandError: QEMU refused the command; there is no job.
            QmpError: as for `QmpConnection.execute`; the job may have started.
            ProgrammerError: the command does not start a job, or cannot be sent.
        """
        job_id, command = prepare_command(command)
        job = cls(connection, job_id, exists=False)
        try:
            connection.execute(command, timeout=timeout)
        except BaseException:
            job.close()
            raise
        return job

    @classmethod
    def find(cls, connection: QmpConnection, job_id: str) -> Self:
        """Track a job that was started earlier, or by another client.

        Raises:
            JobError: QEMU has no job with this id.
            QmpError: as for `QmpConnection.execute`.
        """
        job = cls(connection, job_id)
        try:
            job._run(job._find_steps())
        except BaseException:
            job.close()
            raise
        return job

    def _run(self, generator: JobGenerator[T]) -> T:
        try:
            request = next(generator)
            while True:
                try:
                    result = self._perform(request)
                except QmpError as error:
                    request = generator.throw(error)
                else:
                    request = generator.send(result)
        except StopIteration as end:
            returned: T = end.value
            return returned
        except QmpError as error:
            error.set_monitor(self._connection.name)
            raise

    def _perform(self, request: Command[Any] | BoundedCommand | NextEvent) -> Any:
        if isinstance(request, BoundedCommand):
            timeout_s = request.timeout_s(self._connection.command_timeout_s(request.command.wire_name))
            return self._connection.execute(request.command, timeout=timeout_s)
        if not isinstance(request, NextEvent):
            return self._connection.execute(request)
        try:
            return self._events.get(timeout=request.deadline.remaining_s())
        except EventTimeout:
            return None

    def progress(self, *, interval_s: float = 0.5) -> Iterator[JobProgress]:
        """Yield the job's progress: at once, after every interval, at every status change, and at its end.

        The last status is ``concluded``, also for a job that failed. Call `wait` for the result; it dismisses the job.

        Args:
            interval_s: seconds between two queries.

        Raises:
            QmpError: as for `QmpConnection.execute`.
            ProgrammerError: the interval is not a number.
        """
        check_timeout(interval_s)
        yield (latest := self._run(self._progress_steps(interval_s)))
        while latest.status != "concluded":
            yield (latest := self._run(self._progress_steps(interval_s)))

    def wait(self, *, timeout: float | None = None) -> JobProgress:
        """Wait for the end of the job, dismiss it, and return its last progress.

        A mirror in status ``ready`` does not end until it is completed or cancelled, and a job in status ``pending``
        does not end until it is finalized: see `wait_for`.

        Args:
            timeout: of the wait; None: the default, no limit. Dismissing the job has the timeout of that command.

        Raises:
            JobCancelled: the job was cancelled.
            JobError: the job failed; `error` is QEMU's own text.
            JobTimeout: the job did not end in time, or QEMU did not answer; the job continues.
            QmpError: as for `QmpConnection.execute`.
        """
        return self._run(self._wait_steps(_deadline(timeout)))

    def wait_for(self, *statuses: JobStatus, timeout: float | None = None) -> JobProgress:
        """Wait until the job has one of some statuses or has ended, and return its progress.

        Args:
            statuses: the statuses to wait for, usually ``ready`` or ``pending``.
            timeout: of the wait; None: the default, no limit.

        Raises:
            JobCancelled: the job was cancelled.
            JobError: the job failed; `error` is QEMU's own text.
            JobTimeout: the job did not reach any of the statuses in time; it continues.
            QmpError: as for `QmpConnection.execute`.
        """
        return self._run(self._wait_for_steps(statuses, _deadline(timeout)))

    def pause(self) -> None:
        """Request that the job pauses. It pauses at its next pause point: wait with ``wait_for("paused")``.

        Raises:
            CommandError: the job has ended, or is paused already.
            QmpError: as for `QmpConnection.execute`.
        """
        self._connection.execute(JobPause(id=self.job_id))

    def resume(self) -> None:
        """Resume a paused job.

        Raises:
            CommandError: the job is not paused.
            QmpError: as for `QmpConnection.execute`.
        """
        self._connection.execute(JobResume(id=self.job_id))

    def complete(self) -> None:
        """Complete a job in status ``ready``: a mirror switches the guest to its target.

        Raises:
            CommandError: the job is not ready.
            QmpError: as for `QmpConnection.execute`.
        """
        self._run(self._complete_steps())

    def finalize(self) -> None:
        """Finalize a job in status ``pending``, which was started with `auto_finalize` set to False.

        Raises:
            CommandError: the job is not pending.
            QmpError: as for `QmpConnection.execute`.
        """
        self._connection.execute(JobFinalize(id=self.job_id))

    def dismiss(self) -> None:
        """Dismiss a concluded job and stop tracking it; `wait` still returns or raises its result.

        Dismissing a job that is dismissed already succeeds.

        Raises:
            CommandError: the job is not concluded.
            QmpError: as for `QmpConnection.execute`.
        """
        self._run(self._dismiss_steps())

    def cancel(self, *, keep_copy: bool = False) -> None:
        """Request that the job is cancelled, unless it has ended; `wait` returns or raises its result.

        The job continues until QEMU has stopped it; cancelling it again meanwhile is allowed. If the job ends before
        QEMU executes the command, its result stays what it is, and this call succeeds.

        Args:
            keep_copy: for a mirror in status ``ready``: make the target a complete copy as of now, and leave the guest
                on its source.

        Raises:
            CommandError: the job has not ended and cannot be cancelled.
            QmpError: as for `QmpConnection.execute`.
        """
        self._run(self._cancel_steps(keep_copy))


def run_job(connection: QmpConnection, command: Command[Any], *, timeout: float | None = None) -> JobProgress:
    """Start a job, complete it if it becomes ready, wait for its end, and dismiss it.

    Args:
        connection: to the QEMU that runs the job.
        command: a command that starts a job.
        timeout: seconds from the start of the job to its end, `math.inf` for no limit; None: the default, no limit.

    Returns:
        The job's last progress.

    Raises:
        JobCancelled: the job was cancelled.
        JobError: the job failed; `error` is QEMU's own text.
        JobTimeout: the job did not end in time; it continues, and `Job.find` tracks it again.
        QmpError: as for `QmpConnection.execute`.
        ProgrammerError: the command does not start a job or cannot be sent, or `timeout` is not a number.
    """
    with Job.start(connection, command) as job:
        return job._run(job._run_steps(_deadline(timeout)))


class AsyncJob(JobTracker):
    """A QEMU job, tracked over an asyncio connection; made by `start` or `find`.

    The methods are those of `Job`, as coroutines. Any task may pause, resume, complete, finalize or cancel the job.
    Only one task at a time may call `wait`, `wait_for` or `progress`. Cancelling that task does not affect the job.
    """

    def __init__(self, connection: AsyncQmpConnection, job_id: str, *, exists: bool = True) -> None:
        self._events = connection.subscribe(*EVENTS, match=is_about(job_id))
        super().__init__(job_id, self._events, exists=exists)
        self._connection = connection

    @classmethod
    async def start(
        cls, connection: AsyncQmpConnection, command: Command[Any], *, timeout: float | None = None
    ) -> Self:
        """Start a job and track it; see `Job.start`. If the task is cancelled, the job may have started."""
        job_id, command = prepare_command(command)
        job = cls(connection, job_id, exists=False)
        try:
            await connection.execute(command, timeout=timeout)
        except BaseException:
            job.close()
            raise
        return job

    @classmethod
    async def find(cls, connection: AsyncQmpConnection, job_id: str) -> Self:
        """Track a job that was started earlier, or by another client; see `Job.find`."""
        job = cls(connection, job_id)
        try:
            await job._run(job._find_steps())
        except BaseException:
            job.close()
            raise
        return job

    async def _run(self, generator: JobGenerator[T]) -> T:
        try:
            request = next(generator)
            while True:
                try:
                    result = await self._perform(request)
                except QmpError as error:
                    request = generator.throw(error)
                else:
                    request = generator.send(result)
        except StopIteration as end:
            returned: T = end.value
            return returned
        except QmpError as error:
            error.set_monitor(self._connection.name)
            raise

    async def _perform(self, request: Command[Any] | BoundedCommand | NextEvent) -> Any:
        if isinstance(request, BoundedCommand):
            timeout_s = request.timeout_s(self._connection.command_timeout_s(request.command.wire_name))
            return await self._connection.execute(request.command, timeout=timeout_s)
        if not isinstance(request, NextEvent):
            return await self._connection.execute(request)
        try:
            return await self._events.get(timeout=request.deadline.remaining_s())
        except EventTimeout:
            return None

    async def progress(self, *, interval_s: float = 0.5) -> AsyncIterator[JobProgress]:
        """Yield the job's progress; see `Job.progress`."""
        check_timeout(interval_s)
        yield (latest := await self._run(self._progress_steps(interval_s)))
        while latest.status != "concluded":
            yield (latest := await self._run(self._progress_steps(interval_s)))

    async def wait(self, *, timeout: float | None = None) -> JobProgress:
        """Wait for the end of the job, dismiss it, and return its last progress; see `Job.wait`."""
        return await self._run(self._wait_steps(_deadline(timeout)))

    async def wait_for(self, *statuses: JobStatus, timeout: float | None = None) -> JobProgress:
        """Wait until the job has one of some statuses or has ended; see `Job.wait_for`."""
        return await self._run(self._wait_for_steps(statuses, _deadline(timeout)))

    async def pause(self) -> None:
        """Request that the job pauses; see `Job.pause`."""
        await self._connection.execute(JobPause(id=self.job_id))

    async def resume(self) -> None:
        """Resume a paused job; see `Job.resume`."""
        await self._connection.execute(JobResume(id=self.job_id))

    async def complete(self) -> None:
        """Complete a job in status ``ready``; see `Job.complete`."""
        await self._run(self._complete_steps())

    async def finalize(self) -> None:
        """Finalize a job in status ``pending``; see `Job.finalize`."""
        await self._connection.execute(JobFinalize(id=self.job_id))

    async def dismiss(self) -> None:
        """Dismiss a concluded job; see `Job.dismiss`."""
        await self._run(self._dismiss_steps())

    async def cancel(self, *, keep_copy: bool = False) -> None:
        """Request that the job is cancelled; see `Job.cancel`."""
        await self._run(self._cancel_steps(keep_copy))


async def run_async_job(
    connection: AsyncQmpConnection, command: Command[Any], *, timeout: float | None = None
) -> JobProgress:
    """Start a job, complete it if it becomes ready, wait for its end, and dismiss it; see `run_job`."""
    with await AsyncJob.start(connection, command) as job:
        return await job._run(job._run_steps(_deadline(timeout)))
