# SPDX-License-Identifier: BSD-2-Clause
"""Recorded command lines are accepted by the QEMU version that they were recorded for, without warnings.

They are planned with the recorded capabilities of the version, as in test_command_line.py, with files in a directory
whose name needs escaping. HVKIT_QEMU_BINARIES names the programs to try, separated by colons; by default it is the QEMU
under test.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NoReturn
from uuid import UUID

import attrs
import pytest

from certificates import make_certificates
from hvkit.hypervisor.kvm.host.disks import open_disk
from hvkit.hypervisor.kvm.host.network import TapOptions, make_tap
from hvkit.hypervisor.kvm.host.nics import tap_files
from hvkit.hypervisor.kvm.host.probe import probe_capabilities, read_kvm_host
from hvkit.hypervisor.kvm.host.tpm import end_tpm, start_tpm
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities
from hvkit.hypervisor.kvm.plan.command_line import SHUTDOWN_TRACE, build_argv
from hvkit.hypervisor.kvm.plan.devices import DiskSettings, TapFiles, build_disk, build_nic
from hvkit.hypervisor.kvm.plan.machine import MachinePlan
from hvkit.hypervisor.kvm.plan.parameters import HUGE_PAGES, TABLE
from hvkit.hypervisor.kvm.plan.resources import MachineSockets
from hvkit.hypervisor.kvm.plan.topology import BusKind
from hvkit.hypervisor.model import Disk
from hvkit.qmp import ConnectError, QmpConnection
from hvkit.qmp.schema import BlockdevAdd, NetdevAdd, QomList, QueryName, QueryStatus, QueryUuid, Quit
from machine_features import BOARDS, FEATURES, VERSIONS, Feature, FeatureNode, Planner, make_nic, place, plan_feature

pytestmark = pytest.mark.qemu

START_S: Final = 30.0
SECOND_DISK: Final = UUID("d15c0000-0000-4000-8000-000000000002")

Recorded = Callable[[str], Capabilities]
Unavailable = Callable[[str], NoReturn]

#: Messages of QEMU that do not concern the command line: CPU features that this host lacks, the address of VNC, and
#: a build without tracing.
HARMLESS: Final = (
    *(
        "host doesn't support requested feature",
        "CPU doesn't support hyperthreading",
        "or try enabling topoext feature",
    ),
    *("VNC server running on", SHUTDOWN_TRACE),
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory whose name needs escaping, with the files of all features."""
    made = tmp_path_factory.mktemp("a,b c")
    (made / "disk.img").write_bytes(bytes(1 << 20))
    (made / "vmlinuz").write_bytes(_minimal_kernel())
    (made / "initrd").write_bytes(bytes(4096))
    (made / "password").write_text("secret\n")
    (made / "floppy.img").write_bytes(bytes(1440 << 10))
    for name in ("code.fd", "variables.fd", "cd.iso"):
        (made / name).write_bytes(bytes(1 << 20))
    (made / "root").mkdir()
    return made


def _minimal_kernel() -> bytes:
    """Return a minimal kernel image. Source: Linux, the x86 boot protocol 2.12."""
    image = bytearray(64 * 1024)
    image[0x1F1] = 4  # sectors of set-up code
    image[0x1FE:0x202] = b"\x55\xaa\xeb\x66"
    struct.pack_into("<4sH", image, 0x202, b"HdrS", 0x20C)
    image[0x211] = 1  # the rest is loaded high
    struct.pack_into("<I", image, 0x22C, 0x7FFFFFFF)  # the highest address of an initial RAM disk
    return bytes(image)


@pytest.fixture(scope="module")
def program(real: Capabilities, recorded: Recorded) -> Capabilities:
    """Give the recorded capabilities of the version of a real program, for that program."""
    version = ".".join(map(str, real.version[:2]))
    try:
        return attrs.evolve(recorded(version), binary=real.binary)
    except FileNotFoundError:
        return real  # a version without recorded capabilities


def _free_mib(page_mib: int) -> int:
    """Return the memory in free huge pages of a size, in MiB."""
    free = Path(f"/sys/kernel/mm/hugepages/hugepages-{page_mib * 1024}kB/free_hugepages")
    return int(free.read_text()) * page_mib if free.exists() else 0


