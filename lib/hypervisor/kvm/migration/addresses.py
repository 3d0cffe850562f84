# SPDX-License-Identifier: BSD-2-Clause
"""Target addresses of migrations: unix sockets, TCP addresses, and sockets that are already connected."""

import contextlib
import ipaddress
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from hvkit.hypervisor.errors import MigrationError
from hvkit.hypervisor.model import check_kind
from hvkit.qmp import QmpConnection
from hvkit.qmp.descriptors import passed


def with_port(target: str | int, parameters: Mapping[str, Any]) -> str | int:
    """Return a target with the port of the parameter `migration_port` if it is a host without a port.

    Raises:
        ProgrammerError: it is neither text nor a descriptor.
    """
    check_kind(target, str, int)
    if isinstance(target, int) or target.startswith("/"):
        return target
    try:
        address = ipaddress.ip_address(target.strip("[]"))
    except ValueError:
        is_host = bool(target) and ":" not in target
        return f"{target}:{parameters['migration_port']}" if is_host else target
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"{host}:{parameters['migration_port']}"


def check_target(name: str, target: str | int, parameters: Mapping[str, Any]) -> None:
    """Check that a target is the path of a unix socket, ``host:port``, or the descriptor of a socket.

    Args:
        name: the name of the instance.
        target: the target.
        parameters: the parameters of the instance, with defaults.

    Raises:
        MigrationError: it is not, or QEMU runs in a root directory that does not contain the path.
        ProgrammerError: it is neither text nor a descriptor.
    """
    check_kind(target, str, int)
    if isinstance(target, int):
        _check_descriptor(name, target)
    elif not _to_uri(target):
        raise MigrationError(name, f"expected an absolute path or host:port to migrate to, got {target!r}")
    elif target.startswith("/") and parameters["use_chroot"]:
        problem = f"its QEMU runs in another root directory (use_chroot) and cannot reach the socket {target}"
        raise MigrationError(name, f"{problem}: use host:port or a connected socket")


def _check_descriptor(name: str, descriptor: int) -> None:
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except (OSError, OverflowError) as error:
        raise MigrationError(name, f"expected an open socket to migrate over, got {descriptor}: {error}") from error
    if not is_socket:
        raise MigrationError(
            name, f"expected a socket to migrate over, got {descriptor}, which is another kind of file"
        )


def _to_uri(target: str) -> str:
    """Return the URI of a target in QEMU's syntax; empty if the target is not valid."""
    if target.startswith("/") and "\0" not in target:
        return f"unix:{target}"
    host, colon, port = target.rpartition(":")
    if host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16 and "," not in host:
        return f"tcp:{target}"
    return ""


@contextlib.contextmanager
def migration_uri(monitor: QmpConnection, target: str | int) -> Iterator[str]:
    """Yield the URI of a checked target in QEMU's syntax. A socket is passed to QEMU for the duration of the block."""
    if isinstance(target, int):
        with passed(monitor, target) as name:
            yield f"fd:{name}"
    else:
        yield _to_uri(target)


def listening_path(target: str | int) -> str:
    """Return the path of the unix socket on which a destination listens; empty for any other target."""
    return target if isinstance(target, str) and target.startswith("/") else ""
