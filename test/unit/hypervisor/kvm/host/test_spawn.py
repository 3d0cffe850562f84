# SPDX-License-Identifier: BSD-2-Clause
"""Programs that outlive the process that starts them."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from spawner import Spawner, python

from hvkit.hypervisor.kvm.host.process import ProcessError, children, describe_exit, open_process
from hvkit.hypervisor.kvm.host.spawn import spawn


def test_spawn_gives_a_session_and_a_clean_environment(start: Spawner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    program = (
        "import os; print(os.getsid(0) == os.getpid(), os.getcwd(), oct(os.umask(0)), "
        "os.readlink('/proc/self/fd/0'), 'DATABASE_PASSWORD' in os.environ, 'PATH' in os.environ)"
    )
    assert start.finish(start(*python(program))) == "True / 0o77 /dev/null False True\n"


def test_spawn_passes_the_given_descriptors_only(start: Spawner, tmp_path: Path) -> None:
    with open(tmp_path / "given", "w") as given, open(tmp_path / "kept", "w") as kept:
        os.set_inheritable(kept.fileno(), True)
        program = "import os; print(sorted(os.path.basename(os.readlink(f'/proc/self/fd/{n}')) for n in range(3, 100) if os.path.exists(f'/proc/self/fd/{n}')))"  # noqa: E501
        said = start.finish(start(*python(program), pass_fds=(given.fileno(),)))
    assert "given" in said
    assert "kept" not in said


def test_spawn_truncates_the_log_with_mode_0600(start: Spawner) -> None:
    start.log_file.write_text("an earlier life\n" * 100)
    start.log_file.chmod(0o600)
    said = start.finish(start(*python("import sys; print('out'); print('err', file=sys.stderr)")))
    assert sorted(said.split()) == ["err", "out"]
    assert start.log_file.stat().st_mode & 0o777 == 0o600


def test_spawn_rejects_a_log_that_is_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "log").symlink_to(tmp_path / "target")
    with pytest.raises(ProcessError, match="log"):
        spawn(["/bin/true"], log_file=tmp_path / "log")
    assert (tmp_path / "target").read_text() == "precious"


def test_spawn_of_a_missing_program_names_it(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="/nonexistent/qemu cannot be started: No such file"):
        spawn(["/nonexistent/qemu"], log_file=tmp_path / "log")


def test_spawn_returns_the_identity_of_a_program_that_ends_at_once(start: Spawner) -> None:
    identity = start("/bin/false")
    start.finish(identity)
    assert open_process(identity) is None
    assert describe_exit(identity) == "QEMU ended with exit code 1"


def test_spawn_kills_a_program_without_a_handle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fail(pid: int) -> int:
        tried.append(pid)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", fail)
    with pytest.raises(ProcessError, match="Too many open files"):
        spawn(["/bin/sleep", "60"], log_file=tmp_path / "log")
    with pytest.raises(ProcessLookupError):
        os.kill(tried[0], 0)


def test_spawn_and_wait_work_from_many_threads(tmp_path: Path) -> None:
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
