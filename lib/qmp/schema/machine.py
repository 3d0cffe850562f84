# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `machine`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from hvkit.qmp.base import Command, Event, Struct, Union

if TYPE_CHECKING:
    from hvkit.qmp.schema.common import HostMemPolicy, HumanReadableText
    from hvkit.qmp.schema.machine_common import S390CpuEntitlement

#: Enumeration `CpuModelCompareResult`, since 2.8.
CpuModelCompareResult = Literal["incompatible", "identical", "superset", "subset"]

#: Enumeration `CpuModelExpansionType`, since 2.8.
CpuModelExpansionType = Literal["static", "full"]

#: Enumeration `HmatCacheAssociativity`, since 5.0.
HmatCacheAssociativity = Literal["none", "direct", "complex"]

#: Enumeration `HmatCacheWritePolicy`, since 5.0.
HmatCacheWritePolicy = Literal["none", "write-back", "write-through"]

#: Enumeration `HmatLBDataType`, since 5.0.
HmatLBDataType = Literal[
    "access-latency",
    "read-latency",
    "write-latency",
    "access-bandwidth",
    "read-bandwidth",
    "write-bandwidth",
]

#: Enumeration `HmatLBMemoryHierarchy`, since 5.0.
HmatLBMemoryHierarchy = Literal["memory", "first-level", "second-level", "third-level"]

#: Enumeration `MemoryDeviceInfoKind`, since 2.1.
MemoryDeviceInfoKind = Literal[
    "nvdimm",
    "virtio-pmem",
    "virtio-mem",
    "sgx-epc",
    "hv-balloon",  # since 8.2
    "sp-mem",  # since 11.1
    "dimm",
]

#: Enumeration `NumaOptionsType`, since 2.1.
NumaOptionsType = Literal["node", "dist", "cpu", "hmat-lb", "hmat-cache"]

#: Enumeration `S390CpuState`, 10.0 and later.
S390CpuState = Literal["uninitialized", "stopped", "check-stop", "operating", "load"]

#: Enumeration `SysEmuTarget`, since 3.0.
SysEmuTarget = Literal[
    "rx",
    "avr",
    "loongarch64",
    "hexagon",  # since 11.0
    "aarch64",
    "alpha",
    "arm",
    "hppa",
    "i386",
    "m68k",
    "microblaze",
    "mips",
    "mips64",
    "mips64el",
    "mipsel",
    "or1k",
    "ppc",
    "ppc64",
    "riscv32",
    "riscv64",
    "s390x",
    "sh4",
    "sh4eb",
    "sparc",
    "sparc64",
    "tricore",
    "x86_64",
    "xtensa",
    "xtensaeb",
    "cris",  # 7.2 only
    "microblazeel",  # until 10.0
    "nios2",  # 7.2 only
]


class BalloonInfo(Struct):
    """Struct `BalloonInfo`, since 0.14."""

    actual: int


class CompatProperty(Struct):
    """Struct `CompatProperty`, since 9.1."""

    qom_type: str
    property: str
    value: str


class CpuDefinitionInfo(Struct):
    """Struct `CpuDefinitionInfo`, since 1.2."""

    name: str
    migration_safe: bool | None = None
    static: bool
    unavailable_features: list[str] | None = None
    typename: str
    alias_of: str | None = None
    deprecated: bool


class CpuInfoFast(Union, tag="target", branches={"s390x": "CpuInfoS390"}):
    """Union `CpuInfoFast`, since 2.12."""

    cpu_index: int
    qom_type: str | None = None  # since 10.1
    qom_path: str
    thread_id: int
    props: CpuInstanceProperties | None = None
    target: SysEmuTarget


class CpuInfoS390(CpuInfoFast):
    """Struct `CpuInfoS390`, since 2.12. Branch of `CpuInfoFast` where `target` is `s390x`."""

    target: Literal["s390x"] = "s390x"
    cpu_state: S390CpuState
    dedicated: bool | None = None  # since 8.2
    entitlement: S390CpuEntitlement | None = None  # since 8.2


class CpuInstanceProperties(Struct):
    """Struct `CpuInstanceProperties`, since 2.7."""

    node_id: int | None = None
    drawer_id: int | None = None  # since 8.2
    book_id: int | None = None  # since 8.2
    socket_id: int | None = None
    die_id: int | None = None
    cluster_id: int | None = None
    module_id: int | None = None  # since 9.1
    core_id: int | None = None
    thread_id: int | None = None


