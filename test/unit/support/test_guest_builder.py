# SPDX-License-Identifier: BSD-2-Clause
"""The builder of the tiny guest: its parts, and what it does where packages cannot be had."""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from guest import build
from guest.build import GuestImage, GuestUnavailable, find_or_build_guest, order_modules
from guest.cpio import CpioArchive
from guest.debian import Apt, Package, PackagesUnavailable
from guest.kernel_image import unpack_kernel, unpack_lz4

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


def test_archive_holds_what_was_added() -> None:
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


def test_archive_has_a_directory_once() -> None:
    archive = CpioArchive()
    archive.add_directory("a/b")
    archive.add_file("a/b/c", b"")
    archive.add_directory("a")
    assert archive.to_bytes().count(b"a/b\0") == 1


def lz4_frame(*blocks: bytes) -> bytes:
    return b"\x02\x21\x4c\x18" + b"".join(struct.pack("<I", len(block)) + block for block in blocks)


@pytest.mark.parametrize(
    ("block", "unpacked"),
    [
        (b"\x30abc", b"abc"),
        (b"\x30abc\x03\x00\x10x", b"abc" + b"abca" + b"x"),  # a match that runs into itself
        (b"\x41abcd\x04\x00\x10x", b"abcd" + b"abcda" + b"x"),
        (b"\x10a\x01\x00\x1fb\x01\x00\xff\x01\x10c", b"a" * 5 + b"b" * (1 + 15 + 255 + 1 + 4) + b"c"),
        (b"\xf0\xff\x02" + b"z" * 272, b"z" * 272),  # literals of a long length
    ],
)
def test_lz4_block(block: bytes, unpacked: bytes) -> None:
    assert unpack_lz4(lz4_frame(block)) == unpacked


def test_lz4_blocks_follow_each_other() -> None:
    assert unpack_lz4(lz4_frame(b"\x30abc", b"\x20de")) == b"abcde"


def boot_image(payload: bytes) -> bytes:
    setup = bytearray(512 * 5)
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", setup, 0x248, 16, len(payload) + 4)
    return bytes(setup) + bytes(16) + payload + struct.pack("<I", 0) + b"what else is in the file"


def test_kernel_is_taken_out_of_its_boot_image() -> None:
    assert unpack_kernel(boot_image(lz4_frame(b"\x60\x7fELF42"))) == b"\x7fELF42"


def test_boot_image_of_unknown_compression_is_booted_as_it_is() -> None:
    image = boot_image(b"\x28\xb5\x2f\xfd whatever")
    assert unpack_kernel(image) is image


@pytest.mark.parametrize(
    "image", [b"", b"MZ" * 4096, boot_image(lz4_frame(b"\x30abc"))], ids=["empty", "other", "no ELF"]
)
def test_what_holds_no_kernel_is_refused(image: bytes) -> None:
    with pytest.raises(ValueError, match="boot image"):
        unpack_kernel(image)


def test_modules_come_after_those_they_depend_on() -> None:
    modules = {
        "virtio": b"\0license=GPL\0depends=\0",
        "virtio_ring": b"\0depends=virtio\0",
        "virtio_blk": b"\0depends=virtio-ring,virtio\0name=virtio_blk\0",
        "unwanted": b"\0depends=\0",
    }
    assert order_modules(modules, ["virtio_blk", "built_in", "virtio"]) == ["virtio", "virtio_ring", "virtio_blk"]


def test_machine_without_apt_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GuestUnavailable, match="no apt"):
        find_or_build_guest(tmp_path / "cache")


class FakeApt(Apt):
    """Has one package, or none."""

    def __init__(self, lists: Path | None = None) -> None:
        pass

    def resolve(self, roots: Sequence[str], follow: tuple[str, ...]) -> list[Package]:
        return [Package("kernel", "1.0")]

    def download(self, packages: object, directory: Path) -> dict[str, Path]:
        return {}


def no_network(lists: Path | None = None) -> NoReturn:
    raise PackagesUnavailable("apt-get download: Temporary failure resolving")


def fake_build(packages: Mapping[str, Path], image: GuestImage) -> None:
    image.kernel.touch()
    image.initrd.touch()


def test_network_that_is_down_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "Apt", no_network)
    with pytest.raises(GuestUnavailable, match="Temporary failure resolving"):
        find_or_build_guest(tmp_path)


def test_earlier_guest_will_do_where_the_network_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "Apt", FakeApt)
    monkeypatch.setattr(build, "build_guest", fake_build)
    earlier = find_or_build_guest(tmp_path)
    monkeypatch.setattr(build, "Apt", no_network)
    assert find_or_build_guest(tmp_path) == earlier


def test_builders_at_the_same_time_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[GuestImage] = []
    both_started = threading.Barrier(2)

    def count(packages: Mapping[str, Path], image: GuestImage) -> None:
        built.append(image)
        fake_build(packages, image)

    def use() -> None:
        both_started.wait(timeout=10)
        guests.append(find_or_build_guest(tmp_path))

    monkeypatch.setattr(build, "Apt", FakeApt)
    monkeypatch.setattr(build, "build_guest", count)
    guests: list[GuestImage] = []
    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(built) == 1
    assert len(guests) == 2
    assert guests[0] == guests[1]
    assert guests[0].kernel.exists()


def test_guest_that_was_not_finished_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(packages: Mapping[str, Path], image: GuestImage) -> None:
        image.kernel.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "Apt", FakeApt)
    monkeypatch.setattr(build, "build_guest", die)
    with pytest.raises(KeyboardInterrupt):
        find_or_build_guest(tmp_path)
    monkeypatch.setattr(build, "build_guest", fake_build)
    guest = find_or_build_guest(tmp_path)
    assert guest.initrd.exists()


def test_change_of_the_builder_makes_another_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "Apt", FakeApt)
    monkeypatch.setattr(build, "build_guest", fake_build)
    overlay = tmp_path / "root"
    overlay.mkdir()
    monkeypatch.setattr(build, "OVERLAY", overlay)
    (overlay / "init").write_text("one")
    before = find_or_build_guest(tmp_path / "cache")
    (overlay / "init").write_text("two")
    assert find_or_build_guest(tmp_path / "cache") != before
