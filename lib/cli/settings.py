# SPDX-License-Identifier: BSD-2-Clause
"""What all commands have in common: which hypervisor, and where it remembers its instances."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import attrs
import click

from hvkit.hypervisor import BaseHypervisor, get_hypervisor


def default_run_dir(hypervisor: str) -> Path:
    """Return where a hypervisor of this user remembers its instances.

    Raises:
        click.UsageError: there is no such place.
    """
    if os.geteuid() == 0:
        return Path("/run/hvkit", hypervisor)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if not runtime:
        raise click.UsageError("XDG_RUNTIME_DIR is not set; say where instances are remembered with --run-dir")
    return Path(runtime, "hvkit", hypervisor)


def default_state_dir(hypervisor: str, run_dir: Path | None) -> Path | None:
    """Return where a hypervisor keeps what outlives instances and the node's reboot; None: with the instances."""
    return Path("/var/lib/hvkit", hypervisor) if run_dir is None and os.geteuid() == 0 else None


def find_program(name: str) -> str:
    """Return the absolute path of a program, given by a path or a name in PATH, also of one that is not there."""
    return os.path.abspath(shutil.which(name) or name)


@attrs.frozen(kw_only=True)
class Settings:
    """The options before the command.

    Attributes:
        hypervisor: its name.
        run_dir: where it remembers its instances; None for the user's default.
        state_dir: where KVM keeps what outlives instances; None for the user's default.
        qemu: the QEMU that KVM uses for what names none, a path or a name in PATH; empty for the plugin's default.
    """

    hypervisor: str
    run_dir: Path | None
    state_dir: Path | None = None
    qemu: str = ""

    def open(self) -> BaseHypervisor:
        """Make the hypervisor.

        Raises:
            PluginError: there is none of that name, or it cannot be loaded.
            click.UsageError: nobody said where it remembers its instances.
        """
        options: dict[str, Any] = {}
        if self.hypervisor == "kvm":
            options["state_dir"] = self.state_dir or default_state_dir(self.hypervisor, self.run_dir)
            if self.qemu:
                options["kvm_path"] = find_program(self.qemu)
        return get_hypervisor(self.hypervisor, run_dir=self.run_dir or default_run_dir(self.hypervisor), **options)
