# SPDX-License-Identifier: BSD-2-Clause
"""The boot-sector guest: its image, and its behavior on real QEMU."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import QmpConnection
from hvkit.testing.toy_guest import FAREWELL, GREETING, SECTOR_BYTES, build_boot_sector, write_disk


def test_boot_sector_has_signature() -> None:
    sector = build_boot_sector()
    assert len(sector) == SECTOR_BYTES
    assert sector.endswith(b"\x55\xaa")
    assert GREETING.encode() in sector


def test_boot_sector_rejects_long_text() -> None:
    with pytest.raises(ProgrammerError, match="a boot sector has room for 510"):
        build_boot_sector(greeting="x" * 500)


def test_disk_is_sparse_after_boot_sector(tmp_path: Path) -> None:
    disk = write_disk(tmp_path / "disk.raw", size_bytes=8 << 20)
    assert disk.read_bytes()[:SECTOR_BYTES] == build_boot_sector()
    assert disk.stat().st_size == 8 << 20
    assert disk.stat().st_blocks * 512 < 1 << 20


def wait_for_text(path: Path, text: str, *, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while text not in (path.read_text() if path.exists() else ""):
        assert time.monotonic() < deadline, f"the guest did not print {text}"
        time.sleep(0.02)


@pytest.mark.qemu
@pytest.mark.parametrize("machine", ["pc", "q35"])
@pytest.mark.parametrize("dirties_memory", [False, True], ids=["halts", "dirties-memory"])
def test_guest_greets_and_powers_off(qemu_binary: str, tmp_path: Path, machine: str, dirties_memory: bool) -> None:
    serial, monitor = tmp_path / "serial", tmp_path / "monitor"
    disk = write_disk(tmp_path / "disk.raw", dirties_memory=dirties_memory)
    arguments = ["-machine", machine, "-accel", "tcg", "-nodefaults", "-display", "none", "-m", "16"]
    arguments += ["-drive", f"file={disk},format=raw,if=virtio", "-serial", f"file:{serial}"]
    arguments += ["-qmp", f"unix:{monitor},server=on,wait=off"]
    qemu = subprocess.Popen([qemu_binary, *arguments])
    try:
        wait_for_text(serial, GREETING)
        with QmpConnection(monitor) as connection:
            connection.execute("system_powerdown")
        assert qemu.wait(timeout=30) == 0
        assert FAREWELL in serial.read_text()
    finally:
        qemu.kill()
        qemu.wait()
