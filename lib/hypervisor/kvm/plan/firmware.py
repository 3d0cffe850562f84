# SPDX-License-Identifier: BSD-2-Clause
"""The UEFI firmware of a machine, found among what is installed on this node, and the variables it keeps.

Whoever packages firmware describes it in files for QEMU's users: what it is, for which machines, and where its code and
the template of its variables are. An administrator's directory comes before the distribution's; a file hides those of
the same name in later ones, and an empty file hides them for good. Source: QEMU, docs/interop/firmware.json.
"""

import contextlib
import fnmatch
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities
from hvkit.qmp.schema import BlockdevOptions, BlockdevOptionsFile, BlockdevOptionsQcow2

#: Where descriptions are, the first before the second.
FIRMWARE_DIRS: Final = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))

#: For each value of the parameter: features that the firmware must have, and those that it must not have.
_FEATURES: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    "uefi": (frozenset(), frozenset({"requires-smm", "enrolled-keys", "secure-boot"})),
    "uefi-secure": (frozenset({"secure-boot", "enrolled-keys"}), frozenset()),
}
#: The values of the parameter that name firmware of this kind.
UEFI_KINDS: Final = tuple(_FEATURES)


@attrs.frozen(kw_only=True)
class Firmware:
    """UEFI firmware as it is installed.

    Attributes:
        code: file of the code, which machines share.
        code_format: its format, ``raw`` or ``qcow2``.
        template: file that a machine's variables begin as.
        template_format: its format, which the variables have too.
        needs_smm: whether its variables have to be closed to all but itself, by system management mode.
    """

    code: str
    code_format: str
    template: str
    template_format: str
    needs_smm: bool = False


def find_firmware(kind: str, target: str, machine: str, directories: Sequence[Path] = FIRMWARE_DIRS) -> Firmware:
    """Find the first firmware of a kind that is made for a machine.

    Args:
        kind: value of the parameter `firmware`, one of `UEFI_KINDS`.
        target: the architecture of the guest, such as ``x86_64``.
        machine: full name of the machine type.
        directories: where descriptions are, the most important first.

    Raises:
        ParameterError: there is none. The error says which descriptions could not be read.
    """
    unreadable: list[str] = []
    for path in _descriptions(directories):
        try:
            found = _match(json.loads(path.read_bytes()), kind, target, machine)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            unreadable.append(f"{path} ({type(error).__name__}: {error})")
            continue
        if found is not None:
            return found
    problem = f"no firmware of this kind for {machine} is described in {' or '.join(map(str, directories))}"
    if unreadable:
        problem += f"; not understood: {', '.join(unreadable)}"
    raise ParameterError("firmware", kind, problem)


def _descriptions(directories: Iterable[Path]) -> Iterator[Path]:
    """List descriptions in their order: by name, wherever they are."""
    by_name: dict[str, Path] = {}
    for directory in directories:
        for path in directory.glob("*.json"):
            by_name.setdefault(path.name, path)
    for _, path in sorted(by_name.items()):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size:
                yield path


def _match(description: dict[str, Any], kind: str, target: str, machine: str) -> Firmware | None:
    """Return what a description describes if it is what is wanted; None if it is something else."""
    mapping = description["mapping"]
    if "uefi" not in description["interface-types"] or mapping["device"] != "flash":
        return None
    if mapping.get("mode", "split") != "split":
        return None
    wanted, unwanted = _FEATURES[kind]
    features = frozenset(description["features"])
    if not wanted <= features or unwanted & features:
        return None
    if not any(
        place["architecture"] == target and any(fnmatch.fnmatchcase(machine, glob) for glob in place["machines"])
        for place in description["targets"]
    ):
        return None
    return Firmware(
        code=str(mapping["executable"]["filename"]),
        code_format=str(mapping["executable"]["format"]),
        template=str(mapping["nvram-template"]["filename"]),
        template_format=str(mapping["nvram-template"]["format"]),
        needs_smm="requires-smm" in features,
    )


def choose_firmware(parameters: Mapping[str, Any], capabilities: Capabilities) -> Firmware | None:
    """Return the UEFI firmware that an instance asks for; None where it asks for QEMU's own BIOS.

    Raises:
        ParameterError: there is none for its machine type, or it cannot be read.
    """
    kind = parameters["firmware"]
    if kind not in UEFI_KINDS:
        return None
    machine = capabilities.find_machine(parameters["machine_version"])
    firmware = find_firmware(kind, capabilities.target, machine.name)
    check_files(firmware)
    return firmware


def check_files(firmware: Firmware) -> None:
    """Make sure that what a description names is there.

    Raises:
        ParameterError: a file cannot be read.
    """
    for path in (firmware.code, firmware.template):
        if not os.access(path, os.R_OK):
            raise ParameterError("firmware", path, f"{path} is described as firmware and cannot be read")


def make_variables(template: str, path: Path) -> None:
    """Give a machine variables of its own, unless it has some. Their file is whole or not there, of mode 0600.

    Raises:
        ParameterError: it cannot be made.
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
        raise ParameterError("firmware", str(path), f"{path} cannot be made of {template}: {error.strerror}") from error


@attrs.frozen(kw_only=True)
class Flash:
    """Firmware in a machine's flash memory.

    Attributes:
        code: its code, which is not written to.
        variables: its variables.
        is_secure: whether only code in system management mode may write to them.
    """

    code: BlockdevOptions
    variables: BlockdevOptions
    is_secure: bool


def plan_flash(firmware: Firmware, variables: str) -> Flash:
    """Plan the flash memory of a machine with UEFI firmware.

    Args:
        firmware: the firmware.
        variables: by which name QEMU opens the file of the machine's own variables.
    """
    return Flash(
        code=_flash_node("firmware-code", firmware.code, firmware.code_format, read_only=True),
        variables=_flash_node("firmware-variables", variables, firmware.template_format, read_only=False),
        is_secure=firmware.needs_smm,
    )


def _flash_node(name: str, filename: str, format_: str, *, read_only: bool) -> BlockdevOptions:
    if format_ != "qcow2":
        return BlockdevOptionsFile(
            driver="file", node_name=name, filename=filename, read_only=read_only, auto_read_only=False
        )
    file = BlockdevOptionsFile(driver="file", filename=filename, read_only=read_only, auto_read_only=False)
    return BlockdevOptionsQcow2(node_name=name, file=file, read_only=read_only, auto_read_only=False)
