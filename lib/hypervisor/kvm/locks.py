# SPDX-License-Identifier: BSD-2-Clause
"""One hand at a time on each instance: between threads, and between processes.

The lock is an flock(2) on a file that belongs to the instance; the kernel gives it up when its holder dies. Threads of
one process queue up in front of it, so that only one of them has to look at the file again and again.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from hvkit.hypervisor.errors import InstanceBusy, RuntimeStateError

#: How often a lock that another process holds is tried again, in seconds: flock(2) has no deadline of its own.
_INTERVAL_S: Final = 0.02


@attrs.define
class _Queue:
    """The threads of this process that want one lock file."""

    lock: threading.Lock = attrs.field(factory=threading.Lock)
    users: int = 0


_queues: dict[Path, _Queue] = {}
_queues_lock = threading.Lock()


@contextlib.contextmanager
def instance_lock(name: str, lock_file: Path, *, timeout_s: float) -> Iterator[None]:
    """Hold the lock of an instance while the block runs.

    Args:
        name: the instance, for the error.
        lock_file: the file to lock; made where it is missing. Its directory has to exist.
        timeout_s: how long to wait for whoever holds it.

    Raises:
        InstanceBusy: somebody else still holds the lock at the deadline; names the pid.
        RuntimeStateError: the lock file cannot be opened.
    """
    deadline = time.monotonic() + timeout_s
    with _queue(lock_file) as queue:
        if not queue.lock.acquire(timeout=max(0.0, timeout_s)):
            raise InstanceBusy(name, os.getpid())
        try:
            descriptor = _acquire(name, lock_file, deadline)
            try:
                yield
            finally:
                os.close(descriptor)
        finally:
            queue.lock.release()


def is_locked(name: str, lock_file: Path) -> bool:
    """Tell whether somebody, this process included, is working on the instance at this moment.

    Raises:
        RuntimeStateError: the lock file cannot be opened.
    """
    try:
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RuntimeStateError(name, str(lock_file), f"cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def _queue(lock_file: Path) -> Iterator[_Queue]:
    """Give the queue of a lock file, which exists while somebody uses it."""
    with _queues_lock:
        queue = _queues.setdefault(lock_file, _Queue())
        queue.users += 1
    try:
        yield queue
    finally:
        with _queues_lock:
            queue.users -= 1
            if not queue.users:
                del _queues[lock_file]


def _acquire(name: str, lock_file: Path, deadline: float) -> int:
    while True:
        try:
            descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise RuntimeStateError(name, str(lock_file), f"cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_current(descriptor, lock_file):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                return descriptor
        except BlockingIOError:
            holder = _read_holder(descriptor)
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise InstanceBusy(name, holder) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(_INTERVAL_S)


def _is_current(descriptor: int, lock_file: Path) -> bool:
    """Tell whether the locked file is still the one at that path: its last holder may have removed it."""
    try:
        there = os.stat(lock_file, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _read_holder(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None
