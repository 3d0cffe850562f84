# SPDX-License-Identifier: BSD-2-Clause
"""Obstacles of a migration, reported by the destination before anything is created."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest

from hvkit.hypervisor import Disk, Instance, MigrationInfo, MigrationObstacle, MigrationRefused, Nic, ObstacleKind
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.migration.description import MachineDescription
from hvkit.hypervisor.kvm.migration.preflight import compare_plan
from hvkit.hypervisor.kvm.plan.machine import MachinePlan
from hvkit.hypervisor.kvm.plan.parameters import NIC_TYPES
from hvkit.hypervisor.kvm.plan.topology import Topology

MakeInstance = Callable[..., Instance]


@pytest.fixture
def other(tmp_path: Path) -> KvmHypervisor:
    """The hypervisor of another node, on which no instance runs."""
    return KvmHypervisor(run_dir=tmp_path / "other")


@attrs.frozen
class Proposal:
    """A running instance, its description, and the hypervisor of the destination."""

    other: KvmHypervisor
    instance: Instance
    info: MigrationInfo

    def obstacles(self, described: dict[str, Any] | None = None, **changed: Any) -> tuple[MigrationObstacle, ...]:
        """Return the obstacles of a migration with changes.

        Args:
            described: changed members of the description.
            changed: changed members of the instance on the destination.
        """
        parameters = {**self.instance.parameters, **changed.pop("parameters", {})}
        instance = attrs.evolve(self.instance, parameters=parameters, **changed)
        info = attrs.evolve(self.info, data={**self.info.data, **(described or {})})
        found = self.other.find_migration_obstacles(instance, info)
        assert self.other.list_instances() == []
        return found

    def only(self, described: dict[str, Any] | None = None, **changed: Any) -> tuple[ObstacleKind, str]:
        """Return the kind and the reason of the only obstacle."""
        (obstacle,) = self.obstacles(described, **changed)
        return obstacle.kind, obstacle.reason


@pytest.fixture
def proposal(kvm: KvmHypervisor, other: KvmHypervisor, make_toy: MakeInstance) -> Proposal:
    toy = make_toy(nics=(Nic(mac="52:54:00:12:34:56", mode="user"),), parameters={"cpu_type": "qemu64"})
    kvm.start_instance(toy)
    info = kvm.migration_info("web1")
    return Proposal(other, toy, attrs.evolve(info, data=json.loads(json.dumps(info.data))))


@pytest.mark.qemu
def test_identical_machine_has_no_obstacles(proposal: Proposal) -> None:
    assert proposal.obstacles() == ()


@pytest.mark.qemu
def test_each_difference_is_reported_with_its_kind(proposal: Proposal) -> None:
    kind, reason = proposal.only({"qemu_version": [99, 0, 0]})
    assert (kind, "QEMU version: 99.0.0 on the source, and the older " in reason) == (ObstacleKind.VERSION, True)
    kind, reason = proposal.only({"machine_type": "pc-q35-99.9"})
    assert (kind, "has no machine type 'pc-q35-99.9'" in reason) == (ObstacleKind.MACHINE, True)
    kind, reason = proposal.only({"accelerator": "kvm"})
    assert (kind, "accelerator: kvm on the source" in reason) == (ObstacleKind.ACCELERATOR, True)
    assert proposal.only(parameters={"cpu_type": "max"}) == (
        ObstacleKind.CPU,
        "CPU model: qemu64 on the source, and max here",
    )
    assert proposal.only(memory_mib=64) == (ObstacleKind.MEMORY, "memory: 32 MiB on the source, and 64 MiB here")
    assert proposal.only({"memory_backends": ["memory"]}) == (
        ObstacleKind.MEMORY,
        "memory backends: memory on the source, and QEMU's default here",
    )
    assert proposal.only(vcpus=2) == (ObstacleKind.VCPUS, "vCPUs: 1 on the source, and 2 here")
    assert proposal.only(parameters={"cpu_threads": 1})[0] is ObstacleKind.VCPUS
    assert proposal.only(parameters={"kvm_extra": "-boot menu=on"})[0] is ObstacleKind.PARAMETER
    assert proposal.only(parameters={"migration_caps": "multifd"})[0] is ObstacleKind.PARAMETER
    assert proposal.only(parameters={"virtio_net_queues": 2})[0] is ObstacleKind.PARAMETER
    assert proposal.only(parameters={"boot_order": "disk,network"})[0] is ObstacleKind.PARAMETER
    assert proposal.only(parameters={"mem_prealloc": True})[0] is ObstacleKind.MEMORY
    assert proposal.only(parameters={"acpi": False})[0] is ObstacleKind.PARAMETER
    assert proposal.only({"parameters": {"firmware": "uefi"}}) == (
        ObstacleKind.PARAMETER,
        "firmware: 'uefi' on the source, and 'bios' here",
    )
    missing = attrs.evolve(proposal.instance.disks[0], path="/no/such/disk")
    kind, reason = proposal.only(disks=(missing,))
    assert (kind, "/no/such/disk: No such file" in reason) == (ObstacleKind.DISK, True)
    kind, reason = proposal.only(parameters={"kvm_path": "/no/such/qemu"})
    assert kind in (ObstacleKind.VERSION, ObstacleKind.PARAMETER)
    assert "/no/such/qemu" in reason


@pytest.mark.qemu
def test_devices_are_compared_by_driver_and_uuid(proposal: Proposal) -> None:
    kind, reason = proposal.only(parameters={"nic_type": "e1000"})
    assert kind is ObstacleKind.DEVICES
    assert reason.endswith(": virtio-net-pci on the source, and e1000 here")
    more = Nic(mac="52:54:00:12:34:57", mode="user")
    kinds = {each.kind for each in proposal.obstacles(nics=(*proposal.instance.nics, more))}
    assert kinds == {ObstacleKind.DEVICES}
    found = proposal.obstacles({"devices": {**proposal.info.data["devices"], "gone": "virtio-rng-pci"}})
    assert [each.reason for each in found] == ["device gone: virtio-rng-pci on the source, and missing here"]


@pytest.mark.qemu
def test_all_obstacles_are_reported_at_once(proposal: Proposal) -> None:
    disks = (attrs.evolve(proposal.instance.disks[0], path="/no/such/disk"), Disk(path="/no/such/either"))
    found = proposal.obstacles(
        {"qemu_version": [99, 0, 0], "accelerator": "kvm"},
        memory_mib=64,
        vcpus=2,
        disks=disks,
        parameters={"cpu_type": "max", "nic_type": "e1000"},
    )
    assert [each.kind for each in found].count(ObstacleKind.DISK) == 2
    assert {each.kind for each in found} == {
        ObstacleKind.VERSION,
        ObstacleKind.ACCELERATOR,
        ObstacleKind.CPU,
        ObstacleKind.MEMORY,
        ObstacleKind.VCPUS,
        ObstacleKind.DEVICES,
        ObstacleKind.DISK,
    }


@pytest.mark.qemu
def test_refused_accept_carries_obstacles_and_creates_nothing(proposal: Proposal, tmp_path: Path) -> None:
    instance = attrs.evolve(proposal.instance, memory_mib=64, vcpus=2)
    with pytest.raises(MigrationRefused) as caught:
        proposal.other.accept_instance(instance, proposal.info, str(tmp_path / "never.sock"))
    assert [each.kind for each in caught.value.obstacles] == [ObstacleKind.MEMORY, ObstacleKind.VCPUS]
    assert not (tmp_path / "other" / "instances").exists()


@pytest.mark.qemu
@pytest.mark.parametrize("chipset", ["pc", "q35"])
def test_planned_device_drivers_match_qemu(
    kvm: KvmHypervisor, other: KvmHypervisor, make_toy: MakeInstance, chipset: str
) -> None:
    for number, nic_type in enumerate(sorted(NIC_TYPES)):
        disk_type = ("paravirtual", "scsi-hd", "ide")[number % 3]
        disks = make_toy().disks
        if chipset == "q35" and disk_type == "ide":
            disk_type = "paravirtual"
        parameters = {
            "machine_version": chipset,
            "nic_type": nic_type,
            "disk_type": disk_type,
            "use_guest_agent": True,
            "vga": ("std", "none", "cirrus")[number % 3],
        }
        toy = make_toy(f"web{number}", disks=disks, nics=(Nic(mac="52:54:00:12:34:56", mode="user"),))
        toy = attrs.evolve(toy, parameters={**toy.parameters, **parameters})
        kvm.start_instance(toy, start_paused=True)
        assert other.find_migration_obstacles(toy, kvm.migration_info(toy.name)) == (), parameters
        kvm.stop_instance(toy.name, force=True)


@pytest.mark.qemu
@pytest.mark.parametrize(
    "parameters",
    [
        {"cdrom_image_path": "{image}", "cdrom2_image_path": "{image}"},
        {"floppy_image_path": "{image}", "machine_version": "pc"},
        {"virtio_rng": True, "io_threads": 1},
        {"numa_nodes": 1, "mem_prealloc": True, "boot_order": "network,disk"},
        {"usb_mouse": "tablet", "usb_devices": "keyboard"},
        {"soundhw": "hda"},
        {"disk_type": "scsi-hd", "scsi_controller_type": "virtio-scsi-pci"},
        {"kvm_extra": "-device virtio-rng-pci,id=more"},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_machine_with_optional_devices_has_no_obstacles(
    kvm: KvmHypervisor, other: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, parameters: dict[str, object]
) -> None:
    image = tmp_path / "image.iso"
    image.write_bytes(bytes(1 << 20))
    filled = {
        name: value.format(image=image) if isinstance(value, str) else value for name, value in parameters.items()
    }
    toy = make_toy(parameters=filled)
    kvm.start_instance(toy, start_paused=True)
    assert other.find_migration_obstacles(toy, kvm.migration_info(toy.name)) == ()


@pytest.mark.qemu
@pytest.mark.parametrize(("capabilities", "is_taken"), [("", True), ("auto-converge:postcopy-ram", False)])
def test_page_size_difference_is_obstacle_for_postcopy_only(
    kvm: KvmHypervisor, other: KvmHypervisor, make_toy: MakeInstance, capabilities: str, is_taken: bool
) -> None:
    toy = make_toy(parameters={"migration_caps": capabilities, "mem_prealloc": True})
    kvm.start_instance(toy, start_paused=True)
    info = kvm.migration_info(toy.name)
    pages = {"parameters": {**info.data["parameters"], "hugepages": "2M"}}
    obstacles = other.find_migration_obstacles(toy, attrs.evolve(info, data={**info.data, **pages}))
    expected = MigrationObstacle(ObstacleKind.MEMORY, "hugepages: '2M' on the source, and '' here")
    assert obstacles == (() if is_taken else (expected,))


def test_missing_cpu_flags_are_reported(plan: Callable[..., MachinePlan]) -> None:
    here = plan("7.2", {"cpu_type": "host"})
    sent = MachineDescription(
        format=3,
        uuid=uuid4(),
        qemu_version=(7, 2, 0),
        machine_type=here.machine.name,
        accelerator="kvm",
        cpu_model=here.processors.model,
        node_flags=("avx512f", "fpu", "sse4_2"),
        memory_mib=128,
        memory_backends=(),
        vcpus=1,
        cpu_shape=(0, 0, 0),
        devices={device.id: device.driver for device in here.devices if device.id},
        parameters={"kvm_extra": "x"},
        topology=Topology(chipset=here.topology.chipset),
        addresses={},
        is_running=True,
    )
    here = attrs.evolve(here, disks=(), nics=())
    assert list(compare_plan(sent, here, node_flags=frozenset({"avx512f", "fpu", "sse4_2", "more"}))) == []
    (found,) = compare_plan(sent, here, node_flags=frozenset({"fpu"}))
    assert found.kind is ObstacleKind.CPU
    assert found.reason.endswith("missing on this node: avx512f sse4_2")
