# SPDX-License-Identifier: BSD-2-Clause
"""Command lines: written down, one feature at a time, and accepted by real QEMUs.

``data/argv-VERSION-BOARD.txt`` has the whole command line of a plain machine, one option a line, and for each feature
the lines that go (-) and come (+). HVKIT_RECORD=1 writes the files anew; read the difference before you commit it.

HVKIT_QEMU_BINARIES, a list of programs with colons between them, says which real ones have to accept them all.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import shlex
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn
from uuid import UUID

import attrs
import pytest
from certificates import make_certificates

from hvkit.hypervisor.kvm.capabilities import Capabilities, KvmHost, choose_accelerator
from hvkit.hypervisor.kvm.command_line import SHUTDOWN_TRACE, build_argv
from hvkit.hypervisor.kvm.devices import DiskSettings, TapFiles, build_disk, build_nic
from hvkit.hypervisor.kvm.firmware import Firmware
from hvkit.hypervisor.kvm.machine import VARIABLES, MachinePlan, MachineSockets
from hvkit.hypervisor.kvm.network import Tap, make_tap
from hvkit.hypervisor.kvm.nics import tap_files
from hvkit.hypervisor.kvm.parameters import TABLE
from hvkit.hypervisor.kvm.probe import read_kvm_host
from hvkit.hypervisor.kvm.topology import BusKind
from hvkit.hypervisor.model import Disk, Nic
from hvkit.qmp import ConnectError, QmpConnection
from hvkit.qmp.schema import BlockdevAdd, NetdevAdd, QomList, QueryName, QueryStatus, QueryUuid, Quit

DATA: Final = Path(__file__).parent / "data"
VERSIONS: Final = ("7.2", "10.0", "11.1")
BOARDS: Final = ("q35", "pc")
RECORDING: Final = os.environ.get("HVKIT_RECORD") == "1"

#: Stands for the directory of all files in what is written down. Commas and blanks are special somewhere.
WRITTEN_DIR: Final = "/srv/a,b c"
WRITTEN_FD: Final = 7
SECOND_DISK: Final = UUID("d15c0000-0000-4000-8000-000000000002")
START_S: Final = 30.0

Planner = Callable[..., MachinePlan]


@attrs.frozen(kw_only=True)
class Feature:
    """How a machine differs from the plain one. ``DIR`` in texts stands for the directory of the files."""

    parameters: dict[str, Any] = attrs.field(factory=dict)
    disks: tuple[Disk, ...] | None = None
    nics: tuple[Nic, ...] | None = None
    vcpus: int = 1
    kvm_flag: str = "disabled"
    firmware: Firmware | None = None
    #: Whether it needs nothing but files; the others are run by tests of their own.
    is_self_contained: bool = True


def _disk(number: int = 1, file: str = "DIR/disk.img", **members: Any) -> Disk:
    return Disk(path=f"/{file}", uuid=UUID(f"d15c0000-0000-4000-8000-{number:012}"), **members)


def _nic(number: int = 1, **members: Any) -> Nic:
    uuid = UUID(f"00c00000-0000-4000-8000-{number:012}")
    return Nic(**{"mac": f"52:54:00:00:00:{number:02}", "mode": "user", "uuid": uuid, **members})


def _with(**parameters: Any) -> Feature:
    return Feature(parameters=parameters)


def _with_firmware(**members: Any) -> Feature:
    return Feature(
        firmware=Firmware(
            **{
                "code": "/DIR/code.fd",
                "code_format": "raw",
                "template": "/DIR/variables.fd",
                "template_format": "raw",
                **members,
            }
        )
    )


FEATURES: Final[dict[str, Feature]] = {
    "plain": Feature(),
    "bare": Feature(disks=(), nics=()),
    "kvm": Feature(kvm_flag="enabled"),
    "no-acpi": _with(acpi=False),
    "processors": Feature(parameters={"cpu_sockets": 2, "cpu_cores": 2, "cpu_type": "qemu64,-svm"}, vcpus=4),
    "memory-in-files": _with(mem_path="/DIR"),
    "local-time": _with(use_localtime=True),
    "reboot-exits": _with(reboot_behavior="exit"),
    "no-serial": _with(serial_console=False),
    "guest-agent": _with(use_guest_agent=True),
    "no-spare-ports": _with(hotplug_ports=0),
    "extra": _with(kvm_extra='-device \'{"driver":"i6300esb"}\' -global kvm-pit.lost_tick_policy=discard'),
    "linux": _with(kernel_path="/DIR/vmlinuz", initrd_path="/DIR/initrd", kernel_args="ro a,b", serial_speed=9600),
    "linux-without-serial": _with(kernel_path="/DIR/vmlinuz", root_path="", serial_console=False),
    "two-disks": Feature(disks=(_disk(), _disk(2, "DIR/disk.qcow2", format="qcow2"))),
    "read-only-disk": Feature(disks=(_disk(read_only=True),)),
    "block-device": Feature(disks=(_disk(file="dev/null"),)),
    "disk-ide": _with(disk_type="ide"),
    "disk-cache-none": _with(disk_cache="none"),
    "disk-cache-writethrough": _with(disk_cache="writethrough"),
    "disk-cache-writeback": _with(disk_cache="writeback"),
    "disk-aio-native": _with(disk_cache="none", disk_aio="native"),
    "disk-aio-io_uring": _with(disk_aio="io_uring"),
    "disk-discard": _with(disk_discard="unmap"),
    **{
        f"scsi-{controller}": _with(disk_type="scsi-hd", scsi_controller_type=controller)
        for controller in ("lsi", "virtio-scsi-pci", "megasas", "dc390")
    },
    "two-nics": Feature(nics=(_nic(), _nic(2))),
    "boot-network": _with(boot_order="network"),
    "tap": Feature(nics=(_nic(mode="tap"),)),
    **{
        f"nic-{nic_type}": _with(nic_type=nic_type)
        for nic_type in ("e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet", "vmxnet3", "i82551", "i82557b", "i82559er")
    },
    "uefi": _with_firmware(),
    "uefi-qcow2": _with_firmware(
        code="/DIR/code.qcow2", code_format="qcow2", template="/DIR/variables.qcow2", template_format="qcow2"
    ),
    "uefi-secure": _with_firmware(needs_smm=True),
    "tpm": Feature(parameters={"tpm": True}, is_self_contained=False),
    "vsock": Feature(parameters={"vsock_cid": 5}, is_self_contained=False),
    "random-numbers": _with(virtio_rng=True),
    "io-threads": Feature(parameters={"io_threads": 2}, disks=(_disk(), _disk(2, "DIR/code.fd"))),
    "io-thread-scsi": _with(io_threads=2, disk_type="scsi-hd", scsi_controller_type="virtio-scsi-pci"),
    "cdrom": _with(cdrom_image_path="/DIR/cd.iso"),
    "two-cdroms-ide": _with(
        cdrom_image_path="/DIR/cd.iso", cdrom2_image_path="/DIR/code.fd", cdrom_disk_type="ide", boot_order="cdrom"
    ),
    "cdroms-scsi": _with(
        cdrom_image_path="/DIR/cd.iso",
        cdrom2_image_path="/DIR/code.fd",
        cdrom_disk_type="scsi-cd",
        scsi_controller_type="virtio-scsi-pci",
    ),
    "cdrom-of-scsi-disks": _with(
        cdrom_image_path="/DIR/cd.iso", disk_type="scsi-hd", scsi_controller_type="virtio-scsi-pci"
    ),
    "floppy": _with(floppy_image_path="/DIR/floppy.img", boot_order="floppy"),
    "vnc": _with(vnc_bind_address="127.0.0.1", keymap="en-us"),
    "vnc-port-password": _with(vnc_bind_address="::1", vnc_port=5987, vnc_password_file="/DIR/password", vga="cirrus"),
    "vnc-socket-tls": _with(vnc_bind_address="/DIR", vnc_tls=True, usb_mouse="mouse"),
    "vnc-x509": _with(vnc_bind_address="127.0.0.1", vnc_tls=True, vnc_x509_path="/DIR/pki", vnc_x509_verify=True),
    "spice": _with(spice_bind="127.0.0.1", spice_port=5999, soundhw="hda"),
    "spice-of-choice": _with(
        spice_bind="127.0.0.1",
        spice_port=5999,
        spice_ip_version=4,
        spice_password_file="/DIR/password",
        spice_image_compression="lz",
        spice_jpeg_wan_compression="never",
        spice_zlib_glz_wan_compression="always",
        spice_streaming_video="filter",
        spice_playback_compression=False,
        spice_use_vdagent=False,
    ),
    "spice-tls": _with(
        spice_bind="127.0.0.1",
        spice_port=5999,
        spice_use_tls=True,
        spice_x509_path="/DIR/pki",
        spice_tls_ciphers="HIGH:!ADH",
        use_guest_agent=True,
    ),
    "usb": _with(usb_devices="keyboard,tablet"),
    **{f"sound-{card}": _with(soundhw=card) for card in ("hda", "ac97", "es1370")},
    "reservations": _with(kvm_pci_reservations=16),
    "disk-scsi-block": Feature(
        parameters={"disk_type": "scsi-block", "disk_cache": "none", "scsi_controller_type": "virtio-scsi-pci"},
        disks=(_disk(file="dev/sda"),),
        is_self_contained=False,
    ),
    "disk-scsi-cd": Feature(
        parameters={"disk_type": "scsi-cd", "scsi_controller_type": "virtio-scsi-pci"},
        disks=(_disk(read_only=True),),
    ),
    **{f"vga-{vga}": _with(vga=vga) for vga in ("std", "cirrus", "virtio", "vmware")},
}


def _place(text: str, directory: str) -> str:
    return text.replace("/DIR", directory)


def _plan(
    plan: Planner, program: Capabilities, board: str, name: str, *, directory: str, host: KvmHost, **arguments: Any
) -> MachinePlan:
    """Plan a feature's machine, its files in `directory`."""
    feature = FEATURES[name]
    disks = (_disk(),) if feature.disks is None else feature.disks
    nics = (_nic(),) if feature.nics is None else feature.nics
    firmware = feature.firmware and attrs.evolve(
        feature.firmware,
        code=_place(feature.firmware.code, directory),
        template=_place(feature.firmware.template, directory),
    )
    return plan(
        program,
        {
            "machine_version": board,
            **{
                key: _place(value, directory) if isinstance(value, str) else value
                for key, value in feature.parameters.items()
            },
        },
        disks=tuple(attrs.evolve(disk, path=_place(disk.path, directory)) for disk in disks),
        nics=nics,
        vcpus=feature.vcpus,
        accelerator=choose_accelerator(feature.kvm_flag, host, program),
        block_devices=[disk.uuid for disk in disks if disk.path.startswith("/dev/")],
        firmware=firmware,
        files={} if firmware is None else {VARIABLES: firmware.template},
        **arguments,
    )


