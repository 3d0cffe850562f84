# SPDX-License-Identifier: BSD-2-Clause
"""Checks of this node: QEMU, qemu-img, KVM and tap devices."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from hvkit.errors import HypervisorError
from hvkit.hypervisor.kvm.host.probe import probe_capabilities, read_kvm_host
from hvkit.hypervisor.model.reports import NodeCheck

TUN: Final = Path("/dev/net/tun")
INSTALL_QEMU: Final = "apt-get install --no-install-recommends qemu-system-x86 qemu-utils"


def probe_qemu(binary: str) -> NodeCheck:
    """Check that the QEMU program runs and is supported."""
    try:
        capabilities = probe_capabilities(binary)
    except HypervisorError as error:
        return NodeCheck(subject="QEMU", verdict="bad", text=str(error), remedy=INSTALL_QEMU)
    return NodeCheck(subject="QEMU", verdict="ok", text=f"{capabilities.version_text} ({binary})")


def probe_qemu_img() -> NodeCheck:
    """Check for qemu-img, which creates qcow2 disks."""
    path = shutil.which("qemu-img")
    if path:
        return NodeCheck(subject="qemu-img", verdict="ok", text=path)
    text = "not installed; needed only to create qcow2 disks"
    return NodeCheck(subject="qemu-img", verdict="note", text=text, remedy=INSTALL_QEMU)


def probe_kvm() -> NodeCheck:
    """Check whether guests can use KVM."""
    host = read_kvm_host()
    if host.problem:
        remedy = "load kvm_intel or kvm_amd, and give this user access to /dev/kvm (group kvm)"
        text = f"{host.problem}; guests use TCG, which is slow"
        return NodeCheck(subject="KVM", verdict="note", text=text, remedy=remedy)
    if host.is_emulated:
        text = "present, but without hardware virtualization; guests use TCG, which is faster"
        return NodeCheck(subject="KVM", verdict="note", text=text)
    return NodeCheck(subject="KVM", verdict="ok", text="available")


def probe_tap() -> NodeCheck:
    """Check for the requirements of NICs that use a tap device."""
    if not os.path.exists(TUN):
        text, remedy = f"{TUN} does not exist; NICs are limited to mode user", "modprobe tun"
    elif not os.access(TUN, os.R_OK | os.W_OK):
        text, remedy = f"{TUN} cannot be opened; NICs are limited to mode user", "run as root"
    elif os.geteuid() != 0:
        text, remedy = "creating taps needs CAP_NET_ADMIN; NICs are limited to mode user", "run as root"
    else:
        return NodeCheck(subject="tap", verdict="ok", text=f"{TUN} can be opened")
    return NodeCheck(subject="tap", verdict="note", text=text, remedy=remedy)
