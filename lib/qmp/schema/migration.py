# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `migration`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hvkit.qmp.base import Command, Event, Struct, Union
from hvkit.qmp.schema.sockets import (
    InetSocketAddress,
    SocketAddress,
    SocketAddressFd,
    SocketAddressInet,
    SocketAddressUnix,
    SocketAddressVsock,
)

if TYPE_CHECKING:
    from hvkit.qmp.schema.common import StrOrNull

#: Enumeration `COLOExitReason`, since 3.1.
COLOExitReason = Literal["none", "request", "error", "processing"]

#: Enumeration `COLOMode`, since 2.8.
COLOMode = Literal["none", "primary", "secondary"]

#: Enumeration `DirtyRateMeasureMode`, since 6.2.
DirtyRateMeasureMode = Literal["page-sampling", "dirty-ring", "dirty-bitmap"]

#: Enumeration `DirtyRateStatus`, since 5.2.
DirtyRateStatus = Literal["unstarted", "measuring", "measured"]

#: Enumeration `MigMode`, 10.0 and later.
MigMode = Literal[
    "normal",
    "cpr-reboot",
    "cpr-transfer",
    "cpr-exec",  # since 10.2
]

#: Enumeration `MigrationAddressType`, since 8.2.
MigrationAddressType = Literal["socket", "exec", "rdma", "file"]

#: Enumeration `MigrationCapability`, since 1.2.
MigrationCapability = Literal[
    "xbzrle",
    "rdma-pin-all",
    "events",
    "auto-converge",
    "postcopy-ram",
    "x-colo",  # unstable
    "release-ram",
    "return-path",
    "pause-before-switchover",
    "multifd",
    "dirty-bitmaps",
    "postcopy-blocktime",
    "late-block-activate",
    "x-ignore-shared",  # unstable
    "validate-uuid",
    "background-snapshot",
    "zero-copy-send",
    "postcopy-preempt",
    "switchover-ack",  # since 8.1
    "dirty-limit",  # since 8.1
    "mapped-ram",  # since 9.0
    "zero-blocks",  # until 10.0, deprecated
    "compress",  # 7.2 only
    "block",  # 7.2 only
]

#: Enumeration `MigrationChannelType`, since 8.1.
MigrationChannelType = Literal["main", "cpr"]

#: Enumeration `MigrationStatus`, since 2.3.
MigrationStatus = Literal[
    "none",
    "setup",
    "cancelling",
    "cancelled",
    "active",
    "postcopy-active",
    "postcopy-device",  # since 10.2
    "postcopy-paused",
    "postcopy-recover-setup",  # since 9.1
    "postcopy-recover",
    "completed",
    "failing",  # since 11.0
    "failed",
    "colo",
    "pre-switchover",
    "device",
    "wait-unplug",
]

#: Enumeration `MultiFDCompression`, since 5.0.
MultiFDCompression = Literal[
    "none",
    "zlib",
    "zstd",
    "qatzip",  # since 9.2
    "qpl",  # since 9.1
    "uadk",  # since 9.1
]

#: Enumeration `TimeUnit`, since 8.2.
TimeUnit = Literal["second", "millisecond"]

#: Enumeration `ZeroPageDetection`, since 9.0.
ZeroPageDetection = Literal["none", "legacy", "multifd"]


class BitmapMigrationBitmapAlias(Struct):
    """Struct `BitmapMigrationBitmapAlias`, since 5.2."""

    name: str
    alias: str
    transform: BitmapMigrationBitmapAliasTransform | None = None


class BitmapMigrationBitmapAliasTransform(Struct):
    """Struct `BitmapMigrationBitmapAliasTransform`, since 6.0."""

    persistent: bool | None = None


class BitmapMigrationNodeAlias(Struct):
    """Struct `BitmapMigrationNodeAlias`, since 5.2."""

    node_name: str
    alias: str
    bitmaps: list[BitmapMigrationBitmapAlias]


