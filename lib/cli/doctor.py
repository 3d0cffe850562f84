# SPDX-License-Identifier: BSD-2-Clause
"""The checks of ``hvkit doctor``: Python, packages, the hypervisor's requirements, and the run directory."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence, Set

import click

from hvkit.cli.settings import Settings
from hvkit.errors import HypervisorError
from hvkit.hypervisor import NodeCheck, get_hypervisor_class
from hvkit.hypervisor.node import find_obstacle


def run_checks(settings: Settings) -> list[NodeCheck]:
    """Run all checks. Changes nothing on the node; may start QEMU briefly to query it."""
    checks = [probe_python(), probe_packages(), *probe_hypervisor(settings)]
    return [*checks, probe_run_dir(settings, reported={check.text for check in checks})]


def is_healthy(checks: Sequence[NodeCheck]) -> bool:
    """Whether this node can run instances."""
    return all(check.verdict != "bad" for check in checks)


def to_text(checks: Sequence[NodeCheck]) -> str:
    """Format the results in columns, one per line, each followed by its remedy."""
    width = max(len(check.subject) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.verdict:<4}  {check.subject:<{width}}  {check.text}")
        if check.remedy:
            lines.append(f"{'':<{width + 8}}-> {check.remedy}")
    return "\n".join(lines)


def probe_python() -> NodeCheck:
    """Report the Python interpreter."""
    return NodeCheck(subject="python", verdict="ok", text=f"{sys.version.split()[0]} ({sys.executable})")


def probe_packages() -> NodeCheck:
    """Check that the packages that hvkit requires are installed."""
    versions = []
    for name in ("attrs", "cattrs", "click"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            remedy = "pip install 'hvkit[cli]'"
            return NodeCheck(subject="packages", verdict="bad", text=f"{name} is not installed", remedy=remedy)
    return NodeCheck(subject="packages", verdict="ok", text=", ".join(versions))


def probe_hypervisor(settings: Settings) -> list[NodeCheck]:
    """Run the hypervisor's own checks of the node. An unknown hypervisor is reported by `probe_run_dir`."""
    try:
        hypervisor = get_hypervisor_class(settings.hypervisor)
    except HypervisorError:
        return []
    return hypervisor.get_node_checks(kvm_path=settings.find_qemu() or None)


def probe_run_dir(settings: Settings, *, reported: Set[str] = frozenset()) -> NodeCheck:
    """Check the run directory, and the hypervisor's own report of problems.

    Args:
        settings: the global options.
        reported: problems that earlier checks reported; they are not repeated.
    """
    try:
        hypervisor = settings.open()
        problems = [problem for problem in hypervisor.verify() if problem not in reported]
    except (HypervisorError, click.UsageError) as error:
        return NodeCheck(subject="run dir", verdict="bad", text=str(error), remedy="use another one with --run-dir")
    obstacle = find_obstacle(hypervisor.run_dir)
    if obstacle and obstacle not in problems:
        problems = [obstacle, *problems]
    if problems:
        return NodeCheck(subject="run dir", verdict="bad", text="; ".join(problems))
    state = "" if hypervisor.run_dir.exists() else ", created at the first start"
    return NodeCheck(subject="run dir", verdict="ok", text=f"{hypervisor.run_dir}{state}")
