# SPDX-License-Identifier: BSD-2-Clause
"""What is remembered of a running instance, so that any process can take it up again.

It is a description, never a command line: options come and go between versions of QEMU, and what a machine is does
not. The file is replaced as a whole, after its bytes are on the disk; whoever dies in between leaves the old or the new
one. It is read strictly, because nobody but hvkit writes it.
"""

import contextlib
import enum
import json
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn

from hvkit.hypervisor.errors import RuntimeStateError
from hvkit.hypervisor.kvm.host.process import ProcessIdentity
from hvkit.hypervisor.kvm.plan.confinement import Account
from hvkit.hypervisor.kvm.plan.plugged import Dimm, Processor
from hvkit.hypervisor.kvm.plan.topology import Address, Topology
from hvkit.hypervisor.model import Instance, Nic, StopCause

T = TypeVar("T")

#: The version of the file's format. One that is newer is refused, one that is older is to be upgraded when read.
VERSION: Final = 2
_FORMAT: Final = "hvkit kvm runtime"


class Phase(enum.Enum):
    """How far we were with the instance when this was written.

    Attributes:
        STARTING: it is being brought up. Where nobody holds its lock, whoever did that has died over it.
        RUNNING: it was brought up and is on its own.
        INCOMING: it waits for its guest, which comes from another node.
        OUTGOING: it is being sent to another node, or was and nobody has said yet how that ended.
        STOPPING: it is being stopped. Where nobody holds its lock, whoever did that has died over it, and it may well
            go on.
        STOPPED: its process has ended and we saw to it.
    """

    STARTING = "starting"
    RUNNING = "running"
    INCOMING = "incoming"
    OUTGOING = "outgoing"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Pending(enum.Enum):
    """What somebody was about to do to a device. Where nobody holds the lock, whoever did that has died over it.

    Attributes:
        ADD: it was being plugged in.
        REMOVE: the guest was asked to let go of it, which it may do later.
    """

    ADD = "add"
    REMOVE = "remove"


@attrs.frozen(kw_only=True)
class BackupRecord:
    """A backup that somebody began.

    Attributes:
        uuid: tells it from every other one.
        checkpoint: what is made with it; empty for none.
        partial_files: what it writes into, until each has its own name.
    """

    uuid: UUID
    checkpoint: str
    partial_files: tuple[str, ...]


@attrs.frozen(kw_only=True)
class DeviceRecord:
    """By which names QEMU knows a disk or a NIC, and where it sits.

    Attributes:
        uuid: the disk's or the NIC's.
        device: id of the device.
        backends: node names of the disk, each before the one that stands on it; or the id of the NIC's netdev.
        address: its place.
        ifname: the NIC's tap; empty for everything else.
        script: what is to be run when the NIC has gone; empty for nothing.
        pending: what was about to be done to it; None where nothing was.
        successor: what is to come in the NIC's place once it has gone; None for nothing.
        fallback: what is to be there where the NIC, which is being plugged in, cannot be. One that has a fallback is
            not given up: whoever next plugs on the instance tries again. None for nothing.
        awaits_limits: whether the disk may not have its limits yet: somebody was about to set them.
    """

    uuid: UUID
    device: str
    backends: tuple[str, ...]
    address: Address
    ifname: str = ""
    script: str = ""
    pending: Pending | None = None
    successor: Nic | None = None
    fallback: Nic | None = None
    awaits_limits: bool = False


@attrs.frozen(kw_only=True)
class MediumChange:
    """What somebody was about to have in a drive. Where nobody holds the lock, whoever did that has died over it.

    Attributes:
        drive: the drive's id.
        parameter: the one that says what is in the drive.
        image: its value once that is so.
        node: the block node of that medium; empty where the drive is to be empty.
        old_node: the block node of the medium that was in it; empty where it was empty.
    """

    drive: str
    parameter: str
    image: str
    node: str
    old_node: str


@attrs.frozen(kw_only=True)
class Adoption:
    """Where a QEMU is reached that somebody else started.

    Attributes:
        monitor: the path of its monitor.
        watch_monitor: the path of its second monitor; empty for none.
    """

    monitor: str
    watch_monitor: str = ""


@attrs.frozen(kw_only=True)
class ProcessorRecord:
    """A processor that was plugged in.

    Attributes:
        processor: the processor.
        pending: what was about to be done to it; None where nothing was.
    """

    processor: Processor
    pending: Pending | None = None


@attrs.frozen(kw_only=True)
class DimmRecord:
    """A DIMM that was plugged in.

    Attributes:
        dimm: the DIMM; its place may be missing where it is being plugged in.
        pending: what was about to be done to it; None where nothing was.
    """

    dimm: Dimm
    pending: Pending | None = None


