# SPDX-License-Identifier: BSD-2-Clause
"""Disks with their limits, and NICs."""

from __future__ import annotations

from typing import Any, Final, Literal
from uuid import UUID, uuid4

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.model.checks import (
    is_absolute_path,
    is_interface_name_or_empty,
    is_ip_or_empty,
    is_mtu_or_zero,
    is_positive,
    is_unicast_mac,
    require,
    require_bool,
    require_text,
    require_uuid,
    to_lower,
    to_path_text,
    to_uuid,
)
from hvkit.hypervisor.model.states import DeviceKind

#: The modes of a NIC, and the optional members of `Nic` that each uses.
_NIC_MEMBERS: Final = {
    "user": frozenset[str](),
    "tap": frozenset({"link", "ifname", "mtu"}),
    "routed": frozenset({"link", "ifname", "ip", "mtu"}),
    "external": frozenset({"ifname"}),
}

#: The maximum of a rate or burst. It is far beyond any disk.
_MAX_RATE: Final = 10**15


@attrs.frozen
class DiskRate:
    """A limit of a disk's throughput: bytes or operations per second, with an optional burst.

    Attributes:
        per_s: the average limit, per second.
        burst_per_s: the limit during a burst, per second; 0: no bursts. A burst is possible after the disk was below
            its average limit.
        burst_s: the length of a burst, in seconds.

    Raises:
        ParameterError: by the constructor, if a member is invalid or the burst contradicts the average.
    """

    per_s: int = attrs.field(validator=require(is_positive, "an integer >= 1"))
    burst_per_s: int = attrs.field(
        default=0,
        kw_only=True,
        validator=require(lambda value: is_positive(value) or value == 0, "an integer >= 0"),
    )
    burst_s: int = attrs.field(
        default=1, kw_only=True, validator=require(is_positive, "an integer number of seconds >= 1")
    )

    def __attrs_post_init__(self) -> None:
        problem = ""
        if self.burst_per_s and self.burst_per_s < self.per_s:
            problem = f"the rate of a burst must be at least the average, {self.per_s}"
        elif not self.burst_per_s and self.burst_s != 1:
            raise ParameterError("DiskRate.burst_s", self.burst_s, "requires burst_per_s")
        elif max(self.per_s, self.burst_per_s * self.burst_s) > _MAX_RATE:
            problem = f"must not exceed {_MAX_RATE}"
        if problem:
            member = "burst_per_s" if self.burst_per_s else "per_s"
            raise ParameterError(f"DiskRate.{member}", getattr(self, member), problem)


_require_rate = require(lambda value: value is None or isinstance(value, DiskRate), "a DiskRate or None")


@attrs.frozen(kw_only=True)
class DiskLimits:
    """Limits of a disk's throughput. None: no limit.

    For bytes as well as for operations, either the total is limited, or reads and writes are limited separately.

    Attributes:
        total_bytes: bytes read and written.
        read_bytes: bytes read.
        write_bytes: bytes written.
        total_operations: reads and writes.
        read_operations: reads.
        write_operations: writes.

    Raises:
        ParameterError: by the constructor, if a member is invalid, if a total is combined with a separate limit, or if
            there is no limit at all (use None instead of an empty `DiskLimits`).
    """

    total_bytes: DiskRate | None = attrs.field(default=None, validator=_require_rate)
    read_bytes: DiskRate | None = attrs.field(default=None, validator=_require_rate)
    write_bytes: DiskRate | None = attrs.field(default=None, validator=_require_rate)
    total_operations: DiskRate | None = attrs.field(default=None, validator=_require_rate)
    read_operations: DiskRate | None = attrs.field(default=None, validator=_require_rate)
    write_operations: DiskRate | None = attrs.field(default=None, validator=_require_rate)

    def __attrs_post_init__(self) -> None:
        for unit in ("bytes", "operations"):
            total = getattr(self, f"total_{unit}")
            if total is not None and (getattr(self, f"read_{unit}") or getattr(self, f"write_{unit}")):
                problem = f"cannot be combined with read_{unit} or write_{unit}"
                raise ParameterError(f"DiskLimits.total_{unit}", total.per_s, problem)
        if not any(attrs.astuple(self, recurse=False)):
            raise ParameterError("DiskLimits", "", "no limit is set; use None for an unlimited disk")


