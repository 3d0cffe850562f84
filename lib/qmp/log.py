# SPDX-License-Identifier: BSD-2-Clause
"""The logger `hvkit.qmp`, for those who listen.

Importing logging takes a third of the time that all of `hvkit.qmp` takes, and a process that has not imported it has
nobody listening. So it is used where it is there already.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging

_NAME: Final = "hvkit.qmp"
_DEBUG: Final = 10
_logger: logging.Logger | None = None


def _find_logger() -> logging.Logger | None:
    global _logger
    if _logger is None and "logging" in sys.modules:
        _logger = sys.modules["logging"].getLogger(_NAME)
    return _logger


def is_debugging() -> bool:
    """Whether somebody wants to see every message."""
    if _logger is None and "logging" not in sys.modules:
        return False
    logger = _logger or _find_logger()
    return logger is not None and logger.isEnabledFor(_DEBUG)


def debug(text: str, *arguments: object) -> None:
    """Log one message of the wire; ask `is_debugging` before anything is formatted for it."""
    if (logger := _find_logger()) is not None:
        logger.debug(text, *arguments, stacklevel=2)


def info(text: str, *arguments: object) -> None:
    """Log something of interest that is nobody's fault."""
    if (logger := _find_logger()) is not None:
        logger.info(text, *arguments, stacklevel=2)


def warning(text: str, *arguments: object) -> None:
    """Log that a peer does not do what it should."""
    if (logger := _find_logger()) is not None:
        logger.warning(text, *arguments, stacklevel=2)
