# SPDX-License-Identifier: BSD-2-Clause
"""What both halves of a migration have in common: its addresses, its settings, and what QEMU says of it."""

import contextlib
import ipaddress
import os
import stat
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hvkit.hypervisor.errors import InstanceStateError, MigrationError
from hvkit.hypervisor.kvm.host.nics import take_down_nics
from hvkit.hypervisor.kvm.host.paths import remove_socket
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.instance.handle import QUERY_S, InstanceHandle
from hvkit.hypervisor.kvm.migration.tls import set_credentials
from hvkit.hypervisor.model import MigrationState
from hvkit.hypervisor.model.reports import MigrationStatus
from hvkit.qmp import QmpConnection, QmpError
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.descriptors import passed
from hvkit.qmp.schema import (
    MigrateCancel,
    MigrateSetCapabilities,
    MigrateSetParameters,
    MigrationCapability,
    MigrationCapabilityStatus,
    QCryptoTLSCredsEndpoint,
    QueryMigrate,
    QueryMigrateCapabilities,
)
from hvkit.qmp.schema import MigrationInfo as Progress

_MIB: Final = 1 << 20

#: What each status of QEMU's means. One that is newer than this table is taken for a phase of a migration that goes on.
#: Source: QAPI module `migration`, definition `MigrationStatus`.
_STATES: Final = {
    None: MigrationState.NONE,
    "none": MigrationState.NONE,
    "postcopy-active": MigrationState.POSTCOPY,
    "postcopy-device": MigrationState.POSTCOPY,
    "postcopy-recover-setup": MigrationState.POSTCOPY,
    "postcopy-recover": MigrationState.POSTCOPY,
    "postcopy-paused": MigrationState.PAUSED,
    "completed": MigrationState.COMPLETED,
    "failed": MigrationState.FAILED,
    "cancelled": MigrationState.CANCELLED,
}

#: The guest is with the destination, and part of its memory is not.
HAS_LEFT: Final = (MigrationState.POSTCOPY, MigrationState.PAUSED)
#: Seconds that a migration has to end when it is cancelled, or when both ends know that it is over.
SETTLE_S: Final = 10.0
#: Seconds between two looks at something that is about to happen.
LOOK_AGAIN_S: Final = 0.05
#: Seconds that QEMU has to answer who carries out a migration: one that sends has more to do than one that idles, and
#: giving up too early costs a migration.
ANSWER_S: Final = 20.0


def with_port(target: str | int, parameters: Mapping[str, Any]) -> str | int:
    """Return a target with the port of the parameter `migration_port`, where it is an address and nothing else."""
    if isinstance(target, int) or target.startswith("/"):
        return target
    try:
        address = ipaddress.ip_address(target.strip("[]"))
    except ValueError:
        is_alone = bool(target) and ":" not in target
        return f"{target}:{parameters['migration_port']}" if is_alone else target
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"{host}:{parameters['migration_port']}"


def check_target(name: str, target: str | int, parameters: Mapping[str, Any]) -> None:
    """Make sure that something can be an address: the path of a unix socket, ``host:port``, or a connected socket.

    Args:
        name: of the instance.
        target: the address.
        parameters: of the instance, filled.

    Raises:
        MigrationError: it is none of these, or the machine has a root directory in which that path is not.
    """
    if isinstance(target, int):
        _check_socket(name, target)
    elif not _to_uri(target):
        raise MigrationError(name, f"expected an absolute path or host:port to migrate to, got {target!r}")
    elif target.startswith("/") and parameters["use_chroot"]:
        problem = f"its QEMU has another root directory (use_chroot), and does not reach the socket {target}"
        raise MigrationError(name, f"{problem}: use host:port, or a socket that is connected")


def _check_socket(name: str, descriptor: int) -> None:
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except (OSError, OverflowError) as error:
        raise MigrationError(name, f"expected an open socket to migrate over, got {descriptor}: {error}") from error
    if not is_socket:
        raise MigrationError(name, f"expected a socket to migrate over, and {descriptor} is none")


def _to_uri(target: str) -> str:
    if target.startswith("/") and "\0" not in target:
        return f"unix:{target}"
    host, colon, port = target.rpartition(":")
    if host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16 and "," not in host:
        return f"tcp:{target}"
    return ""


@contextlib.contextmanager
def migration_uri(monitor: QmpConnection, target: str | int) -> Iterator[str]:
    """Tell QEMU of an address that was checked, and give what it calls that. A socket it is lent for the block."""
    if isinstance(target, int):
        with passed(monitor, target) as name:
            yield f"fd:{name}"
    else:
        yield _to_uri(target)


def incoming_socket(target: str | int) -> str:
    """Return the path on which a destination waits at an address; empty where that is no unix socket."""
    return target if isinstance(target, str) and target.startswith("/") else ""


def wanted_capabilities(parameters: Mapping[str, Any]) -> set[MigrationCapability]:
    """Return the capabilities of QEMU that both ends switch on. All others are off.

    Without the return path a source takes for arrived what was sent, even if nobody is there any more.
    """
    return {
        "events",
        "return-path",
        *filter(None, parameters["migration_caps"].split(":")),
    }  # the parameter's syntax sees to that


