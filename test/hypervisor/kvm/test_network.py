# SPDX-License-Identifier: BSD-2-Clause
"""Taps come up, join bridges, and go."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from hvkit.hypervisor.kvm.network import MAX_NAME, NetworkError, has_interface, is_bridge, make_tap, plan_tap_name

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


def test_name_of_a_tap_is_short_and_always_the_same() -> None:
    uuid = UUID("00112233-4455-6677-8899-aabbccddeeff")
    assert plan_tap_name(uuid) == "hv001122334455"
    assert len(plan_tap_name(uuid4())) <= MAX_NAME


@needs_tun
def test_tap_is_up_and_goes_with_its_file(name: str) -> None:
    tap = make_tap(name)
    try:
        assert tap.name == name
        assert int(Path(f"/sys/class/net/{name}/flags").read_text(), 16) & 1
        assert not os.get_inheritable(tap.descriptor)
    finally:
        os.close(tap.descriptor)
    assert not has_interface(name)


@needs_tun
def test_tap_joins_a_bridge(name: str, bridge: str) -> None:
    assert is_bridge(bridge)
    tap = make_tap(name, bridge=bridge)
    assert os.listdir(f"/sys/class/net/{bridge}/brif") == [name]
    os.close(tap.descriptor)
    assert os.listdir(f"/sys/class/net/{bridge}/brif") == []


@needs_tun
@pytest.mark.parametrize("vnet_hdr", [True, False])
def test_packets_carry_a_virtio_header_if_asked_for(name: str, vnet_hdr: bool) -> None:
    tap = make_tap(name, vnet_hdr=vnet_hdr)
    flags = int(Path(f"/sys/class/net/{name}/tun_flags").read_text(), 16)
    os.close(tap.descriptor)
    assert bool(flags & 0x4000) is vnet_hdr


@needs_tun
def test_name_that_is_taken_is_refused_and_its_owner_undisturbed(name: str) -> None:
    tap = make_tap(name)
    with pytest.raises(NetworkError, match="there is an interface of that name already") as caught:
        make_tap(name)
    assert caught.value.interface == name
    assert has_interface(name)
    os.close(tap.descriptor)


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
