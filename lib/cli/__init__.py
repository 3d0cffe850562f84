# SPDX-License-Identifier: BSD-2-Clause
"""The command ``hvkit``: what an operator types on a node.

Exit codes: 0 all went well; 1 the world did not do its part (`HypervisorError`); 2 the command line makes no sense;
3 a bug in hvkit, shown with its traceback; 130 Ctrl-C, and as usual 128 and its number for another signal. Errors are
one line on stderr, beginning with ``hvkit:``.
"""

import sys
from collections.abc import Sequence
from typing import Final

EXIT_OK: Final = 0
EXIT_WORLD: Final = 1
EXIT_USAGE: Final = 2
EXIT_BUG: Final = 3
EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: what was typed after the command's name; None for those of this process.

    Returns:
        The exit code.
    """
    try:
        import click  # noqa: F401 - the extra may not be installed, and then this is the first to find out
    except ModuleNotFoundError:
        sys.stderr.write("hvkit: the command needs click, which is not installed; type: pip install 'hvkit[cli]'\n")
        return EXIT_WORLD
    try:
        from hvkit.cli.run import run
    except KeyboardInterrupt:  # loading takes long enough for that
        sys.stderr.write("hvkit: interrupted\n")
        return EXIT_INTERRUPTED
    return run(arguments)
