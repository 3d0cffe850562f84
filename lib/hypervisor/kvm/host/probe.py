# SPDX-License-Identifier: BSD-2-Clause
"""Probing of QEMU programs for their capabilities, and of this node for KVM and CPU flags.

A program is probed once: it is run without a machine, queried over QMP and killed. The result is cached in memory and,
if there is a cache directory, on disk, until the file of the program changes.
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
from hvkit.qmp.errors import CommandError, ConnectError, QmpError
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

#: The version of the cache entries; changes with their meaning.
_CACHE_FORMAT: Final = 2

#: Kernel modules for hardware virtualization, and the module that emulates it.
_REAL_KVM_MODULES: Final = ("kvm_intel", "kvm_amd")
_EMULATED_KVM_MODULE: Final = "kvm_pvm"


#: By path, so that an upgraded program replaces the entry of the old one.
_cache: dict[str, tuple[ProgramIdentity, Capabilities]] = {}


def probe_capabilities(
    binary: str, *, timeout_s: float = 10.0, cache_dir: Path | None = None, keeps: bool = True
) -> Capabilities:
    """Return the capabilities of a QEMU program. The program is run only if the cache has no entry for it.

    The process that is started for the probe never outlives the call.

    Args:
        binary: the path of the program, or a name to search in PATH.
        timeout_s: seconds for all queries together.
        cache_dir: the cache directory, shared with other processes; its content is trusted. None: no cache.
        keeps: whether to write the result to the cache directory, which is created if it does not exist.

    Raises:
        ProgramError: the program does not exist, cannot be run, is not QEMU, is too old, or does not respond in time.
            The error names it and quotes its output.
    """
    try:
        identity = find_program(binary)
    except ConnectError as error:
        raise ProgramError(binary, str(error)) from error
    path = identity.path
    entry = _cache.get(path)
    if entry is not None and entry[0] == identity:
        return entry[1]
    cache = None if cache_dir is None else ProgramCache(cache_dir, "capabilities", _CACHE_FORMAT)
    capabilities = None if cache is None else _read_cached(cache, identity)
    if capabilities is None:
        capabilities = _probe(path, timeout_s)
        if keeps and cache is not None and read_identity(path) == identity:
            cache.write(identity, json.dumps(capabilities.to_plain(), separators=(",", ":")).encode())
    _cache[path] = (identity, capabilities)
    return capabilities


def _read_cached(cache: ProgramCache, identity: ProgramIdentity) -> Capabilities | None:
    body = cache.read(identity)
    try:
        return None if body is None else Capabilities.from_plain(json.loads(body))
    except (ValueError, TypeError, KeyError) as error:
        _log.debug("ignoring the cached capabilities of %s: %s", identity.path, error)
        return None


def read_kvm_host(device: Path = Path("/dev/kvm"), modules: Path = Path("/sys/module")) -> KvmHost:
    """Read whether KVM works on this node, with the permissions of this process.

    Args:
        device: the device of KVM.
        modules: the directory where the kernel lists its modules.
    """
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return KvmHost(problem=f"{device}: {os.strerror(error.errno or 0)}")
    is_real = any((modules / name).exists() for name in _REAL_KVM_MODULES)
    return KvmHost(is_emulated=not is_real or (modules / _EMULATED_KVM_MODULE).exists())


def read_processor_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Read the CPU flags of this node, by their names in the kernel; empty if the kernel does not list them.

    Args:
        path: the file where the kernel describes the CPUs.
    """
    try:
        text = path.read_text()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2].split() for line in text.splitlines() if line.startswith("flags"))
    return frozenset(next(flags, ()))


def _probe(binary: str, timeout_s: float) -> Capabilities:
    deadline = Deadline(timeout_s)
    with _translate_errors(binary), tempfile.TemporaryFile() as output:
        try:
            with run_program(binary, output) as connection:
                return _query(binary, connection, deadline)
        except QmpError as error:
            reason = f"{binary} does not answer like QEMU: {error.reason}"
            raise ProgramError(binary, reason, read_output_tail(output)) from error


@contextlib.contextmanager
def _translate_errors(binary: str) -> Iterator[None]:
    """Translate an OSError inside the block into an error that names the program."""
    try:
        yield
    except OSError as error:
        raise ProgramError(binary, f"{binary} cannot be run: {os.strerror(error.errno or 0)}") from error


def _query(binary: str, connection: QmpConnection, deadline: Deadline) -> Capabilities:
    """Query all capabilities.

    Raises:
        QmpError: the program does not respond, or not like QEMU.
        ProgramError: it is too old.
    """

    def execute(command: Command[R]) -> R:
        return connection.execute(command, timeout=deadline.remaining_s())

    connection.connect(timeout=deadline.remaining_s())
    version = connection.version
    numbers = (version.major, version.minor, version.micro)
    if numbers < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION[:2]))
        found = ".".join(map(str, numbers))
        raise ProgramError(binary, f"{binary} is QEMU {found}; the oldest supported version is {oldest}")
    try:
        cpu_models = frozenset(model.name for model in execute(QueryCpuDefinitions()))
    except CommandError:  # not implemented for every architecture
        cpu_models = frozenset()
    return Capabilities(
        binary=binary,
        version=numbers,
        package=version.package,
        target=execute(QueryTarget()).arch,
        has_kvm=execute(QueryKvm()).present,
        machines=tuple(
            MachineType(
                name=machine.name,
                alias=machine.alias or "",
                cpu_max=machine.cpu_max,
                is_deprecated=machine.deprecated,
            )
            for machine in execute(QueryMachines())
        ),
        devices=frozenset(each.name for each in execute(QomListTypes(implements="device", abstract=False))),
        objects=frozenset(each.name for each in execute(QomListTypes(implements="user-creatable", abstract=False))),
        commands=frozenset(command.name for command in execute(QueryCommands())),
        cpu_models=cpu_models,
        options=frozenset(
            f"{option.option}.{member.name}"
            for option in execute(QueryCommandLineOptions())
            for member in option.parameters
        ),
    )
