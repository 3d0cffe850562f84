# SPDX-License-Identifier: BSD-2-Clause
"""Plans of whole machines."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable
from typing import Any
from uuid import UUID

import attrs
import pytest

from hvkit.errors import ProgrammerError
from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.capabilities import Accelerator, Capabilities
from hvkit.hypervisor.kvm.plan.machine import MachinePlan
from hvkit.hypervisor.kvm.plan.resources import MachineSockets
from hvkit.hypervisor.kvm.plan.topology import Address
from hvkit.hypervisor.model import Disk, Nic

Planner = Callable[..., MachinePlan]


def disks(count: int) -> tuple[Disk, ...]:
    return tuple(Disk(path=f"/srv/{number}.img", uuid=UUID(int=number)) for number in range(count))


def nics(count: int) -> tuple[Nic, ...]:
    return tuple(Nic(mac=f"52:54:00:00:00:{number:02x}", mode="user", uuid=UUID(int=number)) for number in range(count))


def used_addresses(made: MachinePlan) -> set[Address]:
    return {disk.address for disk in made.disks} | {nic.address for nic in made.nics}


@pytest.mark.parametrize("module", ["capabilities", "parameters", "topology", "devices", "machine", "command_line"])
def test_planning_imports_no_io_modules(module: str) -> None:
    source = inspect.getsource(importlib.import_module(f"hvkit.hypervisor.kvm.plan.{module}"))
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
    touching = {"socket", "asyncio", "threading", "subprocess", "time", "os", "pathlib", "tempfile"}
    assert not imported & (touching | {"hvkit.hypervisor.kvm.host.probe", "hvkit.hypervisor.kvm.host.process"})


def test_plans_of_the_same_request_are_equal(plan: Planner) -> None:
    assert plan() == plan()


@pytest.mark.parametrize(("version", "board", "name"), [("7.2", "q35", "pc-q35-7.2"), ("11.1", "pc", "pc-i440fx-11.1")])
def test_machine_alias_is_resolved_to_a_version(plan: Planner, version: str, board: str, name: str) -> None:
    assert plan(version, {"machine_version": board}).machine.name == name


@pytest.mark.parametrize(
    ("wanted", "problem"), [("pc-q35-99.0", "has no machine type"), ("microvm", "neither a q35 nor a pc machine")]
)
def test_unknown_machine_type_is_refused(plan: Planner, wanted: str, problem: str) -> None:
    with pytest.raises(ParameterError, match=problem):
        plan(parameters={"machine_version": wanted})


def test_q35_has_a_root_port_for_each_device_and_spare_ones(plan: Planner) -> None:
    made = plan(parameters={"hotplug_ports": 3}, disks=disks(2), nics=nics(2))
    assert made.topology.port_count == 2 + 2 + 3
    assert len(used_addresses(made)) == 4


def test_slots_of_builtin_devices_are_always_reserved(plan: Planner) -> None:
    few = plan(parameters={"machine_version": "pc", "kvm_pci_reservations": 3})
    assert used_addresses(few) == used_addresses(plan(parameters={"machine_version": "pc"}))


def test_additional_disk_moves_no_nic(plan: Planner) -> None:
    few, many = plan(disks=disks(1), nics=nics(2)), plan(disks=disks(5), nics=nics(2))
    assert [nic.address for nic in few.nics] == [nic.address for nic in many.nics]


def test_additional_builtin_device_moves_no_disk(plan: Planner) -> None:
    bare = plan(parameters={"machine_version": "pc"})
    rich = plan(parameters={"machine_version": "pc", "vga": "std", "use_guest_agent": True})
    assert bare.disks == rich.disks
    assert bare.nics == rich.nics


def test_more_devices_than_slots_of_pc_are_refused(plan: Planner) -> None:
    plan(parameters={"machine_version": "pc"}, disks=disks(19))
    with pytest.raises(ParameterError, match="no free address"):
        plan(parameters={"machine_version": "pc"}, disks=disks(20))


@pytest.mark.parametrize(
    ("parameters", "disk_indexes", "nic_indexes"),
    [
        ({}, [1, None], [None, None]),
        ({"boot_order": "network"}, [None, None], [1, None]),
        ({"boot_order": "network,disk"}, [2, None], [1, None]),
        ({"boot_order": "network,disk", "kernel_path": "/boot/vmlinuz"}, [None, None], [None, None]),
        ({"kernel_path": "/boot/vmlinuz"}, [None, None], [None, None]),
    ],
)
def test_first_device_of_each_kind_is_bootable(
    plan: Planner, parameters: dict[str, Any], disk_indexes: list[int | None], nic_indexes: list[int | None]
) -> None:
    made = plan(parameters=parameters, disks=disks(2), nics=nics(2))
    assert [disk.device.properties.get("bootindex") for disk in made.disks] == disk_indexes
    assert [nic.device.properties.get("bootindex") for nic in made.nics] == nic_indexes


@pytest.mark.parametrize(
    ("cpu_type", "best_cpu", "model"),
    [
        ("", "host", "host"),
        ("", "max", "max"),
        ("host", "max", "max"),
        ("host,-avx", "max", "max,-avx"),
        ("qemu64", "host", "qemu64"),
    ],
)
def test_cpu_type_selects_the_cpu_model(plan: Planner, cpu_type: str, best_cpu: str, model: str) -> None:
    accelerator = Accelerator(name="kvm" if best_cpu == "host" else "tcg", best_cpu=best_cpu, reason="")
    assert plan(parameters={"cpu_type": cpu_type}, accelerator=accelerator).processors.model == model


def test_cpu_model_that_the_program_lacks_is_refused(plan: Planner) -> None:
    with pytest.raises(ParameterError, match="did you mean Skylake-Server"):
        plan(parameters={"cpu_type": "SkylakeServer,-hle"})


@pytest.mark.parametrize(
    ("vcpus", "shape", "is_possible"),
    [
        (4, {"cpu_sockets": 2, "cpu_cores": 2, "cpu_threads": 1}, True),
        (4, {"cpu_sockets": 2, "cpu_cores": 1, "cpu_threads": 1}, False),
        (4, {"cpu_cores": 2}, True),
        (4, {"cpu_cores": 3}, False),
        (1, {}, True),
    ],
)
def test_vcpus_must_match_sockets_cores_and_threads(
    plan: Planner, vcpus: int, shape: dict[str, int], is_possible: bool
) -> None:
    if is_possible:
        assert plan(parameters=shape, vcpus=vcpus).processors.count == vcpus
    else:
        with pytest.raises(ParameterError, match="cannot be arranged"):
            plan(parameters=shape, vcpus=vcpus)


def test_more_vcpus_than_the_machine_type_supports_are_refused(plan: Planner) -> None:
    with pytest.raises(ParameterError, match="has at most 255 vCPUs"):
        plan(parameters={"machine_version": "pc"}, vcpus=256)


def test_cpu_mask_is_for_all_vcpus_or_for_each(plan: Planner) -> None:
    assert plan(parameters={"cpu_mask": "0-1"}, vcpus=3).processors.affinity == (frozenset({0, 1}),)
    assert len(plan(parameters={"cpu_mask": "0:1:all"}, vcpus=3).processors.affinity) == 3
    with pytest.raises(ParameterError, match="names 2 vCPUs and the instance has 3"):
        plan(parameters={"cpu_mask": "0:1"}, vcpus=3)


def test_io_thread_mask_is_for_all_iothreads_or_for_each(plan: Planner) -> None:
    def affinity(mask: str, count: int) -> object:
        return plan(parameters={"io_thread_mask": mask, "io_threads": count}).io_thread_affinity

    assert affinity("all", 0) == ()
    assert affinity("all", 2) == (None, None)
    assert affinity("0-1", 2) == (frozenset({0, 1}),) * 2
    assert affinity("0:all", 2) == (frozenset({0}), None)
    for mask, count in (("0", 0), ("0:1", 3), ("all:all", 1)):
        with pytest.raises(ParameterError, match=rf"io_thread_mask: .* and the instance has {count}"):
            affinity(mask, count)


@pytest.mark.parametrize(
    ("parameter", "value", "driver"),
    [
        ("disk_type", "ide", "ide-hd"),
        ("nic_type", "e1000", "e1000"),
        ("vga", "std", "VGA"),
    ],
)
def test_device_that_the_program_lacks_is_refused_with_its_parameter(
    plan: Planner, recorded: Callable[[str], Capabilities], parameter: str, value: str, driver: str
) -> None:
    whole = recorded("7.2")
    poor = attrs.evolve(whole, devices=whole.devices - {driver})
    with pytest.raises(ParameterError, match=driver) as caught:
        plan(poor, {parameter: value})
    assert caught.value.name == parameter


def test_scsi_controller_is_planned_for_scsi_disks_only(plan: Planner) -> None:
    def controllers(made: MachinePlan) -> list[str]:
        return [device.driver for device in made.devices if device.id == "scsi0"]

    assert controllers(plan()) == []
    scsi = plan(parameters={"disk_type": "scsi-hd", "scsi_controller_type": "virtio-scsi-pci"}, disks=disks(3))
    assert controllers(scsi) == ["virtio-scsi-pci"]
    assert [disk.device.properties["scsi-id"] for disk in scsi.disks] == [0, 1, 2]


def test_missing_tap_is_a_programmer_error(plan: Planner) -> None:
    with pytest.raises(ProgrammerError, match="tap"):
        plan(nics=(Nic(mac="52:54:00:00:00:01"),))


def test_devices_follow_the_devices_that_they_refer_to(plan: Planner) -> None:
    made = plan(parameters={"use_guest_agent": True, "disk_type": "scsi-hd"}, nics=nics(2))
    buses = {made.topology.root_bus}
    for device in (*made.devices, *(disk.device for disk in made.disks), *(nic.device for nic in made.nics)):
        assert device.bus is None or device.bus in buses
        buses |= {str(device.id), f"{device.id}.0"}


def test_serial_console_needs_parameter_and_socket(plan: Planner) -> None:
    without_place = MachineSockets(control="/c", shared="/m", watch="/w")
    assert plan(sockets=without_place).chardevs == ()
    assert plan(parameters={"serial_console": False}).chardevs == ()
    assert [chardev.listener for chardev in plan().chardevs] == ["/run/web1.s"]


def test_kernel_arguments_name_the_console_only_if_there_is_one(plan: Planner) -> None:
    kernel = {"kernel_path": "/boot/vmlinuz"}
    with_console, without = plan(parameters=kernel).linux, plan(parameters={**kernel, "serial_console": False}).linux
    assert with_console is not None
    assert without is not None
    assert with_console.arguments == "root=/dev/vda1 ro console=ttyS0,38400"
    assert without.arguments == "root=/dev/vda1 ro"
