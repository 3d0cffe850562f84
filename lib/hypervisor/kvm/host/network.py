# SPDX-License-Identifier: BSD-2-Clause
"""Taps: interfaces of this node that a QEMU holds the other end of.

A tap is made here and handed to QEMU as open files, one a queue. It is not persistent: the kernel removes it when the
last file on it is closed, so that a tap goes when its QEMU goes, however that ends, and its routes with it. One that
somebody else made to last is only opened.
"""

import contextlib
import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import attrs

from hvkit.errors import HypervisorError

_TUN: Final = "/dev/net/tun"
_VHOST: Final = "/dev/vhost-net"
_SYSCTL: Final = Path("/proc/sys/net")
_NET: Final = Path("/sys/class/net")
#: A name has to fit into 16 bytes with the zero at its end. Source: linux/if.h, IFNAMSIZ.
MAX_NAME: Final = 15
#: Seconds that a program may take that does something to an interface.
_TOOL_S: Final = 30.0
#: How much of what a failed program said is quoted, from the end.
_SAID_CHARACTERS: Final = 500
_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"

# Source: linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_MULTI_QUEUE: Final = 0x0100
_IFF_VNET_HDR: Final = 0x4000
_IFF_TUN_EXCL: Final = 0x8000
# Source: linux/sockios.h, linux/if.h
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFMTU: Final = 0x8922
_SIOCBRADDIF: Final = 0x89A2
_IFF_UP: Final = 0x1
#: struct ifreq: the name and a union of 24 bytes, of which the flags or the index are the first.
_IFREQ_FLAGS: Final = "16sH22x"
_IFREQ_INDEX: Final = "16si20x"


