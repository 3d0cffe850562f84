# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: drives whose medium can be taken out."""

from collections.abc import Mapping
from typing import Any, Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.parameters.disks import DISK_DRIVERS
from hvkit.hypervisor.parameters import ABSOLUTE_PATH, READABLE_FILE, Check, Parameter, Rule, one_of

#: Which device a CD drive is, by the value of the parameter.
CDROM_DRIVERS: Final[dict[str, str]] = {"paravirtual": "virtio-blk-pci", "ide": "ide-cd", "scsi-cd": "scsi-cd"}

_URL_SCHEMES: Final = ("http://", "https://")


def is_url(image: str) -> bool:
    """Return whether the image of a CD is on a web server."""
    return image.startswith(_URL_SCHEMES)


_IMAGE: Final = Check(
    "an absolute path, or a URL of http or https",
    lambda value: value.isprintable() and (is_url(value) or ABSOLUTE_PATH.accepts(value)),
)
_IMAGE_HERE: Final = Check(
    "a URL, or a file of this node that can be read", lambda value: is_url(value) or READABLE_FILE.accepts(value)
)


def _second_cdrom_has_a_first(parameters: Mapping[str, Any]) -> None:
    if parameters["cdrom2_image_path"] and not parameters["cdrom_image_path"]:
        raise ParameterError("cdrom2_image_path", parameters["cdrom2_image_path"], "there is no cdrom_image_path")


PARAMETERS: Final = (
    Parameter(
        name="cdrom_image_path",
        kind=str,
        default="",
        doc="Image in the CD drive: a file, or a URL of http or https. Empty: no drive.",
        syntax=_IMAGE,
        node=_IMAGE_HERE,
    ),
    Parameter(
        name="cdrom2_image_path",
        kind=str,
        default="",
        doc="Image in a second CD drive, such as one with drivers for the guest. Empty: no such drive.",
        syntax=_IMAGE,
        node=_IMAGE_HERE,
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
        doc="Image in the floppy drive. Empty: no drive.",
        syntax=ABSOLUTE_PATH,
        node=READABLE_FILE,
    ),
)

RULES: Final[tuple[Rule, ...]] = (_second_cdrom_has_a_first,)
