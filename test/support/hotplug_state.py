# SPDX-License-Identifier: BSD-2-Clause
"""Helpers for tests of vCPU and memory hotplug."""

from __future__ import annotations

from hvkit.hypervisor import Instance
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.devices.memory import read_memory_mib
from hvkit.hypervisor.kvm.host.runtime import DimmRecord, ProcessorRecord, Runtime
from hvkit.hypervisor.kvm.host.state_file import read_runtime
from hvkit.hypervisor.kvm.plan.plugged import ProcessorPlaces, read_dimms
from hvkit.hypervisor.model import MigrationState
from hvkit.qmp.schema import QueryCpusFast, QueryHotpluggableCpus, QueryMemdev, QueryMemoryDevices


def read_state(hypervisor: KvmHypervisor, name: str = "web1") -> Runtime:
    runtime = read_runtime(hypervisor.run_dir / "instances" / name / "runtime.json", name)
    assert runtime is not None
    return runtime


def assert_agreement(hypervisor: KvmHypervisor) -> tuple[int, int]:
    """Check that the state file and the reported state agree with QEMU. Return the vCPUs and the memory in MiB."""
    runtime = read_state(hypervisor)
    with hypervisor.monitor("web1") as monitor:
        places = ProcessorPlaces.from_reply(monitor.execute(QueryHotpluggableCpus()))
        processors = len(monitor.execute(QueryCpusFast()))
        dimms = read_dimms(monitor.execute(QueryMemoryDevices()))
        memory_mib = read_memory_mib(monitor)
        backends = {backend.id for backend in monitor.execute(QueryMemdev())}
    assert processors == places.count
    by_name = {processor.device: ProcessorRecord(processor=processor) for processor in places.plugged}
    assert {record.processor.device: record for record in runtime.processors} == by_name
    assert {record.dimm.device: record for record in runtime.dimms} == {
        dimm.device: DimmRecord(dimm=dimm) for dimm in dimms
    }
    assert {each for each in backends if each and each.startswith("dimm-")} == {dimm.backend for dimm in dimms}
    info = hypervisor.get_instance_info("web1")
    assert (info.vcpus, info.memory_mib) == (processors, memory_mib) == (runtime.vcpus, runtime.memory_mib)
    assert hypervisor.get_all_instances_info() == [info]
    return processors, memory_mib


def migrate(source: KvmHypervisor, destination: KvmHypervisor, instance: Instance, target: str) -> None:
    info = source.migration_info("web1")
    destination.accept_instance(instance, info, target)
    source.migrate_instance("web1", target)
    status = source.follow_migration("web1")
    assert status.status is MigrationState.COMPLETED, status
    destination.finalize_migration_destination(instance, info, success=True)
    source.finalize_migration_source("web1", success=True, live=True)
