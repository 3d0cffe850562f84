# SPDX-License-Identifier: BSD-2-Clause
"""Look at a QEMU that somebody else started, through its monitor. Nothing of it is changed.

Its process is the one that began to listen on the monitor, says the kernel, and that still holds that very socket.
QEMU begins to listen also on a socket that it was given open, but for the first moments of its life.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import AdoptionError
from hvkit.hypervisor.kvm.host.listeners import holds_listener
from hvkit.hypervisor.kvm.host.process import ProcessError, ProcessIdentity, read_identity
from hvkit.hypervisor.model.reports import ExternalBlockNode, ExternalDevice, ExternalInstance, ExternalNic
from hvkit.qmp import CommandError, QmpConnection
from hvkit.qmp.schema import (
    ChardevInfo,
    QomGet,
    QomList,
    QueryChardev,
    QueryCpusFast,
    QueryKvm,
    QueryMemorySizeSummary,
    QueryName,
    QueryNamedBlockNodes,
    QueryStatus,
    QueryUuid,
)

_MIB: Final = 1 << 20
_NO_UUID: Final = UUID(int=0)
_MACHINE: Final = "/machine"
#: Where QEMU keeps devices: those that have a name, those without one, and those that come with the machine.
_NAMED, _UNNAMED, _OWN = (f"{_MACHINE}/{part}" for part in ("peripheral", "peripheral-anon", "unattached"))
#: How QEMU writes that something is part of something else, and what it adds to the type of a machine.
_CHILD: Final = "child<"
_MACHINE_SUFFIX: Final = "-machine"
_SERIAL_PORT: Final = "isa-serial"


def examine(monitor: str) -> ExternalInstance:
    """Return what a machine is, as `BaseHypervisor.inspect_monitor` says.

    Raises:
        AdoptionError: it is not a QEMU of its own that listens there, or that may not be looked at.
        QmpError: the monitor is not there, does not answer or does not tell.
    """
    with QmpConnection(monitor) as connection:
        return read_facts(connection, monitor)


def find_owner(connection: QmpConnection, monitor: str) -> ProcessIdentity:
    """Return the process of the QEMU at the other end of a connection.

    Raises:
        AdoptionError: it is not the one that listens there, or may not be looked at.
    """
    pid = connection.peer_pid
    try:
        identity = read_identity(pid) if pid else None
        if identity is None or not holds_listener(identity.pid, Path(monitor)):
            made_by = f"process {pid}" if pid else "a process that cannot be seen from here"
            problem = f"{made_by} made this monitor and does not hold it: whose QEMU it is, is not known"
            raise AdoptionError(monitor, problem)
    except ProcessError as error:
        raise AdoptionError(monitor, str(error)) from error
    return identity


def read_facts(connection: QmpConnection, monitor: str) -> ExternalInstance:
    """Return what the machine at the other end of a connection is.

    Raises:
        AdoptionError: whose process it is, is not known.
        QmpError: it does not tell.
    """
    identity = find_owner(connection, monitor)
    process = Path(f"/proc/{identity.pid}")
    try:
        account = process.stat()
        binary = os.readlink(process / "exe")
    except OSError as error:
        raise AdoptionError(monitor, f"process {identity.pid}: {error.strerror}") from error
    status = connection.execute(QueryStatus())
    memory = connection.execute(QueryMemorySizeSummary())
    uuid = UUID(connection.execute(QueryUuid()).UUID)
    devices = list(_find_devices(connection))
    return ExternalInstance(
        monitor=monitor,
        name=connection.execute(QueryName()).name or "",
        uuid=None if uuid == _NO_UUID else uuid,
        pid=identity.pid,
        start_ticks=identity.start_time,
        uid=account.st_uid,
        gid=account.st_gid,
        binary=binary,
        version=connection.version[:3],
        machine_type=str(_get(connection, _MACHINE, "type")).removesuffix(_MACHINE_SUFFIX),
        has_kvm=connection.execute(QueryKvm()).enabled,
        has_acpi=_has_acpi(connection),
        memory_mib=(memory.base_memory + (memory.plugged_memory or 0)) // _MIB,
        vcpus=len(connection.execute(QueryCpusFast())),
        status=status.status,
        is_running=status.running,
        block_nodes=tuple(
            ExternalBlockNode(
                name=node.node_name or "", driver=node.drv, filename=node.image.filename, is_read_only=node.ro
            )
            for node in connection.execute(QueryNamedBlockNodes(flat=True))
        ),
        devices=tuple(
            ExternalDevice(id=each.name if each.parent == _NAMED else "", driver=each.driver)
            for each in devices
            if each.parent != _OWN
        ),
        nics=tuple(
            ExternalNic(
                driver=each.driver,
                mac=str(_get(connection, each.path, "mac")),
                netdev=str(_get(connection, each.path, "netdev")),
            )
            for each in devices
            if {"mac", "netdev"} <= each.properties
        ),
        serial_console=_find_serial_console(connection, devices),
    )


@attrs.frozen
class _Device:
    """A device, by where it is in QEMU's tree of objects."""

    parent: str
    name: str
    driver: str
    properties: frozenset[str]

    @property
    def path(self) -> str:
        return f"{self.parent}/{self.name}"


def _find_devices(connection: QmpConnection) -> Iterator[_Device]:
    """Find the devices that a machine was given, and those of its own that somebody outside is connected to."""
    for parent in (_NAMED, _UNNAMED, _OWN):
        for member in connection.execute(QomList(path=parent)):
            if not member.type.startswith(_CHILD):
                continue
            try:
                found = connection.execute(QomList(path=f"{parent}/{member.name}"))
            except CommandError:  # it has just been taken out
                continue
            properties = frozenset(each.name for each in found)
            driver = member.type.removeprefix(_CHILD).removesuffix(">")
            if parent != _OWN or properties & {"mac", "chardev"}:
                yield _Device(parent, member.name, driver, properties)


def _get(connection: QmpConnection, path: str, member: str) -> Any:
    return connection.execute(QomGet(path=path, property=member))


def _has_acpi(connection: QmpConnection) -> bool:
    try:
        return bool(_get(connection, _MACHINE, "acpi") != "off")
    except CommandError:  # this kind of machine cannot be without it, or never has it: then nobody obeys
        return True


def _find_serial_console(connection: QmpConnection, devices: list[_Device]) -> str:
    """Return where the first serial port can be reached; empty for nowhere."""
    ports = {_get(connection, each.path, "index"): each for each in devices if each.driver == _SERIAL_PORT}
    if not ports:
        return ""
    label = _get(connection, ports[min(ports)].path, "chardev")
    return next((_socket_of(each) for each in connection.execute(QueryChardev()) if each.label == label), "")


def _socket_of(chardev: ChardevInfo) -> str:
    """Return the path of a socket that a character device listens on; empty for everything else."""
    kind, _, path = chardev.filename.removeprefix("disconnected:").partition(":")
    path, is_server, _ = path.partition(",server=on")
    return path if kind == "unix" and is_server and path.startswith("/") else ""
