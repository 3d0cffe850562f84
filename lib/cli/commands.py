# SPDX-License-Identifier: BSD-2-Clause
"""The commands of ``hvkit``, each a few lines over the library."""

from __future__ import annotations

import difflib
import json
import shlex
import textwrap
from pathlib import Path
from typing import Any, Final

import attrs
import click

import hvkit as package
from hvkit.cli.depth import TOO_DEEP, is_deeper
from hvkit.cli.options import parse_seconds
from hvkit.cli.qmp_arguments import ArgumentError, build_command, parse_free, parse_words
from hvkit.cli.render import to_json, to_outline, to_table
from hvkit.cli.settings import Settings
from hvkit.cli.spec import EXAMPLE, locate, read_spec
from hvkit.errors import HypervisorError
from hvkit.hypervisor import (
    Console,
    ConsoleKind,
    InstanceChange,
    InstanceInfo,
    InstanceNotFound,
    ParameterError,
    RuntimeStateError,
    get_hypervisor_class,
)
from hvkit.hypervisor.kvm.plan.parameters import TABLE as KVM_PARAMETERS
from hvkit.qmp import CommandNotFound, schema
from hvkit.qmp.converter import unstructure

_pass_settings = click.make_pass_decorator(Settings)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

#: How deep a reply may be: it is rendered level by level, each of which takes some of Python's stack.
_MAX_SHOWN_LEVELS: Final = 100

EPILOG = """Exit codes: 0 all went well; 1 something of the world failed; 2 the command line makes no sense; 3 a bug in
hvkit; 130 Ctrl-C."""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG, subcommand_metavar="COMMAND [ARGUMENT]..."
)
@click.version_option(package.__version__, prog_name="hvkit")
@click.option(
    "--run-dir",
    envvar="HVKIT_RUN_DIR",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="Where instances are remembered. By default /run/hvkit/HYPERVISOR for root, "
    "$XDG_RUNTIME_DIR/hvkit/HYPERVISOR for others.",
)
@click.option(
    "--state-dir",
    envvar="HVKIT_STATE_DIR",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="Where what outlives instances is kept, such as the variables of UEFI. By default /var/lib/hvkit/HYPERVISOR "
    "for root without --run-dir, otherwise with the instances.",
)
@click.option("--hypervisor", default="kvm", show_default=True, metavar="NAME", help="What runs the instances.")
@click.option(
    "--qemu",
    envvar="HVKIT_QEMU",
    show_envvar=True,
    default="",
    metavar="PROGRAM",
    help=f"The QEMU of instances whose kvm_path names none. By default {KVM_PARAMETERS['kvm_path'].default}.",
)
@click.pass_context
def hvkit(context: click.Context, run_dir: Path | None, state_dir: Path | None, hypervisor: str, qemu: str) -> None:
    """Run virtual machines on this node."""
    context.obj = Settings(hypervisor=hypervisor, run_dir=run_dir, state_dir=state_dir, qemu=qemu)


# ---- the life of an instance


@hvkit.command(epilog="\b\nSuch a file looks like this:\n\n\b\n" + textwrap.indent(EXAMPLE, "    "))
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--paused", is_flag=True, help="Leave its processors standing still.")
@_pass_settings
def start(settings: Settings, spec: Path, paused: bool) -> None:
    """Start the instance that the TOML file SPEC describes."""
    instance = read_spec(spec)
    hypervisor = settings.open()
    try:
        hypervisor.start_instance(instance, start_paused=paused)
    except ParameterError as error:
        raise locate(error, instance, file=str(spec)) from error
    _say_state(hypervisor.get_instance_info(instance.name))


@hvkit.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Do not ask the guest; what it did not write is lost.")
@click.option("--timeout", type=parse_seconds, metavar="SECONDS", help="How long the guest has.")
@_pass_settings
def stop(settings: Settings, name: str, force: bool, timeout: float | None) -> None:
    """Stop the instance NAME: its power button first, then harder."""
    hypervisor = settings.open()
    hypervisor.stop_instance(name, force=force, timeout=timeout)
    try:
        info = hypervisor.get_instance_info(name)
    except (InstanceNotFound, RuntimeStateError) as error:
        # It was stopped all the same, and that is what was asked for.
        click.echo(f"{name}: stopped; more is not known of it: {str(error).removeprefix(f'{name}: ')}")
        return
    _say_state(info)


