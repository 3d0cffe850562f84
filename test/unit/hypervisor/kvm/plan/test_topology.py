# SPDX-License-Identifier: BSD-2-Clause
"""Buses, bus addresses and their allocation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.topology import MAX_PORTS, Address, BusKind, Chipset, FixedSlot, Topology

TOPOLOGIES = st.builds(
    Topology,
    chipset=st.sampled_from(Chipset),
    port_count=st.integers(0, 40),
    scsi_targets=st.integers(0, 16),
)


@given(TOPOLOGIES, st.sampled_from(BusKind))
def test_allocate_returns_every_address_once_in_order(topology: Topology, kind: BusKind) -> None:
    used: list[Address] = []
    for expected in topology.places(kind):
        assert topology.allocate(kind, used) == expected
        used.append(expected)
    assert len(set(used)) == len(used)
    with pytest.raises(ParameterError, match=f"all {len(used)} {kind.name} addresses .* are in use"):
        topology.allocate(kind, used)


@given(TOPOLOGIES, st.sampled_from(BusKind), st.data())
def test_allocate_returns_a_free_address(topology: Topology, kind: BusKind, data: st.DataObject) -> None:
    places = list(topology.places(kind))
    used = data.draw(st.sets(st.sampled_from(places), max_size=len(places) - 1)) if places else set()
    if places:
        address = topology.allocate(kind, used)
        assert address in places
        assert address not in used


@given(TOPOLOGIES)
def test_addresses_of_builtin_devices_ports_and_disks_never_collide(topology: Topology) -> None:
    fixed = [topology.fixed(slot).properties["addr"] for slot in FixedSlot]
    ports = [port.properties["addr"] for port in topology.root_ports]
    slots = [place.properties["addr"] for place in topology.places(BusKind.PCI) if place.bus == topology.root_bus]
    taken = [address.split(".")[0] for address in fixed + slots] + sorted({port.split(".")[0] for port in ports})
    assert len(set(taken)) == len(taken) or topology.chipset is Chipset.PC
    assert len(set(fixed + slots)) == len(fixed + slots)


@given(st.integers(0, MAX_PORTS))
def test_root_ports_have_unique_ids_addresses_and_chassis(count: int) -> None:
    ports = Topology(chipset=Chipset.Q35, port_count=count).root_ports
    assert len({port.id for port in ports}) == count
    assert len({port.properties["addr"] for port in ports}) == count
    assert len({port.properties["chassis"] for port in ports}) == count
    for port in ports:
        is_first_of_slot = port.properties["addr"].endswith(".0")
        assert port.properties.get("multifunction", False) is is_first_of_slot


def test_topology_rejects_more_root_ports_than_fit() -> None:
    with pytest.raises(ParameterError, match=f"more than the {MAX_PORTS} that fit"):
        Topology(chipset=Chipset.Q35, port_count=MAX_PORTS + 1)


def test_allocate_on_a_full_q35_suggests_hotplug_ports() -> None:
    with pytest.raises(ParameterError, match="increase hotplug_ports"):
        Topology(chipset=Chipset.Q35, port_count=0).allocate(BusKind.PCI, ())


def test_chipsets_have_the_expected_number_of_addresses() -> None:
    pc, q35 = Topology(chipset=Chipset.PC), Topology(chipset=Chipset.Q35)
    assert [(place.bus, place.unit) for place in pc.places(BusKind.IDE)] == [
        ("ide.0", 0),
        ("ide.0", 1),
        ("ide.1", 0),
        ("ide.1", 1),
    ]
    assert len(list(q35.places(BusKind.IDE))) == 6
    assert len(list(pc.places(BusKind.PCI))) == 20


def test_address_has_the_properties_of_its_bus() -> None:
    assert Address(BusKind.PCI, "pci.0", 12).properties == {"addr": "0xc"}
    assert Address(BusKind.SCSI, "scsi0.0", 3).properties == {"channel": 0, "scsi-id": 3, "lun": 0}
    assert Address(BusKind.IDE, "ide.1", 1).properties == {"unit": 1}
