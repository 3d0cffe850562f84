# SPDX-License-Identifier: BSD-2-Clause
"""Job operations as generators, shared by the blocking and the asyncio connection.

A generator yields the next command to execute, or a wait for the job's next event, and receives the result. `Job` and
`AsyncJob` execute the commands and do the waiting.

A job may end before the first query. So its events are subscribed to before it starts, and it is started with
``auto-dismiss`` off: it stays in status ``concluded``, with its error text, until it is dismissed.

Source: QAPI module `job`; for the events of block jobs, `block-core`.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import time
import uuid
from collections.abc import Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar

import attrs

from hvkit.errors import ProgrammerError
from hvkit.qmp.base import Command, Event, members_of
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.errors import CommandError, CommandTimeout, JobCancelled, JobError, JobTimeout
from hvkit.qmp.schema import (
    BlockJobCancel,
    BlockJobCancelledEvent,
    BlockJobCompletedEvent,
    JobCancel,
    JobComplete,
    JobDismiss,
    JobInfo,
    JobStatusChangeEvent,
    QueryJobs,
)

if TYPE_CHECKING:
    from hvkit.qmp.aio import AsyncSubscription
    from hvkit.qmp.schema import JobStatus
    from hvkit.qmp.sync.subscription import Subscription

T = TypeVar("T")

_NO_DEADLINE: Final = Deadline(math.inf)
#: QEMU's error text for a cancelled job, which it takes from the C library.
_CANCELLED: Final = os.strerror(errno.ECANCELED)
#: Minimum timeout of a query, in seconds: a wait with timeout 0 still gets the reply of a QEMU that answers at once.
_MIN_QUERY_TIMEOUT_S: Final = 0.2
#: The statuses of a job that has ended, successfully or not, and cannot be cancelled any more.
_ENDING: Final[frozenset[JobStatus]] = frozenset({"aborting", "concluded", "undefined", "null"})
#: The events about jobs.
EVENTS: Final[tuple[type[Any], ...]] = (JobStatusChangeEvent, BlockJobCompletedEvent, BlockJobCancelledEvent)


@attrs.frozen
class JobProgress:
    """The status and the progress of a job.

    Attributes:
        job_id: the job's id.
        status: the job's status; ``concluded`` at its end, successful or not.
        done: the amount of work done: bytes for jobs that copy data, a unit of their own for others.
        total: the estimated total in the same unit; 0 while unknown. It may grow if the guest writes meanwhile.
        bytes_per_s: the speed since the previous query; None the first time.
    """

    job_id: str
    status: JobStatus
    done: int
    total: int
    bytes_per_s: float | None = None

    @property
    def fraction(self) -> float | None:
        """The part of the work that is done, from 0 to 1; None while the total is unknown."""
        return self.done / self.total if self.total else None


@attrs.frozen
class NextEvent:
    """A request for the job's next event; the result is None if there is none before the deadline."""

    deadline: Deadline


@attrs.frozen
class BoundedCommand:
    """A request to execute a command within a deadline that may be shorter than the command's own timeout."""

    command: Command[Any]
    deadline: Deadline

    def timeout_s(self, default_s: float) -> float:
        """Return the timeout of the command, in seconds.

        Args:
            default_s: the command's own timeout, in seconds.
        """
        return min(default_s, max(self.deadline.remaining_s(), _MIN_QUERY_TIMEOUT_S))


#: Yields requests, receives their results or their errors, and returns a T.
JobGenerator: TypeAlias = Generator[Command[Any] | BoundedCommand | NextEvent, Any, T]


