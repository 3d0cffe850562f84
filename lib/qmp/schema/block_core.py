# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `block-core`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from hvkit.qmp.base import Command, Event, Null, Struct, Union, wire
from hvkit.qmp.schema.crypto import (
    QCryptoBlockAmendOptionsLUKS,
    QCryptoBlockCreateOptionsLUKS,
    QCryptoBlockInfoLUKS,
    QCryptoBlockOptionsLUKS,
    QCryptoBlockOptionsQCow,
)
from hvkit.qmp.schema.qom import ObjectOptions

if TYPE_CHECKING:
    from hvkit.qmp.schema.common import IoOperationType, OnOffAuto, StrOrNull
    from hvkit.qmp.schema.crypto import QCryptoBlockAmendOptions, QCryptoBlockCreateOptions, QCryptoCipherAlgo
    from hvkit.qmp.schema.job import JobStatus, JobType
    from hvkit.qmp.schema.sockets import InetSocketAddress, InetSocketAddressBase, SocketAddress

#: Enumeration `BitmapSyncMode`, since 4.2.
BitmapSyncMode = Literal["on-success", "never", "always"]

#: Enumeration `BlkdebugEvent`, since 2.9.
BlkdebugEvent = Literal[
    "l1_shrink_write_table",
    "l1_shrink_free_l2_clusters",
    "cor_write",
    "cluster_alloc_space",
    "none",
    "l1_update",
    "l1_grow_alloc_table",
    "l1_grow_write_table",
    "l1_grow_activate_table",
    "l2_load",
    "l2_update",
    "l2_update_compressed",
    "l2_alloc_cow_read",
    "l2_alloc_write",
    "read_aio",
    "read_backing_aio",
    "read_compressed",
    "write_aio",
    "write_compressed",
    "vmstate_load",
    "vmstate_save",
    "cow_read",
    "cow_write",
    "reftable_load",
    "reftable_grow",
    "reftable_update",
    "refblock_load",
    "refblock_update",
    "refblock_update_part",
    "refblock_alloc",
    "refblock_alloc_hookup",
    "refblock_alloc_write",
    "refblock_alloc_write_blocks",
    "refblock_alloc_write_table",
    "refblock_alloc_switch_table",
    "cluster_alloc",
    "cluster_alloc_bytes",
    "cluster_free",
    "flush_to_os",
    "flush_to_disk",
    "pwritev_rmw_head",
    "pwritev_rmw_after_head",
    "pwritev_rmw_tail",
    "pwritev_rmw_after_tail",
    "pwritev",
    "pwritev_zero",
    "pwritev_done",
    "empty_image_prepare",
]

#: Enumeration `BlkdebugIOType`, since 4.1.
BlkdebugIOType = Literal["read", "write", "write-zeroes", "discard", "flush", "block-status"]

#: Enumeration `BlockDeviceIoStatus`, since 1.0.
BlockDeviceIoStatus = Literal["ok", "failed", "nospace"]

#: Alternate `BlockDirtyBitmapOrStr`, since 4.1.
BlockDirtyBitmapOrStr: TypeAlias = "str | BlockDirtyBitmap"

#: Enumeration `BlockErrorAction`, since 2.1.
BlockErrorAction = Literal["ignore", "report", "stop"]

#: Enumeration `BlockPermission`, since 4.0.
BlockPermission = Literal["consistent-read", "write", "write-unchanged", "resize"]

#: Enumeration `BlockdevAioOptions`, since 2.9.
BlockdevAioOptions = Literal["threads", "native", "io_uring"]

#: Enumeration `BlockdevChangeReadOnlyMode`, since 2.3.
BlockdevChangeReadOnlyMode = Literal["retain", "read-only", "read-write"]

#: Enumeration `BlockdevDetectZeroesOptions`, since 2.1.
BlockdevDetectZeroesOptions = Literal["off", "on", "unmap"]

#: Enumeration `BlockdevDiscardOptions`, since 2.9.
BlockdevDiscardOptions = Literal["ignore", "unmap"]

#: Enumeration `BlockdevDriver`, since 2.9.
BlockdevDriver = Literal[
    "throttle",
    "nvme",
    "copy-on-read",
    "blklogwrites",
    "blkreplay",
    "compress",
    "copy-before-write",
    "snapshot-access",
    "blkdebug",
    "blkverify",
    "bochs",
    "cloop",
    "dmg",
    "file",
    "ftp",
    "ftps",
    "host_cdrom",
    "host_device",
    "http",
    "https",
    "io_uring",
    "iscsi",
    "luks",
    "nbd",
    "nfs",
    "null-aio",
    "null-co",
    "nvme-io_uring",
    "parallels",
    "preallocate",
    "qcow",
    "qcow2",
    "qed",
    "quorum",
    "raw",
    "rbd",
    "replication",
    "ssh",
    "vdi",
    "vhdx",
    "virtio-blk-vfio-pci",
    "virtio-blk-vhost-user",
    "virtio-blk-vhost-vdpa",
    "vmdk",
    "vpc",
    "vvfat",
    "gluster",  # until 10.0, deprecated
]

#: Enumeration `BlockdevOnError`, since 1.3.
BlockdevOnError = Literal["report", "ignore", "enospc", "stop", "auto"]

#: Enumeration `BlockdevQcow2EncryptionFormat`, since 2.10.
BlockdevQcow2EncryptionFormat = Literal["aes", "luks"]

#: Enumeration `BlockdevQcow2Version`, since 2.12.
BlockdevQcow2Version = Literal["v2", "v3"]

#: Enumeration `BlockdevQcowEncryptionFormat`, since 2.10.
BlockdevQcowEncryptionFormat = Literal["aes"]

#: Alternate `BlockdevRef`, since 2.9.
BlockdevRef: TypeAlias = "BlockdevOptions | str"

#: Alternate `BlockdevRefOrNull`, since 2.9.
BlockdevRefOrNull: TypeAlias = "BlockdevOptions | str | Null"

#: Enumeration `BlockdevVhdxSubformat`, since 2.12.
BlockdevVhdxSubformat = Literal["dynamic", "fixed"]

#: Enumeration `BlockdevVmdkAdapterType`, since 4.0.
BlockdevVmdkAdapterType = Literal["ide", "buslogic", "lsilogic", "legacyESX"]

#: Enumeration `BlockdevVmdkSubformat`, since 4.0.
BlockdevVmdkSubformat = Literal[
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
]

#: Enumeration `BlockdevVpcSubformat`, since 2.12.
BlockdevVpcSubformat = Literal["dynamic", "fixed"]

#: Enumeration `ImageInfoSpecificKind`, since 1.7.
ImageInfoSpecificKind = Literal[
    "luks",
    "rbd",
    "file",  # since 8.0
    "qcow2",
    "vmdk",
]

#: Enumeration `IscsiHeaderDigest`, since 2.9.
IscsiHeaderDigest = Literal["crc32c", "none", "crc32c-none", "none-crc32c"]

#: Enumeration `IscsiTransport`, since 2.9.
IscsiTransport = Literal["tcp", "iser"]

#: Enumeration `MirrorCopyMode`, since 3.0.
MirrorCopyMode = Literal["background", "write-blocking"]

#: Enumeration `MirrorSyncMode`, since 1.3.
MirrorSyncMode = Literal["top", "full", "none", "incremental", "bitmap"]

#: Enumeration `NFSTransport`, since 2.9.
NFSTransport = Literal["inet"]

#: Enumeration `NewImageMode`, since 1.1.
NewImageMode = Literal["existing", "absolute-paths"]

#: Enumeration `OnCbwError`, since 7.1.
OnCbwError = Literal["break-guest-write", "break-snapshot"]

#: Enumeration `PreallocMode`, since 2.2.
PreallocMode = Literal["off", "metadata", "falloc", "full"]

#: Enumeration `Qcow2BitmapInfoFlags`, since 4.0.
Qcow2BitmapInfoFlags = Literal["in-use", "auto"]

#: Enumeration `Qcow2CompressionType`, since 5.1.
Qcow2CompressionType = Literal["zlib", "zstd"]

#: Enumeration `Qcow2OverlapCheckMode`, since 2.9.
Qcow2OverlapCheckMode = Literal["none", "constant", "cached", "all"]

#: Alternate `Qcow2OverlapChecks`, since 2.9.
Qcow2OverlapChecks: TypeAlias = "Qcow2OverlapCheckFlags | Qcow2OverlapCheckMode"

#: Enumeration `QuorumOpType`, since 2.6.
QuorumOpType = Literal["read", "write", "flush"]

#: Enumeration `QuorumReadPattern`, since 2.9.
QuorumReadPattern = Literal["quorum", "fifo"]

#: Enumeration `RbdAuthMode`, since 3.0.
RbdAuthMode = Literal["cephx", "none"]

#: Enumeration `RbdImageEncryptionFormat`, since 6.1.
RbdImageEncryptionFormat = Literal[
    "luks-any",  # since 8.0
    "luks",
    "luks2",
]

#: Enumeration `ReplicationMode`, since 2.9. Needs CONFIG_REPLICATION.
ReplicationMode = Literal["primary", "secondary"]

#: Enumeration `SshHostKeyCheckHashType`, since 2.12.
SshHostKeyCheckHashType = Literal["md5", "sha1", "sha256"]

#: Enumeration `SshHostKeyCheckMode`, since 2.12.
SshHostKeyCheckMode = Literal["none", "hash", "known_hosts"]

#: Enumeration `XDbgBlockGraphNodeType`, since 4.0.
XDbgBlockGraphNodeType = Literal["block-backend", "block-job", "block-driver"]


class BackupCommon(Struct):
    """Struct `BackupCommon`, since 4.2."""

    job_id: str | None = None
    device: str
    sync: MirrorSyncMode
    speed: int | None = None
    bitmap: str | None = None
    bitmap_mode: BitmapSyncMode | None = None
    compress: bool | None = None
    on_source_error: BlockdevOnError | None = None
    on_target_error: BlockdevOnError | None = None
    on_cbw_error: OnCbwError | None = None  # since 10.1
    auto_finalize: bool | None = None
    auto_dismiss: bool | None = None
    filter_node_name: str | None = None
    discard_source: bool | None = None  # since 9.1
    x_perf: BackupPerf | None = None  # unstable


