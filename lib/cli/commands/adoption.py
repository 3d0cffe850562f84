# SPDX-License-Identifier: BSD-2-Clause
"""The commands ``examine`` and ``adopt``, for QEMU processes that hvkit did not start."""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from hvkit.cli.commands.group import hvkit, json_option, pass_settings, print_state
from hvkit.cli.render import to_json, to_outline
from hvkit.cli.settings import Settings
from hvkit.errors import HypervisorError


@hvkit.command()
@click.argument("monitor", type=click.Path(path_type=Path))
@json_option
@pass_settings
def examine(settings: Settings, monitor: Path, as_json: bool) -> None:
    """Show the external instance behind the QMP socket MONITOR."""
    external = settings.open().inspect_monitor(monitor.absolute())
    plain = attrs.asdict(external) | {"uuid": None if external.uuid is None else str(external.uuid)}
    click.echo(to_json(plain) if as_json else to_outline(plain))


@hvkit.command()
@click.argument("monitor", type=click.Path(path_type=Path))
@click.option("--pid", type=int, required=True, help="Process id of the instance, as shown by examine.")
@click.option("--name", help="Name of the new instance. Default: the name given to QEMU.")
@click.option(
    "--shared-monitor", type=click.Path(path_type=Path), metavar="PATH", help="Second QMP socket of the instance."
)
@pass_settings
def adopt(settings: Settings, monitor: Path, pid: int, name: str | None, shared_monitor: Path | None) -> None:
    """Adopt the external instance behind the QMP socket MONITOR. Run examine first."""
    hypervisor = settings.open()
    external = hypervisor.inspect_monitor(monitor.absolute())
    if external.pid != pid:
        raise HypervisorError(f"{monitor}: the monitor belongs to process {external.pid}, not to {pid}")
    second = None if shared_monitor is None else shared_monitor.absolute()
    print_state(hypervisor.get_instance_info(hypervisor.adopt_instance(external, name=name, shared_monitor=second)))