class COLOStatus(Struct):
    """Struct `COLOStatus`, since 3.1. Needs CONFIG_REPLICATION."""

    mode: COLOMode
    last_mode: COLOMode
    reason: COLOExitReason


class CompressionStats(Struct):
    """Struct `CompressionStats`, since 3.1."""

    pages: int
    busy: int
    busy_rate: float
    compressed_size: int
    compression_rate: float


class DirtyLimitInfo(Struct):
    """Struct `DirtyLimitInfo`, since 7.1."""

    cpu_index: int
    limit_rate: int
    current_rate: int


class DirtyRateInfo(Struct):
    """Struct `DirtyRateInfo`, since 5.2."""

    dirty_rate: int | None = None
    status: DirtyRateStatus
    start_time: int
    calc_time: int
    calc_time_unit: TimeUnit | None = None  # since 8.2
    sample_pages: int
    mode: DirtyRateMeasureMode
    vcpu_dirty_rate: list[DirtyRateVcpu] | None = None


class DirtyRateVcpu(Struct):
    """Struct `DirtyRateVcpu`, since 6.2."""

    id: int
    dirty_rate: int


class MigrationAddress(
    Union,
    tag="transport",
    branches={
        "socket": "MigrationAddressSocket",
        "exec": "MigrationExecCommand",
        "rdma": "MigrationAddressRdma",
        "file": "FileMigrationArgs",
    },
):
    """Union `MigrationAddress`, since 8.2."""

    transport: MigrationAddressType


class MigrationAddressSocket(
    SocketAddress,
    MigrationAddress,
    tag="type",
    branches={
        "inet": "MigrationAddressSocketInet",
        "unix": "MigrationAddressSocketUnix",
        "vsock": "MigrationAddressSocketVsock",
        "fd": "MigrationAddressSocketFd",
    },
):
    """Branch of `MigrationAddress` where `transport` is `socket`."""

    transport: Literal["socket"] = "socket"


class MigrationAddressSocketInet(SocketAddressInet, MigrationAddressSocket):
    """Branch of `MigrationAddressSocket` where `type` is `inet`."""


class MigrationAddressSocketUnix(SocketAddressUnix, MigrationAddressSocket):
    """Branch of `MigrationAddressSocket` where `type` is `unix`."""


class MigrationAddressSocketVsock(SocketAddressVsock, MigrationAddressSocket):
    """Branch of `MigrationAddressSocket` where `type` is `vsock`."""


class MigrationAddressSocketFd(SocketAddressFd, MigrationAddressSocket):
    """Branch of `MigrationAddressSocket` where `type` is `fd`."""


class MigrationExecCommand(MigrationAddress):
    """Struct `MigrationExecCommand`, since 8.2. Branch of `MigrationAddress` where `transport` is `exec`."""

    transport: Literal["exec"] = "exec"
    args: list[str]


class MigrationAddressRdma(InetSocketAddress, MigrationAddress):
    """Branch of `MigrationAddress` where `transport` is `rdma`."""

    transport: Literal["rdma"] = "rdma"


class FileMigrationArgs(MigrationAddress):
    """Struct `FileMigrationArgs`, since 8.2. Branch of `MigrationAddress` where `transport` is `file`."""

    transport: Literal["file"] = "file"
    filename: str
    offset: int


class MigrationCapabilityStatus(Struct):
    """Struct `MigrationCapabilityStatus`, since 1.2."""

    capability: MigrationCapability
    state: bool


class MigrationChannel(Struct):
    """Struct `MigrationChannel`, since 8.1."""

    channel_type: MigrationChannelType
    addr: MigrationAddress


