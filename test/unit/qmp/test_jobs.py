# SPDX-License-Identifier: BSD-2-Clause
"""`Job` and `AsyncJob` against a stub: event orders that a real QEMU does not produce on demand."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from job_connections import KINDS

from hvkit.errors import ProgrammerError
from hvkit.qmp import (
    CommandError,
    CommandTimeout,
    ConnectionLost,
    QmpConnection,
    Subscription,
    jobs,
)
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.job_steps import JobTracker
from hvkit.qmp.jobs import JobCancelled, JobError, JobTimeout
from hvkit.qmp.schema import (
    BlockdevBackup,
    JobCancel,
    JobStatusChangeEvent,
)
from hvkit.testing import CLOSE, SILENCE, Delay, QmpStub


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def change(status: str, job_id: str = "b") -> dict[str, Any]:
    return {"event": "JOB_STATUS_CHANGE", "data": {"id": job_id, "status": status}}


def info(status: str, done: int = 0, total: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "id": "b", "type": "backup", "status": status, "current-progress": done, "total-progress": total, **more
    }  # fmt: skip


BACKUP = BlockdevBackup(job_id="b", device="src", target="dst", sync="full")


def test_wait_uses_an_event_newer_than_the_query_reply(tmp_path: Path, kind: Any) -> None:
    """The reply says that the job runs; the newer event of its end arrives together with the reply."""
    path = tmp_path / "qmp.sock"

    def running_and_concluded(request: dict[str, Any]) -> bytes:
        messages = [{"return": [info("running")], "id": request["id"]}, change("concluded")]
        return b"".join(json.dumps(message).encode() + b"\n" for message in messages)

    script = [
        (None, [change("created"), change("running"), {"return": {}}]),
        ({"execute": "query-jobs"}, running_and_concluded),
        ({"execute": "query-jobs"}, {"return": [info("concluded", 8, 8)]}),
        ({"execute": "job-dismiss", "arguments": {"id": "b"}}, {"return": {}}),
    ]
    with QmpStub(path, script):
        qemu = kind(path)
        job = qemu.start(BACKUP)
        assert next(iter(job.progress())).fraction is None
        assert job.wait(timeout=5).fraction == 1
        qemu.close()


def test_progress_with_interval_that_is_not_a_number_raises_programmer_error(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "qmp.sock"
    with QmpStub(path, [(None, [change("created"), {"return": {}}])]):
        qemu = kind(path)
        job = qemu.start(BACKUP)
        with pytest.raises(ProgrammerError, match="timeout must be a number of seconds"):
            next(iter(job.progress(interval_s="5")))
        qemu.close()


def test_start_ignores_events_of_an_earlier_job_with_the_same_id(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "qmp.sock"
    failed = {"type": "backup", "device": "b", "len": 1, "offset": 0, "speed": 0, "error": "old"}
    script = [
        (None, [{"event": "BLOCK_JOB_COMPLETED", "data": failed}, change("null"), change("created"), {"return": {}},
                change("running"), change("null", "other"), change("concluded")]),
        ({"execute": "query-jobs"}, {"return": [info("concluded", 8, 8)]}),
        ({"execute": "job-dismiss", "arguments": {"id": "b"}}, {"error": {"class": "GenericError", "desc": "gone"}}),
    ]  # fmt: skip
    with QmpStub(path, script):
        qemu = kind(path)
        assert qemu.start(BACKUP).wait(timeout=5).fraction == 1
        qemu.close()


def test_wait_for_a_failed_job_dismissed_by_another_client_raises_job_error(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "qmp.sock"
    script = [
        (None, [change("created"), {"return": {}}, change("aborting"), change("concluded"), change("null")]),
        ({"execute": "query-jobs"}, {"return": []}),
    ]
    with QmpStub(path, script):
        qemu = kind(path)
        with pytest.raises(JobError, match="dismissed before its error could be read"):
            qemu.start(BACKUP).wait(timeout=5)
        qemu.close()


REFUSED = {
    "error": {"class": "GenericError", "desc": "Job 'b' in state 'concluded' cannot accept command verb 'cancel'"}
}


NO_JOB = {"error": {"class": "GenericError", "desc": "Job not found"}}


DISMISSED: tuple[Any, Any] = ({"execute": "job-dismiss", "arguments": {"id": "b"}}, {"return": {}})


SUCCEEDED = (None, {"return": [info("concluded", 8, 8)]})


FAILED = (None, {"return": [info("concluded", 4, 8, error="No space left on device")]})


CANCELLED = (None, {"return": [info("concluded", 4, 8, error="Operation canceled")]})


GONE: tuple[Any, Any] = (None, {"return": []})


#: Scripts of a QEMU that refuses to cancel a job that has just ended, and the error that `wait` raises, if any.
REFUSED_AFTER_END: dict[str, tuple[list[Any], type[Exception] | None]] = {
    "success": ([(None, [change("concluded"), REFUSED]), SUCCEEDED, SUCCEEDED, DISMISSED], None),
    "success, late events": (
        [(None, REFUSED), (None, [{"return": [info("concluded", 8, 8)]}, change("concluded")]), SUCCEEDED, DISMISSED],
        None,
    ),
    "failure": ([(None, [change("aborting"), change("concluded"), REFUSED]), FAILED, FAILED, DISMISSED], JobError),
    "failure, still aborting": (
        [
            (None, [change("aborting"), REFUSED]),
            (None, [{"return": [info("aborting", 4, 8)]}, change("concluded")]),
            *(FAILED, DISMISSED),
        ],
        JobError,
    ),
    "cancelled by another client": (
        [(None, [change("aborting"), change("concluded"), REFUSED]), CANCELLED, CANCELLED, DISMISSED],
        JobCancelled,
    ),
    "success, dismissed": ([(None, [change("concluded"), change("null"), NO_JOB]), GONE, GONE], None),
    "failure, dismissed": (
        [(None, [change("aborting"), change("concluded"), change("null"), NO_JOB]), GONE, GONE],
        JobError,
    ),
}


@pytest.mark.parametrize("keep_copy", [False, True])
@pytest.mark.parametrize(("script", "ending"), REFUSED_AFTER_END.values(), ids=REFUSED_AFTER_END)
def test_cancel_refused_after_the_end_keeps_the_result(
    tmp_path: Path, kind: Any, script: list[Any], ending: type[Exception] | None, keep_copy: bool
) -> None:
    path = tmp_path / "qmp.sock"
    with QmpStub(path, [(None, [change("created"), change("running"), {"return": {}}]), *script]) as stub:
        qemu = kind(path)
        job = qemu.start(BACKUP)
        job.cancel(keep_copy=keep_copy)
        if ending is None:
            job.wait(timeout=5)
        else:
            with pytest.raises(JobError) as caught:
                job.wait(timeout=5)
            assert type(caught.value) is ending
        asked = len(stub.requests)
        job.cancel()  # sends nothing: another job may have the id by now
        assert len(stub.requests) == asked
        qemu.close()


@pytest.mark.parametrize("status", ["running", "paused", "ready"])
def test_cancel_refused_while_running_raises_command_error(tmp_path: Path, kind: Any, status: str) -> None:
    path = tmp_path / "qmp.sock"
    script = [
        (None, [change("created"), change("running"), {"return": {}}]),
        ({"execute": "job-cancel", "arguments": {"id": "b"}}, REFUSED),
        ({"execute": "query-jobs"}, {"return": [info(status)]}),
        ({"execute": "query-jobs"}, {"return": [info("concluded", 8, 8)]}),
        DISMISSED,
    ]
    with QmpStub(path, script) as stub:
        qemu = kind(path)
        job = qemu.start(BACKUP)
        with pytest.raises(CommandError, match="cannot accept"):
            job.cancel()
        stub.send(change("concluded"))
        assert job.wait(timeout=5).fraction == 1
        qemu.close()


def test_cancel_repeated_too_late_keeps_the_first_cancel(tmp_path: Path, kind: Any) -> None:
    """A ready mirror that kept its copy concludes without an error: only the request tells that it was cancelled."""
    path = tmp_path / "qmp.sock"
    script = [
        (None, [change("created"), change("ready"), {"return": {}}]),
        ({"execute": "block-job-cancel", "arguments": {"device": "b"}}, {"return": {}}),
        ({"execute": "job-cancel", "arguments": {"id": "b"}}, [change("concluded"), REFUSED]),
        *[({"execute": "query-jobs"}, {"return": [info("concluded", 8, 8)]})] * 2,
        DISMISSED,
    ]
    with QmpStub(path, script):
        qemu = kind(path)
        job = qemu.start(BACKUP)
        job.cancel(keep_copy=True)
        job.cancel()
        with pytest.raises(JobCancelled):
            job.wait(timeout=5)
        qemu.close()


def test_cancel_takes_no_event_from_a_waiting_thread(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    ends = [change("concluded"), change("null")]
    script = [
        (None, {"return": {}}),
        ({"execute": "query-jobs"}, [change("created"), {"return": [info("running")]}]),  # for the waiting thread
        ({"execute": "job-cancel", "arguments": {"id": "b"}}, [Delay(0.1), NO_JOB]),
        ({"execute": "query-jobs"}, [*ends, {"return": []}]),
        ({"execute": "query-jobs"}, {"return": []}),
    ]
    with QmpStub(path, script) as stub, QmpConnection(path) as connection, ThreadPoolExecutor(1) as pool:
        job = jobs.Job.start(connection, BACKUP)
        waited = pool.submit(job.wait, timeout=10)
        stub.wait_for_requests(3)
        job.cancel()
        assert waited.result(timeout=10).status == "concluded"


def test_cancel_refused_leaves_events_in_the_queue() -> None:
    queue = Subscription(NoSource(), (JobStatusChangeEvent,))
    steps = JobTracker("b", queue, exists=True)._cancel_steps(keep_copy=False)
    assert isinstance(next(steps), JobCancel)
    queue.offer(change("concluded"))
    steps.throw(CommandError("job-cancel", "GenericError", "it is concluded"))
    with pytest.raises(StopIteration):
        steps.send([])
    assert queue.is_ready


class NoSource:
    """A connection whose methods must not be called."""

    address = "nowhere"

    def wait_for_event(self, subscription: Subscription[Any], deadline: Deadline) -> bool:
        raise NotImplementedError

    def unsubscribe(self, subscription: Subscription[Any]) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("status", ["running", None])
def test_dismiss_refused_by_qemu_succeeds_if_the_job_is_gone(tmp_path: Path, kind: Any, status: str | None) -> None:
    path = tmp_path / "qmp.sock"
    script = [
        (None, [change("created"), change("concluded"), {"return": {}}]),
        ({"execute": "query-jobs"}, {"return": [info("concluded", 8, 8)]}),
        ({"execute": "job-dismiss", "arguments": {"id": "b"}}, NO_JOB),
        ({"execute": "query-jobs"}, {"return": [] if status is None else [info(status)]}),
    ]
    with QmpStub(path, script):
        qemu = kind(path)
        job = qemu.start(BACKUP)
        if status is None:
            job.dismiss()
            assert job.wait().fraction == 1
        else:
            with pytest.raises(CommandError):
                job.dismiss()
        qemu.close()


def test_wait_on_a_lost_connection_raises_connection_lost(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "qmp.sock"
    with QmpStub(path, [(None, [change("created"), {"return": {}}, CLOSE])]):
        qemu = kind(path)
        job = qemu.start(BACKUP)
        with pytest.raises(ConnectionLost):
            job.wait(timeout=5)
        qemu.close()


def test_wait_on_a_silent_qemu_times_out_in_time(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "qmp.sock"
    with QmpStub(path, [(None, {"return": {}}), ({"execute": "query-jobs"}, SILENCE)]):
        qemu = kind(path)
        job = qemu.start(BACKUP)
        started = time.monotonic()
        with pytest.raises(JobTimeout, match=rf"^{path}: job b: not done within 0\.3 s; it continues$") as caught:
            job.wait(timeout=0.3)
        assert time.monotonic() - started < 3
        assert caught.value.timeout_s == 0.3
        qemu.close()


def test_wait_keeps_the_timeout_of_its_commands(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "qmp.sock"
    with QmpStub(path, [(None, {"return": {}}), ({"execute": "query-jobs"}, SILENCE)]):
        qemu = kind(path, timeout=0.3)
        job = qemu.start(BACKUP)
        with pytest.raises(CommandTimeout):
            job.wait(timeout=60)
        qemu.close()


def test_wait_with_timeout_zero_returns_the_result_of_an_ended_job(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "qmp.sock"
    script = [
        (None, [change("created"), change("concluded"), {"return": {}}]),
        ({"execute": "query-jobs"}, {"return": [info("concluded", 8, 8)]}),
        ({"execute": "job-dismiss", "arguments": {"id": "b"}}, {"return": {}}),
    ]
    with QmpStub(path, script):
        qemu = kind(path)
        assert qemu.start(BACKUP).wait(timeout=0).fraction == 1
        qemu.close()


@pytest.mark.parametrize("timeout", ["5", True, float("nan")])
def test_wait_with_timeout_that_is_not_a_number_raises_programmer_error(
    tmp_path: Path, kind: Any, timeout: Any
) -> None:
    path = tmp_path / "qmp.sock"
    with QmpStub(path, [(None, {"return": {}})]):
        qemu = kind(path)
        job = qemu.start(BACKUP)
        with pytest.raises(ProgrammerError, match="timeout must be a number of seconds"):
            job.wait(timeout=timeout)
        qemu.close()


def test_start_of_an_untyped_command_raises_programmer_error(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "qmp.sock"
    with QmpStub(path, []):
        qemu = kind(path)
        with pytest.raises(ProgrammerError, match="block-stream: a job is started by a typed command, not by a name"):
            qemu.start("block-stream")
        qemu.close()


def test_job_error_names_the_monitor_and_the_job(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "qmp.sock"
    script = [
        (None, [change("created"), change("concluded"), {"return": {}}]),
        ({"execute": "query-jobs"}, {"return": [info("concluded", 4, 8, error="No space left on device")]}),
        DISMISSED,
    ]
    with QmpStub(path, script):
        qemu = kind(path)
        with pytest.raises(JobError, match=rf"^{path}: job b: No space left on device$"):
            qemu.start(BACKUP).wait(timeout=5)
        qemu.close()


def test_job_and_async_job_have_the_same_public_names() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(jobs.Job) == public(jobs.AsyncJob)
