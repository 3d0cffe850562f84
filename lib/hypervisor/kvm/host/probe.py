# SPDX-License-Identifier: BSD-2-Clause
"""Ask a QEMU program what it can do, and this host what it has of KVM.

A program is asked once: it is run without a machine, questioned over QMP and killed. The answers are kept in memory
and, where there is a directory for it, on disk, for as long as the program's file is the same.
"""

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

from hvkit.hypervisor.errors import ProgramError
from hvkit.hypervisor.kvm.plan.capabilities import OLDEST_VERSION, Capabilities, KvmHost, MachineType
from hvkit.qmp import QmpConnection
from hvkit.qmp.base import Command
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.errors import CommandError, ConnectError, ConnectionLost, QmpError
from hvkit.qmp.program import find_program, read_output_tail, run_program
from hvkit.qmp.program_cache import ProgramCache, ProgramIdentity, read_identity
from hvkit.qmp.schema import (
    QomListTypes,
    QueryCommandLineOptions,
    QueryCommands,
    QueryCpuDefinitions,
    QueryKvm,
    QueryMachines,
    QueryTarget,
)

R = TypeVar("R")

_log = logging.getLogger(__name__)

#: Part of a cache entry; another number where what is kept changes its meaning.
_CACHE_FORMAT: Final = 2

#: Modules of the kernel that drive the virtualization of a processor, and the one that does without.
_REAL_KVM_MODULES: Final = ("kvm_intel", "kvm_amd")
_EMULATED_KVM_MODULE: Final = "kvm_pvm"


#: By path, so that an upgraded program takes the place of what it replaces.
_known: dict[str, tuple[ProgramIdentity, Capabilities]] = {}


def probe_capabilities(
    binary: str, *, timeout_s: float = 10.0, cache_dir: Path | None = None, keeps: bool = True
) -> Capabilities:
    """Return what a QEMU program can do. It is run only if it was not asked before.

    Nothing of it runs afterwards, whatever happens.

    Args:
        binary: path of the program, or a name to look for in PATH.
        timeout_s: seconds that it has to answer everything.
        cache_dir: where answers are kept for other processes, and are believed. None: nowhere.
        keeps: whether to keep these answers there; the directory is made where it is missing.

    Raises:
        ProgramError: there is no such program, it cannot be run, it is not QEMU, it is too old, or it does not
            answer in time. The error names it and quotes what it said.
    """
    try:
        identity = find_program(binary)
    except ConnectError as error:
        raise ProgramError(binary, str(error)) from error
    path = identity.path
    known = _known.get(path)
    if known is not None and known[0] == identity:
        return known[1]
    cache = None if cache_dir is None else ProgramCache(cache_dir, "capabilities", _CACHE_FORMAT)
    capabilities = None if cache is None else _read_kept(cache, identity)
    if capabilities is None:
        capabilities = _ask(path, timeout_s)
        if keeps and cache is not None and read_identity(path) == identity:
            cache.write(identity, json.dumps(capabilities.to_plain(), separators=(",", ":")).encode())
    _known[path] = (identity, capabilities)
    return capabilities


def _read_kept(cache: ProgramCache, identity: ProgramIdentity) -> Capabilities | None:
    body = cache.read(identity)
    try:
        return None if body is None else Capabilities.from_plain(json.loads(body))
    except (ValueError, TypeError, KeyError) as error:
        _log.debug("ignoring what is kept of %s: %s", identity.path, error)
        return None


def read_kvm_host(device: Path = Path("/dev/kvm"), modules: Path = Path("/sys/module")) -> KvmHost:
    """Return what this host has of KVM, for this process's rights.

    Args:
        device: KVM's device.
        modules: where the kernel lists its modules.
    """
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return KvmHost(problem=f"{device}: {os.strerror(error.errno or 0)}")
    is_real = any((modules / name).exists() for name in _REAL_KVM_MODULES)
    return KvmHost(is_emulated=not is_real or (modules / _EMULATED_KVM_MODULE).exists())


def read_processor_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return what this node's processors can do, in the kernel's words; nothing where it does not say.

    Args:
        path: where the kernel describes them.
    """
    try:
        text = path.read_text()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2].split() for line in text.splitlines() if line.startswith("flags"))
    return frozenset(next(flags, ()))


# ---- asking


def _ask(binary: str, timeout_s: float) -> Capabilities:
    deadline = Deadline(timeout_s)
    with _explaining(binary), tempfile.TemporaryFile() as said:
        try:
            with run_program(binary, said) as connection:
                return _question(binary, connection, deadline)
        except QmpError as error:
            reason = error.reason if isinstance(error, (ConnectError, ConnectionLost)) else str(error)
            raise ProgramError(
                binary, f"{binary} does not answer like QEMU: {reason}", read_output_tail(said)
            ) from error


@contextlib.contextmanager
def _explaining(binary: str) -> Iterator[None]:
    """Turn what the kernel refuses into an error that names the program."""
    try:
        yield
    except OSError as error:
        raise ProgramError(binary, f"{binary} cannot be run: {os.strerror(error.errno or 0)}") from error


def _question(binary: str, connection: QmpConnection, deadline: Deadline) -> Capabilities:
    """Ask everything.

    Raises:
        QmpError: it does not answer, or not as QEMU would.
        ProgramError: it is too old.
    """

    def ask(command: Command[R]) -> R:
        return connection.execute(command, timeout=max(deadline.remaining_s(), 0.0))

    connection.connect(timeout=max(deadline.remaining_s(), 0.0))
    version = connection.version
    numbers = (version.major, version.minor, version.micro)
    if numbers < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION[:2]))
        found = ".".join(map(str, numbers))
        raise ProgramError(binary, f"{binary} is QEMU {found}; the oldest supported version is {oldest}")
    try:
        cpu_models = frozenset(model.name for model in ask(QueryCpuDefinitions()))
    except CommandError:  # not every architecture lists them
        cpu_models = frozenset()
    return Capabilities(
        binary=binary,
        version=numbers,
        package=version.package,
        target=ask(QueryTarget()).arch,
        has_kvm=ask(QueryKvm()).present,
        machines=tuple(
            MachineType(
                name=machine.name,
                alias=machine.alias or "",
                cpu_max=machine.cpu_max,
                is_deprecated=machine.deprecated,
            )
            for machine in ask(QueryMachines())
        ),
        devices=frozenset(each.name for each in ask(QomListTypes(implements="device", abstract=False))),
        objects=frozenset(each.name for each in ask(QomListTypes(implements="user-creatable", abstract=False))),
        commands=frozenset(command.name for command in ask(QueryCommands())),
        cpu_models=cpu_models,
        options=frozenset(
            f"{option.option}.{member.name}"
            for option in ask(QueryCommandLineOptions())
            for member in option.parameters
        ),
    )