def configure(
    monitor: QmpConnection, parameters: Mapping[str, Any], endpoint: QCryptoTLSCredsEndpoint, *more: MigrationCapability
) -> None:
    """Set what both ends have to agree on, and how much the guest may be disturbed.

    All of it: an earlier attempt, with other parameters, leaves nothing switched on.

    Args:
        monitor: of the machine.
        parameters: of its instance, filled.
        endpoint: "client" where it is sent, "server" where it waits.
        more: capabilities besides those that the parameters name.

    Raises:
        CommandError: QEMU does not take that.
    """
    _set_capabilities(monitor, wanted_capabilities(parameters) | set(more))
    set_credentials(monitor, parameters, endpoint)
    bandwidth = parameters["migration_bandwidth"] * _MIB
    monitor.execute(
        MigrateSetParameters(
            max_bandwidth=bandwidth, max_postcopy_bandwidth=bandwidth, downtime_limit=parameters["migration_downtime"]
        )
    )


def reset_capabilities(monitor: QmpConnection) -> None:
    """Switch off all that a migration switched on: snapshots heed it, too. QEMU 7.2 and 10.0 die over "multifd".

    Raises:
        CommandError: a migration is going on.
    """
    _set_capabilities(monitor, set())


def _set_capabilities(monitor: QmpConnection, wanted: set[MigrationCapability]) -> None:
    states = {each.capability: each.state for each in monitor.execute(QueryMigrateCapabilities())}
    changes = [
        MigrationCapabilityStatus(capability=each, state=each in wanted)
        for each in sorted({*states, *wanted})
        if states.get(each) is not (each in wanted)
    ]
    if changes:
        monitor.execute(MigrateSetCapabilities(capabilities=changes))


@contextlib.contextmanager
def translate_errors(handle: InstanceHandle) -> Iterator[None]:
    """Tell of a QEMU that does not answer what that means for a migration."""
    try:
        yield
    except QmpError as error:
        raise MigrationError(handle.name, f"what became of it is not known: {error}") from error


@contextlib.contextmanager
def monitor_session(handle: InstanceHandle, *, timeout_s: float = ANSWER_S) -> Iterator[QmpConnection]:
    """Open a monitor, and tell in terms of the migration what QEMU refuses or does not answer."""
    try:
        with handle.connected(timeout_s=timeout_s) as monitor:
            yield monitor
    except (QmpError, InstanceStateError) as error:
        raise MigrationError(handle.name, str(error)) from error


def forget(runtime: Runtime, handle: InstanceHandle) -> None:
    """Remove what is left of an instance that has no process here any more."""
    take_down_nics(runtime)
    remove_socket(runtime.incoming_socket)
    remove_socket(runtime.copies_target)
    handle.paths.remove()


# ---- how far it is


def read_status(handle: InstanceHandle) -> MigrationStatus:
    """Return how far a migration is, as `BaseHypervisor.get_migration_status` says.

    Raises:
        MigrationError: its QEMU does not say.
    """
    with monitor_session(handle, timeout_s=QUERY_S) as monitor:
        return ask_status(monitor)


def ask_status(monitor: QmpConnection, *, timeout_s: float | None = None) -> MigrationStatus:
    """Return what QEMU says of a migration.

    The first time it says that one is over, its figures may still be missing.

    Args:
        monitor: of the machine.
        timeout_s: seconds that QEMU has to answer; None for what such a command has.
    """
    progress = monitor.execute(QueryMigrate(), timeout=timeout_s)
    if progress.status == "completed":
        progress = monitor.execute(QueryMigrate(), timeout=timeout_s)
    return _to_status(progress)


def _to_status(progress: Progress) -> MigrationStatus:
    ram = progress.ram
    return MigrationStatus(
        status=_STATES.get(progress.status, MigrationState.ACTIVE),
        phase=progress.status or "",
        transferred_bytes=None if ram is None else ram.transferred,
        remaining_bytes=None if ram is None else ram.remaining,
        total_bytes=None if ram is None else ram.total,
        total_time_ms=progress.total_time,
        downtime_ms=progress.downtime,
        expected_downtime_ms=progress.expected_downtime,
        reason=progress.error_desc or "",
    )


def cancel(monitor: QmpConnection, runtime: Runtime, handle: InstanceHandle) -> MigrationStatus:
    """End a migration that goes on, and return how it ended; that may be well. The caller holds the lock.

    QEMU would cancel one whose guest has left, too, and let the guest run here again while it runs there.

    Raises:
        MigrationError: it does not end, or its guest has left before its memory.
    """
    status = ask_status(monitor)
    if status.status in HAS_LEFT or (runtime.is_postcopy and status.status is MigrationState.ACTIVE):
        raise MigrationError(handle.name, "its guest is on the other node, and fetches its memory from here")
    monitor.execute(MigrateCancel())
    deadline = Deadline(SETTLE_S)
    while (status := ask_status(monitor)).status is MigrationState.ACTIVE:
        if deadline.remaining_s() <= 0:
            raise MigrationError(handle.name, f"it was cancelled, and goes on after {SETTLE_S:g} s")
        time.sleep(LOOK_AGAIN_S)
    return status
