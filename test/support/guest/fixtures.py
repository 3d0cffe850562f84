# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures for the tiny guest, its serial console, and disk images."""

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
    """The tiny guest. It needs at least 128 MiB, and prints GUEST-READY on its first serial port.

    It powers off at the power button, releases devices, gives memory to the balloon, and runs the guest agent if the
    machine has a port for it.

    Attributes:
        qemu_binary: the QEMU under test.
        kernel: path of the kernel.
        initrd: path of the initramfs.
        kernel_args: the kernel command line without the console.
    """

    qemu_binary: str
    kernel: Path
    initrd: Path
    #: Disables boot messages, CPU mitigations and address randomization, which are slow under TCG.
    kernel_args: str = "quiet mitigations=off nokaslr"

    def parameters(self, **others: object) -> dict[str, object]:
        """Return the parameters that boot this guest on the KVM hypervisor.

        Args:
            others: additional parameters, which override these.
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
    """The tiny guest, built if it is not cached. Tests that use it need the marker `qemu`."""
    try:
        image = find_or_build_guest()
    except GuestUnavailable as error:
        unavailable(str(error))
    return TinyGuest(qemu_binary=qemu_binary, kernel=image.kernel, initrd=image.initrd)


@pytest.fixture
def guest_console() -> Iterator[Callable[[str | os.PathLike[str]], GuestConsole]]:
    """Opens the serial console at a socket path, and closes it after the test."""
    with contextlib.ExitStack() as consoles:
        yield lambda path: consoles.enter_context(GuestConsole(path))


class MakeDiskImage(Protocol):
    """The type of the fixture `disk_image`."""

    def __call__(self, *, size_mib: int = 16, disk_format: Literal["raw", "qcow2"] = "raw") -> Path: ...


@pytest.fixture(scope="session")
def disk_image(tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]) -> MakeDiskImage:
    """Creates blank disk images."""

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
