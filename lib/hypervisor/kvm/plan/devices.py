# SPDX-License-Identifier: BSD-2-Clause
"""Disks and NICs in QEMU's terms: one description for boot and for hotplug.

A description consists of schema values. `DiskDevice.nodes` are the options of ``-blockdev`` and the arguments of
blockdev-add alike, `NicDevice.netdev` those of ``-netdev`` and netdev_add, and a `DeviceAdd` is both the option
``-device`` and a command to execute.

Ids derive from the uuid of the disk or NIC, never from its position, so that they do not change when other devices are
added or removed.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal
from uuid import UUID

import attrs

from hvkit.errors import ProgrammerError
from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters import DISK_DRIVERS, NIC_DRIVERS, PASSED_THROUGH
from hvkit.hypervisor.kvm.plan.topology import Address, BusKind
from hvkit.hypervisor.model import Disk, DiskRate, Nic
from hvkit.qmp.schema import (
    BlockdevCacheOptions,
    BlockdevOptions,
    BlockdevOptionsFile,
    BlockdevOptionsQcow2,
    BlockdevOptionsRaw,
    BlockSetIoThrottle,
    DeviceAdd,
    Netdev,
    NetdevTapOptions,
    NetdevUserOptions,
)

_DISK_BUSES: Final = {
    "paravirtual": BusKind.PCI,
    "ide": BusKind.IDE,
    "scsi-hd": BusKind.SCSI,
    "scsi-cd": BusKind.SCSI,
    "scsi-block": BusKind.SCSI,
    "scsi-generic": BusKind.SCSI,
}

#: For each cache mode: whether the host page cache is bypassed, and whether the guest sees a write cache.
_CACHE_MODES: Final = {"none": (True, "on"), "writethrough": (False, "off"), "writeback": (False, "on")}

#: Devices that can run in an IOThread.
_IO_THREAD_DRIVERS: Final = frozenset({"virtio-blk-pci", "virtio-scsi-pci"})


def _short(uuid: UUID) -> str:
    """Return a short part of a uuid that is distinct in practice.

    A block node name has at most 31 characters, the serial number of a disk 20. Both ends of the uuid are used: uuids
    numbered by hand differ at the end, time-based uuids of one host at the beginning.
    """
    return uuid.hex[:8] + uuid.hex[-8:]


def disk_id(uuid: UUID) -> str:
    """Return the device id of a disk."""
    return f"disk-{_short(uuid)}"


def nic_id(uuid: UUID) -> str:
    """Return the device id of a NIC."""
    return f"nic-{_short(uuid)}"


def netdev_id(uuid: UUID) -> str:
    """Return the id of the netdev of a NIC."""
    return f"{nic_id(uuid)}-net"


def tap_name(nic: Nic) -> str:
    """Return the name of the tap interface of a NIC, at most 15 characters; empty if its mode needs no tap.

    If the NIC specifies no name, the name derives from its uuid.
    """
    return (nic.ifname or default_tap_name(nic.uuid)) if nic.has_tap else ""


def default_tap_name(uuid: UUID) -> str:
    """Return the name of the tap interface of a NIC that specifies none."""
    return f"hv{uuid.hex[:12]}"


def io_thread_id(number: int) -> str:
    """Return the id of an IOThread, by its number from 0."""
    return f"io{number}"


def check_has_io_threads(driver: str, parameter: str, value: str) -> None:
    """Check that a device can run in an IOThread.

    Args:
        driver: the device model.
        parameter: the parameter that selects the device, for the error.
        value: the value of that parameter.

    Raises:
        ParameterError: the device runs in the main loop only.
    """
    if driver not in _IO_THREAD_DRIVERS:
        raise ParameterError(parameter, value, f"{driver} does not support IOThreads; set io_threads to 0")


@attrs.frozen(kw_only=True)
class DiskSettings:
    """Settings that all disks of an instance share."""

    type: str
    cache: str
    aio: Literal["threads", "native", "io_uring"]
    discard: Literal["ignore", "unmap"]
    io_threads: int = 0

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> "DiskSettings":
        """Read the settings from the parameters of an instance, filled and checked."""
        return cls(
            type=parameters["disk_type"],
            cache=parameters["disk_cache"],
            aio=parameters["disk_aio"],
            discard=parameters["disk_discard"],
            io_threads=parameters["io_threads"],
        )

    @property
    def bus(self) -> BusKind:
        """The kind of bus that the disks are on."""
        return _DISK_BUSES[self.type]


@attrs.frozen(kw_only=True)
class DiskDevice:
    """A disk of a machine.

    Attributes:
        uuid: of the disk.
        address: the bus address of the device.
        nodes: its block nodes, each before the nodes that use it. They are added in this order, then the device; they
            are removed in reverse order.
        device: the device that the guest sees, on the last of the nodes.
    """

    uuid: UUID
    address: Address
    nodes: tuple[BlockdevOptions, ...]
    device: DeviceAdd

    @property
    def node_names(self) -> tuple[str, ...]:
        """The names of its block nodes, in the same order."""
        return tuple(node.node_name for node in self.nodes if node.node_name is not None)


@attrs.frozen(kw_only=True)
class NicDevice:
    """A NIC of a machine.

    Attributes:
        uuid: of the NIC.
        address: the bus address of the device.
        netdev: its backend, added before the device and removed after it.
        device: the device that the guest sees.
    """

    uuid: UUID
    address: Address
    netdev: Netdev
    device: DeviceAdd


def build_disk(
    disk: Disk,
    settings: DiskSettings,
    address: Address,
    *,
    is_block_device: bool,
    filename: str | None = None,
    boot_index: int | None = None,
) -> DiskDevice:
    """Describe a disk.

    Args:
        disk: the disk.
        settings: the settings of all disks of the instance.
        address: a free address on a bus of the kind that `settings` requires.
        is_block_device: whether its path is a block device, not a file.
        filename: the name that QEMU opens; None: the path of the disk.
        boot_index: its position in the boot order of the firmware; None: not bootable.

    Raises:
        ParameterError: a disk of this type cannot have the properties of `disk`.
        ProgrammerError: the address is on a bus of another kind.
    """
    _check_disk(disk, settings, address, is_block_device=is_block_device)
    device_id = disk_id(disk.uuid)
    protocol, format_ = f"{device_id}-file", f"{device_id}-format"
    common: dict[str, Any] = {
        "discard": settings.discard,
        "read_only": disk.read_only,
        # With auto-read-only, QEMU would open a disk without write permission read-only instead of failing.
        "auto_read_only": False,
    }
    if settings.cache in _CACHE_MODES:
        is_direct, _ = _CACHE_MODES[settings.cache]
        common["cache"] = BlockdevCacheOptions(direct=is_direct, no_flush=False)
    file_node = BlockdevOptionsFile(
        driver="host_device" if is_block_device else "file",
        node_name=protocol,
        filename=filename or disk.path,
        aio=settings.aio,
        **common,
    )
    if disk.format == "qcow2":
        format_node: BlockdevOptions = BlockdevOptionsQcow2(node_name=format_, file=protocol, **common)
    else:
        format_node = BlockdevOptionsRaw(node_name=format_, file=protocol, **common)
    properties = {**address.properties, "drive": format_, **_disk_properties(disk, settings)}
    if boot_index is not None:
        properties["bootindex"] = boot_index
    return DiskDevice(
        uuid=disk.uuid,
        address=address,
        nodes=(file_node, format_node),
        device=DeviceAdd(driver=DISK_DRIVERS[settings.type], id=device_id, bus=address.bus, properties=properties),
    )


def _check_disk(disk: Disk, settings: DiskSettings, address: Address, *, is_block_device: bool) -> None:
    if address.kind is not settings.bus:
        raise ProgrammerError(f"a disk of type {settings.type} cannot be on bus {address.bus}")
    if disk.read_only and address.kind is BusKind.IDE:
        raise ParameterError("Disk.read_only", True, f"{disk.path}: an IDE disk cannot be read-only")
    if settings.type in PASSED_THROUGH and (disk.format != "raw" or not is_block_device):
        problem = f"{disk.path} is not a raw block device, which {settings.type} requires"
        raise ParameterError("disk_type", settings.type, problem)
    check_can_be_limited(disk, settings)
    if settings.type == "scsi-cd" and not disk.read_only:
        raise ParameterError("disk_type", settings.type, f"{disk.path} is not read-only, which scsi-cd requires")


def _disk_properties(disk: Disk, settings: DiskSettings) -> dict[str, Any]:
    """Return the properties of a disk's device beside its address, its block node and its boot index."""
    properties: dict[str, Any] = {}
    if settings.type not in PASSED_THROUGH:  # these have the serial number and the write cache of the host's device
        properties["serial"] = _short(disk.uuid)
        if settings.cache in _CACHE_MODES:
            _, properties["write-cache"] = _CACHE_MODES[settings.cache]
    if settings.io_threads and settings.bus is not BusKind.SCSI:  # SCSI disks run in the IOThread of their controller
        check_has_io_threads(DISK_DRIVERS[settings.type], "disk_type", settings.type)
        properties["iothread"] = io_thread_id(disk.uuid.int % settings.io_threads)
    return properties