@attrs.frozen(kw_only=True)
class Disk:
    """A disk of an instance: an image file or a block device of the node.

    Attributes:
        path: absolute path.
        format: the image format.
        read_only: whether the guest may only read it.
        name: a name for people; may be empty.
        uuid: the identity of the disk.
        limits: limits of its throughput; None: unlimited.

    Raises:
        ParameterError: by the constructor, if a member is invalid.
    """

    path: str = attrs.field(converter=to_path_text, validator=require(is_absolute_path, "an absolute path in UTF-8"))
    format: Literal["raw", "qcow2"] = attrs.field(
        default="raw", validator=require(lambda value: value in ("raw", "qcow2"), "raw or qcow2")
    )
    read_only: bool = attrs.field(default=False, validator=require_bool)
    name: str = attrs.field(default="", validator=require_text)
    uuid: UUID = attrs.field(factory=uuid4, converter=to_uuid, validator=require_uuid)
    limits: DiskLimits | None = attrs.field(
        default=None,
        validator=require(lambda value: value is None or isinstance(value, DiskLimits), "DiskLimits or None"),
    )


@attrs.frozen(kw_only=True)
class Nic:
    """A network interface card of an instance.

    Attributes:
        mac: the MAC address, six bytes in hexadecimal with colons; stored in lower case.
        mode: ``tap``: a tap interface that hvkit creates; ``routed``: a tap interface with routes to the guest;
            ``external``: a persistent tap interface that another program created; ``user``: QEMU's user-mode network,
            which needs no privileges.
        link: for ``tap``, the bridge to attach to; for ``routed``, the routing table. Empty: none.
        ifname: the name of the interface. Empty: chosen by hvkit; required for ``external``.
        ip: for ``routed``, the guest's IP address, to which the node gets a route. Empty: none.
        mtu: the MTU in bytes; 0: that of the bridge, or the kernel's default.
        uuid: the identity of the NIC.

    Raises:
        ParameterError: by the constructor, if a member is invalid or is not used in the mode.
    """

    mac: str = attrs.field(
        converter=to_lower, validator=require(is_unicast_mac, "a unicast MAC address such as 52:54:00:12:34:56")
    )
    mode: Literal["user", "tap", "routed", "external"] = attrs.field(
        default="tap", validator=require(_NIC_MEMBERS.__contains__, f"one of {', '.join(_NIC_MEMBERS)}")
    )
    link: str = attrs.field(default="", validator=require(is_interface_name_or_empty, "the name of a bridge, or empty"))
    ifname: str = attrs.field(
        default="", validator=require(is_interface_name_or_empty, "an interface name of at most 15 characters")
    )
    ip: str = attrs.field(default="", validator=require(is_ip_or_empty, "an IPv4 or IPv6 address, or empty"))
    mtu: int = attrs.field(default=0, validator=require(is_mtu_or_zero, "0 or a number of bytes from 68 to 65521"))
    uuid: UUID = attrs.field(factory=uuid4, converter=to_uuid, validator=require_uuid)

    def __attrs_post_init__(self) -> None:
        for field in ("link", "ifname", "ip", "mtu"):
            value: Any = getattr(self, field)
            if value and field not in _NIC_MEMBERS[self.mode]:
                modes = " or ".join(mode for mode, members in _NIC_MEMBERS.items() if field in members)
                raise ParameterError(f"Nic.{field}", value, f"only used with mode {modes}")
        if self.mode == "external" and not self.ifname:
            raise ParameterError("Nic.ifname", "", "required with mode external: the name of the tap")

    @property
    def has_tap(self) -> bool:
        """Whether the node has a network interface for this NIC."""
        return self.mode != "user"


#: A device that can be hot-added to a running instance.
HotplugDevice = Disk | Nic


def device_kind(device: HotplugDevice) -> DeviceKind:
    """Return the kind of a device."""
    return DeviceKind.DISK if isinstance(device, Disk) else DeviceKind.NIC
