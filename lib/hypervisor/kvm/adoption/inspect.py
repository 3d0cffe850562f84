# SPDX-License-Identifier: BSD-2-Clause
"""Inspection of a QEMU that hvkit did not start, through its monitor. QEMU is not changed.

The kernel reports the process that called listen() on the socket of the monitor. It is taken as the process of QEMU if
it still has that socket open. QEMU also calls listen() on a socket that it inherited, shortly after its start.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import AdoptionError, ParameterError
from hvkit.hypervisor.kvm.host.listeners import holds_listener
from hvkit.hypervisor.kvm.host.process import ProcessError, ProcessIdentity, read_identity
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import check_kind, is_absolute_path
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
#: The QOM containers of devices: with an id, without one, and built into the machine.
_NAMED, _UNNAMED, _BUILT_IN = (f"{_MACHINE}/{part}" for part in ("peripheral", "peripheral-anon", "unattached"))
#: The prefix of the QOM type of a child object, and the suffix of the QOM type of a machine.
_CHILD: Final = "child<"
_MACHINE_SUFFIX: Final = "-machine"
_SERIAL_PORT: Final = "isa-serial"


class InspectVerbs(KvmSubject):
    """Inspects external instances."""

    def inspect_monitor(self, monitor: str | os.PathLike[str]) -> ExternalInstance:
        path = check_path("monitor", monitor)
        with QmpConnection(path) as connection:
            return read_instance(connection, path)


def check_path(parameter: str, path: str | os.PathLike[str]) -> str:
    """Return a path as text.

    Raises:
        ParameterError: it is not absolute.
    """
    check_kind(path, str, os.PathLike)
    text = os.fspath(path)
    if not is_absolute_path(text):
        raise ParameterError(parameter, text, f"expected an absolute path, got {text!r}")
    return text


def read_instance(connection: QmpConnection, monitor: str) -> ExternalInstance:
    """Describe the QEMU at the other end of a connection.

    Args:
        connection: to its monitor.
        monitor: the path of the monitor.

    Raises:
        AdoptionError: its process cannot be identified.
        QmpError: it does not answer.
    """
    identity = _find_process(connection, monitor)
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
        block_nodes=tuple(_find_block_nodes(connection)),
        devices=tuple(
            ExternalDevice(id=each.name if each.parent == _NAMED else "", driver=each.driver)
            for each in devices
            if each.parent != _BUILT_IN
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


def _find_process(connection: QmpConnection, monitor: str) -> ProcessIdentity:
    """Find the process of the QEMU at the other end of a connection.

    Raises:
        AdoptionError: it cannot be identified.
    """
    pid = connection.peer_pid
    try:
        identity = read_identity(pid) if pid else None
        if identity is None or not holds_listener(identity.pid, Path(monitor)):
            creator = f"process {pid}" if pid else "a process that is not visible from here"
            problem = f"{creator} created this monitor but does not hold it: the process of QEMU is unknown"
            raise AdoptionError(monitor, problem)
    except ProcessError as error:
        raise AdoptionError(monitor, str(error)) from error
    return identity


@attrs.frozen
class _Device:
    """A device in the QOM tree."""

    parent: str
    name: str
    driver: str
    properties: frozenset[str]

    @property
    def path(self) -> str:
        return f"{self.parent}/{self.name}"


def _find_block_nodes(connection: QmpConnection) -> Iterator[ExternalBlockNode]:
    for node in connection.execute(QueryNamedBlockNodes(flat=True)):
        yield ExternalBlockNode(
            name=node.node_name or "", driver=node.drv, filename=node.image.filename, is_read_only=node.ro
        )


def _find_devices(connection: QmpConnection) -> Iterator[_Device]:
    """Find the devices that were configured, and the built-in ones that are connected to a netdev or a chardev."""
    for parent in (_NAMED, _UNNAMED, _BUILT_IN):
        for member in connection.execute(QomList(path=parent)):
            if not member.type.startswith(_CHILD):
                continue
            try:
                found = connection.execute(QomList(path=f"{parent}/{member.name}"))
            except CommandError:  # it was just removed
                continue
            properties = frozenset(each.name for each in found)
            driver = member.type.removeprefix(_CHILD).removesuffix(">")
            if parent != _BUILT_IN or properties & {"mac", "chardev"}:
                yield _Device(parent, member.name, driver, properties)


def _get(connection: QmpConnection, path: str, member: str) -> Any:
    return connection.execute(QomGet(path=path, property=member))


def _has_acpi(connection: QmpConnection) -> bool:
    try:
        return bool(_get(connection, _MACHINE, "acpi") != "off")
    except CommandError:  # the machine type always or never has ACPI; without it a power button event has no effect
        return True


def _find_serial_console(connection: QmpConnection, devices: list[_Device]) -> str:
    """Return the socket of the first serial port; empty if it has none."""
    ports = {_get(connection, each.path, "index"): each for each in devices if each.driver == _SERIAL_PORT}
    if not ports:
        return ""
    label = _get(connection, ports[min(ports)].path, "chardev")
    return next((_socket_of(each) for each in connection.execute(QueryChardev()) if each.label == label), "")


def _socket_of(chardev: ChardevInfo) -> str:
    """Return the unix socket that a character device listens on; empty for other character devices."""
    kind, _, path = chardev.filename.removeprefix("disconnected:").partition(":")
    path, is_server, _ = path.partition(",server=on")
    return path if kind == "unix" and is_server and path.startswith("/") else ""