class BackupPerf(Struct):
    """Struct `BackupPerf`, since 6.0."""

    use_copy_range: bool | None = None
    max_workers: int | None = None
    max_chunk: int | None = None
    min_cluster_size: int | None = None  # since 9.2


class BlkdebugInjectErrorOptions(Struct):
    """Struct `BlkdebugInjectErrorOptions`, since 2.9."""

    event: BlkdebugEvent
    state: int | None = None
    iotype: BlkdebugIOType | None = None
    errno: int | None = None
    delay_ns: int | None = None  # since 11.1
    sector: int | None = None
    once: bool | None = None
    immediately: bool | None = None


class BlkdebugSetStateOptions(Struct):
    """Struct `BlkdebugSetStateOptions`, since 2.9."""

    event: BlkdebugEvent
    state: int | None = None
    new_state: int = wire("new_state")


class BlockDeviceInfo(Struct):
    """Struct `BlockDeviceInfo`, since 0.14."""

    file: str
    node_name: str | None = None
    ro: bool
    drv: str
    backing_file: str | None = wire("backing_file", default=None)
    backing_file_depth: int = wire("backing_file_depth")
    children: list[BlockdevChild] | None = None  # since 10.1
    active: bool | None = None  # since 10.0
    encrypted: bool
    detect_zeroes: BlockdevDetectZeroesOptions = wire("detect_zeroes")
    bps: int
    bps_rd: int = wire("bps_rd")
    bps_wr: int = wire("bps_wr")
    iops: int
    iops_rd: int = wire("iops_rd")
    iops_wr: int = wire("iops_wr")
    image: ImageInfo
    bps_max: int | None = wire("bps_max", default=None)
    bps_rd_max: int | None = wire("bps_rd_max", default=None)
    bps_wr_max: int | None = wire("bps_wr_max", default=None)
    iops_max: int | None = wire("iops_max", default=None)
    iops_rd_max: int | None = wire("iops_rd_max", default=None)
    iops_wr_max: int | None = wire("iops_wr_max", default=None)
    bps_max_length: int | None = wire("bps_max_length", default=None)
    bps_rd_max_length: int | None = wire("bps_rd_max_length", default=None)
    bps_wr_max_length: int | None = wire("bps_wr_max_length", default=None)
    iops_max_length: int | None = wire("iops_max_length", default=None)
    iops_rd_max_length: int | None = wire("iops_rd_max_length", default=None)
    iops_wr_max_length: int | None = wire("iops_wr_max_length", default=None)
    iops_size: int | None = wire("iops_size", default=None)
    group: str | None = None
    cache: BlockdevCacheInfo
    write_threshold: int = wire("write_threshold")
    dirty_bitmaps: list[BlockDirtyInfo] | None = None


class BlockDeviceStats(Struct):
    """Struct `BlockDeviceStats`, since 0.14."""

    rd_bytes: int = wire("rd_bytes")
    wr_bytes: int = wire("wr_bytes")
    zone_append_bytes: int | None = wire("zone_append_bytes", default=None)  # since 8.1
    unmap_bytes: int = wire("unmap_bytes")
    rd_operations: int = wire("rd_operations")
    wr_operations: int = wire("wr_operations")
    zone_append_operations: int | None = wire("zone_append_operations", default=None)  # since 8.1
    flush_operations: int = wire("flush_operations")
    unmap_operations: int = wire("unmap_operations")
    rd_total_time_ns: int = wire("rd_total_time_ns")
    wr_total_time_ns: int = wire("wr_total_time_ns")
    zone_append_total_time_ns: int | None = wire("zone_append_total_time_ns", default=None)  # since 8.1
    flush_total_time_ns: int = wire("flush_total_time_ns")
    unmap_total_time_ns: int = wire("unmap_total_time_ns")
    wr_highest_offset: int = wire("wr_highest_offset")
    rd_merged: int = wire("rd_merged")
    wr_merged: int = wire("wr_merged")
    zone_append_merged: int | None = wire("zone_append_merged", default=None)  # since 8.1
    unmap_merged: int = wire("unmap_merged")
    idle_time_ns: int | None = wire("idle_time_ns", default=None)
    failed_rd_operations: int = wire("failed_rd_operations")
    failed_wr_operations: int = wire("failed_wr_operations")
    failed_zone_append_operations: int | None = wire("failed_zone_append_operations", default=None)  # since 8.1
    failed_flush_operations: int = wire("failed_flush_operations")
    failed_unmap_operations: int = wire("failed_unmap_operations")
    invalid_rd_operations: int = wire("invalid_rd_operations")
    invalid_wr_operations: int = wire("invalid_wr_operations")
    invalid_zone_append_operations: int | None = wire("invalid_zone_append_operations", default=None)  # since 8.1
    invalid_flush_operations: int = wire("invalid_flush_operations")
    invalid_unmap_operations: int = wire("invalid_unmap_operations")
    account_invalid: bool = wire("account_invalid")
    account_failed: bool = wire("account_failed")
    timed_stats: list[BlockDeviceTimedStats] = wire("timed_stats")
    rd_latency_histogram: BlockLatencyHistogramInfo | None = wire("rd_latency_histogram", default=None)
    wr_latency_histogram: BlockLatencyHistogramInfo | None = wire("wr_latency_histogram", default=None)
    zone_append_latency_histogram: BlockLatencyHistogramInfo | None = wire(
        "zone_append_latency_histogram", default=None
    )  # since 8.1
    flush_latency_histogram: BlockLatencyHistogramInfo | None = wire("flush_latency_histogram", default=None)


class BlockDeviceTimedStats(Struct):
    """Struct `BlockDeviceTimedStats`, since 2.5."""

    interval_length: int = wire("interval_length")
    min_rd_latency_ns: int = wire("min_rd_latency_ns")
    min_wr_latency_ns: int = wire("min_wr_latency_ns")
    min_zone_append_latency_ns: int | None = wire("min_zone_append_latency_ns", default=None)  # since 8.1
    min_flush_latency_ns: int = wire("min_flush_latency_ns")
    max_rd_latency_ns: int = wire("max_rd_latency_ns")
    max_wr_latency_ns: int = wire("max_wr_latency_ns")
    max_zone_append_latency_ns: int | None = wire("max_zone_append_latency_ns", default=None)  # since 8.1
    max_flush_latency_ns: int = wire("max_flush_latency_ns")
    avg_rd_latency_ns: int = wire("avg_rd_latency_ns")
    avg_wr_latency_ns: int = wire("avg_wr_latency_ns")
    avg_zone_append_latency_ns: int | None = wire("avg_zone_append_latency_ns", default=None)  # since 8.1
    avg_flush_latency_ns: int = wire("avg_flush_latency_ns")
    avg_rd_queue_depth: float = wire("avg_rd_queue_depth")
    avg_wr_queue_depth: float = wire("avg_wr_queue_depth")
    avg_zone_append_queue_depth: float | None = wire("avg_zone_append_queue_depth", default=None)  # since 8.1


class BlockDirtyBitmap(Struct):
    """Struct `BlockDirtyBitmap`, since 2.4."""

    node: str
    name: str


class BlockDirtyBitmapSha256(Struct):
    """Struct `BlockDirtyBitmapSha256`, since 2.10."""

    sha256: str


class BlockDirtyInfo(Struct):
    """Struct `BlockDirtyInfo`, since 1.3."""

    name: str | None = None
    count: int
    granularity: int
    recording: bool
    busy: bool
    persistent: bool
    inconsistent: bool | None = None


class BlockIOThrottle(Struct):
    """Struct `BlockIOThrottle`, since 1.1."""

    device: str | None = None  # deprecated
    id: str | None = None
    bps: int
    bps_rd: int = wire("bps_rd")
    bps_wr: int = wire("bps_wr")
    iops: int
    iops_rd: int = wire("iops_rd")
    iops_wr: int = wire("iops_wr")
    bps_max: int | None = wire("bps_max", default=None)
    bps_rd_max: int | None = wire("bps_rd_max", default=None)
    bps_wr_max: int | None = wire("bps_wr_max", default=None)
    iops_max: int | None = wire("iops_max", default=None)
    iops_rd_max: int | None = wire("iops_rd_max", default=None)
    iops_wr_max: int | None = wire("iops_wr_max", default=None)
    bps_max_length: int | None = wire("bps_max_length", default=None)
    bps_rd_max_length: int | None = wire("bps_rd_max_length", default=None)
    bps_wr_max_length: int | None = wire("bps_wr_max_length", default=None)
    iops_max_length: int | None = wire("iops_max_length", default=None)
    iops_rd_max_length: int | None = wire("iops_rd_max_length", default=None)
    iops_wr_max_length: int | None = wire("iops_wr_max_length", default=None)
    iops_size: int | None = wire("iops_size", default=None)
    group: str | None = None


class BlockInfo(Struct):
    """Struct `BlockInfo`, since 0.14."""

    device: str
    qdev: str | None = None
    type: str
    removable: bool
    locked: bool
    tray_open: bool | None = wire("tray_open", default=None)
    io_status: BlockDeviceIoStatus | None = None
    inserted: BlockDeviceInfo | None = None


class BlockJobChangeOptions(Union, tag="type", branches={"mirror": "BlockJobChangeOptionsMirror"}):
    """Union `BlockJobChangeOptions`, since 8.2."""

    id: str
    type: JobType


class BlockJobChangeOptionsMirror(BlockJobChangeOptions):
    """Struct `BlockJobChangeOptionsMirror`, since 8.2. Branch of `BlockJobChangeOptions` where `type` is `mirror`."""

    type: Literal["mirror"] = "mirror"
    copy_mode: MirrorCopyMode


class BlockJobInfo(Union, tag="type", branches={"mirror": "BlockJobInfoMirror"}):
    """Union `BlockJobInfo`, since 1.1."""

    type: JobType
    device: str
    len: int
    offset: int
    busy: bool
    paused: bool
    speed: int
    io_status: BlockDeviceIoStatus
    ready: bool
    status: JobStatus
    auto_finalize: bool
    auto_dismiss: bool
    error: str | None = None