class MigrationInfo(Struct):
    """Struct `MigrationInfo`, since 0.14."""

    status: MigrationStatus | None = None
    ram: MigrationRAMStats | None = None
    xbzrle_cache: XBZRLECacheStats | None = None
    total_time: int | None = None
    downtime: int | None = None
    expected_downtime: int | None = None
    setup_time: int | None = None
    cpu_throttle_percentage: int | None = None
    error_desc: str | None = None
    postcopy_blocktime: int | None = None
    postcopy_vcpu_blocktime: list[int] | None = None
    postcopy_latency: int | None = None  # since 10.1, unstable
    postcopy_latency_dist: list[int] | None = None  # since 10.1, unstable
    postcopy_vcpu_latency: list[int] | None = None  # since 10.1, unstable
    postcopy_non_vcpu_latency: int | None = None  # since 10.1, unstable
    socket_address: list[SocketAddress] | None = None
    vfio: VfioStats | None = None
    blocked_reasons: list[str] | None = None
    dirty_limit_throttle_time_per_round: int | None = None  # since 8.1
    dirty_limit_ring_full_time: int | None = None  # since 8.1
    remaining: int | None = None  # since 11.1
    disk: MigrationStats | None = None  # 7.2 only
    compression: CompressionStats | None = None  # 7.2 only


class MigrationParameters(Struct):
    """Struct `MigrationParameters`, since 2.4."""

    announce_initial: int | None = None
    announce_max: int | None = None
    announce_rounds: int | None = None
    announce_step: int | None = None
    throttle_trigger_threshold: int | None = None
    cpu_throttle_initial: int | None = None
    cpu_throttle_increment: int | None = None
    cpu_throttle_tailslow: bool | None = None
    tls_creds: StrOrNull | None = None
    tls_hostname: StrOrNull | None = None
    tls_authz: StrOrNull | None = None
    max_bandwidth: int | None = None
    avail_switchover_bandwidth: int | None = None  # since 8.2
    downtime_limit: int | None = None
    x_checkpoint_delay: int | None = None  # unstable
    multifd_channels: int | None = None
    xbzrle_cache_size: int | None = None
    max_postcopy_bandwidth: int | None = None
    max_cpu_throttle: int | None = None
    multifd_compression: MultiFDCompression | None = None
    multifd_zlib_level: int | None = None
    multifd_qatzip_level: int | None = None  # since 9.2
    multifd_zstd_level: int | None = None
    block_bitmap_mapping: list[BitmapMigrationNodeAlias] | None = None
    x_vcpu_dirty_limit_period: int | None = None  # since 8.1, unstable
    vcpu_dirty_limit: int | None = None  # since 8.1
    mode: MigMode | None = None  # since 8.2
    zero_page_detection: ZeroPageDetection | None = None  # since 9.0
    direct_io: bool | None = None  # since 9.1
    cpr_exec_command: list[str] | None = None  # since 10.2
    x_rdma_chunk_size: int | None = None  # since 11.1, unstable
    compress_level: int | None = None  # 7.2 only
    compress_threads: int | None = None  # 7.2 only
    compress_wait_thread: bool | None = None  # 7.2 only
    decompress_threads: int | None = None  # 7.2 only
    block_incremental: bool | None = None  # 7.2 only


class MigrationRAMStats(Struct):
    """Struct `MigrationRAMStats`, 11.1 and later. Until 10.0 `MigrationStats` stood in its place."""

    transferred: int
    remaining: int
    total: int
    duplicate: int
    normal: int
    normal_bytes: int
    dirty_pages_rate: int
    mbps: float
    dirty_sync_count: int
    postcopy_requests: int
    page_size: int
    multifd_bytes: int
    pages_per_second: int
    precopy_bytes: int
    downtime_bytes: int
    postcopy_bytes: int
    dirty_sync_missed_zero_copy: int
    skipped: int | None = None  # 7.2 only