# ---- written down


def _options(argv: list[str]) -> list[str]:
    """Return one line for each option of a command line, as a shell would take it."""
    lines: list[list[str]] = [[]]
    for word in argv:
        if word.startswith("-"):
            lines.append([])
        lines[-1].append(word)
    return [shlex.join(line) for line in lines]


def _difference(plain: list[str], other: list[str]) -> list[str]:
    changes = difflib.ndiff(plain, other, linejunk=None, charjunk=None)
    return [change for change in changes if change[0] in "+-"]


def _written(plan: Planner, program: Capabilities, board: str) -> str:
    """Return what is to be written down for a program and a board."""
    sockets = MachineSockets(
        control=f"{WRITTEN_DIR}/control",
        watch=f"{WRITTEN_DIR}/watch",
        serial=f"{WRITTEN_DIR}/serial",
        serial_log=f"{WRITTEN_DIR}/serial.log",
        agent=f"{WRITTEN_DIR}/agent",
        tpm=WRITTEN_FD,
        vsock=WRITTEN_FD,
        pid_file=f"{WRITTEN_DIR}/pid",
    )
    options = {}
    for name, feature in FEATURES.items():
        taps = {nic.uuid: TapFiles(queues=(str(WRITTEN_FD),)) for nic in feature.nics or () if nic.has_tap}
        made = _plan(plan, program, board, name, directory=WRITTEN_DIR, host=KvmHost(), sockets=sockets, taps=taps)
        options[name] = _options(build_argv(made))
    sections = [("plain", options["plain"])]
    sections += [(name, _difference(options["plain"], lines)) for name, lines in options.items() if name != "plain"]
    return "\n".join("\n".join([f"== {name}", *lines, ""]) for name, lines in sections)


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_command_lines_are_as_written_down(
    plan: Planner, recorded: Callable[[str], Capabilities], version: str, board: str
) -> None:
    file = DATA / f"argv-{version}-{board}.txt"
    now = _written(plan, recorded(version), board)
    if RECORDING:
        file.write_text(now)
    assert now.splitlines() == file.read_text().splitlines()


