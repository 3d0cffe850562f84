# SPDX-License-Identifier: BSD-2-Clause
"""What instances, their devices and their node are: values, checked when they are made.

Everything here is frozen, compared by value and free of the host: a value that exists is well formed, whether or not
its disk does.
"""

from __future__ import annotations

import enum
import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal
from uuid import UUID, uuid4

import attrs

from hvkit.errors import ProgrammerError
from hvkit.hypervisor.errors import ParameterError

_INSTANCE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,253}")
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
#: The kernel's rule for interface names, less the ones that hurt in scripts. 15 is IFNAMSIZ without its NUL.
_INTERFACE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}")

#: Each mode of a NIC, and the members that mean something in it.
_NIC_MEMBERS: Final = {
    "user": frozenset[str](),
    "tap": frozenset({"link", "ifname", "mtu"}),
    "routed": frozenset({"link", "ifname", "ip", "mtu"}),
    "external": frozenset({"ifname"}),
}


def check_instance_name(name: object) -> str:
    """Return the name, if it is one that an instance may have.

    A name becomes part of file names and of a command line, which is why it is narrow: letters, digits, ``.``, ``_``
    and ``-``, beginning with a letter or digit, 254 characters at most, and no ``..``.

    Raises:
        ParameterError: it is not.
    """
    if is_instance_name(name):
        return str(name)
    raise ParameterError("Instance.name", name, f"not a name for an instance: {name!r}")


def is_instance_name(name: object) -> bool:
    """Tell whether this is a name that an instance may have, as `check_instance_name` says."""
    return isinstance(name, str) and _INSTANCE_NAME.fullmatch(name) is not None and ".." not in name


def check_kind(value: object, *kinds: type) -> None:
    """Refuse what a caller who minds our types never gives us.

    Raises:
        ProgrammerError: it is of none of these types.
    """
    if not isinstance(value, kinds):
        raise ProgrammerError(f"expected {' or '.join(kind.__name__ for kind in kinds)}, got {value!r}")


def check_whole(name: str, value: object, least: int, most: int) -> int:
    """Return the value, if it is a whole number in a range, both ends included.

    Raises:
        ParameterError: it is not.
    """
    if type(value) is int and least <= value <= most:
        return value
    raise ParameterError(name, value, f"expected a whole number from {least} to {most}, got {value!r}")


def check_timeout(value: Any) -> float | None:
    """Return the value, if somebody can wait for so many seconds; None is for the waiter's own idea of enough.

    Raises:
        ParameterError: it is negative, not finite, or no number.
    """
    return None if value is None else check_seconds(value)


def check_patience(value: Any) -> float:
    """Return the value, if somebody can wait for so many seconds, or for ever (``math.inf``).

    Raises:
        ParameterError: it is negative, or no number.
    """
    return math.inf if value == math.inf else check_seconds(value)


def check_seconds(value: Any) -> float:
    """Return the value, if somebody can wait for so many seconds.

    Raises:
        ParameterError: it is negative, not finite, or no number.
    """
    if type(value) in (int, float) and 0 <= value < math.inf:
        return float(value)
    raise ParameterError("timeout", value, f"expected a number of seconds that is not negative, got {value!r}")


class InstanceState(enum.Enum):
    """Where an instance is. It is known from its start until its cleanup.

    Attributes:
        RUNNING: its processors run.
        PAUSED: it is there and its processors stand still.
        SHUTDOWN: it ended in good order: the guest powered off, or we stopped it.
        CRASHED: it ended in another way: its process died, or the guest panicked.
        MIGRATING: it is on its way to or from another node.
        UNRESPONSIVE: its process is there and its monitor does not answer.
    """

    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    MIGRATING = "migrating"
    UNRESPONSIVE = "unresponsive"

    @property
    def is_over(self) -> bool:
        """Whether the guest runs no more and never will again: it can be cleaned up, or the instance started anew.

        A process that holds what is left of it may still be there; `BaseHypervisor.cleanup_instance` ends that too.
        """
        return self in (InstanceState.SHUTDOWN, InstanceState.CRASHED)

    @property
    def is_alive(self) -> bool:
        """Whether the guest is here and goes nowhere: most of what can be done to an instance needs that."""
        return self in (InstanceState.RUNNING, InstanceState.PAUSED)


