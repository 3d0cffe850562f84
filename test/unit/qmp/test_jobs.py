# SPDX-License-Identifier: BSD-2-Clause
"""Jobs of a real QEMU, each test over a blocking connection and over an asyncio one."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import (
    CommandError,
    CommandTimeout,
    ConnectionLost,
    EventTimeout,
    QmpConnection,
    Subscription,
    jobs,
)
from hvkit.qmp.aio import AsyncQmpConnection
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.job_steps import JobTracker
from hvkit.qmp.jobs import JobCancelled, JobError
from hvkit.qmp.schema import (
    BlkdebugInjectErrorOptions,
    BlockCommit,
    BlockdevAdd,
    BlockdevBackup,
    BlockdevCreate,
    BlockdevCreateOptionsFile,
    BlockdevCreateOptionsQcow2,
    BlockdevMirror,
    BlockdevOptionsBlkdebug,
    BlockdevOptionsFile,
    BlockdevOptionsNull,
    BlockdevOptionsQcow2,
    BlockJobCancel,
    BlockJobSetSpeed,
    BlockStream,
    DeviceAdd,
    JobCancel,
    JobStatusChangeEvent,
    QueryBlock,
    QueryJobs,
    QueryStatus,
    SnapshotSave,
)
from hvkit.testing import CLOSE, SILENCE, Delay, QmpStub

MIB = 1024 * 1024
#: Slow enough that a job of 64 MiB is never done before a test has looked at it.
SLOW = MIB


class Blocking:
    """Jobs and commands over a blocking connection."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.connection = QmpConnection(path, **options)
        self.connection.connect()
        self.start: Callable[..., Any] = lambda command: jobs.Job.start(self.connection, command)
        self.find: Callable[..., Any] = lambda job_id: jobs.Job.find(self.connection, job_id)
        self.run_job: Callable[..., Any] = lambda command, **options: jobs.run_job(self.connection, command, **options)
        self.execute: Callable[..., Any] = self.connection.execute

    def close(self) -> None:
        self.connection.close()


class Looped:
    """What is asyncio's, looking as if it blocked."""

    def __init__(self, runner: asyncio.Runner, target: Any) -> None:
        self._runner = runner
        self._target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if inspect.iscoroutinefunction(found):
            return lambda *arguments, **keywords: self._runner.run(found(*arguments, **keywords))
        if inspect.isasyncgenfunction(found):
            return lambda *arguments, **keywords: self._iterate(found(*arguments, **keywords))
        return found

    def __enter__(self) -> Looped:
        return self

    def __exit__(self, *_: object) -> None:
        self._target.close()

    def _iterate(self, values: Any) -> Iterator[Any]:
        over = object()

        async def step() -> Any:
            return await anext(values, over)

        while (value := self._runner.run(step())) is not over:
            yield value


class Tasks:
    """Jobs and commands over an asyncio connection, one call at a time."""

    def __init__(self, path: Path, **options: Any) -> None:
        self._runner = runner = asyncio.Runner(debug=True)
        connection = AsyncQmpConnection(path, **options)
        runner.run(connection.connect())
        looped = Looped(runner, connection)
        self.execute: Callable[..., Any] = looped.execute
        self.close_connection: Callable[..., Any] = looped.close
        self.start: Callable[..., Any] = lambda command: Looped(
            runner, runner.run(jobs.AsyncJob.start(connection, command))
        )
        self.find: Callable[..., Any] = lambda job_id: Looped(
            runner, runner.run(jobs.AsyncJob.find(connection, job_id))
        )
        self.run_job: Callable[..., Any] = lambda command, **options: runner.run(
            jobs.run_async_job(connection, command, **options)
        )

    def close(self) -> None:
        self.close_connection()
        self._runner.close()


KINDS = [pytest.param(Blocking, id="blocking"), pytest.param(Tasks, id="asyncio")]


@pytest.fixture(params=KINDS)
def qemu(request: pytest.FixtureRequest, qemu_binary: str, tmp_path: Path) -> Iterator[Any]:
    """A connection of either kind to a QEMU that does nothing; a test leaves no job behind."""
    path = tmp_path / "qmp.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        process = subprocess.Popen(
            [
                qemu_binary,
                *("-S", "-M", "pc,accel=tcg", "-m", "32", "-nodefaults", "-no-user-config", "-display", "none"),
                *("-chardev", f"socket,id=qmp,fd={listener.fileno()},server=on,wait=off", "-mon", "qmp,mode=control"),
            ],
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,  # it warns that a null device has no block size
        )
    try:
        connected = request.param(path)
        try:
            yield connected
            assert connected.execute(QueryJobs()) == []
        finally:
            connected.close()
    finally:
        process.kill()
        process.wait()


