# SPDX-License-Identifier: BSD-2-Clause
"""Disks and NICs as QEMU knows them: one description for a machine that starts and for one that runs.

A description is made of schema values. `DiskDevice.nodes` are the options of ``-blockdev`` and the arguments of
blockdev-add alike, `NicDevice.netdev` those of ``-netdev`` and netdev_add, and a `DeviceAdd` is what follows
``-device`` as well as a command to execute.

Ids come from the uuid of the disk or NIC, never from its position: they stay what they are when others come and go.
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

#: For each cache mode: whether the page cache is bypassed, and whether the guest sees a write cache.
_CACHE_MODES: Final = {"none": (True, "on"), "writethrough": (False, "off"), "writeback": (False, "on")}

#: The devices that an IOThread can serve.
_SERVED_BY_IO_THREADS: Final = frozenset({"virtio-blk-pci", "virtio-scsi-pci"})


def _short(uuid: UUID) -> str:
    """Return a part of a uuid that tells it from others.

    A block node's name has room for 31 characters, a disk's serial number for 20. Both ends, because uuids counted by
    hand differ at the end, and those of one host and moment at the beginning.
    """
    return uuid.hex[:8] + uuid.hex[-8:]


def disk_id(uuid: UUID) -> str:
    """Return the device id of a disk."""
    return f"disk-{_short(uuid)}"


def nic_id(uuid: UUID) -> str:
    """Return the device id of a NIC."""
    return f"nic-{_short(uuid)}"


def io_thread_id(number: int) -> str:
    """Return the id of an IOThread of a machine."""
    return f"io{number}"


def check_has_io_threads(driver: str, parameter: str, value: str) -> None:
    """Make sure that a device can be served by an IOThread.

    Raises:
        ParameterError: the main loop has to serve it.
    """
    if driver not in _SERVED_BY_IO_THREADS:
        raise ParameterError(parameter, value, f"{driver} has no IOThread, which io_threads asks for")


@attrs.frozen(kw_only=True)
class DiskSettings:
    """What the parameters of an instance say of all its disks."""

    type: str
    cache: str
    aio: Literal["threads", "native", "io_uring"]
    discard: Literal["ignore", "unmap"]
    io_threads: int = 0

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> "DiskSettings":
        """Take the settings out of an instance's parameters, which are filled and checked."""
        return cls(
            type=parameters["disk_type"],
            cache=parameters["disk_cache"],
            aio=parameters["disk_aio"],
            discard=parameters["disk_discard"],
            io_threads=parameters["io_threads"],
        )

    @property
    def bus(self) -> BusKind:
        """The kind of bus such disks sit on."""
        return _DISK_BUSES[self.type]


@attrs.frozen(kw_only=True)
class DiskDevice:
    """A disk of a machine.

    Attributes:
        uuid: of the disk.
        address: where it sits.
        nodes: its block nodes, each before the one that stands on it; they are added in this order, after that the
            device, and removed in the opposite order.
        device: the device that the guest sees, on the last of the nodes.
    """

    uuid: UUID
    address: Address
    nodes: tuple[BlockdevOptions, ...]
    device: DeviceAdd

    @property
    def node_names(self) -> tuple[str, ...]:
        """The names of its block nodes, in their order."""
        return tuple(node.node_name for node in self.nodes if node.node_name is not None)


