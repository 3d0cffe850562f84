# SPDX-License-Identifier: BSD-2-Clause
"""Per-instance locks across threads and processes."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hvkit.hypervisor.errors import InstanceBusy, RuntimeStateError
from hvkit.hypervisor.kvm.host.locks import instance_lock, is_lock_held

HOLD = """
import sys
from pathlib import Path
from hvkit.hypervisor.kvm.host.locks import instance_lock
with instance_lock("web1", Path(sys.argv[1]), timeout_s=5):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock_file(tmp_path: Path) -> Path:
    return tmp_path / "web1"


@contextmanager
def held_by_another_process(lock_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock_file)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.stdin.close()


def test_lock_is_held_during_the_block_only(lock_file: Path) -> None:
    assert not is_lock_held("web1", lock_file)
    with instance_lock("web1", lock_file, timeout_s=1):
        assert is_lock_held("web1", lock_file)
    assert not is_lock_held("web1", lock_file)


def test_lock_is_released_after_an_error(lock_file: Path) -> None:
    with pytest.raises(ZeroDivisionError), instance_lock("web1", lock_file, timeout_s=1):
        _ = 1 / 0
    with instance_lock("web1", lock_file, timeout_s=0):
        pass


def test_second_thread_waits_for_the_lock(lock_file: Path) -> None:
    order = []

    def second() -> None:
        with instance_lock("web1", lock_file, timeout_s=10):
            order.append("second")

    with instance_lock("web1", lock_file, timeout_s=1):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_second_thread_raises_busy_at_its_deadline(lock_file: Path) -> None:
    with instance_lock("web1", lock_file, timeout_s=1):
        began = time.monotonic()
        with pytest.raises(InstanceBusy) as caught, instance_lock("web1", lock_file, timeout_s=0.1):
            pass
        assert 0.1 <= time.monotonic() - began < 2
    assert (caught.value.instance, caught.value.holder) == ("web1", os.getpid())


def test_busy_error_has_the_pid_of_another_process(lock_file: Path) -> None:
    with held_by_another_process(lock_file) as holder:
        assert is_lock_held("web1", lock_file)
        with pytest.raises(InstanceBusy) as caught, instance_lock("web1", lock_file, timeout_s=0.1):
            pass
    assert caught.value.holder == holder.pid
    assert f"locked by another operation (process {holder.pid})" in str(caught.value)


def test_is_lock_held_does_not_block_the_lock(lock_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_file.touch()
    close = os.close
    taken = []

    def take_before_closing(descriptor: int) -> None:
        monkeypatch.undo()
        with instance_lock("web1", lock_file, timeout_s=0):
            taken.append(descriptor)
        close(descriptor)

    monkeypatch.setattr(os, "close", take_before_closing)
    assert not is_lock_held("web1", lock_file)
    assert taken, "the lock was not taken while the query had the file open"


def test_lock_works_on_a_full_disk(lock_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", fail)
    with instance_lock("web1", lock_file, timeout_s=1):
        assert is_lock_held("web1", lock_file)
    assert not is_lock_held("web1", lock_file)


def test_lock_of_a_killed_process_is_free(lock_file: Path) -> None:
    with held_by_another_process(lock_file) as holder:
        holder.kill()
        with instance_lock("web1", lock_file, timeout_s=10):
            pass


def test_release_also_unlocks_duplicated_descriptors(lock_file: Path) -> None:
    with contextlib.ExitStack() as stack:
        with instance_lock("web1", lock_file, timeout_s=1):
            (descriptor,) = (int(each.name) for each in Path("/proc/self/fd").iterdir() if each.resolve() == lock_file)
            # The descriptor that a child would get that is forked now.
            stack.callback(os.close, os.dup(descriptor))
        assert not is_lock_held("web1", lock_file)


FORK = """
import os, sys
from pathlib import Path
from hvkit.hypervisor.kvm.host.locks import instance_lock, is_lock_held
lock_file = Path(sys.argv[1])
with instance_lock("web1", lock_file, timeout_s=5):
    child = os.fork()
    if not child:
        sys.exit(0)
    os.waitpid(child, 0)
    print(is_lock_held("web1", lock_file))
"""


def test_exit_of_a_forked_child_does_not_release_the_lock(lock_file: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", FORK, str(lock_file)]
    assert subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout == "True\n"


def test_lock_file_that_cannot_be_opened_is_named_in_the_error(lock_file: Path) -> None:
    lock_file.symlink_to(lock_file.with_name("elsewhere"))
    with pytest.raises(RuntimeStateError, match="cannot be opened: Too many levels of symbolic links") as caught:
        is_lock_held("web1", lock_file)
    assert caught.value.path == str(lock_file)
    with pytest.raises(RuntimeStateError), instance_lock("web1", lock_file, timeout_s=1):
        pass
    assert not lock_file.with_name("elsewhere").exists()


def test_lock_excludes_while_lock_holders_remove_the_file(lock_file: Path) -> None:
    inside = 0
    most = 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with instance_lock("web1", lock_file, timeout_s=30):
                with guard:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0005)
                lock_file.unlink()
                with guard:
                    inside -= 1

    program = f"""
from pathlib import Path
from hvkit.hypervisor.kvm.host.locks import instance_lock
path = Path({str(lock_file)!r})
for _ in range(50):
    with instance_lock("web1", path, timeout_s=30):
        inside = path.with_name("inside")
        inside.open("x").close()
        inside.unlink()
        path.unlink()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(3)]
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert most == 1


def test_lock_in_a_missing_directory_cannot_be_opened(lock_file: Path) -> None:
    missing = lock_file / "lock"
    with (
        pytest.raises(RuntimeStateError, match="cannot be opened: No such file"),
        instance_lock("w", missing, timeout_s=0),
    ):
        pass
    assert not is_lock_held("w", missing)


def test_lock_without_limit_is_acquired(lock_file: Path) -> None:
    with instance_lock("web1", lock_file, timeout_s=math.inf):
        assert is_lock_held("web1", lock_file)
