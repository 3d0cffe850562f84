# SPDX-License-Identifier: BSD-2-Clause
"""The programs in `examples/` on QEMU and on scripted monitors."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hvkit.qmp import QmpConnection
from hvkit.qmp.converter import unstructure
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevCacheInfo,
    BlockDeviceInfo,
    BlockdevOptionsFile,
    BlockdevOptionsNull,
    ImageInfo,
    QueryJobs,
    QueryNamedBlockNodes,
)
from hvkit.testing import QmpStub

EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
MIB = 1024 * 1024


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def path(qemu_binary: str, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "qmp.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        process = subprocess.Popen(
            [
                qemu_binary,
                *("-S", "-M", "q35,accel=tcg", "-m", "32", "-nodefaults", "-no-user-config", "-display", "none"),
                *("-chardev", f"socket,id=qmp,fd={listener.fileno()},server=on,wait=off", "-mon", "qmp,mode=control"),
            ],
            pass_fds=[listener.fileno()],
        )
    try:
        yield path
    finally:
        process.kill()
        process.wait()


@pytest.mark.qemu
def test_backup_copies_disk_content(path: Path, tmp_path: Path) -> None:
    disk, target = tmp_path / "disk", tmp_path / "copy.qcow2"
    disk.write_bytes(b"precious" * (MIB // 8))
    with QmpConnection(path) as connection:
        connection.execute(BlockdevAdd(BlockdevOptionsFile(driver="file", node_name="disk0", filename=str(disk))))
    done = run("backup.py", path, "disk0", target)
    assert (done.returncode, done.stderr) == (0, "")
    assert "concluded 100%" in done.stdout
    assert target.read_bytes()[:4] == b"QFI\xfb"
    assert b"precious" in target.read_bytes()
    with QmpConnection(path) as connection:
        assert [node.node_name for node in connection.execute(QueryNamedBlockNodes())] == ["disk0"]
        assert connection.execute(QueryJobs()) == []


@pytest.mark.qemu
def test_failed_backup_leaves_no_node_or_job(path: Path, tmp_path: Path) -> None:
    with QmpConnection(path) as connection:
        connection.execute(BlockdevAdd(BlockdevOptionsNull(driver="null-co", node_name="disk0", size=MIB)))
    done = run("backup.py", path, "disk0", tmp_path / "no" / "copy.qcow2")
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr
    assert run("backup.py", path, "disk9", tmp_path / "copy.qcow2").stderr == "block node disk9 does not exist\n"
    with QmpConnection(path) as connection:
        assert [node.node_name for node in connection.execute(QueryNamedBlockNodes())] == ["disk0"]
        assert connection.execute(QueryJobs()) == []


@pytest.mark.qemu
def test_interrupted_backup_cancels_job(path: Path, tmp_path: Path) -> None:
    with QmpConnection(path) as connection:
        connection.execute(BlockdevAdd(BlockdevOptionsNull(driver="null-co", node_name="disk0", size=1024 * MIB)))
    with backing_up(path, tmp_path / "copy.qcow2", "--speed", "1") as program:
        assert program.stdout is not None
        output = b""
        while b"running" not in output:  # the job would run for about 17 minutes
            output += (piece := program.stdout.read(1))
            assert piece, output
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=30)
    assert errors == f"backup.py: {path}: job backup: Operation canceled\n".encode()
    assert program.returncode == 1
    with QmpConnection(path) as connection:
        assert [node.node_name for node in connection.execute(QueryNamedBlockNodes())] == ["disk0"]
        assert connection.execute(QueryJobs()) == []


@pytest.mark.parametrize("error", [None, "No space left on device"])
def test_interrupt_after_completion_keeps_result(tmp_path: Path, error: str | None) -> None:
    """The job completes between the last query and the cancel command."""
    path = tmp_path / "qmp.sock"
    programs: list[subprocess.Popen[bytes]] = []

    def job(status: str, **more: str) -> dict[str, Any]:
        progress = {"current-progress": 8, "total-progress": 8}
        return {"id": "backup", "type": "backup", "status": status, **progress, **more}

    def interrupted(_: object) -> dict[str, Any]:
        programs[0].send_signal(signal.SIGINT)
        return {"return": [job("running")]}

    over = {"return": [job("concluded", **({"error": error} if error else {}))]}
    refused = {"error": {"class": "GenericError", "desc": "Job 'backup' in state 'concluded' cannot accept ..."}}
    node = BlockDeviceInfo(
        bps=0, bps_rd=0, bps_wr=0, iops=0, iops_rd=0, iops_wr=0, write_threshold=0,
        node_name="disk0", file="disk", drv="raw", ro=False, encrypted=False,
        backing_file_depth=0,
        detect_zeroes="off",
        image=ImageInfo(filename="disk", format="raw", virtual_size=MIB),
        cache=BlockdevCacheInfo(writeback=True, direct=False, no_flush=False),
    )  # fmt: skip
    done: dict[str, Any] = {"return": {}}
    starts, ends = (
        {"event": "JOB_STATUS_CHANGE", "data": {"id": "backup", "status": status}}
        for status in ("created", "concluded")
    )
    made = [("blockdev-create", [starts, done, ends]), ("query-jobs", {"return": [job("concluded")]})]
    make = [*made, ("job-dismiss", done), ("blockdev-add", done)]
    steps = [
        *(("query-named-block-nodes", {"return": [unstructure(node)]}), *make, *make),
        *(("blockdev-backup", [starts, done]), ("query-jobs", interrupted)),
        *(("job-cancel", [ends, refused]), ("query-jobs", over), ("query-jobs", over), ("job-dismiss", done)),
        *(("blockdev-del", done), ("blockdev-del", done)),
    ]
    with QmpStub(path, [(None, reply) for _, reply in steps]) as stub, backing_up(path, tmp_path / "copy") as program:
        programs.append(program)
        output, errors = program.communicate(timeout=30)
    assert [request["execute"] for request in stub.requests] == ["qmp_capabilities", *(name for name, _ in steps)]
    assert b"concluded 100%" in output
    if error is None:
        assert (program.returncode, errors) == (0, b"")
    else:
        assert (program.returncode, errors.decode()) == (1, f"backup.py: {path}: job backup: {error}\n")


@contextlib.contextmanager
def backing_up(monitor: Path, target: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, str(EXAMPLES / "backup.py"), *options, str(monitor), "disk0", str(target)]
    program = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


def test_event_watcher_prints_events_beside_missing_socket(tmp_path: Path) -> None:
    stop = {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 0}}
    there, absent = tmp_path / "there.sock", tmp_path / "absent.sock"
    with QmpStub(there) as stub:
        command = [sys.executable, str(EXAMPLES / "event_watcher.py"), str(there), str(absent)]
        watcher = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert watcher.stdout is not None
            first = sorted(watcher.stdout.readline() for _ in range(2))
            assert first[0] == f"{absent} ConnectError: {absent}: there is no such socket\n"
            assert first[1] == f"{there} connected: QEMU 7.2.0\n"
            stub.send(stop)
            lines = iter(watcher.stdout.readline, "")
            assert next(line for line in lines if line.startswith(str(there))) == (
                f"{there} 1970-01-01T00:00:01.000+00:00 StopEvent()\n"
            )
            watcher.send_signal(signal.SIGINT)
            assert watcher.communicate(timeout=10)[1] == ""
            assert watcher.returncode == 0
        finally:
            watcher.kill()
            watcher.communicate()


@pytest.mark.qemu
def test_node_daemon_serves_concurrent_clients(path: Path, tmp_path: Path) -> None:
    address, gone = tmp_path / "node.sock", tmp_path / "gone.sock"
    command = [sys.executable, str(EXAMPLES / "node_daemon.py"), str(address), f"vm={path}", f"gone={gone}"]
    program = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        with contextlib.ExitStack() as stack:
            clients = []
            for _ in range(5):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                connect_within(client, address, 10)
                clients.append(stack.enter_context(client.makefile("rw")))
            for client_file in clients:
                client_file.write("vm status\nvm cpus\nvm weather\nnobody status\ngone status\n" * 20)
                client_file.flush()
            for client_file in clients:
                for _ in range(20):
                    answers = [client_file.readline().rstrip("\n") for _ in range(5)]
                    assert answers[:4] == [
                        "prelaunch",
                        "1",
                        "error: unknown query weather",
                        "error: unknown machine nobody",
                    ]
                    assert answers[4] == f"error: {gone}: there is no such socket"
        program.send_signal(signal.SIGINT)
        assert program.wait(10) == 0
        assert program.stderr is not None
        assert program.stderr.read() == ""
        assert not address.exists()
    finally:
        program.kill()
        program.wait()
        if program.stderr is not None:
            program.stderr.close()


def connect_within(client: socket.socket, address: Path, timeout_s: float) -> None:
    """Connect to the socket of a starting program."""
    end_s = time.monotonic() + timeout_s
    while True:
        try:
            client.connect(str(address))
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < end_s, f"the program does not listen on {address}"
            time.sleep(0.02)
        else:
            return