def _need(feature: Feature, directory: Path, unavailable: Unavailable) -> None:
    """Create what a feature needs besides the files, or skip the test."""
    if feature.lacks:
        pytest.skip(f"requires {feature.lacks}")
    pages = feature.parameters.get("hugepages")
    if pages and _free_mib(HUGE_PAGES[pages]) < feature.memory_mib:
        pytest.skip(f"this machine has no {feature.memory_mib} MiB of free huge pages of {pages}")
    if feature.kvm_flag == "enabled" and read_kvm_host().problem:
        pytest.skip(f"this machine has no KVM: {read_kvm_host().problem}")
    if any(nic.has_tap for nic in feature.nics or ()) and (not os.access("/dev/net/tun", os.W_OK) or os.geteuid() != 0):
        unavailable("a tap requires root and /dev/net/tun")
    if not feature.opens_by_name and os.geteuid() != 0:
        unavailable("only root can start QEMU as another user or in another root directory")
    if feature.parameters.get("tpm") and shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    if "/DIR/pki" in feature.parameters.values() and not (directory / "pki").exists():
        make_certificates(directory / "pki", shutil.which("openssl") or unavailable("openssl is not installed"))
    images = [disk.path for disk in feature.disks or () if disk.format == "qcow2"]
    if feature.firmware is not None and feature.firmware.code_format == "qcow2":
        images += [feature.firmware.code, feature.firmware.template]
    for image in images:
        qemu_img = shutil.which("qemu-img") or unavailable("qemu-img is not installed")
        subprocess.run([qemu_img, "create", "-q", "-f", "qcow2", place(image, str(directory)), "1M"], check=True)


def _with_free_ports(feature: Feature) -> Feature:
    """Return a feature with free TCP ports: tests may run in parallel."""
    free = {}
    for name in {"spice_port", "vnc_port"} & set(feature.parameters):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free[name] = probe.getsockname()[1]
    return attrs.evolve(feature, parameters=feature.parameters | free)


@attrs.define
class _Open:
    """Everything that QEMU inherits."""

    sockets: MachineSockets
    taps: dict[UUID, TapFiles] = attrs.field(factory=dict)
    disks: dict[str, tuple[int, ...]] = attrs.field(factory=dict)
    descriptors: list[int] = attrs.field(factory=list)


def _open(feature: Feature, directory: Path, stack: ExitStack, cleanup: ExitStack) -> _Open:
    """Open everything that QEMU inherits for a feature.

    The first stack closes our descriptors; the second one cleans up after QEMU has ended.
    """
    control = directory / "control"
    control.unlink(missing_ok=True)
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(control))
    listener.listen()
    tpm = None
    if feature.parameters.get("tpm"):
        cleanup.callback(end_tpm, directory / "tpm")
        tpm = stack.enter_context(start_tpm(directory / "tpm", directory / "tpm.log")).fileno()
    opened = _Open(
        MachineSockets(
            control=listener.fileno(),
            shared=f"{directory}/shared",
            watch=f"{directory}/watch",
            serial=f"{directory}/serial",
            serial_log=f"{directory}/serial.log",
            agent=f"{directory}/agent",
            tpm=tpm,
            pid_file=f"{directory}/pid" if feature.opens_by_name else "",
        ),
        descriptors=[listener.fileno(), *([] if tpm is None else [tpm])],
    )
    for nic in feature.nics or ():
        if nic.has_tap:
            tap = make_tap(f"hvt{os.getpid()}", TapOptions(queues=feature.queues))
            stack.callback(tap.close)
            opened.taps[nic.uuid] = tap_files(tap)
            opened.descriptors += tap.descriptors
    if not feature.opens_by_name:
        path = f"{directory}/disk.img"
        files = open_disk(Disk(path=path))
        for descriptor in files:
            stack.callback(os.close, descriptor)
        opened.disks[path] = tuple(files)
        opened.descriptors += files
    return opened


def _messages(log: Path) -> list[str]:
    """Return the messages of QEMU about its command line. A warning is a failure too."""
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if not any(words in line for words in HARMLESS)]


