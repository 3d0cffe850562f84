# SPDX-License-Identifier: BSD-2-Clause
"""The host side of the simulated QEMU: disk images, inherited descriptors, threads."""

import fcntl
import os
import threading
from typing import Final

import attrs

from hvkit.testing.simulator.qmp_refusal import QmpRefusal

_QCOW2_MAGIC: Final = b"QFI\xfb"


@attrs.frozen(kw_only=True)
class Image:
    """An open image file or block device.

    Attributes:
        path: the path on the host.
        size: the size on the host in bytes.
        actual_size: the allocated bytes on the host.
        qcow2_size: the virtual size in the qcow2 header; None without such a header.
        fd: the open descriptor, which also holds the lock.
    """

    path: str
    size: int
    actual_size: int
    qcow2_size: int | None
    fd: int = attrs.field(eq=False)

    def lock(self, *, is_shared: bool) -> None:
        """Lock the image against use by other simulated machines.

        Raises:
            QmpRefusal: another process holds a conflicting lock.
        """
        try:
            fcntl.flock(self.fd, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            kind = "shared " * is_shared + '"write"'
            raise QmpRefusal(f"Failed to get {kind} lock\nIs another process using the image [{self.path}]?") from None

    def unlock(self) -> None:
        """Release the lock."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


def open_image(path: str, *, is_read_only: bool) -> Image:
    """Open an image.

    Raises:
        QmpRefusal: the file cannot be opened.
    """
    try:
        fd = os.open(path, (os.O_RDONLY if is_read_only else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as error:
        raise QmpRefusal(f"Could not open '{path}': {error.strerror}") from None
    header = os.pread(fd, 32, 0)
    is_qcow2 = header.startswith(_QCOW2_MAGIC)
    return Image(
        path=path,
        size=os.lseek(fd, 0, os.SEEK_END),
        actual_size=os.fstat(fd).st_blocks * 512,
        qcow2_size=int.from_bytes(header[24:32], "big") if is_qcow2 else None,
        fd=fd,
    )


def has_fd(fd: int) -> bool:
    """Whether the descriptor is open."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def start_idle_threads(count: int) -> list[int]:
    """Start threads that only wait, and return their ids. They represent the vCPU threads and can be pinned."""
    threads = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return [thread.native_id for thread in threads if thread.native_id is not None]
