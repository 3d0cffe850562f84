# SPDX-License-Identifier: BSD-2-Clause
"""Records of the persisted state."""

from __future__ import annotations

import pytest

from hvkit.hypervisor import Disk, Nic
from hvkit.hypervisor.kvm.host.runtime import DeviceRecord, Pending
from hvkit.hypervisor.kvm.plan.devices import DiskSettings, TapFiles, build_disk, build_nic, netdev_id, tap_name
from hvkit.hypervisor.kvm.plan.topology import Address, BusKind

ADDRESS = Address(BusKind.PCI, "port0", 0)
SETTINGS = DiskSettings(type="paravirtual", cache="default", aio="threads", discard="ignore")
MAC = "52:54:00:00:00:01"


def test_record_of_a_disk_matches_its_plan() -> None:
    planned = build_disk(Disk(path="/srv/a.img"), SETTINGS, ADDRESS, is_block_device=False)
    record = DeviceRecord.of_disk(planned, pending=Pending.ADD, awaits_limits=True)
    assert (record.uuid, record.device, record.address) == (planned.uuid, planned.device.id, ADDRESS)
    assert record.backends == planned.node_names
    assert (record.pending, record.awaits_limits) == (Pending.ADD, True)
    assert DeviceRecord.of_disk(planned).pending is None


def test_record_of_a_nic_matches_its_plan() -> None:
    nic = Nic(mac=MAC)
    planned = build_nic(nic, "paravirtual", ADDRESS, tap=TapFiles(queues=("7",)))
    record = DeviceRecord.of_nic(nic, ADDRESS, script="/etc/script", pending=Pending.ADD, fallback=nic)
    assert (record.uuid, record.device, record.address) == (planned.uuid, planned.device.id, ADDRESS)
    assert record.backends == (planned.netdev.id,) == (netdev_id(nic.uuid),)
    assert (record.ifname, record.script) == (tap_name(nic), "/etc/script")
    assert (record.pending, record.fallback) == (Pending.ADD, nic)


@pytest.mark.parametrize("script", ["", "/etc/script"])
def test_record_of_a_nic_without_a_tap_has_no_script(script: str) -> None:
    record = DeviceRecord.of_nic(Nic(mac=MAC, mode="user"), ADDRESS, script=script)
    assert (record.ifname, record.script) == ("", "")
