# SPDX-License-Identifier: BSD-2-Clause
"""Tap interfaces of this node.

hvkit creates a tap and passes it to QEMU as open files, one for each queue. The tap is not persistent: the kernel
removes it, with its routes, when its last file is closed, and so at the end of QEMU. Persistent taps, created by other
software, are only opened.
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
#: The longest name of an interface: IFNAMSIZ is 16, with the zero at the end. Source: linux/if.h.
MAX_NAME: Final = 15
#: Seconds that a program for an interface may take.
_TOOL_S: Final = 30.0
#: The number of characters of its output that an error quotes, from the end.
_QUOTED_CHARACTERS: Final = 500
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
    """An open tap. The owner of the value closes it.

    Unless it is persistent, the tap exists until its last file is closed in any process.

    Attributes:
        name: the name of the interface.
        queues: its open files, one for each queue.
        vhosts: for each queue an open vhost-net device; empty without vhost.
    """

    name: str
    queues: tuple[int, ...]
    vhosts: tuple[int, ...] = ()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All open descriptors."""
        return self.queues + self.vhosts

    def close(self) -> None:
        """Close the descriptors of this process. A process that inherited copies keeps the tap."""
        for descriptor in self.descriptors:
            os.close(descriptor)


@attrs.frozen(kw_only=True)
class TapOptions:
    """How taps are opened.

    Attributes:
        queues: the number of queues, and so of vCPUs that can send and receive at the same time.
        vnet_hdr: whether packets have a virtio header, which allows checksum and segmentation offload.
        vhost: whether to use vhost-net, if the kernel has it.
    """

    queues: int = 1
    vnet_hdr: bool = True
    vhost: bool = False


class NetworkError(HypervisorError):
    """Raised when the network interface of a NIC cannot be created, opened or configured.

    Attributes:
        interface: the name of the interface.
        problem: what failed, and why.
    """

    def __init__(self, interface: str, problem: str) -> None:
        super().__init__(interface, problem)
        self.interface = interface
        self.problem = problem

    def __str__(self) -> str:
        return f"network interface {self.interface}: {self.problem}"