class StopCause(enum.Enum):
    """What made an instance stop, or ended it.

    Attributes:
        GUEST: its guest did, by itself: it powered off, went to sleep, or rebooted where that ends it.
        REQUEST: somebody outside asked for it: the hypervisor, who has its monitor, or who sent its process a signal.
        PANIC: its guest's kernel gave up.
        DISK: a disk failed or is full.
        WATCHDOG: the guest did not feed its watchdog.
        QEMU: its QEMU could not go on, or was killed.
        NODE: the node was restarted.
    """

    GUEST = "guest"
    REQUEST = "request"
    PANIC = "panic"
    DISK = "disk"
    WATCHDOG = "watchdog"
    QEMU = "qemu"
    NODE = "node"


class Capability(enum.Enum):
    """What a hypervisor may be able to do beyond running instances; it declares those that it can."""

    ADOPT = "adopt"
    BACKUP = "backup"
    BALLOON = "balloon"
    CONSOLE = "console"
    DUMP = "dump"
    HOTPLUG = "hotplug"
    LIMIT_DISK = "limit-disk"
    MEDIA = "media"
    MEMORY = "memory"
    MIGRATION = "migration"
    MONITOR = "monitor"
    POWERCYCLE = "powercycle"
    RESIZE_DISK = "resize-disk"
    RESTORE = "restore"
    SCREENSHOT = "screenshot"
    SNAPSHOT = "snapshot"
    VCPUS = "vcpus"


class DeviceKind(enum.Enum):
    """The devices that can be plugged into a running instance."""

    DISK = "disk"
    NIC = "nic"


class MediaDrive(enum.Enum):
    """The drives of an instance whose medium comes and goes."""

    CDROM = "cdrom"
    CDROM2 = "cdrom2"
    FLOPPY = "floppy"


class DeviceAction(enum.Enum):
    """What can be done to a device of a running instance."""

    ADD = "hotadd"
    REMOVE = "hotremove"
    MODIFY = "hotmod"


class ConsoleKind(enum.Enum):
    """How a console is reached."""

    SERIAL = "serial"
    VNC = "vnc"
    SPICE = "spice"
    MESSAGE = "message"


class MigrationState(enum.Enum):
    """How far a migration is. FAILED and CANCELLED leave the instance with its source.

    Attributes:
        NONE: there is none.
        ACTIVE: the guest is with its source, and its memory is being sent.
        POSTCOPY: the guest is with the destination, and fetches the memory that it left behind. It needs both ends, and
            cannot be called back.
        PAUSED: the same, but the link is broken. The guest stands still where it needs what is missing.
        COMPLETED: the guest is with the destination, with all of its memory.
        FAILED: something went wrong before the guest left.
        CANCELLED: somebody ended it before the guest left.
    """

    NONE = "none"
    ACTIVE = "active"
    POSTCOPY = "postcopy"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen any more."""
        return self in (MigrationState.COMPLETED, MigrationState.FAILED, MigrationState.CANCELLED)


# ---- validators

#: Names of checkpoints.
_CHECKPOINT: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")


def _field_name(owner: object, field: attrs.Attribute[Any]) -> str:
    """Say which field of which value, with the instance's name where it is known."""
    name = getattr(owner, "name", "") if isinstance(owner, Instance) and field.name != "name" else ""
    return f"{type(owner).__name__}{f'({name})' if name else ''}.{field.name}"


def _check(accepts: Callable[[Any], bool], wanted: str) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Make a validator that refuses with a `ParameterError`."""

    def validate(owner: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if not accepts(value):
            raise ParameterError(_field_name(owner, field), value, f"expected {wanted}, got {value!r}")

    return validate


def _is_whole(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_text(value: Any) -> bool:
    """Whether it is text that JSON, and so QEMU, can be given: a lone surrogate has no form in UTF-8."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def is_absolute_path(value: object) -> bool:
    """Tell whether this is an absolute path that the kernel and QEMU can be given."""
    return _is_text(value) and str(value).startswith("/") and "\0" not in str(value)


def _is_unicast_mac(value: Any) -> bool:
    # QEMU takes an address of zeros for none, and makes one.
    is_mac = isinstance(value, str) and _MAC.fullmatch(value) is not None
    return is_mac and not int(value[:2], 16) & 1 and value != "00:00:00:00:00:00"


def _is_interface_name_or_empty(value: Any) -> bool:
    return isinstance(value, str) and (value == "" or _INTERFACE_NAME.fullmatch(value) is not None)


