# SPDX-License-Identifier: BSD-2-Clause
"""Taps: the node's end of a NIC.

A tap is made here and handed to QEMU as an open file. It is not persistent: the kernel removes it when the last file
on it is closed, so that a tap goes when its QEMU goes, however that ends.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import attrs

from hvkit.errors import HypervisorError

_TUN: Final = "/dev/net/tun"
_NET: Final = Path("/sys/class/net")
#: A name has to fit into 16 bytes with the zero at its end. Source: linux/if.h, IFNAMSIZ.
MAX_NAME: Final = 15

# Source: linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFF_TUN_EXCL: Final = 0x8000
# Source: linux/sockios.h, linux/if.h
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCBRADDIF: Final = 0x89A2
_IFF_UP: Final = 0x1
#: struct ifreq: the name and a union of 24 bytes, of which the flags or the index are the first.
_IFREQ_FLAGS: Final = "16sH22x"
_IFREQ_INDEX: Final = "16si20x"


@attrs.frozen
class Tap:
    """A tap that exists for as long as its file is open somewhere.

    Attributes:
        name: of the interface.
        descriptor: the open file; whoever has the tap closes it.
    """

    name: str
    descriptor: int


class NetworkError(HypervisorError):
    """Raised when the node's end of a NIC cannot be made.

    Attributes:
        interface: the network interface.
        problem: what failed, and why.
    """

    def __init__(self, interface: str, problem: str) -> None:
        super().__init__(interface, problem)
        self.interface = interface
        self.problem = problem

    def __str__(self) -> str:
        return f"network interface {self.interface}: {self.problem}"


def plan_tap_name(uuid: UUID) -> str:
    """Return the name of the tap of a NIC that asks for none: the same for the same NIC, at most 15 characters."""
    return f"hv{uuid.hex[:12]}"


def make_tap(name: str, *, bridge: str = "", vnet_hdr: bool = True) -> Tap:
    """Make a tap, join it to a bridge and set it up.

    After success the caller has the tap, and closes its file. After failure there is no tap.

    Args:
        name: the interface to make. One of that name must not exist.
        bridge: the bridge it joins; empty for none.
        vnet_hdr: whether packets carry a virtio header, which lets QEMU leave checksums and segmentation to others.

    Raises:
        NetworkError: we may not, the name is taken, there is no such bridge.
    """
    if not 0 < len(os.fsencode(name)) <= MAX_NAME:
        raise NetworkError(name, f"a name has 1 to {MAX_NAME} characters")
    with _failing(name, f"cannot open {_TUN}"):
        descriptor = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_TUN_EXCL | (_IFF_VNET_HDR if vnet_hdr else 0)
        with _failing(name, "cannot be made", taken="there is an interface of that name already"):
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack(_IFREQ_FLAGS, os.fsencode(name), flags))
        if bridge:
            _join_bridge(name, bridge)
        _set_up(name)
    except BaseException:
        os.close(descriptor)
        raise
    return Tap(name, descriptor)


def has_interface(name: str) -> bool:
    """Tell whether the node has a network interface of that name."""
    return bool(name) and (_NET / name).exists()


def is_bridge(name: str) -> bool:
    """Tell whether the node has a bridge of that name."""
    return bool(name) and (_NET / name / "bridge").is_dir()


def _join_bridge(name: str, bridge: str) -> None:
    if not is_bridge(bridge):
        problem = "is not a bridge" if has_interface(bridge) else "does not exist"
        raise NetworkError(name, f"cannot join bridge {bridge}, which {problem}")
    with _failing(name, f"cannot join bridge {bridge}"), _control_socket() as control:
        index = socket.if_nametoindex(name)
        fcntl.ioctl(control, _SIOCBRADDIF, struct.pack(_IFREQ_INDEX, os.fsencode(bridge), index))


def _set_up(name: str) -> None:
    with _failing(name, "cannot be set up"), _control_socket() as control:
        request = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack(_IFREQ_FLAGS, os.fsencode(name), 0))
        (_, flags) = struct.unpack(_IFREQ_FLAGS, request)
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack(_IFREQ_FLAGS, os.fsencode(name), flags | _IFF_UP))


def _control_socket() -> socket.socket:
    """Make the socket that ioctls on interfaces want; which kind does not matter."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


@contextlib.contextmanager
def _failing(name: str, what: str, *, taken: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = taken if taken and error.errno == errno.EBUSY else error.strerror
        raise NetworkError(name, f"{what}: {why}") from error
