# SPDX-License-Identifier: BSD-2-Clause
"""Machines that each differ from a plain one in a single feature, for tests of command lines.

Every parameter that changes the command line needs a feature here; test_command_line.py lists the missing ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.hypervisor.kvm.plan.capabilities import Capabilities, KvmHost, choose_accelerator
from hvkit.hypervisor.kvm.plan.confinement import Account, Confinement
from hvkit.hypervisor.kvm.plan.devices import TapFiles
from hvkit.hypervisor.kvm.plan.firmware import Firmware
from hvkit.hypervisor.kvm.plan.machine import MachinePlan
from hvkit.hypervisor.kvm.plan.request import Placement
from hvkit.hypervisor.kvm.plan.resources import VARIABLES, FileSet, MachineSockets
from hvkit.hypervisor.model import Disk, Nic

BOARDS: Final = ("q35", "pc")
#: The QEMU versions with recorded command lines.
VERSIONS: Final = ("7.2", "10.0", "11.1")

#: The type of the fixture `plan`.
Planner = Callable[..., MachinePlan]


@attrs.frozen(kw_only=True)
class Feature:
    """The difference between a machine and the plain one. ``/DIR`` in texts stands for the directory of all files.

    Attributes:
        parameters: parameters that differ from their defaults.
        disks: the disks; None for those of the plain machine.
        nics: the NICs; None for those of the plain machine.
        vcpus: the number of vCPUs.
        memory_mib: the memory.
        queues: the number of queues of each tap.
        has_vhost: whether the taps use vhost-net.
        kvm_flag: the accelerator, as for the parameter kvm_flag.
        firmware: UEFI firmware; None for the default BIOS.
        confinement: the confinement of QEMU. Its root directory is below ``/DIR``.
        is_incoming: whether the machine waits for an incoming migration.
        lacks: a requirement that not every node has; empty for none.
    """

    parameters: dict[str, Any] = attrs.field(factory=dict)
    disks: tuple[Disk, ...] | None = None
    nics: tuple[Nic, ...] | None = None
    vcpus: int = 1
    memory_mib: int = 128
    queues: int = 1
    has_vhost: bool = False
    kvm_flag: str = "disabled"
    firmware: Firmware | None = None
    confinement: Confinement = attrs.field(factory=Confinement)
    is_incoming: bool = False
    lacks: str = ""

    @property
    def opens_by_name(self) -> bool:
        """Whether QEMU can open the machine's files by path."""
        return self.confinement.opens_by_name


def make_disk(number: int = 1, file: str = "DIR/disk.img", **members: Any) -> Disk:
    """Return a disk whose uuid contains its number."""
    return Disk(path=f"/{file}", uuid=UUID(f"d15c0000-0000-4000-8000-{number:012}"), **members)


def make_nic(number: int = 1, **members: Any) -> Nic:
    """Return a NIC whose uuid contains its number. The default mode is user."""
    uuid = UUID(f"00c00000-0000-4000-8000-{number:012}")
    return Nic(**{"mac": f"52:54:00:00:00:{number:02}", "mode": "user", "uuid": uuid, **members})


def _with(**parameters: Any) -> Feature:
    return Feature(parameters=parameters)


def _with_firmware(file_format: str, suffix: str, *, needs_smm: bool = False) -> Feature:
    return Feature(
        firmware=Firmware(
            code=f"/DIR/code.{suffix}",
            code_format=file_format,
            template=f"/DIR/variables.{suffix}",
            template_format=file_format,
            needs_smm=needs_smm,
        )
    )


def _confined(**members: Any) -> Feature:
    return Feature(confinement=Confinement(**members))


_NOBODY: Final = Account(uid=65534, gid=65534)
_VIRTIO_SCSI: Final = {"scsi_controller_type": "virtio-scsi-pci"}
_NIC_TYPES: Final = (*("e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet", "vmxnet3", "i82551", "i82557b", "i82559er"),)

