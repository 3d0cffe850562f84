# SPDX-License-Identifier: BSD-2-Clause
"""The state file of an instance: versioned JSON, read strictly and replaced atomically.

The new file is synced before it replaces the old one, so after a crash one of the two exists, complete. The file
describes the machine and contains no command line, because QEMU versions differ in their options.
"""

import contextlib
import json
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn

from hvkit.hypervisor.errors import RuntimeStateError
from hvkit.hypervisor.kvm.host.runtime import Runtime

T = TypeVar("T")

#: The version of the file format. A newer one is refused, an older one is upgraded when it is read. Members added by
#: versions 2 and 4 have defaults. Version 3 renamed `adoption.watch_monitor` to `adoption.shared_monitor`.
VERSION: Final = 4
_FORMAT: Final = "hvkit kvm runtime"


def write_runtime(path: Path, runtime: Runtime) -> None:
    """Replace the state file of an instance.

    After success the new state is on the disk, after failure the old one. The caller holds the lock of the instance.

    Raises:
        RuntimeStateError: it cannot be written.
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
    """Read the state file of an instance; None if there is none.

    Args:
        path: the state file.
        name: the instance that it has to describe.

    Raises:
        RuntimeStateError: the file cannot be read, is damaged, or was written by a newer hvkit. The reason names the
            member at fault.
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
        raise RuntimeStateError(name, str(path), f"is damaged: it describes instance {runtime.instance.name}")
    return runtime


class RuntimeCache:
    """A cache of state files for frequent listings, which re-reads a file only if it was replaced. Thread-safe.

    Operations that change an instance read the file itself.
    """

    def __init__(self) -> None:
        self._entries: dict[str, tuple[tuple[int, ...], Runtime]] = {}

    def read(self, path: Path, name: str) -> Runtime | None:
        """Return the persisted state of an instance, as `read_runtime` does.

        Raises:
            RuntimeStateError: as for `read_runtime`.
        """
        try:
            status = os.stat(path)
        except OSError:  # reading it reports the reason
            return read_runtime(path, name)
        # The file is replaced, never modified: a new file differs in its inode, or in the time if it reuses an inode.
        stamp = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        entry = self._entries.get(name)
        if entry is not None and entry[0] == stamp:
            return entry[1]
        # If the file is replaced between stat and read, its stamp differs at the next call.
        runtime = read_runtime(path, name)
        if runtime is not None:
            self._entries[name] = (stamp, runtime)
        return runtime

    def keep(self, names: Collection[str]) -> None:
        """Drop all instances from the cache except these."""
        for name in self._entries.keys() - set(names):
            self._entries.pop(name, None)  # another thread may have dropped it


def to_plain(value: Any) -> Any:
    """Return an attrs value of the state file as plain data for JSON."""
    return _converter.unstructure(value)


def from_plain(data: Any, kind: type[T]) -> T:
    """Return the value that `to_plain` converted.

    Raises:
        ValueError: the data does not have the members and types of `kind`. The text names the member at fault.
    """
    try:
        return _converter.structure(data, kind)
    except cattrs.BaseValidationError as error:
        raise ValueError(_describe(error)) from error


class _Damage(Exception):
    """Raised when the data is not a state file that this version can read."""


def _parse(data: Any) -> Runtime:
    if not isinstance(data, dict) or data.pop("format", None) != _FORMAT:
        raise _Damage("is damaged: it is not a state file of hvkit")
    version = data.pop("version", None)
    if type(version) is not int or version < 1:
        raise _Damage(f"is damaged: version: {version!r}")
    if version > VERSION:
        raise _Damage(
            f"has version {version} and was written by a newer hvkit; this hvkit reads up to version {VERSION}"
        )
    if version < 3:
        _upgrade_to_3(data)
    try:
        return _converter.structure(data, Runtime)
    except cattrs.BaseValidationError as error:
        raise _Damage(f"is damaged: {_describe(error)}") from error


def _upgrade_to_3(data: dict[str, Any]) -> None:
    adoption = data.get("adoption")
    if isinstance(adoption, dict) and "watch_monitor" in adoption:
        adoption["shared_monitor"] = adoption.pop("watch_monitor")


_NOTE: Final = re.compile(r"@ (attribute|index) (\S+)$")


def _describe(error: BaseException, place: str = "") -> str:
    """Describe the first error with the path of its member. cattrs adds each step of the path as an exception note."""
    for note in getattr(error, "__notes__", ()):
        match = _NOTE.search(note)
        if match:
            place += f"[{match[2]}]" if match[1] == "index" else f".{match[2]}"
    if isinstance(error, cattrs.BaseValidationError):
        return _describe(error.exceptions[0], place)
    problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return f"{place.lstrip('.')}: {problem}" if place else problem


# The converter is strict: it neither coerces values nor ignores unknown members.


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
