# SPDX-License-Identifier: BSD-2-Clause
"""The commands ``list``, ``show``, ``watch``, ``console`` and ``parameters``, which change nothing."""

from __future__ import annotations

import json
import shlex
from typing import Any

import attrs
import click

from hvkit.cli.commands.group import hvkit, json_option, pass_settings
from hvkit.cli.render import to_json, to_outline, to_table
from hvkit.cli.settings import Settings
from hvkit.hypervisor import Console, ConsoleKind, InstanceChange, InstanceInfo, get_hypervisor_class
from hvkit.hypervisor.parameters import Parameter


@hvkit.command("list")
@json_option
@pass_settings
def list_(settings: Settings, as_json: bool) -> None:
    """List all instances."""
    infos = settings.open().get_all_instances_info()
    if as_json:
        click.echo(to_json([_plain_info(info) for info in infos]))
        return
    rows = [(info.name, info.state.value, info.pid, f"{info.memory_mib} MiB", info.vcpus) for info in infos]
    click.echo(to_table(("NAME", "STATE", "PID", "MEMORY", "VCPUS"), rows))


@hvkit.command()
@click.argument("name")
@json_option
@pass_settings
def show(settings: Settings, name: str, as_json: bool) -> None:
    """Show the state of the instance NAME."""
    plain = _plain_info(settings.open().get_instance_info(name))
    click.echo(to_json(plain) if as_json else to_outline(plain))


def _plain_info(info: InstanceInfo) -> dict[str, Any]:
    cause = None if info.cause is None else info.cause.value
    return attrs.asdict(info) | {"uuid": str(info.uuid), "state": info.state.value, "cause": cause}


@hvkit.command()
@json_option
@pass_settings
def watch(settings: Settings, as_json: bool) -> None:
    """Print state changes of all instances until Ctrl-C. Starts with the current states."""
    with settings.open().watch() as instance_watch:
        while True:
            for change in instance_watch.wait():
                click.echo(_json_line(change) if as_json else describe_change(change))


def describe_change(change: InstanceChange) -> str:
    """Return one line that describes a change of an instance."""
    before, after = change.before, change.after
    if after is None:
        return f"{change.name}: cleaned up"
    text = after.state.value
    if before is not None and before.state is not after.state:
        text = f"{before.state.value} -> {text}"
    if before is not None and before.memory_mib != after.memory_mib:
        text += f", {before.memory_mib} -> {after.memory_mib} MiB"
    return f"{change.name}: {text} ({after.reason})" if after.reason else f"{change.name}: {text}"


def _json_line(change: InstanceChange) -> str:
    sides = {"before": change.before, "after": change.after}
    plain = {side: None if info is None else _plain_info(info) for side, info in sides.items()}
    return json.dumps({"name": change.name, **plain})


@hvkit.command()
@click.argument("name")
@pass_settings
def console(settings: Settings, name: str) -> None:
    """Show how to connect to the console of the instance NAME.

    Prints a command that uses socat, or the address for a VNC or SPICE client.
    """
    click.echo(describe_console(settings.open().get_instance_console(name)))


def describe_console(console: Console) -> str:
    """Return the command that opens a console, or the address for a viewer."""
    if console.kind is ConsoleKind.MESSAGE:
        return console.message
    if console.command:
        return shlex.join(console.command)
    address = console.path or f"{console.host}:{console.port}"
    return f"{console.kind.value} {address}"


@hvkit.command()
@click.argument("hypervisor", default="kvm")
@json_option
def parameters(hypervisor: str, as_json: bool) -> None:
    """List the parameters of HYPERVISOR (default: kvm). A SPEC file sets them in the table [parameters]."""
    table = get_hypervisor_class(hypervisor).PARAMETERS.values()
    if as_json:
        click.echo(to_json([_plain_parameter(each) for each in table]))
        return
    for each in table:
        click.echo(f"{each.name} = {to_json(each.default)}")
        text = each.doc
        if each.syntax is not None:
            text += f" Expected: {each.syntax.condition}."
        if each.node is not None:
            text += f" On the node: {each.node.condition}."
        click.echo(click.wrap_text(text, width=100, initial_indent="    ", subsequent_indent="    "))


def _plain_parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "type": parameter.kind.__name__,
        "default": parameter.default,
        "choices": list(parameter.syntax.choices) if parameter.syntax else [],
        "doc": parameter.doc,
    }