class BlockJobInfoMirror(BlockJobInfo):
    """Struct `BlockJobInfoMirror`, since 8.2. Branch of `BlockJobInfo` where `type` is `mirror`."""

    type: Literal["mirror"] = "mirror"
    actively_synced: bool | None = None  # 10.0 and later


class BlockLatencyHistogramInfo(Struct):
    """Struct `BlockLatencyHistogramInfo`, since 4.0."""

    boundaries: list[int]
    bins: list[int]


class BlockLimitsInfo(Struct):
    """Struct `BlockLimitsInfo`, 11.1 and later."""

    request_alignment: int
    max_discard: int | None = None
    discard_alignment: int | None = None
    max_write_zeroes: int | None = None
    write_zeroes_alignment: int | None = None
    opt_transfer: int | None = None
    max_transfer: int | None = None
    max_hw_transfer: int | None = None
    max_iov: int
    max_hw_iov: int | None = None
    min_mem_alignment: int
    opt_mem_alignment: int


class BlockNodeInfo(Struct):
    """Struct `BlockNodeInfo`, since 8.0."""

    filename: str
    format: str
    virtual_size: int
    actual_size: int | None = None
    dirty_flag: bool | None = None
    cluster_size: int | None = None
    encrypted: bool | None = None
    compressed: bool | None = None
    backing_filename: str | None = None
    full_backing_filename: str | None = None
    backing_filename_format: str | None = None
    snapshots: list[SnapshotInfo] | None = None
    limits: BlockLimitsInfo | None = None  # since 10.2
    format_specific: ImageInfoSpecific | None = None


class BlockStats(Struct):
    """Struct `BlockStats`, since 0.14."""

    device: str | None = None
    node_name: str | None = None
    qdev: str | None = None
    stats: BlockDeviceStats
    driver_specific: BlockStatsSpecific | None = None
    parent: BlockStats | None = None
    backing: BlockStats | None = None


class BlockStatsSpecific(
    Union,
    tag="driver",
    branches={
        "file": "BlockStatsSpecificFile",
        "host_device": "BlockStatsSpecificFile",
        "nvme": "BlockStatsSpecificNvme",
    },
):
    """Union `BlockStatsSpecific`, since 4.2."""

    driver: BlockdevDriver


class BlockStatsSpecificFile(BlockStatsSpecific):
    """Struct `BlockStatsSpecificFile`, since 4.2. Branch of `BlockStatsSpecific` where `driver` is `file` or
    `host_device`.
    """

    driver: Literal["file", "host_device"]
    discard_nb_ok: int
    discard_nb_failed: int
    discard_bytes_ok: int


class BlockStatsSpecificNvme(BlockStatsSpecific):
    """Struct `BlockStatsSpecificNvme`, since 5.2. Branch of `BlockStatsSpecific` where `driver` is `nvme`."""

    driver: Literal["nvme"] = "nvme"
    completion_errors: int
    aligned_accesses: int
    unaligned_accesses: int


class BlockdevAmendOptions(
    Union,
    tag="driver",
    branches={"luks": "BlockdevAmendOptionsLUKS", "qcow2": "BlockdevAmendOptionsQcow2"},
):
    """Union `BlockdevAmendOptions`, since 5.1."""

    driver: BlockdevDriver


class BlockdevAmendOptionsLUKS(QCryptoBlockAmendOptionsLUKS, BlockdevAmendOptions):
    """Struct `BlockdevAmendOptionsLUKS`, since 5.1. Branch of `BlockdevAmendOptions` where `driver` is `luks`."""

    driver: Literal["luks"] = "luks"


class BlockdevAmendOptionsQcow2(BlockdevAmendOptions):
    """Struct `BlockdevAmendOptionsQcow2`, since 5.1. Branch of `BlockdevAmendOptions` where `driver` is `qcow2`."""

    driver: Literal["qcow2"] = "qcow2"
    encrypt: QCryptoBlockAmendOptions | None = None


class BlockdevCacheInfo(Struct):
    """Struct `BlockdevCacheInfo`, since 2.3."""

    writeback: bool
    direct: bool
    no_flush: bool


class BlockdevCacheOptions(Struct):
    """Struct `BlockdevCacheOptions`, since 2.9."""

    direct: bool | None = None
    no_flush: bool | None = None


class BlockdevChild(Struct):
    """Struct `BlockdevChild`, since 10.1."""

    child: str
    node_name: str


class BlockdevCreateOptions(
    Union,
    tag="driver",
    branches={
        "file": "BlockdevCreateOptionsFile",
        "luks": "BlockdevCreateOptionsLUKS",
        "nfs": "BlockdevCreateOptionsNfs",
        "parallels": "BlockdevCreateOptionsParallels",
        "qcow": "BlockdevCreateOptionsQcow",
        "qcow2": "BlockdevCreateOptionsQcow2",
        "qed": "BlockdevCreateOptionsQed",
        "rbd": "BlockdevCreateOptionsRbd",
        "ssh": "BlockdevCreateOptionsSsh",
        "vdi": "BlockdevCreateOptionsVdi",
        "vhdx": "BlockdevCreateOptionsVhdx",
        "vmdk": "BlockdevCreateOptionsVmdk",
        "vpc": "BlockdevCreateOptionsVpc",
        "gluster": "BlockdevCreateOptionsGluster",
    },
):
    """Union `BlockdevCreateOptions`, since 2.12."""

    driver: BlockdevDriver


class BlockdevCreateOptionsFile(BlockdevCreateOptions):
    """Struct `BlockdevCreateOptionsFile`, since 2.12. Branch of `BlockdevCreateOptions` where `driver` is `file`."""

    driver: Literal["file"] = "file"
    filename: str
    size: int
    preallocation: PreallocMode | None = None
    nocow: bool | None = None
    extent_size_hint: int | None = None


class BlockdevCreateOptionsLUKS(QCryptoBlockCreateOptionsLUKS, BlockdevCreateOptions):
    """Struct `BlockdevCreateOptionsLUKS`, since 2.12. Branch of `BlockdevCreateOptions` where `driver` is `luks`."""

    driver: Literal["luks"] = "luks"
    file: BlockdevRef | None = None
    header: BlockdevRef | None = None  # since 9.0
    size: int
    preallocation: PreallocMode | None = None


class BlockdevCreateOptionsNfs(BlockdevCreateOptions):
    """Struct `BlockdevCreateOptionsNfs`, since 2.12. Branch of `BlockdevCreateOptions` where `driver` is `nfs`."""

    driver: Literal["nfs"] = "nfs"
    location: BlockdevOptionsNfs
    size: int


class BlockdevCreateOptionsParallels(BlockdevCreateOptions):
    """Struct `BlockdevCreateOptionsParallels`, since 2.12. Branch of `BlockdevCreateOptions` where `driver` is
    `parallels`.
    """

    driver: Literal["parallels"] = "parallels"
    file: BlockdevRef
    size: int
    cluster_size: int | None = None


class BlockdevCreateOptionsQcow(BlockdevCreateOptions):
    """Struct `BlockdevCreateOptionsQcow`, since 2.12. Branch of `BlockdevCreateOptions` where `driver` is `qcow`."""

    driver: Literal["qcow"] = "qcow"
    file: BlockdevRef
    size: int
    backing_file: str | None = None
    encrypt: QCryptoBlockCreateOptions | None = None


class BlockdevCreateOptionsQcow2(BlockdevCreateOptions):
    """Struct `BlockdevCreateOptionsQcow2`, since 2.12. Branch of `BlockdevCreateOptions` where `driver` is `qcow2`."""

    driver: Literal["qcow2"] = "qcow2"
    file: BlockdevRef
    data_file: BlockdevRef | None = None
    data_file_raw: bool | None = None
    extended_l2: bool | None = None
    size: int
    version: BlockdevQcow2Version | None = None
    backing_file: str | None = None
    backing_fmt: BlockdevDriver | None = None
    encrypt: QCryptoBlockCreateOptions | None = None
    cluster_size: int | None = None
    preallocation: PreallocMode | None = None
    lazy_refcounts: bool | None = None
    refcount_bits: int | None = None
    compression_type: Qcow2CompressionType | None = None


class BlockdevCreateOptionsQed(BlockdevCreateOptions):
    """Struct `BlockdevCreateOptionsQed`, since 2.12. Branch of `BlockdevCreateOptions` where `driver` is `qed`."""

    driver: Literal["qed"] = "qed"
    file: BlockdevRef
    size: int
    backing_file: str | None = None
    backing_fmt: BlockdevDriver | None = None
    cluster_size: int | None = None
    table_size: int | None = None


class BlockdevCreateOptionsRbd(BlockdevCreateOptions):
    """Struct `BlockdevCreateOptionsRbd`, since 2.12. Branch of `BlockdevCreateOptions` where `driver` is `rbd`."""

    driver: Literal["rbd"] = "rbd"
    location: BlockdevOptionsRbd
    size: int
    cluster_size: int | None = None
    encrypt: RbdEncryptionCreateOptions | None = None


class BlockdevCreateOptionsSsh(BlockdevCreateOptions):
    """Struct `BlockdevCreateOptionsSsh`, since 2.12. Branch of `BlockdevCreateOptions` where `driver` is `ssh`."""

    driver: Literal["ssh"] = "ssh"
    location: BlockdevOptionsSsh
    size: int


class BlockdevCreateOptionsVdi(BlockdevCreateOptions):
    """Struct `BlockdevCreateOptionsVdi`, since 2.12. Branch of `BlockdevCreateOptions` where `driver` is `vdi`."""

    driver: Literal["vdi"] = "vdi"
    file: BlockdevRef
    size: int
    preallocation: PreallocMode | None = None


class BlockdevCreateOptionsVhdx(BlockdevCreateOptions):
    """Struct `BlockdevCreateOptionsVhdx`, since 2.12. Branch of `BlockdevCreateOptions` where `driver` is `vhdx`."""

    driver: Literal["vhdx"] = "vhdx"
    file: BlockdevRef
    size: int
    log_size: int | None = None
    block_size: int | None = None
    subformat: BlockdevVhdxSubformat | None = None
    block_state_zero: bool | None = None


