# SPDX-License-Identifier: BSD-2-Clause
"""What this node has: memory, processors, sockets and memory nodes, from /proc and /sys; and room for our files."""

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

#: The request for an interface's address, and the longest name with its end. Source: linux/sockios.h, linux/if.h.
_GET_ADDRESS: Final = 0x8915
_NAME_BYTES: Final = 15


def parse_meminfo(text: str) -> dict[str, int]:
    """Return the amounts of memory in ``/proc/meminfo``, in KiB by name.

    Lines that count something else, such as huge pages, are left out.

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
    """Return the numbers in a list as the kernel writes it, such as ``0-3,8``; empty text is an empty list.

    Raises:
        ValueError: it is no such list.

    Source: the kernel's admin-guide, cputopology: "list format".
    """
    numbers: set[int] = set()
    for part in text.strip().split(",") if text.strip() else ():
        first, dash, last = part.partition("-")
        numbers.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(numbers)


def parse_sockets(package_ids: Iterable[str]) -> int:
    """Return how many sockets processors are in.

    Args:
        package_ids: what ``topology/physical_package_id`` says of each processor; -1 where the kernel does not know.
    """
    return max(1, len({int(text) for text in package_ids} - {-1}))


def read_online_cpus(*, root: Path = Path("/")) -> frozenset[int]:
    """Read which processors this node has that are online, by number.

    Args:
        root: where /sys is.

    Raises:
        HypervisorError: the kernel does not say.
    """
    path = root / "sys/devices/system/cpu/online"
    try:
        return parse_list(path.read_text())
    except (OSError, ValueError) as error:
        raise HypervisorError(f"cannot read what this node has: {error}") from error


def read_numa_nodes(*, root: Path = Path("/")) -> frozenset[int]:
    """Read which nodes of memory this node has, by number. A kernel without NUMA has one, number 0.

    Args:
        root: where /sys is.

    Raises:
        HypervisorError: the kernel does not say.
    """
    path = root / "sys/devices/system/node/online"
    try:
        return parse_list(path.read_text()) if path.exists() else frozenset({0})
    except (OSError, ValueError) as error:
        raise HypervisorError(f"cannot read what this node has: {error}") from error


def read_node_info(*, hypervisor_version: tuple[int, ...] | None = None, root: Path = Path("/")) -> NodeInfo:
    """Read what this node has. Changes nothing.

    Args:
        hypervisor_version: to be handed on; None where there is nothing that runs instances.
        root: where /proc and /sys are.

    Raises:
        HypervisorError: the kernel does not say.
    """
    cpus = root / "sys/devices/system/cpu"
    try:
        memory = parse_meminfo((root / "proc/meminfo").read_text())
        online = read_online_cpus(root=root)
        packages = [path.read_text() for path in cpus.glob("cpu[0-9]*/topology/physical_package_id")]
        numa_nodes = read_numa_nodes(root=root)
        total, free = memory["MemTotal"], memory["MemAvailable"]
    except (OSError, ValueError) as error:
        raise HypervisorError(f"cannot read what this node has: {error}") from error
    except KeyError as error:
        raise HypervisorError(f"cannot read what this node has: /proc/meminfo does not say {error}") from error
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
    """Return the IPv4 address of a network interface, or what is an address already; nothing where there is neither."""
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
    """Return what keeps us from making files in a directory, which need not exist yet; empty for nothing.

    Changes nothing.

    Args:
        path: the directory; absolute.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return find_obstacle(path.parent)
    except OSError as error:
        return f"{path} cannot be looked at: {error.strerror}"
    if not stat.S_ISDIR(mode):
        return f"{path} is no directory"
    return "" if os.access(path, os.W_OK | os.X_OK) else f"{path} cannot be written to"