class MigrationStats(Struct):
    """Struct `MigrationStats`, since 0.14, until 10.0."""

    transferred: int
    remaining: int
    total: int
    duplicate: int
    normal: int
    normal_bytes: int
    dirty_pages_rate: int
    mbps: float
    dirty_sync_count: int
    postcopy_requests: int
    page_size: int
    multifd_bytes: int
    pages_per_second: int
    precopy_bytes: int
    downtime_bytes: int
    postcopy_bytes: int
    dirty_sync_missed_zero_copy: int
    skipped: int | None = None  # 7.2 only


class MigrationThreadInfo(Struct):
    """Struct `MigrationThreadInfo`, 10.0 only."""

    name: str
    thread_id: int


class ReplicationStatus(Struct):
    """Struct `ReplicationStatus`, since 2.9. Needs CONFIG_REPLICATION."""

    error: bool
    desc: str | None = None


class VfioStats(Struct):
    """Struct `VfioStats`, since 5.2."""

    transferred: int


class XBZRLECacheStats(Struct):
    """Struct `XBZRLECacheStats`, since 1.2."""

    cache_size: int
    bytes: int
    pages: int
    cache_miss: int
    cache_miss_rate: float
    encoding_rate: float
    overflow: int


class ColoExitEvent(Event, wire_name="COLO_EXIT"):
    """Event `COLO_EXIT`, since 3.1."""

    mode: COLOMode
    reason: COLOExitReason


class MigrationEvent(Event, wire_name="MIGRATION"):
    """Event `MIGRATION`, since 2.4."""

    status: MigrationStatus


class MigrationPassEvent(Event, wire_name="MIGRATION_PASS"):
    """Event `MIGRATION_PASS`, since 2.6."""

    pass_: int


class UnplugPrimaryEvent(Event, wire_name="UNPLUG_PRIMARY"):
    """Event `UNPLUG_PRIMARY`, since 4.2."""

    device_id: str


class CalcDirtyRate(Command[None], wire_name="calc-dirty-rate"):
    """Command `calc-dirty-rate`, since 5.2."""

    calc_time: int
    calc_time_unit: TimeUnit | None = None  # since 8.2
    sample_pages: int | None = None
    mode: DirtyRateMeasureMode | None = None


class CancelVcpuDirtyLimit(Command[None], wire_name="cancel-vcpu-dirty-limit"):
    """Command `cancel-vcpu-dirty-limit`, since 7.1."""

    cpu_index: int | None = None


class Migrate(Command[None], wire_name="migrate"):
    """Command `migrate`, since 0.14."""

    uri: str | None = None
    channels: list[MigrationChannel] | None = None  # 10.0 and later
    resume: bool | None = None
    detach: bool | None = None  # until 10.0
    blk: bool | None = None  # 7.2 only
    inc: bool | None = None  # 7.2 only


class MigrateCancel(Command[None], wire_name="migrate_cancel"):
    """Command `migrate_cancel`, since 0.14."""


class MigrateContinue(Command[None], wire_name="migrate-continue"):
    """Command `migrate-continue`, since 2.11."""

    state: MigrationStatus


class MigrateIncoming(Command[None], wire_name="migrate-incoming"):
    """Command `migrate-incoming`, since 2.3."""

    uri: str | None = None
    channels: list[MigrationChannel] | None = None  # 10.0 and later
    exit_on_error: bool | None = None  # since 9.1


class MigratePause(Command[None], wire_name="migrate-pause", out_of_band=True):
    """Command `migrate-pause`, since 3.0."""


class MigrateRecover(Command[None], wire_name="migrate-recover", out_of_band=True):
    """Command `migrate-recover`, since 3.0."""

    uri: str


class MigrateSetCapabilities(Command[None], wire_name="migrate-set-capabilities"):
    """Command `migrate-set-capabilities`, since 1.2."""

    capabilities: list[MigrationCapabilityStatus]


class MigrateSetParameters(MigrationParameters, Command[None], wire_name="migrate-set-parameters"):
    """Command `migrate-set-parameters`, since 2.4."""


class MigrateStartPostcopy(Command[None], wire_name="migrate-start-postcopy"):
    """Command `migrate-start-postcopy`, since 2.5."""