@hvkit.command()
@click.argument("name")
@_pass_settings
def reboot(settings: Settings, name: str) -> None:
    """Reset the instance NAME: its guest starts anew."""
    hypervisor = settings.open()
    hypervisor.reboot_instance(name)
    _say_state(hypervisor.get_instance_info(name))


@hvkit.command()
@click.argument("name")
@_pass_settings
def cleanup(settings: Settings, name: str) -> None:
    """Forget the instance NAME, which must be over, and remove what it left. Its disks stay."""
    settings.open().cleanup_instance(name)
    click.echo(f"{name}: forgotten")


def _say_state(info: InstanceInfo) -> None:
    click.echo(f"{info.name}: {info.state.value}{f' ({info.reason})' if info.reason else ''}")


# ---- what there is


@hvkit.command("list")
@_json_option
@_pass_settings
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
@_json_option
@_pass_settings
def show(settings: Settings, name: str, as_json: bool) -> None:
    """Show what the instance NAME is doing."""
    plain = _plain_info(settings.open().get_instance_info(name))
    click.echo(to_json(plain) if as_json else to_outline(plain))


def _plain_info(info: InstanceInfo) -> dict[str, Any]:
    cause = None if info.cause is None else info.cause.value
    return attrs.asdict(info) | {"uuid": str(info.uuid), "state": info.state.value, "cause": cause}


@hvkit.command()
@_json_option
@_pass_settings
def watch(settings: Settings, as_json: bool) -> None:
    """Print what changes with instances as it happens, a line each, until Ctrl-C. Begins with all that are there."""
    with settings.open().watch() as watching:
        while True:
            for change in watching.wait():
                click.echo(_json_line(change) if as_json else describe_change(change))


def describe_change(change: InstanceChange) -> str:
    """Return a line that says what is other with an instance."""
    before, after = change.before, change.after
    if after is None:
        return f"{change.name}: forgotten"
    what = after.state.value
    if before is not None and before.state is not after.state:
        what = f"{before.state.value} -> {what}"
    if before is not None and before.memory_mib != after.memory_mib:
        what += f", {before.memory_mib} -> {after.memory_mib} MiB"
    return f"{change.name}: {what} ({after.reason})" if after.reason else f"{change.name}: {what}"


def _json_line(change: InstanceChange) -> str:
    sides = {"before": change.before, "after": change.after}
    plain = {side: None if info is None else _plain_info(info) for side, info in sides.items()}
    return json.dumps({"name": change.name, **plain})


@hvkit.command()
@click.argument("name")
@_pass_settings
def console(settings: Settings, name: str) -> None:
    """Say how to reach the console of the instance NAME."""
    click.echo(describe_console(settings.open().get_instance_console(name)))


def describe_console(console: Console) -> str:
    """Return what to type, or where to point a viewer."""
    if console.kind is ConsoleKind.MESSAGE:
        return console.message
    if console.command:
        return shlex.join(console.command)
    place = console.path or f"{console.host}:{console.port}"
    return f"{console.kind.value} {place}"


@hvkit.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@_pass_settings
def screenshot(settings: Settings, name: str, file: Path) -> None:
    """Write what is on the screen of the instance NAME to FILE, as a PNG."""
    picture = settings.open().get_instance_screenshot(name)
    try:
        file.write_bytes(picture)
    except OSError as error:
        raise HypervisorError(f"{file}: {error.strerror}") from error


@hvkit.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "dump_format", metavar="FORMAT", help="Such as elf, the usual one, or kdump-zlib.")
@click.option("--timeout", type=parse_seconds, default="inf", metavar="SECONDS", help="How long it may take.")
@_pass_settings
def dump(settings: Settings, name: str, file: Path, dump_format: str | None, timeout: float) -> None:
    """Write the memory of the instance NAME to FILE, for a debugger. Its guest stands still meanwhile."""
    settings.open().dump_instance_memory(name, file.absolute(), dump_format=dump_format, timeout=timeout)


@hvkit.command()
@click.argument("monitor", type=click.Path(path_type=Path))
@_json_option
@_pass_settings
def examine(settings: Settings, monitor: Path, as_json: bool) -> None:
    """Show what the machine is that somebody else started, and whose MONITOR listens at that path."""
    foreign = settings.open().inspect_monitor(monitor.absolute())
    plain = attrs.asdict(foreign) | {"uuid": None if foreign.uuid is None else str(foreign.uuid)}
    click.echo(to_json(plain) if as_json else to_outline(plain))