def add_null(qemu: Any, *names: str, size: int = 64 * MIB) -> None:
    for name in names:
        qemu.execute(BlockdevAdd(BlockdevOptionsNull(driver="null-co", node_name=name, size=size)))


def add_image(qemu: Any, path: Path, node: str, *, backing: str | None = None) -> None:
    """Make a qcow2 image of 4 MiB and open it, over another node or nothing."""
    qemu.run_job(BlockdevCreate(job_id="create", options=BlockdevCreateOptionsFile(filename=str(path), size=0)))
    file = BlockdevOptionsFile(driver="file", node_name=f"{node}-file", filename=str(path))
    qemu.execute(BlockdevAdd(file))
    options = BlockdevCreateOptionsQcow2(file=f"{node}-file", size=4 * MIB)
    qemu.run_job(BlockdevCreate(job_id="create", options=options))
    qemu.execute(BlockdevAdd(BlockdevOptionsQcow2(node_name=node, file=f"{node}-file", backing=backing)))


# ---- to a good end


@pytest.mark.qemu
def test_a_backup_is_watched_and_waited_for(qemu: Any) -> None:
    add_null(qemu, "src", "dst")
    command = BlockdevBackup(job_id="b", device="src", target="dst", sync="full", speed=16 * MIB)
    with qemu.start(command) as job:
        seen = []
        for progress in job.progress(interval_s=0.1):
            seen.append(progress)
            if len(seen) == 3:
                qemu.execute(BlockJobSetSpeed(device="b", speed=0))
        assert job.wait(timeout=10).done == 64 * MIB
    assert seen[-1].status == "concluded"
    assert seen[-1].fraction == 1
    assert [each.done for each in seen] == sorted(each.done for each in seen)
    assert any(each.fraction is not None and each.fraction < 1 for each in seen)
    assert seen[0].bytes_per_s is None
    assert any(each.bytes_per_s for each in seen)
    assert qemu.execute(QueryJobs()) == []


@pytest.mark.qemu
def test_a_job_that_ends_before_anybody_looks(qemu: Any, tmp_path: Path) -> None:
    for number in range(20):
        options = BlockdevCreateOptionsFile(filename=str(tmp_path / str(number)), size=MIB)
        with qemu.start(BlockdevCreate(job_id="create", options=options)) as job:
            while qemu.execute(QueryJobs())[0].status != "concluded":
                pass
            assert job.wait(timeout=5).status == "concluded"
    assert (tmp_path / "19").stat().st_size == MIB


@pytest.mark.qemu
def test_an_id_is_made_up_where_there_is_none(qemu: Any) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    done = qemu.run_job(BlockdevMirror(device="src", target="dst", sync="full"), timeout=10)
    assert done.job_id.startswith("blockdev-mirror-")


@pytest.mark.qemu
def test_a_mirror_moves_the_guest_over_when_it_is_completed(qemu: Any) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    qemu.execute(DeviceAdd(driver="virtio-blk-pci", id="disk", properties={"drive": "src", "share-rw": True}))
    with qemu.start(BlockdevMirror(job_id="m", device="src", target="dst", sync="full")) as job:
        assert job.wait_for("ready", timeout=10).status == "ready"
        with pytest.raises(EventTimeout):
            job.wait(timeout=0.05)
        job.complete()
        job.wait(timeout=10)
    (disk,) = qemu.execute(QueryBlock())
    assert disk.inserted.node_name == "dst"


@pytest.mark.qemu
def test_an_active_commit_and_a_stream_between_images(qemu: Any, tmp_path: Path) -> None:
    add_image(qemu, tmp_path / "base.qcow2", "base")
    add_image(qemu, tmp_path / "top.qcow2", "top", backing="base")
    qemu.run_job(BlockCommit(job_id="c", device="top", base_node="base", top_node="top"), timeout=20)
    qemu.run_job(BlockStream(job_id="s", device="top"), timeout=20)


@pytest.mark.qemu
def test_a_job_that_is_finalized_by_hand(qemu: Any) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    command = BlockdevBackup(job_id="b", device="src", target="dst", sync="full", auto_finalize=False)
    with qemu.start(command) as job:
        job.wait_for("pending", timeout=10)
        with pytest.raises(CommandError):
            job.complete()
        job.finalize()
        job.wait(timeout=10)


