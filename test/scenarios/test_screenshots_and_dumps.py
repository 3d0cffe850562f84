# SPDX-License-Identifier: BSD-2-Clause
"""Screenshots and memory dumps of instances on real QEMU, including dumps that fail or are interrupted."""

from __future__ import annotations

import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import pytest

from guest.console import GuestConsole
from hvkit.hypervisor import (
    CaptureError,
    Disk,
    DumpProgress,
    Instance,
    InstanceState,
    InstanceStateError,
    ParameterError,
)
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.qmp.schema import Cont, GuestPanickedEvent, QueryDumpGuestMemoryCapability, SystemPowerdown
from hvkit.testing.toy_guest import GREETING, SECTOR_BYTES, PowerdownAction, write_disk

pytestmark = pytest.mark.qemu

MakeInstance = Callable[..., Instance]
OpenConsole = Callable[[str], GuestConsole]

CONFINED: Final = {
    "sandbox": "enabled",
    "security_model": "pool",
    "security_pool": "60000-60001",
    "use_chroot": True,
}
#: The address at which a BIOS loads the boot sector.
BOOT_ADDRESS: Final = 0x7C00


@pytest.fixture
def may_change_account(unavailable: Callable[[str], NoReturn]) -> None:
    if os.geteuid() != 0:
        unavailable("only root can start QEMU as another user, so captures of confined instances are NOT tested here")


def state_of(kvm: KvmHypervisor, name: str = "web1") -> InstanceState:
    return kvm.get_instance_info(name).state


def pid_of(kvm: KvmHypervisor, name: str = "web1") -> int:
    pid = kvm.get_instance_info(name).pid
    assert pid is not None
    return pid


def read_png(picture: bytes) -> tuple[int, int, bytes]:
    """Parse a PNG and check the checksums of its chunks; return width, height and the image data."""
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, []
    while at < len(picture):
        (length,) = struct.unpack_from(">I", picture, at)
        kind, data = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", picture, at + 8 + length) == (zlib.crc32(kind + data),)
        chunks.append((kind, data))
        at += length + 12
    assert (chunks[0][0], chunks[-1][0]) == (b"IHDR", b"IEND")
    width, height = struct.unpack_from(">II", chunks[0][1])
    return width, height, zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))


def test_screenshot_is_complete_png(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(parameters={"vga": "std"}))
    deadline = time.monotonic() + 60
    while True:  # until the firmware has written its name
        width, height, lines = read_png(kvm.get_instance_screenshot("web1"))
        if len(set(lines)) > 1:
            break
        assert time.monotonic() < deadline, "blank screen"
    assert width >= 640
    assert len(lines) == height * (1 + 3 * width)  # one filter byte per line, three bytes per pixel
    opened = [os.readlink(path) for path in Path(f"/proc/{pid_of(kvm)}/fd").iterdir()]
    assert not [file for file in opened if "memfd:screenshot" in file]


@pytest.mark.usefixtures("may_change_account")
def test_screenshot_of_confined_instance(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(parameters={"vga": "std", **CONFINED}), start_paused=True)
    assert read_png(kvm.get_instance_screenshot("web1"))[:2] >= (640, 400)


def test_screenshot_without_display_adapter_fails(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(), start_paused=True)
    with pytest.raises(CaptureError, match="web1: capture: the instance has no display adapter"):
        kvm.get_instance_screenshot("web1")


