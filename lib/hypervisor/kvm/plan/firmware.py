# SPDX-License-Identifier: BSD-2-Clause
"""The UEFI firmware of a machine, found among what is installed on this node, and the variables it keeps.

Whoever packages firmware describes it in files for QEMU's users: what it is, for which machines, and where its code and
the template of its variables are. An administrator's directory comes before the distribution's; a file hides those of
the same name in later ones, and an empty file hides them for good. Source: QEMU, docs/interop/firmware.json.
"""

import fnmatch
from typing import Any, Final

import attrs

from hvkit.qmp.schema import BlockdevOptions, BlockdevOptionsFile, BlockdevOptionsQcow2

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


def match_firmware(description: dict[str, Any], kind: str, target: str, machine: str) -> Firmware | None:
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
