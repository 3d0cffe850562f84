# SPDX-License-Identifier: BSD-2-Clause
"""Ask a QEMU program what it can do, and this host what it has of KVM.

A program is asked once: it is run without a machine, questioned over QMP and killed. The answers are kept in memory
and, where there is a directory for it, on disk, for as long as the program's file is the same.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, TypeVar

import attrs

from hvkit.hypervisor.errors import InstanceStartError
from hvkit.hypervisor.kvm.capabilities import OLDEST_VERSION, Capabilities, KvmHost, MachineType
from hvkit.qmp.base import Command
from hvkit.qmp.connection import QmpConnection
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.errors import CommandError, ConnectError, ConnectionLost, QmpError
from hvkit.qmp.schema import (
    QomListTypes,
    QueryCommands,
    QueryCpuDefinitions,
    QueryKvm,
    QueryMachines,
    QueryTarget,
)

R = TypeVar("R")

_log = logging.getLogger(__name__)

#: How a program is run to be questioned: no machine, no devices, no configuration, its monitor on stdin and stdout.
_QUESTIONED: Final = ("-S", "-M", "none", "-nodefaults", "-no-user-config", "-display", "none", "-qmp", "stdio")
#: Part of a cache file; another number where what is kept changes its meaning.
_CACHE_FORMAT: Final = 1
#: More than any cache file has.
_CACHE_BYTES: Final = 1 << 20
#: How much of what a program said is quoted, in bytes.
_LOG_BYTES: Final = 2000
#: How long a killed process is waited for, in seconds.
_REAP_S: Final = 5.0

#: Modules of the kernel that drive the virtualization of a processor, and the one that does without.
_REAL_KVM_MODULES: Final = ("kvm_intel", "kvm_amd")
_EMULATED_KVM_MODULE: Final = "kvm_pvm"


@attrs.frozen
class _Identity:
    """What tells a program's file from what stood at its path before."""

    path: str
    size: int
    mtime_ns: int
    inode: int


#: By path, so that an upgraded program takes the place of what it replaces.
_known: dict[str, tuple[_Identity, Capabilities]] = {}


def probe_capabilities(binary: str, *, timeout_s: float = 10.0, cache_dir: Path | None = None) -> Capabilities:
    """Return what a QEMU program can do. It is run only if it was not asked before.

    Nothing of it runs afterwards, whatever happens.

    Args:
        binary: path of the program, or a name to look for in PATH.
        timeout_s: seconds that it has to answer everything.
        cache_dir: where the answers are kept for other processes; made where it is missing. None: nowhere.

    Raises:
        InstanceStartError: there is no such program, it cannot be run, it is not QEMU, it is too old, or it does not
            answer in time. The error names it and quotes what it said.
    """
    path = shutil.which(binary)
    if path is None:
        raise InstanceStartError("", f"{binary}: {_why_not_executable(binary)}")
    path = os.path.abspath(path)
    identity = _read_identity(path)
    if identity is None:
        raise InstanceStartError("", f"{binary}: it was removed just now")
    known = _known.get(path)
    if known is not None and known[0] == identity:
        return known[1]
    cache_file = None if cache_dir is None else cache_dir / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.json"
    capabilities = None if cache_file is None else _read_cache(cache_file, identity)
    if capabilities is None:
        capabilities = _ask(path, timeout_s)
        if cache_file is not None and _read_identity(path) == identity:
            _write_cache(cache_file, identity, capabilities)
    _known[path] = (identity, capabilities)
    return capabilities


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


def _why_not_executable(binary: str) -> str:
    if os.path.isdir(binary):
        return "it is a directory"
    return "it cannot be executed" if os.path.exists(binary) else "there is no such program"


def _read_identity(path: str) -> _Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _Identity(path, status.st_size, status.st_mtime_ns, status.st_ino)


# ---- asking