class BlockdevCreateOptionsVmdk(BlockdevCreateOptions):
    """Struct `BlockdevCreateOptionsVmdk`, since 4.0. Branch of `BlockdevCreateOptions` where `driver` is `vmdk`."""

    driver: Literal["vmdk"] = "vmdk"
    file: BlockdevRef
    size: int
    extents: list[BlockdevRef] | None = None
    subformat: BlockdevVmdkSubformat | None = None
    backing_file: str | None = None
    adapter_type: BlockdevVmdkAdapterType | None = None
    hwversion: str | None = None
    toolsversion: str | None = None
    zeroed_grain: bool | None = None


class BlockdevCreateOptionsVpc(BlockdevCreateOptions):
    """Struct `BlockdevCreateOptionsVpc`, since 2.12. Branch of `BlockdevCreateOptions` where `driver` is `vpc`."""

    driver: Literal["vpc"] = "vpc"
    file: BlockdevRef
    size: int
    subformat: BlockdevVpcSubformat | None = None
    force_size: bool | None = None


class BlockdevCreateOptionsGluster(BlockdevCreateOptions):
    """Struct `BlockdevCreateOptionsGluster`, since 2.12, until 10.0. Branch of `BlockdevCreateOptions` where
    `driver` is `gluster`.
    """

    driver: Literal["gluster"] = "gluster"
    location: BlockdevOptionsGluster
    size: int
    preallocation: PreallocMode | None = None


class BlockdevOptions(
    Union,
    tag="driver",
    branches={
        "blkdebug": "BlockdevOptionsBlkdebug",
        "blklogwrites": "BlockdevOptionsBlklogwrites",
        "blkverify": "BlockdevOptionsBlkverify",
        "blkreplay": "BlockdevOptionsBlkreplay",
        "bochs": "BlockdevOptionsGenericFormat",
        "cloop": "BlockdevOptionsGenericFormat",
        "compress": "BlockdevOptionsGenericFormat",
        "copy-before-write": "BlockdevOptionsCbw",
        "copy-on-read": "BlockdevOptionsCor",
        "dmg": "BlockdevOptionsGenericFormat",
        "file": "BlockdevOptionsFile",
        "ftp": "BlockdevOptionsCurlFtp",
        "ftps": "BlockdevOptionsCurlFtps",
        "host_cdrom": "BlockdevOptionsFile",
        "host_device": "BlockdevOptionsFile",
        "http": "BlockdevOptionsCurlHttp",
        "https": "BlockdevOptionsCurlHttps",
        "io_uring": "BlockdevOptionsIoUring",
        "iscsi": "BlockdevOptionsIscsi",
        "luks": "BlockdevOptionsLUKS",
        "nbd": "BlockdevOptionsNbd",
        "nfs": "BlockdevOptionsNfsBranch",
        "null-aio": "BlockdevOptionsNull",
        "null-co": "BlockdevOptionsNull",
        "nvme": "BlockdevOptionsNVMe",
        "nvme-io_uring": "BlockdevOptionsNvmeIoUring",
        "parallels": "BlockdevOptionsGenericFormat",
        "preallocate": "BlockdevOptionsPreallocate",
        "qcow2": "BlockdevOptionsQcow2",
        "qcow": "BlockdevOptionsQcow",
        "qed": "BlockdevOptionsGenericCOWFormat",
        "quorum": "BlockdevOptionsQuorum",
        "raw": "BlockdevOptionsRaw",
        "rbd": "BlockdevOptionsRbdBranch",
        "replication": "BlockdevOptionsReplication",
        "snapshot-access": "BlockdevOptionsGenericFormat",
        "ssh": "BlockdevOptionsSshBranch",
        "throttle": "BlockdevOptionsThrottle",
        "vdi": "BlockdevOptionsGenericFormat",
        "vhdx": "BlockdevOptionsGenericFormat",
        "virtio-blk-vfio-pci": "BlockdevOptionsVirtioBlkVfioPci",
        "virtio-blk-vhost-user": "BlockdevOptionsVirtioBlkVhostUser",
        "virtio-blk-vhost-vdpa": "BlockdevOptionsVirtioBlkVhostVdpa",
        "vmdk": "BlockdevOptionsGenericCOWFormat",
        "vpc": "BlockdevOptionsGenericFormat",
        "vvfat": "BlockdevOptionsVVFAT",
        "gluster": "BlockdevOptionsGlusterBranch",
    },
):
    """Union `BlockdevOptions`, since 2.9."""

    driver: BlockdevDriver
    node_name: str | None = None
    discard: BlockdevDiscardOptions | None = None
    cache: BlockdevCacheOptions | None = None
    active: bool | None = None  # since 10.0
    read_only: bool | None = None
    auto_read_only: bool | None = None
    detect_zeroes: BlockdevDetectZeroesOptions | None = None
    force_share: bool | None = None


class BlockdevOptionsBlkdebug(BlockdevOptions):
    """Struct `BlockdevOptionsBlkdebug`, since 2.9. Branch of `BlockdevOptions` where `driver` is `blkdebug`."""

    driver: Literal["blkdebug"] = "blkdebug"
    image: BlockdevRef
    config: str | None = None
    align: int | None = None
    max_transfer: int | None = None
    opt_write_zero: int | None = None
    max_write_zero: int | None = None
    opt_discard: int | None = None
    max_discard: int | None = None
    inject_error: list[BlkdebugInjectErrorOptions] | None = None
    set_state: list[BlkdebugSetStateOptions] | None = None
    take_child_perms: list[BlockPermission] | None = None
    unshare_child_perms: list[BlockPermission] | None = None


class BlockdevOptionsBlklogwrites(BlockdevOptions):
    """Struct `BlockdevOptionsBlklogwrites`, since 3.0. Branch of `BlockdevOptions` where `driver` is `blklogwrites`."""

    driver: Literal["blklogwrites"] = "blklogwrites"
    file: BlockdevRef
    log: BlockdevRef
    log_sector_size: int | None = None
    log_append: bool | None = None
    log_super_update_interval: int | None = None


class BlockdevOptionsBlkverify(BlockdevOptions):
    """Struct `BlockdevOptionsBlkverify`, since 2.9. Branch of `BlockdevOptions` where `driver` is `blkverify`."""

    driver: Literal["blkverify"] = "blkverify"
    test: BlockdevRef
    raw: BlockdevRef


class BlockdevOptionsBlkreplay(BlockdevOptions):
    """Struct `BlockdevOptionsBlkreplay`, since 4.2. Branch of `BlockdevOptions` where `driver` is `blkreplay`."""

    driver: Literal["blkreplay"] = "blkreplay"
    image: BlockdevRef


class BlockdevOptionsGenericFormat(BlockdevOptions):
    """Struct `BlockdevOptionsGenericFormat`, since 2.9. Branch of `BlockdevOptions` where `driver` is `bochs` or
    `cloop` or `compress` or `dmg` or `parallels` or `snapshot-access` or `vdi` or `vhdx` or `vpc`.
    """

    file: BlockdevRef


class BlockdevOptionsCbw(BlockdevOptionsGenericFormat):
    """Struct `BlockdevOptionsCbw`, since 6.2. Branch of `BlockdevOptions` where `driver` is `copy-before-write`."""

    driver: Literal["copy-before-write"] = "copy-before-write"
    target: BlockdevRef
    bitmap: BlockDirtyBitmap | None = None
    on_cbw_error: OnCbwError | None = None
    cbw_timeout: int | None = None
    min_cluster_size: int | None = None  # since 9.2


class BlockdevOptionsCor(BlockdevOptionsGenericFormat):
    """Struct `BlockdevOptionsCor`, since 6.0. Branch of `BlockdevOptions` where `driver` is `copy-on-read`."""

    driver: Literal["copy-on-read"] = "copy-on-read"
    bottom: str | None = None


class BlockdevOptionsFile(BlockdevOptions):
    """Struct `BlockdevOptionsFile`, since 2.9. Branch of `BlockdevOptions` where `driver` is `file` or `host_cdrom`
    or `host_device`.
    """

    driver: Literal["file", "host_cdrom", "host_device"]
    filename: str
    pr_manager: str | None = None
    aio: BlockdevAioOptions | None = None
    aio_max_batch: int | None = None
    locking: OnOffAuto | None = None
    drop_cache: bool | None = None
    x_check_cache_dropped: bool | None = None  # unstable


class BlockdevOptionsCurlBase(BlockdevOptions):
    """Struct `BlockdevOptionsCurlBase`, since 2.9. A base of branches of `BlockdevOptions`."""

    url: str
    readahead: int | None = None
    timeout: int | None = None
    username: str | None = None
    password_secret: str | None = None
    proxy_username: str | None = None
    proxy_password_secret: str | None = None


class BlockdevOptionsCurlFtp(BlockdevOptionsCurlBase):
    """Struct `BlockdevOptionsCurlFtp`, since 2.9. Branch of `BlockdevOptions` where `driver` is `ftp`."""

    driver: Literal["ftp"] = "ftp"


class BlockdevOptionsCurlFtps(BlockdevOptionsCurlBase):
    """Struct `BlockdevOptionsCurlFtps`, since 2.9. Branch of `BlockdevOptions` where `driver` is `ftps`."""

    driver: Literal["ftps"] = "ftps"
    sslverify: bool | None = None


class BlockdevOptionsCurlHttp(BlockdevOptionsCurlBase):
    """Struct `BlockdevOptionsCurlHttp`, since 2.9. Branch of `BlockdevOptions` where `driver` is `http`."""

    cookie: str | None = None
    cookie_secret: str | None = None
    force_range: bool | None = None  # since 11.0


class BlockdevOptionsCurlHttps(BlockdevOptionsCurlHttp):
    """Struct `BlockdevOptionsCurlHttps`, since 2.9. Branch of `BlockdevOptions` where `driver` is `https`."""

    driver: Literal["https"] = "https"
    sslverify: bool | None = None