@contextlib.contextmanager
def _running(
    plan: Planner, program: Capabilities, board: str, feature: Feature, directory: Path
) -> Iterator[tuple[MachinePlan, QmpConnection]]:
    """Run the machine of a feature on real QEMU and yield its plan and a connection. It has to exit cleanly."""
    log = directory / "log"
    with ExitStack() as stack:
        with ExitStack() as inherited:
            opened = _open(feature, directory, inherited, stack)
            output = inherited.enter_context(open(log, "wb"))
            node = FeatureNode(
                directory=str(directory),
                host=read_kvm_host(),
                sockets=opened.sockets,
                taps=opened.taps,
                descriptors=opened.disks,
            )
            made = plan_feature(plan, program, board, _with_free_ports(feature), node)
            process = subprocess.Popen(
                build_argv(made), stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=opened.descriptors
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        try:
            with QmpConnection(directory / "control", timeout=START_S) as qmp:
                yield made, qmp
                messages = _messages(log)  # later messages are about its end
                qmp.execute(Quit())
            assert process.wait(START_S) == 0, log.read_text(errors="replace")
        except ConnectError as error:
            if "There is no option group 'spice'" in log.read_text(errors="replace"):
                pytest.skip("the part of this QEMU that has SPICE is not installed")
            pytest.fail(f"{error}: {log.read_text(errors='replace')}")
    assert messages == []


def test_all_recorded_versions_are_tried() -> None:
    named = os.environ.get("HVKIT_QEMU_BINARIES")
    if not named:
        pytest.skip("HVKIT_QEMU_BINARIES is not set: only the installed QEMU is tried")
    tried = {".".join(map(str, probe_capabilities(binary).version[:2])) for binary in named.split(":")}
    assert tried >= set(VERSIONS)


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize(
    "feature",
    [
        pytest.param(feature, id=f"{topic}-{name}")
        for topic, features in FEATURES.items()
        for name, feature in features.items()
    ],
)
def test_qemu_accepts_the_command_line_without_warnings(
    plan: Planner,
    program: Capabilities,
    directory: Path,
    unavailable: Unavailable,
    feature: Feature,
    board: str,
) -> None:
    _need(feature, directory, unavailable)
    with (
        _running(plan, program, board, feature, directory) as (made, qmp),
        QmpConnection(f"{directory}/watch") as watch,
    ):
        assert qmp.execute(QueryName()).name == made.name
        assert str(made.uuid) == qmp.execute(QueryUuid()).UUID
        assert watch.execute(QueryStatus()).status == ("inmigrate" if feature.is_incoming else "prelaunch")
        peripherals = {each.name for each in qmp.execute(QomList(path="/machine/peripheral"))}
        planned = (*made.devices, *(disk.device for disk in made.disks), *(nic.device for nic in made.nics))
        assert {device.id for device in planned} <= peripherals


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize(
    "feature", [FEATURES["plain"]["plain"], FEATURES["disks-scsi"]["virtio-scsi-pci"]], ids=["plain", "scsi"]
)
def test_qemu_accepts_the_descriptions_for_hotplug(
    plan: Planner, program: Capabilities, directory: Path, feature: Feature, board: str
) -> None:
    nodes = DiskSettings.from_parameters(TABLE.fill(feature.parameters))
    (directory / "second.img").write_bytes(bytes(1 << 20))
    with _running(plan, program, board, feature, directory) as (made, qmp):
        used = {disk.address for disk in made.disks} | {nic.address for nic in made.nics}
        disk_address = made.topology.allocate(nodes.bus, used)
        nic_address = made.topology.allocate(BusKind.PCI, used | {disk_address})
        second = Disk(path=f"{directory}/second.img", uuid=SECOND_DISK)
        disk = build_disk(second, nodes, disk_address, is_block_device=False)
        nic = build_nic(make_nic(2), "paravirtual", nic_address)
        for node in disk.nodes:
            qmp.execute(BlockdevAdd(node))
        qmp.execute(disk.device)
        qmp.execute(NetdevAdd(nic.netdev))
        qmp.execute(nic.device)
        peripherals = {each.name for each in qmp.execute(QomList(path="/machine/peripheral"))}
        assert {disk.device.id, nic.device.id} <= peripherals
