# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's guest agent. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from hvkit.qmp.base import Command, Struct, Union, wire

#: Enumeration `GuestCpuStatsType`, since 7.1. Needs CONFIG_LINUX.
GuestCpuStatsType = Literal["linux"]

#: Enumeration `GuestDeviceType`. Needs CONFIG_WIN32.
GuestDeviceType = Literal["pci"]

#: Enumeration `GuestDiskBusType`, since 2.2. Needs CONFIG_WIN32 || CONFIG_LINUX.
GuestDiskBusType = Literal[
    "ide",
    "fdc",
    "scsi",
    "virtio",
    "xen",
    "usb",
    "uml",
    "sata",
    "sd",
    "unknown",
    "ieee1394",
    "ssa",
    "fibre",
    "raid",
    "iscsi",
    "sas",
    "mmc",
    "virtual",
    "file-backed-virtual",
    "nvme",
]

#: Alternate `GuestExecCaptureOutput`, since 8.0.
GuestExecCaptureOutput: TypeAlias = "bool | GuestExecCaptureOutputMode"

#: Enumeration `GuestExecCaptureOutputMode`, since 8.0.
GuestExecCaptureOutputMode = Literal["none", "stdout", "stderr", "separated", "merged"]

#: Alternate `GuestFileWhence`, since 2.6.
GuestFileWhence: TypeAlias = "int | QGASeek"

#: Enumeration `GuestFsfreezeStatus`, since 0.15. Needs CONFIG_WIN32 || CONFIG_FSFREEZE.
GuestFsfreezeStatusReply = Literal["thawed", "frozen"]

#: Enumeration `GuestIpAddressType`, since 1.1. Needs CONFIG_WIN32 || HAVE_GETIFADDRS.
GuestIpAddressType = Literal["ipv4", "ipv6"]

#: Enumeration `GuestMemoryBlockResponseType`, since 2.3. Needs CONFIG_LINUX.
GuestMemoryBlockResponseType = Literal["success", "not-found", "operation-not-supported", "operation-failed"]

#: Enumeration `QGASeek`, since 2.6.
QGASeek = Literal["set", "cur", "end"]


class GuestAgentCommandInfo(Struct):
    """Struct `GuestAgentCommandInfo`, since 1.1."""

    name: str
    enabled: bool
    success_response: bool


class GuestAgentInfo(Struct):
    """Struct `GuestAgentInfo`, since 0.15."""

    version: str
    supported_commands: list[GuestAgentCommandInfo] = wire("supported_commands")


class GuestAuthorizedKeys(Struct):
    """Struct `GuestAuthorizedKeys`, since 5.2."""

    keys: list[str]


class GuestCCWAddress(Struct):
    """Struct `GuestCCWAddress`, since 6.0. Needs CONFIG_WIN32 || CONFIG_LINUX."""

    cssid: int
    ssid: int
    subchno: int
    devno: int


class GuestCpuStats(Union, tag="type", branches={"linux": "GuestLinuxCpuStats"}):
    """Union `GuestCpuStats`, since 7.1. Needs CONFIG_LINUX."""

    type: GuestCpuStatsType


class GuestLinuxCpuStats(GuestCpuStats):
    """Struct `GuestLinuxCpuStats`, since 7.1. Needs CONFIG_LINUX. Branch of `GuestCpuStats` where `type` is `linux`."""

    type: Literal["linux"] = "linux"
    cpu: int
    user: int
    nice: int
    system: int
    idle: int
    iowait: int | None = None
    irq: int | None = None
    softirq: int | None = None
    steal: int | None = None
    guest: int | None = None
    guestnice: int | None = None


class GuestDeviceId(Union, tag="type", branches={"pci": "GuestDeviceIdPCI"}):
    """Union `GuestDeviceId`, since 5.2. Needs CONFIG_WIN32."""

    type: GuestDeviceType