@hvkit.command()
@click.argument("monitor", type=click.Path(path_type=Path))
@click.option("--pid", type=int, required=True, help="Its process, as shown by examine.")
@click.option("--name", help="What it is to be called. By default what the machine is called.")
@click.option("--shared-monitor", type=click.Path(path_type=Path), metavar="PATH", help="A second monitor that it has.")
@_pass_settings
def adopt(settings: Settings, monitor: Path, pid: int, name: str | None, shared_monitor: Path | None) -> None:
    """Take over a machine that somebody else started, and whose MONITOR listens at that path. Look at it first."""
    hypervisor = settings.open()
    foreign = hypervisor.inspect_monitor(monitor.absolute())
    if foreign.pid != pid:
        raise HypervisorError(f"{monitor}: process {foreign.pid} listens there, and not {pid}")
    second = None if shared_monitor is None else shared_monitor.absolute()
    _say_state(hypervisor.get_instance_info(hypervisor.adopt_instance(foreign, name=name, shared_monitor=second)))


@hvkit.command()
@click.argument("hypervisor", default="kvm")
@_json_option
def parameters(hypervisor: str, as_json: bool) -> None:
    """List the parameters of HYPERVISOR (kvm): what [parameters] of a SPEC may hold."""
    table = get_hypervisor_class(hypervisor).PARAMETERS.values()
    if as_json:
        plain = [
            {
                "name": each.name,
                "type": each.kind.__name__,
                "default": each.default,
                "choices": list(each.syntax.choices) if each.syntax else [],
                "doc": each.doc,
            }
            for each in table
        ]
        click.echo(to_json(plain))
        return
    for each in table:
        click.echo(f"{each.name} = {to_json(each.default)}")
        checks = [check.condition for check in (each.syntax, each.node) if check]
        doc = f"{each.doc} Expected: {'; '.join(checks)}." if checks else each.doc
        click.echo(click.wrap_text(doc, width=100, initial_indent="    ", subsequent_indent="    "))


# ---- the monitor


@hvkit.command()
@click.argument("name")
@click.argument("command")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--timeout", type=parse_seconds, metavar="SECONDS", help="How long the reply may take.")
@_json_option
@_pass_settings
def qmp(
    settings: Settings, name: str, command: str, arguments: tuple[str, ...], timeout: float | None, as_json: bool
) -> None:
    """Execute the QMP COMMAND on the monitor of the instance NAME, and print what it returns.

    What each VALUE must be is known from the schema. A dot in a KEY goes one level down, such as
    file.filename=/srv/disk; structures may be given as JSON instead. A command that the schema does not know is sent
    with its values as they look.
    """
    with settings.open().monitor(name) as connection:
        try:
            if command in schema.commands():
                reply = connection.execute(build_command(schema.command(command), arguments), timeout=timeout)
            else:
                reply = connection.execute(command, parse_free(parse_words(arguments)), timeout=timeout)
        except ArgumentError as error:
            raise click.UsageError(f"{command}: {error}") from None
        except CommandNotFound as error:
            matches = difflib.get_close_matches(command, schema.commands(), n=2)
            if command in schema.commands() or not matches:
                raise
            raise click.UsageError(f"{error}; did you mean {' or '.join(matches)}?") from None
    plain = unstructure(reply)
    if is_deeper(plain, _MAX_SHOWN_LEVELS):
        raise HypervisorError(f"{command}: the reply {TOO_DEEP} to be shown")
    if as_json:
        click.echo(to_json({} if plain is None else plain))
    elif plain is not None:
        click.echo(to_outline(plain))


# ---- this node


@hvkit.command()
@_json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check whether this node can run instances, and say what to do where it cannot."""
    from hvkit.cli.doctor import examine, is_healthy, to_text

    settings: Settings = context.obj
    findings = examine(settings)
    if as_json:
        click.echo(to_json([attrs.asdict(finding) for finding in findings]))
    else:
        click.echo(to_text(findings))
    context.exit(0 if is_healthy(findings) else 1)


@hvkit.command()
@click.option("--simulated", is_flag=True, help="Use a simulated machine even where there is QEMU.")
@_pass_settings
def demo(settings: Settings, simulated: bool) -> None:
    """Start a machine, ask it, hear from it, change it, stop it; it leaves nothing behind."""
    from hvkit.cli.demo import run_demo
    from hvkit.cli.doctor import find_qemu

    run_demo(find_qemu(settings.qemu), simulated=simulated)
