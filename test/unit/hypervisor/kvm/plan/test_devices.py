# SPDX-License-Identifier: BSD-2-Clause
"""Descriptions of disks and NICs."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvkit.errors import ProgrammerError
from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.host.network import MAX_NAME
from hvkit.hypervisor.kvm.plan.devices import (
    DiskSettings,
    TapFiles,
    build_disk,
    build_nic,
    default_tap_name,
    disk_id,
    nic_id,
    tap_name,
)
from hvkit.hypervisor.kvm.plan.topology import Address, BusKind
from hvkit.hypervisor.model import Disk, Nic
from hvkit.qmp.converter import unstructure
from hvkit.qmp.schema import BlockdevAdd, DeviceAdd, NetdevAdd

PCI = Address(BusKind.PCI, "port0", 0)
DISK = Disk(path="/srv/a.img")
NIC = Nic(mac="52:54:00:00:00:01", mode="user")


def settings(**changes: Any) -> DiskSettings:
    return DiskSettings(**{"type": "paravirtual", "cache": "default", "aio": "threads", "discard": "ignore", **changes})


@given(st.uuids())
def test_ids_are_valid_in_qemu(uuid: UUID) -> None:
    disk = build_disk(Disk(path="/a", uuid=uuid), settings(), PCI, is_block_device=False)
    for name in (disk_id(uuid), nic_id(uuid), *disk.node_names):
        assert re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name)
    assert len({disk_id(uuid), nic_id(uuid), *disk.node_names}) == 4


def test_ids_of_consecutive_uuids_differ() -> None:
    assert len({disk_id(UUID(int=number)) for number in range(100)}) == 100


def test_ids_do_not_depend_on_the_address() -> None:
    other = Address(BusKind.PCI, "port7", 0)
    here = build_disk(DISK, settings(), PCI, is_block_device=False)
    there = build_disk(DISK, settings(), other, is_block_device=False)
    assert (here.device.id, here.nodes) == (there.device.id, there.nodes)


def test_disk_description_serves_hotplug() -> None:
    disk = build_disk(DISK, settings(), PCI, is_block_device=False)
    for node in disk.nodes:
        assert unstructure(BlockdevAdd(node)) == unstructure(node)
    assert isinstance(disk.device, DeviceAdd)
    assert unstructure(disk.device)["drive"] == disk.node_names[-1]


def test_nic_description_serves_hotplug() -> None:
    nic = build_nic(Nic(mac=NIC.mac), "paravirtual", PCI, tap=TapFiles(queues=("sent-by-getfd",)))
    assert unstructure(NetdevAdd(nic.netdev)) == {"type": "tap", "id": nic.netdev.id, "fd": "sent-by-getfd"}
    assert unstructure(nic.device)["netdev"] == nic.netdev.id


def test_format_node_uses_the_file_node() -> None:
    file, format_ = build_disk(DISK, settings(), PCI, is_block_device=False).nodes
    assert unstructure(format_)["file"] == file.node_name


@pytest.mark.parametrize(("is_block_device", "driver"), [(False, "file"), (True, "host_device")])
def test_file_and_block_device_have_different_protocol_nodes(is_block_device: bool, driver: str) -> None:
    disk = build_disk(DISK, settings(), PCI, is_block_device=is_block_device)
    assert disk.nodes[0].driver == driver


@pytest.mark.parametrize("format_", ["raw", "qcow2"])
def test_format_of_a_disk_is_explicit(format_: Any) -> None:
    disk = build_disk(Disk(path="/a", format=format_), settings(), PCI, is_block_device=False)
    assert disk.nodes[-1].driver == format_


@pytest.mark.parametrize(
    ("cache", "nodes", "device"),
    [
        ("default", None, None),
        ("none", {"direct": True, "no-flush": False}, "on"),
        ("writethrough", {"direct": False, "no-flush": False}, "off"),
        ("writeback", {"direct": False, "no-flush": False}, "on"),
    ],
)
def test_cache_mode_sets_nodes_and_write_cache(cache: str, nodes: Any, device: str | None) -> None:
    disk = build_disk(DISK, settings(cache=cache), PCI, is_block_device=False)
    assert [unstructure(node).get("cache") for node in disk.nodes] == [nodes, nodes]
    assert unstructure(disk.device).get("write-cache") == device


def test_read_only_disk_has_read_only_nodes() -> None:
    disk = build_disk(Disk(path="/a", read_only=True), settings(), PCI, is_block_device=False)
    assert [(node.read_only, node.auto_read_only) for node in disk.nodes] == [(True, False), (True, False)]


def test_read_only_ide_disk_is_refused() -> None:
    with pytest.raises(ParameterError, match="IDE"):
        build_disk(
            Disk(path="/a", read_only=True),
            settings(type="ide"),
            Address(BusKind.IDE, "ide.0", 0),
            is_block_device=False,
        )


def test_disk_on_a_bus_of_another_kind_is_a_programmer_error() -> None:
    with pytest.raises(ProgrammerError, match="scsi-hd"):
        build_disk(DISK, settings(type="scsi-hd"), PCI, is_block_device=False)


@pytest.mark.parametrize(("nic", "tap"), [(NIC, TapFiles(queues=("7",))), (Nic(mac=NIC.mac), None)])
def test_tap_that_contradicts_the_mode_is_a_programmer_error(nic: Nic, tap: TapFiles | None) -> None:
    with pytest.raises(ProgrammerError, match="tap"):
        build_nic(nic, "paravirtual", PCI, tap=tap)


def _netdev(**tap: tuple[str, ...]) -> dict[str, Any]:
    netdev: dict[str, Any] = unstructure(build_nic(Nic(mac=NIC.mac), "paravirtual", PCI, tap=TapFiles(**tap)).netdev)
    return netdev


def test_netdev_uses_other_members_for_several_queues() -> None:
    assert _netdev(queues=("7",))["fd"] == "7"
    assert _netdev(queues=("7", "8"))["fds"] == "7:8"
    assert "vhost" not in _netdev(queues=("7",))


def test_netdev_has_a_vhost_device_for_each_queue() -> None:
    one = _netdev(queues=("7",), vhosts=("9",))
    two = _netdev(queues=("7", "8"), vhosts=("9", "10"))
    assert (one["vhost"], one["vhostfd"]) == (True, "9")
    assert (two["vhost"], two["vhostfds"]) == (True, "9:10")


def test_nic_with_several_queues_has_interrupt_vectors_for_each() -> None:
    nic = build_nic(Nic(mac=NIC.mac, mtu=9000), "paravirtual", PCI, tap=TapFiles(queues=("7", "8", "9")))
    assert nic.device.properties is not None
    assert (nic.device.properties["mq"], nic.device.properties["vectors"]) == (True, 8)
    assert nic.device.properties["host_mtu"] == 9000


def test_boot_rom_is_loaded_for_bootable_nics_only() -> None:
    assert unstructure(build_nic(NIC, "paravirtual", PCI).device)["romfile"] == ""
    booted = unstructure(build_nic(NIC, "paravirtual", PCI, boot_index=1).device)
    assert booted["bootindex"] == 1
    assert "romfile" not in booted


def test_the_serial_number_of_a_disk_fits_and_tells_disks_apart() -> None:
    serials = {
        unstructure(build_disk(Disk(path="/a", uuid=uuid4()), settings(), PCI, is_block_device=False).device)["serial"]
        for _ in range(10)
    }
    assert len(serials) == 10
    assert all(len(serial) <= 20 for serial in serials)


def test_tap_name_derives_from_the_uuid_unless_the_nic_has_a_name() -> None:
    uuid = UUID("00112233-4455-6677-8899-aabbccddeeff")
    assert tap_name(Nic(mac=NIC.mac, uuid=uuid)) == default_tap_name(uuid) == "hv001122334455"
    assert len(default_tap_name(uuid4())) <= MAX_NAME
    assert tap_name(Nic(mac=NIC.mac, ifname="web1-eth0")) == "web1-eth0"
    assert tap_name(Nic(mac=NIC.mac, mode="user")) == ""