class GuestDeviceIdPCI(GuestDeviceId):
    """Struct `GuestDeviceIdPCI`, since 5.2. Needs CONFIG_WIN32. Branch of `GuestDeviceId` where `type` is `pci`."""

    type: Literal["pci"] = "pci"
    vendor_id: int
    device_id: int


class GuestDeviceInfo(Struct):
    """Struct `GuestDeviceInfo`, since 5.2. Needs CONFIG_WIN32."""

    driver_name: str
    driver_date: int | None = None
    driver_version: str | None = None
    id: GuestDeviceId | None = None


class GuestDiskAddress(Struct):
    """Struct `GuestDiskAddress`, since 2.2. Needs CONFIG_WIN32 || CONFIG_LINUX."""

    pci_controller: GuestPCIAddress
    bus_type: GuestDiskBusType
    bus: int
    target: int
    unit: int
    serial: str | None = None
    dev: str | None = None
    ccw_address: GuestCCWAddress | None = None


class GuestDiskInfo(Struct):
    """Struct `GuestDiskInfo`, since 5.2. Needs CONFIG_WIN32 || CONFIG_LIBUDEV."""

    name: str
    partition: bool
    dependencies: list[str] | None = None
    address: GuestDiskAddress | None = None
    alias: str | None = None
    smart: GuestDiskSmart | None = None


class GuestDiskSmart(Union, tag="type", branches={"nvme": "GuestNVMeSmart"}):
    """Union `GuestDiskSmart`, since 7.1. Needs CONFIG_WIN32 || CONFIG_LIBUDEV."""

    type: GuestDiskBusType


class GuestNVMeSmart(GuestDiskSmart):
    """Struct `GuestNVMeSmart`, since 7.1. Needs CONFIG_WIN32 || CONFIG_LIBUDEV. Branch of `GuestDiskSmart` where
    `type` is `nvme`.
    """

    type: Literal["nvme"] = "nvme"
    critical_warning: int
    temperature: int
    available_spare: int
    available_spare_threshold: int
    percentage_used: int
    data_units_read_lo: int
    data_units_read_hi: int
    data_units_written_lo: int
    data_units_written_hi: int
    host_read_commands_lo: int
    host_read_commands_hi: int
    host_write_commands_lo: int
    host_write_commands_hi: int
    controller_busy_time_lo: int
    controller_busy_time_hi: int
    power_cycles_lo: int
    power_cycles_hi: int
    power_on_hours_lo: int
    power_on_hours_hi: int
    unsafe_shutdowns_lo: int
    unsafe_shutdowns_hi: int
    media_errors_lo: int
    media_errors_hi: int
    number_of_error_log_entries_lo: int
    number_of_error_log_entries_hi: int


class GuestDiskStats(Struct):
    """Struct `GuestDiskStats`, since 7.1. Needs CONFIG_LINUX."""

    read_sectors: int | None = None
    read_ios: int | None = None
    read_merges: int | None = None
    write_sectors: int | None = None
    write_ios: int | None = None
    write_merges: int | None = None
    discard_sectors: int | None = None
    discard_ios: int | None = None
    discard_merges: int | None = None
    flush_ios: int | None = None
    read_ticks: int | None = None
    write_ticks: int | None = None
    discard_ticks: int | None = None
    flush_ticks: int | None = None
    ios_pgr: int | None = None
    total_ticks: int | None = None
    weight_ticks: int | None = None


class GuestDiskStatsInfo(Struct):
    """Struct `GuestDiskStatsInfo`. Needs CONFIG_LINUX."""

    name: str
    major: int
    minor: int
    stats: GuestDiskStats


class GuestExecReply(Struct):
    """Struct `GuestExec`, since 2.5."""

    pid: int


class GuestExecStatusReply(Struct):
    """Struct `GuestExecStatus`, since 2.5."""

    exited: bool
    exitcode: int | None = None
    signal: int | None = None
    out_data: str | None = None
    err_data: str | None = None
    out_truncated: bool | None = None
    err_truncated: bool | None = None


