# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `block-export`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from hvkit.qmp.base import Command, Event, Struct, Union

if TYPE_CHECKING:
    from hvkit.qmp.schema.block_core import BlockDirtyBitmapOrStr
    from hvkit.qmp.schema.sockets import SocketAddress, SocketAddressLegacy

#: Alternate `BlockExportIothreads`, since 10.1.
BlockExportIothreads: TypeAlias = "str | list[str]"

#: Enumeration `BlockExportRemoveMode`, since 2.12.
BlockExportRemoveMode = Literal["safe", "hard"]

#: Enumeration `BlockExportType`, since 4.2.
BlockExportType = Literal["nbd", "vhost-user-blk", "fuse", "vduse-blk"]

#: Enumeration `FuseExportAllowOther`, since 6.1.
FuseExportAllowOther = Literal["off", "on", "auto"]


class BlockExportInfo(Struct):
    """Struct `BlockExportInfo`, since 5.2."""

    id: str
    type: BlockExportType
    node_name: str
    shutting_down: bool


class BlockExportOptions(
    Union,
    tag="type",
    branches={
        "nbd": "BlockExportOptionsNbd",
        "vhost-user-blk": "BlockExportOptionsVhostUserBlk",
        "fuse": "BlockExportOptionsFuse",
        "vduse-blk": "BlockExportOptionsVduseBlk",
    },
):
    """Union `BlockExportOptions`, since 4.2."""

    type: BlockExportType
    id: str
    node_name: str
    writable: bool | None = None
    writethrough: bool | None = None
    iothread: BlockExportIothreads | None = None
    fixed_iothread: bool | None = None
    allow_inactive: bool | None = None  # since 10.0


class BlockExportOptionsNbdBase(Struct):
    """Struct `BlockExportOptionsNbdBase`, since 5.0."""

    name: str | None = None
    description: str | None = None


class BlockExportOptionsNbd(BlockExportOptionsNbdBase, BlockExportOptions):
    """Struct `BlockExportOptionsNbd`, since 5.2. Branch of `BlockExportOptions` where `type` is `nbd`."""

    type: Literal["nbd"] = "nbd"
    bitmaps: list[BlockDirtyBitmapOrStr] | None = None
    allocation_depth: bool | None = None


class BlockExportOptionsVhostUserBlk(BlockExportOptions):
    """Struct `BlockExportOptionsVhostUserBlk`, since 5.2. Branch of `BlockExportOptions` where `type` is
    `vhost-user-blk`.
    """

    type: Literal["vhost-user-blk"] = "vhost-user-blk"
    addr: SocketAddress
    logical_block_size: int | None = None
    num_queues: int | None = None


class BlockExportOptionsFuse(BlockExportOptions):
    """Struct `BlockExportOptionsFuse`, since 6.0. Needs CONFIG_FUSE. Branch of `BlockExportOptions` where `type` is
    `fuse`.
    """

    type: Literal["fuse"] = "fuse"
    mountpoint: str
    growable: bool | None = None
    allow_other: FuseExportAllowOther | None = None


class BlockExportOptionsVduseBlk(BlockExportOptions):
    """Struct `BlockExportOptionsVduseBlk`, since 7.1. Branch of `BlockExportOptions` where `type` is `vduse-blk`."""

    type: Literal["vduse-blk"] = "vduse-blk"
    name: str
    num_queues: int | None = None
    queue_size: int | None = None
    logical_block_size: int | None = None
    serial: str | None = None


class NbdServerAddOptions(BlockExportOptionsNbdBase):
    """Struct `NbdServerAddOptions`, since 5.0."""

    device: str
    writable: bool | None = None
    bitmap: str | None = None


class NbdServerOptionsBase(Struct):
    """Struct `NbdServerOptionsBase`, 10.0 and later."""

    handshake_max_seconds: int | None = None
    tls_creds: str | None = None
    tls_authz: str | None = None
    max_connections: int | None = None


class NbdServerOptionsLegacy(NbdServerOptionsBase):
    """Struct `NbdServerOptionsLegacy`, 10.0 and later."""

    addr: SocketAddressLegacy


class BlockExportDeletedEvent(Event, wire_name="BLOCK_EXPORT_DELETED"):
    """Event `BLOCK_EXPORT_DELETED`, since 5.2."""

    id: str


class BlockExportAdd(Command[None], wire_name="block-export-add", whole_argument="arguments", kw_only=False):
    """Command `block-export-add`, since 5.2. Allowed before the machine is made."""

    arguments: BlockExportOptions


class BlockExportDel(Command[None], wire_name="block-export-del"):
    """Command `block-export-del`, since 5.2. Allowed before the machine is made."""

    id: str
    mode: BlockExportRemoveMode | None = None


class NbdServerAdd(NbdServerAddOptions, Command[None], wire_name="nbd-server-add"):
    """Command `nbd-server-add`, since 1.3. Deprecated. Allowed before the machine is made."""


class NbdServerRemove(Command[None], wire_name="nbd-server-remove"):
    """Command `nbd-server-remove`, since 2.12. Deprecated. Allowed before the machine is made."""

    name: str
    mode: BlockExportRemoveMode | None = None


class NbdServerStart(NbdServerOptionsLegacy, Command[None], wire_name="nbd-server-start"):
    """Command `nbd-server-start`, since 1.3. Allowed before the machine is made."""


class NbdServerStop(Command[None], wire_name="nbd-server-stop"):
    """Command `nbd-server-stop`, since 1.3. Allowed before the machine is made."""


class QueryBlockExports(Command["list[BlockExportInfo]"], wire_name="query-block-exports"):
    """Command `query-block-exports`, since 5.2. Returns a list of `BlockExportInfo`. Allowed before the machine is
    made.
    """
