# SPDX-License-Identifier: BSD-2-Clause
"""Tests of the validation of parameters against the capabilities of a QEMU program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.lifecycle.validation import check_program
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities
from hvkit.hypervisor.kvm.plan.parameters import TABLE

Recorded = Callable[[str], Capabilities]

SPICE = {"spice_bind": "127.0.0.1", "spice_port": 5930}


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"machine_version": "pc", "disk_type": "ide", "nic_type": "e1000"},
        {"numa_nodes": 3, "cpu_cores": 2, "hugepages": "1G"},
        {"cpu_sockets": 2, "cpu_cores": 3, "cpu_mask": "0:0:0:0:0:0"},
        {"vcpus_max": 6, "cpu_sockets": 2, "cpu_mask": "0:0:0:0:0:0", "memory_max_mib": 2048},
        {"memory_max_mib": 1023},  # an odd maximum suits an instance that starts with an odd number of MiB
        {"numa_nodes": 3, "memory_max_mib": 2048},
        {"virtio_rng": True, "soundhw": "hda", "usb_devices": "keyboard", **SPICE},
    ],
)
def test_check_program_accepts_supported_parameters(
    recorded: Recorded, version: str, parameters: dict[str, Any]
) -> None:
    check_program(TABLE.check_syntax({"kvm_flag": "disabled", **parameters}), recorded(version))


@pytest.mark.parametrize(
    ("parameters", "lacks", "about"),
    [
        ({"disk_type": "ide"}, {"devices": "ide-hd"}, "disk_type"),
        ({"nic_type": "rtl8139"}, {"devices": "rtl8139"}, "nic_type"),
        ({"disk_type": "scsi-hd"}, {"devices": "lsi53c895a"}, "scsi_controller_type"),
        ({"cdrom_image_path": "/srv/cd.iso", "cdrom_disk_type": "ide"}, {"devices": "ide-cd"}, "cdrom_disk_type"),
        ({"vga": "cirrus"}, {"devices": "cirrus-vga"}, "vga"),
        ({"soundhw": "ac97"}, {"devices": "AC97"}, "soundhw"),
        ({"usb_devices": "tablet"}, {"devices": "usb-tablet"}, "usb_devices"),
        ({"virtio_rng": True}, {"devices": "virtio-rng-pci"}, "virtio_rng"),
        ({"memory_max_mib": 2048}, {"devices": "virtio-mem-pci"}, "memory_hotplug"),
        ({"vsock_cid": 3}, {"devices": "vhost-vsock-pci"}, "vsock_cid"),
        ({"tpm": True}, {"devices": "tpm-crb"}, "tpm"),
        (SPICE, {"commands": "query-spice"}, "spice_bind"),
        ({"sandbox": "enabled"}, {"options": "sandbox.elevateprivileges"}, "sandbox"),
        ({"cpu_type": "qemu64"}, {"cpu_models": "qemu64"}, "cpu_type"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_check_program_names_unsupported_parameter(
    recorded: Recorded, parameters: dict[str, Any], lacks: dict[str, str], about: str
) -> None:
    filled = TABLE.check_syntax({"kvm_flag": "disabled", **parameters})
    program = recorded("7.2")
    check_program(filled, program)
    without: dict[str, Any] = {member: getattr(program, member) - {name} for member, name in lacks.items()}
    with pytest.raises(ParameterError) as caught:
        check_program(filled, attrs.evolve(program, **without))
    assert caught.value.name == about


def test_check_program_rejects_topology_without_valid_vcpu_count(recorded: Recorded) -> None:
    shape = {"cpu_sockets": 2, "cpu_cores": 2, "cpu_threads": 1}
    for wrong, problem in (({"cpu_mask": "0:1:0"}, "cannot be arranged"), ({"numa_nodes": 3}, "cannot be divided")):
        filled = TABLE.check_syntax({"kvm_flag": "disabled", **shape, **wrong})
        with pytest.raises(ParameterError, match=problem):
            check_program(filled, recorded("7.2"))
