# SPDX-License-Identifier: BSD-2-Clause
"""QMP connections to qemu-storage-daemon: exports and block jobs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from hvkit.qmp import CommandNotFound, QmpConnection
from hvkit.qmp.jobs import Job, run_job
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevBackup,
    BlockdevMirror,
    BlockdevOptionsFile,
    BlockdevOptionsNull,
    BlockExportAdd,
    BlockExportDel,
    BlockExportDeletedEvent,
    BlockExportOptionsNbd,
    NbdServerStart,
    NbdServerStop,
    QueryBlockExports,
    QueryStatus,
    UnixSocketAddress,
    UnixSocketAddressWrapper,
)

pytestmark = pytest.mark.qemu

MIB = 1024 * 1024


@pytest.fixture
def daemon(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[QmpConnection]:
    program = shutil.which("qemu-storage-daemon")
    if program is None:
        unavailable("qemu-storage-daemon is not installed; as root: apt-get install qemu-system-common")
    path, started = tmp_path / "qmp.sock", tmp_path / "pid"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        process = subprocess.Popen(
            [
                program,
                *("--chardev", f"socket,id=qmp,fd={listener.fileno()},server=on,wait=off"),
                *("--monitor", "chardev=qmp", "--pidfile", str(started)),
            ],
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,  # suppresses the warning that a null device has no block size
        )
    try:
        # 7.2 greets before it has started, and sometimes never replies to a command sent that early.
        deadline_s = time.monotonic() + 10
        while not started.exists() and process.poll() is None:
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
        with QmpConnection(path) as connection:
            yield connection
    finally:
        process.kill()
        process.wait()


def test_storage_daemon_has_no_machine_commands(daemon: QmpConnection) -> None:
    assert daemon.version >= (7, 2)
    with pytest.raises(CommandNotFound):
        daemon.execute(QueryStatus())


def test_storage_daemon_serves_and_removes_an_export(daemon: QmpConnection, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"boot" + bytes(MIB - 4))
    daemon.execute(BlockdevAdd(BlockdevOptionsFile(driver="file", node_name="disk", filename=str(disk))))
    address = UnixSocketAddressWrapper(data=UnixSocketAddress(path=str(tmp_path / "nbd.sock")))
    daemon.execute(NbdServerStart(addr=address))
    daemon.execute(BlockExportAdd(BlockExportOptionsNbd(id="e", node_name="disk", name="disk", writable=True)))
    (export,) = daemon.execute(QueryBlockExports())
    assert (export.id, export.type, export.node_name) == ("e", "nbd", "disk")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(tmp_path / "nbd.sock"))
        assert client.recv(16, socket.MSG_WAITALL) == b"NBDMAGICIHAVEOPT"
    with daemon.subscribe(BlockExportDeletedEvent) as events:
        daemon.execute(BlockExportDel(id="e"))
        assert events.get(timeout=10).id == "e"
    daemon.execute(NbdServerStop())
    assert daemon.execute(QueryBlockExports()) == []


def test_storage_daemon_runs_block_jobs(daemon: QmpConnection, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"data" * (MIB // 4))
    target.write_bytes(bytes(MIB))
    for path in (source, target):
        daemon.execute(BlockdevAdd(BlockdevOptionsFile(driver="file", node_name=path.name, filename=str(path))))
    done = run_job(daemon, BlockdevBackup(job_id="b", device="source", target="target", sync="full"), timeout=20)
    assert done.fraction == 1
    assert target.read_bytes() == source.read_bytes()
    daemon.execute(BlockdevAdd(BlockdevOptionsNull(driver="null-co", node_name="null", size=MIB)))
    with Job.start(daemon, BlockdevMirror(job_id="m", device="source", target="null", sync="full")) as job:
        assert job.wait_for("ready", timeout=20).status == "ready"
        job.complete()
        job.wait(timeout=20)