class BlockdevOptionsIoUring(BlockdevOptions):
    """Struct `BlockdevOptionsIoUring`, since 7.2. Needs CONFIG_BLKIO. Branch of `BlockdevOptions` where `driver` is
    `io_uring`.
    """

    driver: Literal["io_uring"] = "io_uring"
    filename: str


class BlockdevOptionsIscsi(BlockdevOptions):
    """Struct `BlockdevOptionsIscsi`, since 2.9. Branch of `BlockdevOptions` where `driver` is `iscsi`."""

    driver: Literal["iscsi"] = "iscsi"
    transport: IscsiTransport
    portal: str
    target: str
    lun: int | None = None
    user: str | None = None
    password_secret: str | None = None
    initiator_name: str | None = None
    header_digest: IscsiHeaderDigest | None = None
    timeout: int | None = None


class BlockdevOptionsLUKS(BlockdevOptionsGenericFormat):
    """Struct `BlockdevOptionsLUKS`, since 2.9. Branch of `BlockdevOptions` where `driver` is `luks`."""

    driver: Literal["luks"] = "luks"
    key_secret: str | None = None
    header: BlockdevRef | None = None  # since 9.0


class BlockdevOptionsNbd(BlockdevOptions):
    """Struct `BlockdevOptionsNbd`, since 2.9. Branch of `BlockdevOptions` where `driver` is `nbd`."""

    driver: Literal["nbd"] = "nbd"
    server: SocketAddress
    export: str | None = None
    tls_creds: str | None = None
    tls_hostname: str | None = None
    x_dirty_bitmap: str | None = None  # unstable
    reconnect_delay: int | None = None
    open_timeout: int | None = None


class BlockdevOptionsNfs(Struct):
    """Struct `BlockdevOptionsNfs`, since 2.9. As a branch: `BlockdevOptionsNfsBranch` in `BlockdevOptions`."""

    server: NFSServer
    path: str
    user: int | None = None
    group: int | None = None
    tcp_syn_count: int | None = None
    readahead_size: int | None = None
    page_cache_size: int | None = None
    debug: int | None = None


class BlockdevOptionsNfsBranch(BlockdevOptionsNfs, BlockdevOptions):
    """Branch of `BlockdevOptions` where `driver` is `nfs`."""

    driver: Literal["nfs"] = "nfs"


class BlockdevOptionsNull(BlockdevOptions):
    """Struct `BlockdevOptionsNull`, since 2.9. Branch of `BlockdevOptions` where `driver` is `null-aio` or
    `null-co`.
    """

    driver: Literal["null-aio", "null-co"]
    size: int | None = None
    latency_ns: int | None = None
    read_zeroes: bool | None = None


class BlockdevOptionsNVMe(BlockdevOptions):
    """Struct `BlockdevOptionsNVMe`, since 2.12. Branch of `BlockdevOptions` where `driver` is `nvme`."""

    driver: Literal["nvme"] = "nvme"
    device: str
    namespace: int


class BlockdevOptionsNvmeIoUring(BlockdevOptions):
    """Struct `BlockdevOptionsNvmeIoUring`, since 7.2. Needs CONFIG_BLKIO. Branch of `BlockdevOptions` where `driver`
    is `nvme-io_uring`.
    """

    driver: Literal["nvme-io_uring"] = "nvme-io_uring"
    path: str


class BlockdevOptionsPreallocate(BlockdevOptionsGenericFormat):
    """Struct `BlockdevOptionsPreallocate`, since 6.0. Branch of `BlockdevOptions` where `driver` is `preallocate`."""

    driver: Literal["preallocate"] = "preallocate"
    prealloc_align: int | None = None
    prealloc_size: int | None = None


class BlockdevOptionsGenericCOWFormat(BlockdevOptionsGenericFormat):
    """Struct `BlockdevOptionsGenericCOWFormat`, since 2.9. Branch of `BlockdevOptions` where `driver` is `qed` or
    `vmdk`.
    """

    backing: BlockdevRefOrNull | None = None


class BlockdevOptionsQcow2(BlockdevOptionsGenericCOWFormat):
    """Struct `BlockdevOptionsQcow2`, since 2.9. Branch of `BlockdevOptions` where `driver` is `qcow2`."""

    driver: Literal["qcow2"] = "qcow2"
    lazy_refcounts: bool | None = None
    pass_discard_request: bool | None = None
    pass_discard_snapshot: bool | None = None
    pass_discard_other: bool | None = None
    discard_no_unref: bool | None = None  # since 8.1
    overlap_check: Qcow2OverlapChecks | None = None
    cache_size: int | None = None
    l2_cache_size: int | None = None
    l2_cache_entry_size: int | None = None
    refcount_cache_size: int | None = None
    cache_clean_interval: int | None = None
    encrypt: BlockdevQcow2Encryption | None = None
    data_file: BlockdevRef | None = None


class BlockdevOptionsQcow(BlockdevOptionsGenericCOWFormat):
    """Struct `BlockdevOptionsQcow`, since 2.10. Branch of `BlockdevOptions` where `driver` is `qcow`."""

    driver: Literal["qcow"] = "qcow"
    encrypt: BlockdevQcowEncryption | None = None


class BlockdevOptionsQuorum(BlockdevOptions):
    """Struct `BlockdevOptionsQuorum`, since 2.9. Branch of `BlockdevOptions` where `driver` is `quorum`."""

    driver: Literal["quorum"] = "quorum"
    blkverify: bool | None = None
    children: list[BlockdevRef]
    vote_threshold: int
    rewrite_corrupted: bool | None = None
    read_pattern: QuorumReadPattern | None = None


class BlockdevOptionsRaw(BlockdevOptionsGenericFormat):
    """Struct `BlockdevOptionsRaw`, since 2.9. Branch of `BlockdevOptions` where `driver` is `raw`."""

    driver: Literal["raw"] = "raw"
    offset: int | None = None
    size: int | None = None


class BlockdevOptionsRbd(Struct):
    """Struct `BlockdevOptionsRbd`, since 2.9. As a branch: `BlockdevOptionsRbdBranch` in `BlockdevOptions`."""

    pool: str
    namespace: str | None = None
    image: str
    conf: str | None = None
    snapshot: str | None = None
    encrypt: RbdEncryptionOptions | None = None
    user: str | None = None
    auth_client_required: list[RbdAuthMode] | None = None
    key_secret: str | None = None
    server: list[InetSocketAddressBase] | None = None


class BlockdevOptionsRbdBranch(BlockdevOptionsRbd, BlockdevOptions):
    """Branch of `BlockdevOptions` where `driver` is `rbd`."""

    driver: Literal["rbd"] = "rbd"


class BlockdevOptionsReplication(BlockdevOptionsGenericFormat):
    """Struct `BlockdevOptionsReplication`, since 2.9. Needs CONFIG_REPLICATION. Branch of `BlockdevOptions` where
    `driver` is `replication`.
    """

    driver: Literal["replication"] = "replication"
    mode: ReplicationMode
    top_id: str | None = None


class BlockdevOptionsSsh(Struct):
    """Struct `BlockdevOptionsSsh`, since 2.9. As a branch: `BlockdevOptionsSshBranch` in `BlockdevOptions`."""

    server: InetSocketAddress
    path: str
    user: str | None = None
    host_key_check: SshHostKeyCheck | None = None


class BlockdevOptionsSshBranch(BlockdevOptionsSsh, BlockdevOptions):
    """Branch of `BlockdevOptions` where `driver` is `ssh`."""

    driver: Literal["ssh"] = "ssh"


class BlockdevOptionsThrottle(BlockdevOptions):
    """Struct `BlockdevOptionsThrottle`, since 2.11. Branch of `BlockdevOptions` where `driver` is `throttle`."""

    driver: Literal["throttle"] = "throttle"
    throttle_group: str
    file: BlockdevRef


class BlockdevOptionsVirtioBlkVfioPci(BlockdevOptions):
    """Struct `BlockdevOptionsVirtioBlkVfioPci`, since 7.2. Needs CONFIG_BLKIO. Branch of `BlockdevOptions` where
    `driver` is `virtio-blk-vfio-pci`.
    """

    driver: Literal["virtio-blk-vfio-pci"] = "virtio-blk-vfio-pci"
    path: str


class BlockdevOptionsVirtioBlkVhostUser(BlockdevOptions):
    """Struct `BlockdevOptionsVirtioBlkVhostUser`, since 7.2. Needs CONFIG_BLKIO. Branch of `BlockdevOptions` where
    `driver` is `virtio-blk-vhost-user`.
    """

    driver: Literal["virtio-blk-vhost-user"] = "virtio-blk-vhost-user"
    path: str


class BlockdevOptionsVirtioBlkVhostVdpa(BlockdevOptions):
    """Struct `BlockdevOptionsVirtioBlkVhostVdpa`, since 7.2. Needs CONFIG_BLKIO. Branch of `BlockdevOptions` where
    `driver` is `virtio-blk-vhost-vdpa`.
    """

    driver: Literal["virtio-blk-vhost-vdpa"] = "virtio-blk-vhost-vdpa"
    path: str


class BlockdevOptionsVVFAT(BlockdevOptions):
    """Struct `BlockdevOptionsVVFAT`, since 2.9. Branch of `BlockdevOptions` where `driver` is `vvfat`."""

    driver: Literal["vvfat"] = "vvfat"
    dir: str
    fat_type: int | None = None
    floppy: bool | None = None
    label: str | None = None
    rw: bool | None = None


class BlockdevOptionsGluster(Struct):
    """Struct `BlockdevOptionsGluster`, since 2.9, until 10.0. As a branch: `BlockdevOptionsGlusterBranch` in
    `BlockdevOptions`.
    """

    volume: str
    path: str
    server: list[SocketAddress]
    debug: int | None = None
    logfile: str | None = None


class BlockdevOptionsGlusterBranch(BlockdevOptionsGluster, BlockdevOptions):
    """Branch of `BlockdevOptions` where `driver` is `gluster`."""

    driver: Literal["gluster"] = "gluster"


