# SPDX-License-Identifier: BSD-2-Clause
"""What all commands have in common: which hypervisor, and where it remembers its instances."""

from __future__ import annotations

import os
from pathlib import Path

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


@attrs.frozen(kw_only=True)
class Settings:
    """The options before the command.

    Attributes:
        hypervisor: its name.
        run_dir: where it remembers its instances; None for the user's default.
    """

    hypervisor: str
    run_dir: Path | None

    def open(self) -> BaseHypervisor:
        """Make the hypervisor.

        Raises:
            PluginError: there is none of that name, or it cannot be loaded.
            click.UsageError: nobody said where it remembers its instances.
        """
        return get_hypervisor(self.hypervisor, run_dir=self.run_dir or default_run_dir(self.hypervisor))
