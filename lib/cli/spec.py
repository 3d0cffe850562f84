# SPDX-License-Identifier: BSD-2-Clause
"""Reader of instance descriptions in TOML; see `EXAMPLE`."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from hvkit.cli.depth import TOO_DEEP, is_deeper
from hvkit.errors import HypervisorError
from hvkit.hypervisor import Disk, DiskLimits, DiskRate, Instance, Nic, ParameterError

T = TypeVar("T", Disk, DiskLimits, DiskRate, Nic, Instance)

#: A file with all tables. The comments name the remaining keys.
EXAMPLE: Final = """\
[instance]
name = "web1"
memory_mib = 256
vcpus = 2                     # optional: uuid
[[disk]]
path = "web1.qcow2"           # relative to this file
format = "qcow2"              # optional: read_only, name, uuid
[disk.limits]                 # {total,read,write}_{bytes,operations}
write_bytes = 10_000_000      # or {per_s = ..., burst_per_s = ..., burst_s = ...}
[[nic]]
mac = "52:54:00:12:34:56"
mode = "user"                 # optional: link, ifname, ip, mtu, uuid
[parameters]
machine_version = "q35"       # see: hvkit parameters kvm
"""

_TABLES: Final = ("instance", "disk", "nic", "parameters")

#: Maximum nesting of a file. Each part of a dotted key is one level.
_MAX_LEVELS: Final = 8

#: Members of an instance that have their own tables.
_ELSEWHERE: Final = frozenset({"disks", "nics", "parameters"})

_INSTANCE_MEMBERS: Final = frozenset(field.name for field in attrs.fields(Instance)) - _ELSEWHERE


class SpecError(HypervisorError):
    """Raised for a file that does not describe a valid instance.

    Attributes:
        file: the file.
        key: the key, such as ``disk[0].format``; empty for an error of the whole file.
        problem: the error.
    """

    def __init__(self, file: str, key: str, problem: str) -> None:
        super().__init__(file, key, problem)
        self.file = file
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.key, self.problem) if part)


def read_spec(path: Path) -> Instance:
    """Read an instance from a file. Relative disk paths are relative to the directory of the file.

    Raises:
        SpecError: the file cannot be read, or is invalid.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(str(path), "", error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise SpecError(str(path), "", "not UTF-8 text") from error
    return parse_spec(text, file=str(path), directory=path.parent.absolute())


def parse_spec(text: str, *, file: str, directory: Path) -> Instance:
    """Parse an instance from TOML text.

    Args:
        text: the TOML text.
        file: name of the file for error messages.
        directory: absolute directory for relative disk paths.

    Raises:
        SpecError: the text is invalid.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(file, "", str(error)) from error
    except ValueError as error:  # Python limits the digits of integers
        raise SpecError(file, "", "contains a number with too many digits") from error
    except RecursionError as error:
        raise SpecError(file, "", TOO_DEEP) from error
    if is_deeper(tables, _MAX_LEVELS):
        raise SpecError(file, "", TOO_DEEP)
    _check_keys(file, "", tables, _TABLES)
    disks = []
    for key, table in _array(file, tables, "disk"):
        if isinstance(table.get("path"), str) and table["path"]:
            table = {**table, "path": str(directory / table["path"])}
        if "limits" in table:
            table = {**table, "limits": _limits(file, f"{key}.limits", table["limits"])}
        disks.append(_make(Disk, file, key, table))
    nics = [_make(Nic, file, key, table) for key, table in _array(file, tables, "nic")]
    members = _table(file, tables, "instance")
    if not members:
        raise SpecError(file, "instance", "missing table")
    parameters = _table(file, tables, "parameters")
    return _make(Instance, file, "instance", members, disks=tuple(disks), nics=tuple(nics), parameters=parameters)


def locate(error: ParameterError, instance: Instance, file: str) -> HypervisorError:
    """Convert an error about an instance to an error that names the key in its file.

    Args:
        error: the error that a method of the hypervisor raised.
        instance: the instance that was read from the file.
        file: name of the file for the message.

    Returns:
        A `SpecError`; `error` itself if it is not about a key of the file.
    """
    owner, _, member = error.name.rpartition(".")
    if owner in ("Disk", "Nic"):
        devices: tuple[Disk | Nic, ...] = instance.disks if owner == "Disk" else instance.nics
        fitting = [index for index, device in enumerate(devices) if getattr(device, member, None) == error.value]
        # If several devices have the value, the key has no index.
        key = f"{owner.lower()}[{fitting[0]}].{member}" if len(fitting) == 1 else f"{owner.lower()}.{member}"
    elif error.name in instance.parameters:
        key = f"parameters.{error.name}"
    elif error.name in _INSTANCE_MEMBERS:
        key = f"instance.{error.name}"
    else:
        return error
    return SpecError(file, key, str(error).removeprefix(f"{error.name}: "))


def _table(file: str, tables: Mapping[str, Any], key: str) -> dict[str, Any]:
    table = tables.get(key, {})
    if not isinstance(table, dict):
        raise SpecError(file, key, f"must be a table, written [{key}]")
    return table


def _array(file: str, tables: Mapping[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    array = tables.get(key, [])
    if not isinstance(array, list) or not all(isinstance(table, dict) for table in array):
        raise SpecError(file, key, f"must be an array of tables, each written [[{key}]]")
    return [(f"{key}[{index}]", table) for index, table in enumerate(array)]


def _limits(file: str, key: str, table: Any) -> DiskLimits:
    """Return the limits of a disk. A plain number is a rate per second."""
    if not isinstance(table, dict):
        raise SpecError(file, key, "must be a table, written [disk.limits]")
    rates = {
        name: _make(DiskRate, file, f"{key}.{name}", rate if isinstance(rate, dict) else {"per_s": rate})
        for name, rate in table.items()
    }
    return _make(DiskLimits, file, key, rates)


def _make(kind: type[T], file: str, key: str, table: Mapping[str, Any], **others: Any) -> T:
    fields = {field.name: field for field in attrs.fields(kind) if field.name not in _ELSEWHERE}
    _check_keys(file, key, table, fields)
    for name, field in fields.items():
        if field.default is attrs.NOTHING and name not in table:
            raise SpecError(file, f"{key}.{name}", "missing")
    try:
        return kind(**table, **others)
    except ParameterError as error:
        member = error.name.rpartition(".")[2]
        if member == kind.__name__:
            member = ""
        raise SpecError(file, f"{key}.{member}" if member in fields else member or key, error.problem) from error


def _check_keys(file: str, key: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
    for name in table:
        if name not in known:
            matches = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {matches[0]}?" if matches else f"valid keys: {', '.join(known)}"
            raise SpecError(file, f"{key}.{name}" if key else name, f"no such key; {hint}")
