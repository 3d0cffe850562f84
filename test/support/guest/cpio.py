# SPDX-License-Identifier: BSD-2-Clause
"""Writer of initramfs archives: cpio in the "new ASCII" format, with all members owned by root.

Source: the kernel's documentation, "initramfs buffer format".
"""

from __future__ import annotations

import stat
from pathlib import PurePosixPath
from typing import Final

_MAGIC: Final = b"070701"
_TRAILER: Final = "TRAILER!!!"
_ALIGNMENT: Final = 4


class CpioArchive:
    """An archive in memory. Parent directories of a member are added before it.

    Paths are relative to the root of the guest, without a leading slash.
    """

    def __init__(self) -> None:
        self._archive = bytearray()
        self._directories = {PurePosixPath(".")}
        self._last_inode = 0

    def add_directory(self, path: str) -> None:
        self._add_directories(PurePosixPath(path))

    def add_file(self, path: str, content: bytes, *, executable: bool = False) -> None:
        self._add_directories(PurePosixPath(path).parent)
        self._add(path, stat.S_IFREG | (0o755 if executable else 0o644), content)

    def add_symlink(self, path: str, target: str) -> None:
        self._add_directories(PurePosixPath(path).parent)
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def add_character_device(self, path: str, major: int, minor: int) -> None:
        self._add_directories(PurePosixPath(path).parent)
        self._add(path, stat.S_IFCHR | 0o600, device=(major, minor))

    def to_bytes(self) -> bytes:
        """Return the archive with its trailer. More members can be added afterwards."""
        return bytes(self._archive) + self._member(_TRAILER, 0, inode=0)

    def _add_directories(self, path: PurePosixPath) -> None:
        if path not in self._directories:
            self._add_directories(path.parent)
            self._directories.add(path)
            self._add(str(path), stat.S_IFDIR | 0o755)

    def _add(self, path: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        # The kernel treats members with the same inode as hard links.
        self._last_inode += 1
        self._archive += self._member(path, mode, content, device, inode=self._last_inode)

    @staticmethod
    def _member(path: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0), *, inode: int) -> bytes:
        name = path.encode() + b"\0"
        links, owner, group, time, checksum = 1, 0, 0, 0, 0
        numbers = (inode, mode, owner, group, links, time, len(content), 0, 0, *device, len(name), checksum)
        head = _MAGIC + b"".join(b"%08X" % number for number in numbers) + name
        return _padded(head) + _padded(content)


def _padded(part: bytes) -> bytes:
    """Pad a part of a member to the alignment."""
    return part + bytes(-len(part) % _ALIGNMENT)
