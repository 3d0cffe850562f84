# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `job`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Event, Struct

#: Enumeration `JobStatus`, since 2.12.
JobStatus = Literal[
    "undefined",
    "created",
    "running",
    "paused",
    "ready",
    "standby",
    "waiting",
    "pending",
    "aborting",
    "concluded",
    "null",
]

#: Enumeration `JobType`, since 1.7.
JobType = Literal[
    "commit",
    "stream",
    "mirror",
    "backup",
    "create",
    "amend",
    "snapshot-load",
    "snapshot-save",
    "snapshot-delete",
]


class JobInfo(Struct):
    """Struct `JobInfo`, since 3.0."""

    id: str
    type: JobType
    status: JobStatus
    current_progress: int
    total_progress: int
    error: str | None = None


class JobStatusChangeEvent(Event, wire_name="JOB_STATUS_CHANGE"):
    """Event `JOB_STATUS_CHANGE`, since 3.0."""

    id: str
    status: JobStatus


class JobCancel(Command[None], wire_name="job-cancel"):
    """Command `job-cancel`, since 3.0."""

    id: str


class JobComplete(Command[None], wire_name="job-complete"):
    """Command `job-complete`, since 3.0."""

    id: str


class JobDismiss(Command[None], wire_name="job-dismiss"):
    """Command `job-dismiss`, since 3.0."""

    id: str


class JobFinalize(Command[None], wire_name="job-finalize"):
    """Command `job-finalize`, since 3.0."""

    id: str


class JobPause(Command[None], wire_name="job-pause"):
    """Command `job-pause`, since 3.0."""

    id: str


class JobResume(Command[None], wire_name="job-resume"):
    """Command `job-resume`, since 3.0."""

    id: str


class QueryJobs(Command["list[JobInfo]"], wire_name="query-jobs"):
    """Command `query-jobs`, since 3.0. Returns a list of `JobInfo`."""