def test_a_listening_descriptor_takes_the_place_of_a_path(plan: Planner) -> None:
    argv = build_argv(plan(sockets=MachineSockets(control=5, watch=6, serial=8)))
    assert "socket,id=control,fd=5,server=on,wait=off" in argv
    assert "socket,id=watch,fd=6,server=on,wait=off" in argv
    assert "socket,id=serial0,fd=8,server=on,wait=off" in argv


def test_extra_arguments_come_last(plan: Planner) -> None:
    argv = build_argv(plan(parameters={"kvm_extra": "-global 'a b'"}))
    assert argv[-2:] == ["-global", "a b"]


# ---- accepted by the real thing


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory with an awkward name and everything that a machine's files need to be."""
    made = tmp_path_factory.mktemp("a,b c")
    (made / "disk.img").write_bytes(bytes(1 << 20))
    (made / "vmlinuz").write_bytes(_hollow_kernel())
    (made / "initrd").write_bytes(bytes(4096))
    (made / "password").write_text("secret\n")
    (made / "floppy.img").write_bytes(bytes(1440 << 10))
    for name in ("code.fd", "variables.fd", "cd.iso"):
        (made / name).write_bytes(bytes(1 << 20))
    return made


def _hollow_kernel() -> bytes:
    """Return the least that passes for a kernel image. Source: Linux, the x86 boot protocol 2.12."""
    image = bytearray(64 * 1024)
    image[0x1F1] = 4  # sectors of set-up code
    image[0x1FE:0x202] = b"\x55\xaa\xeb\x66"
    struct.pack_into("<4sH", image, 0x202, b"HdrS", 0x20C)
    image[0x211] = 1  # the rest is loaded high
    struct.pack_into("<I", image, 0x22C, 0x7FFFFFFF)  # the highest address of an initial RAM disk
    return bytes(image)


