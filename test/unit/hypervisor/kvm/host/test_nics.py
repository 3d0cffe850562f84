# SPDX-License-Identifier: BSD-2-Clause
"""The node's side of NICs: each way to have one, and what a network script is told."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import pytest

from faults import crash_at
from hvkit.hypervisor import Instance, InstanceStartError, InstanceState, Nic, ParameterError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.network import NetworkError, TapOptions, has_interface, run_tool
from hvkit.hypervisor.kvm.host.nics import plan_tap_options
from hvkit.hypervisor.kvm.host.process import open_process, read_identity
from hvkit.hypervisor.kvm.plan.devices import tap_name
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.qmp.schema import SystemPowerdown

MakeInstance = Callable[..., Instance]

MAC = "52:54:00:12:34:56"
NIC_UUID = UUID("00c00000-0000-4000-8000-000000000001")
INTERFACE = "hv00c000000000"


@pytest.fixture
def may_make_taps(unavailable: Callable[[str], NoReturn]) -> None:
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        unavailable("taps need root and /dev/net/tun, so they are NOT tested here")


class Script:
    """A network script that writes down what it is told; `fails` has it fail at one of the two words."""

    def __init__(self, directory: Path, fails: str = "") -> None:
        self.path = directory / f"network-script{fails}"
        self._log = directory / "told"
        self.path.write_text(
            "#!/bin/sh\n"
            "[ -e /sys/class/net/$INTERFACE ] && there=there || there=gone\n"
            f'echo "$1 $there $(env | sort | tr "\\n" " ")" >> {self._log}\n'
            f'[ "$1" = "{fails}" ] && {{ echo no such luck; exit 3; }}\nexit 0\n'
        )
        self.path.chmod(0o755)

    @property
    def told(self) -> list[str]:
        return [" ".join(line.split()[:2]) for line in self.lines]

    @property
    def lines(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


# ---- plans


def test_queues_and_the_kernels_half_are_for_paravirtual_nics() -> None:
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
def test_member_that_means_nothing_in_a_mode_is_refused(members: dict[str, Any], field: str, modes: str) -> None:
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
def test_member_that_is_none_is_refused(members: dict[str, Any], field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Nic(mac=MAC, **members)
    assert caught.value.name == f"Nic.{field}"


# ---- on this node


pytestmark = pytest.mark.qemu


@pytest.mark.usefixtures("may_make_taps")
def test_script_is_told_when_an_interface_comes_and_has_gone(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    script = Script(tmp_path)
    nic = Nic(mac=MAC, uuid=NIC_UUID, mtu=1400)
    toy = make_toy(nics=(nic,), parameters={"network_script": str(script.path)})
    kvm.start_instance(toy)
    assert script.told == ["up there"]
    for told in (f"INTERFACE={INTERFACE}", f"MAC={MAC}", "MODE=tap", "MTU=1400", "INSTANCE=web1", "LINK= "):
        assert told in script.lines[0]
    assert f"INSTANCE_UUID={toy.uuid}" in script.lines[0]
    assert f"INTERFACE_UUID={NIC_UUID}" in script.lines[0]
    kvm.stop_instance("web1", force=True)
    assert script.told == ["up there", "down gone"]
    kvm.cleanup_instance("web1")
    assert script.told == ["up there", "down gone"]


@pytest.mark.usefixtures("may_make_taps")
def test_script_takes_down_after_a_crash(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> None:
    script = Script(tmp_path)
    kvm.start_instance(make_toy(nics=(Nic(mac=MAC),), parameters={"network_script": str(script.path)}))
    identity = read_identity(kvm.get_instance_info("web1").pid or 0)
    assert identity is not None
    process = open_process(identity)
    assert process is not None
    with process:
        process.send_signal(signal.SIGKILL)
        assert process.wait(10)
    assert script.told == ["up there"]
    kvm.cleanup_instance("web1")
    assert script.told == ["up there", "down gone"]


@pytest.mark.usefixtures("may_make_taps")
def test_script_that_fails_keeps_an_instance_from_starting(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    script = Script(tmp_path, fails="up")
    nics = (Nic(mac=MAC, uuid=NIC_UUID),)
    with pytest.raises(InstanceStartError, match=r"network-scriptup failed \(3\): no such luck"):
        kvm.start_instance(make_toy(nics=nics, parameters={"network_script": str(script.path)}))
    assert script.told == ["up there", "down gone"]
    assert kvm.list_instances() == []


@pytest.mark.usefixtures("may_make_taps")
def test_failed_start_takes_down_what_came_up(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> None:
    script = Script(tmp_path)
    parameters = {"network_script": str(script.path), "kvm_extra": "-no-such-option"}
    with pytest.raises(InstanceStartError, match="no-such-option"):
        kvm.start_instance(make_toy(nics=(Nic(mac=MAC), Nic(mac="52:54:00:12:34:57")), parameters=parameters))
    assert sorted(script.told) == ["down gone", "down gone", "up there", "up there"]
    assert kvm.list_instances() == []


@pytest.mark.usefixtures("may_make_taps")
def test_script_that_fails_to_take_down_is_logged(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(tmp_path, fails="down")
    kvm.start_instance(make_toy(nics=(Nic(mac=MAC),), parameters={"network_script": str(script.path)}))
    kvm.stop_instance("web1", force=True)
    assert "network-scriptdown failed (3): no such luck" in caplog.text


@pytest.mark.usefixtures("may_make_taps")
def test_script_takes_down_after_a_guest_that_powered_off(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    script = Script(tmp_path)
    kvm.start_instance(make_toy(nics=(Nic(mac=MAC),), parameters={"network_script": str(script.path)}))
    deadline_s = time.monotonic() + 30
    while kvm.get_instance_info("web1").state is not InstanceState.SHUTDOWN:
        assert time.monotonic() < deadline_s
        with kvm.monitor("web1") as monitor:
            monitor.execute(SystemPowerdown())
        time.sleep(0.1)
    kvm.cleanup_instance("web1")
    assert script.told == ["up there", "down gone"]


@pytest.mark.usefixtures("may_make_taps")
def test_wherever_in_a_start_somebody_dies_the_script_takes_down_what_came_up(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    script = Script(tmp_path)
    nics = (Nic(mac=MAC, uuid=NIC_UUID), Nic(mac="52:54:00:12:34:57"))
    toy = make_toy(nics=nics, parameters={"network_script": str(script.path)})
    came_up = False
    for number in itertools.count(1):
        is_dead = crash_at(number, lambda: kvm.start_instance(toy))
        if kvm.list_instances():
            came_up = came_up or (is_dead and "up there" in script.told)
            if not kvm.get_instance_info("web1").state.is_over:
                kvm.stop_instance("web1", force=True)
            kvm.cleanup_instance("web1")
        ups = [told for told in script.told if told.startswith("up")]
        downs = [told for told in script.told if told.startswith("down")]
        assert len(downs) >= len(ups)
        assert not [nic for nic in nics if has_interface(tap_name(nic))]
        if not is_dead:
            break
    assert came_up


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Path]:
    """The file into which a script writes the pid of what it starts; that is ended with the test."""
    file = tmp_path / "background"
    yield file
    identity = read_identity(int(file.read_text()))
    process = open_process(identity) if identity is not None else None
    if process is not None:
        with process:
            process.send_signal(signal.SIGKILL)
            process.wait(10)


def test_script_may_leave_somebody_running(background: Path) -> None:
    # Both have the script's output open. The one in the background still does when the script has ended.
    run_tool("lo", ["/bin/sh", "-c", f"sleep 1000 & echo $! >{background}"])
    assert read_identity(int(background.read_text())) is not None
    with pytest.raises(NetworkError, match=r"/bin/sh failed \(4\): no such luck"):
        run_tool("lo", ["/bin/sh", "-c", f"sleep 1000 & echo $! >{background}.2; echo no such luck; kill $!; exit 4"])


def test_script_that_does_not_end_is_ended_with_all_that_it_started(
    background: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvkit.hypervisor.kvm.host.network._TOOL_S", 0.5)
    with pytest.raises(NetworkError, match=r"/bin/sh did not end within 0\.5 s"):
        run_tool("lo", ["/bin/sh", "-c", f"sleep 1000 & echo $! >{background}; wait"])
    identity = read_identity(int(background.read_text()))
    process = open_process(identity) if identity is not None else None
    if process is not None:
        with process:
            assert process.wait(10)


@pytest.mark.usefixtures("may_make_taps")
def test_nic_with_queues_runs(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(nics=(Nic(mac=MAC, uuid=NIC_UUID),), parameters={"virtio_net_queues": 3}))
    files = [os.readlink(link) for link in Path(f"/proc/{kvm.get_instance_info('web1').pid}/fd").iterdir()]
    assert files.count("/dev/net/tun") == 3
    kvm.stop_instance("web1", force=True)
    assert not has_interface(INTERFACE)


@pytest.mark.usefixtures("may_make_taps")
def test_routed_nic_is_routed_to_while_it_is_there(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    nic = Nic(mac=MAC, uuid=NIC_UUID, mode="routed", link="4712", ip="198.51.100.9")

    def routes() -> str:
        return subprocess.run(["ip", "route", "show", "table", "4712"], capture_output=True, text=True).stdout

    kvm.start_instance(make_toy(nics=(nic,)))
    assert f"198.51.100.9 dev {INTERFACE}" in routes()
    kvm.stop_instance("web1", force=True)
    assert "198.51.100.9" not in routes()


@pytest.fixture
def lasting_tap(may_make_taps: None) -> Iterator[str]:
    name = f"hvt{os.getpid() % 10**8}e"
    subprocess.run(["ip", "tuntap", "add", name, "mode", "tap", "vnet_hdr"], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", name], check=True)


def test_tap_of_somebody_else_is_used_and_left(kvm: KvmHypervisor, make_toy: MakeInstance, lasting_tap: str) -> None:
    kvm.start_instance(make_toy(nics=(Nic(mac=MAC, mode="external", ifname=lasting_tap),)))
    with pytest.raises(InstanceStartError, match="somebody else has it open"):
        kvm.start_instance(make_toy("web2", nics=(Nic(mac=MAC, mode="external", ifname=lasting_tap),)))
    kvm.stop_instance("web1", force=True)
    assert has_interface(lasting_tap)
