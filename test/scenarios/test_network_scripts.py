# SPDX-License-Identifier: BSD-2-Clause
"""NICs of instances on real QEMU: taps in every mode, and the network script."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn
from uuid import UUID

import pytest
from waiting import wait_for

from faults import crash_at
from hvkit.hypervisor import Instance, InstanceStartError, InstanceState, Nic
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.network import has_interface
from hvkit.hypervisor.kvm.host.process import open_process, read_identity
from hvkit.hypervisor.kvm.plan.devices import tap_name
from hvkit.qmp.schema import SystemPowerdown

MakeInstance = Callable[..., Instance]

MAC = "52:54:00:12:34:56"
NIC_UUID = UUID("00c00000-0000-4000-8000-000000000001")
INTERFACE = "hv00c000000000"

pytestmark = pytest.mark.qemu


@pytest.fixture
def may_make_taps(unavailable: Callable[[str], NoReturn]) -> None:
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        unavailable("taps need root and /dev/net/tun, so they are NOT tested here")


class Script:
    """A network script that records its argument and environment; it fails for the argument `fails`."""

    def __init__(self, directory: Path, fails: str = "") -> None:
        self.path = directory / f"network-script{fails}"
        self._log = directory / "calls"
        self.path.write_text(
            "#!/bin/sh\n"
            "[ -e /sys/class/net/$INTERFACE ] && tap=present || tap=absent\n"
            f'echo "$1 $tap $(env | sort | tr "\\n" " ")" >> {self._log}\n'
            f'[ "$1" = "{fails}" ] && {{ echo no such luck; exit 3; }}\nexit 0\n'
        )
        self.path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return [" ".join(line.split()[:2]) for line in self.lines]

    @property
    def lines(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.mark.usefixtures("may_make_taps")
def test_script_runs_with_up_and_down(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> None:
    script = Script(tmp_path)
    nic = Nic(mac=MAC, uuid=NIC_UUID, mtu=1400)
    toy = make_toy(nics=(nic,), parameters={"network_script": str(script.path)})
    kvm.start_instance(toy)
    assert script.calls == ["up present"]
    for each in (f"INTERFACE={INTERFACE}", f"MAC={MAC}", "MODE=tap", "MTU=1400", "INSTANCE=web1", "LINK= "):
        assert each in script.lines[0]
    assert f"INSTANCE_UUID={toy.uuid}" in script.lines[0]
    assert f"INTERFACE_UUID={NIC_UUID}" in script.lines[0]
    kvm.stop_instance("web1", force=True)
    assert script.calls == ["up present", "down absent"]
    kvm.cleanup_instance("web1")
    assert script.calls == ["up present", "down absent"]


@pytest.mark.usefixtures("may_make_taps")
def test_script_runs_with_down_after_a_crash(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> None:
    script = Script(tmp_path)
    kvm.start_instance(make_toy(nics=(Nic(mac=MAC),), parameters={"network_script": str(script.path)}))
    identity = read_identity(kvm.get_instance_info("web1").pid or 0)
    assert identity is not None
    process = open_process(identity)
    assert process is not None
    with process:
        process.send_signal(signal.SIGKILL)
        assert process.wait(10)
    assert script.calls == ["up present"]
    kvm.cleanup_instance("web1")
    assert script.calls == ["up present", "down absent"]


@pytest.mark.usefixtures("may_make_taps")
def test_failed_script_prevents_the_start(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> None:
    script = Script(tmp_path, fails="up")
    nics = (Nic(mac=MAC, uuid=NIC_UUID),)
    with pytest.raises(InstanceStartError, match=r"network-scriptup failed with exit code 3: no such luck"):
        kvm.start_instance(make_toy(nics=nics, parameters={"network_script": str(script.path)}))
    assert script.calls == ["up present", "down absent"]
    assert kvm.list_instances() == []


@pytest.mark.usefixtures("may_make_taps")
def test_failed_start_runs_the_script_with_down(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> None:
    script = Script(tmp_path)
    parameters = {"network_script": str(script.path), "kvm_extra": "-no-such-option"}
    with pytest.raises(InstanceStartError, match="no-such-option"):
        kvm.start_instance(make_toy(nics=(Nic(mac=MAC), Nic(mac="52:54:00:12:34:57")), parameters=parameters))
    assert sorted(script.calls) == ["down absent", "down absent", "up present", "up present"]
    assert kvm.list_instances() == []


@pytest.mark.usefixtures("may_make_taps")
def test_failed_script_at_the_end_is_logged(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(tmp_path, fails="down")
    kvm.start_instance(make_toy(nics=(Nic(mac=MAC),), parameters={"network_script": str(script.path)}))
    kvm.stop_instance("web1", force=True)
    assert "network-scriptdown failed with exit code 3: no such luck" in caplog.text


@pytest.mark.usefixtures("may_make_taps")
def test_script_runs_with_down_after_a_guest_powered_off(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    script = Script(tmp_path)
    kvm.start_instance(make_toy(nics=(Nic(mac=MAC),), parameters={"network_script": str(script.path)}))

    def powers_off() -> bool:
        if kvm.get_instance_info("web1").state is InstanceState.SHUTDOWN:
            return True
        with kvm.monitor("web1") as monitor:
            monitor.execute(SystemPowerdown())
        return False

    wait_for(powers_off, interval_s=0.1)
    kvm.cleanup_instance("web1")
    assert script.calls == ["up present", "down absent"]


@pytest.mark.usefixtures("may_make_taps")
def test_script_runs_with_down_after_a_crash_at_any_step_of_a_start(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    script = Script(tmp_path)
    nics = (Nic(mac=MAC, uuid=NIC_UUID), Nic(mac="52:54:00:12:34:57"))
    toy = make_toy(nics=nics, parameters={"network_script": str(script.path)})
    came_up = False
    for number in itertools.count(1):
        has_died = crash_at(number, lambda: kvm.start_instance(toy))
        if kvm.list_instances():
            came_up = came_up or (has_died and "up present" in script.calls)
            if not kvm.get_instance_info("web1").state.is_over:
                kvm.stop_instance("web1", force=True)
            kvm.cleanup_instance("web1")
        ups = [each for each in script.calls if each.startswith("up")]
        downs = [each for each in script.calls if each.startswith("down")]
        assert len(downs) >= len(ups)
        assert not [nic for nic in nics if has_interface(tap_name(nic))]
        if not has_died:
            break
    assert came_up


@pytest.mark.usefixtures("may_make_taps")
def test_nic_has_the_requested_number_of_queues(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(nics=(Nic(mac=MAC, uuid=NIC_UUID),), parameters={"virtio_net_queues": 3}))
    files = [os.readlink(link) for link in Path(f"/proc/{kvm.get_instance_info('web1').pid}/fd").iterdir()]
    assert files.count("/dev/net/tun") == 3
    kvm.stop_instance("web1", force=True)
    assert not has_interface(INTERFACE)


@pytest.mark.usefixtures("may_make_taps")
def test_routed_nic_has_a_route_while_the_instance_runs(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    nic = Nic(mac=MAC, uuid=NIC_UUID, mode="routed", link="4712", ip="198.51.100.9")

    def routes() -> str:
        return subprocess.run(["ip", "route", "show", "table", "4712"], capture_output=True, text=True).stdout

    kvm.start_instance(make_toy(nics=(nic,)))
    assert f"198.51.100.9 dev {INTERFACE}" in routes()
    kvm.stop_instance("web1", force=True)
    assert "198.51.100.9" not in routes()


@pytest.fixture
def persistent_tap(may_make_taps: None) -> Iterator[str]:
    name = f"hvt{os.getpid() % 10**8}e"
    subprocess.run(["ip", "tuntap", "add", name, "mode", "tap", "vnet_hdr"], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", name], check=True)


def test_external_tap_is_used_and_kept(kvm: KvmHypervisor, make_toy: MakeInstance, persistent_tap: str) -> None:
    kvm.start_instance(make_toy(nics=(Nic(mac=MAC, mode="external", ifname=persistent_tap),)))
    with pytest.raises(InstanceStartError, match="another process has it open"):
        kvm.start_instance(make_toy("web2", nics=(Nic(mac=MAC, mode="external", ifname=persistent_tap),)))
    kvm.stop_instance("web1", force=True)
    assert has_interface(persistent_tap)
