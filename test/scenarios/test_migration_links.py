# SPDX-License-Identifier: BSD-2-Clause
"""Migrations over TLS with certificates or keys, and over sockets that are already connected."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import attrs
import pytest
from waiting import wait_for

from certificates import make_certificates
from hvkit.hypervisor import Instance, InstanceState, MigrationState, MigrationStatus, ParameterError
from hvkit.hypervisor.errors import MigrationError
from hvkit.hypervisor.kvm import KvmHypervisor

MakeInstance = Callable[..., Instance]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[KvmHypervisor]:
    hypervisor = KvmHypervisor(run_dir=tmp_path / "other", lock_timeout_s=5.0)
    yield hypervisor
    for name in hypervisor.list_instances():
        hypervisor.stop_instance(name, force=True)
        hypervisor.cleanup_instance(name)


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def wait_until_over(source: KvmHypervisor) -> MigrationStatus:
    return wait_for(lambda: source.get_migration_status("web1"), lambda status: status.status.is_over)


def migrate(
    source: KvmHypervisor, destination: KvmHypervisor, there: Instance, to: str | int, at: str | int
) -> MigrationStatus:
    """Migrate an instance, and finalize both halves.

    Args:
        source: the hypervisor of the source.
        destination: the hypervisor of the destination.
        there: the instance as given to the destination.
        to: the target as given to the source.
        at: the target as given to the destination.
    """
    info = source.migration_info("web1")
    destination.accept_instance(there, info, at)
    source.migrate_instance("web1", to)
    status = wait_until_over(source)
    success = status.status is MigrationState.COMPLETED
    destination.finalize_migration_destination(there, info, success)
    source.finalize_migration_source("web1", success, live=True)
    stayed, other = (source, destination) if not success else (destination, source)
    assert stayed.get_instance_info("web1").state is InstanceState.RUNNING
    assert other.list_instances() == []
    return status


@pytest.fixture
def openssl(unavailable: Callable[[str], NoReturn]) -> str:
    return shutil.which("openssl") or unavailable("openssl is not installed, so certificates cannot be made")


def make_key(directory: Path) -> Path:
    directory.mkdir()
    (directory / "keys.psk").write_text(f"qemu:{secrets.token_hex(16)}\n")
    return directory


def tls(kind: str, directory: Path, hostname: str = "") -> dict[str, object]:
    return {"migration_tls": kind, "migration_tls_dir": str(directory), "migration_tls_hostname": hostname}


def with_parameters(instance: Instance, parameters: dict[str, object]) -> Instance:
    return attrs.evolve(instance, parameters={**instance.parameters, **parameters})


@pytest.fixture
def toy(make_toy: MakeInstance) -> Instance:
    return make_toy(parameters={"migration_bandwidth": 0})


@pytest.mark.qemu
def test_migration_with_certificates_completes(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, tmp_path: Path, openssl: str
) -> None:
    certificates = make_certificates(tmp_path / "certificates", openssl)
    toy = with_parameters(toy, tls("x509", certificates))
    kvm.start_instance(toy)
    address = free_address()
    assert migrate(kvm, other, toy, address, address).status is MigrationState.COMPLETED
    # Back over a unix socket, whose path matches no name in a certificate, and with new certificates.
    shutil.rmtree(certificates)
    make_certificates(certificates, openssl)
    path = str(tmp_path / "link.sock")
    status = migrate(other, kvm, toy, path, path)
    assert status.status is MigrationState.FAILED
    assert "hostname" in status.reason.lower()


@pytest.mark.qemu
def test_migration_with_tls_hostname_accepts_certificate_of_other_name(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, tmp_path: Path, openssl: str
) -> None:
    toy = with_parameters(toy, tls("x509", make_certificates(tmp_path / "certificates", openssl), "localhost"))
    kvm.start_instance(toy)
    path = str(tmp_path / "link.sock")
    assert migrate(kvm, other, toy, path, path).status is MigrationState.COMPLETED


@pytest.mark.qemu
def test_migration_with_certificate_of_other_authority_fails(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, tmp_path: Path, openssl: str
) -> None:
    kvm.start_instance(with_parameters(toy, tls("x509", make_certificates(tmp_path / "ours", openssl))))
    there = with_parameters(toy, tls("x509", make_certificates(tmp_path / "theirs", openssl)))
    address = free_address()
    assert migrate(kvm, other, there, address, address).status is MigrationState.FAILED


@pytest.mark.qemu
def test_migration_with_psk_requires_same_key(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, tmp_path: Path
) -> None:
    toy = with_parameters(toy, tls("psk", make_key(tmp_path / "key")))
    kvm.start_instance(toy)
    address = free_address()
    wrong_key = with_parameters(toy, tls("psk", make_key(tmp_path / "other key")))
    assert migrate(kvm, other, wrong_key, address, address).status is MigrationState.FAILED
    address = free_address()
    assert migrate(kvm, other, toy, address, address).status is MigrationState.COMPLETED


@pytest.mark.qemu
def test_migration_with_missing_credentials_changes_nothing(kvm: KvmHypervisor, toy: Instance, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    kvm.start_instance(with_parameters(toy, tls("x509", tmp_path / "empty")))
    with pytest.raises(MigrationError, match=r"ca-cert\.pem"):
        kvm.migrate_instance("web1", free_address())
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"migration_tls": "x509"}, "migration_tls_dir: required by migration_tls x509"),
        ({"migration_tls_dir": "/tmp"}, "requires migration_tls"),
        ({"migration_tls_hostname": "node2"}, "requires migration_tls"),
        ({"migration_tls": "anon"}, "expected one of 'x509', 'psk'"),
    ],
)
def test_tls_parameters_reject_inconsistent_values(
    kvm: KvmHypervisor, parameters: dict[str, object], problem: str
) -> None:
    with pytest.raises(ParameterError, match=problem):
        kvm.check_parameter_syntax(parameters)


@pytest.mark.qemu
def test_migration_over_connected_socket_completes(kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance) -> None:
    kvm.start_instance(toy)
    one, two = socket.socketpair()
    with one, two:
        assert migrate(kvm, other, toy, one.fileno(), two.fileno()).status is MigrationState.COMPLETED
        # The sockets are still open.
        assert {os.fstat(each.fileno()).st_nlink for each in (one, two)} == {1}


@pytest.mark.qemu
def test_migration_rejects_descriptor_that_is_not_a_socket(
    kvm: KvmHypervisor, other: KvmHypervisor, toy: Instance, tmp_path: Path
) -> None:
    kvm.start_instance(toy)
    with (tmp_path / "file").open("wb") as file:
        for descriptor in (file.fileno(), -1, 1 << 40):
            with pytest.raises(MigrationError, match="socket to migrate over"):
                kvm.migrate_instance("web1", descriptor)
            with pytest.raises(MigrationError, match="socket to migrate over"):
                other.accept_instance(toy, kvm.migration_info("web1"), descriptor)
    assert kvm.get_instance_info("web1").state is InstanceState.RUNNING
    assert other.list_instances() == []