class GuestFileReadReply(Struct):
    """Struct `GuestFileRead`, since 0.15."""

    count: int
    buf_b64: str
    eof: bool


class GuestFileSeekReply(Struct):
    """Struct `GuestFileSeek`, since 0.15."""

    position: int
    eof: bool


class GuestFileWriteReply(Struct):
    """Struct `GuestFileWrite`, since 0.15."""

    count: int
    eof: bool


class GuestFilesystemInfo(Struct):
    """Struct `GuestFilesystemInfo`, since 2.2. Needs CONFIG_WIN32 || CONFIG_LINUX."""

    name: str
    mountpoint: str
    type: str
    used_bytes: int | None = None
    total_bytes: int | None = None
    total_bytes_privileged: int | None = None  # since 9.1
    disk: list[GuestDiskAddress]


class GuestFilesystemTrimResponse(Struct):
    """Struct `GuestFilesystemTrimResponse`, since 2.4. Needs CONFIG_WIN32 || CONFIG_FSTRIM."""

    paths: list[GuestFilesystemTrimResult]


class GuestFilesystemTrimResult(Struct):
    """Struct `GuestFilesystemTrimResult`, since 2.4. Needs CONFIG_WIN32 || CONFIG_FSTRIM."""

    path: str
    error: str | None = None
    trimmed: int | None = None
    minimum: int | None = None


class GuestHostName(Struct):
    """Struct `GuestHostName`, since 2.10."""

    host_name: str


class GuestIpAddress(Struct):
    """Struct `GuestIpAddress`, since 1.1. Needs CONFIG_WIN32 || HAVE_GETIFADDRS."""

    ip_address: str
    ip_address_type: GuestIpAddressType
    prefix: int


class GuestLoadAverage(Struct):
    """Struct `GuestLoadAverage`, since 10.0. Needs CONFIG_WIN32 || CONFIG_GETLOADAVG."""

    load1m: float
    load5m: float
    load15m: float


class GuestLogicalProcessor(Struct):
    """Struct `GuestLogicalProcessor`, since 1.5. Needs CONFIG_LINUX || CONFIG_WIN32."""

    logical_id: int
    online: bool
    can_offline: bool | None = None


class GuestMemoryBlock(Struct):
    """Struct `GuestMemoryBlock`, since 2.3. Needs CONFIG_LINUX."""

    phys_index: int
    online: bool
    can_offline: bool | None = None


class GuestMemoryBlockInfo(Struct):
    """Struct `GuestMemoryBlockInfo`, since 2.3. Needs CONFIG_LINUX."""

    size: int


class GuestMemoryBlockResponse(Struct):
    """Struct `GuestMemoryBlockResponse`, since 2.3. Needs CONFIG_LINUX."""

    phys_index: int
    response: GuestMemoryBlockResponseType
    error_code: int | None = None


class GuestNetworkInterface(Struct):
    """Struct `GuestNetworkInterface`, since 1.1. Needs CONFIG_WIN32 || HAVE_GETIFADDRS."""

    name: str
    hardware_address: str | None = None
    ip_addresses: list[GuestIpAddress] | None = None
    statistics: GuestNetworkInterfaceStat | None = None


class GuestNetworkInterfaceStat(Struct):
    """Struct `GuestNetworkInterfaceStat`, since 2.11. Needs CONFIG_WIN32 || HAVE_GETIFADDRS."""

    rx_bytes: int
    rx_packets: int
    rx_errs: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errs: int
    tx_dropped: int


class GuestNetworkRoute(Struct):
    """Struct `GuestNetworkRoute`, since 9.1. Needs CONFIG_LINUX."""

    iface: str
    destination: str
    metric: int
    gateway: str | None = None
    mask: str | None = None
    irtt: int | None = None
    flags: int | None = None
    refcnt: int | None = None
    use: int | None = None
    window: int | None = None
    mtu: int | None = None
    desprefixlen: str | None = None
    source: str | None = None
    srcprefixlen: str | None = None
    nexthop: str | None = None
    version: int


