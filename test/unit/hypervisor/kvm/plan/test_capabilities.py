# SPDX-License-Identifier: BSD-2-Clause
"""Capabilities of QEMU programs, and the choice of the accelerator."""

from __future__ import annotations

import json
from collections.abc import Callable

import attrs
import pytest

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities, KvmHost, choose_accelerator
from hvkit.hypervisor.kvm.plan.topology import Chipset

REAL = KvmHost()
EMULATED = KvmHost(is_emulated=True)
ABSENT = KvmHost(problem="/dev/kvm: No such file or directory")

Recorded = Callable[[str], Capabilities]


@pytest.mark.parametrize(
    ("kvm_flag", "host", "name", "cpu", "reason"),
    [
        ("", REAL, "kvm", "host", "works"),
        ("", EMULATED, "tcg", "max", "no hardware virtualization"),
        ("", ABSENT, "tcg", "max", "No such file"),
        ("enabled", REAL, "kvm", "host", "requires KVM"),
        ("enabled", EMULATED, "kvm", "qemu64", "no hardware virtualization"),
        ("disabled", REAL, "tcg", "max", "kvm_flag disables KVM"),
    ],
)
def test_accelerator_is_chosen_with_a_reason(
    recorded: Recorded, kvm_flag: str, host: KvmHost, name: str, cpu: str, reason: str
) -> None:
    chosen = choose_accelerator(kvm_flag, host, recorded("7.2"))
    assert (chosen.name, chosen.best_cpu) == (name, cpu)
    assert reason in chosen.reason


def test_required_kvm_that_is_not_usable_is_refused(recorded: Recorded) -> None:
    with pytest.raises(ParameterError, match="KVM is required and not usable: /dev/kvm: No such file"):
        choose_accelerator("enabled", ABSENT, recorded("7.2"))


def test_program_without_kvm_uses_tcg(recorded: Recorded) -> None:
    without = attrs.evolve(recorded("7.2"), has_kvm=False)
    assert "was built without KVM" in choose_accelerator("", REAL, without).reason
    with pytest.raises(ParameterError, match="was built without KVM"):
        choose_accelerator("enabled", REAL, without)


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_find_machine_accepts_name_and_alias(recorded: Recorded, version: str) -> None:
    capabilities = recorded(version)
    machine = capabilities.find_machine("q35")
    assert machine is capabilities.find_machine(f"pc-q35-{version}")
    assert machine.chipset is Chipset.Q35
    assert capabilities.find_machine("pc").chipset is Chipset.PC


def test_find_machine_suggests_a_similar_name(recorded: Recorded) -> None:
    with pytest.raises(ParameterError) as caught:
        recorded("7.2").find_machine("pc-q35-7.1")
    assert "pc-q35-7.2" in caught.value.close_matches


def test_capabilities_survive_conversion_to_plain_data(recorded: Recorded) -> None:
    capabilities = recorded("11.1")
    assert Capabilities.from_plain(json.loads(json.dumps(capabilities.to_plain()))) == capabilities