class QueryColoStatus(Command["COLOStatus"], wire_name="query-colo-status"):
    """Command `query-colo-status`, since 3.1. Needs CONFIG_REPLICATION. Returns `COLOStatus`."""


class QueryDirtyRate(Command["DirtyRateInfo"], wire_name="query-dirty-rate"):
    """Command `query-dirty-rate`, since 5.2. Returns `DirtyRateInfo`."""

    calc_time_unit: TimeUnit | None = None  # since 8.2


class QueryMigrate(Command["MigrationInfo"], wire_name="query-migrate"):
    """Command `query-migrate`, since 0.14. Returns `MigrationInfo`."""


class QueryMigrateCapabilities(Command["list[MigrationCapabilityStatus]"], wire_name="query-migrate-capabilities"):
    """Command `query-migrate-capabilities`, since 1.2. Returns a list of `MigrationCapabilityStatus`."""


class QueryMigrateParameters(Command["MigrationParameters"], wire_name="query-migrate-parameters"):
    """Command `query-migrate-parameters`, since 2.4. Returns `MigrationParameters`."""


class QueryMigrationthreads(Command["list[MigrationThreadInfo]"], wire_name="query-migrationthreads"):
    """Command `query-migrationthreads`, 10.0 only. Deprecated. Returns a list of `MigrationThreadInfo`."""


class QueryVcpuDirtyLimit(Command["list[DirtyLimitInfo]"], wire_name="query-vcpu-dirty-limit"):
    """Command `query-vcpu-dirty-limit`, since 7.1. Returns a list of `DirtyLimitInfo`."""


class QueryXenReplicationStatus(Command["ReplicationStatus"], wire_name="query-xen-replication-status"):
    """Command `query-xen-replication-status`, since 2.9. Needs CONFIG_REPLICATION. Returns `ReplicationStatus`."""


class SetVcpuDirtyLimit(Command[None], wire_name="set-vcpu-dirty-limit"):
    """Command `set-vcpu-dirty-limit`, since 7.1."""

    cpu_index: int | None = None
    dirty_rate: int


class SnapshotDelete(Command[None], wire_name="snapshot-delete"):
    """Command `snapshot-delete`, since 6.0."""

    job_id: str
    tag: str
    devices: list[str]


class SnapshotLoad(Command[None], wire_name="snapshot-load"):
    """Command `snapshot-load`, since 6.0."""

    job_id: str
    tag: str
    vmstate: str
    devices: list[str]


class SnapshotSave(Command[None], wire_name="snapshot-save"):
    """Command `snapshot-save`, since 6.0."""

    job_id: str
    tag: str
    vmstate: str
    devices: list[str]


class XColoLostHeartbeat(Command[None], wire_name="x-colo-lost-heartbeat"):
    """Command `x-colo-lost-heartbeat`, since 2.8. Unstable. Needs CONFIG_REPLICATION."""


class XenColoDoCheckpoint(Command[None], wire_name="xen-colo-do-checkpoint"):
    """Command `xen-colo-do-checkpoint`, since 2.9. Needs CONFIG_REPLICATION."""


class XenLoadDevicesState(Command[None], wire_name="xen-load-devices-state"):
    """Command `xen-load-devices-state`, since 2.7."""

    filename: str


class XenSaveDevicesState(Command[None], wire_name="xen-save-devices-state"):
    """Command `xen-save-devices-state`, since 1.1."""

    filename: str
    live: bool | None = None


class XenSetGlobalDirtyLog(Command[None], wire_name="xen-set-global-dirty-log"):
    """Command `xen-set-global-dirty-log`, since 1.3."""

    enable: bool


class XenSetReplication(Command[None], wire_name="xen-set-replication"):
    """Command `xen-set-replication`, since 2.9. Needs CONFIG_REPLICATION."""

    enable: bool
    primary: bool
    failover: bool | None = None
