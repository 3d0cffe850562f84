# SPDX-License-Identifier: BSD-2-Clause
"""Jobs: start them, watch them, wait for them, and learn how they ended; block jobs are jobs, too.

`Job` and `run_job` are for a blocking connection, `AsyncJob` and `run_async_job` for an asyncio one. What they do is
written in `hvkit.qmp.job_steps`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar

from hvkit.qmp.base import Command
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.errors import EventTimeout, JobCancelled, JobError, QmpError
from hvkit.qmp.job_steps import EVENTS, Following, JobProgress, NextEvent, Procedure, Timely, is_of, prepare
from hvkit.qmp.schema import JobFinalize, JobPause, JobResume

if TYPE_CHECKING:
    from hvkit.qmp.aio import AsyncQmpConnection
    from hvkit.qmp.schema import JobStatus
    from hvkit.qmp.sync.connection import QmpConnection

__all__ = ["AsyncJob", "Job", "JobCancelled", "JobError", "JobProgress", "run_async_job", "run_job"]

T = TypeVar("T")


def _deadline(timeout: float | None) -> Deadline:
    return Deadline(math.inf if timeout is None else timeout)


class Job(Following):
    """A job of a QEMU, followed over a blocking connection; made by `start` or `find`.

    Any thread may pause, resume, complete, finalize or cancel it; one at a time may wait for it or watch it.

    Where a method raises CommandTimeout or ConnectionLost nothing is known of the job; when the connection is there
    again, `find` finds it.
    """

    def __init__(self, connection: QmpConnection, job_id: str, *, is_old: bool = True) -> None:
        self._events = connection.subscribe(*EVENTS, match=is_of(job_id))
        super().__init__(job_id, self._events, is_old=is_old)
        self._connection = connection

    @classmethod
    def start(cls, connection: QmpConnection, command: Command[Any], *, timeout: float | None = None) -> Self:
        """Start a job and follow it.

        Unless the command says otherwise the job stays when it is over, until `wait` or `dismiss` dismisses it. An id
        is made up where it has none.

        Args:
            connection: to the machine.
            command: what starts the job: `BlockdevBackup`, `BlockStream`, `SnapshotSave` ...
            timeout: seconds for the start; None: as for `QmpConnection.execute`.

        Raises:
            CommandError: QEMU refused it; there is no job.
            QmpError: as for `QmpConnection.execute`; there may be a job.
            ProgrammerError: the command does not start a job, or cannot be sent.
        """
        job_id, command = prepare(command)
        job = cls(connection, job_id, is_old=False)
        try:
            connection.execute(command, timeout=timeout)
        except BaseException:
            job.close()
            raise
        return job

    @classmethod
    def find(cls, connection: QmpConnection, job_id: str) -> Self:
        """Follow a job that was started by somebody else, or before.

        Raises:
            JobError: there is no such job, or no more.
            QmpError: as for `QmpConnection.execute`.
        """
        job = cls(connection, job_id)
        try:
            job._run(job.finding())
        except BaseException:
            job.close()
            raise
        return job

    def _run(self, procedure: Procedure[T]) -> T:
        try:
            request = next(procedure)
            while True:
                try:
                    answer = self._answer(request)
                except QmpError as error:
                    request = procedure.throw(error)
                else:
                    request = procedure.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def _answer(self, request: Command[Any] | Timely | NextEvent) -> Any:
        if isinstance(request, Timely):
            timeout_s = request.timeout_s(self._connection._deadline(request.command.wire_name, None))
            return self._connection.execute(request.command, timeout=timeout_s)
        if not isinstance(request, NextEvent):
            return self._connection.execute(request)
        try:
            return self._events.get(timeout=request.deadline.remaining_s())
        except EventTimeout:
            return None

    def progress(self, *, interval_s: float = 0.5) -> Iterator[JobProgress]:
        """Yield how far the job has come: at once, after every interval, at every change of its status, and at its end.

        That it is over does not mean that it went well: `wait` tells, and dismisses it.

        Args:
            interval_s: seconds between two looks.

        Raises:
            QmpError: as for `QmpConnection.execute`.
        """
        yield (latest := self._run(self.watching(interval_s)))
        while latest.status != "concluded":
            yield (latest := self._run(self.watching(interval_s)))

    def wait(self, *, timeout: float | None = None) -> JobProgress:
        """Wait for the end of the job, dismiss it, and return its last progress.

        A mirror that is ready does not end by itself, nor does a job that is to be finalized: see `wait_for`.

        Args:
            timeout: seconds until it is over; None waits for ever. Dismissing it takes as long as a command may.

        Raises:
            JobCancelled: it was cancelled.
            JobError: it failed; `error` is QEMU's own text.
            EventTimeout: it has not ended in time, or QEMU does not say; it goes on.
            QmpError: as for `QmpConnection.execute`.
        """
        return self._run(self.ending(_deadline(timeout)))

    def wait_for(self, *statuses: JobStatus, timeout: float | None = None) -> JobProgress:
        """Wait until the job has a status, ``ready`` or ``pending`` mostly, or is over; return its progress.

        Args:
            statuses: any of these will do.
            timeout: seconds; None waits for ever.

        Raises:
            JobCancelled: it was cancelled.
            JobError: it failed; `error` is QEMU's own text.
            EventTimeout: it did not come to that in time; it goes on.
            QmpError: as for `QmpConnection.execute`.
        """
        return self._run(self.reaching(statuses, _deadline(timeout)))

    def pause(self) -> None:
        """Have the job pause; it does when it comes to a point where it can, which `wait_for` ``paused`` waits for.

        Raises:
            CommandError: it is over, or has been paused.
            QmpError: as for `QmpConnection.execute`.
        """
        self._connection.execute(JobPause(id=self.job_id))

    def resume(self) -> None:
        """Have a paused job go on.

        Raises:
            CommandError: it is not paused.
            QmpError: as for `QmpConnection.execute`.
        """
        self._connection.execute(JobResume(id=self.job_id))

    def complete(self) -> None:
        """Have a job that is ready do its last step: a mirror moves the guest over to its target.

        Raises:
            CommandError: it is not ready.
            QmpError: as for `QmpConnection.execute`.
        """
        self._run(self.completing())

    def finalize(self) -> None:
        """Have a job that is pending, since it was started with `auto_finalize` false, do its last step.

        Raises:
            CommandError: it is not pending.
            QmpError: as for `QmpConnection.execute`.
        """
        self._connection.execute(JobFinalize(id=self.job_id))

    def dismiss(self) -> None:
        """Have QEMU forget a job that is concluded, and stop following it; `wait` still tells how it ended.

        One that QEMU has forgotten already is no error.

        Raises:
            CommandError: it is not concluded.
            QmpError: as for `QmpConnection.execute`.
        """
        self._run(self.dismissing())

    def cancel(self, *, keep_copy: bool = False) -> None:
        """Have the job stop, unless it has ended already; `wait` tells which, when it is over.

        A job that is about to stop goes on for a while, and may be cancelled again. One that ended before QEMU heard
        of this ended as it did: that is no error, and `wait` returns or raises what it would have without this.

        Args:
            keep_copy: have a mirror that is ready finish its copy, as of now, and leave the guest where it is.

        Raises:
            CommandError: it is there, has not ended, and cannot be cancelled.
            QmpError: as for `QmpConnection.execute`.
        """
        self._run(self.cancelling(keep_copy))


def run_job(connection: QmpConnection, command: Command[Any], *, timeout: float | None = None) -> JobProgress:
    """Start a job, have it do its last step when it becomes ready, and wait for its end.

    Args:
        connection: to the machine.
        command: what starts the job.
        timeout: seconds for all of it but the start; None waits for ever.

    Returns:
        The job's last progress.

    Raises:
        JobCancelled: it was cancelled.
        JobError: it failed; `error` is QEMU's own text.
        EventTimeout: it has not ended in time; it goes on, and `Job.find` finds it.
        QmpError: as for `QmpConnection.execute`.
    """
    with Job.start(connection, command) as job:
        return job._run(job.running(_deadline(timeout)))


class AsyncJob(Following):
    """A job of a QEMU, followed over an asyncio connection; made by `start` or `find`.

    It has the names of `Job`, and their meaning. Any task may pause, resume, complete, finalize or cancel it; one at a
    time may wait for it or watch it. A task that is cancelled while it does leaves the job as it is.
    """

    def __init__(self, connection: AsyncQmpConnection, job_id: str, *, is_old: bool = True) -> None:
        self._events = connection.subscribe(*EVENTS, match=is_of(job_id))
        super().__init__(job_id, self._events, is_old=is_old)
        self._connection = connection

    @classmethod
    async def start(
        cls, connection: AsyncQmpConnection, command: Command[Any], *, timeout: float | None = None
    ) -> Self:
        """Start a job and follow it; as `Job.start`. Where the task is cancelled there may be a job."""
        job_id, command = prepare(command)
        job = cls(connection, job_id, is_old=False)
        try:
            await connection.execute(command, timeout=timeout)
        except BaseException:
            job.close()
            raise
        return job

    @classmethod
    async def find(cls, connection: AsyncQmpConnection, job_id: str) -> Self:
        """Follow a job that was started by somebody else, or before; as `Job.find`."""
        job = cls(connection, job_id)
        try:
            await job._run(job.finding())
        except BaseException:
            job.close()
            raise
        return job

    async def _run(self, procedure: Procedure[T]) -> T:
        try:
            request = next(procedure)
            while True:
                try:
                    answer = await self._answer(request)
                except QmpError as error:
                    request = procedure.throw(error)
                else:
                    request = procedure.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _answer(self, request: Command[Any] | Timely | NextEvent) -> Any:
        if isinstance(request, Timely):
            timeout_s = request.timeout_s(self._connection._deadline(request.command.wire_name, None))
            return await self._connection.execute(request.command, timeout=timeout_s)
        if not isinstance(request, NextEvent):
            return await self._connection.execute(request)
        try:
            return await self._events.get(timeout=request.deadline.remaining_s())
        except EventTimeout:
            return None

    async def progress(self, *, interval_s: float = 0.5) -> AsyncIterator[JobProgress]:
        """Yield how far the job has come, as `Job.progress`."""
        yield (latest := await self._run(self.watching(interval_s)))
        while latest.status != "concluded":
            yield (latest := await self._run(self.watching(interval_s)))

    async def wait(self, *, timeout: float | None = None) -> JobProgress:
        """Wait for the end of the job, dismiss it, and return its last progress; as `Job.wait`."""
        return await self._run(self.ending(_deadline(timeout)))

    async def wait_for(self, *statuses: JobStatus, timeout: float | None = None) -> JobProgress:
        """Wait until the job has a status, or is over; as `Job.wait_for`."""
        return await self._run(self.reaching(statuses, _deadline(timeout)))

    async def pause(self) -> None:
        """Have the job pause; as `Job.pause`."""
        await self._connection.execute(JobPause(id=self.job_id))

    async def resume(self) -> None:
        """Have a paused job go on; as `Job.resume`."""
        await self._connection.execute(JobResume(id=self.job_id))

    async def complete(self) -> None:
        """Have a job that is ready do its last step; as `Job.complete`."""
        await self._run(self.completing())

    async def finalize(self) -> None:
        """Have a job that is pending do its last step; as `Job.finalize`."""
        await self._connection.execute(JobFinalize(id=self.job_id))

    async def dismiss(self) -> None:
        """Have QEMU forget a job that is concluded; as `Job.dismiss`."""
        await self._run(self.dismissing())

    async def cancel(self, *, keep_copy: bool = False) -> None:
        """Have the job stop; as `Job.cancel`."""
        await self._run(self.cancelling(keep_copy))


async def run_async_job(
    connection: AsyncQmpConnection, command: Command[Any], *, timeout: float | None = None
) -> JobProgress:
    """Start a job, have it do its last step when it becomes ready, and wait for its end; as `run_job`."""
    with await AsyncJob.start(connection, command) as job:
        return await job._run(job.running(_deadline(timeout)))
