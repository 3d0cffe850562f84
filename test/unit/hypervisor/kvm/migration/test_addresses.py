# SPDX-License-Identifier: BSD-2-Clause
"""Target addresses of migrations."""

from __future__ import annotations

import os
import socket

import pytest

from hvkit.hypervisor import MigrationError
from hvkit.hypervisor.kvm.migration.addresses import check_target, listening_path, with_port
from hvkit.hypervisor.kvm.plan.parameters import TABLE


@pytest.mark.parametrize(
    ("target", "completed"),
    [
        ("192.0.2.1", "192.0.2.1:8102"),
        ("node2.example", "node2.example:8102"),
        ("2001:db8::1", "[2001:db8::1]:8102"),
        ("[2001:db8::1]", "[2001:db8::1]:8102"),
        ("192.0.2.1:7000", "192.0.2.1:7000"),
        ("[2001:db8::1]:7000", "[2001:db8::1]:7000"),
        ("/run/link.sock", "/run/link.sock"),
        ("", ""),
        (5, 5),
    ],
)
def test_with_port_adds_port_to_host_only(target: str | int, completed: str | int) -> None:
    assert with_port(target, TABLE.fill({})) == completed


@pytest.mark.parametrize("target", ["/run/link.sock", "192.0.2.1:7000", "[2001:db8::1]:7000", "node2.example:65535"])
def test_check_target_accepts_path_and_tcp_address(target: str) -> None:
    check_target("web1", target, TABLE.fill({}))


@pytest.mark.parametrize("target", ["", "link.sock", "host", "host:", "host:0", "host:65536", "a,b:1", ":1", "/a\0b"])
def test_check_target_rejects_invalid_address(target: str) -> None:
    with pytest.raises(MigrationError, match=r"^web1: migration: expected an absolute path or host:port"):
        check_target("web1", target, TABLE.fill({}))


def test_check_target_rejects_path_outside_root_directory() -> None:
    with pytest.raises(MigrationError, match=r"cannot reach the socket /run/link\.sock: use host:port"):
        check_target("web1", "/run/link.sock", TABLE.fill({"use_chroot": True}))


def test_check_target_accepts_only_descriptors_of_sockets() -> None:
    with socket.socket() as connected:
        check_target("web1", connected.fileno(), TABLE.fill({}))
    reader, writer = os.pipe()
    try:
        for descriptor in (reader, -1, 1 << 40):
            with pytest.raises(MigrationError, match="socket to migrate over"):
                check_target("web1", descriptor, TABLE.fill({}))
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(("target", "path"), [("/run/link.sock", "/run/link.sock"), ("host:1", ""), (5, "")])
def test_listening_path_is_that_of_a_unix_socket(target: str | int, path: str) -> None:
    assert listening_path(target) == path
