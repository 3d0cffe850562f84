# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures of QEMU programs, machine plans, hypervisors and instances."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import attrs
import pytest

from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.probe import probe_capabilities
from hvkit.hypervisor.kvm.plan.capabilities import Accelerator, Capabilities
from hvkit.hypervisor.kvm.plan.machine import MachinePlan
from hvkit.hypervisor.kvm.plan.parameters import (
    CDROM_DRIVERS,
    DISK_DRIVERS,
    DISPLAY_DRIVERS,
    NIC_DRIVERS,
    NIC_TYPES,
    SCSI_CONTROLLERS,
    SOUND_DRIVERS,
    TABLE,
    USB_DRIVERS,
)
from hvkit.hypervisor.kvm.plan.planning import plan_machine
from hvkit.hypervisor.kvm.plan.request import MachineRequest
from hvkit.hypervisor.kvm.plan.resources import HostResources, MachineSockets
from hvkit.hypervisor.model import Disk, Instance, Nic
from hvkit.testing.simulator import write_executable
from hvkit.testing.toy_guest import write_disk

DATA: Final = Path(__file__).parent / "data"

#: With HVKIT_RECORD=1 tests record their results instead of comparing them with the recorded ones.
RECORDING: Final = os.environ.get("HVKIT_RECORD") == "1"

INSTANCE_UUID: Final = UUID("6a1e8a52-3c1f-4d8e-9b51-0f6f1b1d2c3e")
DISK_UUID: Final = UUID("d15c0000-0000-4000-8000-000000000001")
NIC_UUID: Final = UUID("00c00000-0000-4000-8000-000000000001")

#: The names to record from the lists of a program: those that a plan may use, and one other of each kind.
_RECORDED_DEVICES: Final = {
    *DISK_DRIVERS.values(),
    *DISPLAY_DRIVERS.values(),
    *(NIC_DRIVERS.get(name, name) for name in NIC_TYPES),
    *(driver for driver, _ in SCSI_CONTROLLERS.values()),
    *CDROM_DRIVERS.values(),
    *USB_DRIVERS.values(),
    *(driver for drivers in SOUND_DRIVERS.values() for driver in drivers),
    *("virtio-rng-pci", "virtio-mem-pci", "vhost-vsock-pci", "tpm-crb"),
    *("virtio-balloon-pci", "virtio-serial-pci", "virtserialport", "isa-serial", "pcie-root-port", "pvpanic"),
}
_RECORDED_OBJECTS: Final = {"memory-backend-file", "monitor-qmp"}
_RECORDED_COMMANDS: Final = {"device_add", "blockdev-add", "netdev_add", "query-accelerators", "query-spice"}
_RECORDED_OPTIONS: Final = {"sandbox.elevateprivileges", "run-with.user", "run-with.chroot"}
_RECORDED_CPU_MODELS: Final = {"host", "max", "qemu64", "Skylake-Server"}


def trim(capabilities: Capabilities) -> Capabilities:
    """Reduce the capabilities of a program to the part that is recorded and that does not depend on its build."""
    version = ".".join(map(str, capabilities.version[:2]))
    return attrs.evolve(
        capabilities,
        binary="/usr/bin/qemu-system-x86_64",
        package="",
        version=(*capabilities.version[:2], 0),
        machines=tuple(
            sorted(
                (each for each in capabilities.machines if each.name.endswith(version) or each.name == "microvm"),
                key=lambda machine: machine.name,
            )
        ),
        devices=capabilities.devices & _RECORDED_DEVICES,
        objects=capabilities.objects & _RECORDED_OBJECTS,
        commands=capabilities.commands & _RECORDED_COMMANDS,
        cpu_models=capabilities.cpu_models & _RECORDED_CPU_MODELS,
        options=capabilities.options & _RECORDED_OPTIONS,
    )


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], Capabilities]:
    """Returns the recorded capabilities of a QEMU version, such as 7.2."""
    return lambda version: Capabilities.from_plain(json.loads((DATA / f"capabilities-{version}.json").read_text()))


@pytest.fixture(scope="session")
def as_recorded() -> Callable[[Capabilities], Capabilities]:
    """Reduces the capabilities of a program to the recorded part; with HVKIT_RECORD=1 records it."""

    def cut(capabilities: Capabilities) -> Capabilities:
        kept = trim(capabilities)
        file = DATA / f"capabilities-{kept.version[0]}.{kept.version[1]}.json"
        if RECORDING:
            file.write_text(json.dumps(kept.to_plain(), indent=1) + "\n")
        return kept

    return cut


def real_binaries() -> list[str]:
    """Return the QEMU programs for tests of command lines: $HVKIT_QEMU_BINARIES, or the one under test."""
    named = os.environ.get("HVKIT_QEMU_BINARIES")
    if named:
        return named.split(":")
    return [shutil.which(os.environ.get("HVKIT_QEMU") or "qemu-system-x86_64") or "qemu-system-x86_64"]


