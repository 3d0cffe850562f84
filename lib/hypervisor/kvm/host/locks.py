# SPDX-License-Identifier: BSD-2-Clause
"""One hand at a time on each instance: between threads, and between processes.

The lock is on a file that belongs to the instance, and is held by the open file (F_OFD_SETLK of fcntl(2)): the kernel
gives it up when its holder dies, with all children that he forked and that still have the file, and tells others of it
without their taking it. Threads of one process queue up in
front of it, so that only one of them has to look at the file again and again.
"""

import contextlib
import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from hvkit.hypervisor.errors import InstanceBusy, RuntimeStateError

#: How often a lock that another process holds is tried again, in seconds: the kernel waits without a deadline.
_INTERVAL_S: Final = 0.02

#: struct flock: type, whence, start, length (0: to the end), pid (0 for locks of open files). Source: fcntl(2).
_FLOCK: Final = "@hhqqi4x"
_ALL_OF_IT: Final = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
_NONE_OF_IT: Final = struct.pack(_FLOCK, fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)


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
            holder = os.getpid()
            try:
                yield
            finally:
                _give_up(descriptor, holder)
        finally:
            queue.lock.release()


def is_lock_held(name: str, lock_file: Path) -> bool:
    """Tell whether somebody, this process included, is working on the instance at this moment. Keeps nobody from it.

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
        (kind, *_) = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _ALL_OF_IT))
    finally:
        os.close(descriptor)
    return bool(kind != fcntl.F_UNLCK)


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
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _ALL_OF_IT)
            if _is_current(descriptor, lock_file):
                _write_holder(descriptor)
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


def _give_up(descriptor: int, holder: int) -> None:
    """Give up a lock; in a child that the holder forked, only the child's part in it."""
    try:
        if os.getpid() == holder:  # closing alone leaves it to the children that have the file, too
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _NONE_OF_IT)
    finally:
        os.close(descriptor)


def _is_current(descriptor: int, lock_file: Path) -> bool:
    """Tell whether the locked file is still the one at that path: its last holder may have removed it."""
    try:
        there = os.stat(lock_file, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _write_holder(descriptor: int) -> None:
    # For others to read in an error: the lock is held without it, also where the disk is full.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _read_holder(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None