class BlockdevQcow2Encryption(
    Union,
    tag="format",
    branches={"aes": "BlockdevQcow2EncryptionAes", "luks": "BlockdevQcow2EncryptionLuks"},
):
    """Union `BlockdevQcow2Encryption`, since 2.10."""

    format: BlockdevQcow2EncryptionFormat


class BlockdevQcow2EncryptionAes(QCryptoBlockOptionsQCow, BlockdevQcow2Encryption):
    """Branch of `BlockdevQcow2Encryption` where `format` is `aes`."""

    format: Literal["aes"] = "aes"


class BlockdevQcow2EncryptionLuks(QCryptoBlockOptionsLUKS, BlockdevQcow2Encryption):
    """Branch of `BlockdevQcow2Encryption` where `format` is `luks`."""

    format: Literal["luks"] = "luks"


class BlockdevQcowEncryption(Union, tag="format", branches={"aes": "BlockdevQcowEncryptionAes"}):
    """Union `BlockdevQcowEncryption`, since 2.10."""

    format: BlockdevQcowEncryptionFormat


class BlockdevQcowEncryptionAes(QCryptoBlockOptionsQCow, BlockdevQcowEncryption):
    """Branch of `BlockdevQcowEncryption` where `format` is `aes`."""

    format: Literal["aes"] = "aes"


class BlockdevSnapshotInternal(Struct):
    """Struct `BlockdevSnapshotInternal`, since 1.7."""

    device: str
    name: str


class ImageInfo(BlockNodeInfo):
    """Struct `ImageInfo`, since 1.3."""

    backing_image: ImageInfo | None = None


class ImageInfoSpecific(
    Union,
    tag="type",
    branches={
        "qcow2": "ImageInfoSpecificQCow2Wrapper",
        "vmdk": "ImageInfoSpecificVmdkWrapper",
        "luks": "ImageInfoSpecificLUKSWrapper",
        "rbd": "ImageInfoSpecificRbdWrapper",
        "file": "ImageInfoSpecificFileWrapper",
    },
):
    """Union `ImageInfoSpecific`, since 1.7."""

    type: ImageInfoSpecificKind


class ImageInfoSpecificQCow2Wrapper(ImageInfoSpecific):
    """Struct `ImageInfoSpecificQCow2Wrapper`, since 1.7. Branch of `ImageInfoSpecific` where `type` is `qcow2`."""

    type: Literal["qcow2"] = "qcow2"
    data: ImageInfoSpecificQCow2


class ImageInfoSpecificVmdkWrapper(ImageInfoSpecific):
    """Struct `ImageInfoSpecificVmdkWrapper`, since 6.1. Branch of `ImageInfoSpecific` where `type` is `vmdk`."""

    type: Literal["vmdk"] = "vmdk"
    data: ImageInfoSpecificVmdk


class ImageInfoSpecificLUKSWrapper(ImageInfoSpecific):
    """Struct `ImageInfoSpecificLUKSWrapper`, since 2.7. Branch of `ImageInfoSpecific` where `type` is `luks`."""

    type: Literal["luks"] = "luks"
    data: QCryptoBlockInfoLUKS


class ImageInfoSpecificRbdWrapper(ImageInfoSpecific):
    """Struct `ImageInfoSpecificRbdWrapper`, since 6.1. Branch of `ImageInfoSpecific` where `type` is `rbd`."""

    type: Literal["rbd"] = "rbd"
    data: ImageInfoSpecificRbd


class ImageInfoSpecificFileWrapper(ImageInfoSpecific):
    """Struct `ImageInfoSpecificFileWrapper`, since 8.0. Branch of `ImageInfoSpecific` where `type` is `file`."""

    type: Literal["file"] = "file"
    data: ImageInfoSpecificFile


class ImageInfoSpecificFile(Struct):
    """Struct `ImageInfoSpecificFile`, since 8.0."""

    extent_size_hint: int | None = None


class ImageInfoSpecificQCow2(Struct):
    """Struct `ImageInfoSpecificQCow2`, since 1.7."""

    compat: str
    data_file: str | None = None
    data_file_raw: bool | None = None
    extended_l2: bool | None = None
    lazy_refcounts: bool | None = None
    corrupt: bool | None = None
    refcount_bits: int
    encrypt: ImageInfoSpecificQCow2Encryption | None = None
    bitmaps: list[Qcow2BitmapInfo] | None = None
    compression_type: Qcow2CompressionType


class ImageInfoSpecificQCow2EncryptionBase(Struct):
    """Struct `ImageInfoSpecificQCow2EncryptionBase`, since 2.10."""

    format: BlockdevQcow2EncryptionFormat


class ImageInfoSpecificQCow2Encryption(
    ImageInfoSpecificQCow2EncryptionBase,
    Union,
    tag="format",
    branches={"luks": "ImageInfoSpecificQCow2EncryptionLuks"},
):
    """Union `ImageInfoSpecificQCow2Encryption`, since 2.10."""


class ImageInfoSpecificQCow2EncryptionLuks(QCryptoBlockInfoLUKS, ImageInfoSpecificQCow2Encryption):
    """Branch of `ImageInfoSpecificQCow2Encryption` where `format` is `luks`."""

    format: Literal["luks"] = "luks"


class ImageInfoSpecificRbd(Struct):
    """Struct `ImageInfoSpecificRbd`, since 6.1."""

    encryption_format: RbdImageEncryptionFormat | None = None


class ImageInfoSpecificVmdk(Struct):
    """Struct `ImageInfoSpecificVmdk`, since 1.7."""

    create_type: str
    cid: int
    parent_cid: int
    extents: list[VmdkExtentInfo]


class NFSServer(Struct):
    """Struct `NFSServer`, since 2.9."""

    type: NFSTransport
    host: str


class PRManagerInfo(Struct):
    """Struct `PRManagerInfo`, since 3.0."""

    id: str
    connected: bool


class Qcow2BitmapInfo(Struct):
    """Struct `Qcow2BitmapInfo`, since 4.0."""

    name: str
    granularity: int
    flags: list[Qcow2BitmapInfoFlags]


class Qcow2OverlapCheckFlags(Struct):
    """Struct `Qcow2OverlapCheckFlags`, since 2.9."""

    template: Qcow2OverlapCheckMode | None = None
    main_header: bool | None = None
    active_l1: bool | None = None
    active_l2: bool | None = None
    refcount_table: bool | None = None
    refcount_block: bool | None = None
    snapshot_table: bool | None = None
    inactive_l1: bool | None = None
    inactive_l2: bool | None = None
    bitmap_directory: bool | None = None


class RbdEncryptionCreateOptions(
    Union,
    tag="format",
    branches={"luks": "RbdEncryptionCreateOptionsLUKS", "luks2": "RbdEncryptionCreateOptionsLUKS2"},
):
    """Union `RbdEncryptionCreateOptions`, since 6.1."""

    format: RbdImageEncryptionFormat


class RbdEncryptionOptionsLUKSBase(Struct):
    """Struct `RbdEncryptionOptionsLUKSBase`, since 6.1."""

    key_secret: str


class RbdEncryptionCreateOptionsLUKSBase(RbdEncryptionOptionsLUKSBase, RbdEncryptionCreateOptions):
    """Struct `RbdEncryptionCreateOptionsLUKSBase`, since 6.1. A base of branches of `RbdEncryptionCreateOptions`."""

    cipher_alg: QCryptoCipherAlgo | None = None


class RbdEncryptionCreateOptionsLUKS(RbdEncryptionCreateOptionsLUKSBase):
    """Struct `RbdEncryptionCreateOptionsLUKS`, since 6.1. Branch of `RbdEncryptionCreateOptions` where `format` is
    `luks`.
    """

    format: Literal["luks"] = "luks"


class RbdEncryptionCreateOptionsLUKS2(RbdEncryptionCreateOptionsLUKSBase):
    """Struct `RbdEncryptionCreateOptionsLUKS2`, since 6.1. Branch of `RbdEncryptionCreateOptions` where `format` is
    `luks2`.
    """

    format: Literal["luks2"] = "luks2"


class RbdEncryptionOptions(
    Union,
    tag="format",
    branches={
        "luks": "RbdEncryptionOptionsLUKS",
        "luks2": "RbdEncryptionOptionsLUKS2",
        "luks-any": "RbdEncryptionOptionsLUKSAny",
    },
):
    """Union `RbdEncryptionOptions`, since 6.1."""

    format: RbdImageEncryptionFormat
    parent: RbdEncryptionOptions | None = None  # since 8.0


class RbdEncryptionOptionsLUKS(RbdEncryptionOptionsLUKSBase, RbdEncryptionOptions):
    """Struct `RbdEncryptionOptionsLUKS`, since 6.1. Branch of `RbdEncryptionOptions` where `format` is `luks`."""

    format: Literal["luks"] = "luks"


class RbdEncryptionOptionsLUKS2(RbdEncryptionOptionsLUKSBase, RbdEncryptionOptions):
    """Struct `RbdEncryptionOptionsLUKS2`, since 6.1. Branch of `RbdEncryptionOptions` where `format` is `luks2`."""

    format: Literal["luks2"] = "luks2"


class RbdEncryptionOptionsLUKSAny(RbdEncryptionOptionsLUKSBase, RbdEncryptionOptions):
    """Struct `RbdEncryptionOptionsLUKSAny`, since 8.0. Branch of `RbdEncryptionOptions` where `format` is
    `luks-any`.
    """

    format: Literal["luks-any"] = "luks-any"


class SnapshotInfo(Struct):
    """Struct `SnapshotInfo`, since 1.3."""

    id: str
    name: str
    vm_state_size: int
    date_sec: int
    date_nsec: int
    vm_clock_sec: int
    vm_clock_nsec: int
    icount: int | None = None


class SshHostKeyCheck(Union, tag="mode", branches={"hash": "SshHostKeyHash"}):
    """Union `SshHostKeyCheck`, since 2.12."""

    mode: SshHostKeyCheckMode


class SshHostKeyHash(SshHostKeyCheck):
    """Struct `SshHostKeyHash`, since 2.12. Branch of `SshHostKeyCheck` where `mode` is `hash`."""

    mode: Literal["hash"] = "hash"
    type: SshHostKeyCheckHashType
    hash: str