@attrs.frozen(kw_only=True)
class Tap:
    """A tap that is open here.

    One of our making exists for as long as one of its files is open somewhere.

    Attributes:
        name: of the interface.
        queues: its open files, one a queue; whoever has the tap closes them.
        vhosts: for each queue the kernel's half of the network card, also open; none where QEMU does that work itself.
    """

    name: str
    queues: tuple[int, ...]
    vhosts: tuple[int, ...] = ()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that is open."""
        return self.queues + self.vhosts

    def close(self) -> None:
        """Close what is open here; who inherited it keeps the tap."""
        for descriptor in self.descriptors:
            os.close(descriptor)


@attrs.frozen(kw_only=True)
class TapOptions:
    """How taps are opened.

    Attributes:
        queues: how many processors of the guest can send and receive at the same time.
        vnet_hdr: whether packets carry a virtio header, which lets QEMU leave checksums and segmentation to others.
        vhost: whether the kernel moves the packets, where it can.
    """

    queues: int = 1
    vnet_hdr: bool = True
    vhost: bool = False


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


def make_tap(name: str, options: TapOptions | None = None, *, bridge: str = "", mtu: int = 0) -> Tap:
    """Make a tap, join it to a bridge and set it up.

    After success the caller has the tap, and closes it. After failure there is no tap.

    Args:
        name: the interface to make. One of that name must not exist.
        options: how it is opened; None for one queue with nothing special.
        bridge: the bridge it joins; empty for none.
        mtu: the largest packet, in bytes; 0 for what the bridge has, or the kernel's own idea.

    Raises:
        NetworkError: we may not, the name is taken, there is no such bridge, it can have no such packets.
    """
    tap = _open_tap(name, options or TapOptions(), _IFF_TUN_EXCL)
    try:
        if bridge:
            check_bridge(name, bridge)
            mtu = mtu or _read_mtu(bridge)
        if mtu:
            _set_mtu(name, mtu)
        if bridge:
            _join_bridge(name, bridge)
        _set_up(name)
    except BaseException:
        tap.close()
        raise
    return tap


def open_tap(name: str, options: TapOptions | None = None) -> Tap:
    """Open a tap that somebody else made to last, as it is. It stays when it is closed.

    Args:
        name: the interface.
        options: how it is opened; it was made for the same queues and headers.

    Raises:
        NetworkError: there is none of that name, it is no tap, or somebody else has it open.
    """
    if not (_NET / name / "tun_flags").exists():
        problem = "is no tap" if has_interface(name) else "does not exist"
        raise NetworkError(name, f"cannot be used: it {problem}")
    return _open_tap(name, options or TapOptions(), 0)


def route_to(name: str, address: str, *, table: str = "") -> None:
    """Have the node route an address to a tap, and answer for it on the tap's side. Both go when the tap goes.

    Args:
        name: the tap, which is up.
        address: of the guest, IPv4 or IPv6; empty for none.
        table: the routing table, by name or number; empty for the main one.

    Raises:
        NetworkError: the kernel refuses, or there is no ``ip`` program.
    """
    for setting in ("ipv4/conf/{}/proxy_arp", "ipv4/conf/{}/forwarding", "ipv6/conf/{}/forwarding"):
        path = _SYSCTL / setting.format(name)
        with _failing(name, f"cannot be set to route ({path})"), contextlib.suppress(FileNotFoundError):
            path.write_text("1", encoding="ascii")
    if not address:
        return
    family = "-6" if ":" in address else "-4"
    length = 128 if ":" in address else 32
    command = ["ip", family, "route", "replace", f"{address}/{length}", "dev", name]
    run_tool(name, [*command, *(["table", table] if table else [])])


def run_tool(name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a program for an interface and wait for it. What it leaves in the background goes on.

    Args:
        name: the interface.
        command: the program and its arguments; no shell sees them.
        environment: all that it gets beside a PATH; None for nothing more.

    Raises:
        NetworkError: it cannot be run, takes too long, or says that it failed. The error quotes what it said.
    """
    try:
        # No pipe: what the program leaves running in the background would keep that open.
        with open(os.memfd_create("said", os.MFD_CLOEXEC), "r+b") as said:
            code = _run(command, {"PATH": _PATH, **(environment or {})}, said)
            said.seek(0)
            text = said.read().decode("utf-8", "replace").strip()[-_SAID_CHARACTERS:]
    except OSError as error:
        raise NetworkError(name, f"{command[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise NetworkError(name, f"{command[0]} did not end within {_TOOL_S:g} s") from error
    if code:
        raise NetworkError(name, f"{command[0]} failed ({code}){': ' if text else ''}{text}")


def _run(command: Sequence[str], environment: Mapping[str, str], output: BinaryIO) -> int:
    """Run a program to its end, and return its exit code; where it is not waited for any more, it and its like end."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd="/",
        start_new_session=True,
    ) as process:
        try:
            return process.wait(_TOOL_S)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def has_interface(name: str) -> bool:
    """Tell whether the node has a network interface of that name."""
    return bool(name) and (_NET / name).exists()


def is_bridge(name: str) -> bool:
    """Tell whether the node has a bridge of that name."""
    return bool(name) and (_NET / name / "bridge").is_dir()


def _open_tap(name: str, options: TapOptions, exclusively: int) -> Tap:
    if not 0 < len(os.fsencode(name)) <= MAX_NAME:
        raise NetworkError(name, f"a name has 1 to {MAX_NAME} characters")
    flags = _IFF_TAP | _IFF_NO_PI | exclusively
    if options.vnet_hdr:
        flags |= _IFF_VNET_HDR
    if options.queues > 1:
        flags |= _IFF_MULTI_QUEUE
    queues: list[int] = []
    vhosts: list[int] = []
    try:
        for number in range(options.queues):
            # Only the first can be asked to be the first: the others join it.
            wanted = flags if number == 0 else flags & ~_IFF_TUN_EXCL
            queues.append(_open_queue(name, wanted, taken=not exclusively or number > 0))
        if options.vhost:
            vhosts = _open_vhosts(name, options.queues)
    except BaseException:
        for descriptor in queues:
            os.close(descriptor)
        raise
    return Tap(name=name, queues=tuple(queues), vhosts=tuple(vhosts))


def _open_queue(name: str, flags: int, *, taken: bool) -> int:
    with _failing(name, f"cannot open {_TUN}"):
        descriptor = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        problem = "somebody else has it open" if taken else "there is an interface of that name already"
        with _failing(name, "cannot be opened" if taken else "cannot be made", taken=problem):
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack(_IFREQ_FLAGS, os.fsencode(name), flags))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_vhosts(name: str, count: int) -> list[int]:
    """Open the kernel's half of a network card for each queue; none where this kernel has no such thing."""
    opened: list[int] = []
    try:
        for _ in range(count):
            with _failing(name, f"cannot open {_VHOST}"):
                opened.append(os.open(_VHOST, os.O_RDWR | os.O_CLOEXEC))
    except NetworkError as error:
        for descriptor in opened:
            os.close(descriptor)
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOENT, errno.ENODEV):
            return []
        raise
    return opened


def _read_mtu(name: str) -> int:
    try:
        return int((_NET / name / "mtu").read_text(encoding="ascii"))
    except (OSError, ValueError):  # joining it says what is wrong
        return 0


def _set_mtu(name: str, mtu: int) -> None:
    with _failing(name, f"cannot have packets of {mtu} bytes"), _control_socket() as control:
        fcntl.ioctl(control, _SIOCSIFMTU, struct.pack(_IFREQ_INDEX, os.fsencode(name), mtu))


def check_bridge(name: str, bridge: str) -> None:
    """Make sure that there is a bridge for an interface to join.

    Raises:
        NetworkError: there is none.
    """
    if not is_bridge(bridge):
        problem = "is not a bridge" if has_interface(bridge) else "does not exist"
        raise NetworkError(name, f"cannot join bridge {bridge}, which {problem}")


def _join_bridge(name: str, bridge: str) -> None:
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
