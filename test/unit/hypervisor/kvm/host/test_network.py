# SPDX-License-Identifier: BSD-2-Clause
"""Taps come up, join bridges, and go."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from hvkit.hypervisor.kvm.host.network import (
    NetworkError,
    TapOptions,
    has_interface,
    is_bridge,
    make_tap,
    open_tap,
    route_to,
)

needs_tun = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="taps need root and /dev/net/tun, so they are NOT tested here",
)


@pytest.fixture
def name() -> str:
    return f"hvt{uuid4().hex[:10]}"


@pytest.fixture
def bridge() -> Iterator[str]:
    name = f"hvb{uuid4().hex[:10]}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", name], check=True)


@needs_tun
def test_tap_is_up_and_goes_with_its_file(name: str) -> None:
    tap = make_tap(name)
    try:
        assert tap.name == name
        assert int(Path(f"/sys/class/net/{name}/flags").read_text(), 16) & 1
        assert not os.get_inheritable(tap.queues[0])
    finally:
        tap.close()
    assert not has_interface(name)


@needs_tun
def test_tap_joins_a_bridge(name: str, bridge: str) -> None:
    assert is_bridge(bridge)
    tap = make_tap(name, bridge=bridge)
    assert os.listdir(f"/sys/class/net/{bridge}/brif") == [name]
    tap.close()
    assert os.listdir(f"/sys/class/net/{bridge}/brif") == []


@needs_tun
@pytest.mark.parametrize("vnet_hdr", [True, False])
def test_packets_carry_a_virtio_header_if_asked_for(name: str, vnet_hdr: bool) -> None:
    tap = make_tap(name, TapOptions(vnet_hdr=vnet_hdr))
    flags = int(Path(f"/sys/class/net/{name}/tun_flags").read_text(), 16)
    tap.close()
    assert bool(flags & 0x4000) is vnet_hdr


@needs_tun
def test_name_that_is_taken_is_refused_and_its_owner_undisturbed(name: str) -> None:
    tap = make_tap(name)
    with pytest.raises(NetworkError, match="there is an interface of that name already") as caught:
        make_tap(name)
    assert caught.value.interface == name
    assert has_interface(name)
    tap.close()


@needs_tun
def test_persistent_tap_of_somebody_else_is_not_taken_over(name: str) -> None:
    subprocess.run(["ip", "tuntap", "add", name, "mode", "tap"], check=True)
    try:
        with pytest.raises(NetworkError, match="already"):
            make_tap(name)
    finally:
        subprocess.run(["ip", "tuntap", "del", name, "mode", "tap"], check=True)


@needs_tun
def test_bridge_that_is_none_leaves_no_tap(name: str) -> None:
    with pytest.raises(NetworkError, match="cannot join bridge lo, which is not a bridge"):
        make_tap(name, bridge="lo")
    with pytest.raises(NetworkError, match="cannot join bridge hvnone, which does not exist"):
        make_tap(name, bridge="hvnone")
    assert not has_interface(name)


def test_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(NetworkError, match="a name has 1 to 15 characters"):
        make_tap("x" * 16)


@needs_tun
def test_tap_has_a_file_for_each_queue(name: str) -> None:
    tap = make_tap(name, TapOptions(queues=3))
    try:
        assert len(set(tap.queues)) == 3
        assert len(os.listdir(f"/sys/class/net/{name}/queues")) == 6
    finally:
        tap.close()
    assert not has_interface(name)


@needs_tun
def test_kernels_half_is_opened_for_each_queue_where_there_is_one(name: str) -> None:
    tap = make_tap(name, TapOptions(queues=2, vhost=True))
    tap.close()
    assert len(tap.vhosts) == (2 if os.path.exists("/dev/vhost-net") else 0)
    assert tap.descriptors == tap.queues + tap.vhosts


def _mtu(name: str) -> int:
    return int(Path(f"/sys/class/net/{name}/mtu").read_text())


@needs_tun
def test_packets_are_as_large_as_those_of_the_bridge(name: str, bridge: str) -> None:
    subprocess.run(["ip", "link", "set", bridge, "mtu", "1400"], check=True)
    tap = make_tap(name, bridge=bridge)
    own = make_tap(f"{name[:-1]}x", bridge=bridge, mtu=1300)
    try:
        assert (_mtu(tap.name), _mtu(own.name)) == (1400, 1300)
    finally:
        tap.close()
        own.close()


@needs_tun
def test_packets_no_interface_can_have_are_refused_and_leave_no_tap(name: str) -> None:
    with pytest.raises(NetworkError, match=f"{name}: cannot have packets of 5 bytes"):
        make_tap(name, mtu=5)
    assert not has_interface(name)


@pytest.fixture
def lasting_tap(name: str) -> Iterator[str]:
    subprocess.run(["ip", "tuntap", "add", name, "mode", "tap"], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", name], check=True)


@needs_tun
def test_tap_of_somebody_else_is_opened_and_stays(lasting_tap: str) -> None:
    open_tap(lasting_tap, TapOptions(vnet_hdr=False)).close()
    assert has_interface(lasting_tap)


@needs_tun
def test_tap_of_somebody_else_that_is_in_use_is_refused(lasting_tap: str) -> None:
    tap = open_tap(lasting_tap)
    try:
        with pytest.raises(NetworkError, match="somebody else has it open"):
            open_tap(lasting_tap)
    finally:
        tap.close()


def test_only_a_tap_that_exists_is_opened() -> None:
    with pytest.raises(NetworkError, match="hvnone: cannot be used: it does not exist"):
        open_tap("hvnone")
    with pytest.raises(NetworkError, match="lo: cannot be used: it is no tap"):
        open_tap("lo")


@needs_tun
@pytest.mark.parametrize(("address", "family"), [("198.51.100.7", "-4"), ("2001:db8::7", "-6")])
def test_routes_to_a_tap_go_with_it(name: str, address: str, family: str) -> None:
    tap = make_tap(name)
    try:
        route_to(name, address, table="4711")
        routes = subprocess.run(["ip", family, "route", "show", "table", "4711"], capture_output=True, text=True)
        assert f"{address} dev {name}" in routes.stdout
        assert Path(f"/proc/sys/net/ipv4/conf/{name}/proxy_arp").read_text() == "1\n"
    finally:
        tap.close()
    routes = subprocess.run(["ip", family, "route", "show", "table", "4711"], capture_output=True, text=True)
    assert name not in routes.stdout


@needs_tun
def test_route_that_the_kernel_refuses_is_quoted(name: str) -> None:
    tap = make_tap(name)
    try:
        with pytest.raises(NetworkError, match=f"{name}: ip failed .*no-such-table"):
            route_to(name, "198.51.100.7", table="no-such-table")
    finally:
        tap.close()