class CpuModelBaselineInfo(Struct):
    """Struct `CpuModelBaselineInfo`, since 2.8."""

    model: CpuModelInfo


class CpuModelCompareInfo(Struct):
    """Struct `CpuModelCompareInfo`, since 2.8."""

    result: CpuModelCompareResult
    responsible_properties: list[str]


class CpuModelExpansionInfo(Struct):
    """Struct `CpuModelExpansionInfo`, since 2.8."""

    model: CpuModelInfo
    deprecated_props: list[str] | None = None  # since 10.1


class CpuModelInfo(Struct):
    """Struct `CpuModelInfo`, since 2.8."""

    name: str
    props: Any = None


class CurrentMachineParams(Struct):
    """Struct `CurrentMachineParams`, since 4.0."""

    wakeup_suspend_support: bool


class FirmwareLog(Struct):
    """Struct `FirmwareLog`, since 10.2."""

    version: str | None = None
    log: str


class GuidInfo(Struct):
    """Struct `GuidInfo`, since 2.9."""

    guid: str


class HotpluggableCPU(Struct):
    """Struct `HotpluggableCPU`, since 2.7."""

    type: str
    props: CpuInstanceProperties
    vcpus_count: int
    qom_path: str | None = None


class HvBalloonDeviceInfo(Struct):
    """Struct `HvBalloonDeviceInfo`, since 8.2."""

    id: str | None = None
    memaddr: int | None = None
    max_size: int
    memdev: str | None = None


class MemoryDeviceInfo(
    Union,
    tag="type",
    branches={
        "dimm": "PCDIMMDeviceInfoWrapper",
        "nvdimm": "PCDIMMDeviceInfoWrapper",
        "virtio-pmem": "VirtioPMEMDeviceInfoWrapper",
        "virtio-mem": "VirtioMEMDeviceInfoWrapper",
        "sgx-epc": "SgxEPCDeviceInfoWrapper",
        "hv-balloon": "HvBalloonDeviceInfoWrapper",
        "sp-mem": "SpMemDeviceInfoWrapper",
    },
):
    """Union `MemoryDeviceInfo`, since 2.1."""

    type: MemoryDeviceInfoKind


class PCDIMMDeviceInfoWrapper(MemoryDeviceInfo):
    """Struct `PCDIMMDeviceInfoWrapper`, since 2.1. Branch of `MemoryDeviceInfo` where `type` is `dimm` or `nvdimm`."""

    type: Literal["dimm", "nvdimm"]
    data: PCDIMMDeviceInfo


class VirtioPMEMDeviceInfoWrapper(MemoryDeviceInfo):
    """Struct `VirtioPMEMDeviceInfoWrapper`, since 2.1. Branch of `MemoryDeviceInfo` where `type` is `virtio-pmem`."""

    type: Literal["virtio-pmem"] = "virtio-pmem"
    data: VirtioPMEMDeviceInfo


class VirtioMEMDeviceInfoWrapper(MemoryDeviceInfo):
    """Struct `VirtioMEMDeviceInfoWrapper`, since 2.1. Branch of `MemoryDeviceInfo` where `type` is `virtio-mem`."""

    type: Literal["virtio-mem"] = "virtio-mem"
    data: VirtioMEMDeviceInfo


class SgxEPCDeviceInfoWrapper(MemoryDeviceInfo):
    """Struct `SgxEPCDeviceInfoWrapper`, since 6.2. Branch of `MemoryDeviceInfo` where `type` is `sgx-epc`."""

    type: Literal["sgx-epc"] = "sgx-epc"
    data: SgxEPCDeviceInfo


class SpMemDeviceInfoWrapper(MemoryDeviceInfo):
    """Struct `SpMemDeviceInfoWrapper`, since 11.1. Branch of `MemoryDeviceInfo` where `type` is `sp-mem`."""

    type: Literal["sp-mem"] = "sp-mem"
    data: SpMemDeviceInfo


class HvBalloonDeviceInfoWrapper(MemoryDeviceInfo):
    """Struct `HvBalloonDeviceInfoWrapper`, since 8.2. Branch of `MemoryDeviceInfo` where `type` is `hv-balloon`."""

    type: Literal["hv-balloon"] = "hv-balloon"
    data: HvBalloonDeviceInfo


