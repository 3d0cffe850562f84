# SPDX-License-Identifier: BSD-2-Clause
"""Look at the disks of an instance before QEMU does, so that what is wrong with them is said clearly."""

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
    """Look at disks on this node, and return which of them are block devices.

    Nothing is locked: whether somebody else uses a disk is found out by QEMU, when it takes the lock for itself.

    Raises:
        ParameterError: one is missing, cannot be opened, is neither file nor block device, or has another format than
            the instance says.
    """
    return frozenset(disk.uuid for disk in disks if _is_block_device(disk))


def open_disk(disk: Disk) -> list[int]:
    """Open a disk for a QEMU that cannot open it by its name, as `open_file` does."""
    return open_file(disk.path, "Disk.path", read_only=disk.read_only)


def open_file(path: str, what: str, *, read_only: bool = False) -> list[int]:
    """Open a file for a QEMU that cannot open it by its name: for reading, and for writing where it is written to.

    The caller closes the descriptors.

    Args:
        path: of the file.
        what: the parameter that it is of.
        read_only: whether it is not written to.

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
    # Never opened for writing: udev takes it for a change when a block device is closed that was.
    if not disk.read_only and os.path.exists(disk.path) and not os.access(disk.path, os.W_OK, effective_ids=True):
        raise _refused(disk, "may not be written to")
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
        raise _refused(disk, "is said to be a qcow2 image and is none")
    # A block device may well be raw and hold an image that the guest put there; a file is far more likely a mistake.
    if disk.format == "raw" and start == _QCOW2_MAGIC and stat.S_ISREG(mode):
        raise _refused(disk, "is said to be raw and is a qcow2 image")
    return stat.S_ISBLK(mode)


def _refused(disk: Disk, problem: str) -> ParameterError:
    return ParameterError("Disk.path", disk.path, f"{disk.path}: {problem}")
