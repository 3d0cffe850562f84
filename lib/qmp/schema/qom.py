# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `qom`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from hvkit.qmp.base import Command, Struct, Union, wire

if TYPE_CHECKING:
    from hvkit.qmp.schema.common import GrabToggleKeys, HostMemPolicy, NetFilterDirection, OnOffAuto
    from hvkit.qmp.schema.sockets import SocketAddress

#: Enumeration `MonitorQMPCloseAction`, since 11.1.
MonitorQMPCloseAction = Literal["none", "delete"]

#: Enumeration `NetfilterInsert`, since 5.0.
NetfilterInsert = Literal["before", "behind"]

#: Enumeration `ObjectType`, since 6.0.
ObjectType = Literal[
    "acpi-generic-initiator",  # 10.0 and later
    "acpi-generic-port",  # 10.0 and later
    "authz-list",
    "authz-listfile",
    "authz-pam",
    "authz-simple",
    "can-bus",
    "can-host-socketcan",
    "colo-compare",
    "cryptodev-backend",
    "cryptodev-backend-builtin",
    "cryptodev-backend-lkcf",
    "cryptodev-vhost-user",
    "dbus-vmstate",
    "filter-buffer",
    "filter-dump",
    "filter-mirror",
    "filter-redirector",
    "filter-replay",
    "filter-rewriter",
    "igvm-cfg",  # 11.1 and later
    "input-barrier",
    "input-linux",
    "iommufd",  # 10.0 and later
    "iothread",
    "main-loop",
    "memory-backend-epc",
    "memory-backend-file",
    "memory-backend-memfd",
    "memory-backend-ram",
    "memory-backend-shm",  # 10.0 and later
    "monitor-hmp",  # 11.1 and later
    "monitor-qmp",  # 11.1 and later
    "pef-guest",
    "pr-manager-helper",
    "qtest",
    "rng-builtin",
    "rng-egd",
    "rng-random",
    "secret",
    "secret_keyring",
    "sev-guest",
    "sev-snp-guest",  # 10.0 and later
    "thread-context",
    "s390-pv-guest",
    "tdx-guest",  # 11.1 and later
    "throttle-group",
    "tls-creds-anon",
    "tls-creds-psk",
    "tls-creds-x509",
    "tls-cipher-suites",
    "x-remote-object",  # unstable
    "x-vfio-user-server",  # unstable
]


class ObjectOptions(
    Union,
    tag="qom-type",
    branches={
        "acpi-generic-initiator": "AcpiGenericInitiatorProperties",
        "acpi-generic-port": "AcpiGenericPortProperties",
        "authz-list": "AuthZListProperties",
        "authz-listfile": "AuthZListFileProperties",
        "authz-pam": "AuthZPAMProperties",
        "authz-simple": "AuthZSimpleProperties",
        "can-host-socketcan": "CanHostSocketcanProperties",
        "colo-compare": "ColoCompareProperties",
        "cryptodev-backend": "CryptodevBackendProperties",
        "cryptodev-backend-builtin": "CryptodevBackendProperties",
        "cryptodev-backend-lkcf": "CryptodevBackendProperties",
        "cryptodev-vhost-user": "CryptodevVhostUserProperties",
        "dbus-vmstate": "DBusVMStateProperties",
        "filter-buffer": "FilterBufferProperties",
        "filter-dump": "FilterDumpProperties",
        "filter-mirror": "FilterMirrorProperties",
        "filter-redirector": "FilterRedirectorProperties",
        "filter-replay": "NetfilterProperties",
        "filter-rewriter": "FilterRewriterProperties",
        "igvm-cfg": "IgvmCfgProperties",
        "input-barrier": "InputBarrierProperties",
        "input-linux": "InputLinuxProperties",
        "iommufd": "IOMMUFDProperties",
        "iothread": "IothreadProperties",
        "main-loop": "MainLoopProperties",
        "memory-backend-epc": "MemoryBackendEpcProperties",
        "memory-backend-file": "MemoryBackendFileProperties",
        "memory-backend-memfd": "MemoryBackendMemfdProperties",
        "memory-backend-ram": "MemoryBackendProperties",
        "memory-backend-shm": "MemoryBackendShmProperties",
        "monitor-hmp": "MonitorHMPProperties",
        "monitor-qmp": "MonitorQMPProperties",
        "pr-manager-helper": "PrManagerHelperProperties",
        "qtest": "QtestProperties",
        "rng-builtin": "RngProperties",
        "rng-egd": "RngEgdProperties",
        "rng-random": "RngRandomProperties",
        "secret": "SecretProperties",
        "secret_keyring": "SecretKeyringProperties",
        "sev-guest": "SevGuestProperties",
        "sev-snp-guest": "SevSnpGuestProperties",
        "tdx-guest": "TdxGuestProperties",
        "thread-context": "ThreadContextProperties",
        "throttle-group": "ThrottleGroupProperties",
        "tls-creds-anon": "TlsCredsAnonProperties",
        "tls-creds-psk": "TlsCredsPskProperties",
        "tls-creds-x509": "TlsCredsX509Properties",
        "tls-cipher-suites": "TlsCredsProperties",
        "x-remote-object": "RemoteObjectProperties",
        "x-vfio-user-server": "VfioUserServerProperties",
    },
):
    """Union `ObjectOptions`, since 6.0."""

    qom_type: ObjectType
    id: str


