# SPDX-License-Identifier: BSD-2-Clause
"""Per-instance locks across threads and processes (OFD locks).

The lock is an open file description lock (F_OFD_SETLK of fcntl(2)) on a file of the instance. The kernel releases it
when the lock holder ends, together with all forked children that still have the file open, and reports it to others
without their acquiring it. The threads of one process first acquire a lock in memory, so that only one of them polls
the file.
"""

import contextlib
import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from hvkit.hypervisor.errors import InstanceBusy, RuntimeStateError
from hvkit.hypervisor.kvm.host.polling import poll_until
from hvkit.qmp.deadlines import Deadline

#: Seconds between two attempts to acquire a lock that another process holds. The kernel waits without a timeout.
_INTERVAL_S: Final = 0.02

_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW
#: struct flock: type, whence, start, length (0: to the end), pid (0 for locks of open files). Source: fcntl(2).
_FLOCK: Final = "@hhqqi4x"
_LOCK: Final = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
_UNLOCK: Final = struct.pack(_FLOCK, fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)


@attrs.define
class _Queue:
    """The threads of this process that use one lock file."""

    lock: threading.Lock = attrs.field(factory=threading.Lock)
    users: int = 0


_queues: dict[Path, _Queue] = {}
_queues_lock = threading.Lock()


@contextlib.contextmanager
def instance_lock(name: str, lock_file: Path, *, timeout_s: float) -> Iterator[None]:
    """Hold the lock of an instance for the duration of the block.

    Args:
        name: the instance, for the error.
        lock_file: the file to lock; created if it does not exist. Its directory has to exist.
        timeout_s: seconds to wait for the lock.

    Raises:
        InstanceBusy: another operation still holds the lock at the deadline; has the pid of the lock holder.
        RuntimeStateError: the lock file cannot be opened.
    """
    deadline = Deadline(timeout_s)
    with _queue(lock_file) as queue:
        if not queue.lock.acquire(timeout=min(max(0.0, timeout_s), threading.TIMEOUT_MAX)):
            raise InstanceBusy(name, os.getpid())
        try:
            descriptor = _acquire(name, lock_file, deadline)
            holder = os.getpid()
            try:
                yield
            finally:
                _release(descriptor, holder)
        finally:
            queue.lock.release()


def is_lock_held(name: str, lock_file: Path) -> bool:
    """Return whether an operation, in this process or another one, holds the lock of an instance.

    The query neither acquires the lock nor delays others.

    Raises:
        RuntimeStateError: the lock file cannot be opened.
    """
    try:
        descriptor = os.open(lock_file, os.O_RDWR | _FLAGS)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _cannot_open(name, lock_file, error) from error
    try:
        (kind, *_) = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _LOCK))
    finally:
        os.close(descriptor)
    return bool(kind != fcntl.F_UNLCK)


@contextlib.contextmanager
def _queue(lock_file: Path) -> Iterator[_Queue]:
    """Return the queue of a lock file. It exists as long as it has users."""
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


def _acquire(name: str, lock_file: Path, deadline: Deadline) -> int:
    holder: int | None = None

    def try_once() -> int | None:
        nonlocal holder
        while True:
            try:
                descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
            except OSError as error:
                raise _cannot_open(name, lock_file, error) from error
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK)
                if _is_current(descriptor, lock_file):
                    _write_holder(descriptor)
                    return descriptor
            except BlockingIOError:
                holder = _read_holder(descriptor)
                os.close(descriptor)
                return None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    acquired = poll_until(try_once, deadline, interval_s=_INTERVAL_S)
    if acquired is None:
        raise InstanceBusy(name, holder)
    return acquired


def _cannot_open(name: str, lock_file: Path, error: OSError) -> RuntimeStateError:
    return RuntimeStateError(name, str(lock_file), f"cannot be opened: {error.strerror}")


def _release(descriptor: int, holder: int) -> None:
    """Release a lock; in a forked child of the lock holder, only close its copy of the descriptor."""
    try:
        if os.getpid() == holder:  # closing does not unlock while forked children have the file open
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _UNLOCK)
    finally:
        os.close(descriptor)


def _is_current(descriptor: int, lock_file: Path) -> bool:
    """Return whether the locked file is still the one at the path: the previous lock holder may have removed it."""
    try:
        there = os.stat(lock_file, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _write_holder(descriptor: int) -> None:
    # Used only in error messages of other processes. The lock is valid without it, even on a full disk.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _read_holder(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None