@attrs.frozen(kw_only=True)
class Runtime:
    """Everything remembered of one instance.

    Its members, and those of the classes in it, are the format of the file: whoever changes one raises `VERSION` and
    sees to it that older files are still understood. Version 2 has members more than 1, each with a default that says
    what was so before.

    Attributes:
        instance: what was asked for.
        phase: how far we were.
        reason: why it is over, for STOPPED; empty otherwise.
        stop_cause: for STOPPED, what ended it; None where nobody knows.
        adoption: where it is reached, for one that somebody else started; None for one of ours.
        process: QEMU's process; None before there was one.
        binary: the QEMU it runs in.
        qemu_version: that QEMU's version.
        machine_type: the versioned machine type, also where a family or nothing was asked for.
        accelerator: what runs the guest's instructions.
        accelerator_reason: why that and no other.
        has_acpi: whether the guest has a power button.
        has_serial: whether it has a serial console.
        topology: its buses.
        devices: its disks and NICs.
        account: who its process runs as; None for who started it.
        was_running: for INCOMING and OUTGOING, whether its processors ran before the migration.
        has_pid_file: whether QEMU writes a pid file, and removes it when it ends in good order.
        cpu_model: its CPU model with features, as QEMU writes it; empty where that was not remembered.
        incoming_socket: for INCOMING, the unix socket on which it waits for its guest; empty for none.
        is_postcopy: for OUTGOING, whether the guest was told to leave before its memory has: it cannot be called back.
        is_copied: for OUTGOING, whether copies of its disks have to be ended before the guest leaves.
        backup: the backup that is going on, or that somebody died over; None for none.
        has_arrived: whether it came from another node, and that is finalized.
        copies_target: for INCOMING, the address at which its disks are written to; empty for none.
        medium_change: what was about to be put into one of its drives, or taken out; None where nothing was.
        processors: those that were plugged in, beyond those that it was started with.
        processors_gone: how many processors this very QEMU had and has not any more.
        dimms: the memory that was plugged in as DIMMs, beyond what it was started with. What a virtio-mem device gives
            its guest is known to QEMU alone.
    """

    instance: Instance
    phase: Phase
    reason: str = ""
    process: ProcessIdentity | None = None
    binary: str
    qemu_version: tuple[int, int, int]
    machine_type: str
    accelerator: Literal["kvm", "tcg"]
    accelerator_reason: str
    has_acpi: bool
    has_serial: bool
    topology: Topology
    devices: tuple[DeviceRecord, ...] = ()
    account: Account | None = None
    was_running: bool = True
    has_pid_file: bool = True
    cpu_model: str = ""
    incoming_socket: str = ""
    is_postcopy: bool = False
    is_copied: bool = False
    backup: BackupRecord | None = None
    has_arrived: bool = False
    copies_target: str = ""
    stop_cause: StopCause | None = None
    medium_change: MediumChange | None = None
    adoption: Adoption | None = None
    processors: tuple[ProcessorRecord, ...] = ()
    processors_gone: int = 0
    dimms: tuple[DimmRecord, ...] = ()

    @property
    def vcpus(self) -> int:
        """How many processors it has, as far as that is remembered."""
        return self.instance.vcpus + sum(each.pending is not Pending.ADD for each in self.processors)

    @property
    def memory_mib(self) -> int:
        """Its memory in MiB, as far as that is remembered."""
        plugged = sum(each.dimm.size_mib for each in self.dimms if each.pending is not Pending.ADD)
        return self.instance.memory_mib + plugged

    @property
    def opens_by_name(self) -> bool:
        """Whether its QEMU, if it is one of ours, can open files of the node by their names.

        One that cannot did not reach a pid file either.
        """
        return self.has_pid_file

    def device(self, uuid: UUID) -> DeviceRecord | None:
        """Return the record of a disk or a NIC; None where the instance has no such one."""
        return next((device for device in self.devices if device.uuid == uuid), None)