class AcpiGenericPortProperties(ObjectOptions):
    """Struct `AcpiGenericPortProperties`, since 9.2. Branch of `ObjectOptions` where `qom-type` is
    `acpi-generic-port`.
    """

    qom_type: Literal["acpi-generic-port"] = "acpi-generic-port"
    pci_bus: str
    node: int


class CanHostSocketcanProperties(ObjectOptions):
    """Struct `CanHostSocketcanProperties`, since 2.12. Needs CONFIG_LINUX. Branch of `ObjectOptions` where
    `qom-type` is `can-host-socketcan`.
    """

    qom_type: Literal["can-host-socketcan"] = "can-host-socketcan"
    if_: str
    canbus: str


class ColoCompareProperties(ObjectOptions):
    """Struct `ColoCompareProperties`, since 2.8. Branch of `ObjectOptions` where `qom-type` is `colo-compare`."""

    qom_type: Literal["colo-compare"] = "colo-compare"
    primary_in: str = wire("primary_in")
    secondary_in: str = wire("secondary_in")
    outdev: str
    iothread: str
    notify_dev: str | None = wire("notify_dev", default=None)
    compare_timeout: int | None = wire("compare_timeout", default=None)
    expired_scan_cycle: int | None = wire("expired_scan_cycle", default=None)
    max_queue_size: int | None = wire("max_queue_size", default=None)
    vnet_hdr_support: bool | None = wire("vnet_hdr_support", default=None)


class CryptodevBackendProperties(ObjectOptions):
    """Struct `CryptodevBackendProperties`, since 2.8. Branch of `ObjectOptions` where `qom-type` is
    `cryptodev-backend` or `cryptodev-backend-builtin` or `cryptodev-backend-lkcf`.
    """

    queues: int | None = None
    throttle_bps: int | None = None  # since 8.0
    throttle_ops: int | None = None  # since 8.0


class CryptodevVhostUserProperties(CryptodevBackendProperties):
    """Struct `CryptodevVhostUserProperties`, since 2.12. Needs CONFIG_VHOST_CRYPTO. Branch of `ObjectOptions` where
    `qom-type` is `cryptodev-vhost-user`.
    """

    qom_type: Literal["cryptodev-vhost-user"] = "cryptodev-vhost-user"
    chardev: str


class DBusVMStateProperties(ObjectOptions):
    """Struct `DBusVMStateProperties`, since 5.0. Branch of `ObjectOptions` where `qom-type` is `dbus-vmstate`."""

    qom_type: Literal["dbus-vmstate"] = "dbus-vmstate"
    addr: str
    id_list: str | None = None


class NetfilterProperties(ObjectOptions):
    """Struct `NetfilterProperties`, since 2.5. Branch of `ObjectOptions` where `qom-type` is `filter-replay`."""

    netdev: str
    queue: NetFilterDirection | None = None
    status: str | None = None
    position: str | None = None
    insert: NetfilterInsert | None = None


class FilterBufferProperties(NetfilterProperties):
    """Struct `FilterBufferProperties`, since 2.5. Branch of `ObjectOptions` where `qom-type` is `filter-buffer`."""

    qom_type: Literal["filter-buffer"] = "filter-buffer"
    interval: int


class FilterDumpProperties(NetfilterProperties):
    """Struct `FilterDumpProperties`, since 2.5. Branch of `ObjectOptions` where `qom-type` is `filter-dump`."""

    qom_type: Literal["filter-dump"] = "filter-dump"
    file: str
    maxlen: int | None = None


