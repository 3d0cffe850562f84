# SPDX-License-Identifier: BSD-2-Clause
"""Read an instance from a TOML file.

::

    [instance]
    name = "web1"
    memory_mib = 256
    vcpus = 2                                       # and uuid, if it is to keep one

    [[disk]]
    path = "web1.qcow2"                             # relative to this file
    format = "qcow2"                                # and read_only, name, uuid

    [[nic]]
    mac = "52:54:00:12:34:56"
    mode = "user"                                   # and link, ifname, uuid

    [parameters]
    machine_version = "q35"                         # see: hvkit parameters kvm
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from hvkit.errors import HypervisorError
from hvkit.hypervisor import Disk, Instance, Nic, ParameterError

T = TypeVar("T", Disk, Nic, Instance)

_TABLES: Final = ("instance", "disk", "nic", "parameters")

#: Members of an instance that have tables of their own.
_ELSEWHERE: Final = frozenset({"disks", "nics", "parameters"})


class SpecError(HypervisorError):
    """Raised when a file does not describe an instance.

    Attributes:
        file: the file.
        key: where in it, such as ``disk[0].format``; empty where it is no TOML at all.
        problem: what is wrong there.
    """

    def __init__(self, file: str, key: str, problem: str) -> None:
        super().__init__(file, key, problem)
        self.file = file
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.key, self.problem) if part)


def read_spec(path: Path) -> Instance:
    """Read a file; relative paths in it are relative to its directory.

    Raises:
        SpecError: it cannot be read, or does not describe an instance.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(str(path), "", error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise SpecError(str(path), "", "is no UTF-8 text") from error
    return parse_spec(text, file=str(path), directory=path.parent.absolute())


def parse_spec(text: str, *, file: str, directory: Path) -> Instance:
    """Return the instance that a text describes.

    Args:
        text: TOML.
        file: what to call the text in errors.
        directory: what paths are relative to; absolute.

    Raises:
        SpecError: it does not describe an instance.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(file, "", str(error)) from error
    _check_keys(file, "", tables, _TABLES)
    disks = []
    for key, table in _array(file, tables, "disk"):
        if isinstance(table.get("path"), str) and table["path"]:
            table = {**table, "path": str(directory / table["path"])}
        disks.append(_make(Disk, file, key, table))
    nics = [_make(Nic, file, key, table) for key, table in _array(file, tables, "nic")]
    members = _table(file, tables, "instance")
    if not members:
        raise SpecError(file, "instance", "is missing")
    parameters = _table(file, tables, "parameters")
    return _make(Instance, file, "instance", members, disks=tuple(disks), nics=tuple(nics), parameters=parameters)


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


def _make(kind: type[T], file: str, key: str, table: Mapping[str, Any], **others: Any) -> T:
    fields = {field.name: field for field in attrs.fields(kind) if field.name not in _ELSEWHERE}
    _check_keys(file, key, table, fields)
    for name, field in fields.items():
        if field.default is attrs.NOTHING and name not in table:
            raise SpecError(file, f"{key}.{name}", "is missing")
    try:
        return kind(**table, **others)
    except ParameterError as error:
        member = error.name.rpartition(".")[2]
        raise SpecError(file, f"{key}.{member}" if member in fields else member, error.problem) from error


def _check_keys(file: str, key: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
    for name in table:
        if name not in known:
            matches = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {matches[0]}?" if matches else ""
            raise SpecError(file, f"{key}.{name}" if key else name, f"no such key{hint}")
