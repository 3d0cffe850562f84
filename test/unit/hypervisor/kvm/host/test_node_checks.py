# SPDX-License-Identifier: BSD-2-Clause
"""Checks of the node for QEMU, qemu-img, KVM and tap devices."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hvkit.hypervisor.kvm.host import node_checks
from hvkit.hypervisor.kvm.host.node_checks import INSTALL_QEMU, probe_kvm, probe_qemu, probe_qemu_img, probe_tap
from hvkit.hypervisor.kvm.plan.capabilities import KvmHost
from hvkit.testing.simulator import write_executable


def test_qemu_check_reports_version(tmp_path: Path) -> None:
    binary = str(write_executable(tmp_path, version=(10, 0, 3)))
    check = probe_qemu(binary)
    assert (check.verdict, check.text) == ("ok", f"10.0.3 ({binary})")


@pytest.mark.parametrize("binary", ["/bin/true", "/nonexistent/qemu"])
def test_qemu_check_reports_unusable_program(binary: str) -> None:
    check = probe_qemu(binary)
    assert (check.verdict, check.remedy) == ("bad", INSTALL_QEMU)
    assert binary in check.text


def test_qemu_img_check_without_program_is_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    check = probe_qemu_img()
    assert (check.verdict, check.remedy) == ("note", INSTALL_QEMU)


@pytest.mark.parametrize(
    ("host", "verdict", "text"),
    [
        (KvmHost(), "ok", "available"),
        (KvmHost(is_emulated=True), "note", "without hardware virtualization"),
        (KvmHost(problem="/dev/kvm: No such file"), "note", "/dev/kvm: No such file"),
    ],
)
def test_kvm_check_reports_host(host: KvmHost, verdict: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_checks, "read_kvm_host", lambda: host)
    check = probe_kvm()
    assert check.verdict == verdict
    assert text in check.text


def test_tap_check_without_device_advises_modprobe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_checks, "TUN", tmp_path / "tun")
    check = probe_tap()
    assert (check.verdict, check.remedy) == ("note", "modprobe tun")


def test_tap_check_without_root_is_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tun").touch()
    monkeypatch.setattr(node_checks, "TUN", tmp_path / "tun")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    check = probe_tap()
    assert (check.verdict, "CAP_NET_ADMIN" in check.text) == ("note", True)
