# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `transaction`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hvkit.qmp.base import Command, Struct, Union

if TYPE_CHECKING:
    from hvkit.qmp.schema.block_core import (
        BlockdevBackup,
        BlockdevSnapshot,
        BlockdevSnapshotInternal,
        BlockdevSnapshotSync,
        BlockDirtyBitmap,
        BlockDirtyBitmapAdd,
        BlockDirtyBitmapMerge,
        DriveBackup,
    )

#: Enumeration `ActionCompletionMode`, since 2.5.
ActionCompletionMode = Literal["individual", "grouped"]

#: Enumeration `TransactionActionKind`, since 1.1.
TransactionActionKind = Literal[
    "abort",
    "block-dirty-bitmap-add",
    "block-dirty-bitmap-remove",
    "block-dirty-bitmap-clear",
    "block-dirty-bitmap-enable",
    "block-dirty-bitmap-disable",
    "block-dirty-bitmap-merge",
    "blockdev-backup",
    "blockdev-snapshot",
    "blockdev-snapshot-internal-sync",
    "blockdev-snapshot-sync",
    "drive-backup",  # deprecated
]


class Abort(Struct):
    """Struct `Abort`, since 1.6."""


class TransactionAction(
    Union,
    tag="type",
    branches={
        "abort": "AbortWrapper",
        "block-dirty-bitmap-add": "BlockDirtyBitmapAddWrapper",
        "block-dirty-bitmap-remove": "BlockDirtyBitmapWrapper",
        "block-dirty-bitmap-clear": "BlockDirtyBitmapWrapper",
        "block-dirty-bitmap-enable": "BlockDirtyBitmapWrapper",
        "block-dirty-bitmap-disable": "BlockDirtyBitmapWrapper",
        "block-dirty-bitmap-merge": "BlockDirtyBitmapMergeWrapper",
        "blockdev-backup": "BlockdevBackupWrapper",
        "blockdev-snapshot": "BlockdevSnapshotWrapper",
        "blockdev-snapshot-internal-sync": "BlockdevSnapshotInternalWrapper",
        "blockdev-snapshot-sync": "BlockdevSnapshotSyncWrapper",
        "drive-backup": "DriveBackupWrapper",
    },
):
    """Union `TransactionAction`, since 1.1."""

    type: TransactionActionKind


class BlockDirtyBitmapAddWrapper(TransactionAction):
    """Struct `BlockDirtyBitmapAddWrapper`, since 2.5. Branch of `TransactionAction` where `type` is
    `block-dirty-bitmap-add`.
    """

    type: Literal["block-dirty-bitmap-add"] = "block-dirty-bitmap-add"
    data: BlockDirtyBitmapAdd


class BlockDirtyBitmapWrapper(TransactionAction):
    """Struct `BlockDirtyBitmapWrapper`, since 2.5. Branch of `TransactionAction` where `type` is
    `block-dirty-bitmap-remove` or `block-dirty-bitmap-clear` or `block-dirty-bitmap-enable` or
    `block-dirty-bitmap-disable`.
    """

    type: Literal[
        "block-dirty-bitmap-remove",
        "block-dirty-bitmap-clear",
        "block-dirty-bitmap-enable",
        "block-dirty-bitmap-disable",
    ]
    data: BlockDirtyBitmap


class BlockDirtyBitmapMergeWrapper(TransactionAction):
    """Struct `BlockDirtyBitmapMergeWrapper`, since 4.0. Branch of `TransactionAction` where `type` is
    `block-dirty-bitmap-merge`.
    """

    type: Literal["block-dirty-bitmap-merge"] = "block-dirty-bitmap-merge"
    data: BlockDirtyBitmapMerge


class BlockdevBackupWrapper(TransactionAction):
    """Struct `BlockdevBackupWrapper`, since 2.3. Branch of `TransactionAction` where `type` is `blockdev-backup`."""

    type: Literal["blockdev-backup"] = "blockdev-backup"
    data: BlockdevBackup


class BlockdevSnapshotWrapper(TransactionAction):
    """Struct `BlockdevSnapshotWrapper`, since 2.5. Branch of `TransactionAction` where `type` is
    `blockdev-snapshot`.
    """

    type: Literal["blockdev-snapshot"] = "blockdev-snapshot"
    data: BlockdevSnapshot


class BlockdevSnapshotInternalWrapper(TransactionAction):
    """Struct `BlockdevSnapshotInternalWrapper`, since 1.7. Branch of `TransactionAction` where `type` is
    `blockdev-snapshot-internal-sync`.
    """

    type: Literal["blockdev-snapshot-internal-sync"] = "blockdev-snapshot-internal-sync"
    data: BlockdevSnapshotInternal


class BlockdevSnapshotSyncWrapper(TransactionAction):
    """Struct `BlockdevSnapshotSyncWrapper`, since 1.1. Branch of `TransactionAction` where `type` is
    `blockdev-snapshot-sync`.
    """

    type: Literal["blockdev-snapshot-sync"] = "blockdev-snapshot-sync"
    data: BlockdevSnapshotSync


class DriveBackupWrapper(TransactionAction):
    """Struct `DriveBackupWrapper`, since 1.6. Branch of `TransactionAction` where `type` is `drive-backup`."""

    type: Literal["drive-backup"] = "drive-backup"
    data: DriveBackup


class AbortWrapper(TransactionAction):
    """Struct `AbortWrapper`, since 1.6. Branch of `TransactionAction` where `type` is `abort`."""

    type: Literal["abort"] = "abort"
    data: Abort


class TransactionProperties(Struct):
    """Struct `TransactionProperties`, since 2.5."""

    completion_mode: ActionCompletionMode | None = None


class Transaction(Command[None], wire_name="transaction"):
    """Command `transaction`, since 1.1."""

    actions: list[TransactionAction]
    properties: TransactionProperties | None = None
