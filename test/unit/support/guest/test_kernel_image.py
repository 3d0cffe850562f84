# SPDX-License-Identifier: BSD-2-Clause
"""Extraction of the kernel from boot images."""

from __future__ import annotations

import struct

import pytest

from guest.kernel_image import unpack_kernel, unpack_lz4


def lz4_frame(*blocks: bytes) -> bytes:
    return b"\x02\x21\x4c\x18" + b"".join(struct.pack("<I", len(block)) + block for block in blocks)


@pytest.mark.parametrize(
    ("block", "unpacked"),
    [
        (b"\x30abc", b"abc"),
        (b"\x30abc\x03\x00\x10x", b"abc" + b"abca" + b"x"),  # a match that overlaps its output
        (b"\x41abcd\x04\x00\x10x", b"abcd" + b"abcda" + b"x"),
        (b"\x10a\x01\x00\x1fb\x01\x00\xff\x01\x10c", b"a" * 5 + b"b" * (1 + 15 + 255 + 1 + 4) + b"c"),
        (b"\xf0\xff\x02" + b"z" * 272, b"z" * 272),  # a long run of literals
    ],
)
def test_lz4_block_is_decompressed(block: bytes, unpacked: bytes) -> None:
    assert unpack_lz4(lz4_frame(block)) == unpacked


def test_lz4_blocks_are_concatenated() -> None:
    assert unpack_lz4(lz4_frame(b"\x30abc", b"\x20de")) == b"abcde"


def boot_image(payload: bytes) -> bytes:
    setup = bytearray(512 * 5)
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", setup, 0x248, 16, len(payload) + 4)
    return bytes(setup) + bytes(16) + payload + struct.pack("<I", 0) + b"rest of the file"


def test_elf_kernel_is_extracted_from_boot_image() -> None:
    assert unpack_kernel(boot_image(lz4_frame(b"\x60\x7fELF42"))) == b"\x7fELF42"


def test_boot_image_of_unknown_compression_is_returned() -> None:
    image = boot_image(b"\x28\xb5\x2f\xfd whatever")
    assert unpack_kernel(image) is image


@pytest.mark.parametrize(
    "image", [b"", b"MZ" * 4096, boot_image(lz4_frame(b"\x30abc"))], ids=["empty", "other", "no ELF"]
)
def test_file_without_kernel_raises(image: bytes) -> None:
    with pytest.raises(ValueError, match="boot image"):
        unpack_kernel(image)
