# SPDX-License-Identifier: BSD-2-Clause
"""The global options of the command: the hypervisor, its directories, and the QEMU program."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import attrs
import click

from hvkit.hypervisor import BaseHypervisor, get_hypervisor, get_hypervisor_class


def default_run_dir(hypervisor: str) -> Path:
    """Return the default run directory of a hypervisor for the current user.

    Raises:
        click.UsageError: XDG_RUNTIME_DIR is not set, and the user is not root.
    """
    if os.geteuid() == 0:
        return Path("/run/hvkit", hypervisor)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if not runtime:
        raise click.UsageError("XDG_RUNTIME_DIR is not set; give the run directory with --run-dir")
    return Path(runtime, "hvkit", hypervisor)


def default_state_dir(hypervisor: str, run_dir: Path | None) -> Path | None:
    """Return the default directory for state that survives a reboot of the node; None for the run directory."""
    return Path("/var/lib/hvkit", hypervisor) if run_dir is None and os.geteuid() == 0 else None


def find_program(name: str) -> str:
    """Return the absolute path of a program given by path or by name in PATH. It need not exist."""
    return os.path.abspath(shutil.which(name) or name)


@attrs.frozen(kw_only=True)
class Settings:
    """The global options.

    Attributes:
        hypervisor: name of the hypervisor.
        run_dir: the run directory; None for the default.
        state_dir: directory for state that survives a reboot of the node; None for the default.
        qemu: path or name of the default QEMU program; empty for the plugin's default.
    """

    hypervisor: str
    run_dir: Path | None
    state_dir: Path | None = None
    qemu: str = ""

    def open(self) -> BaseHypervisor:
        """Return the hypervisor.

        Raises:
            PluginError: the hypervisor does not exist or cannot be loaded.
            click.UsageError: the run directory is not given and has no default.
        """
        options: dict[str, Any] = {}
        if self.hypervisor == "kvm":
            options["state_dir"] = self.state_dir or default_state_dir(self.hypervisor, self.run_dir)
            if self.qemu:
                options["kvm_path"] = find_program(self.qemu)
        return get_hypervisor(self.hypervisor, run_dir=self.run_dir or default_run_dir(self.hypervisor), **options)

    def find_qemu(self) -> str:
        """Return the path of the QEMU program.

        A program chosen with --qemu is returned even if it does not exist. Without one it is the default of the
        parameter kvm_path, or else the program of that name in PATH; empty if neither exists.
        """
        if self.qemu:
            return find_program(self.qemu)
        default = str(get_hypervisor_class("kvm").PARAMETERS["kvm_path"].default)
        return shutil.which(default) or shutil.which(Path(default).name) or ""