def make_tap(name: str, options: TapOptions | None = None, *, bridge: str = "", mtu: int = 0) -> Tap:
    """Create a tap, add it to a bridge and bring it up.

    After success the caller owns the tap. After failure the tap does not exist.

    Args:
        name: the name of the interface, which must not exist.
        options: how it is opened; None for one queue and the defaults.
        bridge: the bridge to add it to; empty for none.
        mtu: its MTU, in bytes; 0 for that of the bridge, or the default of the kernel.

    Raises:
        NetworkError: the kernel does not permit it, the interface exists, the bridge does not, or the MTU is invalid.
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
    """Open an existing persistent tap, unchanged. Closing it does not remove it.

    Args:
        name: the name of the interface.
        options: how it is opened; it has to have been created with the same queues and headers.

    Raises:
        NetworkError: the interface does not exist, is not a tap, or is open in another process.
    """
    if not (_NET / name / "tun_flags").exists():
        problem = "is not a tap" if has_interface(name) else "does not exist"
        raise NetworkError(name, f"cannot be used: it {problem}")
    return _open_tap(name, options or TapOptions(), 0)


def route_to(name: str, address: str, *, table: str = "") -> None:
    """Enable forwarding and proxy ARP on a tap, and add a route for an address. The kernel removes both with the tap.

    Args:
        name: the tap, which is up.
        address: the IPv4 or IPv6 address of the guest; empty for no route.
        table: the routing table, by name or number; empty for the main one.

    Raises:
        NetworkError: the kernel refuses, or the program ``ip`` does not exist.
    """
    for setting in ("ipv4/conf/{}/proxy_arp", "ipv4/conf/{}/forwarding", "ipv6/conf/{}/forwarding"):
        path = _SYSCTL / setting.format(name)
        with _translate_errors(name, f"cannot enable forwarding ({path})"), contextlib.suppress(FileNotFoundError):
            path.write_text("1", encoding="ascii")
    if not address:
        return
    family = "-6" if ":" in address else "-4"
    length = 128 if ":" in address else 32
    command = ["ip", family, "route", "replace", f"{address}/{length}", "dev", name]
    run_tool(name, [*command, *(["table", table] if table else [])])


def run_tool(name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a program for an interface and wait for its end. Its background processes keep running.

    Args:
        name: the interface, for the error.
        command: the program and its arguments, without a shell.
        environment: its environment variables beside PATH; None for none.

    Raises:
        NetworkError: it cannot be run, takes too long, or fails. The error quotes the end of its output.
    """
    try:
        # Not a pipe: background processes of the program would keep it open.
        with open(os.memfd_create("output", os.MFD_CLOEXEC), "r+b") as output:
            code = _run(command, {"PATH": _PATH, **(environment or {})}, output)
            output.seek(0)
            text = output.read().decode("utf-8", "replace").strip()[-_QUOTED_CHARACTERS:]
    except OSError as error:
        raise NetworkError(name, f"{command[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise NetworkError(name, f"{command[0]} did not end within {_TOOL_S:g} s") from error
    if code:
        raise NetworkError(name, f"{command[0]} failed with exit code {code}{': ' if text else ''}{text}")


def _run(command: Sequence[str], environment: Mapping[str, str], output: BinaryIO) -> int:
    """Run a program and return its exit code. After a timeout or an interrupt, kill its process group."""
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
    """Return whether this node has a network interface of that name."""
    return bool(name) and (_NET / name).exists()


def is_bridge(name: str) -> bool:
    """Return whether this node has a bridge of that name."""
    return bool(name) and (_NET / name / "bridge").is_dir()


def _open_tap(name: str, options: TapOptions, exclusively: int) -> Tap:
    if not 0 < len(os.fsencode(name)) <= MAX_NAME:
        raise NetworkError(name, f"the name of an interface has 1 to {MAX_NAME} bytes")
    flags = _IFF_TAP | _IFF_NO_PI | exclusively
    if options.vnet_hdr:
        flags |= _IFF_VNET_HDR
    if options.queues > 1:
        flags |= _IFF_MULTI_QUEUE
    queues: list[int] = []
    vhosts: list[int] = []
    try:
        for number in range(options.queues):
            # TUN_EXCL is for the first queue only: the others attach to the interface that it creates.
            wanted = flags if number == 0 else flags & ~_IFF_TUN_EXCL
            queues.append(_open_queue(name, wanted, is_existing=not exclusively or number > 0))
        if options.vhost:
            vhosts = _open_vhosts(name, options.queues)
    except BaseException:
        for descriptor in queues:
            os.close(descriptor)
        raise
    return Tap(name=name, queues=tuple(queues), vhosts=tuple(vhosts))


def _open_queue(name: str, flags: int, *, is_existing: bool) -> int:
    """Open one queue of a tap.

    Args:
        name: the name of the interface.
        flags: of TUNSETIFF.
        is_existing: whether the interface exists, and is not created by this call.
    """
    with _translate_errors(name, f"cannot open {_TUN}"):
        descriptor = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        reason = "another process has it open" if is_existing else "an interface of that name exists"
        with _translate_errors(name, "cannot be opened" if is_existing else "cannot be created", busy_reason=reason):
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack(_IFREQ_FLAGS, os.fsencode(name), flags))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_vhosts(name: str, count: int) -> list[int]:
    """Open a vhost-net device for each queue; none if this kernel has no vhost-net."""
    opened: list[int] = []
    try:
        for _ in range(count):
            with _translate_errors(name, f"cannot open {_VHOST}"):
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
    except (OSError, ValueError):  # adding the tap to the bridge reports the reason
        return 0


def _set_mtu(name: str, mtu: int) -> None:
    with _translate_errors(name, f"cannot set MTU to {mtu}"), _control_socket() as control:
        fcntl.ioctl(control, _SIOCSIFMTU, struct.pack(_IFREQ_INDEX, os.fsencode(name), mtu))


def check_bridge(name: str, bridge: str) -> None:
    """Check that the bridge of an interface exists.

    Args:
        name: the interface, for the error.
        bridge: the bridge.

    Raises:
        NetworkError: it does not exist, or is not a bridge.
    """
    if not is_bridge(bridge):
        problem = "is not a bridge" if has_interface(bridge) else "does not exist"
        raise NetworkError(name, f"cannot join bridge {bridge}, which {problem}")


def _join_bridge(name: str, bridge: str) -> None:
    with _translate_errors(name, f"cannot join bridge {bridge}"), _control_socket() as control:
        index = socket.if_nametoindex(name)
        fcntl.ioctl(control, _SIOCBRADDIF, struct.pack(_IFREQ_INDEX, os.fsencode(bridge), index))


def _set_up(name: str) -> None:
    with _translate_errors(name, "cannot be brought up"), _control_socket() as control:
        request = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack(_IFREQ_FLAGS, os.fsencode(name), 0))
        (_, flags) = struct.unpack(_IFREQ_FLAGS, request)
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack(_IFREQ_FLAGS, os.fsencode(name), flags | _IFF_UP))


def _control_socket() -> socket.socket:
    """Open a socket for ioctls on interfaces, which accept a socket of any kind."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


@contextlib.contextmanager
def _translate_errors(name: str, what: str, *, busy_reason: str = "") -> Iterator[None]:
    """Translate an OSError inside the block into a NetworkError; `busy_reason` is the reason for EBUSY."""
    try:
        yield
    except OSError as error:
        reason = busy_reason if busy_reason and error.errno == errno.EBUSY else error.strerror
        raise NetworkError(name, f"{what}: {reason}") from error
