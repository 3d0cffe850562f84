# SPDX-License-Identifier: BSD-2-Clause
"""Run a command line, and turn what went wrong into one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TextIO

import click

from hvkit.cli import EXIT_BUG, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, EXIT_WORLD
from hvkit.cli.commands import hvkit
from hvkit.errors import HypervisorError


def run(arguments: Sequence[str] | None) -> int:
    """Run a command line and return the exit code; see `hvkit.cli`.

    Args:
        arguments: what was typed after the command's name; None for those of this process.
    """
    try:
        with _signals_unwind():
            # Outside its stand-alone mode click returns the code of --help and of ctx.exit(), and raises all else.
            code = hvkit.main(args=arguments, prog_name="hvkit", standalone_mode=False)
        return code if isinstance(code, int) else EXIT_OK
    except click.ClickException as error:
        complain(_usage(error))
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        complain("interrupted")
        return EXIT_INTERRUPTED
    except HypervisorError as error:
        complain(str(error))
        return EXIT_WORLD
    except Exception as error:  # noqa: BLE001 - nothing is hidden: the bug is shown as what it is
        if isinstance(error, OSError) and _came_from_echo(error):
            _discard(sys.stdout)
            complain(f"cannot write the output: {error.strerror}")
            return EXIT_WORLD
        traceback.print_exc()
        complain("this is a bug in hvkit; please report it with the lines above")
        return EXIT_BUG


def complain(text: str) -> None:
    """Write one line to stderr, however many the text has. Where that cannot be, the exit code has to do."""
    line = " ".join(text.split())
    try:
        click.echo(f"hvkit: {line}", err=True)
    except OSError:
        _discard(sys.stderr)


def _came_from_echo(error: OSError) -> bool:
    """Whether it was raised while something was printed: all output, also click's own, goes through one function."""
    return any(frame.f_code is click.echo.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))


def _discard(stream: TextIO) -> None:
    """Have what is still in the buffer of a stream go nowhere, instead of failing once more when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    return f"{error.format_message()}{hint}"


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """Have the signals that would end this process at once unwind it instead, so that nothing half-made is left."""

    def unwind(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    # What somebody asked to be ignored, as nohup does, stays ignored.
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, unwind)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