class HvBalloonInfo(Struct):
    """Struct `HvBalloonInfo`, since 8.2."""

    committed: int
    available: int


class MachineInfo(Struct):
    """Struct `MachineInfo`, since 1.2."""

    name: str
    alias: str | None = None
    is_default: bool | None = None
    cpu_max: int
    hotpluggable_cpus: bool
    numa_mem_supported: bool
    deprecated: bool
    default_cpu_type: str | None = None
    default_ram_id: str | None = None
    acpi: bool | None = None  # since 8.0
    compat_props: list[CompatProperty] | None = None  # since 9.1, unstable


class Memdev(Struct):
    """Struct `Memdev`, since 2.1."""

    id: str | None = None
    size: int
    merge: bool
    dump: bool
    prealloc: bool
    share: bool
    reserve: bool | None = None
    host_nodes: list[int]
    policy: HostMemPolicy


class MemoryInfo(Struct):
    """Struct `MemoryInfo`, since 2.11."""

    base_memory: int
    plugged_memory: int | None = None


class NumaOptions(
    Union,
    tag="type",
    branches={
        "node": "NumaNodeOptions",
        "dist": "NumaDistOptions",
        "cpu": "NumaCpuOptions",
        "hmat-lb": "NumaHmatLBOptions",
        "hmat-cache": "NumaHmatCacheOptions",
    },
):
    """Union `NumaOptions`, since 2.1."""

    type: NumaOptionsType


class NumaNodeOptions(NumaOptions):
    """Struct `NumaNodeOptions`, since 2.1. Branch of `NumaOptions` where `type` is `node`."""

    type: Literal["node"] = "node"
    nodeid: int | None = None
    cpus: list[int] | None = None
    mem: int | None = None
    memdev: str | None = None
    initiator: int | None = None


class NumaDistOptions(NumaOptions):
    """Struct `NumaDistOptions`, since 2.10. Branch of `NumaOptions` where `type` is `dist`."""

    type: Literal["dist"] = "dist"
    src: int
    dst: int
    val: int


class NumaHmatLBOptions(NumaOptions):
    """Struct `NumaHmatLBOptions`, since 5.0. Branch of `NumaOptions` where `type` is `hmat-lb`."""

    type: Literal["hmat-lb"] = "hmat-lb"
    initiator: int
    target: int
    hierarchy: HmatLBMemoryHierarchy
    data_type: HmatLBDataType
    latency: int | None = None
    bandwidth: int | None = None


class NumaHmatCacheOptions(NumaOptions):
    """Struct `NumaHmatCacheOptions`, since 5.0. Branch of `NumaOptions` where `type` is `hmat-cache`."""

    type: Literal["hmat-cache"] = "hmat-cache"
    node_id: int
    size: int
    level: int
    associativity: HmatCacheAssociativity
    policy: HmatCacheWritePolicy
    line: int


class NumaCpuOptions(CpuInstanceProperties, NumaOptions):
    """Struct `NumaCpuOptions`, since 2.10. Branch of `NumaOptions` where `type` is `cpu`."""

    type: Literal["cpu"] = "cpu"


class PCDIMMDeviceInfo(Struct):
    """Struct `PCDIMMDeviceInfo`, since 2.1."""

    id: str | None = None
    addr: int
    size: int
    slot: int
    node: int
    memdev: str
    hotplugged: bool
    hotpluggable: bool


class QemuTargetInfo(Struct):
    """Struct `QemuTargetInfo`, 11.1 and later. Until 10.0 `TargetInfo` stood in its place."""

    arch: SysEmuTarget


class SgxEPCDeviceInfo(Struct):
    """Struct `SgxEPCDeviceInfo`, since 6.2."""

    id: str | None = None
    memaddr: int
    size: int
    memdev: str
    node: int


class SpMemDeviceInfo(Struct):
    """Struct `SpMemDeviceInfo`, since 11.1."""

    id: str | None = None
    addr: int
    size: int
    node: int
    memdev: str


class UuidInfo(Struct):
    """Struct `UuidInfo`, since 0.14."""

    UUID: str