@attrs.frozen(kw_only=True)
class NicDevice:
    """A NIC of a machine.

    Attributes:
        uuid: of the NIC.
        address: where it sits.
        netdev: its backend, which is added before the device and removed after it.
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
        settings: what all disks of the instance have in common.
        address: a free place on a bus of the kind that `settings` asks for.
        is_block_device: whether its path is a block device; otherwise it is a file.
        filename: by which name QEMU opens it; None for its path.
        boot_index: its turn when the firmware looks for something to boot; None: it is not booted from.

    Raises:
        ParameterError: no disk of this type can be like that.
        ProgrammerError: the place is on a bus of another kind.
    """
    if address.kind is not settings.bus:
        raise ProgrammerError(f"a disk of type {settings.type} cannot sit on {address.bus}")
    if disk.read_only and address.kind is BusKind.IDE:
        raise ParameterError("Disk.read_only", True, f"{disk.path}: an IDE disk cannot be read-only")
    is_passed_through = settings.type in PASSED_THROUGH
    if is_passed_through and (disk.format != "raw" or not is_block_device):
        problem = f"{disk.path} is no raw block device, which {settings.type} needs"
        raise ParameterError("disk_type", settings.type, problem)
    check_can_be_limited(disk, settings)
    if settings.type == "scsi-cd" and not disk.read_only:
        raise ParameterError("disk_type", settings.type, f"{disk.path} is not read-only, as a CD is")
    device_id = disk_id(disk.uuid)
    protocol, format_ = f"{device_id}-file", f"{device_id}-format"
    properties: dict[str, Any] = {**address.properties, "drive": format_}
    if not is_passed_through:  # which has the serial number and the write cache of the host's device
        properties["serial"] = _short(disk.uuid)
    common: dict[str, Any] = {
        "discard": settings.discard,
        "read_only": disk.read_only,
        # Left on, a disk that cannot be written would become read-only under the guest instead of being refused.
        "auto_read_only": False,
    }
    if settings.cache in _CACHE_MODES:
        is_direct, write_cache = _CACHE_MODES[settings.cache]
        if not is_passed_through:
            properties["write-cache"] = write_cache
        common["cache"] = BlockdevCacheOptions(direct=is_direct, no_flush=False)
    if settings.io_threads and settings.bus is not BusKind.SCSI:  # there the controller has one
        check_has_io_threads(DISK_DRIVERS[settings.type], "disk_type", settings.type)
        properties["iothread"] = io_thread_id(disk.uuid.int % settings.io_threads)
    if boot_index is not None:
        properties["bootindex"] = boot_index
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
    return DiskDevice(
        uuid=disk.uuid,
        address=address,
        nodes=(file_node, format_node),
        device=DeviceAdd(driver=DISK_DRIVERS[settings.type], id=device_id, bus=address.bus, properties=properties),
    )


def check_can_be_limited(disk: Disk, settings: DiskSettings) -> None:
    """Make sure that a disk that has limits can have some.

    Raises:
        ParameterError: what the guest asks of such a disk goes to the device past all limits.
    """
    if disk.limits is not None and settings.type in PASSED_THROUGH:
        problem = f"{disk.path}: the guest speaks to a device of type {settings.type} itself, which has no limits"
        raise ParameterError("Disk.limits", disk.path, problem)


def build_limits(disk: Disk, settings: DiskSettings) -> BlockSetIoThrottle:
    """Describe how a disk that a machine has is limited; where it has no limits, that it is not."""
    device = disk_id(disk.uuid)
    if settings.bus is BusKind.PCI:  # its limits are with what does its work, which has no id
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
    """The open files of a NIC's tap, as QEMU is told of them.

    Attributes:
        queues: one or more: the number of a descriptor that QEMU inherits, or the name of one that it was sent by
            getfd.
        vhosts: for each queue the kernel's half of the card, in the same way; none where QEMU does that work.
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
        nic_type: value of the parameter.
        address: a free PCI place.
        tap: its open tap; None for a NIC of mode user, which has none.
        boot_index: its turn when the firmware looks for something to boot; None: it is not booted from.

    Raises:
        ProgrammerError: a tap is missing, or there is one that nobody asked for.
    """
    if (tap is not None) is not nic.has_tap:
        raise ProgrammerError(f"a NIC of mode {nic.mode} {'has no' if tap else 'needs a'} tap")
    device_id = nic_id(nic.uuid)
    netdev_id = f"{device_id}-net"
    driver = NIC_DRIVERS.get(nic_type, nic_type)
    properties: dict[str, Any] = {**address.properties, "netdev": netdev_id, "mac": nic.mac}
    if tap is not None and len(tap.queues) > 1:
        # An interrupt for each direction of each queue, one for changes of the configuration and one for control.
        properties |= {"mq": True, "vectors": 2 * len(tap.queues) + 2}
    if nic.mtu and driver == NIC_DRIVERS["paravirtual"]:
        properties["host_mtu"] = nic.mtu
    if boot_index is None:
        properties["romfile"] = ""  # the code to boot from it, which need not be installed
    else:
        properties["bootindex"] = boot_index
    return NicDevice(
        uuid=nic.uuid,
        address=address,
        netdev=NetdevUserOptions(id=netdev_id) if tap is None else _tap_netdev(netdev_id, tap),
        device=DeviceAdd(driver=driver, id=device_id, bus=address.bus, properties=properties),
    )


def _tap_netdev(netdev_id: str, tap: TapFiles) -> Netdev:
    """Describe the backend of a tap: QEMU has other members for one queue than for several."""
    if len(tap.queues) == 1:
        if not tap.vhosts:
            return NetdevTapOptions(id=netdev_id, fd=tap.queues[0])
        return NetdevTapOptions(id=netdev_id, fd=tap.queues[0], vhost=True, vhostfd=tap.vhosts[0])
    if not tap.vhosts:
        return NetdevTapOptions(id=netdev_id, fds=":".join(tap.queues))
    return NetdevTapOptions(id=netdev_id, fds=":".join(tap.queues), vhost=True, vhostfds=":".join(tap.vhosts))