#: Features by theme and name. The command lines of a theme are recorded in one file.
FEATURES: Final[dict[str, dict[str, Feature]]] = {
    "plain": {"plain": Feature(), "bare": Feature(disks=(), nics=())},
    "machine": {
        "kvm": Feature(kvm_flag="enabled"),
        "no-acpi": _with(acpi=False),
        "local-time": _with(use_localtime=True),
        "reboot-exits": _with(reboot_behavior="exit"),
        "random-numbers": _with(virtio_rng=True),
        "tpm": Feature(parameters={"tpm": True}),
        "vsock": Feature(parameters={"vsock_cid": 5}, lacks="/dev/vhost-vsock"),
        "extra": _with(kvm_extra='-device \'{"driver":"i6300esb"}\' -global kvm-pit.lost_tick_policy=discard'),
        "incoming": Feature(is_incoming=True),
    },
    "processors": {
        "sockets-and-cores": Feature(parameters={"cpu_sockets": 2, "cpu_cores": 2}, vcpus=4),
        "threads": Feature(parameters={"cpu_threads": 2}, vcpus=4),
        "model": _with(cpu_type="qemu64,-svm"),
        "hotplug": _with(vcpus_max=4),
        "maximum-fills-topology": Feature(parameters={"vcpus_max": 8, "cpu_sockets": 2, "cpu_cores": 4}, vcpus=3),
    },
    "memory": {
        "files": _with(mem_path="/DIR"),
        "preallocated": Feature(parameters={"mem_prealloc": True}, vcpus=4),
        "hugepages-2M": Feature(parameters={"hugepages": "2M"}),
        "hugepages-1G": Feature(parameters={"hugepages": "1G"}, memory_mib=2048),
        "bound": _with(numa_host_nodes="0"),
        "interleaved": _with(numa_host_nodes="0", numa_policy="interleave"),
        "hotplug": _with(memory_max_mib=1024),
        "hotplug-on-hugepages": _with(memory_max_mib=1024, hugepages="2M"),
        "hotplug-in-files": _with(memory_max_mib=1024, mem_path="/DIR"),
        "hotplug-as-dimms": _with(memory_max_mib=1024, memory_hotplug="dimm"),
    },
    "numa": {
        "one": _with(numa_nodes=1),
        "two": Feature(parameters={"numa_nodes": 2}, vcpus=4),
        "two-bound": Feature(parameters={"numa_nodes": 2, "numa_host_nodes": "0:0", "mem_prealloc": True}, vcpus=2),
        "two-in-files": Feature(parameters={"numa_nodes": 2, "mem_path": "/DIR"}, vcpus=2),
        "two-of-hugepages": Feature(parameters={"numa_nodes": 2, "hugepages": "2M"}, vcpus=2),
        "two-hotplug": Feature(parameters={"numa_nodes": 2, "vcpus_max": 4, "memory_max_mib": 1024}, vcpus=3),
    },
    "slots": {
        "no-spare-ports": _with(hotplug_ports=0),
        "reservations": _with(kvm_pci_reservations=16),
    },
    "consoles": {
        "no-serial": _with(serial_console=False),
        "guest-agent": _with(use_guest_agent=True),
    },
    "boot": {
        "linux": _with(kernel_path="/DIR/vmlinuz", initrd_path="/DIR/initrd", kernel_args="ro a,b", serial_speed=9600),
        "linux-without-serial": _with(kernel_path="/DIR/vmlinuz", root_path="", serial_console=False),
        "network": _with(boot_order="network"),
        "network-then-disk": _with(boot_order="network,disk"),
        "floppy-cdrom-disk": _with(
            boot_order="floppy,cdrom,disk", floppy_image_path="/DIR/floppy.img", cdrom_image_path="/DIR/cd.iso"
        ),
        "cdrom": _with(boot_order="cdrom", cdrom_image_path="/DIR/cd.iso"),
        "floppy": _with(boot_order="floppy", floppy_image_path="/DIR/floppy.img"),
    },
    "firmware": {
        "uefi": _with_firmware("raw", "fd"),
        "uefi-qcow2": _with_firmware("qcow2", "qcow2"),
        "uefi-secure": _with_firmware("raw", "fd", needs_smm=True),
    },
    "disks": {
        "two": Feature(disks=(make_disk(), make_disk(2, "DIR/disk.qcow2", format="qcow2"))),
        "read-only": Feature(disks=(make_disk(read_only=True),)),
        "block-device": Feature(disks=(make_disk(file="dev/null"),)),
        "ide": _with(disk_type="ide"),
        "discard": _with(disk_discard="unmap"),
    },
    "disks-cache": {mode: _with(disk_cache=mode) for mode in ("none", "writethrough", "writeback")},
    "disks-aio": {"native": _with(disk_cache="none", disk_aio="native"), "io_uring": _with(disk_aio="io_uring")},
    "disks-scsi": {
        **{
            controller: _with(disk_type="scsi-hd", scsi_controller_type=controller)
            for controller in ("lsi", "virtio-scsi-pci", "megasas", "dc390")
        },
        "cd": Feature(parameters={"disk_type": "scsi-cd", **_VIRTIO_SCSI}, disks=(make_disk(read_only=True),)),
        **{
            kind: Feature(
                parameters={"disk_type": f"scsi-{kind}", "disk_cache": "none", **_VIRTIO_SCSI},
                disks=(make_disk(file="dev/sda"),),
                lacks="a SCSI device of the node",
            )
            for kind in ("block", "generic")
        },
    },
    "io-threads": {
        "two": Feature(parameters={"io_threads": 2}, disks=(make_disk(), make_disk(2, "DIR/code.fd"))),
        "scsi": _with(io_threads=2, disk_type="scsi-hd", **_VIRTIO_SCSI),
    },
    "nics": {
        "two": Feature(nics=(make_nic(), make_nic(2))),
        **{nic_type: _with(nic_type=nic_type) for nic_type in _NIC_TYPES},
    },
    "nics-tap": {
        "one-queue": Feature(nics=(make_nic(mode="tap"),)),
        "mtu": Feature(nics=(make_nic(mode="tap", mtu=9000),)),
        "four-queues": Feature(parameters={"virtio_net_queues": 4}, nics=(make_nic(mode="tap"),), queues=4),
        "vhost": Feature(nics=(make_nic(mode="tap"),), has_vhost=True, lacks="/dev/vhost-net"),
        "vhost-two-queues": Feature(
            parameters={"virtio_net_queues": 2},
            nics=(make_nic(mode="tap"),),
            queues=2,
            has_vhost=True,
            lacks="/dev/vhost-net",
        ),
    },
    "drives": {
        "cdrom": _with(cdrom_image_path="/DIR/cd.iso"),
        "two-cdroms-ide": _with(
            cdrom_image_path="/DIR/cd.iso", cdrom2_image_path="/DIR/code.fd", cdrom_disk_type="ide", boot_order="cdrom"
        ),
        "cdroms-scsi": _with(
            cdrom_image_path="/DIR/cd.iso", cdrom2_image_path="/DIR/code.fd", cdrom_disk_type="scsi-cd", **_VIRTIO_SCSI
        ),
        "cdrom-of-scsi-disks": _with(cdrom_image_path="/DIR/cd.iso", disk_type="scsi-hd", **_VIRTIO_SCSI),
        "floppy": _with(floppy_image_path="/DIR/floppy.img"),
        "empty": _with(
            cdrom_image_path="empty", cdrom2_image_path="empty", floppy_image_path="empty", cdrom_disk_type="ide"
        ),
        "empty-scsi": _with(cdrom_image_path="empty", cdrom_disk_type="scsi-cd", boot_order="cdrom", **_VIRTIO_SCSI),
    },
    "vga": {vga: _with(vga=vga) for vga in ("std", "cirrus", "virtio", "vmware")},
    "vnc": {
        "address": _with(vnc_bind_address="127.0.0.1", keymap="en-us"),
        "port-password": _with(vnc_bind_address="::1", vnc_port=5987, vnc_password_file="/DIR/password", vga="cirrus"),
        "socket-tls": _with(vnc_bind_address="/DIR", vnc_tls=True, usb_mouse="mouse"),
        "x509": _with(vnc_bind_address="127.0.0.1", vnc_tls=True, vnc_x509_path="/DIR/pki", vnc_x509_verify=True),
    },
    "spice": {
        "address": _with(spice_bind="127.0.0.1", spice_port=5999, soundhw="hda"),
        "all-options": _with(
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
        "tls": _with(
            spice_bind="127.0.0.1",
            spice_port=5999,
            spice_use_tls=True,
            spice_x509_path="/DIR/pki",
            spice_tls_ciphers="HIGH:!ADH",
            use_guest_agent=True,
        ),
    },
    "usb": {"two": _with(usb_devices="keyboard,tablet"), "mouse": _with(usb_mouse="tablet")},
    "sound": {card: _with(soundhw=card) for card in ("hda", "ac97", "es1370")},
    "confinement": {
        "sandbox": _confined(is_sandboxed=True),
        # hvkit changes the account before it starts QEMU, so it is on no command line. Disks are passed as descriptors.
        "account": _confined(is_sandboxed=True, account=_NOBODY),
        "account-dropped-by-qemu": _confined(is_sandboxed=True, account=_NOBODY, drops_account_itself=True),
        "root-dir": _confined(root_dir="/DIR/root"),
        "all": _confined(is_sandboxed=True, account=_NOBODY, drops_account_itself=True, root_dir="/DIR/root"),
    },
}


def place(text: str, directory: str) -> str:
    """Replace ``/DIR`` in a text by the directory of all files."""
    return text.replace("/DIR", directory)


@attrs.frozen(kw_only=True)
class FeatureNode:
    """The node that a machine is planned for.

    Attributes:
        directory: the directory of all files.
        host: the KVM support of the node.
        sockets: the sockets of the machine.
        taps: the open tap files, by uuid of the NIC.
        descriptors: the open descriptors of each disk by its path, for a QEMU that opens no files by path.
    """

    directory: str
    host: KvmHost
    sockets: MachineSockets
    taps: Mapping[UUID, TapFiles]
    descriptors: Mapping[str, tuple[int, ...]]


def _place_files(feature: Feature, directory: str) -> Feature:
    """Replace ``/DIR`` in all paths of a feature."""
    firmware = feature.firmware and attrs.evolve(
        feature.firmware,
        code=place(feature.firmware.code, directory),
        template=place(feature.firmware.template, directory),
    )
    disks = (make_disk(),) if feature.disks is None else feature.disks
    return attrs.evolve(
        feature,
        parameters={
            name: place(value, directory) if isinstance(value, str) else value
            for name, value in feature.parameters.items()
        },
        disks=tuple(attrs.evolve(disk, path=place(disk.path, directory)) for disk in disks),
        firmware=firmware,
        confinement=attrs.evolve(feature.confinement, root_dir=place(feature.confinement.root_dir, directory)),
    )


def plan_feature(plan: Planner, program: Capabilities, board: str, feature: Feature, node: FeatureNode) -> MachinePlan:
    """Plan the machine of a feature.

    Args:
        plan: the fixture `plan`.
        program: the capabilities of QEMU.
        board: q35 or pc.
        feature: the feature.
        node: the node.
    """
    feature = _place_files(feature, node.directory)
    disks, firmware = feature.disks or (), feature.firmware
    has_run_with = {"run-with.user", "run-with.chroot"} <= program.options

    def make(placement: Placement | None) -> MachinePlan:
        return plan(
            program,
            {"machine_version": board, **feature.parameters},
            disks=disks,
            nics=(make_nic(),) if feature.nics is None else feature.nics,
            vcpus=feature.vcpus,
            memory_mib=feature.memory_mib,
            accelerator=choose_accelerator(feature.kvm_flag, node.host, program),
            block_devices=[disk.uuid for disk in disks if disk.path.startswith("/dev/")],
            disk_files={
                disk.uuid: FileSet(number=number, descriptors=node.descriptors[disk.path], label=f"disk {number}")
                for number, disk in enumerate(disks, start=1)
                if not feature.opens_by_name
            },
            firmware=firmware,
            files={} if firmware is None else {VARIABLES: firmware.template},
            confinement=attrs.evolve(feature.confinement, has_run_with=has_run_with),
            sockets=node.sockets,
            taps=node.taps,
            placement=placement,
        )

    made = make(None)
    if not feature.is_incoming:
        return made
    addresses = {disk.uuid: disk.address for disk in made.disks} | {nic.uuid: nic.address for nic in made.nics}
    return make(Placement(topology=made.topology, addresses=addresses, was_running=True))