class VirtioMEMDeviceInfo(Struct):
    """Struct `VirtioMEMDeviceInfo`, since 5.1."""

    id: str | None = None
    memaddr: int
    requested_size: int
    size: int
    max_size: int
    block_size: int
    node: int
    memdev: str


class VirtioPMEMDeviceInfo(Struct):
    """Struct `VirtioPMEMDeviceInfo`, since 4.1."""

    id: str | None = None
    memaddr: int
    size: int
    memdev: str


class BalloonChangeEvent(Event, wire_name="BALLOON_CHANGE"):
    """Event `BALLOON_CHANGE`, since 1.2."""

    actual: int


class HvBalloonStatusReportEvent(HvBalloonInfo, Event, wire_name="HV_BALLOON_STATUS_REPORT"):
    """Event `HV_BALLOON_STATUS_REPORT`, since 8.2."""


class MemUnplugErrorEvent(Event, wire_name="MEM_UNPLUG_ERROR"):
    """Event `MEM_UNPLUG_ERROR`, since 2.4, 7.2 only. Deprecated."""

    device: str
    msg: str


class MemoryDeviceSizeChangeEvent(Event, wire_name="MEMORY_DEVICE_SIZE_CHANGE"):
    """Event `MEMORY_DEVICE_SIZE_CHANGE`, since 5.1."""

    id: str | None = None
    size: int
    qom_path: str


class Balloon(Command[None], wire_name="balloon"):
    """Command `balloon`, since 0.14."""

    value: int


class DumpSkeys(Command[None], wire_name="dump-skeys"):
    """Command `dump-skeys`, since 2.5."""

    filename: str


class Dumpdtb(Command[None], wire_name="dumpdtb"):
    """Command `dumpdtb`, since 7.2. Needs CONFIG_FDT."""

    filename: str


class InjectNmi(Command[None], wire_name="inject-nmi"):
    """Command `inject-nmi`, since 0.14."""


class Memsave(Command[None], wire_name="memsave"):
    """Command `memsave`, since 0.14."""

    val: int
    size: int
    filename: str
    cpu_index: int | None = None


class Pmemsave(Command[None], wire_name="pmemsave"):
    """Command `pmemsave`, since 0.14."""

    val: int
    size: int
    filename: str


class QueryBalloon(Command["BalloonInfo"], wire_name="query-balloon"):
    """Command `query-balloon`, since 0.14. Returns `BalloonInfo`."""


class QueryCpuDefinitions(Command["list[CpuDefinitionInfo]"], wire_name="query-cpu-definitions"):
    """Command `query-cpu-definitions`, since 1.2. Returns a list of `CpuDefinitionInfo`."""


class QueryCpuModelBaseline(Command["CpuModelBaselineInfo"], wire_name="query-cpu-model-baseline"):
    """Command `query-cpu-model-baseline`, since 2.8. Returns `CpuModelBaselineInfo`."""

    modela: CpuModelInfo
    modelb: CpuModelInfo


class QueryCpuModelComparison(Command["CpuModelCompareInfo"], wire_name="query-cpu-model-comparison"):
    """Command `query-cpu-model-comparison`, since 2.8. Returns `CpuModelCompareInfo`."""

    modela: CpuModelInfo
    modelb: CpuModelInfo


class QueryCpuModelExpansion(Command["CpuModelExpansionInfo"], wire_name="query-cpu-model-expansion"):
    """Command `query-cpu-model-expansion`, since 2.8. Returns `CpuModelExpansionInfo`."""

    model: CpuModelInfo
    type: CpuModelExpansionType


class QueryCpusFast(Command["list[CpuInfoFast]"], wire_name="query-cpus-fast"):
    """Command `query-cpus-fast`, since 2.12. Returns a list of `CpuInfoFast`."""


class QueryCurrentMachine(Command["CurrentMachineParams"], wire_name="query-current-machine"):
    """Command `query-current-machine`, since 4.0. Returns `CurrentMachineParams`."""


class QueryFirmwareLog(Command["FirmwareLog"], wire_name="query-firmware-log"):
    """Command `query-firmware-log`, since 10.2. Returns `FirmwareLog`."""

    max_size: int | None = None


class QueryHotpluggableCpus(Command["list[HotpluggableCPU]"], wire_name="query-hotpluggable-cpus"):
    """Command `query-hotpluggable-cpus`, since 2.7. Returns a list of `HotpluggableCPU`. Allowed before the machine
    is made.
    """


