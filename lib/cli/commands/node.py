# SPDX-License-Identifier: BSD-2-Clause
"""The commands ``doctor`` and ``demo``."""

from __future__ import annotations

import attrs
import click

from hvkit.cli.commands.group import hvkit, json_option, pass_settings
from hvkit.cli.render import to_json
from hvkit.cli.settings import Settings


@hvkit.command()
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check whether this node can run instances. Prints a remedy for each problem."""
    from hvkit.cli.doctor import is_healthy, run_checks, to_text

    settings: Settings = context.obj
    checks = run_checks(settings)
    if as_json:
        click.echo(to_json([attrs.asdict(check) for check in checks]))
    else:
        click.echo(to_text(checks))
    context.exit(0 if is_healthy(checks) else 1)


@hvkit.command()
@click.option("--simulated", is_flag=True, help="Use simulated QEMU even if QEMU is installed.")
@pass_settings
def demo(settings: Settings, simulated: bool) -> None:
    """Start, change and stop a temporary instance, step by step."""
    from hvkit.cli.demo import run_demo

    run_demo(settings.find_qemu(), simulated=simulated)