def test_captures_of_stopped_instance_raise_state_error(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    kvm.start_instance(make_toy(parameters={"vga": "std"}))
    kvm.stop_instance("web1", force=True)
    for act in (
        lambda: kvm.get_instance_screenshot("web1"),
        lambda: kvm.get_dump_formats("web1"),
        lambda: kvm.dump_instance_memory("web1", tmp_path / "dump"),
    ):
        with pytest.raises(InstanceStateError, match=r"^web1: QEMU is not running"):
            act()
    assert not (tmp_path / "dump").exists()


@pytest.fixture
def toy(kvm: KvmHypervisor, make_toy: MakeInstance) -> Instance:
    """A running instance."""
    instance: Instance = make_toy()
    kvm.start_instance(instance)
    return instance


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty directory for dumps."""
    path = tmp_path / "dumps"
    path.mkdir()
    return path


def read_memory(dump: bytes, address: int, length: int) -> bytes:
    """Return guest memory from a 64-bit ELF dump. Source: elf(5)."""
    assert dump.startswith(b"\x7fELF\x02")
    (table,) = struct.unpack_from("<Q", dump, 32)
    size, count = struct.unpack_from("<HH", dump, 54)
    for number in range(count):
        kind, _, offset, _, start, in_file = struct.unpack_from("<IIQQQQ", dump, table + number * size)
        if kind == 1 and start <= address and address + length <= start + in_file:
            return dump[offset + address - start :][:length]
    raise AssertionError(f"the dump does not have {address:#x}")


@pytest.mark.usefixtures("toy")
def test_dump_contains_guest_memory(kvm: KvmHypervisor, directory: Path) -> None:
    deadline = time.monotonic() + 60
    number = 0
    while True:
        number += 1
        kvm.dump_instance_memory("web1", directory / str(number), dump_format="elf")
        assert state_of(kvm) is InstanceState.RUNNING
        sector = read_memory((directory / str(number)).read_bytes(), BOOT_ADDRESS, SECTOR_BYTES)
        if GREETING.encode() in sector:
            break
        assert time.monotonic() < deadline, "no boot sector in memory"
    assert {path.name for path in directory.iterdir()} == {str(each + 1) for each in range(number)}
    assert stat.S_IMODE((directory / "1").stat().st_mode) == 0o600


def test_dump_supports_every_format_of_qemu(kvm: KvmHypervisor, toy: Instance, directory: Path) -> None:
    with kvm.monitor("web1") as monitor:
        known = monitor.execute(QueryDumpGuestMemoryCapability()).formats
    formats = kvm.get_dump_formats("web1")
    assert set(formats) == {each for each in known if not each.startswith("kdump-raw")}
    assert formats[0] == "elf"
    starts = {"elf": b"\x7fELF", "kdump": b"makedumpfile"}
    for each in formats:
        start = starts.get(each.partition("-")[0])
        path = directory / each
        if start is None:  # a win-dump needs a Windows guest
            with pytest.raises(CaptureError, match="win-dump"):
                kvm.dump_instance_memory("web1", path, dump_format=each)
        else:
            kvm.dump_instance_memory("web1", path, dump_format=each)
            assert path.read_bytes().startswith(start)
            path.unlink()
        assert state_of(kvm) is InstanceState.RUNNING
    assert not any(directory.iterdir())
    for wanted, problem in (
        ("kdump-raw-zlib", "use kdump-zlib, which has the same contents"),
        ("zip", "expected one of elf, .*'zip'"),
    ):
        with pytest.raises(ParameterError, match=rf"dump_format: .*{problem}"):
            kvm.dump_instance_memory("web1", directory / "dump", dump_format=wanted)


def test_dump_leaves_paused_instance_paused(kvm: KvmHypervisor, make_toy: MakeInstance, directory: Path) -> None:
    kvm.start_instance(make_toy(), start_paused=True)
    before = kvm.get_instance_info("web1")
    kvm.dump_instance_memory("web1", directory / "dump")
    assert kvm.get_instance_info("web1") == before


def test_dump_of_panicked_guest_succeeds(
    kvm: KvmHypervisor, make_toy: MakeInstance, guest_console: OpenConsole, directory: Path, tmp_path: Path
) -> None:
    disk = Disk(path=str(write_disk(tmp_path / "panics.img", on_powerdown=PowerdownAction.PANIC)))
    kvm.start_instance(make_toy(disks=(disk,)), start_paused=True)
    path = kvm.get_instance_console("web1").path
    assert path is not None
    console = guest_console(path)
    with kvm.monitor("web1") as monitor, monitor.subscribe(GuestPanickedEvent) as events:
        monitor.execute(Cont())
        console.wait_for(GREETING, 60)
        monitor.execute(SystemPowerdown())
        events.get(timeout=60)
    before = kvm.get_instance_info("web1")
    assert before.state is InstanceState.CRASHED
    kvm.dump_instance_memory("web1", directory / "dump")
    assert kvm.get_instance_info("web1") == before
    assert GREETING.encode() in read_memory((directory / "dump").read_bytes(), BOOT_ADDRESS, SECTOR_BYTES)


def test_dump_reports_progress(kvm: KvmHypervisor, toy: Instance, directory: Path) -> None:
    reports: list[DumpProgress] = []
    states: list[InstanceState] = []

    def report(progress: DumpProgress) -> None:
        reports.append(progress)
        states.append(state_of(kvm))

    kvm.dump_instance_memory("web1", directory / "dump", on_progress=report)
    assert states[0] is InstanceState.PAUSED
    assert [each.done_bytes for each in reports] == sorted(each.done_bytes for each in reports)
    assert reports[-1].done_bytes == reports[-1].total_bytes >= toy.memory_mib << 20


@pytest.mark.usefixtures("may_change_account")
def test_dump_of_confined_instance_succeeds(kvm: KvmHypervisor, make_toy: MakeInstance, directory: Path) -> None:
    os.chmod(directory, 0o700)
    kvm.start_instance(make_toy(parameters=CONFINED))
    kvm.dump_instance_memory("web1", directory / "dump")
    assert (directory / "dump").stat().st_uid == os.geteuid()
    assert state_of(kvm) is InstanceState.RUNNING


@pytest.mark.usefixtures("toy")
def test_dump_does_not_overwrite_files(kvm: KvmHypervisor, directory: Path) -> None:
    (directory / "dump").write_text("precious")
    with pytest.raises(CaptureError, match=r"^web1: capture: /.*/dump: File exists$"):
        kvm.dump_instance_memory("web1", directory / "dump")
    with pytest.raises(CaptureError, match=r"^web1: capture: /.*/missing/dump: No such file or directory$"):
        kvm.dump_instance_memory("web1", directory / "missing" / "dump")
    with pytest.raises(ParameterError, match="path: expected an absolute path"):
        kvm.dump_instance_memory("web1", "dump")
    assert [path.read_text() for path in directory.iterdir()] == ["precious"]
    assert state_of(kvm) is InstanceState.RUNNING


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Limit the size of files that this process can write. Exceeding it fails like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("dump_format", ["elf", "kdump-zlib"])
@pytest.mark.usefixtures("toy")
def test_guest_continues_after_dump_to_full_disk(kvm: KvmHypervisor, directory: Path, dump_format: str) -> None:
    with file_size_limit(64 << 10), pytest.raises(CaptureError, match=r"^web1: capture: /.*/dump: File too large$"):
        kvm.dump_instance_memory("web1", directory / "dump", dump_format=dump_format)
    assert state_of(kvm) is InstanceState.RUNNING
    assert not any(directory.iterdir())
    kvm.dump_instance_memory("web1", directory / "dump", dump_format=dump_format)


@pytest.mark.usefixtures("toy")
def test_guest_continues_after_dump_timeout(kvm: KvmHypervisor, directory: Path) -> None:
    with pytest.raises(CaptureError, match=r"^web1: capture: /.*/dump: not complete after 0 s$"):
        kvm.dump_instance_memory("web1", directory / "dump", timeout=0)
    assert state_of(kvm) is InstanceState.RUNNING
    assert not any(directory.iterdir())


@pytest.mark.usefixtures("toy")
def test_guest_continues_after_interrupted_dump(kvm: KvmHypervisor, directory: Path) -> None:
    def interrupt(_: DumpProgress) -> NoReturn:
        assert state_of(kvm) is InstanceState.PAUSED
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kvm.dump_instance_memory("web1", directory / "dump", on_progress=interrupt)
    assert state_of(kvm) is InstanceState.RUNNING
    assert not any(directory.iterdir())


_KILLED_DUMP: Final = """
import os, signal
from hvkit.hypervisor import InstanceState
from hvkit.hypervisor.kvm import KvmHypervisor
kvm = KvmHypervisor(run_dir={run_dir!r})
def report(progress):
    assert kvm.get_instance_info("web1").state is InstanceState.PAUSED
    os.kill(os.getpid(), signal.SIGKILL)
kvm.dump_instance_memory("web1", {path!r}, on_progress=report)
"""


@pytest.mark.usefixtures("toy")
def test_guest_continues_after_dumping_process_is_killed(kvm: KvmHypervisor, directory: Path) -> None:
    program = _KILLED_DUMP.format(run_dir=str(kvm.run_dir), path=str(directory / "dump"))
    died = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=60,
    )
    assert (died.returncode, died.stderr) == (-signal.SIGKILL, b"")
    deadline = time.monotonic() + 10
    while state_of(kvm) is not InstanceState.RUNNING:
        assert time.monotonic() < deadline
    kvm.dump_instance_memory("web1", directory / "dump")
    assert sum(path.name.endswith(".partial") for path in directory.iterdir()) == 1


@pytest.mark.usefixtures("toy")
def test_second_dump_is_rejected_during_first(kvm: KvmHypervisor, directory: Path) -> None:
    refused: list[str] = []

    def dump_again(progress: DumpProgress) -> None:
        if progress.done_bytes < progress.total_bytes:
            with pytest.raises(CaptureError) as caught:
                kvm.dump_instance_memory("web1", directory / "again")
            refused.append(caught.value.reason)

    kvm.dump_instance_memory("web1", directory / "dump", on_progress=dump_again)
    assert "There is a dump in process" in refused[0]
    assert [path.name for path in directory.iterdir()] == ["dump"]


@pytest.mark.usefixtures("toy")
def test_instance_is_stopped_during_dump(kvm: KvmHypervisor, directory: Path) -> None:
    with pytest.raises(CaptureError):
        kvm.dump_instance_memory(
            "web1", directory / "dump", on_progress=lambda _: kvm.stop_instance("web1", force=True)
        )
    assert state_of(kvm) is InstanceState.SHUTDOWN
    assert not any(directory.iterdir())


@pytest.mark.usefixtures("toy")
def test_dump_of_killed_instance_leaves_no_file(kvm: KvmHypervisor, directory: Path) -> None:
    with pytest.raises(CaptureError):
        kvm.dump_instance_memory("web1", directory / "dump", on_progress=lambda _: os.kill(pid_of(kvm), signal.SIGKILL))
    assert state_of(kvm) is InstanceState.CRASHED
    assert not any(directory.iterdir())
