# SPDX-License-Identifier: BSD-2-Clause
"""The logger `hvkit.qmp`, without importing logging.

Importing logging takes 3 ms; `import hvkit.qmp` takes 50 ms. A process that has not imported logging has no handler
either, so no record is created until the process imports logging.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging

_NAME: Final = "hvkit.qmp"
_DEBUG, _INFO, _WARNING = 10, 20, 30
#: Frames between the caller of `debug`, `info` or `warning` and logging.
_STACK_LEVEL: Final = 3
_logger: logging.Logger | None = None


def _find_logger() -> logging.Logger | None:
    global _logger
    if _logger is None and "logging" in sys.modules:
        _logger = sys.modules["logging"].getLogger(_NAME)
    return _logger


def is_debugging() -> bool:
    """Return whether DEBUG records are enabled; check this before formatting anything for `debug`."""
    if _logger is None and "logging" not in sys.modules:
        return False
    logger = _logger or _find_logger()
    return logger is not None and logger.isEnabledFor(_DEBUG)


def _log(level: int, monitor: str, text: str, arguments: tuple[object, ...]) -> None:
    if (logger := _find_logger()) is not None:
        logger.log(level, "%s: %s", monitor, text % arguments, stacklevel=_STACK_LEVEL)


def debug(monitor: str, text: str, *arguments: object) -> None:
    """Log details about a monitor, such as one message.

    Args:
        monitor: name of the monitor; the record starts with it.
        text: format string of logging.
        arguments: for the format string.
    """
    _log(_DEBUG, monitor, text, arguments)


def info(monitor: str, text: str, *arguments: object) -> None:
    """Log a normal event about a monitor; arguments as for `debug`."""
    _log(_INFO, monitor, text, arguments)


def warning(monitor: str, text: str, *arguments: object) -> None:
    """Log a fault of a monitor that does not end the work; arguments as for `debug`."""
    _log(_WARNING, monitor, text, arguments)