def _is_ip_or_empty(value: Any) -> bool:
    if value == "":
        return True
    try:
        return isinstance(value, str) and "%" not in value and bool(ipaddress.ip_address(value))
    except ValueError:
        return False


def _is_mtu_or_zero(value: Any) -> bool:
    # The least that IPv4 allows, and the most that the kernel's taps do.
    return type(value) is int and (value == 0 or 68 <= value <= 65521)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _path_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _uuid_or_as_is(value: Any) -> Any:
    """Take a UUID as text too; what is neither is left for the validator."""
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            return value
    return value


_uuid = _check(lambda value: isinstance(value, UUID), "a UUID")
_bool = _check(lambda value: type(value) is bool, "true or false")
_text = _check(_is_text, "text")


# ---- what runs

#: The most of anything that can be allowed in a second, or in a burst, which is far more than any disk does.
_MOST_ALLOWED: Final = 10**15


@attrs.frozen
class DiskRate:
    """How much a disk may do in a second: bytes, or operations.

    Attributes:
        per_s: that many in a second, on the average.
        burst_per_s: that many in a second for a while, after the disk did less than it may; 0: no more than `per_s`.
        burst_s: how long that may go on, in seconds.

    Raises:
        ParameterError: by the constructor, for a member that is no such thing, and a burst that is none.
    """

    per_s: int = attrs.field(validator=_check(_is_whole, "a whole number, at least 1"))
    burst_per_s: int = attrs.field(
        default=0,
        kw_only=True,
        validator=_check(lambda value: _is_whole(value) or value == 0, "a whole number, at least 0"),
    )
    burst_s: int = attrs.field(
        default=1, kw_only=True, validator=_check(_is_whole, "a whole number of seconds, at least 1")
    )

    def __attrs_post_init__(self) -> None:
        problem = ""
        if self.burst_per_s and self.burst_per_s < self.per_s:
            problem = f"a burst is not slower than the {self.per_s} that are allowed all the time"
        elif not self.burst_per_s and self.burst_s != 1:
            raise ParameterError("DiskRate.burst_s", self.burst_s, "there is no burst_per_s that could last that long")
        elif max(self.per_s, self.burst_per_s * self.burst_s) > _MOST_ALLOWED:
            problem = f"more than {_MOST_ALLOWED} are too many"
        if problem:
            member = "burst_per_s" if self.burst_per_s else "per_s"
            raise ParameterError(f"DiskRate.{member}", getattr(self, member), problem)


_rate = _check(lambda value: value is None or isinstance(value, DiskRate), "a DiskRate or None")


@attrs.frozen(kw_only=True)
class DiskLimits:
    """How much a guest may do with a disk; None: as much as it can.

    Reading and writing have a limit in common or one each, of bytes as well as of operations.

    Attributes:
        total_bytes: bytes read and written.
        read_bytes: bytes read.
        write_bytes: bytes written.
        total_operations: reads and writes.
        read_operations: reads.
        write_operations: writes.

    Raises:
        ParameterError: by the constructor, for a member that is no such thing, for a limit in common beside one that
            is not, and where nothing is limited: no limits are None.
    """

    total_bytes: DiskRate | None = attrs.field(default=None, validator=_rate)
    read_bytes: DiskRate | None = attrs.field(default=None, validator=_rate)
    write_bytes: DiskRate | None = attrs.field(default=None, validator=_rate)
    total_operations: DiskRate | None = attrs.field(default=None, validator=_rate)
    read_operations: DiskRate | None = attrs.field(default=None, validator=_rate)
    write_operations: DiskRate | None = attrs.field(default=None, validator=_rate)

    def __attrs_post_init__(self) -> None:
        for what in ("bytes", "operations"):
            total = getattr(self, f"total_{what}")
            if total is not None and (getattr(self, f"read_{what}") or getattr(self, f"write_{what}")):
                problem = f"read_{what} and write_{what} have a limit in common, or one each"
                raise ParameterError(f"DiskLimits.total_{what}", total.per_s, problem)
        if not any(attrs.astuple(self, recurse=False)):
            raise ParameterError("DiskLimits", "", "nothing is limited; say None for that")


