# SPDX-License-Identifier: BSD-2-Clause
"""The commands ``start``, ``stop``, ``reboot`` and ``cleanup``."""

from __future__ import annotations

import textwrap
from pathlib import Path

import click

from hvkit.cli.commands.group import hvkit, pass_settings, print_state
from hvkit.cli.options import parse_seconds
from hvkit.cli.settings import Settings
from hvkit.cli.spec import EXAMPLE, locate, read_spec
from hvkit.hypervisor import InstanceNotFound, ParameterError, RuntimeStateError


@hvkit.command(epilog="\b\nExample of a SPEC file:\n\n\b\n" + textwrap.indent(EXAMPLE, "    "))
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--paused", is_flag=True, help="Start with paused vCPUs.")
@pass_settings
def start(settings: Settings, spec: Path, paused: bool) -> None:
    """Start the instance that the TOML file SPEC describes."""
    instance = read_spec(spec)
    hypervisor = settings.open()
    try:
        hypervisor.start_instance(instance, start_paused=paused)
    except ParameterError as error:
        raise locate(error, instance, file=str(spec)) from error
    print_state(hypervisor.get_instance_info(instance.name))


@hvkit.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Quit without a graceful shutdown; the guest loses unwritten data.")
@click.option(
    "--timeout",
    type=parse_seconds,
    metavar="SECONDS",
    help="Time for the graceful shutdown; inf: no limit. Default for kvm: 60.",
)
@pass_settings
def stop(settings: Settings, name: str, force: bool, timeout: float | None) -> None:
    """Stop the instance NAME by a graceful shutdown. After the timeout, QEMU quits.

    Ctrl-C ends the wait for the guest. The guest may still shut down.
    """
    hypervisor = settings.open()
    hypervisor.stop_instance(name, force=force, timeout=timeout)
    try:
        info = hypervisor.get_instance_info(name)
    except (InstanceNotFound, RuntimeStateError) as error:
        # The instance was stopped, so the command succeeded.
        click.echo(f"{name}: stopped; cannot read its state: {str(error).removeprefix(f'{name}: ')}")
        return
    print_state(info)


@hvkit.command()
@click.argument("name")
@pass_settings
def reboot(settings: Settings, name: str) -> None:
    """Reset the running instance NAME. The guest loses unwritten data."""
    hypervisor = settings.open()
    hypervisor.reboot_instance(name)
    print_state(hypervisor.get_instance_info(name))


@hvkit.command()
@click.argument("name")
@pass_settings
def cleanup(settings: Settings, name: str) -> None:
    """Delete the state of the stopped instance NAME. Its disks, UEFI variables and TPM state are kept."""
    hypervisor = settings.open()
    exists = name in hypervisor.list_instances()
    hypervisor.cleanup_instance(name)
    click.echo(f"{name}: cleaned up" if exists else f"{name}: no such instance on this node; nothing to clean up")
