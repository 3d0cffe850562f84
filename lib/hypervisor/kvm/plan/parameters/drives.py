# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: drives whose medium can be taken out."""

from collections.abc import Mapping
from typing import Any, Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters.disks import DISK_DRIVERS
from hvkit.hypervisor.parameters import ABSOLUTE_PATH, Check, Parameter, Rule, one_of

#: Which device a CD drive is, by the value of the parameter.
CDROM_DRIVERS: Final[dict[str, str]] = {"paravirtual": "virtio-blk-pci", "ide": "ide-cd", "scsi-cd": "scsi-cd"}

#: The types of disks that a CD drive can be like.
_LIKE_DISKS: Final = {
    "paravirtual": "paravirtual",
    "ide": "ide",
    "scsi-hd": "scsi-cd",
    "scsi-cd": "scsi-cd",
    "scsi-block": "scsi-cd",
    "scsi-generic": "scsi-cd",
}

#: The image of a drive that is there and has nothing in it.
EMPTY: Final = "empty"
_URL_SCHEMES: Final = ("http://", "https://")


def is_url(image: str) -> bool:
    """Return whether the image of a CD is on a web server."""
    return image.startswith(_URL_SCHEMES)


def is_file(image: str) -> bool:
    """Return whether the image of a drive is a file: there is a drive, it is not empty, and no web server has it."""
    return image not in ("", EMPTY) and not is_url(image)


_CD: Final = Check(
    f"an absolute path, a URL of http or https, or {EMPTY}",
    lambda value: value.isprintable() and (not is_file(value) or ABSOLUTE_PATH.accepts(value)),
)
_FLOPPY: Final = Check(f"an absolute path, or {EMPTY}", lambda value: value == EMPTY or ABSOLUTE_PATH.accepts(value))


def _second_cdrom_has_a_first(parameters: Mapping[str, Any]) -> None:
    if parameters["cdrom2_image_path"] and not parameters["cdrom_image_path"]:
        raise ParameterError("cdrom2_image_path", parameters["cdrom2_image_path"], "there is no cdrom_image_path")


def cdrom_type(parameters: Mapping[str, Any]) -> str:
    """Return what the guest sees its CD drives as, one of `CDROM_DRIVERS`."""
    return _LIKE_DISKS[parameters["cdrom_disk_type"] or parameters["disk_type"]]


def _empty_drive_can_be_filled(parameters: Mapping[str, Any]) -> None:
    for name in ("cdrom_image_path", "cdrom2_image_path"):
        if parameters[name] == EMPTY and cdrom_type(parameters) == "paravirtual":
            problem = "a paravirtual CD drive is a disk, which is never empty; cdrom_disk_type says what else it can be"
            raise ParameterError(name, EMPTY, problem)


PARAMETERS: Final = (
    Parameter(
        name="cdrom_image_path",
        kind=str,
        default="",
        doc="Image in the CD drive: a file, or a URL of http or https; the word empty for a drive with nothing in it. "
        "No text: no drive.",
        syntax=_CD,
    ),
    Parameter(
        name="cdrom2_image_path",
        kind=str,
        default="",
        doc="Image in a second CD drive, such as one with drivers for the guest; as cdrom_image_path.",
        syntax=_CD,
    ),
    Parameter(
        name="cdrom_disk_type",
        kind=str,
        default="",
        doc="What the guest sees its CD drives as; a paravirtual one is a disk whose medium cannot be changed. Any of "
        "SCSI is scsi-cd. Empty: as disk_type has it.",
        syntax=one_of("", *DISK_DRIVERS),
    ),
    Parameter(
        name="floppy_image_path",
        kind=str,
        default="",
        doc="Image in the floppy drive: a file; the word empty for a drive with nothing in it. No text: no drive.",
        syntax=_FLOPPY,
    ),
)

RULES: Final[tuple[Rule, ...]] = (_second_cdrom_has_a_first, _empty_drive_can_be_filled)