def write_runtime(path: Path, runtime: Runtime) -> None:
    """Replace what is remembered of an instance.

    After success the new state is on the disk; after failure the old one still is. The caller holds the instance's
    lock.

    Raises:
        RuntimeStateError: it could not be written.
    """
    data = {"format": _FORMAT, "version": VERSION, **_converter.unstructure(runtime)}
    text = json.dumps(data, indent=1, allow_nan=False)
    new = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(new, path)
        _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise RuntimeStateError(runtime.instance.name, str(path), f"cannot be written: {error.strerror}") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_runtime(path: Path, name: str) -> Runtime | None:
    """Return what is remembered of an instance; None where nothing is.

    Args:
        path: the runtime file.
        name: the instance that it has to be about.

    Raises:
        RuntimeStateError: the file cannot be read, is damaged, or was written by a newer hvkit. The reason names the
            place in it.
    """
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RuntimeStateError(name, str(path), f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RuntimeStateError(name, str(path), f"is damaged: {error}") from error
    try:
        runtime = _parse(data)
    except _Damage as error:
        raise RuntimeStateError(name, str(path), str(error)) from error
    if runtime.instance.name != name:
        raise RuntimeStateError(name, str(path), f"is damaged: it is about instance {runtime.instance.name}")
    return runtime


class RuntimeCache:
    """Reads what is remembered of instances, and of each again only where it was written again.

    For those who look often. Who acts on an instance reads the file itself. Several threads may use one.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, ...], Runtime]] = {}

    def read(self, path: Path, name: str) -> Runtime | None:
        """Return what is remembered of an instance, as `read_runtime` does.

        Raises:
            RuntimeStateError: as for `read_runtime`.
        """
        try:
            status = os.stat(path)
        except OSError:  # what is the matter with it, reading will tell
            return read_runtime(path, name)
        # The file is replaced and never written to: another one is another inode, or that of an older one later on.
        stamp = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        known = self._known.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        # It may be replaced before it is read; then it has another stamp when it is looked at next.
        runtime = read_runtime(path, name)
        if runtime is not None:
            self._known[name] = (stamp, runtime)
        return runtime

    def keep(self, names: Collection[str]) -> None:
        """Forget all instances but some."""
        for name in self._known.keys() - set(names):
            self._known.pop(name, None)  # another thread may have done so


def to_plain(value: Any) -> Any:
    """Return a value of the classes of this file as plain data, such as JSON can carry."""
    return _converter.unstructure(value)


def from_plain(data: Any, kind: type[T]) -> T:
    """Return what `to_plain` made plain data of.

    Raises:
        ValueError: it made something else of it. The text names the place.
    """
    try:
        return _converter.structure(data, kind)
    except cattrs.BaseValidationError as error:
        raise ValueError(_describe(error)) from error


class _Damage(Exception):
    """Raised when data is not what we write."""


def _parse(data: Any) -> Runtime:
    if not isinstance(data, dict) or data.pop("format", None) != _FORMAT:
        raise _Damage("is damaged: it does not say what it is")
    version = data.pop("version", None)
    if type(version) is not int or version < 1:
        raise _Damage(f"is damaged: version: {version!r}")
    if version > VERSION:
        raise _Damage(f"has version {version} and was written by a newer hvkit; this one reads up to {VERSION}")
    try:
        return _converter.structure(data, Runtime)
    except cattrs.BaseValidationError as error:
        raise _Damage(f"is damaged: {_describe(error)}") from error


_NOTE: Final = re.compile(r"@ (attribute|index) (\S+)$")


def _describe(error: BaseException, place: str = "") -> str:
    """Say where the first misfit is, and what it is: cattrs notes each step on the exception of the step below."""
    for note in getattr(error, "__notes__", ()):
        match = _NOTE.search(note)
        if match:
            place += f"[{match[2]}]" if match[1] == "index" else f".{match[2]}"
    if isinstance(error, cattrs.BaseValidationError):
        return _describe(error.exceptions[0], place)
    problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return f"{place.lstrip('.')}: {problem}" if place else problem


# ---- strict conversion: nothing is coerced, nothing unknown is passed over


def _scalar_hook(*kinds: type) -> Callable[[Any, Any], Any]:
    names = " or ".join(kind.__name__ for kind in kinds)

    def structure_scalar(data: Any, _: Any) -> Any:
        if type(data) not in kinds:
            raise TypeError(f"expected {names}, got {type(data).__name__}")
        return data

    return structure_scalar


def _structure_uuid(data: Any, _: Any) -> UUID:
    if type(data) is not str:
        raise TypeError(f"expected a UUID, got {type(data).__name__}")
    return UUID(data)


def _class_hook(cls: type) -> Callable[[Any, Any], Any]:
    structure_members: Callable[[Any, Any], Any] = make_dict_structure_fn(
        cls, _converter, _cattrs_forbid_extra_keys=True
    )

    def structure_class(data: Any, _: Any) -> Any:
        if type(data) is not dict:
            raise TypeError(f"expected object, got {type(data).__name__}")
        return structure_members(data, cls)

    return structure_class


_converter: Final = cattrs.Converter(detailed_validation=True)
for _kind in (str, int, bool):
    _converter.register_structure_hook(_kind, _scalar_hook(_kind))
_converter.register_structure_hook_func(lambda kind: kind is object, _scalar_hook(str, int, float, bool))
_converter.register_structure_hook(UUID, _structure_uuid)
_converter.register_unstructure_hook(UUID, str)
_converter.register_structure_hook_factory(attrs.has, _class_hook)
