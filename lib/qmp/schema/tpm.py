# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `tpm`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Struct, Union

#: Enumeration `TpmModel`, since 1.5. Needs CONFIG_TPM.
TpmModel = Literal["tpm-tis", "tpm-crb", "tpm-spapr"]

#: Enumeration `TpmType`, since 1.5. Needs CONFIG_TPM.
TpmType = Literal["passthrough", "emulator"]


class TPMEmulatorOptions(Struct):
    """Struct `TPMEmulatorOptions`, since 2.11. Needs CONFIG_TPM."""

    chardev: str


class TpmTypeOptions(
    Union,
    tag="type",
    branches={"passthrough": "TPMPassthroughOptionsWrapper", "emulator": "TPMEmulatorOptionsWrapper"},
):
    """Union `TpmTypeOptions`, since 1.5. Needs CONFIG_TPM."""

    type: TpmType


class TPMPassthroughOptionsWrapper(TpmTypeOptions):
    """Struct `TPMPassthroughOptionsWrapper`, since 1.5. Needs CONFIG_TPM. Branch of `TpmTypeOptions` where `type` is
    `passthrough`.
    """

    type: Literal["passthrough"] = "passthrough"
    data: TPMPassthroughOptions


class TPMEmulatorOptionsWrapper(TpmTypeOptions):
    """Struct `TPMEmulatorOptionsWrapper`, since 2.11. Needs CONFIG_TPM. Branch of `TpmTypeOptions` where `type` is
    `emulator`.
    """

    type: Literal["emulator"] = "emulator"
    data: TPMEmulatorOptions


class TPMInfo(Struct):
    """Struct `TPMInfo`, since 1.5. Needs CONFIG_TPM."""

    id: str
    model: TpmModel
    options: TpmTypeOptions


class TPMPassthroughOptions(Struct):
    """Struct `TPMPassthroughOptions`, since 1.5. Needs CONFIG_TPM."""

    path: str | None = None
    cancel_path: str | None = None


class QueryTpm(Command["list[TPMInfo]"], wire_name="query-tpm"):
    """Command `query-tpm`, since 1.5. Needs CONFIG_TPM. Returns a list of `TPMInfo`."""


class QueryTpmModels(Command["list[TpmModel]"], wire_name="query-tpm-models"):
    """Command `query-tpm-models`, since 1.5. Needs CONFIG_TPM. Returns a list of `TpmModel`."""


class QueryTpmTypes(Command["list[TpmType]"], wire_name="query-tpm-types"):
    """Command `query-tpm-types`, since 1.5. Needs CONFIG_TPM. Returns a list of `TpmType`."""
