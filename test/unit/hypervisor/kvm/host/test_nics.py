# SPDX-License-Identifier: BSD-2-Clause
"""NICs: options of their taps, and members that contradict their mode."""

from __future__ import annotations

from typing import Any

import pytest

from hvkit.hypervisor import Nic, ParameterError
from hvkit.hypervisor.kvm.host.network import TapOptions
from hvkit.hypervisor.kvm.host.nics import plan_tap_options
from hvkit.hypervisor.kvm.plan.parameters import TABLE

MAC = "52:54:00:12:34:56"


def test_queues_and_vhost_are_for_paravirtual_nics_only() -> None:
    parameters = TABLE.fill({"virtio_net_queues": 4, "vnet_hdr": False})
    assert plan_tap_options(parameters) == TapOptions(queues=4, vnet_hdr=False, vhost=True)
    parameters = TABLE.fill({"virtio_net_queues": 4, "nic_type": "e1000"})
    assert plan_tap_options(parameters) == TapOptions(queues=1, vnet_hdr=True, vhost=False)


@pytest.mark.parametrize(
    ("members", "field", "modes"),
    [
        ({"mode": "user", "link": "br0"}, "link", "tap or routed"),
        ({"mode": "user", "mtu": 1500}, "mtu", "tap or routed"),
        ({"mode": "tap", "ip": "198.51.100.7"}, "ip", "routed"),
        ({"mode": "external", "ifname": "tap0", "link": "br0"}, "link", "tap or routed"),
    ],
)
def test_nic_member_without_effect_in_its_mode_is_refused(members: dict[str, Any], field: str, modes: str) -> None:
    with pytest.raises(ParameterError, match=f"only used with mode {modes}") as caught:
        Nic(mac=MAC, **members)
    assert caught.value.name == f"Nic.{field}"


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"mode": "external"}, "ifname"),
        ({"mode": "bridged"}, "mode"),
        ({"mode": "routed", "ip": "198.51.100.7/24"}, "ip"),
        ({"mode": "routed", "ip": "fe80::1%eth0"}, "ip"),
        ({"mode": "tap", "mtu": 67}, "mtu"),
        ({"mode": "tap", "mtu": True}, "mtu"),
    ],
)
def test_invalid_nic_member_is_refused(members: dict[str, Any], field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Nic(mac=MAC, **members)
    assert caught.value.name == f"Nic.{field}"
