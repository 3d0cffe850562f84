# SPDX-License-Identifier: BSD-2-Clause
"""The simulated QEMU as a process: its sockets, signals, files, complaints and knobs."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import CommandTimeout, ConnectError, ConnectionLost, QmpConnection, QmpMessage
from hvkit.qmp.schema import (
    Cont,
    QueryCpusFast,
    QueryName,
    QueryStatus,
    Quit,
    ResumeEvent,
    ShutdownEvent,
    Stop,
    StopEvent,
    SystemPowerdown,
)
from hvkit.testing.simulator import Behavior, write_executable

START_TIMEOUT_S = 20


class Simulator:
    """A simulated QEMU with two monitors that runs for the length of a test."""

    def __init__(self, directory: Path, *arguments: str, **knobs: Any) -> None:
        self.control, self.watch, self.pid_file = directory / "control", directory / "watch", directory / "pid"
        argv = [str(write_executable(directory, **knobs)), "-S", "-M", "q35", "-name", "web1", "-smp", "2"]
        for path in (self.control, self.watch):
            argv += ["-chardev", f"socket,id={path.name},path={path},server=on,wait=off"]
            argv += ["-mon", f"chardev={path.name},mode=control"]
        self.process = subprocess.Popen(
            [*argv, "-pidfile", str(self.pid_file), *arguments],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "TMPDIR": os.environ.get("TMPDIR", "")},
        )

    def connect(self, path: Path | None = None) -> QmpConnection:
        """Return a connection to enter."""
        return QmpConnection(path or self.control)

    def wait_until_it_listens(self) -> None:
        """Wait for the second monitor: the first one listens before it."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            assert self.process.poll() is None, self.wait()
            try:
                raw_client(self.watch).close()
                return
            except (FileNotFoundError, ConnectionRefusedError):  # not there yet; or left by one that was killed
                assert time.monotonic() < deadline, "the simulator does not listen"
                time.sleep(0.01)

    def wait(self) -> tuple[int, str]:
        """Wait for its end; return the exit status and what it complained about."""
        _, complaints = self.process.communicate(timeout=START_TIMEOUT_S)
        return self.process.returncode, complaints.decode()


@contextlib.contextmanager
def running(directory: Path, *arguments: str, **knobs: Any) -> Iterator[Simulator]:
    simulator = Simulator(directory, *arguments, **knobs)
    try:
        simulator.wait_until_it_listens()
        yield simulator
    finally:
        simulator.process.kill()
        simulator.process.communicate()