@pytest.mark.qemu
def test_a_job_is_paused_and_resumed(qemu: Any) -> None:
    add_null(qemu, "src", "dst")
    command = BlockdevBackup(job_id="b", device="src", target="dst", sync="full", speed=SLOW)
    with qemu.start(command) as job:
        job.pause()
        job.wait_for("paused", timeout=10)
        job.resume()
        job.wait_for("running", timeout=10)
        job.cancel()
        with pytest.raises(JobCancelled):
            job.wait(timeout=10)


@pytest.mark.qemu
def test_a_job_that_dismisses_itself_is_known_by_its_events(qemu: Any) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    command = BlockdevBackup(job_id="b", device="src", target="dst", sync="full", auto_dismiss=True)
    for _ in range(5):
        assert qemu.run_job(command, timeout=10).done == MIB


@pytest.mark.qemu
def test_the_end_is_told_as_often_as_one_asks(qemu: Any) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    with qemu.start(BlockdevBackup(job_id="b", device="src", target="dst", sync="full")) as job:
        first = job.wait(timeout=10)
        assert job.wait() == first
        assert [each.status for each in job.progress()] == ["concluded"]
        assert job.wait_for("ready") == first


@pytest.mark.qemu
def test_a_job_dismissed_by_hand_still_tells_its_end(qemu: Any) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    with qemu.start(BlockdevBackup(job_id="b", device="src", target="dst", sync="full")) as job:
        for progress in job.progress():
            assert progress.job_id == "b"
        job.dismiss()
        assert qemu.execute(QueryJobs()) == []
        assert job.wait().fraction == 1


# ---- to a bad one


@pytest.mark.qemu
def test_an_error_that_only_query_jobs_has(qemu: Any) -> None:
    add_null(qemu, "src")
    command = SnapshotSave(job_id="save", tag="t", vmstate="src", devices=["src"])
    with pytest.raises(JobError, match=r"^job save: .*src.*snapshot") as caught:
        qemu.run_job(command, timeout=20)
    assert caught.value.job_id == "save"
    assert type(caught.value) is JobError


@pytest.mark.qemu
def test_a_file_that_cannot_be_made(qemu: Any, tmp_path: Path) -> None:
    options = BlockdevCreateOptionsFile(filename=str(tmp_path / "no" / "file"), size=MIB)
    with pytest.raises(JobError, match="No such file or directory"):
        qemu.run_job(BlockdevCreate(job_id="create", options=options), timeout=10)


@pytest.mark.parametrize("auto_dismiss", [None, True])
@pytest.mark.qemu
def test_a_target_with_write_errors(qemu: Any, auto_dismiss: bool | None) -> None:
    add_null(qemu, "src", "real", size=MIB)
    broken = BlkdebugInjectErrorOptions(event="none", iotype="write", errno=28)
    qemu.execute(BlockdevAdd(BlockdevOptionsBlkdebug(node_name="dst", image="real", inject_error=[broken])))
    command = BlockdevBackup(job_id="b", device="src", target="dst", sync="full", auto_dismiss=auto_dismiss)
    with pytest.raises(JobError, match="No space left on device"):
        qemu.run_job(command, timeout=10)


@pytest.mark.qemu
def test_a_job_that_cannot_be_started_is_none(qemu: Any) -> None:
    with pytest.raises(CommandError, match="no-such-node"):
        qemu.start(BlockdevBackup(job_id="b", device="no-such-node", target="dst", sync="full"))
    with pytest.raises(ProgrammerError, match="does not start a job"):
        qemu.start(QueryStatus())
    with pytest.raises(JobError, match="there is no such job"):
        qemu.find("b")


# ---- cancelled


@pytest.mark.parametrize("auto_dismiss", [None, True])
@pytest.mark.qemu
def test_a_running_job_is_cancelled(qemu: Any, auto_dismiss: bool | None) -> None:
    add_null(qemu, "src", "dst")
    command = BlockdevMirror(job_id="m", device="src", target="dst", sync="full", speed=SLOW, auto_dismiss=auto_dismiss)
    with qemu.start(command) as job:
        job.cancel()
        with pytest.raises(JobCancelled, match="job m: Operation canceled"):
            job.wait(timeout=10)
        job.cancel()
        job.dismiss()
        with pytest.raises(CommandError):
            job.pause()


