# SPDX-License-Identifier: BSD-2-Clause
"""UEFI firmware: matching of firmware descriptions, and the flash memory of a machine.

`hvkit.hypervisor.kvm.host.firmware` reads the descriptions. Source of their format: QEMU, docs/interop/firmware.json.
"""

import fnmatch
from typing import Any, Final

import attrs

from hvkit.qmp.schema import BlockdevOptions, BlockdevOptionsFile, BlockdevOptionsQcow2

#: For each value of the parameter `firmware`: features that a firmware must have, and must not have.
_FEATURES: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    "uefi": (frozenset(), frozenset({"requires-smm", "enrolled-keys", "secure-boot"})),
    "uefi-secure": (frozenset({"secure-boot", "enrolled-keys"}), frozenset()),
}
#: The values of the parameter `firmware` that mean UEFI.
UEFI_KINDS: Final = tuple(_FEATURES)


@attrs.frozen(kw_only=True)
class Firmware:
    """An installed UEFI firmware.

    Attributes:
        code: the file of its code, shared by all machines.
        code_format: its format, ``raw`` or ``qcow2``.
        template: the file with the initial UEFI variables.
        template_format: its format, and that of the variables of each machine.
        needs_smm: whether the firmware requires that only code in system management mode can write its variables.
    """

    code: str
    code_format: str
    template: str
    template_format: str
    needs_smm: bool = False


def match_firmware(description: dict[str, Any], kind: str, target: str, machine: str) -> Firmware | None:
    """Return the firmware of a description if it matches; otherwise None.

    Args:
        description: the content of a description file.
        kind: the value of the parameter `firmware`.
        target: the architecture of the guest, such as ``x86_64``.
        machine: the full name of the machine type.

    Raises:
        KeyError, TypeError, AttributeError: the description does not have the documented form.
    """
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
    """The flash memory of a machine with UEFI firmware.

    Attributes:
        code: the block node of the code, read-only.
        variables: the block node of the variables.
        is_secure: whether only code in system management mode can write the variables.
    """

    code: BlockdevOptions
    variables: BlockdevOptions
    is_secure: bool


def plan_flash(firmware: Firmware, variables: str) -> Flash:
    """Plan the flash memory of a machine with UEFI firmware.

    Args:
        firmware: the firmware.
        variables: the name by which QEMU opens the file of the variables.
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
