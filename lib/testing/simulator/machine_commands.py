# SPDX-License-Identifier: BSD-2-Clause
"""Commands about the machine: run state, identity, vCPUs and memory."""

from typing import Any, Final

from hvkit.qmp.schema import (
    Balloon,
    BalloonInfo,
    CommandLineOptionInfo,
    Cont,
    CpuDefinitionInfo,
    CpuInfoFast,
    CpuInstanceProperties,
    CurrentMachineParams,
    HotpluggableCPU,
    KvmInfo,
    MachineInfo,
    MemoryInfo,
    MigrationInfo,
    NameInfo,
    QemuTargetInfo,
    QueryBalloon,
    QueryCommandLineOptions,
    QueryCpuDefinitions,
    QueryCpusFast,
    QueryCurrentMachine,
    QueryHotpluggableCpus,
    QueryJobs,
    QueryKvm,
    QueryMachines,
    QueryMemorySizeSummary,
    QueryMigrate,
    QueryName,
    QueryStatus,
    QueryTarget,
    QueryUuid,
    QueryVersion,
    Quit,
    SetAction,
    StatusInfo,
    Stop,
    SystemPowerdown,
    SystemReset,
    UuidInfo,
    VersionInfo,
    VersionTriple,
)
from hvkit.testing.simulator.dispatch import Dispatcher
from hvkit.testing.simulator.machine import Machine, machine_types

#: The simulated CPU models, a subset of QEMU's.
CPU_MODELS: Final = ("base", "host", "max", "qemu64", "kvm64")
_CPU_TYPE: Final = "qemu64-x86_64-cpu"

commands: Final = Dispatcher()


@commands.runs(QueryStatus)
def _query_status(machine: Machine, _: QueryStatus) -> StatusInfo:
    has_singlestep = machine.behavior.version < (9, 0, 0)
    return StatusInfo(
        status=machine.status, running=machine.status == "running", singlestep=False if has_singlestep else None
    )


@commands.runs(Stop)
def _stop(machine: Machine, _: Stop) -> None:
    machine.stop()


@commands.runs(Cont)
def _cont(machine: Machine, _: Cont) -> None:
    machine.cont()


@commands.runs(SystemPowerdown)
def _system_powerdown(machine: Machine, _: SystemPowerdown) -> None:
    machine.power_down()


@commands.runs(SystemReset)
def _system_reset(machine: Machine, _: SystemReset) -> None:
    machine.reset()


@commands.runs(Quit)
def _quit(machine: Machine, _: Quit) -> None:
    machine.quit()


@commands.runs(SetAction)
def _set_action(machine: Machine, command: SetAction) -> None:
    machine.set_actions(reboot=command.reboot, shutdown=command.shutdown)


@commands.runs(QueryMigrate)
def _query_migrate(machine: Machine, _: QueryMigrate) -> MigrationInfo:
    return MigrationInfo()


@commands.runs(QueryJobs)
def _query_jobs(machine: Machine, _: QueryJobs) -> list[Any]:
    return []


@commands.runs(QueryVersion)
def _query_version(machine: Machine, _: QueryVersion) -> VersionInfo:
    major, minor, micro = machine.behavior.version
    return VersionInfo(qemu=VersionTriple(major=major, minor=minor, micro=micro), package=machine.behavior.package)


@commands.runs(QueryName)
def _query_name(machine: Machine, _: QueryName) -> NameInfo:
    return NameInfo(name=machine.options.name or None)


@commands.runs(QueryUuid)
def _query_uuid(machine: Machine, _: QueryUuid) -> UuidInfo:
    return UuidInfo(UUID=machine.options.uuid)


@commands.runs(QueryTarget)
def _query_target(machine: Machine, _: QueryTarget) -> QemuTargetInfo:
    return QemuTargetInfo(arch="x86_64")


@commands.runs(QueryKvm)
def _query_kvm(machine: Machine, _: QueryKvm) -> KvmInfo:
    return KvmInfo(enabled=machine.options.accelerator == "kvm", present=True)


@commands.runs(QueryMachines)
def _query_machines(machine: Machine, _: QueryMachines) -> list[MachineInfo]:
    return [
        MachineInfo(
            name=each.name,
            alias=each.alias or None,
            is_default=True if each.chipset == "pc" else None,
            cpu_max=each.cpu_max,
            hotpluggable_cpus=bool(each.chipset),
            numa_mem_supported=False,
            deprecated=False,
            default_cpu_type=_CPU_TYPE,
        )
        for each in machine_types(machine.behavior.version)
    ]


@commands.runs(QueryCurrentMachine)
def _query_current_machine(machine: Machine, _: QueryCurrentMachine) -> CurrentMachineParams:
    return CurrentMachineParams(wakeup_suspend_support=bool(machine.type.chipset))


@commands.runs(QueryCommandLineOptions)
def _query_command_line_options(machine: Machine, _: QueryCommandLineOptions) -> list[CommandLineOptionInfo]:
    return []


@commands.runs(QueryCpuDefinitions)
def _query_cpu_definitions(machine: Machine, _: QueryCpuDefinitions) -> list[CpuDefinitionInfo]:
    return [
        CpuDefinitionInfo(name=name, typename=f"{name}-x86_64-cpu", static=name == "base", deprecated=False)
        for name in CPU_MODELS
    ]


def _cpu_properties(index: int) -> CpuInstanceProperties:
    return CpuInstanceProperties(socket_id=0, core_id=index, thread_id=0)


@commands.runs(QueryCpusFast)
def _query_cpus_fast(machine: Machine, _: QueryCpusFast) -> list[CpuInfoFast]:
    return [
        CpuInfoFast(
            cpu_index=index,
            qom_path=f"/machine/unattached/device[{index}]",
            thread_id=thread_id,
            props=_cpu_properties(index),
            target="x86_64",
        )
        for index, thread_id in enumerate(machine.thread_ids)
    ]


@commands.runs(QueryHotpluggableCpus)
def _query_hotpluggable_cpus(machine: Machine, _: QueryHotpluggableCpus) -> list[HotpluggableCPU]:
    return [
        HotpluggableCPU(
            type=_CPU_TYPE, props=_cpu_properties(index), vcpus_count=1, qom_path=f"/machine/unattached/device[{index}]"
        )
        for index in range(len(machine.thread_ids))
    ]


@commands.runs(QueryMemorySizeSummary)
def _query_memory_size_summary(machine: Machine, _: QueryMemorySizeSummary) -> MemoryInfo:
    return MemoryInfo(base_memory=machine.options.memory_bytes, plugged_memory=0)


@commands.runs(QueryBalloon)
def _query_balloon(machine: Machine, _: QueryBalloon) -> BalloonInfo:
    machine.check_balloon()
    return BalloonInfo(actual=machine.balloon_bytes)


@commands.runs(Balloon)
def _balloon(machine: Machine, command: Balloon) -> None:
    machine.set_balloon(command.value)
