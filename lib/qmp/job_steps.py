# SPDX-License-Identifier: BSD-2-Clause
"""What to do about a job, written once for threads and for tasks.

Procedures are generators: they yield a command to execute, or a wait for the job's next event, and are sent what came
of it. Whoever drives them does the waiting.

A job may end before anybody looks. So its events are subscribed to before it is started, and it is started so that it
stays, concluded, until it is dismissed; its own error text is to be had in between.

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
from hvkit.qmp.errors import CommandError, CommandTimeout, EventTimeout, JobCancelled, JobError
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
#: How QEMU words the error of a job that was cancelled: it takes the text from the C library.
_CANCELLED: Final = os.strerror(errno.ECANCELED)
#: What a look may take at least, in seconds: who waits for no time at all shall hear of a QEMU that answers at once.
_SHORTEST_LOOK_S: Final = 0.2
#: What a job goes through that has ended, well or not, and cannot be cancelled any more.
_ENDING: Final[frozenset[JobStatus]] = frozenset({"aborting", "concluded", "undefined", "null"})
#: The events that tell of jobs.
EVENTS: Final[tuple[type[Any], ...]] = (JobStatusChangeEvent, BlockJobCompletedEvent, BlockJobCancelledEvent)


@attrs.frozen
class JobProgress:
    """How far a job has come.

    Attributes:
        job_id: the job's id.
        status: what it does; `concluded` at its end, whether that is a good one or not.
        done: how much is done, in bytes for jobs that copy; units of its own for others.
        total: how much there will be; 0 while QEMU does not know. It may grow, when a guest writes meanwhile.
        bytes_per_s: how fast it came here since it was last looked at; None the first time.
    """

    job_id: str
    status: JobStatus
    done: int
    total: int
    bytes_per_s: float | None = None

    @property
    def fraction(self) -> float | None:
        """How much of it is done, from 0 to 1; None while QEMU does not know."""
        return self.done / self.total if self.total else None


@attrs.frozen
class NextEvent:
    """What a procedure yields to be sent the job's next event, or None where there is none before a deadline."""

    deadline: Deadline


@attrs.frozen
class Timely:
    """What a procedure yields to be sent the reply to a command, if it comes before a deadline and in its own time."""

    command: Command[Any]
    deadline: Deadline

    def timeout_s(self, usual: Deadline) -> float:
        """Return how long the command may take, in seconds.

        Args:
            usual: how long it may take otherwise.
        """
        return min(usual.timeout_s, max(self.deadline.remaining_s(), _SHORTEST_LOOK_S))


#: Yields requests, is sent their answers, has their errors thrown at it, and returns a T.
Procedure: TypeAlias = Generator[Command[Any] | Timely | NextEvent, Any, T]