def raw_client(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(START_TIMEOUT_S)
    try:
        client.connect(str(path))
    except OSError:
        client.close()
        raise
    return client


def is_silent(client: socket.socket) -> bool:
    return not select.select([client], [], [], 0.1)[0]


# ---- a session


def test_a_typed_session_over_its_sockets(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, simulator.connect() as qmp:
        assert qmp.version[:3] == (7, 2, 0)
        assert qmp.execute(QueryStatus()).status == "prelaunch"
        assert qmp.execute(QueryName()).name == "web1"
        with qmp.subscribe(ResumeEvent, StopEvent) as events:
            qmp.execute(Cont())
            assert isinstance(events.get(timeout=5), ResumeEvent)
            qmp.execute(Stop())
            assert isinstance(events.get(timeout=5), StopEvent)
        for cpu in qmp.execute(QueryCpusFast()):
            os.sched_setaffinity(cpu.thread_id, os.sched_getaffinity(0))


def test_both_monitors_hear_of_events(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, simulator.connect() as qmp, simulator.connect(simulator.watch) as watch:
        qmp.execute(Cont())
        with watch.subscribe(ResumeEvent) as events:
            qmp.execute(Stop())
            qmp.execute(Cont())
            assert events.get(timeout=5).timestamp is not None


def test_the_power_button_ends_the_process(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, simulator.connect() as qmp, qmp.subscribe(ShutdownEvent) as events:
        qmp.execute(Cont())
        deadline = time.monotonic() + START_TIMEOUT_S
        while simulator.process.poll() is None and time.monotonic() < deadline:  # the first press may come too early
            with contextlib.suppress(ConnectionLost):
                qmp.execute(SystemPowerdown())
            with contextlib.suppress(subprocess.TimeoutExpired):
                simulator.process.wait(0.1)
        assert events.get(timeout=5) == ShutdownEvent(guest=True, reason="guest-shutdown")
        assert simulator.wait()[0] == 0
        assert sorted(tmp_path.iterdir()) == [
            tmp_path / "qemu-system-x86_64",
            tmp_path / "qemu-system-x86_64.knobs.json",
        ]


def test_quit_reports_replies_and_hangs_up_in_this_order(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, raw_client(simulator.control) as client:
        client.sendall(b'{"execute":"qmp_capabilities","id":1}{"execute":"quit","id":2}')
        lines = client.makefile("rb").readlines()
        assert all(line.endswith(b"\r\n") for line in lines)
        messages = [json.loads(line) for line in lines]
        assert [sorted(message) for message in messages] == [
            ["QMP"],
            ["id", "return"],
            ["data", "event", "timestamp"],
            ["id", "return"],
        ]
        assert simulator.wait() == (0, "")
        assert not simulator.control.exists()


def test_negotiation_comes_first_and_once(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, raw_client(simulator.control) as client:
        client.sendall(b'{"execute":"quit"}\n' + b'{"execute":"qmp_capabilities"}\n' * 2 + b"garbage\n[1]\n")
        lines = client.makefile("rb")
        replies = [json.loads(lines.readline()) for _ in range(6)][1:]
        assert [reply.get("error", {}).get("class") for reply in replies] == [
            "CommandNotFound",
            None,
            "CommandNotFound",
            "GenericError",
            "GenericError",
        ]


def test_a_monitor_serves_one_client_at_a_time(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, raw_client(simulator.control) as first:
        assert first.recv(4096).startswith(b'{"QMP"')
        with raw_client(simulator.control) as second:
            assert is_silent(second)
            first.close()
            assert second.recv(4096).startswith(b'{"QMP"')


def test_a_client_that_does_not_read_stops_nobody_else(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, raw_client(simulator.watch) as deaf, simulator.connect() as qmp:
        deaf.sendall(b'{"execute":"qmp_capabilities"}')
        deaf.sendall(b'{"execute":"query-machines"}' * 2000)
        assert qmp.execute(QueryStatus()).status == "prelaunch"


# ---- signals and files


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_properly(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as simulator, simulator.connect() as qmp, qmp.subscribe(ShutdownEvent) as events:
        simulator.process.send_signal(number)
        assert events.get(timeout=5) == ShutdownEvent(guest=False, reason="host-signal")
        assert simulator.wait() == (0, f"qemu-system-x86_64: terminating on signal {number}\n")
        assert not simulator.pid_file.exists()


def test_a_killed_one_leaves_its_files_and_the_next_takes_them_over(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, simulator.connect():
        assert simulator.pid_file.read_text() == f"{simulator.process.pid}\n"
        simulator.process.kill()
        simulator.wait()
        assert simulator.pid_file.exists()
        assert simulator.control.exists()
    with running(tmp_path) as simulator:
        with simulator.connect() as qmp:
            assert qmp.execute(QueryStatus()).status == "prelaunch"
        assert simulator.pid_file.read_text() == f"{simulator.process.pid}\n"


def test_the_pid_file_of_a_running_one_is_locked(tmp_path: Path) -> None:
    with running(tmp_path) as simulator:
        argv = [str(tmp_path / "qemu-system-x86_64"), "-S", "-pidfile", str(simulator.pid_file)]
        ended = subprocess.run(argv, stderr=subprocess.PIPE, text=True, timeout=START_TIMEOUT_S, check=False)
        assert ended.returncode == 1
        assert "cannot create PID file: Cannot lock pid file" in ended.stderr
        assert simulator.pid_file.exists()


def test_it_serves_a_listening_socket_that_it_inherits(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "inherited"))
        listener.listen()
        fd = listener.fileno()
        process = subprocess.Popen(
            [
                *(str(write_executable(tmp_path)), "-S"),
                *("-chardev", f"socket,id=c,fd={fd},server=on,wait=off", "-mon", "chardev=c,mode=control"),
            ],
            pass_fds=[fd],
        )
    try:
        with QmpConnection(tmp_path / "inherited") as qmp:  # no waiting: who listens was there before
            qmp.execute(Quit())
        assert process.wait(START_TIMEOUT_S) == 0
    finally:
        process.kill()
        process.wait()


def test_it_speaks_on_standard_input_and_output(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [str(write_executable(tmp_path)), "-S", "-M", "none", "-qmp", "stdio"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
        )
        theirs.close()
        try:
            with QmpConnection.from_socket(ours) as qmp:
                assert qmp.execute(QueryCpusFast()) == []
                qmp.execute(Quit())
            assert process.wait(START_TIMEOUT_S) == 0
        finally:
            process.kill()
            process.wait()


# ---- complaints


def complaint(executable: Path, *arguments: str) -> str:
    ended = subprocess.run(
        [str(executable), *arguments], capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    return ended.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-nope"], "-nope: invalid option"),
        (["-kernel", "/nope"], "could not open kernel file '/nope': No such file or directory"),
        (["-blockdev", '{"driver":"file","node-name":"f","filename":"/nope"}'], "Could not open '/nope'"),
        (["-qmp", "unix:/nope/socket,server=on,wait=off"], "Failed to bind socket to /nope/socket"),
        (["-chardev", "socket,id=c,fd=77"], "File descriptor '77' is not a socket"),
        (["-pidfile", "/nope/pid"], "cannot create PID file: Could not create '/nope/pid'"),
        (["-netdev", '{"type":"tap","id":"n","fd":"77"}'], "Can't use file descriptor 77: Bad file descriptor"),
    ],
)
def test_complains_and_exits(tmp_path: Path, arguments: list[str], expected: str) -> None:
    said = complaint(write_executable(tmp_path), "-S", *arguments)
    assert said.startswith("qemu-system-x86_64: ")
    assert expected in said


def test_a_disk_has_one_writer(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\0" * 512)
    arguments = (
        *("-blockdev", json.dumps({"driver": "file", "node-name": "f", "filename": str(disk)})),
        *("-device", '{"driver":"virtio-blk-pci","drive":"f"}'),
    )
    with running(tmp_path, *arguments) as simulator:
        with simulator.connect():
            pass
        said = complaint(tmp_path / "qemu-system-x86_64", "-S", *arguments)
        assert 'Failed to get "write" lock' in said


def test_says_its_version(tmp_path: Path) -> None:
    executable = write_executable(tmp_path, version=(10, 0, 3))
    said = subprocess.run([str(executable), "-version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("QEMU emulator version 10.0.3 ")


# ---- knobs


def test_a_silent_monitor_accepts_and_says_nothing(tmp_path: Path) -> None:
    with running(tmp_path, is_silent=True) as simulator:
        with pytest.raises(ConnectError):
            QmpConnection(simulator.control).connect(timeout=0.2)
        simulator.process.terminate()
        assert simulator.wait()[0] == 0


def test_it_can_hang_at_a_command(tmp_path: Path) -> None:
    with running(tmp_path, hang_on="stop") as simulator, simulator.connect() as qmp:
        qmp.execute(QueryStatus())
        with pytest.raises(CommandTimeout):
            qmp.execute(Stop(), timeout=0.1)
        with pytest.raises(CommandTimeout):
            qmp.execute(QueryStatus(), timeout=0.1)
        simulator.process.terminate()
        assert simulator.wait()[0] == 0


def test_it_can_crash_at_a_command(tmp_path: Path) -> None:
    with running(tmp_path, crash_on="stop") as simulator, simulator.connect() as qmp:
        with pytest.raises(ConnectionLost):
            qmp.execute(Stop())
        assert simulator.wait()[0] == -signal.SIGKILL
        assert simulator.pid_file.exists()


def test_it_can_hang_up_in_the_middle_of_a_reply(tmp_path: Path) -> None:
    with running(tmp_path, close_on="query-status") as simulator:
        with simulator.connect() as qmp, pytest.raises(ConnectionLost):
            qmp.execute(QueryStatus())
        with simulator.connect() as qmp:
            assert qmp.execute(QueryName()).name == "web1"


def test_commands_can_take_their_time(tmp_path: Path) -> None:
    with running(tmp_path, latency_s=0.05, slow_commands={"stop": 0.1}) as simulator, simulator.connect() as qmp:
        started = time.monotonic()
        qmp.execute(QueryStatus())
        assert time.monotonic() - started >= 0.05
        started = time.monotonic()
        qmp.execute(Stop())
        assert time.monotonic() - started >= 0.15


def test_events_can_get_lost_or_come_twice(tmp_path: Path) -> None:
    with running(tmp_path, drop_events=["RESUME"], double_events=["STOP"]) as simulator, simulator.connect() as qmp:
        qmp.execute(Cont())
        qmp.execute(Stop())
        assert qmp.take_events() == [StopEvent(), StopEvent()]


def test_it_can_fail_to_start(tmp_path: Path) -> None:
    assert complaint(write_executable(tmp_path, start_failure="out of luck")) == "qemu-system-x86_64: out of luck\n"


def test_it_can_be_slow_to_start(tmp_path: Path) -> None:
    started = time.monotonic()
    with running(tmp_path, start_delay_s=0.3):
        assert time.monotonic() - started >= 0.3


def test_knobs_are_read_whenever_it_starts(tmp_path: Path) -> None:
    executable = write_executable(tmp_path)
    knobs_file = tmp_path / "qemu-system-x86_64.knobs.json"
    Behavior(start_failure="now").save(knobs_file)
    assert "now" in complaint(executable)
    assert Behavior.load(knobs_file) == Behavior(start_failure="now")


def test_knobs_that_do_not_exist_are_the_tests_fault(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_executable(tmp_path, guest_is_nice=True)
    file = tmp_path / "knobs.json"
    file.write_text('{"guest_is_nice": true}')
    with pytest.raises(ProgrammerError, match="guest_is_nice"):
        Behavior.load(file)


def test_it_needs_nothing_of_the_environment(tmp_path: Path) -> None:
    said = subprocess.run(
        [str(write_executable(tmp_path)), "-version"], env={}, cwd="/", capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stderr) == (0, "")


def test_it_is_a_module_too(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "hvkit.testing.simulator", "-version"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.startswith("QEMU emulator version 7.2.0")


def test_raw_messages_pass(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, simulator.connect() as qmp:
        reply = qmp.exchange(QmpMessage({"execute": "query-status", "arguments": {"no": 1}}))
        assert reply["error"] == {"class": "GenericError", "desc": "Parameter 'no' is unexpected"}
