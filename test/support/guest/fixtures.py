# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures for tests that need a guest that answers, its console, or a disk for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, NoReturn, Protocol

import attrs
import pytest

from guest.build import GuestUnavailable, find_or_build_guest
from guest.console import GuestConsole

_QEMU_IMG_TIMEOUT_S: Final = 60


@attrs.frozen
class TinyGuest:
    """A guest to boot; it takes 128 MiB at least, and prints GUEST-READY on its first serial port.

    It powers off at the power button, gives devices and memory back when asked, and runs the guest agent where there
    is a port for it.

    Attributes:
        qemu_binary: the QEMU under test.
        kernel: the kernel's file.
        initrd: the initramfs' file.
        kernel_args: the kernel's command line, less the console.
    """

    qemu_binary: str
    kernel: Path
    initrd: Path
    #: Of no use to a test and slow under TCG: the messages of the boot, patches against Meltdown and its kin, and the
    #: randomization of addresses.
    kernel_args: str = "quiet mitigations=off nokaslr"

    def parameters(self, **others: object) -> dict[str, object]:
        """Return parameters that have the KVM hypervisor boot this guest.

        Args:
            others: more parameters, or others in their place.
        """
        return {
            "kvm_path": self.qemu_binary,
            "kernel_path": str(self.kernel),
            "initrd_path": str(self.initrd),
            "kernel_args": self.kernel_args,
            "root_path": "",
            **others,
        }


@pytest.fixture(scope="session")
def tiny_guest(qemu_binary: str, unavailable: Callable[[str], NoReturn]) -> TinyGuest:
    """A real Linux, built from packages when there is none yet. A test that asks for it carries the marker `qemu`."""
    try:
        image = find_or_build_guest()
    except GuestUnavailable as error:
        unavailable(str(error))
    return TinyGuest(qemu_binary=qemu_binary, kernel=image.kernel, initrd=image.initrd)


@pytest.fixture
def guest_console() -> Iterator[Callable[[str | os.PathLike[str]], GuestConsole]]:
    """Connects to a serial console, given its socket, and reads there until the test ends."""
    with contextlib.ExitStack() as consoles:
        yield lambda path: consoles.enter_context(GuestConsole(path))


class MakeDiskImage(Protocol):
    """What `disk_image` gives."""

    def __call__(self, *, size_mib: int = 16, disk_format: Literal["raw", "qcow2"] = "raw") -> Path: ...


@pytest.fixture(scope="session")
def disk_image(tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]) -> MakeDiskImage:
    """Makes a blank disk, each time another."""

    def make(*, size_mib: int = 16, disk_format: Literal["raw", "qcow2"] = "raw") -> Path:
        path = tmp_path_factory.mktemp("disk") / f"disk.{disk_format}"
        if disk_format == "raw":
            path.touch()
            os.truncate(path, size_mib << 20)
            return path
        qemu_img = shutil.which("qemu-img")
        if not qemu_img:
            unavailable("qemu-img is not installed; as root: apt-get install --no-install-recommends qemu-utils")
        subprocess.run(
            [qemu_img, "create", "-q", "-f", disk_format, str(path), f"{size_mib}M"],
            check=True,
            timeout=_QEMU_IMG_TIMEOUT_S,
        )
        return path

    return make
