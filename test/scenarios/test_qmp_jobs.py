# SPDX-License-Identifier: BSD-2-Clause
"""Jobs in a real QEMU, over a blocking and over an asyncio connection."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from job_connections import KINDS

from hvkit.errors import ProgrammerError
from hvkit.qmp import (
    CommandError,
    EventTimeout,
)
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
    QueryBlock,
    QueryJobs,
    QueryStatus,
    SnapshotSave,
)

MIB = 1024 * 1024


#: A speed at which a job of 64 MiB does not end during a test, in bytes per second.
SLOW = MIB


@pytest.fixture(params=KINDS)
def qemu(request: pytest.FixtureRequest, qemu_binary: str, tmp_path: Path) -> Iterator[Any]:
    """A connection of either kind to an idle QEMU; checks that the test leaves no job."""
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
            stderr=subprocess.DEVNULL,  # suppresses the warning that a null device has no block size
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
    """Create a qcow2 image of 4 MiB and open it, on top of a backing node if one is given."""
    qemu.run_job(BlockdevCreate(job_id="create", options=BlockdevCreateOptionsFile(filename=str(path), size=0)))
    file = BlockdevOptionsFile(driver="file", node_name=f"{node}-file", filename=str(path))
    qemu.execute(BlockdevAdd(file))
    options = BlockdevCreateOptionsQcow2(file=f"{node}-file", size=4 * MIB)
    qemu.run_job(BlockdevCreate(job_id="create", options=options))
    qemu.execute(BlockdevAdd(BlockdevOptionsQcow2(node_name=node, file=f"{node}-file", backing=backing)))


@pytest.mark.qemu
def test_progress_of_a_backup_grows_until_it_is_concluded(qemu: Any) -> None:
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
def test_wait_for_a_job_that_has_ended_returns_its_result(qemu: Any, tmp_path: Path) -> None:
    for number in range(20):
        options = BlockdevCreateOptionsFile(filename=str(tmp_path / str(number)), size=MIB)
        with qemu.start(BlockdevCreate(job_id="create", options=options)) as job:
            while qemu.execute(QueryJobs())[0].status != "concluded":
                pass
            assert job.wait(timeout=5).status == "concluded"
    assert (tmp_path / "19").stat().st_size == MIB


@pytest.mark.qemu
def test_run_job_without_an_id_generates_one(qemu: Any) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    done = qemu.run_job(BlockdevMirror(device="src", target="dst", sync="full"), timeout=10)
    assert done.job_id.startswith("blockdev-mirror-")


@pytest.mark.qemu
def test_complete_mirror_switches_the_guest_to_its_target(qemu: Any) -> None:
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
def test_run_job_completes_active_commit_and_stream(qemu: Any, tmp_path: Path) -> None:
    add_image(qemu, tmp_path / "base.qcow2", "base")
    add_image(qemu, tmp_path / "top.qcow2", "top", backing="base")
    qemu.run_job(BlockCommit(job_id="c", device="top", base_node="base", top_node="top"), timeout=20)
    qemu.run_job(BlockStream(job_id="s", device="top"), timeout=20)


@pytest.mark.qemu
def test_finalize_ends_a_pending_job(qemu: Any) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    command = BlockdevBackup(job_id="b", device="src", target="dst", sync="full", auto_finalize=False)
    with qemu.start(command) as job:
        job.wait_for("pending", timeout=10)
        with pytest.raises(CommandError):
            job.complete()
        job.finalize()
        job.wait(timeout=10)


@pytest.mark.qemu
def test_pause_and_resume_change_the_status(qemu: Any) -> None:
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
def test_run_job_with_auto_dismiss_gets_the_result_from_events(qemu: Any) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    command = BlockdevBackup(job_id="b", device="src", target="dst", sync="full", auto_dismiss=True)
    for _ in range(5):
        assert qemu.run_job(command, timeout=10).done == MIB


@pytest.mark.qemu
def test_wait_after_the_end_returns_the_same_result(qemu: Any) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    with qemu.start(BlockdevBackup(job_id="b", device="src", target="dst", sync="full")) as job:
        first = job.wait(timeout=10)
        assert job.wait() == first
        assert [each.status for each in job.progress()] == ["concluded"]
        assert job.wait_for("ready") == first


@pytest.mark.qemu
def test_wait_after_dismiss_returns_the_result(qemu: Any) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    with qemu.start(BlockdevBackup(job_id="b", device="src", target="dst", sync="full")) as job:
        for progress in job.progress():
            assert progress.job_id == "b"
        job.dismiss()
        assert qemu.execute(QueryJobs()) == []
        assert job.wait().fraction == 1


@pytest.mark.qemu
def test_run_job_failure_raises_the_error_from_query_jobs(qemu: Any) -> None:
    add_null(qemu, "src")
    command = SnapshotSave(job_id="save", tag="t", vmstate="src", devices=["src"])
    with pytest.raises(JobError, match=r"^/.*/qmp\.sock: job save: .*src.*snapshot") as caught:
        qemu.run_job(command, timeout=20)
    assert caught.value.job_id == "save"
    assert type(caught.value) is JobError


@pytest.mark.qemu
def test_run_job_that_cannot_create_a_file_raises_job_error(qemu: Any, tmp_path: Path) -> None:
    options = BlockdevCreateOptionsFile(filename=str(tmp_path / "no" / "file"), size=MIB)
    with pytest.raises(JobError, match="No such file or directory"):
        qemu.run_job(BlockdevCreate(job_id="create", options=options), timeout=10)


@pytest.mark.parametrize("auto_dismiss", [None, True])
@pytest.mark.qemu
def test_run_job_with_write_errors_raises_job_error(qemu: Any, auto_dismiss: bool | None) -> None:
    add_null(qemu, "src", "real", size=MIB)
    broken = BlkdebugInjectErrorOptions(event="none", iotype="write", errno=28)
    qemu.execute(BlockdevAdd(BlockdevOptionsBlkdebug(node_name="dst", image="real", inject_error=[broken])))
    command = BlockdevBackup(job_id="b", device="src", target="dst", sync="full", auto_dismiss=auto_dismiss)
    with pytest.raises(JobError, match="No space left on device"):
        qemu.run_job(command, timeout=10)


@pytest.mark.qemu
def test_start_and_find_without_a_job_raise(qemu: Any) -> None:
    with pytest.raises(CommandError, match="no-such-node"):
        qemu.start(BlockdevBackup(job_id="b", device="no-such-node", target="dst", sync="full"))
    with pytest.raises(ProgrammerError, match="does not start a job"):
        qemu.start(QueryStatus())
    with pytest.raises(JobError, match="there is no such job"):
        qemu.find("b")


@pytest.mark.parametrize("auto_dismiss", [None, True])
@pytest.mark.qemu
def test_cancel_running_job_makes_wait_raise_job_cancelled(qemu: Any, auto_dismiss: bool | None) -> None:
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
def test_cancel_after_the_end_keeps_the_result(qemu: Any, keep_copy: bool, auto_dismiss: bool | None) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    command = BlockdevBackup(job_id="b", device="src", target="dst", sync="full", auto_dismiss=auto_dismiss)
    with qemu.start(command) as job:
        while any(each.status != "concluded" for each in qemu.execute(QueryJobs())):
            pass
        job.cancel(keep_copy=keep_copy)
        assert job.wait(timeout=10).fraction == 1


@pytest.mark.qemu
def test_cancel_repeated_until_the_end_succeeds(qemu: Any) -> None:
    """The job ends once its requests to a slow disk are answered, at any moment between two cancels."""
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
def test_cancel_pending_job_makes_wait_raise_job_cancelled(qemu: Any) -> None:
    add_null(qemu, "src", "dst", size=MIB)
    command = BlockdevBackup(job_id="b", device="src", target="dst", sync="full", auto_finalize=False)
    with qemu.start(command) as job:
        job.wait_for("pending", timeout=10)
        job.cancel()
        with pytest.raises(JobCancelled):
            job.wait(timeout=10)


@pytest.mark.parametrize("keep_copy", [False, True])
@pytest.mark.qemu
def test_cancel_ready_mirror_makes_wait_raise_job_cancelled(qemu: Any, keep_copy: bool) -> None:
    """With `keep_copy`, QEMU reports that the job completed, although the guest stays on its source."""
    add_null(qemu, "src", "dst", size=MIB)
    with qemu.start(BlockdevMirror(job_id="m", device="src", target="dst", sync="full")) as job:
        job.wait_for("ready", timeout=10)
        job.cancel(keep_copy=keep_copy)
        with pytest.raises(JobCancelled):
            job.wait(timeout=10)


@pytest.mark.qemu
def test_wait_for_a_job_cancelled_by_another_client_raises_job_cancelled(qemu: Any) -> None:
    add_null(qemu, "src", "dst")
    with qemu.start(BlockdevBackup(job_id="b", device="src", target="dst", sync="full", speed=SLOW)) as job:
        qemu.execute(BlockJobCancel(device="b"))
        with pytest.raises(JobCancelled):
            job.wait(timeout=10)


@pytest.mark.qemu
def test_find_tracks_a_job_started_earlier(qemu: Any) -> None:
    add_null(qemu, "src", "dst")
    command = BlockdevBackup(job_id="b", device="src", target="dst", sync="full", speed=SLOW)
    with qemu.start(command):
        pass
    with qemu.find("b") as job:
        assert next(iter(job.progress())).status in ("running", "paused")
        job.cancel()
        with pytest.raises(JobCancelled):
            job.wait(timeout=10)
