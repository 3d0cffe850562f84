# SPDX-License-Identifier: BSD-2-Clause
"""The writer of initramfs archives."""

from __future__ import annotations

from guest.cpio import CpioArchive

HEADER_SIZE = 110


def members_of(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Read an archive: mode and content by path."""
    members: dict[str, tuple[int, bytes]] = {}
    position = 0
    while True:
        assert archive[position : position + 6] == b"070701"
        header = archive[position : position + HEADER_SIZE]
        numbers = [int(header[start : start + 8], 16) for start in range(6, HEADER_SIZE, 8)]
        mode, size, name_size = numbers[1], numbers[6], numbers[11]
        name = archive[position + HEADER_SIZE : position + HEADER_SIZE + name_size - 1].decode()
        position = -(-(position + HEADER_SIZE + name_size) // 4) * 4
        if name == "TRAILER!!!":
            return members
        members[name] = (mode, archive[position : position + size])
        position = -(-(position + size) // 4) * 4


def test_archive_contains_members_with_modes() -> None:
    archive = CpioArchive()
    archive.add_file("etc/motd", b"hello")
    archive.add_file("init", b"#!/bin/sh\n", executable=True)
    archive.add_symlink("bin/sh", "busybox")
    archive.add_character_device("dev/console", 5, 1)
    assert members_of(archive.to_bytes()) == {
        "etc": (0o040755, b""),
        "etc/motd": (0o100644, b"hello"),
        "init": (0o100755, b"#!/bin/sh\n"),
        "bin": (0o040755, b""),
        "bin/sh": (0o120777, b"busybox"),
        "dev": (0o040755, b""),
        "dev/console": (0o020600, b""),
    }


def test_archive_contains_directory_once() -> None:
    archive = CpioArchive()
    archive.add_directory("a/b")
    archive.add_file("a/b/c", b"")
    archive.add_directory("a")
    assert archive.to_bytes().count(b"a/b\0") == 1