@attrs.frozen(kw_only=True)
class Disk:
    """A disk of an instance: a file or a block device of this node.

    Attributes:
        path: absolute path.
        format: what the bytes at the path are.
        read_only: whether the guest may only read it.
        name: what people call it; empty for no name.
        uuid: what it is known by for as long as it exists.
        limits: how much the guest may do with it; None: as much as it can.

    Raises:
        ParameterError: by the constructor, for a member that is no such thing.
    """

    path: str = attrs.field(converter=_path_text, validator=_check(is_absolute_path, "an absolute path in UTF-8"))
    format: Literal["raw", "qcow2"] = attrs.field(
        default="raw", validator=_check(lambda value: value in ("raw", "qcow2"), "raw or qcow2")
    )
    read_only: bool = attrs.field(default=False, validator=_bool)
    name: str = attrs.field(default="", validator=_text)
    uuid: UUID = attrs.field(factory=uuid4, converter=_uuid_or_as_is, validator=_uuid)
    limits: DiskLimits | None = attrs.field(
        default=None,
        validator=_check(lambda value: value is None or isinstance(value, DiskLimits), "DiskLimits or None"),
    )


@attrs.frozen(kw_only=True)
class Nic:
    """A network card of an instance.

    Attributes:
        mac: its address, six bytes in hexadecimal with colons; kept in lower case.
        mode: ``tap`` for an interface of this node that is made for it; ``routed`` for one that the node routes to;
            ``external`` for a tap that somebody else made to last; ``user`` for a network inside QEMU, which needs no
            privilege.
        link: the bridge that a ``tap`` joins, the table that a ``routed`` one's routes are in; empty for none.
        ifname: the interface's name; empty to have one made, which ``external`` cannot.
        ip: the guest's address, for ``routed``: what the node routes to it. Empty for none.
        mtu: the largest packet, in bytes; 0 for what the bridge has, or the node's own idea.
        uuid: what it is known by for as long as it exists.

    Raises:
        ParameterError: by the constructor, for a member that is no such thing.
    """

    mac: str = attrs.field(
        converter=_lower, validator=_check(_is_unicast_mac, "a unicast MAC address such as 52:54:00:12:34:56")
    )
    mode: Literal["user", "tap", "routed", "external"] = attrs.field(
        default="tap", validator=_check(_NIC_MEMBERS.__contains__, f"one of {', '.join(_NIC_MEMBERS)}")
    )
    link: str = attrs.field(default="", validator=_check(_is_interface_name_or_empty, "a bridge's name or nothing"))
    ifname: str = attrs.field(
        default="", validator=_check(_is_interface_name_or_empty, "an interface's name of at most 15 characters")
    )
    ip: str = attrs.field(default="", validator=_check(_is_ip_or_empty, "an IPv4 or IPv6 address or nothing"))
    mtu: int = attrs.field(default=0, validator=_check(_is_mtu_or_zero, "0 or a number of bytes from 68 to 65521"))
    uuid: UUID = attrs.field(factory=uuid4, converter=_uuid_or_as_is, validator=_uuid)

    def __attrs_post_init__(self) -> None:
        for field in ("link", "ifname", "ip", "mtu"):
            value = getattr(self, field)
            if value and field not in _NIC_MEMBERS[self.mode]:
                modes = " or ".join(mode for mode, members in _NIC_MEMBERS.items() if field in members)
                raise ParameterError(f"Nic.{field}", value, f"only a NIC of mode {modes} has one")
        if self.mode == "external" and not self.ifname:
            raise ParameterError("Nic.ifname", "", "a NIC of mode external needs the name of its tap")

    @property
    def has_tap(self) -> bool:
        """Whether the node has an interface for it."""
        return self.mode != "user"


#: What can be plugged into a running instance.
HotplugDevice = Disk | Nic


def device_kind(device: HotplugDevice) -> DeviceKind:
    """Return what kind of device this is."""
    return DeviceKind.DISK if isinstance(device, Disk) else DeviceKind.NIC


def _tuple_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(isinstance(each, kind) for each in value)