class FilterMirrorProperties(NetfilterProperties):
    """Struct `FilterMirrorProperties`, since 2.6. Branch of `ObjectOptions` where `qom-type` is `filter-mirror`."""

    qom_type: Literal["filter-mirror"] = "filter-mirror"
    outdev: str
    vnet_hdr_support: bool | None = wire("vnet_hdr_support", default=None)


class FilterRedirectorProperties(NetfilterProperties):
    """Struct `FilterRedirectorProperties`, since 2.6. Branch of `ObjectOptions` where `qom-type` is
    `filter-redirector`.
    """

    qom_type: Literal["filter-redirector"] = "filter-redirector"
    indev: str | None = None
    outdev: str | None = None
    vnet_hdr_support: bool | None = wire("vnet_hdr_support", default=None)


class FilterRewriterProperties(NetfilterProperties):
    """Struct `FilterRewriterProperties`, since 2.8. Branch of `ObjectOptions` where `qom-type` is `filter-rewriter`."""

    qom_type: Literal["filter-rewriter"] = "filter-rewriter"
    vnet_hdr_support: bool | None = wire("vnet_hdr_support", default=None)


class IgvmCfgProperties(ObjectOptions):
    """Struct `IgvmCfgProperties`, since 10.1. Needs CONFIG_IGVM. Branch of `ObjectOptions` where `qom-type` is
    `igvm-cfg`.
    """

    qom_type: Literal["igvm-cfg"] = "igvm-cfg"
    file: str


class InputBarrierProperties(ObjectOptions):
    """Struct `InputBarrierProperties`, since 4.2. Branch of `ObjectOptions` where `qom-type` is `input-barrier`."""

    qom_type: Literal["input-barrier"] = "input-barrier"
    name: str
    server: str | None = None
    port: str | None = None
    x_origin: str | None = None
    y_origin: str | None = None
    width: str | None = None
    height: str | None = None


class InputLinuxProperties(ObjectOptions):
    """Struct `InputLinuxProperties`, since 2.6. Needs CONFIG_LINUX. Branch of `ObjectOptions` where `qom-type` is
    `input-linux`.
    """

    qom_type: Literal["input-linux"] = "input-linux"
    evdev: str
    grab_all: bool | None = wire("grab_all", default=None)
    repeat: bool | None = None
    grab_toggle: GrabToggleKeys | None = None


class IOMMUFDProperties(ObjectOptions):
    """Struct `IOMMUFDProperties`, since 9.0. Branch of `ObjectOptions` where `qom-type` is `iommufd`."""

    qom_type: Literal["iommufd"] = "iommufd"
    fd: str | None = None


class EventLoopBaseProperties(ObjectOptions):
    """Struct `EventLoopBaseProperties`, since 7.1. A base of branches of `ObjectOptions`."""

    aio_max_batch: int | None = None
    thread_pool_min: int | None = None
    thread_pool_max: int | None = None


class IothreadProperties(EventLoopBaseProperties):
    """Struct `IothreadProperties`, since 2.0. Branch of `ObjectOptions` where `qom-type` is `iothread`."""

    qom_type: Literal["iothread"] = "iothread"
    poll_max_ns: int | None = None
    poll_grow: int | None = None
    poll_shrink: int | None = None
    poll_weight: int | None = None  # since 11.1


class MainLoopProperties(EventLoopBaseProperties):
    """Struct `MainLoopProperties`, since 7.1. Branch of `ObjectOptions` where `qom-type` is `main-loop`."""

    qom_type: Literal["main-loop"] = "main-loop"


class MemoryBackendProperties(ObjectOptions):
    """Struct `MemoryBackendProperties`, since 2.1. Branch of `ObjectOptions` where `qom-type` is
    `memory-backend-ram`.
    """

    merge: bool | None = None
    dump: bool | None = None
    host_nodes: list[int] | None = None
    policy: HostMemPolicy | None = None
    prealloc: bool | None = None
    prealloc_threads: int | None = None
    prealloc_context: str | None = None
    share: bool | None = None
    reserve: bool | None = None
    size: int
    x_use_canonical_path_for_ramblock_id: bool | None = None


class MemoryBackendEpcProperties(MemoryBackendProperties):
    """Struct `MemoryBackendEpcProperties`, since 6.2. Needs CONFIG_LINUX. Branch of `ObjectOptions` where `qom-type`
    is `memory-backend-epc`.
    """

    qom_type: Literal["memory-backend-epc"] = "memory-backend-epc"


