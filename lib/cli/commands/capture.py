# SPDX-License-Identifier: BSD-2-Clause
"""The commands ``screenshot`` and ``dump``."""

from __future__ import annotations

from pathlib import Path

import click

from hvkit.cli.commands.group import hvkit, pass_settings
from hvkit.cli.options import parse_seconds
from hvkit.cli.settings import Settings
from hvkit.errors import HypervisorError


@hvkit.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@pass_settings
def screenshot(settings: Settings, name: str, file: Path) -> None:
    """Save the screen of the instance NAME to FILE in PNG format."""
    picture = settings.open().get_instance_screenshot(name)
    try:
        file.write_bytes(picture)
    except OSError as error:
        raise HypervisorError(f"{file}: {error.strerror}") from error


@hvkit.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "dump_format", metavar="FORMAT", help="Dump format, such as elf or kdump-zlib. Default: elf.")
@click.option("--timeout", type=parse_seconds, default="inf", metavar="SECONDS", help="Time limit. Default: no limit.")
@pass_settings
def dump(settings: Settings, name: str, file: Path, dump_format: str | None, timeout: float) -> None:
    """Dump the memory of the instance NAME to FILE. The guest is paused meanwhile."""
    settings.open().dump_instance_memory(name, file.absolute(), dump_format=dump_format, timeout=timeout)
