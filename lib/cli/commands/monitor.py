# SPDX-License-Identifier: BSD-2-Clause
"""The command ``qmp``."""

from __future__ import annotations

import difflib
from typing import Any, Final

import click

from hvkit.cli.commands.group import hvkit, json_option, pass_settings
from hvkit.cli.depth import TOO_DEEP, is_deeper
from hvkit.cli.options import parse_seconds
from hvkit.cli.qmp_arguments import ArgumentError, build_command, parse_free, parse_words
from hvkit.cli.render import to_json, to_outline
from hvkit.cli.settings import Settings
from hvkit.errors import HypervisorError
from hvkit.qmp import CommandNotFound, QmpConnection, QmpError, schema
from hvkit.qmp.converter import unstructure

#: Maximum nesting of a reply to print. Formatting recurses once per level.
_MAX_SHOWN_LEVELS: Final = 100


@hvkit.command()
@click.argument("name")
@click.argument("command")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--timeout", type=parse_seconds, metavar="SECONDS", help="Time limit for the reply. Default: 5 for most commands."
)
@json_option
@pass_settings
def qmp(
    settings: Settings, name: str, command: str, arguments: tuple[str, ...], timeout: float | None, as_json: bool
) -> None:
    """Execute a QMP COMMAND on the instance NAME. Prints the reply.

    The schema determines the type of each VALUE. A dot in a KEY selects a member of a structure, such as
    file.filename=/srv/disk; a structure can also be given as JSON. For a command that the schema does not contain,
    each VALUE that is valid JSON is sent as JSON, and any other as a string.
    """
    hypervisor = settings.open()
    try:
        with hypervisor.monitor(name) as connection:
            reply = _execute(connection, command, arguments, timeout)
    except QmpError as error:
        raise HypervisorError(f"{name}: {error.reason}") from error
    plain = unstructure(reply)
    if is_deeper(plain, _MAX_SHOWN_LEVELS):
        raise HypervisorError(f"{command}: cannot print the reply: it {TOO_DEEP}")
    if as_json:
        click.echo(to_json({} if plain is None else plain))
    elif plain is not None:
        click.echo(to_outline(plain))


def _execute(connection: QmpConnection, command: str, arguments: tuple[str, ...], timeout: float | None) -> Any:
    """Execute a command.

    Raises:
        click.UsageError: the arguments are invalid, or the command does not exist but a similar one does.
        QmpError: the command failed.
    """
    try:
        if command in schema.commands():
            return connection.execute(build_command(schema.command(command), arguments), timeout=timeout)
        return connection.execute(command, parse_free(parse_words(arguments)), timeout=timeout)
    except ArgumentError as error:
        raise click.UsageError(f"{command}: {error}") from None
    except CommandNotFound as error:
        matches = difflib.get_close_matches(command, schema.commands(), n=2)
        if command in schema.commands() or not matches:
            raise
        raise click.UsageError(f"{error.reason}; did you mean {' or '.join(matches)}?") from None