class MemoryBackendFileProperties(MemoryBackendProperties):
    """Struct `MemoryBackendFileProperties`, since 2.1. Branch of `ObjectOptions` where `qom-type` is
    `memory-backend-file`.
    """

    qom_type: Literal["memory-backend-file"] = "memory-backend-file"
    align: int | None = None
    offset: int | None = None  # since 8.1
    discard_data: bool | None = None
    mem_path: str
    pmem: bool | None = None
    readonly: bool | None = None
    rom: OnOffAuto | None = None  # since 8.2


class MemoryBackendMemfdProperties(MemoryBackendProperties):
    """Struct `MemoryBackendMemfdProperties`, since 2.12. Needs CONFIG_LINUX. Branch of `ObjectOptions` where
    `qom-type` is `memory-backend-memfd`.
    """

    qom_type: Literal["memory-backend-memfd"] = "memory-backend-memfd"
    hugetlb: bool | None = None
    hugetlbsize: int | None = None
    seal: bool | None = None


class MemoryBackendShmProperties(MemoryBackendProperties):
    """Struct `MemoryBackendShmProperties`, since 9.1. Needs CONFIG_POSIX. Branch of `ObjectOptions` where `qom-type`
    is `memory-backend-shm`.
    """

    qom_type: Literal["memory-backend-shm"] = "memory-backend-shm"


class MonitorProperties(ObjectOptions):
    """Struct `MonitorProperties`, since 11.1. A base of branches of `ObjectOptions`."""

    chardev: str


class MonitorHMPProperties(MonitorProperties):
    """Struct `MonitorHMPProperties`, since 11.1. Branch of `ObjectOptions` where `qom-type` is `monitor-hmp`."""

    qom_type: Literal["monitor-hmp"] = "monitor-hmp"
    readline: bool | None = None


class MonitorQMPProperties(MonitorProperties):
    """Struct `MonitorQMPProperties`, since 11.1. Branch of `ObjectOptions` where `qom-type` is `monitor-qmp`."""

    qom_type: Literal["monitor-qmp"] = "monitor-qmp"
    pretty: bool | None = None
    close_action: MonitorQMPCloseAction | None = None


class PrManagerHelperProperties(ObjectOptions):
    """Struct `PrManagerHelperProperties`, since 2.11. Needs CONFIG_LINUX. Branch of `ObjectOptions` where `qom-type`
    is `pr-manager-helper`.
    """

    qom_type: Literal["pr-manager-helper"] = "pr-manager-helper"
    path: str


class QtestProperties(ObjectOptions):
    """Struct `QtestProperties`, since 6.0. Branch of `ObjectOptions` where `qom-type` is `qtest`."""

    qom_type: Literal["qtest"] = "qtest"
    chardev: str
    log: str | None = None


class RngProperties(ObjectOptions):
    """Struct `RngProperties`, since 1.3. Branch of `ObjectOptions` where `qom-type` is `rng-builtin`."""

    opened: bool | None = None  # deprecated


class RngEgdProperties(RngProperties):
    """Struct `RngEgdProperties`, since 1.3. Branch of `ObjectOptions` where `qom-type` is `rng-egd`."""

    qom_type: Literal["rng-egd"] = "rng-egd"
    chardev: str


class RngRandomProperties(RngProperties):
    """Struct `RngRandomProperties`, since 1.3. Needs CONFIG_POSIX. Branch of `ObjectOptions` where `qom-type` is
    `rng-random`.
    """

    qom_type: Literal["rng-random"] = "rng-random"
    filename: str | None = None


class SevCommonProperties(ObjectOptions):
    """Struct `SevCommonProperties`, since 9.1. A base of branches of `ObjectOptions`."""

    sev_device: str | None = None
    cbitpos: int | None = None
    reduced_phys_bits: int
    kernel_hashes: bool | None = None


class SevGuestProperties(SevCommonProperties):
    """Struct `SevGuestProperties`, since 2.12. Branch of `ObjectOptions` where `qom-type` is `sev-guest`."""

    qom_type: Literal["sev-guest"] = "sev-guest"
    dh_cert_file: str | None = None
    session_file: str | None = None
    policy: int | None = None
    handle: int | None = None
    legacy_vm_type: OnOffAuto | None = None  # since 9.1


class SevSnpGuestProperties(SevCommonProperties):
    """Struct `SevSnpGuestProperties`, since 9.1. Branch of `ObjectOptions` where `qom-type` is `sev-snp-guest`."""

    qom_type: Literal["sev-snp-guest"] = "sev-snp-guest"
    policy: int | None = None
    guest_visible_workarounds: str | None = None
    id_block: str | None = None
    id_auth: str | None = None
    author_key_enabled: bool | None = None
    host_data: str | None = None
    vcek_disabled: bool | None = None