@pytest.mark.parametrize("auto_dismiss", [None, True])
@pytest.mark.parametrize("keep_copy", [False, True])
@pytest.mark.qemu
def test_a_job_that_has_ended_ended_as_it_did(qemu: Any, keep_copy: bool, auto_dismiss: bool | None) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    command = BlockdevBackup(job_id="b", device="src", target="dst", sync="full", auto_dismiss=auto_dismiss)
    with qemu.start(command) as job:
        while any(each.status != "concluded" for each in qemu.execute(QueryJobs())):
            pass
        job.cancel(keep_copy=keep_copy)
        assert job.wait(timeout=10).fraction == 1


@pytest.mark.qemu
def test_a_job_is_cancelled_again_and_again(qemu: Any) -> None:
    """Until what it has asked of a slow disk is answered it goes on, and ends at any moment between two of these."""
    slow = BlockdevOptionsNull(driver="null-co", node_name="src", size=64 * MIB, latency_ns=50_000_000)
    qemu.execute(BlockdevAdd(slow))
    add_null(qemu, "dst")
    for _ in range(5):
        with qemu.start(BlockdevBackup(job_id="b", device="src", target="dst", sync="full", speed=SLOW)) as job:
            for progress in job.progress(interval_s=0):
                assert progress.job_id == "b"
                job.cancel()
            with pytest.raises(JobCancelled):
                job.wait(timeout=10)


@pytest.mark.qemu
def test_a_job_that_waits_for_its_last_step_can_be_cancelled(qemu: Any) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    command = BlockdevBackup(job_id="b", device="src", target="dst", sync="full", auto_finalize=False)
    with qemu.start(command) as job:
        job.wait_for("pending", timeout=10)
        job.cancel()
        with pytest.raises(JobCancelled):
            job.wait(timeout=10)


@pytest.mark.parametrize("keep_copy", [False, True])
@pytest.mark.qemu
def test_a_mirror_that_is_ready_is_cancelled(qemu: Any, keep_copy: bool) -> None:
    """Keeping the copy, QEMU says that the job completed; the guest is where it was all the same."""
    add_null(qemu, "src", "dst", size=MIB)
    with qemu.start(BlockdevMirror(job_id="m", device="src", target="dst", sync="full")) as job:
        job.wait_for("ready", timeout=10)
        job.cancel(keep_copy=keep_copy)
        with pytest.raises(JobCancelled):
            job.wait(timeout=10)


@pytest.mark.qemu
def test_a_job_that_somebody_else_cancels(qemu: Any) -> None:
    add_null(qemu, "src", "dst")
    with qemu.start(BlockdevBackup(job_id="b", device="src", target="dst", sync="full", speed=SLOW)) as job:
        qemu.execute(BlockJobCancel(device="b"))
        with pytest.raises(JobCancelled):
            job.wait(timeout=10)


@pytest.mark.qemu
def test_a_job_is_found_and_followed(qemu: Any) -> None:
    add_null(qemu, "src", "dst")
    command = BlockdevBackup(job_id="b", device="src", target="dst", sync="full", speed=SLOW)
    with qemu.start(command):
        pass
    with qemu.find("b") as job:
        assert next(iter(job.progress())).status in ("running", "paused")
        job.cancel()
        with pytest.raises(JobCancelled):
            job.wait(timeout=10)


# ---- what a real QEMU does not do on demand


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


def test_the_end_that_comes_with_the_answer_about_its_middle(tmp_path: Path, kind: Any) -> None:
    """The reply says that it runs; the event of its end, which is newer, is read together with the reply."""
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


def test_events_of_an_earlier_job_of_that_id_are_not_of_this_one(tmp_path: Path, kind: Any) -> None:
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