def check_can_be_limited(disk: Disk, settings: DiskSettings) -> None:
    """Check that a disk with I/O limits is of a type that supports them.

    Raises:
        ParameterError: the disk is passed through: requests of the guest bypass the limits of QEMU.
    """
    if disk.limits is not None and settings.type in PASSED_THROUGH:
        problem = f"{disk.path}: a disk of type {settings.type} is passed through and cannot have I/O limits"
        raise ParameterError("Disk.limits", disk.path, problem)


def build_limits(disk: Disk, settings: DiskSettings) -> BlockSetIoThrottle:
    """Build the command that sets the I/O limits of a disk, or removes them if the disk has none."""
    device = disk_id(disk.uuid)
    if settings.bus is BusKind.PCI:  # the limits belong to the virtio backend, which has a path and no id
        device = f"/machine/peripheral/{device}/virtio-backend"
    limits = disk.limits
    rates: dict[str, DiskRate | None] = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"))
    if limits is not None:
        rates = {
            "bps": limits.total_bytes,
            "bps_rd": limits.read_bytes,
            "bps_wr": limits.write_bytes,
            "iops": limits.total_operations,
            "iops_rd": limits.read_operations,
            "iops_wr": limits.write_operations,
        }
    members: dict[str, Any] = {"id": device}
    for member, rate in rates.items():
        members[member] = 0 if rate is None else rate.per_s
        if rate is not None and rate.burst_per_s:
            members[f"{member}_max"] = rate.burst_per_s
            members[f"{member}_max_length"] = rate.burst_s
    return BlockSetIoThrottle(**members)


