# SPDX-License-Identifier: BSD-2-Clause
"""Checks of disks before QEMU opens them, for clear errors; and opening of files for a confined QEMU."""

import os
import stat
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.model import Disk

#: The first bytes of a qcow2 image. Source: QEMU's description of the format, docs/interop/qcow2.
_QCOW2_MAGIC: Final = b"QFI\xfb"


def read_block_devices(disks: Iterable[Disk]) -> frozenset[UUID]:
    """Check disks on this node, and return the uuids of those that are block devices.

    Nothing is locked: QEMU detects that another process uses a disk when it acquires its own lock.

    Raises:
        ParameterError: a disk is missing, cannot be opened, is neither a file nor a block device, or has another format
            than the instance specifies.
    """
    return frozenset(disk.uuid for disk in disks if _is_block_device(disk))


def open_disk(disk: Disk) -> list[int]:
    """Open a disk for a QEMU that cannot open it by name, as `open_file` does."""
    return open_file(disk.path, "Disk.path", read_only=disk.read_only)


def open_file(path: str, what: str, *, read_only: bool = False) -> list[int]:
    """Open a file for a QEMU that cannot open it by name: read-only, and also read-write unless `read_only`.

    The caller closes the descriptors.

    Args:
        path: the path of the file.
        what: the parameter with that path, for the error.
        read_only: whether QEMU does not write to it.

    Raises:
        ParameterError: it cannot be opened.
    """
    opened: list[int] = []
    try:
        for mode in (os.O_RDONLY,) if read_only else (os.O_RDONLY, os.O_RDWR):
            opened.append(os.open(path, mode | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        for descriptor in opened:
            os.close(descriptor)
        raise ParameterError(what, path, f"{path}: {error.strerror or error}") from error
    return opened


def _is_block_device(disk: Disk) -> bool:
    # Not opened for writing: udev treats the closing of a block device that was open for writing as a change.
    if not disk.read_only and os.path.exists(disk.path) and not os.access(disk.path, os.W_OK, effective_ids=True):
        raise _refused(disk, "no permission to write")
    try:
        descriptor = os.open(disk.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _refused(disk, error.strerror or str(error)) from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise _refused(disk, "is neither a file nor a block device")
        start = os.pread(descriptor, len(_QCOW2_MAGIC), 0)
    except OSError as error:
        raise _refused(disk, f"cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if disk.format == "qcow2" and start != _QCOW2_MAGIC:
        raise _refused(disk, "the instance specifies format qcow2, but it is not a qcow2 image")
    # A guest may write an image to a raw block device. A raw file with an image is far more likely a mistake.
    if disk.format == "raw" and start == _QCOW2_MAGIC and stat.S_ISREG(mode):
        raise _refused(disk, "the instance specifies format raw, but it is a qcow2 image")
    return stat.S_ISBLK(mode)


def _refused(disk: Disk, problem: str) -> ParameterError:
    return ParameterError("Disk.path", disk.path, f"{disk.path}: {problem}")