class GuestOSInfo(Struct):
    """Struct `GuestOSInfo`, since 2.10."""

    kernel_release: str | None = None
    kernel_version: str | None = None
    machine: str | None = None
    id: str | None = None
    name: str | None = None
    pretty_name: str | None = None
    version: str | None = None
    version_id: str | None = None
    variant: str | None = None
    variant_id: str | None = None


class GuestPCIAddress(Struct):
    """Struct `GuestPCIAddress`, since 2.2. Needs CONFIG_WIN32 || CONFIG_LINUX."""

    domain: int
    bus: int
    slot: int
    function: int


class GuestTimezone(Struct):
    """Struct `GuestTimezone`, since 2.10."""

    zone: str | None = None
    offset: int


class GuestUser(Struct):
    """Struct `GuestUser`, since 2.10. Needs CONFIG_WIN32 || HAVE_UTMPX."""

    user: str
    domain: str | None = None
    login_time: float


class GuestExec(Command["GuestExecReply"], wire_name="guest-exec"):
    """Command `guest-exec`, since 2.5. Returns `GuestExecReply`."""

    path: str
    arg: list[str] | None = None
    env: list[str] | None = None
    input_data: str | None = None
    capture_output: GuestExecCaptureOutput | None = None


class GuestExecStatus(Command["GuestExecStatusReply"], wire_name="guest-exec-status"):
    """Command `guest-exec-status`, since 2.5. Returns `GuestExecStatusReply`."""

    pid: int


class GuestFileClose(Command[None], wire_name="guest-file-close"):
    """Command `guest-file-close`, since 0.15."""

    handle: int


class GuestFileFlush(Command[None], wire_name="guest-file-flush"):
    """Command `guest-file-flush`, since 0.15."""

    handle: int


class GuestFileOpen(Command[int], wire_name="guest-file-open"):
    """Command `guest-file-open`, since 0.15. Returns `int`."""

    path: str
    mode: str | None = None


class GuestFileRead(Command["GuestFileReadReply"], wire_name="guest-file-read"):
    """Command `guest-file-read`, since 0.15. Returns `GuestFileReadReply`."""

    handle: int
    count: int | None = None


class GuestFileSeek(Command["GuestFileSeekReply"], wire_name="guest-file-seek"):
    """Command `guest-file-seek`, since 0.15. Returns `GuestFileSeekReply`."""

    handle: int
    offset: int
    whence: GuestFileWhence


class GuestFileWrite(Command["GuestFileWriteReply"], wire_name="guest-file-write"):
    """Command `guest-file-write`, since 0.15. Returns `GuestFileWriteReply`."""

    handle: int
    buf_b64: str
    count: int | None = None


class GuestFsfreezeFreeze(Command[int], wire_name="guest-fsfreeze-freeze"):
    """Command `guest-fsfreeze-freeze`, since 0.15. Needs CONFIG_WIN32 || CONFIG_FSFREEZE. Returns `int`."""


class GuestFsfreezeFreezeList(Command[int], wire_name="guest-fsfreeze-freeze-list"):
    """Command `guest-fsfreeze-freeze-list`, since 2.2. Needs CONFIG_WIN32 || CONFIG_FSFREEZE. Returns `int`."""

    mountpoints: list[str] | None = None


class GuestFsfreezeStatus(Command["GuestFsfreezeStatusReply"], wire_name="guest-fsfreeze-status"):
    """Command `guest-fsfreeze-status`, since 0.15. Needs CONFIG_WIN32 || CONFIG_FSFREEZE. Returns
    `GuestFsfreezeStatusReply`.
    """