def test_a_job_that_somebody_dismissed_before_us(tmp_path: Path, kind: Any) -> None:
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
WELL = (None, {"return": [info("concluded", 8, 8)]})
BADLY = (None, {"return": [info("concluded", 4, 8, error="No space left on device")]})
CANCELLED = (None, {"return": [info("concluded", 4, 8, error="Operation canceled")]})
GONE: tuple[Any, Any] = (None, {"return": []})
#: What QEMU says, refusing first, when it is asked to cancel a job that ended a moment ago; and how `wait` ends then.
TOO_LATE: dict[str, tuple[list[Any], type[Exception] | None]] = {
    "well": ([(None, [change("concluded"), REFUSED]), WELL, WELL, DISMISSED], None),
    "well, and its events come late": (
        [(None, REFUSED), (None, [{"return": [info("concluded", 8, 8)]}, change("concluded")]), WELL, DISMISSED],
        None,
    ),
    "badly": ([(None, [change("aborting"), change("concluded"), REFUSED]), BADLY, BADLY, DISMISSED], JobError),
    "badly, and is not through with it": (
        [
            (None, [change("aborting"), REFUSED]),
            (None, [{"return": [info("aborting", 4, 8)]}, change("concluded")]),
            *(BADLY, DISMISSED),
        ],
        JobError,
    ),
    "cancelled by somebody else": (
        [(None, [change("aborting"), change("concluded"), REFUSED]), CANCELLED, CANCELLED, DISMISSED],
        JobCancelled,
    ),
    "well, and is forgotten": ([(None, [change("concluded"), change("null"), NO_JOB]), GONE, GONE], None),
    "badly, and is forgotten": (
        [(None, [change("aborting"), change("concluded"), change("null"), NO_JOB]), GONE, GONE],
        JobError,
    ),
}


@pytest.mark.parametrize("keep_copy", [False, True])
@pytest.mark.parametrize(("script", "ending"), TOO_LATE.values(), ids=TOO_LATE)
def test_a_job_that_ends_before_it_can_be_cancelled(
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
        job.cancel()  # nothing is asked of what may be another job of that id
        assert len(stub.requests) == asked
        qemu.close()


@pytest.mark.parametrize("status", ["running", "paused", "ready"])
def test_a_job_that_goes_on_and_cannot_be_cancelled(tmp_path: Path, kind: Any, status: str) -> None:
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


def test_a_second_cancel_that_comes_too_late_does_not_undo_the_first(tmp_path: Path, kind: Any) -> None:
    """A ready mirror that kept its copy concludes without an error: that it was cancelled is known from the asking."""
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


def test_a_cancel_takes_no_event_from_the_thread_that_waits(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    ends = [change("concluded"), change("null")]
    script = [
        (None, {"return": {}}),
        ({"execute": "query-jobs"}, [change("created"), {"return": [info("running")]}]),  # for the thread that waits
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


def test_a_refused_cancel_leaves_the_events_where_they_are() -> None:
    arrived = Subscription(NoSource(), (JobStatusChangeEvent,))
    cancelling = JobTracker("b", arrived, exists=True)._cancel_steps(keep_copy=False)
    assert isinstance(next(cancelling), JobCancel)
    arrived.offer(change("concluded"))
    cancelling.throw(CommandError("job-cancel", "GenericError", "it is concluded"))
    with pytest.raises(StopIteration):
        cancelling.send([])
    assert arrived.is_ready


class NoSource:
    """A connection that nobody waits on."""

    def wait_for_event(self, subscription: Subscription[Any], deadline: Deadline) -> bool:
        raise NotImplementedError

    def unsubscribe(self, subscription: Subscription[Any]) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("status", ["running", None])
def test_who_dismisses_what_is_not_there_has_what_he_wanted(tmp_path: Path, kind: Any, status: str | None) -> None:
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


def test_the_end_of_the_connection_ends_the_wait(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "qmp.sock"
    with QmpStub(path, [(None, [change("created"), {"return": {}}, CLOSE])]):
        qemu = kind(path)
        job = qemu.start(BACKUP)
        with pytest.raises(ConnectionLost):
            job.wait(timeout=5)
        qemu.close()


def test_a_qemu_that_falls_silent_does_not_make_the_wait_longer(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "qmp.sock"
    with QmpStub(path, [(None, {"return": {}}), ({"execute": "query-jobs"}, SILENCE)]):
        qemu = kind(path)
        job = qemu.start(BACKUP)
        started = time.monotonic()
        with pytest.raises(EventTimeout) as caught:
            job.wait(timeout=0.3)
        assert time.monotonic() - started < 3
        assert caught.value.timeout_s == 0.3
        qemu.close()


def test_a_command_keeps_its_own_deadline_in_a_longer_wait(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "qmp.sock"
    with QmpStub(path, [(None, {"return": {}}), ({"execute": "query-jobs"}, SILENCE)]):
        qemu = kind(path, timeout=0.3)
        job = qemu.start(BACKUP)
        with pytest.raises(CommandTimeout):
            job.wait(timeout=60)
        qemu.close()


def test_who_does_not_wait_still_hears_of_an_end(tmp_path: Path, kind: Any) -> None:
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


def test_both_kinds_have_the_same_names() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(jobs.Job) == public(jobs.AsyncJob)
