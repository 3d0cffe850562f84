# SPDX-License-Identifier: BSD-2-Clause
"""Parameters of the KVM plugin checked on this node."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host import parameter_checks
from hvkit.hypervisor.kvm.host.parameter_checks import NODE_TABLE, resolve_interfaces
from hvkit.hypervisor.kvm.plan.parameters import TABLE

#: An executable file, so that the check of kvm_path passes without QEMU.
PROGRAM = {"kvm_path": "/bin/sh"}


def test_plugin_validates_with_the_node_checks() -> None:
    assert KvmHypervisor.PARAMETERS is NODE_TABLE
    assert list(NODE_TABLE) == list(TABLE)
    assert all(parameter.node is None for parameter in TABLE.values())


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("kvm_path", "/nonexistent/qemu", "an executable file on this node"),
        ("kernel_path", "/nonexistent/vmlinuz", "a readable file on this node"),
        ("cdrom_image_path", "/nonexistent/cd.iso", "a readable file on this node"),
        ("floppy_image_path", "/nonexistent/floppy.img", "a readable file on this node"),
        ("network_script", "/etc/passwd", "an executable file on this node"),
        ("cpu_mask", "9999", "online on this node"),
        ("io_thread_mask", "all:9999", "online on this node"),
        ("numa_host_nodes", "999", "this node"),
        ("mem_path", "/no/such/mount", "this node"),
        ("vnc_bind_address", "no-such-interface", "interface on this node"),
        ("vnc_bind_address", "/nonexistent", "directory on this node"),
        ("spice_x509_path", "/nonexistent", "ca-cert.pem, server-cert.pem, server-key.pem"),
        ("security_domain", "no-such-user", "this node has no user"),
    ],
)
def test_value_that_this_node_does_not_provide_passes_the_syntax_check_only(
    name: str, value: str, problem: str
) -> None:
    beside = {
        "spice_x509_path": {"vnc_bind_address": ""},
        "security_domain": {"security_model": "user"},
    }.get(name, {})
    given = {**PROGRAM, **beside, name: value}
    TABLE.check_syntax(given)
    with pytest.raises(ParameterError, match=problem) as caught:
        NODE_TABLE.validate(given)
    assert caught.value.name == name


@pytest.mark.parametrize("parameters", [{"disk_type": "ide"}, {"disk_type": "scsi-hd"}, {"cdrom_disk_type": "ide"}])
def test_empty_drives_need_no_file_on_the_node(parameters: dict[str, object]) -> None:
    empty = dict.fromkeys(("cdrom_image_path", "cdrom2_image_path", "floppy_image_path"), "empty")
    NODE_TABLE.validate({**parameters, **empty, **PROGRAM, "boot_order": "cdrom"})


def test_url_of_a_cd_needs_no_file_on_the_node() -> None:
    NODE_TABLE.validate({**PROGRAM, "cdrom_image_path": "https://mirror.invalid/cd.iso"})


def test_tpm_without_swtpm_is_refused_with_the_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _program: None)
    NODE_TABLE.validate(PROGRAM)
    with pytest.raises(ParameterError, match=r"^tpm: swtpm is not installed$"):
        NODE_TABLE.validate({**PROGRAM, "tpm": True})


def test_hugepages_need_a_size_that_the_kernel_supports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameter_checks, "_HUGE_PAGES_DIR", tmp_path)
    with pytest.raises(ParameterError, match="hugepages: expected a size"):
        NODE_TABLE.validate({**PROGRAM, "hugepages": "2M"})
    (tmp_path / "hugepages-2048kB").mkdir()
    NODE_TABLE.validate({**PROGRAM, "hugepages": "2M"})


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("security_model", "pool", "only root can start QEMU as another user"),
        ("use_chroot", True, "only root can change the root directory of QEMU"),
    ],
)
def test_confinement_that_needs_root_is_refused_without_root(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object, problem: str
) -> None:
    monkeypatch.setattr(parameter_checks, "can_change_account", lambda: False)
    pool = {"security_pool": "60000-60001"} if name == "security_model" else {}
    with pytest.raises(ParameterError, match=f"^{name}: {problem}$"):
        NODE_TABLE.validate({**PROGRAM, **pool, name: value})


def test_interfaces_are_replaced_by_their_addresses() -> None:
    filled = TABLE.fill({"vnc_bind_address": "lo", "spice_bind": "::1"})
    resolved = resolve_interfaces(filled)
    assert (resolved["vnc_bind_address"], resolved["spice_bind"]) == ("127.0.0.1", "::1")
    assert filled["vnc_bind_address"] == "lo"
    assert resolve_interfaces(TABLE.fill({"vnc_bind_address": "/run/vnc"}))["vnc_bind_address"] == "/run/vnc"