def _need(name: str, directory: Path, unavailable: Callable[[str], NoReturn]) -> None:
    """Make what a feature needs besides the files, or say why this machine cannot have it."""
    feature = FEATURES[name]
    if feature.kvm_flag == "enabled" and read_kvm_host().problem:
        pytest.skip(f"this machine has no KVM: {read_kvm_host().problem}")
    if any(nic.mode == "tap" for nic in feature.nics or ()) and (
        not os.access("/dev/net/tun", os.W_OK) or os.geteuid() != 0
    ):
        unavailable("a tap takes root and /dev/net/tun")
    if "/DIR/pki" in feature.parameters.values() and not (directory / "pki").exists():
        make_certificates(directory / "pki", shutil.which("openssl") or unavailable("openssl is not installed"))
    images = [disk.path for disk in feature.disks or () if disk.format == "qcow2"]
    if feature.firmware is not None and feature.firmware.code_format == "qcow2":
        images += [feature.firmware.code, feature.firmware.template]
    for image in images:
        qemu_img = shutil.which("qemu-img") or unavailable("qemu-img is not installed")
        subprocess.run([qemu_img, "create", "-q", "-f", "qcow2", _place(image, str(directory)), "1M"], check=True)


@contextlib.contextmanager
def _taps(nics: tuple[Nic, ...]) -> Iterator[dict[UUID, Tap]]:
    taps: dict[UUID, Tap] = {}
    try:
        for nic in nics:
            if nic.has_tap:
                taps[nic.uuid] = make_tap(f"hvt{os.getpid()}")
        yield taps
    finally:
        for tap in taps.values():
            tap.close()


_HARMLESS: Final = ("host doesn't support requested feature", "VNC server running on", SHUTDOWN_TRACE)


