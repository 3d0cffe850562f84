# SPDX-License-Identifier: BSD-2-Clause
"""Resources of the node, from /proc and /sys: memory, CPUs, NUMA nodes, network addresses, usable directories."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hvkit.errors import HypervisorError
from hvkit.hypervisor.model.reports import NodeInfo

_KIB_PER_MIB = 1024

#: The ioctl for the address of an interface, and the size of a name without its NUL.
#: Source: linux/sockios.h, linux/if.h.
_GET_ADDRESS: Final = 0x8915
_NAME_BYTES: Final = 15


def parse_meminfo(text: str) -> dict[str, int]:
    """Return the amounts of memory in ``/proc/meminfo``, in KiB, by name.

    Lines in another unit, such as numbers of huge pages, are ignored.

    Source: proc(5), ``/proc/meminfo``.
    """
    amounts = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        match rest.split():
            case [number, "kB"] if number.isdecimal():
                amounts[name] = int(number)
    return amounts


def parse_list(text: str) -> frozenset[int]:
    """Parse a list of numbers in the format of the kernel, such as ``0-3,8``; empty text is an empty list.

    Raises:
        ValueError: the text is not such a list.

    Source: the kernel's admin-guide, cputopology: "list format".
    """
    numbers: set[int] = set()
    for part in text.strip().split(",") if text.strip() else ():
        first, dash, last = part.partition("-")
        numbers.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(numbers)


def parse_sockets(package_ids: Iterable[str]) -> int:
    """Return the number of CPU sockets.

    Args:
        package_ids: the content of ``topology/physical_package_id`` of each CPU; -1 if the kernel does not know it.
    """
    return max(1, len({int(text) for text in package_ids} - {-1}))


def read_online_cpus(*, root: Path = Path("/")) -> frozenset[int]:
    """Read the numbers of the online CPUs of this node.

    Args:
        root: the directory that contains /sys.

    Raises:
        HypervisorError: it cannot be read.
    """
    path = root / "sys/devices/system/cpu/online"
    try:
        return parse_list(path.read_text())
    except (OSError, ValueError) as error:
        raise HypervisorError(f"cannot read the resources of this node: {error}") from error


def read_numa_nodes(*, root: Path = Path("/")) -> frozenset[int]:
    """Read the numbers of the NUMA nodes. A kernel without NUMA has one, number 0.

    Args:
        root: the directory that contains /sys.

    Raises:
        HypervisorError: it cannot be read.
    """
    path = root / "sys/devices/system/node/online"
    try:
        return parse_list(path.read_text()) if path.exists() else frozenset({0})
    except (OSError, ValueError) as error:
        raise HypervisorError(f"cannot read the resources of this node: {error}") from error


def read_node_info(*, hypervisor_version: tuple[int, ...] | None = None, root: Path = Path("/")) -> NodeInfo:
    """Read the resources of this node. Changes nothing.

    Args:
        hypervisor_version: a member of the result; None if no hypervisor is installed.
        root: the directory that contains /proc and /sys.

    Raises:
        HypervisorError: it cannot be read.
    """
    cpus = root / "sys/devices/system/cpu"
    try:
        memory = parse_meminfo((root / "proc/meminfo").read_text())
        online = read_online_cpus(root=root)
        packages = [path.read_text() for path in cpus.glob("cpu[0-9]*/topology/physical_package_id")]
        numa_nodes = read_numa_nodes(root=root)
        total, free = memory["MemTotal"], memory["MemAvailable"]
    except (OSError, ValueError) as error:
        raise HypervisorError(f"cannot read the resources of this node: {error}") from error
    except KeyError as error:
        raise HypervisorError(f"cannot read the resources of this node: /proc/meminfo has no line {error}") from error
    return NodeInfo(
        memory_total_mib=total // _KIB_PER_MIB,
        memory_free_mib=free // _KIB_PER_MIB,
        memory_used_mib=(total - free) // _KIB_PER_MIB,
        cpu_total=len(online),
        cpu_sockets=parse_sockets(packages),
        numa_nodes=len(numa_nodes),
        hypervisor_version=hypervisor_version,
    )


def find_interface_address(interface: str) -> str:
    """Return the IPv4 address of a network interface, or an empty string. An IP address is returned unchanged."""
    try:
        return str(ipaddress.ip_address(interface))
    except ValueError:
        pass
    request = struct.pack("256s", os.fsencode(interface)[:_NAME_BYTES])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, _GET_ADDRESS, request)
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])


def find_obstacle(path: Path) -> str:
    """Return the reason why this process cannot create files in a directory; empty if it can. Changes nothing.

    Args:
        path: the directory; absolute. It may not exist yet.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return find_obstacle(path.parent)
    except OSError as error:
        return f"{path} cannot be accessed: {error.strerror}"
    if not stat.S_ISDIR(mode):
        return f"{path} is not a directory"
    return "" if os.access(path, os.W_OK | os.X_OK) else f"{path} is not writable"
