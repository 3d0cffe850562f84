# SPDX-License-Identifier: BSD-2-Clause
"""The command ``hvkit`` for operators of a node.

Exit codes: 0 success; 1 the operation failed (`HypervisorError`); 2 invalid command line; 3 bug in hvkit, with a
traceback; 130 interrupted with Ctrl-C; 128 plus the signal number for other signals. Errors are one line on stderr
that starts with ``hvkit:``.
"""

import sys
from collections.abc import Sequence
from typing import Final

EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_BUG: Final = 3
EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the arguments without the program name; None for those of this process.

    Returns:
        The exit code.
    """
    try:
        import click  # noqa: F401 - the extra [cli] may not be installed
    except ModuleNotFoundError:
        sys.stderr.write("hvkit: the package click is not installed; run: pip install 'hvkit[cli]'\n")
        return EXIT_FAILURE
    try:
        from hvkit.cli.run import run
    except KeyboardInterrupt:  # Ctrl-C during the import
        sys.stderr.write("hvkit: interrupted\n")
        return EXIT_INTERRUPTED
    return run(arguments)
