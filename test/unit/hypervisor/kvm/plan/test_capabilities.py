# SPDX-License-Identifier: BSD-2-Clause
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
        ("", EMULATED, "tcg", "max", "only emulates"),
        ("", ABSENT, "tcg", "max", "No such file"),
        ("enabled", REAL, "kvm", "host", "demanded"),
        ("enabled", EMULATED, "kvm", "qemu64", "only emulates"),
        ("disabled", REAL, "tcg", "max", "disabled by kvm_flag"),
    ],
)
def test_the_accelerator_and_why(
    recorded: Recorded, kvm_flag: str, host: KvmHost, name: str, cpu: str, reason: str
) -> None:
    chosen = choose_accelerator(kvm_flag, host, recorded("7.2"))
    assert (chosen.name, chosen.best_cpu) == (name, cpu)
    assert reason in chosen.reason


def test_kvm_that_is_demanded_and_cannot_be_used_is_refused(recorded: Recorded) -> None:
    with pytest.raises(ParameterError, match="demanded and cannot be used: /dev/kvm: No such file"):
        choose_accelerator("enabled", ABSENT, recorded("7.2"))


def test_a_program_without_kvm_does_without(recorded: Recorded) -> None:
    without = attrs.evolve(recorded("7.2"), has_kvm=False)
    assert "was built without KVM" in choose_accelerator("", REAL, without).reason
    with pytest.raises(ParameterError, match="was built without KVM"):
        choose_accelerator("enabled", REAL, without)


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_machines_are_found_by_name_and_by_short_name(recorded: Recorded, version: str) -> None:
    capabilities = recorded(version)
    machine = capabilities.find_machine("q35")
    assert machine is capabilities.find_machine(f"pc-q35-{version}")
    assert machine.chipset is Chipset.Q35
    assert capabilities.find_machine("pc").chipset is Chipset.PC


def test_a_machine_type_that_is_nearly_right_is_hinted_at(recorded: Recorded) -> None:
    with pytest.raises(ParameterError) as caught:
        recorded("7.2").find_machine("pc-q35-7.1")
    assert "pc-q35-7.2" in caught.value.close_matches


def test_plain_data_gives_the_same_capabilities_again(recorded: Recorded) -> None:
    capabilities = recorded("11.1")
    assert Capabilities.from_plain(json.loads(json.dumps(capabilities.to_plain()))) == capabilities
