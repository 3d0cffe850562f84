# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: CD and floppy drives."""

from collections.abc import Mapping
from typing import Any, Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters.disks import DISK_DRIVERS
from hvkit.hypervisor.parameters import ABSOLUTE_PATH, Check, Parameter, Rule, one_of

#: The device model of each type of CD drive.
CDROM_DRIVERS: Final[dict[str, str]] = {"paravirtual": "virtio-blk-pci", "ide": "ide-cd", "scsi-cd": "scsi-cd"}

#: The type of CD drive for each type of disk.
_CDROM_TYPES: Final = {
    "paravirtual": "paravirtual",
    "ide": "ide",
    "scsi-hd": "scsi-cd",
    "scsi-cd": "scsi-cd",
    "scsi-block": "scsi-cd",
    "scsi-generic": "scsi-cd",
}

#: The image of an empty drive.
EMPTY: Final = "empty"
_URL_SCHEMES: Final = ("http://", "https://")


def is_url(image: str) -> bool:
    """Return whether an image is a URL."""
    return image.startswith(_URL_SCHEMES)


def is_file(image: str) -> bool:
    """Return whether an image is a file: not a URL, not an empty drive, not a missing drive."""
    return image not in ("", EMPTY) and not is_url(image)


_CD: Final = Check(
    f"an absolute path, a URL of http or https, or {EMPTY}",
    lambda value: value.isprintable() and (not is_file(value) or ABSOLUTE_PATH.accepts(value)),
)
_FLOPPY: Final = Check(f"an absolute path, or {EMPTY}", lambda value: value == EMPTY or ABSOLUTE_PATH.accepts(value))


def _check_first_cdrom_exists(parameters: Mapping[str, Any]) -> None:
    if parameters["cdrom2_image_path"] and not parameters["cdrom_image_path"]:
        raise ParameterError("cdrom2_image_path", parameters["cdrom2_image_path"], "requires cdrom_image_path")


def cdrom_type(parameters: Mapping[str, Any]) -> str:
    """Return the type of the CD drives, one of `CDROM_DRIVERS`."""
    return _CDROM_TYPES[parameters["cdrom_disk_type"] or parameters["disk_type"]]


def _check_empty_drive_is_removable(parameters: Mapping[str, Any]) -> None:
    for name in ("cdrom_image_path", "cdrom2_image_path"):
        if parameters[name] == EMPTY and cdrom_type(parameters) == "paravirtual":
            problem = "a paravirtual CD drive is a disk and cannot be empty; set cdrom_disk_type to ide or scsi-cd"
            raise ParameterError(name, EMPTY, problem)


PARAMETERS: Final = (
    Parameter(
        name="cdrom_image_path",
        kind=str,
        default="",
        doc="Image in the CD drive: a file, a URL of http or https, or the word empty for an empty drive. "
        "Empty string: no drive.",
        syntax=_CD,
    ),
    Parameter(
        name="cdrom2_image_path",
        kind=str,
        default="",
        doc="Image in the second CD drive, as for cdrom_image_path; for example with drivers for the guest.",
        syntax=_CD,
    ),
    Parameter(
        name="cdrom_disk_type",
        kind=str,
        default="",
        doc="Type of the CD drives. A paravirtual drive is a disk whose medium cannot be changed. All SCSI types mean "
        "scsi-cd. Empty: the type of disk_type.",
        syntax=one_of("", *DISK_DRIVERS),
    ),
    Parameter(
        name="floppy_image_path",
        kind=str,
        default="",
        doc="Image in the floppy drive: a file, or the word empty for an empty drive. Empty string: no drive.",
        syntax=_FLOPPY,
    ),
)

RULES: Final[tuple[Rule, ...]] = (_check_first_cdrom_exists, _check_empty_drive_is_removable)