def _complaints(log: Path) -> list[str]:
    """Return what QEMU said of its command line: an option that draws a warning is not right.

    What a CPU model has and this host has not is no fault of the command line; where VNC listens is said in any case.
    """
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if not any(words in line for words in _HARMLESS)]


@contextlib.contextmanager
def _running(
    plan: Planner, program: Capabilities, board: str, name: str, directory: Path
) -> Iterator[tuple[MachinePlan, QmpConnection]]:
    """Have a real QEMU run a feature's machine and give its plan and a connection; it has to end as it should."""
    log = directory / "log"
    control = directory / "control"
    control.unlink(missing_ok=True)
    with (
        _taps(FEATURES[name].nics or ()) as taps,
        socket.socket(socket.AF_UNIX) as listener,
        open(log, "wb") as said,
    ):
        listener.bind(str(control))
        listener.listen()
        sockets = MachineSockets(
            control=listener.fileno(),
            watch=f"{directory}/watch",
            serial=f"{directory}/serial",
            serial_log=f"{directory}/serial.log",
            agent=f"{directory}/agent",
            pid_file=f"{directory}/pid",
        )
        made = _plan(
            plan,
            program,
            board,
            name,
            directory=str(directory),
            host=read_kvm_host(),
            sockets=sockets,
            taps={uuid: tap_files(tap) for uuid, tap in taps.items()},
        )
        process = subprocess.Popen(
            build_argv(made),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=(listener.fileno(), *(number for tap in taps.values() for number in tap.descriptors)),
        )
        listener.close()
        try:
            with QmpConnection(control, timeout=START_S) as qmp:
                yield made, qmp
                qmp.execute(Quit())
            assert process.wait(START_S) == 0, log.read_text(errors="replace")
        except ConnectError as error:
            if "There is no option group 'spice'" in log.read_text(errors="replace"):
                pytest.skip("the part of this QEMU that has SPICE is not installed")
            pytest.fail(f"{error}: {log.read_text(errors='replace')}")
        finally:
            process.kill()
            process.wait()
    assert _complaints(log) == []


@pytest.mark.qemu
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("name", [name for name, feature in FEATURES.items() if feature.is_self_contained])
def test_real_qemu_accepts(
    plan: Planner, real: Capabilities, directory: Path, unavailable: Callable[[str], NoReturn], name: str, board: str
) -> None:
    _need(name, directory, unavailable)
    with (
        _running(plan, real, board, name, directory) as (made, qmp),
        QmpConnection(f"{directory}/watch") as watch,
    ):
        assert qmp.execute(QueryName()).name == made.name
        assert str(made.uuid) == qmp.execute(QueryUuid()).UUID
        assert watch.execute(QueryStatus()).status == "prelaunch"
        peripherals = {each.name for each in qmp.execute(QomList(path="/machine/peripheral"))}
        planned = (*made.devices, *(disk.device for disk in made.disks), *(nic.device for nic in made.nics))
        assert {device.id for device in planned} <= peripherals


@pytest.mark.qemu
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("name", ["plain", "scsi-virtio-scsi-pci"])
def test_a_running_machine_takes_the_same_descriptions(
    plan: Planner, real: Capabilities, directory: Path, name: str, board: str
) -> None:
    settings = DiskSettings.from_parameters(TABLE.fill(FEATURES[name].parameters))
    (directory / "second.img").write_bytes(bytes(1 << 20))
    with _running(plan, real, board, name, directory) as (made, qmp):
        used = set(made.used_addresses)
        disk_address = made.topology.allocate(settings.bus, used)
        nic_address = made.topology.allocate(BusKind.PCI, used | {disk_address})
        second = Disk(path=f"{directory}/second.img", uuid=SECOND_DISK)
        disk = build_disk(second, settings, disk_address, is_block_device=False)
        nic = build_nic(_nic(2), "paravirtual", nic_address)
        for node in disk.nodes:
            qmp.execute(BlockdevAdd(node))
        qmp.execute(disk.device)
        qmp.execute(NetdevAdd(nic.netdev))
        qmp.execute(nic.device)
        peripherals = {each.name for each in qmp.execute(QomList(path="/machine/peripheral"))}
        assert {disk.device.id, nic.device.id} <= peripherals
