# SPDX-License-Identifier: BSD-2-Clause
"""Processes: started to outlive us, known beyond doubt, ended."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from hvkit.hypervisor.kvm.host.process import (
    ProcessError,
    ProcessIdentity,
    children,
    describe_exit,
    find_listener,
    is_listening,
    listen,
    open_process,
    read_identity,
    read_log_tail,
    set_affinity,
    spawn,
)

KILL = ((signal.SIGKILL, 10.0),)


def python(program: str) -> list[str]:
    return [sys.executable, "-I", "-c", program]


class Spawner:
    """Starts programs, and ends them after the test."""

    def __init__(self, directory: Path) -> None:
        self.log_file = directory / "log"
        self._started: list[ProcessIdentity] = []

    def __call__(self, *argv: str, pass_fds: tuple[int, ...] = ()) -> ProcessIdentity:
        with spawn(argv, log_file=self.log_file, pass_fds=pass_fds) as process:
            self._started.append(process.identity)
            return process.identity

    def finish(self, identity: ProcessIdentity) -> str:
        """Wait until a program has ended, and return what it wrote."""
        process = open_process(identity)
        if process is not None:
            with process:
                assert process.wait(30)
        return self.log_file.read_text()

    def end_all(self) -> None:
        for identity in self._started:
            process = open_process(identity)
            if process is not None:
                with process:
                    assert process.end(KILL)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Spawner]:
    spawner = Spawner(tmp_path)
    yield spawner
    spawner.end_all()


# ---- starting


def test_program_runs_by_itself_in_a_clean_place(start: Spawner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    program = (
        "import os; print(os.getsid(0) == os.getpid(), os.getcwd(), oct(os.umask(0)), "
        "os.readlink('/proc/self/fd/0'), 'DATABASE_PASSWORD' in os.environ, 'PATH' in os.environ)"
    )
    assert start.finish(start(*python(program))) == "True / 0o77 /dev/null False True\n"


def test_program_inherits_the_named_files_and_no_other(start: Spawner, tmp_path: Path) -> None:
    with open(tmp_path / "given", "w") as given, open(tmp_path / "kept", "w") as kept:
        os.set_inheritable(kept.fileno(), True)
        program = "import os; print(sorted(os.path.basename(os.readlink(f'/proc/self/fd/{n}')) for n in range(3, 100) if os.path.exists(f'/proc/self/fd/{n}')))"  # noqa: E501
        said = start.finish(start(*python(program), pass_fds=(given.fileno(),)))
    assert "given" in said
    assert "kept" not in said


def test_log_is_private_and_begins_anew(start: Spawner) -> None:
    start.log_file.write_text("an earlier life\n" * 100)
    start.log_file.chmod(0o600)
    said = start.finish(start(*python("import sys; print('out'); print('err', file=sys.stderr)")))
    assert sorted(said.split()) == ["err", "out"]
    assert start.log_file.stat().st_mode & 0o777 == 0o600


def test_log_is_not_written_through_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "log").symlink_to(tmp_path / "target")
    with pytest.raises(ProcessError, match="log"):
        spawn(["/bin/true"], log_file=tmp_path / "log")
    assert (tmp_path / "target").read_text() == "precious"


def test_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="/nonexistent/qemu cannot be started: No such file"):
        spawn(["/nonexistent/qemu"], log_file=tmp_path / "log")


def test_program_that_ends_at_once_has_an_identity_all_the_same(start: Spawner) -> None:
    identity = start("/bin/false")
    start.finish(identity)
    assert open_process(identity) is None
    assert describe_exit(identity) == "QEMU ended with exit code 1"


def test_program_that_cannot_be_held_is_not_left_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fail(pid: int) -> int:
        tried.append(pid)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", fail)
    with pytest.raises(ProcessError, match="Too many open files"):
        spawn(["/bin/sleep", "60"], log_file=tmp_path / "log")
    with pytest.raises(ProcessLookupError):
        os.kill(tried[0], 0)


# ---- identity


def test_identity_is_that_of_the_process(start: Spawner) -> None:
    identity = start("/bin/sleep", "60")
    assert read_identity(identity.pid) == identity
    process = open_process(identity)
    assert process is not None
    with process:
        assert not process.wait(0)


def test_process_with_the_same_pid_is_another_one(start: Spawner) -> None:
    identity = start("/bin/sleep", "60")
    assert open_process(attrs.evolve(identity, start_time=identity.start_time + 1)) is None
    assert open_process(attrs.evolve(identity, boot_id="another")) is None


def test_name_that_looks_like_fields_confuses_nobody(start: Spawner, tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to("/bin/sleep")
    identity = start(str(program), "60")
    assert read_identity(identity.pid) == identity


def test_zombie_of_another_process_has_ended() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        identity = read_identity(child.pid)
        assert identity is not None
        process = open_process(identity)
        assert process is not None
        with process:
            process.send_signal(signal.SIGKILL)
            assert process.wait(10)
        assert Path(f"/proc/{child.pid}").exists(), "nobody but its parent may reap it"
        assert open_process(identity) is None
        assert read_identity(child.pid) is None


# ---- ending


def test_child_is_reaped_and_says_how_it_ended(start: Spawner) -> None:
    identity = start("/bin/sleep", "60")
    process = open_process(identity)
    assert process is not None
    with process:
        assert process.end(((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)))
        process.send_signal(signal.SIGKILL)
    assert not Path(f"/proc/{identity.pid}").exists()
    assert describe_exit(identity) == "QEMU was ended by SIGTERM"


def test_child_that_ended_while_nobody_looked_is_reaped_by_the_next_look(start: Spawner) -> None:
    identity = start("/bin/true")
    process = open_process(identity)
    if process is not None:
        with process:
            assert process.wait(10)
    children.reap()
    assert not Path(f"/proc/{identity.pid}").exists()


def test_next_signal_follows_where_one_is_ignored(start: Spawner) -> None:
    identity = start(
        *python("import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)")
    )
    deadline = time.monotonic() + 10
    while start.log_file.read_text() != "1\n":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process = open_process(identity)
    assert process is not None
    with process:
        assert process.end(((signal.SIGTERM, 0.1), *KILL))
    assert describe_exit(identity) == "QEMU was ended by SIGKILL"


def test_stopped_process_is_said_to_be_stopped_and_can_be_killed(start: Spawner) -> None:
    identity = start("/bin/sleep", "60")
    process = open_process(identity)
    assert process is not None
    with process:
        assert not process.is_stopped
        process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while not process.is_stopped:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert process.end(KILL)
        assert not process.is_stopped


def test_many_threads_may_start_and_wait(tmp_path: Path) -> None:
    failures = []

    def work(number: int) -> None:
        for _ in range(5):
            with spawn(["/bin/sh", "-c", f"exit {number}"], log_file=tmp_path / f"log{number}") as process:
                process.wait(10)
            if children.exit_status(process.identity) != number:
                failures.append(process.identity)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_exit_of_a_stranger_is_not_known() -> None:
    assert describe_exit(ProcessIdentity(1, 1, "another")) == "QEMU is gone"


# ---- sockets


def test_socket_is_private_from_its_first_moment(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with listen(tmp_path / "s"):
            assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(old)


def test_socket_listens_for_as_long_as_whoever_inherited_it_lives(start: Spawner, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listen(path) as made:
        identity = start("/bin/sleep", "60", pass_fds=(made.fileno(),))
    assert is_listening(path)
    process = open_process(identity)
    assert process is not None
    with process:
        assert process.end(KILL)
    assert path.exists()
    assert not is_listening(path)


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    listen(tmp_path / "s").close()
    assert not is_listening(tmp_path / "s")
    with listen(tmp_path / "s"):
        assert is_listening(tmp_path / "s")


def test_socket_with_a_full_queue_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
            for waiting in (first, second):
                waiting.setblocking(False)
                try:
                    waiting.connect(path)
                except BlockingIOError:
                    break
            assert is_listening(tmp_path / "s")


def test_listener_is_found_by_its_pid_file(start: Spawner, tmp_path: Path) -> None:
    with listen(tmp_path / "s") as made:
        identity = start("/bin/sleep", "60", pass_fds=(made.fileno(),))
    (tmp_path / "pid").write_text(f"{identity.pid}\n")
    assert find_listener(tmp_path / "s", tmp_path / "pid") == identity


def test_pid_file_of_a_stranger_is_not_believed(start: Spawner, tmp_path: Path) -> None:
    stranger = start("/bin/sleep", "60")
    (tmp_path / "pid").write_text(f"{stranger.pid}\n")
    with listen(tmp_path / "s"), pytest.raises(ProcessError, match="cannot be identified"):
        find_listener(tmp_path / "s", tmp_path / "pid", timeout_s=0.1)
    assert find_listener(tmp_path / "s", tmp_path / "pid", timeout_s=0.1) is None


# ---- the rest


def test_tail_of_a_log_has_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    tail = read_log_tail(log, max_bytes=20)
    assert tail == "line 998\nline 999"
    log.write_text("short\n")
    assert read_log_tail(log) == "short"
    assert read_log_tail(tmp_path / "missing") == ""


def test_thread_is_bound_to_processors(start: Spawner) -> None:
    identity = start("/bin/sleep", "60")
    set_affinity(identity.pid, {0})
    assert os.sched_getaffinity(identity.pid) == {0}
    with pytest.raises(ProcessError, match=r"cannot be bound to CPUs \[9999\]"):
        set_affinity(identity.pid, {9999})


def test_child_that_somebody_else_reaped_is_gone(start: Spawner) -> None:
    identity = start("/bin/true")
    os.waitpid(identity.pid, 0)
    assert open_process(identity) is None
    assert describe_exit(identity) == "QEMU is gone"
