# SPDX-License-Identifier: BSD-2-Clause
"""The command group ``hvkit`` with its global options."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

import hvkit as package
from hvkit.cli.settings import Settings
from hvkit.hypervisor import InstanceInfo

pass_settings: Final = click.make_pass_decorator(Settings)
json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

EPILOG: Final = """Exit codes: 0 success; 1 the operation failed; 2 invalid command line; 3 bug in hvkit;
130 interrupted with Ctrl-C."""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG, subcommand_metavar="COMMAND [ARGUMENT]..."
)
@click.version_option(package.__version__, prog_name="hvkit")
@click.option(
    "--run-dir",
    envvar="HVKIT_RUN_DIR",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="Directory with the state of running instances. Default: /run/hvkit/HYPERVISOR for root, "
    "$XDG_RUNTIME_DIR/hvkit/HYPERVISOR for other users.",
)
@click.option(
    "--state-dir",
    envvar="HVKIT_STATE_DIR",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="Directory for state that survives a reboot of the node, such as UEFI variables. Default: "
    "/var/lib/hvkit/HYPERVISOR for root without --run-dir, otherwise below the run directory.",
)
@click.option(
    "--hypervisor", default="kvm", show_default=True, metavar="NAME", help="Hypervisor that runs the instances."
)
@click.option(
    "--qemu",
    envvar="HVKIT_QEMU",
    show_envvar=True,
    default="",
    metavar="PROGRAM",
    help="QEMU program for instances without the parameter kvm_path. Default: /usr/bin/qemu-system-x86_64.",
)
@click.pass_context
def hvkit(context: click.Context, run_dir: Path | None, state_dir: Path | None, hypervisor: str, qemu: str) -> None:
    """Run virtual machines on this node."""
    context.obj = Settings(hypervisor=hypervisor, run_dir=run_dir, state_dir=state_dir, qemu=qemu)


def print_state(info: InstanceInfo) -> None:
    """Print the state of an instance and its reason on one line."""
    click.echo(f"{info.name}: {info.state.value}{f' ({info.reason})' if info.reason else ''}")