class ThrottleGroupProperties(ObjectOptions):
    """Struct `ThrottleGroupProperties`, since 2.11. Branch of `ObjectOptions` where `qom-type` is `throttle-group`."""

    qom_type: Literal["throttle-group"] = "throttle-group"
    limits: ThrottleLimits | None = None
    x_iops_total: int | None = None  # unstable
    x_iops_total_max: int | None = None  # unstable
    x_iops_total_max_length: int | None = None  # unstable
    x_iops_read: int | None = None  # unstable
    x_iops_read_max: int | None = None  # unstable
    x_iops_read_max_length: int | None = None  # unstable
    x_iops_write: int | None = None  # unstable
    x_iops_write_max: int | None = None  # unstable
    x_iops_write_max_length: int | None = None  # unstable
    x_bps_total: int | None = None  # unstable
    x_bps_total_max: int | None = None  # unstable
    x_bps_total_max_length: int | None = None  # unstable
    x_bps_read: int | None = None  # unstable
    x_bps_read_max: int | None = None  # unstable
    x_bps_read_max_length: int | None = None  # unstable
    x_bps_write: int | None = None  # unstable
    x_bps_write_max: int | None = None  # unstable
    x_bps_write_max_length: int | None = None  # unstable
    x_iops_size: int | None = None  # unstable


class ThrottleLimits(Struct):
    """Struct `ThrottleLimits`, since 2.11."""

    iops_total: int | None = None
    iops_total_max: int | None = None
    iops_total_max_length: int | None = None
    iops_read: int | None = None
    iops_read_max: int | None = None
    iops_read_max_length: int | None = None
    iops_write: int | None = None
    iops_write_max: int | None = None
    iops_write_max_length: int | None = None
    bps_total: int | None = None
    bps_total_max: int | None = None
    bps_total_max_length: int | None = None
    bps_read: int | None = None
    bps_read_max: int | None = None
    bps_read_max_length: int | None = None
    bps_write: int | None = None
    bps_write_max: int | None = None
    bps_write_max_length: int | None = None
    iops_size: int | None = None


class VmdkExtentInfo(Struct):
    """Struct `VmdkExtentInfo`, since 8.0. Until 7.2 `ImageInfo` stood in its place."""

    filename: str
    format: str
    virtual_size: int
    cluster_size: int | None = None
    compressed: bool | None = None
    backing_image: ImageInfo | None = None  # 7.2 only
    dirty_flag: bool | None = None  # 7.2 only
    actual_size: int | None = None  # 7.2 only
    encrypted: bool | None = None  # 7.2 only
    backing_filename: str | None = None  # 7.2 only
    full_backing_filename: str | None = None  # 7.2 only
    backing_filename_format: str | None = None  # 7.2 only
    snapshots: list[SnapshotInfo] | None = None  # 7.2 only
    format_specific: ImageInfoSpecific | None = None  # 7.2 only


class XDbgBlockGraph(Struct):
    """Struct `XDbgBlockGraph`, since 4.0."""

    nodes: list[XDbgBlockGraphNode]
    edges: list[XDbgBlockGraphEdge]


class XDbgBlockGraphEdge(Struct):
    """Struct `XDbgBlockGraphEdge`, since 4.0."""

    parent: int
    child: int
    name: str
    perm: list[BlockPermission]
    shared_perm: list[BlockPermission]


class XDbgBlockGraphNode(Struct):
    """Struct `XDbgBlockGraphNode`, since 4.0."""

    id: int
    type: XDbgBlockGraphNodeType
    name: str


class BlockImageCorruptedEvent(Event, wire_name="BLOCK_IMAGE_CORRUPTED"):
    """Event `BLOCK_IMAGE_CORRUPTED`, since 1.7."""

    device: str
    node_name: str | None = None
    msg: str
    offset: int | None = None
    size: int | None = None
    fatal: bool


class BlockIoErrorEvent(Event, wire_name="BLOCK_IO_ERROR"):
    """Event `BLOCK_IO_ERROR`, since 0.13."""

    qom_path: str | None = None  # since 9.2
    device: str
    node_name: str | None = None
    operation: IoOperationType
    action: BlockErrorAction
    nospace: bool | None = None
    reason: str


class BlockJobCancelledEvent(Event, wire_name="BLOCK_JOB_CANCELLED"):
    """Event `BLOCK_JOB_CANCELLED`, since 1.1."""

    type: JobType
    device: str
    len: int
    offset: int
    speed: int


class BlockJobCompletedEvent(Event, wire_name="BLOCK_JOB_COMPLETED"):
    """Event `BLOCK_JOB_COMPLETED`, since 1.1."""

    type: JobType
    device: str
    len: int
    offset: int
    speed: int
    error: str | None = None


class BlockJobErrorEvent(Event, wire_name="BLOCK_JOB_ERROR"):
    """Event `BLOCK_JOB_ERROR`, since 1.3."""

    device: str
    operation: IoOperationType
    action: BlockErrorAction


class BlockJobPendingEvent(Event, wire_name="BLOCK_JOB_PENDING"):
    """Event `BLOCK_JOB_PENDING`, since 2.12."""

    type: JobType
    id: str


class BlockJobReadyEvent(Event, wire_name="BLOCK_JOB_READY"):
    """Event `BLOCK_JOB_READY`, since 1.3."""

    type: JobType
    device: str
    len: int
    offset: int
    speed: int


class BlockWriteThresholdEvent(Event, wire_name="BLOCK_WRITE_THRESHOLD"):
    """Event `BLOCK_WRITE_THRESHOLD`, since 2.3."""

    node_name: str
    amount_exceeded: int
    write_threshold: int


class DeviceTrayMovedEvent(Event, wire_name="DEVICE_TRAY_MOVED"):
    """Event `DEVICE_TRAY_MOVED`, since 1.1."""

    device: str
    id: str
    tray_open: bool


class PrManagerStatusChangedEvent(Event, wire_name="PR_MANAGER_STATUS_CHANGED"):
    """Event `PR_MANAGER_STATUS_CHANGED`, since 3.0."""

    id: str
    connected: bool


class QuorumFailureEvent(Event, wire_name="QUORUM_FAILURE"):
    """Event `QUORUM_FAILURE`, since 2.0."""

    reference: str
    sector_num: int
    sectors_count: int


class QuorumReportBadEvent(Event, wire_name="QUORUM_REPORT_BAD"):
    """Event `QUORUM_REPORT_BAD`, since 2.0."""

    type: QuorumOpType
    error: str | None = None
    node_name: str
    sector_num: int
    sectors_count: int


class BlockCommit(Command[None], wire_name="block-commit"):
    """Command `block-commit`, since 1.3. Allowed before the machine is made."""

    job_id: str | None = None
    device: str
    base_node: str | None = None
    base: str | None = None  # deprecated
    top_node: str | None = None
    top: str | None = None  # deprecated
    backing_file: str | None = None
    backing_mask_protocol: bool | None = None  # since 9.0
    speed: int | None = None
    on_error: BlockdevOnError | None = None
    filter_node_name: str | None = None
    auto_finalize: bool | None = None
    auto_dismiss: bool | None = None


class BlockDirtyBitmapAdd(Command[None], wire_name="block-dirty-bitmap-add"):
    """Command `block-dirty-bitmap-add`, since 2.4. It is the struct of its arguments too. Allowed before the machine
    is made.
    """

    node: str
    name: str
    granularity: int | None = None
    persistent: bool | None = None
    disabled: bool | None = None


class BlockDirtyBitmapClear(BlockDirtyBitmap, Command[None], wire_name="block-dirty-bitmap-clear"):
    """Command `block-dirty-bitmap-clear`, since 2.4. Allowed before the machine is made."""


class BlockDirtyBitmapDisable(BlockDirtyBitmap, Command[None], wire_name="block-dirty-bitmap-disable"):
    """Command `block-dirty-bitmap-disable`, since 4.0. Allowed before the machine is made."""


class BlockDirtyBitmapEnable(BlockDirtyBitmap, Command[None], wire_name="block-dirty-bitmap-enable"):
    """Command `block-dirty-bitmap-enable`, since 4.0. Allowed before the machine is made."""


class BlockDirtyBitmapMerge(Command[None], wire_name="block-dirty-bitmap-merge"):
    """Command `block-dirty-bitmap-merge`, since 4.0. It is the struct of its arguments too. Allowed before the
    machine is made.
    """

    node: str
    target: str
    bitmaps: list[BlockDirtyBitmapOrStr]


class BlockDirtyBitmapRemove(BlockDirtyBitmap, Command[None], wire_name="block-dirty-bitmap-remove"):
    """Command `block-dirty-bitmap-remove`, since 2.4. Allowed before the machine is made."""


class BlockJobCancel(Command[None], wire_name="block-job-cancel"):
    """Command `block-job-cancel`, since 1.1. Allowed before the machine is made."""

    device: str
    force: bool | None = None


class BlockJobChange(Command[None], wire_name="block-job-change", whole_argument="arguments", kw_only=False):
    """Command `block-job-change`, since 8.2."""

    arguments: BlockJobChangeOptions


class BlockJobComplete(Command[None], wire_name="block-job-complete"):
    """Command `block-job-complete`, since 1.3. Deprecated. Allowed before the machine is made."""

    device: str


class BlockJobDismiss(Command[None], wire_name="block-job-dismiss"):
    """Command `block-job-dismiss`, since 2.12. Deprecated. Allowed before the machine is made."""

    id: str


class BlockJobFinalize(Command[None], wire_name="block-job-finalize"):
    """Command `block-job-finalize`, since 2.12. Deprecated. Allowed before the machine is made."""

    id: str


class BlockJobPause(Command[None], wire_name="block-job-pause"):
    """Command `block-job-pause`, since 1.3. Deprecated. Allowed before the machine is made."""

    device: str


class BlockJobResume(Command[None], wire_name="block-job-resume"):
    """Command `block-job-resume`, since 1.3. Deprecated. Allowed before the machine is made."""

    device: str


