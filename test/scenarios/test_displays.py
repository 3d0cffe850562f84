# SPDX-License-Identifier: BSD-2-Clause
"""VNC and SPICE on real QEMU: addresses, authentication, and confidential passwords."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from hvkit.hypervisor import ConsoleKind, InstanceStartError, InstanceStateError, ParameterError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.model import Instance
from hvkit.hypervisor.node import find_interface_address
from hvkit.qmp.schema import QomList, QuerySpice, QueryVncServers, VncInfo2

MakeInstance = Callable[..., Instance]

SECRET = "pa55w0rd"
#: Security types of VNC. Source: RFC 6143, 7.1.2, and the registry of VeNCrypt.
NONE, PASSWORD, VENCRYPT = 1, 2, 19


def _security_types(port: int) -> set[int]:
    """Return the security types that a VNC server offers. Source: RFC 6143, 7.1."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        version = client.recv(12, socket.MSG_WAITALL)
        client.sendall(version)
        (count,) = client.recv(1)
        return set(client.recv(count, socket.MSG_WAITALL))


def _address(server: VncInfo2) -> tuple[str, int]:
    assert server.server is not None
    return server.server[0].host, int(server.server[0].service)


def _vnc(hypervisor: KvmHypervisor) -> tuple[str, int]:
    with hypervisor.monitor("web1") as monitor:
        (server,) = monitor.execute(QueryVncServers())
    return _address(server)


def _visible(kvm: KvmHypervisor, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the visible traces of an instance: command line, environment, files and log records."""
    pid = kvm.get_instance_info("web1").pid
    seen = [Path(f"/proc/{pid}/cmdline").read_text(), Path(f"/proc/{pid}/environ").read_text()]
    seen += [path.read_text(errors="replace") for path in kvm.run_dir.rglob("*") if path.is_file()]
    return [*seen, caplog.text]


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    return file


@pytest.mark.qemu
def test_vnc_uses_a_free_port(kvm: KvmHypervisor, make_toy: MakeInstance) -> None:
    kvm.start_instance(make_toy(parameters={"vnc_bind_address": "lo"}), start_paused=True)
    kvm.start_instance(make_toy("web2", parameters={"vnc_bind_address": "127.0.0.1"}), start_paused=True)
    with kvm.monitor("web2") as monitor:
        (other,) = monitor.execute(QueryVncServers())
    host, port = _vnc(kvm)
    assert host == "127.0.0.1"
    assert port != _address(other)[1]
    assert _security_types(port) == {NONE}
    with kvm.monitor("web1") as monitor:
        peripherals = {each.type for each in monitor.execute(QomList(path="/machine/peripheral"))}
    assert {"child<VGA>", "child<usb-tablet>"} <= peripherals


@pytest.mark.qemu
@pytest.mark.parametrize(
    "confined",
    [{}, {"security_model": "pool", "security_pool": "60000-60001", "use_chroot": True}],
    ids=["open", "confined"],
)
def test_vnc_password_is_required_and_not_visible(
    kvm: KvmHypervisor,
    make_toy: MakeInstance,
    password_file: Path,
    caplog: pytest.LogCaptureFixture,
    confined: dict[str, object],
) -> None:
    caplog.set_level("DEBUG")
    parameters = {"vnc_bind_address": "127.0.0.1", "vnc_password_file": str(password_file), **confined}
    kvm.start_instance(make_toy(parameters=parameters), start_paused=True)
    assert _security_types(_vnc(kvm)[1]) == {PASSWORD}
    assert "set_password" in caplog.text
    assert not [text for text in _visible(kvm, caplog) if SECRET in text]


@pytest.mark.qemu
def test_vnc_with_tls_listens_on_a_unix_socket(kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path) -> None:
    kvm.start_instance(make_toy(parameters={"vnc_bind_address": str(tmp_path), "vnc_tls": True}), start_paused=True)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(tmp_path / "web1.vnc"))
        client.sendall(client.recv(12, socket.MSG_WAITALL))
        (count,) = client.recv(1)
        assert set(client.recv(count, socket.MSG_WAITALL)) == {VENCRYPT}


@pytest.mark.qemu
def test_vnc_on_a_unix_socket_with_an_account_is_refused(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    parameters = {"vnc_bind_address": str(tmp_path), "security_model": "pool", "security_pool": "60000"}
    with pytest.raises(ParameterError, match="cannot create a socket there"):
        kvm.start_instance(make_toy(parameters=parameters))


@pytest.mark.qemu
@pytest.mark.parametrize("text", ["", "\n", "\nsecond line"])
def test_empty_vnc_password_is_refused_without_leftovers(
    kvm: KvmHypervisor, make_toy: MakeInstance, password_file: Path, text: str
) -> None:
    password_file.write_text(text)
    parameters = {"vnc_bind_address": "127.0.0.1", "vnc_password_file": str(password_file)}
    with pytest.raises(ParameterError, match="the first line must hold the password, and is empty"):
        kvm.start_instance(make_toy(parameters=parameters))
    assert kvm.list_instances() == []


@pytest.mark.qemu
def test_spice_password_is_required_and_not_visible(
    kvm: KvmHypervisor, make_toy: MakeInstance, password_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    parameters = {"spice_bind": "127.0.0.1", "spice_port": port, "spice_password_file": str(password_file)}
    try:
        kvm.start_instance(make_toy(parameters=parameters), start_paused=True)
    except (ParameterError, InstanceStartError) as error:
        if "SPICE" not in str(error) and "spice" not in str(error):
            raise
        pytest.skip("this QEMU has no SPICE")
    with kvm.monitor("web1") as monitor:
        spice = monitor.execute(QuerySpice())
        names = {each.name for each in monitor.execute(QomList(path="/machine/peripheral"))}
    assert (spice.host, spice.port, spice.auth) == ("127.0.0.1", port, "spice")
    assert "vdagent-port" in names
    assert "set_password" in caplog.text
    assert not [text for text in _visible(kvm, caplog) if SECRET in text]


def test_spice_requires_a_port(kvm: KvmHypervisor) -> None:
    with pytest.raises(ParameterError, match="spice_port: required by spice_bind"):
        kvm.check_parameter_syntax({"spice_bind": "127.0.0.1"})


def test_find_interface_address_returns_an_address_to_bind() -> None:
    assert find_interface_address("lo") == "127.0.0.1"
    assert find_interface_address("::1") == "::1"
    assert find_interface_address("no-such-interface-at-all") == ""
    with socket.socket() as listener:
        listener.bind((find_interface_address("lo"), 0))
        assert struct.unpack("4B", socket.inet_aton(listener.getsockname()[0])) == (127, 0, 0, 1)


@pytest.mark.qemu
def test_console_without_a_serial_port_is_the_display(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path
) -> None:
    headless = {"serial_console": False}
    kvm.start_instance(make_toy(parameters={**headless, "vnc_bind_address": "127.0.0.1"}), start_paused=True)
    console = kvm.get_instance_console("web1")
    assert (console.kind, console.host, console.port) == (ConsoleKind.VNC, *_vnc(kvm))
    kvm.start_instance(make_toy("web2", parameters={**headless, "vnc_bind_address": str(tmp_path)}), start_paused=True)
    assert kvm.get_instance_console("web2").path == str(tmp_path / "web2.vnc")
    kvm.start_instance(make_toy("web3", parameters=headless), start_paused=True)
    assert "no VNC and no SPICE" in kvm.get_instance_console("web3").message
    kvm.stop_instance("web3", force=True)
    with pytest.raises(InstanceStateError, match="QEMU is not running"):
        kvm.get_instance_console("web3")