class QueryHvBalloonStatusReport(Command["HvBalloonInfo"], wire_name="query-hv-balloon-status-report"):
    """Command `query-hv-balloon-status-report`, since 8.2. Returns `HvBalloonInfo`."""


class QueryMachines(Command["list[MachineInfo]"], wire_name="query-machines"):
    """Command `query-machines`, since 1.2. Returns a list of `MachineInfo`."""

    compat_props: bool | None = None  # since 9.1, unstable


class QueryMemdev(Command["list[Memdev]"], wire_name="query-memdev"):
    """Command `query-memdev`, since 2.1. Returns a list of `Memdev`. Allowed before the machine is made."""


class QueryMemoryDevices(Command["list[MemoryDeviceInfo]"], wire_name="query-memory-devices"):
    """Command `query-memory-devices`, since 2.1. Returns a list of `MemoryDeviceInfo`."""


class QueryMemorySizeSummary(Command["MemoryInfo"], wire_name="query-memory-size-summary"):
    """Command `query-memory-size-summary`, since 2.11. Returns `MemoryInfo`."""


class QueryTarget(Command["QemuTargetInfo"], wire_name="query-target"):
    """Command `query-target`, since 1.2. Returns `QemuTargetInfo`."""


class QueryUuid(Command["UuidInfo"], wire_name="query-uuid"):
    """Command `query-uuid`, since 0.14. Returns `UuidInfo`. Allowed before the machine is made."""


class QueryVmGenerationId(Command["GuidInfo"], wire_name="query-vm-generation-id"):
    """Command `query-vm-generation-id`, since 2.9. Returns `GuidInfo`."""


class SetNumaNode(Command[None], wire_name="set-numa-node", whole_argument="arguments", kw_only=False):
    """Command `set-numa-node`, since 3.0. Allowed before the machine is made."""

    arguments: NumaOptions


class SystemPowerdown(Command[None], wire_name="system_powerdown"):
    """Command `system_powerdown`, since 0.14."""


class SystemReset(Command[None], wire_name="system_reset"):
    """Command `system_reset`, since 0.14."""


class SystemWakeup(Command[None], wire_name="system_wakeup"):
    """Command `system_wakeup`, since 1.1."""


class XQueryInterruptControllers(Command["HumanReadableText"], wire_name="x-query-interrupt-controllers"):
    """Command `x-query-interrupt-controllers`, since 9.1. Unstable. Returns `HumanReadableText`."""


class XQueryIrq(Command["HumanReadableText"], wire_name="x-query-irq"):
    """Command `x-query-irq`, since 6.2. Unstable. Returns `HumanReadableText`."""


class XQueryJit(Command["HumanReadableText"], wire_name="x-query-jit"):
    """Command `x-query-jit`, since 6.2. Unstable. Needs CONFIG_TCG. Returns `HumanReadableText`."""


class XQueryNuma(Command["HumanReadableText"], wire_name="x-query-numa"):
    """Command `x-query-numa`, since 6.2. Unstable. Returns `HumanReadableText`."""


class XQueryOpcount(Command["HumanReadableText"], wire_name="x-query-opcount"):
    """Command `x-query-opcount`, since 6.2, until 10.0. Unstable. Needs CONFIG_TCG. Returns `HumanReadableText`."""


class XQueryProfile(Command["HumanReadableText"], wire_name="x-query-profile"):
    """Command `x-query-profile`, since 6.2, 7.2 only. Unstable. Needs CONFIG_TCG. Returns `HumanReadableText`."""


class XQueryRamblock(Command["HumanReadableText"], wire_name="x-query-ramblock"):
    """Command `x-query-ramblock`, since 6.2. Unstable. Returns `HumanReadableText`."""


class XQueryRdma(Command["HumanReadableText"], wire_name="x-query-rdma"):
    """Command `x-query-rdma`, since 6.2, 7.2 only. Unstable. Returns `HumanReadableText`."""


class XQueryRoms(Command["HumanReadableText"], wire_name="x-query-roms"):
    """Command `x-query-roms`, since 6.2. Unstable. Returns `HumanReadableText`."""


class XQueryUsb(Command["HumanReadableText"], wire_name="x-query-usb"):
    """Command `x-query-usb`, since 6.2. Unstable. Returns `HumanReadableText`."""