class BlockJobSetSpeed(Command[None], wire_name="block-job-set-speed"):
    """Command `block-job-set-speed`, since 1.1. Allowed before the machine is made."""

    device: str
    speed: int


class BlockLatencyHistogramSet(Command[None], wire_name="block-latency-histogram-set"):
    """Command `block-latency-histogram-set`, since 4.0. Allowed before the machine is made."""

    id: str
    boundaries: list[int] | None = None
    boundaries_read: list[int] | None = None
    boundaries_write: list[int] | None = None
    boundaries_zap: list[int] | None = None  # 10.0 and later
    boundaries_flush: list[int] | None = None


class BlockResize(Command[None], wire_name="block_resize"):
    """Command `block_resize`, since 0.14. Allowed before the machine is made."""

    device: str | None = None
    node_name: str | None = None
    size: int


class BlockSetIoThrottle(BlockIOThrottle, Command[None], wire_name="block_set_io_throttle"):
    """Command `block_set_io_throttle`, since 1.1. Allowed before the machine is made."""


class BlockSetWriteThreshold(Command[None], wire_name="block-set-write-threshold"):
    """Command `block-set-write-threshold`, since 2.3. Allowed before the machine is made."""

    node_name: str
    write_threshold: int


class BlockStream(Command[None], wire_name="block-stream"):
    """Command `block-stream`, since 1.1. Allowed before the machine is made."""

    job_id: str | None = None
    device: str
    base: str | None = None
    base_node: str | None = None
    bottom: str | None = None
    backing_file: str | None = None
    backing_mask_protocol: bool | None = None  # since 9.0
    speed: int | None = None
    on_error: BlockdevOnError | None = None
    filter_node_name: str | None = None
    auto_finalize: bool | None = None
    auto_dismiss: bool | None = None


class BlockdevAdd(Command[None], wire_name="blockdev-add", whole_argument="arguments", kw_only=False):
    """Command `blockdev-add`, since 2.9. Allowed before the machine is made."""

    arguments: BlockdevOptions


class BlockdevBackup(BackupCommon, Command[None], wire_name="blockdev-backup"):
    """Command `blockdev-backup`, since 2.3. It is the struct of its arguments too. Allowed before the machine is
    made.
    """

    target: str


class BlockdevChangeMedium(Command[None], wire_name="blockdev-change-medium"):
    """Command `blockdev-change-medium`, since 2.5."""

    device: str | None = None  # deprecated
    id: str | None = None
    filename: str
    format: str | None = None
    read_only_mode: BlockdevChangeReadOnlyMode | None = None
    force: bool | None = None


class BlockdevCloseTray(Command[None], wire_name="blockdev-close-tray"):
    """Command `blockdev-close-tray`, since 2.5."""

    device: str | None = None  # deprecated
    id: str | None = None


class BlockdevCreate(Command[None], wire_name="blockdev-create"):
    """Command `blockdev-create`, since 3.0. Allowed before the machine is made."""

    job_id: str
    options: BlockdevCreateOptions


class BlockdevDel(Command[None], wire_name="blockdev-del"):
    """Command `blockdev-del`, since 2.9. Allowed before the machine is made."""

    node_name: str


class BlockdevInsertMedium(Command[None], wire_name="blockdev-insert-medium"):
    """Command `blockdev-insert-medium`, since 2.12."""

    id: str
    node_name: str


class BlockdevMirror(Command[None], wire_name="blockdev-mirror"):
    """Command `blockdev-mirror`, since 2.6. Allowed before the machine is made."""

    job_id: str | None = None
    device: str
    target: str
    replaces: str | None = None
    speed: int | None = None
    sync: MirrorSyncMode
    granularity: int | None = None
    buf_size: int | None = None
    on_source_error: BlockdevOnError | None = None
    on_target_error: BlockdevOnError | None = None
    filter_node_name: str | None = None
    copy_mode: MirrorCopyMode | None = None
    auto_finalize: bool | None = None
    auto_dismiss: bool | None = None
    target_is_zero: bool | None = None  # since 10.1


class BlockdevOpenTray(Command[None], wire_name="blockdev-open-tray"):
    """Command `blockdev-open-tray`, since 2.5."""

    device: str | None = None  # deprecated
    id: str | None = None
    force: bool | None = None


class BlockdevRemoveMedium(Command[None], wire_name="blockdev-remove-medium"):
    """Command `blockdev-remove-medium`, since 2.12."""

    id: str


class BlockdevReopen(Command[None], wire_name="blockdev-reopen"):
    """Command `blockdev-reopen`, since 6.1. Allowed before the machine is made."""

    options: list[BlockdevOptions]


class BlockdevSetActive(Command[None], wire_name="blockdev-set-active"):
    """Command `blockdev-set-active`, since 10.0. Allowed before the machine is made."""

    node_name: str | None = None
    active: bool


class BlockdevSnapshot(Command[None], wire_name="blockdev-snapshot"):
    """Command `blockdev-snapshot`, since 2.5. It is the struct of its arguments too. Allowed before the machine is
    made.
    """

    node: str
    overlay: str


class BlockdevSnapshotDeleteInternalSync(Command["SnapshotInfo"], wire_name="blockdev-snapshot-delete-internal-sync"):
    """Command `blockdev-snapshot-delete-internal-sync`, since 1.7. Returns `SnapshotInfo`. Allowed before the
    machine is made.
    """

    device: str
    id: str | None = None
    name: str | None = None


class BlockdevSnapshotInternalSync(
    BlockdevSnapshotInternal,
    Command[None],
    wire_name="blockdev-snapshot-internal-sync",
):
    """Command `blockdev-snapshot-internal-sync`, since 1.7. Allowed before the machine is made."""


class BlockdevSnapshotSync(Command[None], wire_name="blockdev-snapshot-sync"):
    """Command `blockdev-snapshot-sync`, since 0.14. It is the struct of its arguments too. Allowed before the
    machine is made.
    """

    device: str | None = None
    node_name: str | None = None
    snapshot_file: str
    snapshot_node_name: str | None = None
    format: str | None = None
    mode: NewImageMode | None = None


class ChangeBackingFile(Command[None], wire_name="change-backing-file"):
    """Command `change-backing-file`, since 2.1. Allowed before the machine is made."""

    image_node_name: str
    device: str
    backing_file: str


class DriveBackup(BackupCommon, Command[None], wire_name="drive-backup"):
    """Command `drive-backup`, since 1.6. Deprecated. It is the struct of its arguments too. Allowed before the
    machine is made.
    """

    target: str
    format: str | None = None
    mode: NewImageMode | None = None


class DriveMirror(Command[None], wire_name="drive-mirror"):
    """Command `drive-mirror`, since 1.3. It is the struct of its arguments too. Allowed before the machine is made."""

    job_id: str | None = None
    device: str
    target: str
    format: str | None = None
    node_name: str | None = None
    replaces: str | None = None
    mode: NewImageMode | None = None
    speed: int | None = None
    sync: MirrorSyncMode
    granularity: int | None = None
    buf_size: int | None = None
    on_source_error: BlockdevOnError | None = None
    on_target_error: BlockdevOnError | None = None
    unmap: bool | None = None
    copy_mode: MirrorCopyMode | None = None
    auto_finalize: bool | None = None
    auto_dismiss: bool | None = None


class Eject(Command[None], wire_name="eject"):
    """Command `eject`, since 0.14."""

    device: str | None = None  # deprecated
    id: str | None = None
    force: bool | None = None


class QueryBlock(Command["list[BlockInfo]"], wire_name="query-block"):
    """Command `query-block`, since 0.14. Returns a list of `BlockInfo`. Allowed before the machine is made."""

    flat: bool | None = None  # since 11.0


class QueryBlockJobs(Command["list[BlockJobInfo]"], wire_name="query-block-jobs"):
    """Command `query-block-jobs`, since 1.1. Returns a list of `BlockJobInfo`. Allowed before the machine is made."""


class QueryBlockstats(Command["list[BlockStats]"], wire_name="query-blockstats"):
    """Command `query-blockstats`, since 0.14. Returns a list of `BlockStats`. Allowed before the machine is made."""

    query_nodes: bool | None = None


class QueryNamedBlockNodes(Command["list[BlockDeviceInfo]"], wire_name="query-named-block-nodes"):
    """Command `query-named-block-nodes`, since 2.0. Returns a list of `BlockDeviceInfo`. Allowed before the machine
    is made.
    """

    flat: bool | None = None


class QueryPrManagers(Command["list[PRManagerInfo]"], wire_name="query-pr-managers"):
    """Command `query-pr-managers`, since 3.0. Returns a list of `PRManagerInfo`. Allowed before the machine is made."""


class XBlockdevAmend(Command[None], wire_name="x-blockdev-amend"):
    """Command `x-blockdev-amend`, since 5.1. Unstable. Allowed before the machine is made."""

    job_id: str
    node_name: str
    options: BlockdevAmendOptions
    force: bool | None = None


class XBlockdevChange(Command[None], wire_name="x-blockdev-change"):
    """Command `x-blockdev-change`, since 2.7. Unstable. Allowed before the machine is made."""

    parent: str
    child: str | None = None
    node: str | None = None


class XBlockdevSetIothread(Command[None], wire_name="x-blockdev-set-iothread"):
    """Command `x-blockdev-set-iothread`, since 2.12. Unstable. Allowed before the machine is made."""

    node_name: str
    iothread: StrOrNull
    force: bool | None = None


class XDebugBlockDirtyBitmapSha256(
    BlockDirtyBitmap,
    Command["BlockDirtyBitmapSha256"],
    wire_name="x-debug-block-dirty-bitmap-sha256",
):
    """Command `x-debug-block-dirty-bitmap-sha256`, since 2.10. Unstable. Returns `BlockDirtyBitmapSha256`. Allowed
    before the machine is made.
    """


class XDebugQueryBlockGraph(Command["XDbgBlockGraph"], wire_name="x-debug-query-block-graph"):
    """Command `x-debug-query-block-graph`, since 4.0. Unstable. Returns `XDbgBlockGraph`. Allowed before the machine
    is made.
    """