class JobTracker:
    """The known state of a job, and the generators that update it and act on the job.

    Attributes:
        job_id: the job's id.
    """

    def __init__(self, job_id: str, events: Subscription[Any] | AsyncSubscription[Any], *, exists: bool) -> None:
        self.job_id = job_id
        self._queue = events
        #: Events that arrive before the job is created are about an earlier job with the same id.
        self._is_created = exists
        self._status: JobStatus = "undefined"
        self._done = self._total = 0
        self._bytes_per_s: float | None = None
        self._queried_at_s: float | None = None
        self._error: str | None = None
        self._is_aborted = False
        self._is_cancelled = False
        self._is_cancel_requested = False
        self._is_complete_requested = False
        #: The job is concluded, or QEMU does not list it any more.
        self._is_over = False
        self._is_dismissed = False

    def _handle_event(self, event: Event) -> None:
        if isinstance(event, JobStatusChangeEvent):
            self._is_created = self._is_created or event.status == "created"
            if self._is_created:
                self._status = event.status
                self._is_aborted = self._is_aborted or event.status == "aborting"
        elif self._is_created and isinstance(event, BlockJobCancelledEvent | BlockJobCompletedEvent):
            self._done, self._total = event.offset, event.len
            if isinstance(event, BlockJobCancelledEvent):
                self._is_cancelled = True
            elif self._error is None:
                self._error = event.error

    def _handle_queued_events(self) -> None:
        while (event := self._queue.take()) is not None:
            self._handle_event(event)

    def _handle_info(self, info: JobInfo) -> None:
        now_s = time.monotonic()
        if self._queried_at_s is not None and now_s > self._queried_at_s:
            self._bytes_per_s = max(info.current_progress - self._done, 0) / (now_s - self._queried_at_s)
        self._queried_at_s = now_s
        self._status = info.status
        self._done, self._total = info.current_progress, info.total_progress
        if info.status == "concluded":
            self._is_over = True
            self._error = info.error or self._error

    def _handle_dismissed(self) -> None:
        """Mark the job as dismissed: QEMU does not list it any more, so only its events show how it ended."""
        self._is_over = self._is_dismissed = True
        if self._is_aborted and self._error is None and not self._is_cancelled:
            self._error = "the job failed and was dismissed before its error could be read"

    def _progress(self) -> JobProgress:
        status = "concluded" if self._is_over else self._status
        return JobProgress(self.job_id, status, self._done, self._total, self._bytes_per_s)

    def _result(self) -> JobProgress:
        """Return the progress of a job that has ended, or raise its error.

        A mirror in status ``ready`` that is cancelled reports success, although it leaves the guest on its source.
        """
        is_silent_cancel = self._error is None and self._is_cancel_requested and not self._is_complete_requested
        if self._error == _CANCELLED or is_silent_cancel or (self._is_cancelled and self._error is None):
            raise JobCancelled(self.job_id, self._error or _CANCELLED)
        if self._error is not None:
            raise JobError(self.job_id, self._error)
        return self._progress()

    def _timeout(self, deadline: Deadline) -> JobTimeout:
        return JobTimeout(self.job_id, (JobStatusChangeEvent.wire_name,), deadline.timeout_s)

    def _bounded_steps(self, command: Command[Any], deadline: Deadline) -> JobGenerator[Any]:
        """Execute a command before a deadline."""
        try:
            return (yield BoundedCommand(command, deadline))
        except CommandTimeout as error:
            if deadline.remaining_s() > 0:
                raise
            raise self._timeout(deadline) from error

    def _query_steps(self, deadline: Deadline = _NO_DEADLINE) -> JobGenerator[JobInfo | None]:
        """Return QEMU's information on the job, None if QEMU does not list it; take no events."""
        listed = yield from self._bounded_steps(QueryJobs(), deadline)
        return next((each for each in listed if each.id == self.job_id), None)

    def _update_steps(self, deadline: Deadline = _NO_DEADLINE) -> JobGenerator[None]:
        """Update the state from a query and from the events in the queue."""
        info = yield from self._query_steps(deadline)
        if info is not None:
            self._handle_info(info)
        # The queue holds every event from before the reply, and perhaps later ones, so it is handled after the reply.
        self._handle_queued_events()
        if info is None:
            self._handle_dismissed()

    def _find_steps(self) -> JobGenerator[None]:
        """Check that QEMU has the job."""
        yield from self._update_steps()
        if self._is_dismissed:
            raise JobError(self.job_id, "there is no such job")

    def _progress_steps(self, interval_s: float) -> JobGenerator[JobProgress]:
        """Return the next progress: the first one at once, later ones after the interval or at the next event."""
        if not self._is_over:
            if self._queried_at_s is not None:
                event = yield NextEvent(Deadline(interval_s))
                if event is not None:
                    self._handle_event(event)
            yield from self._update_steps()
        return self._progress()

    def _condition_steps(self, condition: Callable[[], bool], deadline: Deadline) -> JobGenerator[None]:
        """Wait until a condition is true or the job has ended."""
        while True:
            self._handle_queued_events()
            if self._status in ("undefined", "concluded", "null") and not self._is_over:
                yield from self._update_steps(deadline)
            if self._is_over or condition():
                return
            event = yield NextEvent(deadline)
            if event is None:
                raise self._timeout(deadline)
            self._handle_event(event)

    def _wait_for_steps(self, statuses: tuple[JobStatus, ...], deadline: Deadline) -> JobGenerator[JobProgress]:
        """Wait until the job has one of these statuses or has ended."""
        yield from self._condition_steps(lambda: self._status in statuses, deadline)
        if self._is_over:
            return self._result()
        yield from self._update_steps(deadline)
        return self._progress()

    def _wait_steps(self, deadline: Deadline) -> JobGenerator[JobProgress]:
        """Wait for the end of the job and dismiss it."""
        yield from self._condition_steps(lambda: False, deadline)
        self.close()
        if not self._is_dismissed:
            with contextlib.suppress(CommandError):  # another client has dismissed it
                yield JobDismiss(id=self.job_id)
            self._is_dismissed = True
        return self._result()

    def _run_steps(self, deadline: Deadline) -> JobGenerator[JobProgress]:
        """Complete the job if it becomes ready, wait for its end and dismiss it."""
        yield from self._condition_steps(lambda: self._status == "ready", deadline)
        if not self._is_over:
            yield from self._complete_steps(deadline)
        return (yield from self._wait_steps(deadline))

    def _dismiss_steps(self) -> JobGenerator[None]:
        """Query how the job ended and dismiss it, unless it is dismissed already."""
        if not self._is_over:
            yield from self._update_steps()
        if not self._is_dismissed:
            try:
                yield JobDismiss(id=self.job_id)
            except CommandError:
                if (yield from self._query_steps()) is not None:
                    raise
            self._is_dismissed = True
        self.close()

    def _complete_steps(self, deadline: Deadline = _NO_DEADLINE) -> JobGenerator[None]:
        """Complete a job that is ready."""
        yield from self._bounded_steps(JobComplete(id=self.job_id), deadline)
        self._is_complete_requested = True

    def _cancel_steps(self, keep_copy: bool) -> JobGenerator[None]:
        """Cancel the job, unless it has ended or is ending."""
        if self._is_over:  # another job may have its id by now
            return
        was_requested, self._is_cancel_requested = self._is_cancel_requested, True
        try:
            yield BlockJobCancel(device=self.job_id) if keep_copy else JobCancel(id=self.job_id)
        except CommandError:
            self._is_cancel_requested = was_requested
            info = yield from self._query_steps()
            if info is not None and info.status not in _ENDING:
                raise

    def close(self) -> None:
        """Stop tracking the job, which continues. Closing again does nothing."""
        self._queue.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.job_id!r} {self._status}>"


def prepare_command(command: Command[Any]) -> tuple[str, Command[Any]]:
    """Return the id of the job that a command starts, and the command to send: with an id, not dismissed at its end.

    Raises:
        ProgrammerError: the command does not start a job, or is given by its name.
    """
    given: Any = command
    if isinstance(given, str):
        raise ProgrammerError(f"{given}: a job is started by a typed command, not by a name")
    members = members_of(type(command))
    if "job_id" not in members:
        raise ProgrammerError(f"{command.wire_name} does not start a job")
    if given.job_id is None:  # QEMU would use the name of the device, if there is one
        given = given.evolve(job_id=f"{command.wire_name}-{uuid.uuid4().hex[:8]}")
    if "auto_dismiss" in members and given.auto_dismiss is None:
        given = given.evolve(auto_dismiss=False)
    return given.job_id, given


def is_about(job_id: str) -> Callable[[Any], bool]:
    """Return a predicate for the events about a job; in block job events, the member `device` holds the job's id."""
    return lambda event: job_id == (event.id if isinstance(event, JobStatusChangeEvent) else event.device)
