# SPDX-License-Identifier: BSD-2-Clause
"""Look at this node: is everything there that running instances takes?"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import attrs
import click

from hvkit.cli.settings import Settings, find_program
from hvkit.errors import HypervisorError
from hvkit.hypervisor.kvm.host.probe import probe_capabilities, read_kvm_host
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.node import find_obstacle

Verdict = Literal["ok", "note", "bad"]

TUN: Final = Path("/dev/net/tun")
INSTALL_QEMU: Final = "apt-get install --no-install-recommends qemu-system-x86 qemu-utils"


@attrs.frozen(kw_only=True)
class Finding:
    """What was found about one thing.

    Attributes:
        subject: the thing.
        verdict: ``ok``; ``note`` for something that instances can do without; ``bad`` for something they cannot.
        text: what was found.
        remedy: what to do about it; empty for nothing.
    """

    subject: str
    verdict: Verdict
    text: str
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Look at everything. Changes nothing; runs QEMU once, to ask what it can do."""
    examinations: tuple[Callable[[], Finding], ...] = (
        examine_python,
        examine_packages,
        lambda: examine_qemu(settings),
        examine_qemu_img,
        examine_kvm,
        examine_tap,
        lambda: examine_run_dir(settings),
    )
    return [each() for each in examinations]


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Whether instances can run."""
    return all(finding.verdict != "bad" for finding in findings)


def to_text(findings: Sequence[Finding]) -> str:
    """Return the findings for people, one a line, the remedies below."""
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict:<4}  {finding.subject:<{width}}  {finding.text}")
        if finding.remedy:
            lines.append(f"{'':<{width + 8}}-> {finding.remedy}")
    return "\n".join(lines)


def examine_python() -> Finding:
    """Look at Python."""
    return Finding(subject="python", verdict="ok", text=f"{sys.version.split()[0]} ({sys.executable})")


def examine_packages() -> Finding:
    """Look at what hvkit depends on."""
    versions = []
    for name in ("attrs", "cattrs", "click"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            remedy = "pip install 'hvkit[cli]'"
            return Finding(subject="packages", verdict="bad", text=f"{name} is missing", remedy=remedy)
    return Finding(subject="packages", verdict="ok", text=", ".join(versions))


def find_qemu(chosen: str) -> str:
    """Return the QEMU to use; empty where there is none.

    Args:
        chosen: the one that was asked for, which is not replaced by another where it is missing; empty for the one that
            instances get unless they say otherwise, or the one in PATH.
    """
    if chosen:
        return find_program(chosen)
    default = str(TABLE["kvm_path"].default)
    return shutil.which(default) or shutil.which(Path(default).name) or ""


def examine_qemu(settings: Settings) -> Finding:
    """Look at QEMU."""
    binary = find_qemu(settings.qemu)
    if not binary:
        return Finding(subject="QEMU", verdict="bad", text="is not installed", remedy=INSTALL_QEMU)
    try:
        capabilities = probe_capabilities(binary)
    except HypervisorError as error:
        return Finding(subject="QEMU", verdict="bad", text=str(error), remedy=INSTALL_QEMU)
    return Finding(subject="QEMU", verdict="ok", text=f"{capabilities.version_text} ({binary})")


def examine_qemu_img() -> Finding:
    """Look at qemu-img, which makes qcow2 disks."""
    path = shutil.which("qemu-img")
    if path:
        return Finding(subject="qemu-img", verdict="ok", text=path)
    return Finding(
        subject="qemu-img", verdict="note", text="is not installed; raw disks need none", remedy=INSTALL_QEMU
    )


def examine_kvm() -> Finding:
    """Look at KVM."""
    host = read_kvm_host()
    if host.problem:
        remedy = "load kvm_intel or kvm_amd, and let this user open /dev/kvm (group kvm)"
        text = f"{host.problem}; guests run under TCG, slowly"
        return Finding(subject="KVM", verdict="note", text=text, remedy=remedy)
    if host.is_emulated:
        text = "is there and only emulates; guests run under TCG, which is faster than that"
        return Finding(subject="KVM", verdict="note", text=text)
    return Finding(subject="KVM", verdict="ok", text="works")


def examine_tap() -> Finding:
    """Look at what NICs of mode tap need."""
    if not os.path.exists(TUN):
        text, remedy = f"{TUN} is missing; NICs can be of mode user only", "modprobe tun"
    elif not os.access(TUN, os.R_OK | os.W_OK):
        text, remedy = f"{TUN} cannot be opened; NICs can be of mode user only", "run as root"
    elif os.geteuid() != 0:
        text, remedy = "making taps takes CAP_NET_ADMIN; NICs can be of mode user", "run as root for those of mode tap"
    else:
        return Finding(subject="tap", verdict="ok", text=f"{TUN} can be opened")
    return Finding(subject="tap", verdict="note", text=text, remedy=remedy)


def examine_run_dir(settings: Settings) -> Finding:
    """Look at where instances are remembered, and at what the hypervisor itself finds wrong."""
    try:
        hypervisor = settings.open()
        problems = hypervisor.verify()
    except (HypervisorError, click.UsageError) as error:
        return Finding(subject="run dir", verdict="bad", text=str(error), remedy="choose another with --run-dir")
    obstacle = find_obstacle(hypervisor.run_dir)
    if obstacle and obstacle not in problems:
        problems = [obstacle, *problems]
    if problems:
        return Finding(subject="run dir", verdict="bad", text="; ".join(problems))
    state = "" if hypervisor.run_dir.exists() else ", made when first needed"
    return Finding(subject="run dir", verdict="ok", text=f"{hypervisor.run_dir}{state}")
