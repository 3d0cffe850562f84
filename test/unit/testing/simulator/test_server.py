# SPDX-License-Identifier: BSD-2-Clause
"""The simulated QEMU as a process: sockets, signals, files, error messages and configurable behavior."""

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
    """A process of the simulated QEMU with two monitors."""

    def __init__(self, directory: Path, *arguments: str, **behavior: Any) -> None:
        self.control, self.watch, self.pid_file = directory / "control", directory / "watch", directory / "pid"
        argv = [str(write_executable(directory, **behavior)), "-S", "-M", "q35", "-name", "web1", "-smp", "2"]
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
        """Return a connection that is not open yet."""
        return QmpConnection(path or self.control)

    def wait_until_listening(self) -> None:
        """Wait for the second monitor, which listens last."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            assert self.process.poll() is None, self.wait()
            try:
                raw_client(self.watch).close()
                return
            except (FileNotFoundError, ConnectionRefusedError):  # not created yet, or left by a killed process
                assert time.monotonic() < deadline, "the simulator does not listen"
                time.sleep(0.01)

    def wait(self) -> tuple[int, str]:
        """Wait until the process exits; return the exit status and standard error."""
        _, stderr = self.process.communicate(timeout=START_TIMEOUT_S)
        return self.process.returncode, stderr.decode()


@contextlib.contextmanager
def running(directory: Path, *arguments: str, **behavior: Any) -> Iterator[Simulator]:
    simulator = Simulator(directory, *arguments, **behavior)
    try:
        simulator.wait_until_listening()
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


def test_session_executes_typed_commands(tmp_path: Path) -> None:
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


def test_events_reach_both_monitors(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, simulator.connect() as qmp, simulator.connect(simulator.watch) as watch:
        qmp.execute(Cont())
        with watch.subscribe(ResumeEvent) as events:
            qmp.execute(Stop())
            qmp.execute(Cont())
            assert events.get(timeout=5).timestamp is not None


def test_powerdown_ends_process_and_removes_files(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, simulator.connect() as qmp, qmp.subscribe(ShutdownEvent) as events:
        qmp.execute(Cont())
        deadline = time.monotonic() + START_TIMEOUT_S
        while simulator.process.poll() is None and time.monotonic() < deadline:  # ignored until the guest has booted
            with contextlib.suppress(ConnectionLost):
                qmp.execute(SystemPowerdown())
            with contextlib.suppress(subprocess.TimeoutExpired):
                simulator.process.wait(0.1)
        assert events.get(timeout=5) == ShutdownEvent(guest=True, reason="guest-shutdown")
        assert simulator.wait()[0] == 0
        assert sorted(tmp_path.iterdir()) == [
            tmp_path / "qemu-system-x86_64",
            tmp_path / "qemu-system-x86_64.behavior.json",
        ]


def test_quit_sends_event_then_reply_then_closes(tmp_path: Path) -> None:
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


def test_negotiation_is_required_once(tmp_path: Path) -> None:
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


def test_monitor_serves_one_client_at_a_time(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, raw_client(simulator.control) as first:
        assert first.recv(4096).startswith(b'{"QMP"')
        with raw_client(simulator.control) as second:
            assert is_silent(second)
            first.close()
            assert second.recv(4096).startswith(b'{"QMP"')


def test_client_that_does_not_read_blocks_no_other(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, raw_client(simulator.watch) as stuck, simulator.connect() as qmp:
        stuck.sendall(b'{"execute":"qmp_capabilities"}')
        stuck.sendall(b'{"execute":"query-machines"}' * 2000)
        assert qmp.execute(QueryStatus()).status == "prelaunch"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_shuts_down_and_removes_files(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as simulator, simulator.connect() as qmp, qmp.subscribe(ShutdownEvent) as events:
        simulator.process.send_signal(number)
        assert events.get(timeout=5) == ShutdownEvent(guest=False, reason="host-signal")
        assert simulator.wait() == (0, f"qemu-system-x86_64: terminating on signal {number}\n")
        assert not simulator.pid_file.exists()


def test_killed_simulator_leaves_files_and_next_start_replaces_them(tmp_path: Path) -> None:
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


def test_pid_file_of_running_simulator_is_locked(tmp_path: Path) -> None:
    with running(tmp_path) as simulator:
        argv = [str(tmp_path / "qemu-system-x86_64"), "-S", "-pidfile", str(simulator.pid_file)]
        ended = subprocess.run(argv, stderr=subprocess.PIPE, text=True, timeout=START_TIMEOUT_S, check=False)
        assert ended.returncode == 1
        assert "cannot create PID file: Cannot lock pid file" in ended.stderr
        assert simulator.pid_file.exists()


def test_inherited_listening_socket_is_served(tmp_path: Path) -> None:
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
        with QmpConnection(tmp_path / "inherited") as qmp:  # connects at once: the socket listened before the start
            qmp.execute(Quit())
        assert process.wait(START_TIMEOUT_S) == 0
    finally:
        process.kill()
        process.wait()


def test_stdio_monitor_is_served(tmp_path: Path) -> None:
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


def error_output(executable: Path, *arguments: str) -> str:
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
def test_invalid_option_prints_error_and_exits(tmp_path: Path, arguments: list[str], expected: str) -> None:
    output = error_output(write_executable(tmp_path), "-S", *arguments)
    assert output.startswith("qemu-system-x86_64: ")
    assert expected in output


def test_disk_in_use_is_locked(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\0" * 512)
    arguments = (
        *("-blockdev", json.dumps({"driver": "file", "node-name": "f", "filename": str(disk)})),
        *("-device", '{"driver":"virtio-blk-pci","drive":"f"}'),
    )
    with running(tmp_path, *arguments) as simulator:
        with simulator.connect():
            pass
        output = error_output(tmp_path / "qemu-system-x86_64", "-S", *arguments)
        assert 'Failed to get "write" lock' in output


def test_version_option_prints_configured_version(tmp_path: Path) -> None:
    executable = write_executable(tmp_path, version=(10, 0, 3))
    output = subprocess.run([str(executable), "-version"], capture_output=True, text=True, check=True)
    assert output.stdout.startswith("QEMU emulator version 10.0.3 ")


def test_is_silent_accepts_without_greeting(tmp_path: Path) -> None:
    with running(tmp_path, is_silent=True) as simulator:
        with pytest.raises(ConnectError):
            QmpConnection(simulator.control).connect(timeout=0.2)
        simulator.process.terminate()
        assert simulator.wait()[0] == 0


def test_hang_on_stops_all_replies(tmp_path: Path) -> None:
    with running(tmp_path, hang_on="stop") as simulator, simulator.connect() as qmp:
        qmp.execute(QueryStatus())
        with pytest.raises(CommandTimeout):
            qmp.execute(Stop(), timeout=0.1)
        with pytest.raises(CommandTimeout):
            qmp.execute(QueryStatus(), timeout=0.1)
        simulator.process.terminate()
        assert simulator.wait()[0] == 0


def test_crash_on_kills_process_and_leaves_files(tmp_path: Path) -> None:
    with running(tmp_path, crash_on="stop") as simulator, simulator.connect() as qmp:
        with pytest.raises(ConnectionLost):
            qmp.execute(Stop())
        assert simulator.wait()[0] == -signal.SIGKILL
        assert simulator.pid_file.exists()


def test_close_on_closes_within_reply(tmp_path: Path) -> None:
    with running(tmp_path, close_on="query-status") as simulator:
        with simulator.connect() as qmp, pytest.raises(ConnectionLost):
            qmp.execute(QueryStatus())
        with simulator.connect() as qmp:
            assert qmp.execute(QueryName()).name == "web1"


def test_latency_and_slow_commands_delay_replies(tmp_path: Path) -> None:
    with running(tmp_path, latency_s=0.05, slow_commands={"stop": 0.1}) as simulator, simulator.connect() as qmp:
        started = time.monotonic()
        qmp.execute(QueryStatus())
        assert time.monotonic() - started >= 0.05
        started = time.monotonic()
        qmp.execute(Stop())
        assert time.monotonic() - started >= 0.15


def test_drop_and_double_events_change_event_count(tmp_path: Path) -> None:
    with running(tmp_path, drop_events=["RESUME"], double_events=["STOP"]) as simulator, simulator.connect() as qmp:
        qmp.execute(Cont())
        qmp.execute(Stop())
        assert qmp.take_events() == [StopEvent(), StopEvent()]


def test_start_failure_prints_error_and_exits(tmp_path: Path) -> None:
    assert error_output(write_executable(tmp_path, start_failure="no luck")) == "qemu-system-x86_64: no luck\n"


def test_start_delay_delays_sockets(tmp_path: Path) -> None:
    started = time.monotonic()
    with running(tmp_path, start_delay_s=0.3):
        assert time.monotonic() - started >= 0.3


def test_behavior_file_is_read_at_every_start(tmp_path: Path) -> None:
    executable = write_executable(tmp_path)
    behavior_file = tmp_path / "qemu-system-x86_64.behavior.json"
    Behavior(start_failure="now").save(behavior_file)
    assert "now" in error_output(executable)
    assert Behavior.load(behavior_file) == Behavior(start_failure="now")


def test_unknown_behavior_raises(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_executable(tmp_path, no_such_member=True)
    file = tmp_path / "behavior.json"
    file.write_text('{"no_such_member": true}')
    with pytest.raises(ProgrammerError, match="no_such_member"):
        Behavior.load(file)


def test_executable_runs_with_empty_environment(tmp_path: Path) -> None:
    output = subprocess.run(
        [str(write_executable(tmp_path)), "-version"], env={}, cwd="/", capture_output=True, text=True, check=False
    )
    assert (output.returncode, output.stderr) == (0, "")


def test_module_runs_as_program(tmp_path: Path) -> None:
    output = subprocess.run(
        [sys.executable, "-m", "hvkit.testing.simulator", "-version"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert output.stdout.startswith("QEMU emulator version 7.2.0")


def test_raw_message_with_unknown_argument_gets_error(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, simulator.connect() as qmp:
        reply = qmp.exchange(QmpMessage({"execute": "query-status", "arguments": {"no": 1}}))
        assert reply["error"] == {"class": "GenericError", "desc": "Parameter 'no' is unexpected"}