@pytest.fixture(scope="session", params=real_binaries(), ids=lambda path: path.replace("/", "_"))
def real(request: pytest.FixtureRequest) -> Capabilities:
    """The capabilities of each real program. Tests that use it need the marker `qemu`."""
    return probe_capabilities(request.param)


#: Plans a machine; see `plan`.
Planner = Callable[..., MachinePlan]


@pytest.fixture(scope="session")
def plan(recorded: Callable[[str], Capabilities]) -> Planner:
    """Plan a machine with one disk and one NIC of mode user, changed by keyword arguments.

    Keyword arguments are members of `Instance`, `MachineRequest` or `HostResources`.
    """
    default_accelerator = Accelerator(name="tcg", best_cpu="max", reason="required by the test")
    default_disk = Disk(path="/srv/disk.img", uuid=DISK_UUID)
    default_nic = Nic(mac="52:54:00:00:00:01", mode="user", uuid=NIC_UUID)
    default_sockets = MachineSockets(
        control="/run/web1.c",
        shared="/run/web1.m",
        watch="/run/web1.w",
        serial="/run/web1.s",
        agent="/run/web1.a",
        pid_file="/run/web1.pid",
    )

    defaults: dict[str, Any] = {"disks": (default_disk,), "nics": (default_nic,), "memory_mib": 128, "vcpus": 1}

    def make(
        capabilities: Capabilities | str = "7.2", parameters: Mapping[str, Any] | None = None, **members: Any
    ) -> MachinePlan:
        members = {**defaults, "sockets": default_sockets, **members}

        def take(*names: str) -> dict[str, Any]:
            taken = {name: members.pop(name, None) for name in names}
            return {name: value for name, value in taken.items() if value is not None}

        resources = HostResources(**take("sockets", "taps", "disk_files", "files", "confinement"))
        request = MachineRequest(
            parameters=TABLE.check_syntax(parameters or {}),
            capabilities=recorded(capabilities) if isinstance(capabilities, str) else capabilities,
            accelerator=members.pop("accelerator", None) or default_accelerator,
            block_devices=frozenset(members.pop("block_devices", ())),
            **take("firmware", "placement"),
            instance=Instance(name="web1", uuid=INSTANCE_UUID, **members),
        )
        return plan_machine(request, resources)

    return make


@pytest.fixture
def kvm(tmp_path: Path) -> Iterator[KvmHypervisor]:
    """A KVM hypervisor with its own run_dir. Its instances are stopped and cleaned up after the test."""
    hypervisor = KvmHypervisor(run_dir=tmp_path / "run", lock_timeout_s=5.0)
    yield hypervisor
    for name in hypervisor.list_instances():
        hypervisor.stop_instance(name, force=True)
        hypervisor.cleanup_instance(name)
    locks = {"locks/.reserving", "locks/.watching"}
    assert everything_below(hypervisor.run_dir) <= {"cache", "instances", "locks", "sockets", *locks}


def everything_below(run_dir: Path) -> set[str]:
    """Return all paths in a run directory except the cache of QEMU capabilities."""
    found = {str(path.relative_to(run_dir)) for path in run_dir.rglob("*")}
    return {path for path in found if not path.startswith("cache/")}


#: Returns an instance; its default name is web1.
MakeInstance = Callable[..., Instance]


@pytest.fixture
def make_toy(tmp_path: Path, qemu_binary: str) -> MakeInstance:
    """Returns instances of the toy guest for real QEMU, each with its own disk."""

    def make(name: str = "web1", *, parameters: Mapping[str, object] | None = None, **members: Any) -> Instance:
        if "disks" not in members:
            members["disks"] = (Disk(path=str(write_disk(tmp_path / f"{uuid4()}.img"))),)
        members.setdefault("memory_mib", 32)
        return Instance(name=name, parameters={"kvm_path": qemu_binary, **(parameters or {})}, **members)

    return make


@pytest.fixture
def make_simulated(tmp_path: Path) -> Callable[..., MakeInstance]:
    """Takes members of `Behavior`, and returns a function that makes instances for the simulated QEMU."""

    def with_behavior(**behavior: Any) -> MakeInstance:
        directory = tmp_path / f"simulator-{uuid4()}"
        directory.mkdir()
        executable = write_executable(directory, **behavior)

        def make(name: str = "web1", *, parameters: Mapping[str, object] | None = None, **members: Any) -> Instance:
            members.setdefault("memory_mib", 32)
            return Instance(name=name, parameters={"kvm_path": str(executable), **(parameters or {})}, **members)

        return make

    return with_behavior
