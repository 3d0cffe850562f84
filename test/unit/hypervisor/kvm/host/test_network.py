# SPDX-License-Identifier: BSD-2-Clause
"""Tap interfaces, routes, and programs for an interface."""

from __future__ import annotations

import os
import signal
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
    run_tool,
)
from hvkit.hypervisor.kvm.host.process import open_process, read_identity

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
def test_tap_is_up_until_its_file_is_closed(name: str) -> None:
    tap = make_tap(name)
    try:
        assert tap.name == name
        assert int(Path(f"/sys/class/net/{name}/flags").read_text(), 16) & 1
        assert not os.get_inheritable(tap.queues[0])
    finally:
        tap.close()
    assert not has_interface(name)


@needs_tun
def test_tap_is_added_to_its_bridge(name: str, bridge: str) -> None:
    assert is_bridge(bridge)
    tap = make_tap(name, bridge=bridge)
    assert os.listdir(f"/sys/class/net/{bridge}/brif") == [name]
    tap.close()
    assert os.listdir(f"/sys/class/net/{bridge}/brif") == []


@needs_tun
@pytest.mark.parametrize("vnet_hdr", [True, False])
def test_vnet_hdr_option_sets_the_flag_of_the_tap(name: str, vnet_hdr: bool) -> None:
    tap = make_tap(name, TapOptions(vnet_hdr=vnet_hdr))
    flags = int(Path(f"/sys/class/net/{name}/tun_flags").read_text(), 16)
    tap.close()
    assert bool(flags & 0x4000) is vnet_hdr


@needs_tun
def test_make_tap_with_an_existing_name_leaves_the_existing_tap(name: str) -> None:
    tap = make_tap(name)
    with pytest.raises(NetworkError, match="an interface of that name exists") as caught:
        make_tap(name)
    assert caught.value.interface == name
    assert has_interface(name)
    tap.close()


@needs_tun
def test_make_tap_does_not_take_over_a_persistent_tap(name: str) -> None:
    subprocess.run(["ip", "tuntap", "add", name, "mode", "tap"], check=True)
    try:
        with pytest.raises(NetworkError, match="an interface of that name exists"):
            make_tap(name)
    finally:
        subprocess.run(["ip", "tuntap", "del", name, "mode", "tap"], check=True)


@needs_tun
def test_make_tap_with_an_invalid_bridge_leaves_no_tap(name: str) -> None:
    with pytest.raises(NetworkError, match="cannot join bridge lo, which is not a bridge"):
        make_tap(name, bridge="lo")
    with pytest.raises(NetworkError, match="cannot join bridge hvnone, which does not exist"):
        make_tap(name, bridge="hvnone")
    assert not has_interface(name)


def test_make_tap_rejects_a_name_that_is_too_long() -> None:
    with pytest.raises(NetworkError, match="the name of an interface has 1 to 15 bytes"):
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
def test_vhost_is_opened_for_each_queue_if_the_kernel_has_it(name: str) -> None:
    tap = make_tap(name, TapOptions(queues=2, vhost=True))
    tap.close()
    assert len(tap.vhosts) == (2 if os.path.exists("/dev/vhost-net") else 0)
    assert tap.descriptors == tap.queues + tap.vhosts


def _mtu(name: str) -> int:
    return int(Path(f"/sys/class/net/{name}/mtu").read_text())


@needs_tun
def test_mtu_of_a_tap_is_that_of_the_bridge_by_default(name: str, bridge: str) -> None:
    subprocess.run(["ip", "link", "set", bridge, "mtu", "1400"], check=True)
    tap = make_tap(name, bridge=bridge)
    own = make_tap(f"{name[:-1]}x", bridge=bridge, mtu=1300)
    try:
        assert (_mtu(tap.name), _mtu(own.name)) == (1400, 1300)
    finally:
        tap.close()
        own.close()


@needs_tun
def test_make_tap_with_an_invalid_mtu_leaves_no_tap(name: str) -> None:
    with pytest.raises(NetworkError, match=f"{name}: cannot set MTU to 5"):
        make_tap(name, mtu=5)
    assert not has_interface(name)


@pytest.fixture
def persistent_tap(name: str) -> Iterator[str]:
    subprocess.run(["ip", "tuntap", "add", name, "mode", "tap"], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", name], check=True)


@needs_tun
def test_persistent_tap_remains_after_it_is_closed(persistent_tap: str) -> None:
    open_tap(persistent_tap, TapOptions(vnet_hdr=False)).close()
    assert has_interface(persistent_tap)


@needs_tun
def test_persistent_tap_that_is_open_elsewhere_is_refused(persistent_tap: str) -> None:
    tap = open_tap(persistent_tap)
    try:
        with pytest.raises(NetworkError, match="another process has it open"):
            open_tap(persistent_tap)
    finally:
        tap.close()


def test_open_tap_requires_an_existing_tap() -> None:
    with pytest.raises(NetworkError, match="hvnone: cannot be used: it does not exist"):
        open_tap("hvnone")
    with pytest.raises(NetworkError, match="lo: cannot be used: it is not a tap"):
        open_tap("lo")


@needs_tun
@pytest.mark.parametrize(("address", "family"), [("198.51.100.7", "-4"), ("2001:db8::7", "-6")])
def test_route_to_a_tap_is_removed_with_it(name: str, address: str, family: str) -> None:
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
def test_failed_route_quotes_the_output_of_ip(name: str) -> None:
    tap = make_tap(name)
    try:
        with pytest.raises(NetworkError, match=f"{name}: ip failed .*no-such-table"):
            route_to(name, "198.51.100.7", table="no-such-table")
    finally:
        tap.close()


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Path]:
    """A file for the pid of a background process, which is killed after the test."""
    file = tmp_path / "background"
    yield file
    identity = read_identity(int(file.read_text()))
    process = open_process(identity) if identity is not None else None
    if process is not None:
        with process:
            process.send_signal(signal.SIGKILL)
            process.wait(10)


def test_run_tool_leaves_background_processes_running(background: Path) -> None:
    # The background process keeps the output of the program open after its end.
    run_tool("lo", ["/bin/sh", "-c", f"sleep 1000 & echo $! >{background}"])
    assert read_identity(int(background.read_text())) is not None
    with pytest.raises(NetworkError, match=r"/bin/sh failed with exit code 4: no such luck"):
        run_tool("lo", ["/bin/sh", "-c", f"sleep 1000 & echo $! >{background}.2; echo no such luck; kill $!; exit 4"])


def test_run_tool_that_times_out_kills_the_process_group(background: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvkit.hypervisor.kvm.host.network._TOOL_S", 0.5)
    with pytest.raises(NetworkError, match=r"/bin/sh did not end within 0\.5 s"):
        run_tool("lo", ["/bin/sh", "-c", f"sleep 1000 & echo $! >{background}; wait"])
    identity = read_identity(int(background.read_text()))
    process = open_process(identity) if identity is not None else None
    if process is not None:
        with process:
            assert process.wait(10)
