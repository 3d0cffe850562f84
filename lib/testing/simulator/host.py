# SPDX-License-Identifier: BSD-2-Clause
"""What a simulated QEMU has of its host: disk images, inherited descriptors, threads."""

import fcntl
import os
import threading
from typing import Final

import attrs

from hvkit.testing.simulator.refusal import QmpRefusal

_QCOW2_MAGIC: Final = b"QFI\xfb"


@attrs.frozen(kw_only=True)
class Image:
    """A file or block device that was opened.

    Attributes:
        path: its name.
        size: in bytes, as the host sees it.
        actual_size: bytes it takes on the host.
        qcow2_size: the size that a qcow2 header says; None where there is no such header.
        fd: open for as long as the image is in use, with a lock while it is written to.
    """

    path: str
    size: int
    actual_size: int
    qcow2_size: int | None
    fd: int = attrs.field(eq=False)

    def lock(self, *, is_shared: bool) -> None:
        """Keep other simulated machines from writing.

        Raises:
            QmpRefusal: one does.
        """
        try:
            fcntl.flock(self.fd, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            kind = "shared " * is_shared + '"write"'
            raise QmpRefusal(f"Failed to get {kind} lock\nIs another process using the image [{self.path}]?") from None

    def unlock(self) -> None:
        """Let others write."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


def open_image(path: str, *, is_read_only: bool) -> Image:
    """Open an image.

    Raises:
        QmpRefusal: it is not there, or may not be opened.
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
    """Whether a descriptor was inherited."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def start_idle_threads(count: int) -> list[int]:
    """Start threads that do nothing, and return their ids: processors that can be pinned and never work."""
    threads = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return [thread.native_id for thread in threads if thread.native_id is not None]
