# SPDX-License-Identifier: BSD-2-Clause
"""Names and order of the block nodes of overlays."""

from __future__ import annotations

from uuid import uuid4

from hvkit.hypervisor.kvm.host.runtime import DeviceRecord
from hvkit.hypervisor.kvm.plan.topology import Address, BusKind
from hvkit.hypervisor.kvm.storage.chains import deletion_order, is_overlay_node, overlay_nodes


def make_record(*overlays: str) -> DeviceRecord:
    address = Address(kind=BusKind.PCI, bus="pcie.0", unit=5)
    return DeviceRecord(uuid=uuid4(), device="disk-1", backends=("disk-1-f", "disk-1-n", *overlays), address=address)


def test_overlay_nodes_are_numbered_from_the_image() -> None:
    assert overlay_nodes(make_record()) == ("disk-1-o1f", "disk-1-o1")
    assert overlay_nodes(make_record("disk-1-o1f", "disk-1-o1")) == ("disk-1-o2f", "disk-1-o2")


def test_overlay_nodes_of_other_disks_are_not_recognized() -> None:
    record = make_record()
    nodes = ("disk-1-o1", "disk-1-o12f", "disk-1-n", "disk-1-f", "disk-10-o1", "disk-1-o", "disk-1-o1g")
    assert [node for node in nodes if is_overlay_node(record, node)] == ["disk-1-o1", "disk-1-o12f"]


def test_deletion_order_is_from_top_with_format_before_file() -> None:
    nodes = ["disk-1-o2f", "disk-1-o10", "disk-1-o1", "disk-1-o2", "disk-1-o10f", "disk-1-o1f"]
    expected = ["disk-1-o10", "disk-1-o10f", "disk-1-o2", "disk-1-o2f", "disk-1-o1", "disk-1-o1f"]
    assert sorted(nodes, key=deletion_order) == expected
