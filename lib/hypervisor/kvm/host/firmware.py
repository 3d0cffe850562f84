# SPDX-License-Identifier: BSD-2-Clause
"""UEFI firmware installed on this node, and the file of an instance's UEFI variables.

Packages of firmware describe it in JSON files: its features, its machine types, the paths of its code and of the
template of its variables. The administrator's directory takes precedence over the distribution's: a file hides those of
the same name in later directories, and an empty file hides them without a replacement.
Source: QEMU, docs/interop/firmware.json.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities
from hvkit.hypervisor.kvm.plan.firmware import UEFI_KINDS, Firmware, match_firmware

#: The directories of firmware descriptions, in order of precedence.
FIRMWARE_DIRS: Final = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))


def find_firmware(kind: str, target: str, machine: str, directories: Sequence[Path] = FIRMWARE_DIRS) -> Firmware:
    """Find the first firmware of a kind for a machine type.

    Args:
        kind: value of the parameter `firmware`, one of `UEFI_KINDS`.
        target: the architecture of the guest, such as ``x86_64``.
        machine: the full name of the machine type.
        directories: the directories of descriptions, in order of precedence.

    Raises:
        ParameterError: there is none. The error lists descriptions that could not be read.
    """
    unreadable: list[str] = []
    for path in _descriptions(directories):
        try:
            found = match_firmware(json.loads(path.read_bytes()), kind, target, machine)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            unreadable.append(f"{path} ({type(error).__name__}: {error})")
            continue
        if found is not None:
            return found
    problem = f"{' and '.join(map(str, directories))} describe no firmware of this kind for {machine}"
    if unreadable:
        problem += f"; invalid descriptions: {', '.join(unreadable)}"
    raise ParameterError("firmware", kind, problem)


def _descriptions(directories: Iterable[Path]) -> Iterator[Path]:
    """List the descriptions that are in effect, by file name across directories."""
    by_name: dict[str, Path] = {}
    for directory in directories:
        for path in directory.glob("*.json"):
            by_name.setdefault(path.name, path)
    for _, path in sorted(by_name.items()):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size:
                yield path


def choose_firmware(parameters: Mapping[str, Any], capabilities: Capabilities) -> Firmware | None:
    """Return the UEFI firmware that the parameters ask for; None for QEMU's own BIOS.

    Raises:
        ParameterError: there is none for the machine type, or it cannot be read.
    """
    kind = parameters["firmware"]
    if kind not in UEFI_KINDS:
        return None
    machine = capabilities.find_machine(parameters["machine_version"])
    firmware = find_firmware(kind, capabilities.target, machine.name)
    check_files(firmware)
    return firmware


def check_files(firmware: Firmware) -> None:
    """Check that the files of a firmware exist.

    Raises:
        ParameterError: a file cannot be read.
    """
    for path in (firmware.code, firmware.template):
        if not os.access(path, os.R_OK):
            raise ParameterError("firmware", path, f"{path}, which a firmware description names, cannot be read")


def make_variables(template: str, path: Path) -> None:
    """Create the file of UEFI variables, with mode 0600, unless it exists. A crash leaves no incomplete file.

    Raises:
        ParameterError: it cannot be created.
    """
    if path.exists():
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as made:
            try:
                with open(template, "rb") as source:
                    shutil.copyfileobj(source, made)
                made.flush()
                os.fsync(made.fileno())
                os.rename(made.name, path)
            except BaseException:
                os.unlink(made.name)
                raise
    except OSError as error:
        raise ParameterError(
            "firmware", str(path), f"{path} cannot be created from {template}: {error.strerror}"
        ) from error