class GuestFsfreezeThaw(Command[int], wire_name="guest-fsfreeze-thaw"):
    """Command `guest-fsfreeze-thaw`, since 0.15. Needs CONFIG_WIN32 || CONFIG_FSFREEZE. Returns `int`."""


class GuestFstrim(Command["GuestFilesystemTrimResponse"], wire_name="guest-fstrim"):
    """Command `guest-fstrim`, since 1.2. Needs CONFIG_WIN32 || CONFIG_FSTRIM. Returns `GuestFilesystemTrimResponse`."""

    minimum: int | None = None


class GuestGetCpustats(Command["list[GuestCpuStats]"], wire_name="guest-get-cpustats"):
    """Command `guest-get-cpustats`, since 7.1. Needs CONFIG_LINUX. Returns a list of `GuestCpuStats`."""


class GuestGetDevices(Command["list[GuestDeviceInfo]"], wire_name="guest-get-devices"):
    """Command `guest-get-devices`, since 5.2. Needs CONFIG_WIN32. Returns a list of `GuestDeviceInfo`."""


class GuestGetDisks(Command["list[GuestDiskInfo]"], wire_name="guest-get-disks"):
    """Command `guest-get-disks`, since 5.2. Needs CONFIG_WIN32 || CONFIG_LIBUDEV. Returns a list of `GuestDiskInfo`."""


class GuestGetDiskstats(Command["list[GuestDiskStatsInfo]"], wire_name="guest-get-diskstats"):
    """Command `guest-get-diskstats`, since 7.1. Needs CONFIG_LINUX. Returns a list of `GuestDiskStatsInfo`."""


class GuestGetFsinfo(Command["list[GuestFilesystemInfo]"], wire_name="guest-get-fsinfo"):
    """Command `guest-get-fsinfo`, since 2.2. Needs CONFIG_WIN32 || CONFIG_LINUX. Returns a list of
    `GuestFilesystemInfo`.
    """


class GuestGetHostName(Command["GuestHostName"], wire_name="guest-get-host-name"):
    """Command `guest-get-host-name`, since 2.10. Returns `GuestHostName`."""


class GuestGetLoad(Command["GuestLoadAverage"], wire_name="guest-get-load"):
    """Command `guest-get-load`, since 10.0. Needs CONFIG_WIN32 || CONFIG_GETLOADAVG. Returns `GuestLoadAverage`."""


class GuestGetMemoryBlockInfo(Command["GuestMemoryBlockInfo"], wire_name="guest-get-memory-block-info"):
    """Command `guest-get-memory-block-info`, since 2.3. Needs CONFIG_LINUX. Returns `GuestMemoryBlockInfo`."""


class GuestGetMemoryBlocks(Command["list[GuestMemoryBlock]"], wire_name="guest-get-memory-blocks"):
    """Command `guest-get-memory-blocks`, since 2.3. Needs CONFIG_LINUX. Returns a list of `GuestMemoryBlock`."""


class GuestGetOsinfo(Command["GuestOSInfo"], wire_name="guest-get-osinfo"):
    """Command `guest-get-osinfo`, since 2.10. Returns `GuestOSInfo`."""


class GuestGetTime(Command[int], wire_name="guest-get-time"):
    """Command `guest-get-time`, since 1.5. Returns `int`."""


class GuestGetTimezone(Command["GuestTimezone"], wire_name="guest-get-timezone"):
    """Command `guest-get-timezone`, since 2.10. Returns `GuestTimezone`."""


class GuestGetUsers(Command["list[GuestUser]"], wire_name="guest-get-users"):
    """Command `guest-get-users`, since 2.10. Needs CONFIG_WIN32 || HAVE_UTMPX. Returns a list of `GuestUser`."""


class GuestGetVcpus(Command["list[GuestLogicalProcessor]"], wire_name="guest-get-vcpus"):
    """Command `guest-get-vcpus`, since 1.5. Needs CONFIG_LINUX || CONFIG_WIN32. Returns a list of
    `GuestLogicalProcessor`.
    """