class Following:
    """What is known of a job, and how to know more.

    Attributes:
        job_id: the job's id.
    """

    def __init__(self, job_id: str, events: Subscription[Any] | AsyncSubscription[Any], *, is_old: bool) -> None:
        self.job_id = job_id
        self._arrived = events
        #: Until a new job is created, events of its id are those of an earlier one.
        self._is_created = is_old
        self._status: JobStatus = "undefined"
        self._done = self._total = 0
        self._bytes_per_s: float | None = None
        self._looked_at_s: float | None = None
        self._error: str | None = None
        self._is_aborted = False
        self._is_cancelled = False
        self._is_cancel_asked = False
        self._is_complete_asked = False
        #: It is concluded, or QEMU has forgotten it already.
        self._is_over = False
        self._is_dismissed = False

    # ---- what we learn

    def _learn(self, event: Event) -> None:
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

    def _learn_all(self) -> None:
        while (event := self._arrived.take()) is not None:
            self._learn(event)

    def _note(self, info: JobInfo) -> None:
        now_s = time.monotonic()
        if self._looked_at_s is not None and now_s > self._looked_at_s:
            self._bytes_per_s = max(info.current_progress - self._done, 0) / (now_s - self._looked_at_s)
        self._looked_at_s = now_s
        self._status = info.status
        self._done, self._total = info.current_progress, info.total_progress
        if info.status == "concluded":
            self._is_over = True
            self._error = info.error or self._error

    def _note_gone(self) -> None:
        """QEMU knows it no more: what there is to know was in the events."""
        self._is_over = self._is_dismissed = True
        if self._is_aborted and self._error is None and not self._is_cancelled:
            self._error = "it failed, and was dismissed before its error could be read"

    def _progress(self) -> JobProgress:
        status = "concluded" if self._is_over else self._status
        return JobProgress(self.job_id, status, self._done, self._total, self._bytes_per_s)

    def _outcome(self) -> JobProgress:
        """Return the progress of a job that is over.

        A block job that was ready when it was cancelled says that it completed, though it left everything as it was.
        """
        is_quiet_cancel = self._error is None and self._is_cancel_asked and not self._is_complete_asked
        if self._error == _CANCELLED or is_quiet_cancel or (self._is_cancelled and self._error is None):
            raise JobCancelled(self.job_id, self._error or _CANCELLED)
        if self._error is not None:
            raise JobError(self.job_id, self._error)
        return self._progress()

    # ---- procedures

    def _in_time(self, command: Command[Any], deadline: Deadline) -> Procedure[Any]:
        """Execute a command on behalf of somebody who waits until a deadline."""
        try:
            return (yield Timely(command, deadline))
        except CommandTimeout as error:
            if deadline.remaining_s() > 0:
                raise
            raise _too_late(deadline) from error

    def _asking(self, deadline: Deadline = _NO_DEADLINE) -> Procedure[JobInfo | None]:
        """Return what QEMU knows of it, None where that is nothing; events are left to whoever waits for them."""
        known = yield from self._in_time(QueryJobs(), deadline)
        return next((each for each in known if each.id == self.job_id), None)

    def _looking(self, deadline: Deadline = _NO_DEADLINE) -> Procedure[None]:
        """Learn how it is."""
        info = yield from self._asking(deadline)
        if info is not None:
            self._note(info)
        # All that came before the reply is here by now, and perhaps some that came after it: it ends newer than that.
        self._learn_all()
        if info is None:
            self._note_gone()

    def finding(self) -> Procedure[None]:
        """Make sure that it is there."""
        yield from self._looking()
        if self._is_dismissed:
            raise JobError(self.job_id, "there is no such job")

    def watching(self, interval_s: float) -> Procedure[JobProgress]:
        """Return the next progress, after a while or a change of status; the first at once."""
        if not self._is_over:
            if self._looked_at_s is not None:
                event = yield NextEvent(Deadline(interval_s))
                if event is not None:
                    self._learn(event)
            yield from self._looking()
        return self._progress()

    def _arriving(self, is_there: Callable[[], bool], deadline: Deadline) -> Procedure[None]:
        """Wait until something is so, or the job is over."""
        while True:
            self._learn_all()
            if self._status in ("undefined", "concluded", "null") and not self._is_over:
                yield from self._looking(deadline)
            if self._is_over or is_there():
                return
            event = yield NextEvent(deadline)
            if event is None:
                raise _too_late(deadline)
            self._learn(event)

    def reaching(self, statuses: tuple[JobStatus, ...], deadline: Deadline) -> Procedure[JobProgress]:
        """Wait until it has one of these, or is over."""
        yield from self._arriving(lambda: self._status in statuses, deadline)
        if self._is_over:
            return self._outcome()
        yield from self._looking(deadline)
        return self._progress()

    def ending(self, deadline: Deadline) -> Procedure[JobProgress]:
        """Wait for its end, and dismiss it."""
        yield from self._arriving(lambda: False, deadline)
        self.close()
        if not self._is_dismissed:
            with contextlib.suppress(CommandError):  # somebody else was faster
                yield JobDismiss(id=self.job_id)
            self._is_dismissed = True
        return self._outcome()

    def running(self, deadline: Deadline) -> Procedure[JobProgress]:
        """Wait for the end, and have a job that becomes ready do its last step."""
        yield from self._arriving(lambda: self._status == "ready", deadline)
        if not self._is_over:
            yield from self.completing(deadline)
        return (yield from self.ending(deadline))

    def dismissing(self) -> Procedure[None]:
        """Have QEMU forget it, not without knowing how it ended; QEMU may have done so before."""
        if not self._is_over:
            yield from self._looking()
        if not self._is_dismissed:
            try:
                yield JobDismiss(id=self.job_id)
            except CommandError:
                if (yield from self._asking()) is not None:
                    raise
            self._is_dismissed = True
        self.close()

    def completing(self, deadline: Deadline = _NO_DEADLINE) -> Procedure[None]:
        """Have it do its last step."""
        yield from self._in_time(JobComplete(id=self.job_id), deadline)
        self._is_complete_asked = True

    def cancelling(self, keep_copy: bool) -> Procedure[None]:
        """Have it stop, unless it has ended or is about to; one that is ready may `keep_copy`."""
        if self._is_over:  # its id may be another job's by now
            return
        was_asked, self._is_cancel_asked = self._is_cancel_asked, True
        try:
            yield BlockJobCancel(device=self.job_id) if keep_copy else JobCancel(id=self.job_id)
        except CommandError:
            self._is_cancel_asked = was_asked
            info = yield from self._asking()
            if info is not None and info.status not in _ENDING:
                raise

    # ---- what needs no waiting

    def close(self) -> None:
        """Stop following the job, which goes on. Closing again does nothing."""
        self._arrived.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.job_id!r} {self._status}>"


def _too_late(deadline: Deadline) -> EventTimeout:
    return EventTimeout((JobStatusChangeEvent.wire_name,), deadline.timeout_s)


def prepare(command: Command[Any]) -> tuple[str, Command[Any]]:
    """Return the id of the job that a command will start, and the command as it is to be sent.

    Raises:
        ProgrammerError: it does not start a job.
    """
    given: Any = command
    members = members_of(type(command))
    if "job_id" not in members:
        raise ProgrammerError(f"{command.wire_name} does not start a job")
    if given.job_id is None:  # QEMU would use a device's name, where there is a device
        given = given.evolve(job_id=f"{command.wire_name}-{uuid.uuid4().hex[:8]}")
    if "auto_dismiss" in members and given.auto_dismiss is None:
        given = given.evolve(auto_dismiss=False)
    return given.job_id, given


def is_of(job_id: str) -> Callable[[Any], bool]:
    """Return what tells events of a job: those of block jobs call its id `device`."""
    return lambda event: job_id == (event.id if isinstance(event, JobStatusChangeEvent) else event.device)