def _ask(binary: str, timeout_s: float) -> Capabilities:
    deadline = Deadline(timeout_s)
    with _explaining(binary):
        said = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    with said:
        try:
            with _run(binary, said) as connection:
                return _question(binary, connection, deadline)
        except QmpError as error:
            reason = error.reason if isinstance(error, (ConnectError, ConnectionLost)) else str(error)
            raise InstanceStartError("", f"{binary} does not answer like QEMU: {reason}", _tail(said)) from error


@contextlib.contextmanager
def _explaining(binary: str) -> Iterator[None]:
    """Turn what the kernel refuses into an error that names the program."""
    try:
        yield
    except OSError as error:
        raise InstanceStartError("", f"{binary} cannot be run: {os.strerror(error.errno or 0)}") from error


@contextlib.contextmanager
def _run(binary: str, said: IO[bytes]) -> Iterator[QmpConnection]:
    """Run the program without a machine, its monitor on a socket of ours; kill it and its children at the end.

    Args:
        binary: the program.
        said: file that gets what it writes to its standard error.

    Raises:
        InstanceStartError: it cannot be run.
    """
    with _explaining(binary):
        ours, theirs = socket.socketpair()
    with ours, theirs:
        with _explaining(binary):
            process = subprocess.Popen(
                [binary, *_QUESTIONED],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=said,
                start_new_session=True,
            )
        connection = QmpConnection.from_socket(ours)
        try:
            theirs.close()
            yield connection
        finally:
            connection.close()
            # The whole session: the program may be a script that runs QEMU.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_REAP_S)


def _question(binary: str, connection: QmpConnection, deadline: Deadline) -> Capabilities:
    """Ask everything.

    Raises:
        QmpError: it does not answer, or not as QEMU would.
        InstanceStartError: it is too old.
    """

    def ask(command: Command[R]) -> R:
        return connection.execute(command, timeout=max(deadline.remaining_s(), 0.0))

    connection.connect(timeout=max(deadline.remaining_s(), 0.0))
    version = connection.version
    numbers = (version.major, version.minor, version.micro)
    if numbers < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION[:2]))
        raise InstanceStartError(
            "", f"{binary} is QEMU {'.'.join(map(str, numbers))}, older than {oldest}, the oldest that is supported"
        )
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
    )


def _tail(said: IO[bytes]) -> str:
    """Return the end of what a program wrote, whole lines where that is possible."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(size - _LOG_BYTES, 0))
    return said.read(_LOG_BYTES).decode(errors="replace").strip()


# ---- the cache: a line that says what it is about and a checksum, and a line with the answers.


def _read_cache(file: Path, identity: _Identity) -> Capabilities | None:
    """Return what is kept of a program; None where that is nothing, is damaged, or is about another file."""
    try:
        with open(file, "rb") as opened:
            header, _, body = opened.read(_CACHE_BYTES).partition(b"\n")
        if header.decode() != _cache_header(identity, body):
            return None
        return Capabilities.from_plain(json.loads(body))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        _log.debug("ignoring %s: %s", file, error)
        return None


def _write_cache(file: Path, identity: _Identity, capabilities: Capabilities) -> None:
    """Keep what a program answered. Whoever reads meanwhile sees the old file or the new one.

    A cache that cannot be written is done without.
    """
    body = json.dumps(capabilities.to_plain(), separators=(",", ":")).encode()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f"{file.name}.", delete=False) as opened:
            try:
                opened.write(_cache_header(identity, body).encode() + b"\n" + body)
                opened.close()
                os.replace(opened.name, file)
            except OSError:
                os.unlink(opened.name)
                raise
    except OSError as error:
        _log.debug("not kept: %s: %s", file, error)


def _cache_header(identity: _Identity, body: bytes) -> str:
    header = {"format": _CACHE_FORMAT, **attrs.asdict(identity), "sha256": hashlib.sha256(body).hexdigest()}
    return json.dumps(header, separators=(",", ":"))