class TdxGuestProperties(ObjectOptions):
    """Struct `TdxGuestProperties`, since 10.1. Branch of `ObjectOptions` where `qom-type` is `tdx-guest`."""

    qom_type: Literal["tdx-guest"] = "tdx-guest"
    attributes: int | None = None
    sept_ve_disable: bool | None = None
    mrconfigid: str | None = None
    mrowner: str | None = None
    mrownerconfig: str | None = None
    quote_generation_socket: SocketAddress | None = None


class ThreadContextProperties(ObjectOptions):
    """Struct `ThreadContextProperties`, since 7.2. Branch of `ObjectOptions` where `qom-type` is `thread-context`."""

    qom_type: Literal["thread-context"] = "thread-context"
    cpu_affinity: list[int] | None = None
    node_affinity: list[int] | None = None


class RemoteObjectProperties(ObjectOptions):
    """Struct `RemoteObjectProperties`, since 6.0. Branch of `ObjectOptions` where `qom-type` is `x-remote-object`."""

    qom_type: Literal["x-remote-object"] = "x-remote-object"
    fd: str
    devid: str


class VfioUserServerProperties(ObjectOptions):
    """Struct `VfioUserServerProperties`, since 7.1. Branch of `ObjectOptions` where `qom-type` is
    `x-vfio-user-server`.
    """

    qom_type: Literal["x-vfio-user-server"] = "x-vfio-user-server"
    socket: SocketAddress
    device: str


class AcpiGenericInitiatorProperties(ObjectOptions):
    """Struct `AcpiGenericInitiatorProperties`, since 9.0. Branch of `ObjectOptions` where `qom-type` is
    `acpi-generic-initiator`.
    """

    qom_type: Literal["acpi-generic-initiator"] = "acpi-generic-initiator"
    pci_dev: str
    node: int


class ObjectPropertiesValues(Struct):
    """Struct `ObjectPropertiesValues`, since 10.1."""

    properties: list[ObjectPropertyValue]


class ObjectPropertyInfo(Struct):
    """Struct `ObjectPropertyInfo`, since 1.2."""

    name: str
    type: str
    description: str | None = None
    default_value: Any = None


class ObjectPropertyValue(Struct):
    """Struct `ObjectPropertyValue`, since 10.1."""

    name: str
    type: str
    value: Any = None


class ObjectTypeInfo(Struct):
    """Struct `ObjectTypeInfo`, since 1.1."""

    name: str
    abstract: bool | None = None
    parent: str | None = None


class ObjectAdd(Command[None], wire_name="object-add", whole_argument="arguments", kw_only=False):
    """Command `object-add`, since 2.0. Allowed before the machine is made."""

    arguments: ObjectOptions


class ObjectDel(Command[None], wire_name="object-del"):
    """Command `object-del`, since 2.0. Allowed before the machine is made."""

    id: str


class QomGet(Command[Any], wire_name="qom-get"):
    """Command `qom-get`, since 1.2. Returns `Any`. Allowed before the machine is made."""

    path: str
    property: str


class QomList(Command["list[ObjectPropertyInfo]"], wire_name="qom-list"):
    """Command `qom-list`, since 1.2. Returns a list of `ObjectPropertyInfo`. Allowed before the machine is made."""

    path: str


class QomListGet(Command["list[ObjectPropertiesValues]"], wire_name="qom-list-get"):
    """Command `qom-list-get`, since 10.1. Returns a list of `ObjectPropertiesValues`. Allowed before the machine is
    made.
    """

    paths: list[str]


class QomListProperties(Command["list[ObjectPropertyInfo]"], wire_name="qom-list-properties"):
    """Command `qom-list-properties`, since 2.12. Returns a list of `ObjectPropertyInfo`. Allowed before the machine
    is made.
    """

    typename: str


class QomListTypes(Command["list[ObjectTypeInfo]"], wire_name="qom-list-types"):
    """Command `qom-list-types`, since 1.1. Returns a list of `ObjectTypeInfo`. Allowed before the machine is made."""

    implements: str | None = None
    abstract: bool | None = None


class QomSet(Command[None], wire_name="qom-set"):
    """Command `qom-set`, since 1.2. Allowed before the machine is made."""

    path: str
    property: str
    value: Any
