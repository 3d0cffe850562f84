# SPDX-License-Identifier: BSD-2-Clause
"""Execution of a command line: errors become one line on stderr and an exit code."""

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

from hvkit.cli import EXIT_BUG, EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from hvkit.cli.commands import hvkit
from hvkit.errors import HypervisorError


def run(arguments: Sequence[str] | None) -> int:
    """Run a command line and return the exit code; see `hvkit.cli`.

    Args:
        arguments: the arguments without the program name; None for those of this process.
    """
    try:
        with _signals_raise_exit():
            # Without standalone mode, click returns the exit code of --help and ctx.exit(), and raises everything else.
            code = hvkit.main(args=arguments, prog_name="hvkit", standalone_mode=False)
        return code if isinstance(code, int) else EXIT_OK
    except click.ClickException as error:
        print_error(_usage(error))
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        print_error("interrupted")
        return EXIT_INTERRUPTED
    except HypervisorError as error:
        print_error(str(error))
        return EXIT_FAILURE
    except Exception as error:  # noqa: BLE001 - the traceback is printed
        if isinstance(error, OSError) and _came_from_echo(error):
            _discard(sys.stdout)
            print_error(f"cannot write the output: {error.strerror}")
            return EXIT_FAILURE
        traceback.print_exc()
        print_error("this is a bug in hvkit; please report it with the traceback above")
        return EXIT_BUG


def print_error(text: str) -> None:
    """Print a message as one line on stderr. If stderr cannot be written, only the exit code reports the error."""
    line = " ".join(text.split())
    try:
        click.echo(f"hvkit: {line}", err=True)
    except OSError:
        _discard(sys.stderr)


def _came_from_echo(error: OSError) -> bool:
    """Whether an error was raised by `click.echo`, through which all output goes, including click's own."""
    return any(frame.f_code is click.echo.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))


def _discard(stream: TextIO) -> None:
    """Redirect a stream to /dev/null, so that Python does not fail again when it flushes the buffer at exit."""
    null_fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.dup2(null_fd, stream.fileno())
    finally:
        os.close(null_fd)


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    return f"{error.format_message()}{hint}"


@contextmanager
def _signals_raise_exit() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise SystemExit, so that context managers clean up."""

    def raise_exit(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    # A signal that is already ignored, as by nohup, stays ignored.
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, raise_exit)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