@attrs.frozen(kw_only=True)
class TapFiles:
    """The open files of a tap, as QEMU refers to them.

    Attributes:
        queues: one for each queue: the number of an inherited descriptor, or the name of one that was sent by getfd.
        vhosts: for each queue its vhost-net device, in the same form; empty without vhost.
    """

    queues: tuple[str, ...]
    vhosts: tuple[str, ...] = ()


def build_nic(
    nic: Nic,
    nic_type: str,
    address: Address,
    *,
    tap: TapFiles | None = None,
    boot_index: int | None = None,
) -> NicDevice:
    """Describe a NIC.

    Args:
        nic: the NIC.
        nic_type: value of the parameter `nic_type`.
        address: a free PCI address.
        tap: its open tap; None for a NIC of mode user, which has none.
        boot_index: its position in the boot order of the firmware; None: not bootable.

    Raises:
        ProgrammerError: the mode of the NIC needs a tap and there is none, or the reverse.
    """
    if (tap is not None) is not nic.has_tap:
        raise ProgrammerError(f"a NIC of mode {nic.mode} {'has no' if tap else 'needs a'} tap")
    device_id, backend_id = nic_id(nic.uuid), netdev_id(nic.uuid)
    driver = NIC_DRIVERS.get(nic_type, nic_type)
    properties: dict[str, Any] = {**address.properties, "netdev": backend_id, "mac": nic.mac}
    if tap is not None and len(tap.queues) > 1:
        # One interrupt vector for each direction of each queue, one for configuration changes, one for control.
        properties |= {"mq": True, "vectors": 2 * len(tap.queues) + 2}
    if nic.mtu and driver == NIC_DRIVERS["paravirtual"]:
        properties["host_mtu"] = nic.mtu
    if boot_index is None:
        properties["romfile"] = ""  # the boot ROM, which may not be installed
    else:
        properties["bootindex"] = boot_index
    return NicDevice(
        uuid=nic.uuid,
        address=address,
        netdev=NetdevUserOptions(id=backend_id) if tap is None else _tap_netdev(backend_id, tap),
        device=DeviceAdd(driver=driver, id=device_id, bus=address.bus, properties=properties),
    )


def _tap_netdev(backend_id: str, tap: TapFiles) -> Netdev:
    """Describe the backend of a tap. QEMU has different members for one queue and for several."""
    if len(tap.queues) == 1:
        if not tap.vhosts:
            return NetdevTapOptions(id=backend_id, fd=tap.queues[0])
        return NetdevTapOptions(id=backend_id, fd=tap.queues[0], vhost=True, vhostfd=tap.vhosts[0])
    if not tap.vhosts:
        return NetdevTapOptions(id=backend_id, fds=":".join(tap.queues))
    return NetdevTapOptions(id=backend_id, fds=":".join(tap.queues), vhost=True, vhostfds=":".join(tap.vhosts))