class GuestInfo(Command["GuestAgentInfo"], wire_name="guest-info"):
    """Command `guest-info`, since 0.15. Returns `GuestAgentInfo`."""


class GuestNetworkGetInterfaces(Command["list[GuestNetworkInterface]"], wire_name="guest-network-get-interfaces"):
    """Command `guest-network-get-interfaces`, since 1.1. Needs CONFIG_WIN32 || HAVE_GETIFADDRS. Returns a list of
    `GuestNetworkInterface`.
    """


class GuestNetworkGetRoute(Command["list[GuestNetworkRoute]"], wire_name="guest-network-get-route"):
    """Command `guest-network-get-route`, since 9.1. Needs CONFIG_LINUX. Returns a list of `GuestNetworkRoute`."""


class GuestPing(Command[None], wire_name="guest-ping"):
    """Command `guest-ping`, since 0.15."""


class GuestSetMemoryBlocks(Command["list[GuestMemoryBlockResponse]"], wire_name="guest-set-memory-blocks"):
    """Command `guest-set-memory-blocks`, since 2.3. Needs CONFIG_LINUX. Returns a list of
    `GuestMemoryBlockResponse`.
    """

    mem_blks: list[GuestMemoryBlock]


class GuestSetTime(Command[None], wire_name="guest-set-time"):
    """Command `guest-set-time`, since 1.5."""

    time: int | None = None


class GuestSetUserPassword(Command[None], wire_name="guest-set-user-password"):
    """Command `guest-set-user-password`, since 2.3. Needs CONFIG_WIN32 || CONFIG_LINUX || CONFIG_FREEBSD."""

    username: str
    password: str
    crypted: bool


class GuestSetVcpus(Command[int], wire_name="guest-set-vcpus"):
    """Command `guest-set-vcpus`, since 1.5. Needs CONFIG_LINUX. Returns `int`."""

    vcpus: list[GuestLogicalProcessor]


class GuestShutdown(Command[None], wire_name="guest-shutdown", has_reply=False):
    """Command `guest-shutdown`, since 0.15."""

    mode: str | None = None


class GuestSshAddAuthorizedKeys(Command[None], wire_name="guest-ssh-add-authorized-keys"):
    """Command `guest-ssh-add-authorized-keys`, since 5.2."""

    username: str
    keys: list[str]
    reset: bool | None = None


class GuestSshGetAuthorizedKeys(Command["GuestAuthorizedKeys"], wire_name="guest-ssh-get-authorized-keys"):
    """Command `guest-ssh-get-authorized-keys`, since 5.2. Returns `GuestAuthorizedKeys`."""

    username: str


class GuestSshRemoveAuthorizedKeys(Command[None], wire_name="guest-ssh-remove-authorized-keys"):
    """Command `guest-ssh-remove-authorized-keys`, since 5.2."""

    username: str
    keys: list[str]


class GuestSuspendDisk(Command[None], wire_name="guest-suspend-disk", has_reply=False):
    """Command `guest-suspend-disk`, since 1.1. Needs CONFIG_LINUX || CONFIG_WIN32."""


class GuestSuspendHybrid(Command[None], wire_name="guest-suspend-hybrid", has_reply=False):
    """Command `guest-suspend-hybrid`, since 1.1. Needs CONFIG_LINUX."""


class GuestSuspendRam(Command[None], wire_name="guest-suspend-ram", has_reply=False):
    """Command `guest-suspend-ram`, since 1.1. Needs CONFIG_LINUX || CONFIG_WIN32."""


class GuestSync(Command[int], wire_name="guest-sync"):
    """Command `guest-sync`, since 0.15. Returns `int`."""

    id: int


class GuestSyncDelimited(Command[int], wire_name="guest-sync-delimited"):
    """Command `guest-sync-delimited`, since 1.1. Returns `int`."""

    id: int