def _tuple_or_as_is(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _dict_or_as_is(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


@attrs.frozen(kw_only=True)
class Instance:
    """A virtual machine as its owner wants it; the hypervisor's parameters fill in how.

    Attributes:
        name: what it is called on this node, see `check_instance_name`.
        memory_mib: its memory, in MiB.
        vcpus: how many processors it has.
        disks: in the order in which the guest sees them; the first is the one it boots from.
        nics: in the order in which the guest sees them.
        parameters: those of the hypervisor that are not to have their defaults. They are checked when the instance is
            started, or by `BaseHypervisor.check_parameter_syntax`.
        uuid: what it is known by, wherever it runs.

    Raises:
        ParameterError: by the constructor, for a member that is no such thing.
    """

    name: str = attrs.field(validator=lambda _owner, _field, value: _is_name(value))
    memory_mib: int = attrs.field(validator=_check(_is_whole, "a whole number of MiB, at least 1"))
    vcpus: int = attrs.field(default=1, validator=_check(_is_whole, "a whole number, at least 1"))
    disks: tuple[Disk, ...] = attrs.field(
        default=(), converter=_tuple_or_as_is, validator=_check(_tuple_of(Disk), "disks")
    )
    nics: tuple[Nic, ...] = attrs.field(default=(), converter=_tuple_or_as_is, validator=_check(_tuple_of(Nic), "NICs"))
    parameters: Mapping[str, object] = attrs.field(
        factory=dict,
        converter=_dict_or_as_is,
        validator=_check(lambda value: isinstance(value, dict), "parameters by name"),
        hash=False,
    )
    uuid: UUID = attrs.field(factory=uuid4, converter=_uuid_or_as_is, validator=_uuid)

    def __attrs_post_init__(self) -> None:
        self._refuse_twins("disks", "uuid", [disk.uuid for disk in self.disks])
        self._refuse_twins("disks", "path", [disk.path for disk in self.disks])
        self._refuse_twins("nics", "uuid", [nic.uuid for nic in self.nics])
        self._refuse_twins("nics", "mac", [nic.mac for nic in self.nics])
        self._refuse_twins("nics", "ifname", [nic.ifname for nic in self.nics if nic.ifname])

    def _refuse_twins(self, field: str, member: str, values: Sequence[object]) -> None:
        if len(set(values)) < len(values):
            twin = next(value for value in values if values.count(value) > 1)
            raise ParameterError(
                f"Instance({self.name}).{field}", str(twin), f"two of them have the same {member}: {twin}"
            )


def _is_name(value: object) -> None:
    check_instance_name(value)


# ---- what is asked for


def _check_checkpoint(owner: object, field: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or (value and not _CHECKPOINT.fullmatch(value)):
        raise ParameterError(
            _field_name(owner, field), value, f"expected letters, digits, '.', '_' and '-', 200 at most, got {value!r}"
        )


def _check_files(owner: object, field: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Mapping):
        raise ParameterError(_field_name(owner, field), value, f"expected paths by uuid, got {value!r}")
    for uuid, path in value.items():
        if not isinstance(uuid, UUID) or not is_absolute_path(path):
            raise ParameterError(
                _field_name(owner, field),
                value,
                f"expected the uuid of a disk and an absolute path, got {uuid!r}: {path!r}",
            )


@attrs.frozen(kw_only=True)
class Backup:
    """What is backed up, all of it as it is at one moment.

    Attributes:
        files: for each disk, by its uuid, the qcow2 file to make.
        checkpoint: what to call this moment, to begin at it the next time; empty for never.
        since: the moment to begin at: only what was written since is copied; empty for all.
        bases: for disks of an incremental backup, by their uuids, the file of the backup that it adds to. It is noted
            down as the backing file, so that both together read as the whole disk.
        freezes: whether the guest's filesystems are frozen for the moment, which takes its agent.
        bytes_per_s: how much is copied in a second at most; 0: as much as can be.
    """

    files: Mapping[UUID, str] = attrs.field(validator=_check_files)
    checkpoint: str = attrs.field(default="", validator=_check_checkpoint)
    since: str = attrs.field(default="", validator=_check_checkpoint)
    bases: Mapping[UUID, str] = attrs.field(factory=dict, validator=_check_files)
    freezes: bool = False
    bytes_per_s: int = 0

    def __attrs_post_init__(self) -> None:
        if not self.files:
            raise ParameterError("Backup.files", self.files, "no disk is to be backed up")
        if len(set(self.files.values())) < len(self.files):
            raise ParameterError("Backup.files", self.files, "two disks have the same file")
        if self.bases and not self.since:
            raise ParameterError(
                "Backup.bases", self.bases, "a backup of everything adds to nothing: there is no since"
            )


@attrs.frozen(kw_only=True)
class DiskCopies:
    """Disks whose content comes along with an instance that moves, because its nodes do not reach the same ones.

    Attributes:
        target: the address at which the destination is sent it: ``host:port``, or the path of a unix socket.
        disks: uuids of these disks; empty for all that the guest can write to.
    """

    target: str
    disks: tuple[UUID, ...] = ()
